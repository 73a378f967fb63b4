"""Links of patients: an administrator says that two patient records are one person, and takes that back (A7).

    link        needs sight of both cases, and `access.admin` at every facility that has a case of either
                person: each shows its cases beside the other's to who has a filter with historical studies. A
                delegated manager sees all these cases by their own privilege, for they give only that (A13)
    take back   needs less: `access.admin` at every facility of one of the two records; no sight, so a patient
                of whom they see no case is not named

A link changes nothing but which records are one person, so without it everything is as it was before. What a
link shows to whom is counted by the statement that decides sight, before it and after it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from kernel.database import Database
from kernel.errors import Conflict, Denied, NotFound, lacks
from kernel.ids import CaseId, FacilityId, NewId
from kernel.reading import Side
from services.access import patients
from services.access.administration import Act, Administration
from services.access.domain import ROLES, CompiledUser, Path, Permission, Sighting, User, decide, no_case
from services.access.manager import Manager
from services.access.patients import MAX_CASES, Link, LinkId, Record, RecordId

if TYPE_CHECKING:
    from services.access.store import AccessTransaction


MAX_RECORDS = 20
"""Of one person: more are no person, but a mistake."""

MAX_COUNTED = 1_000
"""Users with historical studies whose gain is counted; beyond, a link is as right and less is told of it."""

MAX_GAINS = 100
"""Users who are told to gain sight; a person reads them before they link."""


@dataclass(frozen=True, slots=True)
class Gain:
    """How many cases a user with historical studies sees because of a link, and did not see before it."""

    user: User
    cases: int


@dataclass(frozen=True, slots=True)
class Linked:
    """What a link says, or would say.

    Attributes:
        link: None of a preview.
        gains: of users whom the administrator manages, the most first, at most MAX_GAINS.
    """

    one: Record
    other: Record
    link: Link | None
    gains: Sequence[Gain]
    gains_left_out: int


@dataclass(frozen=True, slots=True)
class Known:
    """What an administrator may know of the person of a case.

    Attributes:
        record: of the case itself; None if the case has no patient ID.
        others: the records that are linked with it, of facilities that they administer, and of which they see
            a case.
        links: those of the records of facilities that they administer: they may take them back.
        left_out: how many more records are linked with it.
    """

    record: Record | None
    others: Sequence[Record] = ()
    links: Sequence[Link] = ()
    left_out: int = 0


class _Previewed(Exception):
    """Ends the transaction of a preview, so that nothing of it stays."""

    def __init__(self, linked: Linked) -> None:
        self.linked = linked


class Linking:
    """Links the patients of cases, and takes links back."""

    def __init__(self, database: Database[AccessTransaction], new_id: NewId) -> None:
        self._administration = Administration(database)
        self._new_id = new_id

    async def link_patients(
        self, login: str, session: str, case_id: CaseId, other_id: CaseId, *, preview: bool
    ) -> tuple[Linked, int | None]:
        """Says that the patients of two cases are one person; answers that, and the revision if it stays."""
        try:
            async with self._administration.act(login, "patient.linked", f"case:{case_id}") as act:
                return await self._link(act, session, case_id, other_id, preview=preview)
        except _Previewed as previewed:
            return previewed.linked, None

    async def _link(
        self, act: Act, session: str, case_id: CaseId, other_id: CaseId, *, preview: bool
    ) -> tuple[Linked, int]:
        transaction, manager = act.transaction, act.manager
        for each in sorted((case_id, other_id)):
            await transaction.hold_case(each)
        one = await _record_of(transaction, act.actor, session, case_id)
        other = await _record_of(transaction, act.actor, session, other_id)
        together = await patients.hold(transaction, (), (one, other))
        one, other = (next(each for each in together if each.id == record.id) for record in (one, other))
        cases = await transaction.cases_of_records([each.id for each in together], MAX_CASES + 1)
        facilities = {facility_id for _, _, facility_id in cases}
        if not all(map(manager.administers, facilities)):
            raise lacks(Permission.ADMINISTER_ACCESS, at="every facility that has a case of these patients")
        _must_be_two(one, other, len(together), len(cases))
        case_ids = [each for each, _, _ in cases]
        await _must_see_all(transaction, manager, case_ids)
        users = await _affected(transaction, manager, facilities)
        before = await _seen(transaction, users, case_ids)
        low, high = sorted((one.id, other.id))
        link = Link(LinkId(self._new_id()), low, high, act.actor.login, transaction.now)
        await transaction.make_link(link)
        changed = await patients.settle_persons(transaction, [each.id for each in together])
        after = await _seen(transaction, users, case_ids)
        gains = [Gain(users[login], len(after[login] - before[login])) for login in users]
        gains = sorted(
            (gain for gain in gains if gain.cases), key=lambda gain: (-gain.cases, gain.user.login)
        )
        linked = Linked(one, other, None if preview else link, gains[:MAX_GAINS], len(gains[MAX_GAINS:]))
        if preview:
            raise _Previewed(linked)
        return linked, await act.done(*changed, link=str(link.id), other=f"case:{other_id}")

    async def unlink_patients(self, login: str, link_id: LinkId) -> tuple[Sequence[Record], int]:
        """Takes a link back; answers those of the two records of which the manager sees a case.

        And the revision.
        """
        async with self._administration.act(login, "patient.unlinked", f"link:{link_id}") as act:
            transaction, manager = act.transaction, act.manager
            link = await transaction.link(link_id)
            if link is None:
                raise _no_link(link_id)
            records = await transaction.records((link.one_id, link.other_id))
            together = await patients.hold(transaction, (), records)
            if await transaction.link(link_id) is None:
                raise _no_link(link_id)  # somebody was faster
            at = await _facilities(transaction, records)
            if not any(all(map(manager.administers, at[record.id])) for record in records):
                if not any(map(manager.administers, set().union(*at.values()))):
                    raise _no_link(link_id)
                raise lacks(Permission.ADMINISTER_ACCESS, at="every facility of one of the two patients")
            await transaction.drop_link(link_id)
            changed = await patients.settle_persons(transaction, [each.id for each in together])
            seen = await transaction.records_seen(act.actor, [record.id for record in records])
            return [each for each in records if each.id in seen], await act.done(*changed)

    async def describe_patient(self, login: str, session: str, case_id: CaseId) -> Known:
        """The record of a case that the administrator sees, and what is linked with it."""
        async with self._administration.look(login) as (transaction, actor):
            manager = Manager(actor)
            facility_id = (await _sighting(transaction, actor, session, case_id)).facility_id
            manager.must_administer(facility_id)
            record = await transaction.record_of(case_id)
            if record is None:
                return Known(None)
            together = await transaction.records_together([record.id])
            others = [each for each in together if each.id != record.id]
            at = await _facilities(transaction, others)
            theirs = [each for each in others if any(map(manager.administers, at[each.id]))]
            ids = {record.id, *(each.id for each in theirs)}
            links = await transaction.links_among(ids)
            seen = await transaction.records_seen(actor, ids, session)
            known = [each for each in theirs if each.id in seen]
            return Known(
                record,
                known,
                [each for each in links if {each.one_id, each.other_id} <= ids],
                len(others) - len(known),
            )


async def _sighting(
    transaction: AccessTransaction, actor: CompiledUser, session: str, case_id: CaseId
) -> Sighting:
    """The case as the actor sees it; one being deleted is the same as an absent one."""
    answer = await transaction.sighted(actor, [case_id], session=session)
    sighting = answer.found[0] if answer else None
    if sighting is None or sighting.being_deleted:
        raise no_case(case_id)
    return sighting


async def _record_of(
    transaction: AccessTransaction, actor: CompiledUser, session: str, case_id: CaseId
) -> Record:
    await _sighting(transaction, actor, session, case_id)
    record = await transaction.record_of(case_id)
    if record is None:
        raise Conflict(f"case `{case_id}` has no patient ID: correct it first", field="case_id")
    return record


async def _must_see_all(transaction: AccessTransaction, manager: Manager, case_ids: Sequence[CaseId]) -> None:
    """Raises Denied for a delegated manager whose privilege does not show them all of each of these cases."""
    if manager.everywhere:
        return
    answer = await transaction.sighted(manager.user, case_ids)
    found = answer.found if answer else ()
    if not found or not all(each and _shows_all(manager.user, each, transaction.now) for each in found):
        raise Denied(
            "a link shows the cases of both patients to others, and you do not see images and reports of all "
            "of them by your own privilege: ask somebody who does, or who administers every facility"
        )


def _shows_all(user: CompiledUser, seen: Sighting, now: datetime) -> bool:
    """Whether the user's own privilege shows them a case, its images and its reports."""
    shown = decide(user, seen.facility_id, (Path.PRIVILEGE,), now)
    return Path.PRIVILEGE in seen.paths and shown.images and shown.reports


