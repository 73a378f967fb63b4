"""Assigning cases to their readers by hand, and how soon they are to be read (A38, A59, A74, A75).

An assignment gives nobody sight: it names one who may report at the facility of the case. A filter may make
sight depend on it, so what they will see is answered at once, judged as if the case were assigned already.

    assigned      Assign: to a user who may report there; another reader takes the place of the one before
    unassigned    Unassign; a pre-read by the assignee (A33); a move to another facility (A21)
    closed        while a final report stands: nothing is to be read, and the assignee keeps sight for addenda

Nothing of it is shown to the facility side, and nobody there assigns.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from kernel.database import Database
from kernel.errors import Conflict, Denied, Invalid, NotFound, lacks
from kernel.events import SightChanged
from kernel.ids import CaseId, FacilityId
from kernel.reading import PrivilegeLevel, Side
from services.access import following
from services.access.administration import Act, Administration
from services.access.caseindex import Assignment, Lock, Priority
from services.access.domain import (
    CompiledUser,
    Path,
    Permission,
    Sighting,
    decide,
    no_case,
    possible_logins,
)

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


def must_assign(actor: CompiledUser, sighting: Sighting) -> None:
    """Raises Denied unless a user may say who reads a case that they see, and how soon.

    A filter may ask for assignee and priority: then who sets these chooses what it shows. So they set neither
    of a case that their own filter hides, and that a grant, a folder or an anchor shows them (ACC-15).
    """
    if actor.side is not Side.GROUP:
        raise Denied("only the radiology group assigns cases")
    if set(sighting.paths) == {Path.SHARE}:
        raise Denied("a share does not assign cases: you need a privilege at the facility of the case")
    if not actor.holds(Permission.ASSIGN_CASE, sighting.facility_id):
        raise lacks(Permission.ASSIGN_CASE, at="the facility of the case")
    is_hidden = Path.PRIVILEGE not in sighting.paths and sighting.facility_id in actor.facilities
    if actor.filter is not None and is_hidden:
        raise Denied(
            "your filter hides the case, and nobody chooses by themself what it shows them: "
            "ask somebody whose filter shows it, or who has none"
        )


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
    if user is None or not user.active or user.level_at(facility_id, now) < PrivilegeLevel.REPORT:
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
        self._administration = Administration(database)

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
    answer = await act.transaction.sighted(act.actor, [case_id], session=session)
    sighting = answer.found[0] if answer else None
    if sighting is None or sighting.being_deleted:
        raise no_case(case_id)
    must_assign(act.actor, sighting)
    return sighting


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
    await following.follow(act.transaction, case_id)
    version = await act.transaction.bump_case(case_id)
    return await act.done(SightChanged(case_id, version), **detail)
