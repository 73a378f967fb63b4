"""Deletion (A60): a case and everything of it goes everywhere. `purgerecord.py` is how far that has come."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from kernel.database import Database
from kernel.errors import Conflict, NotFound, ReadroomError, Unavailable, lacks
from kernel.events import CaseDeleted, CasePurged
from kernel.ids import CaseId, DeletionId, NewId, PackId, StudyId, VolumeId, WriterId
from kernel.reach import Reach
from services.ingest.domain import PartName, Sight
from services.ingest.purgerecord import CONFIRM, NAME, ROUTING, Act, Begun, Deletion, DoomedFile, State

if TYPE_CHECKING:
    from services.ingest.store import IngestTransaction

DELETE_STUDY, OPERATOR = "study.delete", "operator"

ASKED_FOR = timedelta(seconds=30)
"""After this, access has answered or never will: it is asked again, for ingest itself."""
TOLD_FOR = timedelta(seconds=60)
"""After this, everybody is told again."""
OVERDUE_AFTER = timedelta(minutes=10)
LOOK_PAGE = 200
"""Deletions told, closed or asked about at a time; the others have their turn a second later."""
PURGED_AT_ONCE = 1_000
"""Rows or files of a purged study that go at a time: a fraction of what a statement may take."""
PURGED_STUDIES = 100
"""Small ones purged at a time; a large one is one batch, then the other deletions have their turn."""


class Access(Protocol):
    """The service access."""

    async def reach(self, permission: str) -> Reach: ...

    async def sight(self, case_id: CaseId) -> Sight | None:
        """The case as the acting user sees it; None if they see no such case."""
        ...

    async def begin_delete(self, case_id: CaseId, deletion_id: DeletionId, *, force: bool) -> Begun:
        """Hides the case, for the acting user; the same answer again to whoever may delete at its facility.

        For ingest itself: the same answer again, else NotFound.
        """
        ...


class Routing(Protocol):
    """The service routing, asked by ingest itself."""

    async def describe_purge(self, case_id: CaseId) -> Sequence[StudyId] | None:
        """The studies that it has purged with the case; None if it has purged no such case."""
        ...

    async def undecided(self, case_id: CaseId) -> Sequence[PartName]:
        """Parts of a case that are held because they may show another patient."""
        ...


class Files(Protocol):
    """The bytes; each method waits for the disk."""

    def seal(self, pack_id: PackId, committed_end: int) -> None: ...
    def release(self, sha256: bytes) -> None: ...


class Writer(Protocol):
    """This process, as who holds a volume."""

    @property
    def writer_id(self) -> WriterId: ...
    @property
    def volume_id(self) -> VolumeId: ...


class Deletions:
    """Deletes cases, and sees to it that everybody does.

    Attributes:
        woken: set when there is something to do at once.
    """

    def __init__(
        self,
        database: Database[IngestTransaction],
        access: Access,
        routing: Routing,
        files: Files,
        writer: Writer,
        new_id: NewId,
    ) -> None:
        self._database = database
        self._access = access
        self._routing = routing
        self._files = files
        self._writer = writer
        self._new_id = new_id
        self.woken = asyncio.Event()

    async def delete_study(self, actor: str, case_id: CaseId, *, force: bool) -> Deletion:
        """Deletes a case for the acting user; once it answers, nobody sees it any more.

        Raises Conflict while images of another patient are held with it, for they would go with it.
        An Unavailable leaves open whether it has begun; whoever asks again is told. Access is asked each
        time: it may have been restored from a backup, and show the case again.
        """
        async with self._database.audited(actor, "case.deleted", f"case:{case_id}"):
            await self._must_be_decided(case_id)
        deletion_id = DeletionId(self._new_id())
        async with self._database.transaction() as transaction:
            asked = Deletion(deletion_id, case_id, None, actor, transaction.now)
            deletion = await transaction.ask_deletion(asked)
        try:
            begun = await self._access.begin_delete(case_id, deletion.deletion_id, force=force)
        except Unavailable:
            raise
        except ReadroomError as error:
            # A wish of an earlier call may have begun, and its answer be lost: that is for the timer to find.
            await self._lapse(asked, error.sentence)
            raise
        if deletion.state is State.ASKED:
            return await self._begin(deletion, begun)
        return await self._repeat(actor, deletion, begun)

    async def list_deletions(self, before: UUID | None, limit: int) -> Sequence[Deletion]:
        """Newest first: all for an operator, else those of facilities where the actor may delete."""
        reach = await self._access.reach(OPERATOR)
        if not reach.everywhere:
            reach = await self._access.reach(DELETE_STUDY)
        if not reach:
            raise lacks(DELETE_STUDY, OPERATOR, at="a facility")
        async with self._database.statements() as statements:
            return await statements.deletions(reach, before, limit)

    async def describe_deletion(self, case_id: CaseId) -> datetime:
        """From when on the case was deleted; raises NotFound if it was not."""
        async with self._database.statements() as statements:
            deletion = await statements.deletion_of(case_id)
        if deletion is None or deletion.begun_at is None:
            raise NotFound("there is no deletion of this case", field="case_id")
        return deletion.begun_at

    async def fetch_purge(self, purged: CasePurged) -> Sequence[StudyId]:
        """Asks routing which studies it has purged with the case, whatever the fact names.

        Raises Conflict if routing has not purged it.
        """
        if purged.by != ROUTING:
            return ()
        study_ids = await self._routing.describe_purge(CaseId(purged.id))
        if study_ids is None:
            raise Conflict("routing has purged no such case", field="case_id")
        return study_ids

    async def confirm(
        self, transaction: IngestTransaction, purged: CasePurged, study_ids: Collection[StudyId]
    ) -> None:
        """A service keeps nothing of the case any more; the studies that routing held are purged too.

        Of these only copies of what was deleted, and only while the deletion is open.
        """
        deletion = await transaction.lock_deletion_of(CaseId(purged.id))
        if deletion is None or not deletion.lets(Act.CONFIRM) or purged.by not in CONFIRM:
            return
        copies = await transaction.copies(deletion.deletion_id, study_ids)
        if uids := await self._purge(transaction, deletion, copies):
            await _record_purge(transaction, deletion, uids)
        await transaction.save_deletion(deletion.confirmed_by(purged.by, transaction.now))
        self.woken.set()

    # Again and again: `events.py` says when

    async def purge_rest(self) -> None:
        """Removes some of what is left of purged studies, each batch in a transaction of its own."""
        for _ in range(PURGED_STUDIES):
            async with self._database.transaction() as transaction:
                rows = await transaction.purge_some(PURGED_AT_ONCE)
            if rows is None:
                return
            if rows == PURGED_AT_ONCE:
                break
        self.woken.set()

    async def doomed_files(self) -> Sequence[DoomedFile]:
        """Some of the files that are left of purged studies on the volume that this process holds."""
        async with self._database.statements() as statements:
            return await statements.doomed_files(
                self._writer.volume_id, self._writer.writer_id, PURGED_AT_ONCE
            )

    def unlink(self, file: DoomedFile) -> None:
        """Removes one of them from the disk."""
        if file.pack_id is not None:
            self._files.seal(file.pack_id, 0)
        if file.sha256 is not None:
            self._files.release(file.sha256)

    async def forget_files(self, removed: Sequence[DoomedFile]) -> None:
        """Of those that are gone the rows go too: only the holder of their volume confirms that."""
        async with self._database.transaction() as transaction:
            await transaction.forget_files(self._writer.volume_id, self._writer.writer_id, removed)
        if len(removed) == PURGED_AT_ONCE:
            self.woken.set()

    async def tell_again(self) -> None:
        """Tells everybody of deletions that somebody has not confirmed for a minute."""
        async with self._database.transaction() as transaction:
            for deletion in await transaction.lock_untold(transaction.now - TOLD_FOR, CONFIRM, LOOK_PAGE):
                await _tell(transaction, deletion)

    async def close(self) -> int:
        """Closes what everybody has confirmed; answers how many others are overdue."""
        async with self._database.transaction() as transaction:
            for deletion in await transaction.lock_confirmed(CONFIRM, LOOK_PAGE):
                if deletion.lets(Act.CLOSE):
                    await transaction.save_deletion(deletion.closed(transaction.now))
                    object_ = f"case:{deletion.case_id}"
                    await transaction.record(f"service:{NAME}", "case.purged", object_, "done")
            return await transaction.overdue_deletions(transaction.now - OVERDUE_AFTER)

    async def unanswered(self, asked_for: timedelta) -> Sequence[Deletion]:
        """What access was asked so long ago that it has answered, or never will."""
        async with self._database.statements() as statements:
            return await statements.asked_deletions(statements.now - asked_for, LOOK_PAGE)

    async def ask_again(self, deletion: Deletion) -> None:
        """Asks access for ingest itself: it has begun by now, or was never asked."""
        try:
            begun = await self._access.begin_delete(deletion.case_id, deletion.deletion_id, force=False)
        except NotFound as error:
            await self._lapse(deletion, error.sentence)
        else:
            await self._begin(deletion, begun)

    async def _must_be_decided(self, case_id: CaseId) -> None:
        if not await self._routing.undecided(case_id):
            return
        sight = await self._access.sight(case_id)
        # Whom this does not concern access refuses, as if nothing were held.
        if sight is not None and sight.by_privilege:
            raise Conflict(
                "images that may show another patient are held with the case, and would be deleted too: "
                "release or discard them first",
                field="case_id",
            )

    async def _begin(self, deletion: Deletion, begun: Begun) -> Deletion:
        """Begins the deletion, also where the wish has lapsed meanwhile: access has hidden the case."""
        async with self._database.transaction() as transaction:
            await transaction.keep_deletion(deletion)
            asked = await _locked(transaction, deletion)
            if asked.lets(Act.BEGIN):
                uids = await self._purge(transaction, asked, begun.study_ids)
                await _record_purge(transaction, asked, uids)
                await _tell(transaction, asked.begun(begun, transaction.now))
            saved = await _locked(transaction, deletion)
        self.woken.set()
        return saved

    async def _repeat(self, actor: str, deletion: Deletion, begun: Begun) -> Deletion:
        """What was purged here stays so: only the others are told again."""
        async with self._database.transaction() as transaction:
            before = await _locked(transaction, deletion)
            await transaction.record(
                actor,
                "case.deleted",
                f"case:{before.case_id}",
                "done",
                deletion=str(before.deletion_id),
                again="yes",
            )
            return await _tell(transaction, before.repeated(begun.revision, transaction.now))

    async def _purge(
        self, transaction: IngestTransaction, deletion: Deletion, study_ids: Collection[StudyId]
    ) -> Collection[str]:
        """Ends the studies here; answers the UIDs of those that there were."""
        # By the clock by which transfers begin, whichever process was told of them.
        await transaction.lock_studies(study_ids)
        return await transaction.purge_studies(deletion.deletion_id, study_ids, await transaction.clock())

    async def _lapse(self, deletion: Deletion, reason: str) -> None:
        async with self._database.transaction() as transaction:
            known = await transaction.lock_deletion(deletion.deletion_id)
            if known is not None and known.lets(Act.LAPSE):
                await transaction.forget_deletion(deletion.deletion_id)
                await transaction.record(
                    deletion.deleted_by,
                    "case.deleted",
                    f"case:{deletion.case_id}",
                    "refused",
                    deletion=str(deletion.deletion_id),
                    reason=reason,
                )


async def _locked(transaction: IngestTransaction, deletion: Deletion) -> Deletion:
    """The record as it stands; until the transaction ends nobody else changes it."""
    locked = await transaction.lock_deletion(deletion.deletion_id)
    assert locked is not None, "only a wish lapses, and this one is kept"
    return locked


async def _tell(transaction: IngestTransaction, deletion: Deletion) -> Deletion:
    """Saves a record and tells everybody of it."""
    told = deletion.told(transaction.now)
    await transaction.save_deletion(told)
    await transaction.say(CaseDeleted(told.case_id, told.version))
    return told


async def _record_purge(transaction: IngestTransaction, deletion: Deletion, uids: Collection[str]) -> None:
    await transaction.record(
        deletion.deleted_by,
        "case.deleted",
        f"case:{deletion.case_id}",
        "done",
        deletion=str(deletion.deletion_id),
        study_instance_uids=" ".join(uids),
    )
