"""Deletion (A60): a case is hidden from everybody at once, purged once ingest says so, and stays away.

    known      →  hidden    BeginDelete: who may, and the lock as the index knows it, in one transaction
    hidden     →  purged    CaseDeleted: every row of the case goes, its ids become tombstones
    purged     →  purged    CaseDeleted again: nothing is left to purge, and that is said again

A case that is not known may be purged too: then nothing but the tombstone is written. One that is known and
not hidden is not: every deletion begins here, so a fact that says otherwise is wrong or forged. Nor is one of
whose deletion ingest keeps no record, for ingest alone tells of deletions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from kernel.database import Database
from kernel.errors import Conflict, NotFound, lacks
from kernel.events import CasePurged, SightChanged
from kernel.ids import CaseId, DeletionId
from services.access import patients
from services.access.acts import must_delete
from services.access.administration import Act, Administration
from services.access.caseindex import Deletion
from services.access.domain import Permission, Sighting, no_case

if TYPE_CHECKING:
    from services.access.store import AccessTransaction


NAME = "access"


class Ingest(Protocol):
    """The service ingest, asked by access itself."""

    async def is_deleted(self, case_id: CaseId) -> bool:
        """Whether ingest keeps a record of the deletion of the case."""
        ...


class Deletions:
    """Hides cases that are being deleted, and purges them."""

    def __init__(self, database: Database[AccessTransaction], ingest: Ingest) -> None:
        self._database = database
        self._ingest = ingest
        self._administration = Administration(database)

    async def begin_delete(
        self, login: str, session: str, case_id: CaseId, deletion_id: DeletionId, *, force: bool
    ) -> tuple[Deletion, int]:
        """Hides a case for a user who may delete it; answers the deletion and the revision.

        Needs sight by privilege and `study.delete` at the owning facility (A29), and of a locked case `force`
        and `lock.break` (A28). The lock is the one that the index knows: one that it does not know yet does
        not stop the deletion. For a deletion that has begun: the same answer again, to whoever may delete at
        the facility.
        """
        async with self._administration.act(login, "case.deletion_begun", f"case:{case_id}") as act:
            transaction = act.transaction
            await transaction.hold_case(case_id)
            begun = await transaction.deletion(deletion_id)
            if begun and begun.case_id == case_id:
                if not act.actor.holds(Permission.DELETE_STUDY, begun.facility_id):
                    raise no_case(case_id)
                return begun, await transaction.revision()
            sighting = await _seen(act, session, case_id)
            facility_id = sighting.facility_id
            must_delete(act.actor, facility_id, sighting.paths)
            lock = await transaction.lock_of(case_id, act.actor.reading_side)
            if lock is not None and transaction.now < lock.ends_at:
                if not force:
                    raise Conflict(
                        f"the case is locked by `{lock.holder_name}`: wait until they give the lock back, "
                        "or force the deletion",
                        field="force",
                    )
                if not act.actor.holds(Permission.BREAK_LOCK, facility_id):
                    raise lacks(Permission.BREAK_LOCK, at="the facility of the case")
            study_ids = tuple(await transaction.studies_of(case_id))
            deletion = Deletion(deletion_id, case_id, facility_id, study_ids)
            await transaction.begin_delete(deletion)
            changed = SightChanged(case_id, await transaction.bump_case(case_id))
            revision = await act.done(
                changed, deletion=str(deletion_id), facility=str(facility_id), forced="yes" if lock else "no"
            )
            return deletion, revision

    async def begun(self, case_id: CaseId, deletion_id: DeletionId) -> tuple[Deletion, int]:
        """The same answer again, for ingest itself; raises NotFound for a deletion that has not begun."""
        async with self._database.transaction() as transaction:
            deletion = await transaction.deletion(deletion_id)
            if deletion is None or deletion.case_id != case_id:
                raise NotFound("there is no such deletion", field="deletion_id")
            return deletion, await transaction.revision()

    async def check_deletion(self, case_id: CaseId) -> bool:
        """Whether the deletion of a case has begun here, or the case was purged."""
        async with self._database.transaction() as transaction:
            return await transaction.is_deleted(case_id)

    async def must_be_told(self, case_id: CaseId) -> None:
        """Raises Conflict unless ingest says that there is a deletion of the case; asked before `purge`."""
        if not await self._ingest.is_deleted(case_id):
            raise Conflict("ingest knows of no deletion of this case", field="case_id")

    async def purge(self, transaction: AccessTransaction, case_id: CaseId, version: int) -> None:
        """Removes every row of a case for good, and says so, also when there was none.

        Raises Conflict for a case whose deletion has not begun.
        """
        if await transaction.is_live(case_id):
            raise Conflict("no deletion of this case has begun", field="case_id")
        record = await patients.hold_record_of(transaction, case_id)
        was_known = await transaction.purge_case(case_id)
        await patients.leave(transaction, record)
        await transaction.record(f"service:{NAME}", "case.purged", f"case:{case_id}", "done")
        await transaction.say(CasePurged(case_id, version, NAME))
        if was_known:
            await transaction.bump_revision()


async def _seen(act: Act, session: str, case_id: CaseId) -> Sighting:
    """The case as the actor sees it; one being deleted is the same as an absent one."""
    answer = await act.transaction.sighted(act.actor, [case_id], session=session)
    sighting = answer.found[0] if answer else None
    if sighting is None or sighting.being_deleted:
        raise no_case(case_id)
    return sighting
