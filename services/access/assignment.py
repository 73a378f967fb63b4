"""Assigning cases to their readers by hand, and how soon they are to be read (A38, A59, A74, A75).

An assignment gives nobody sight: it names one who may report at the facility of the case. A filter may make
sight depend on it, so what they will see is answered at once, judged as if the case were assigned already.

    assigned      Assign: to a user who may report there; another reader takes the place of the one before
    unassigned    Unassign; a pre-read by the assignee (A33); a move to another facility (A21)
    closed        while a final report stands: nothing is to be read, and the assignee keeps sight for addenda

Nothing of it is shown to the facility side, and nobody there assigns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from kernel.database import Database
from kernel.errors import Conflict, Invalid, NotFound
from kernel.events import SightChanged
from kernel.ids import CaseId, FacilityId
from kernel.reading import PrivilegeLevel, Side
from services.access import following
from services.access.acts import must_assign
from services.access.administration import Act, Administration, compiled
from services.access.assignable import Assignable, Values, as_if_assigned, judged, needs_anchor
from services.access.caseindex import Priority
from services.access.domain import CompiledUser, Path, Sighting, decide, no_case
from services.access.filter.trace import columns
from services.access.names import possible_logins
from services.access.patients import MAX_CASES
from services.access.reading import Assignment, KeptReading, Lock

if TYPE_CHECKING:
    from services.access.store import AccessTransaction


_REFERRING_PHYSICIAN = "referringphysician"
"""Whom rules of assignment may name so, once identities of physicians are known; as it is folded."""


@dataclass(frozen=True, slots=True)
class Assigned:
    """Who is to read a case now.

    `level`: what they may do with it, assigned as it is; NONE if it stays hidden from them.
    """

    assignee_login: str
    level: PrivilegeLevel


def may_report(user: CompiledUser, facility_id: FacilityId, now: datetime) -> bool:
    """Whether cases of a facility may be assigned to a user now (ASG-2)."""
    return user.active and user.level_at(facility_id, now) is PrivilegeLevel.REPORT


def must_report(
    user: CompiledUser | None, login: str, facility_id: FacilityId, now: datetime
) -> CompiledUser:
    """The user, if they may report at the facility now; a stranger is answered as one who may not (A38)."""
    if user is None and login.removeprefix("$").casefold() == _REFERRING_PHYSICIAN:
        raise Invalid(
            "the referring physician of a case is a name in its images, and no user yet: "
            "assign the case to somebody by their login",
            field="assignee_login",
        )
    if user is None or not may_report(user, facility_id, now):
        raise NotFound(
            f"nobody called `{login}` may report at the facility of the case: "
            "give them a privilege to report there, or assign the case to somebody who has one",
            field="assignee_login",
        )
    return user


def must_be_free(lock: Lock | None, login: str, now: datetime, *, force: bool) -> None:
    """Raises Conflict for a case that somebody else is reading, unless it is forced (A74)."""
    if force or lock is None or now >= lock.ends_at or lock.holder_login == login:
        return
    raise Conflict(
        f"the case is locked by `{lock.holder_name}`, who may be reading it: "
        "wait until they give the lock back, or force it",
        field="force",
    )


class Assignments:
    """Who reads which case, and how soon."""

    def __init__(self, database: Database[AccessTransaction]) -> None:
        self._database = database
        self._administration = Administration(database)

    async def list_assignable(
        self, login: str, session: str, case_id: CaseId, after: str, limit: int
    ) -> list[Assignable]:
        """Those whom `assign` takes for a case, by login after this one, each judged as if it were theirs."""
        async with self._database.transaction() as transaction:
            await transaction.in_one_snapshot()
            actor = await compiled(transaction, login)
            sighting = await _assigned_by(transaction, actor, session, case_id)
            kept = await transaction.kept_reading(case_id)
            if kept is None:
                raise no_case(case_id)
            users = await _reporting(transaction, sighting.facility_id, after, limit)
            read = {column for user in users for column in _columns(user)}
            values = await transaction.case_values(case_id, sorted(read)) if read else {}
            return [await _judged(transaction, user, case_id, values, kept) for user in users]

    async def assign(
        self, login: str, session: str, case_id: CaseId, assignee_login: str, *, force: bool
    ) -> tuple[Assigned, int]:
        """Makes a user the reader of a case, in place of the one before; answers that and the revision."""
        async with self._administration.act(login, "case.assigned", f"case:{case_id}") as act:
            transaction, now = act.transaction, act.transaction.now
            sighting = await _to_be_assigned(act, session, case_id)
            canonical = next(iter(possible_logins([assignee_login])), None)
            assignee = must_report(
                await transaction.compiled_user(canonical) if canonical else None,
                assignee_login,
                sighting.facility_id,
                now,
            )
            before = await _assignment(transaction, case_id)
            if before is not None and before.assignee_login == assignee.login:
                assigned = Assigned(assignee.login, await _level(transaction, assignee, case_id))
                return assigned, await transaction.revision()
            must_be_free(await transaction.lock_of(case_id, Side.GROUP), assignee.login, now, force=force)
            await transaction.assign(case_id, assignee.id, by=act.actor.login)
            await following.follow(transaction, case_id)  # a filter may ask for the status
            assigned = Assigned(assignee.login, await _level(transaction, assignee, case_id))
            return assigned, await _changed(
                act, case_id, assignee=str(assignee.id), forced="yes" if force else "no"
            )

    async def unassign(self, login: str, session: str, case_id: CaseId, *, force: bool) -> int:
        """Lets nobody be the reader of a case; answers the revision."""
        async with self._administration.act(login, "case.unassigned", f"case:{case_id}") as act:
            transaction = act.transaction
            await _to_be_assigned(act, session, case_id)
            if await _assignment(transaction, case_id) is None:
                return await transaction.revision()
            lock = await transaction.lock_of(case_id, Side.GROUP)
            must_be_free(lock, act.actor.login, transaction.now, force=force)
            assignee = await transaction.unassign(case_id)
            await following.follow(transaction, case_id)
            return await _changed(act, case_id, assignee=str(assignee), forced="yes" if force else "no")

    async def set_priority(self, login: str, session: str, case_id: CaseId, priority: Priority) -> int:
        """Says how soon a case is to be read; answers the revision."""
        async with self._administration.act(login, "case.priority_set", f"case:{case_id}") as act:
            await _to_be_assigned(act, session, case_id)
            if not await act.transaction.set_priority(case_id, priority):
                return await act.transaction.revision()
            return await _changed(act, case_id, priority=priority.name.lower())


async def _to_be_assigned(act: Act, session: str, case_id: CaseId) -> Sighting:
    """The case as the actor sees it, who may assign it; it stays as it is until the transaction ends."""
    await act.transaction.hold_case(case_id)
    return await _assigned_by(act.transaction, act.actor, session, case_id)


async def _assigned_by(
    transaction: AccessTransaction, actor: CompiledUser, session: str, case_id: CaseId
) -> Sighting:
    """The case as the actor sees it, who may assign it."""
    answer = await transaction.sighted(actor, [case_id], session=session)
    sighting = answer.found[0] if answer else None
    if sighting is None or sighting.being_deleted:
        raise no_case(case_id)
    must_assign(actor, sighting.facility_id, sighting.paths)
    return sighting


async def _reporting(
    transaction: AccessTransaction, facility_id: FacilityId, after: str, limit: int
) -> list[CompiledUser]:
    """The active users who may report at a facility now, by login; who once might is left out (A1)."""
    found: list[CompiledUser] = []
    while len(found) < limit:
        logins = await transaction.logins_with_level(facility_id, PrivilegeLevel.REPORT, after, limit)
        for login in logins:
            user = await transaction.compiled_user(login)
            if user and may_report(user, facility_id, transaction.now):
                found.append(user)
        if len(logins) < limit:
            break
        after = logins[-1]
    return found[:limit]


def _columns(user: CompiledUser) -> Sequence[str]:
    """Of a case, what the filter of a user reads, clause by clause."""
    return columns(user.filter.expression, user.filter.reader) if user.filter else ()


async def _judged(
    transaction: AccessTransaction, user: CompiledUser, case_id: CaseId, values: Values, kept: KeptReading
) -> Assignable:
    answer = await transaction.sighted(user, [case_id])
    sighting, now = answer.found[0] if answer else None, transaction.now
    is_assignee = kept.assignment is not None and kept.assignment.assignee_login == user.login
    if not is_assignee:
        values = as_if_assigned(values, kept, user, now)
    is_anchored = False
    if user.filter and needs_anchor(user, sighting, values, now):
        anchors = await transaction.possible_anchors(case_id, user.filter.historical, MAX_CASES)
        seen = await transaction.sighted(user, anchors) if anchors else None
        is_anchored = any(
            each and Path.PRIVILEGE in each.paths and not each.being_deleted
            for each in (seen.found if seen else ())
        )
    return judged(user, sighting, values, now, is_assignee=is_assignee, is_anchored=is_anchored)


async def _assignment(transaction: AccessTransaction, case_id: CaseId) -> Assignment | None:
    kept = await transaction.kept_reading(case_id)
    return kept.assignment if kept else None


async def _level(transaction: AccessTransaction, assignee: CompiledUser, case_id: CaseId) -> PrivilegeLevel:
    """What the assignee may do with the case; a share that asks for codes opens it only in their session."""
    answer = await transaction.sighted(assignee, [case_id])
    sighting = answer.found[0] if answer else None
    if sighting is None:
        return PrivilegeLevel.NONE
    return decide(
        assignee, sighting.facility_id, sighting.paths, transaction.now, may_write=sighting.may_write
    ).level


async def _changed(act: Act, case_id: CaseId, **detail: str) -> int:
    version = await act.transaction.bump_case(case_id)
    return await act.done(SightChanged(case_id, version), **detail)