def _must_be_two(one: Record, other: Record, records: int, cases: int) -> None:
    """Raises Conflict for what is one person already, and for more than one person has."""
    if one.id == other.id:
        raise Conflict("both cases already belong to one patient", field="other_case_id")
    if one.person_id == other.person_id:
        raise Conflict("the patients of both cases are already linked", field="other_case_id")
    if records > MAX_RECORDS or cases > MAX_CASES:
        raise Conflict(
            f"one person has at most {MAX_RECORDS} patient records and {MAX_CASES} cases: "
            "take wrong links back first",
            field="other_case_id",
        )


async def _affected(
    transaction: AccessTransaction, manager: Manager, facilities: Collection[FacilityId]
) -> Mapping[str, User]:
    """Those who may gain sight and whom the manager may be told of, by login.

    A facility's manager is told of the facility side only: what another's filter hides may follow a pre-read.
    """
    logins = await transaction.logins_with_historical(facilities, MAX_COUNTED)
    told = await transaction.users_called((), logins)
    return {
        user.login: user
        for user in told
        if user.active
        and manager.administers(user.home_facility_id)
        and (manager.user.side is Side.GROUP or ROLES[user.role].side is Side.FACILITY)
    }


async def _seen(
    transaction: AccessTransaction, users: Collection[str], case_ids: Sequence[CaseId]
) -> dict[str, set[CaseId]]:
    """Which of the cases each user sees now."""
    seen = {}
    for login in users:
        user = await transaction.compiled_user(login)
        answer = await transaction.sighted(user, case_ids) if user else None
        found = filter(None, answer.found) if answer else ()
        seen[login] = {sighting.case_id for sighting in found if not sighting.being_deleted}
    return seen


async def _facilities(
    transaction: AccessTransaction, records: Sequence[Record]
) -> dict[RecordId, set[FacilityId]]:
    """Where the cases of each record are, however many there are."""
    at: dict[RecordId, set[FacilityId]] = {record.id: set() for record in records}
    for record_id, facility_id in await transaction.facilities_of_records(list(at)):
        at[record_id].add(facility_id)
    return at


def _no_link(link_id: LinkId) -> NotFound:
    """The answer for a link that does not exist or is not the caller's to know."""
    return NotFound(f"there is no link `{link_id}`", field="link_id")
