"""Who writes which packs: volumes, and the writers that write there (docs/decisions/0036).

A writer is one start of one process. Its lease runs by PostgreSQL's clock, and so nobody's clock matters. A
pack's row says which writer writes it on which volume, and it is committed before the file exists. Sealing
is the row: from then on nothing is committed into the pack. Any process seals what a writer left that has
ended. Its files only the process touches that holds the volume.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from kernel.database import Database
from kernel.errors import ReadroomError
from kernel.ids import NewId, PackId, VolumeId, WriterId

if TYPE_CHECKING:
    from services.ingest.store import IngestTransaction

LEASE = timedelta(seconds=30)
"""From one renewal to the end."""
RENEW_S = 5.0
TRIMMED_AT_ONCE = 1_000
"""Files of one look; the others a second later."""
LISTED_PAGE = 1_000
"""Files asked about in one statement after a start."""


@dataclass(frozen=True, slots=True)
class Ended:
    """Where a sealed pack ends."""

    pack_id: PackId
    committed_end: int


class Files(Protocol):
    """A directory of packs; each method waits for the disk.

    Attributes:
        volume_id: its name, which stands in it.
        is_earlier: whether the version before wrote there.
        is_alone: whether no other process had it open at this start: who wrote there has ended.
    """

    @property
    def volume_id(self) -> VolumeId: ...
    @property
    def is_earlier(self) -> bool: ...
    @property
    def is_alone(self) -> bool: ...
    def list(self) -> Sequence[PackId]: ...
    def seal(self, pack_id: PackId, committed_end: int) -> None: ...
    def quarantined(self) -> Collection[bytes]: ...
    def release(self, sha256: bytes) -> None: ...


class Writer:
    """This start of this process.

    Attributes:
        writer_id: under which packs are opened. A lease that was lost is not had again: the next one has
            another id.
        volume_id: where it writes.

    Args:
        address: where other processes ask it for packs.
    """

    def __init__(
        self, database: Database[IngestTransaction], files: Files, address: str, new_id: NewId
    ) -> None:
        self._database = database
        self._files = files
        self._address = address
        self._new_id = new_id
        self.volume_id = files.volume_id
        self.writer_id = WriterId(new_id())

    async def begin(self, opened_after: datetime) -> bool:
        """Takes the lease, and puts in order what others left on the volume (R3, R5).

        Where this process is alone on the volume, whoever began to write there before `opened_after`, a time
        of PostgreSQL before the directory was opened, has ended: nobody waits for the end of their leases.

        Answers whether no other process of ingest lives. Raises Conflict for a volume that was given up.
        """
        files = self._files
        async with self._database.transaction() as transaction:
            known = await transaction.keep_volume(self.volume_id, is_earlier=files.is_earlier)
            await transaction.begin_writer(self.writer_id, self.volume_id, self._address, LEASE)
            if files.is_alone:
                await transaction.end_writers_of(self.volume_id, began_before=opened_after)
                await transaction.seal_packs_of_the_version_before(self.volume_id)
            await transaction.seal_abandoned(LEASE)
            await transaction.hold_volume(self.volume_id, self.writer_id)
            is_only = not await transaction.others_live(self.writer_id)
        if files.is_alone and files.is_earlier:
            await self._put_in_order_what_the_version_before_left(is_new=not known)
        while await self.trim() == TRIMMED_AT_ONCE:
            pass
        return is_only

    async def renew(self) -> int:
        """Renews the lease, ends the writers whose lease has run out, and holds the volume if nobody does.

        Answers how many volumes nobody holds then.
        """
        # By itself: nothing that others do keeps a lease from being renewed.
        async with self._database.statements() as statements:
            if not await statements.renew_writer(self.writer_id, LEASE):
                writer_id = WriterId(self._new_id())
                await statements.begin_writer(writer_id, self.volume_id, self._address, LEASE)
                self.writer_id = writer_id
        async with self._database.transaction() as transaction:
            await transaction.seal_abandoned(LEASE)
            await transaction.hold_volume(self.volume_id, self.writer_id)
            return await transaction.unheld_volumes()

    async def trim(self) -> int:
        """Cuts the files of sealed packs where their rows say: its own, and as the holder those of ended
        writers.

        Answers how many it looked at. What fails keeps no others, and has its turn again; raises the first
        failure.
        """
        async with self._database.statements() as statements:
            ends = await statements.packs_to_trim(self.volume_id, self.writer_id, TRIMMED_AT_ONCE)
        if not ends:
            return 0
        trimmed, failures = await asyncio.to_thread(self._trim, ends)
        async with self._database.statements() as statements:
            await statements.packs_are_trimmed(trimmed)
        if failures:
            raise failures[0]
        return len(ends)

    async def end(self) -> None:
        """Seals what it has open, trims it, and gives lease and volume back: nobody waits for their end."""
        async with self._database.transaction() as transaction:
            await transaction.seal_packs_of(self.writer_id)
        await self.trim()
        async with self._database.statements() as statements:
            await statements.end_writer(self.writer_id)

    def _trim(self, ends: Sequence[Ended]) -> tuple[Sequence[Ended], Sequence[Exception]]:
        trimmed, failures = [], []
        for each in ends:
            try:
                self._files.seal(each.pack_id, each.committed_end)
            except (OSError, ReadroomError) as error:
                failures.append(error)
            else:
                trimmed.append(each)
        return trimmed, failures

    async def _put_in_order_what_the_version_before_left(self, *, is_new: bool) -> None:
        """Cuts its files where their rows say and removes those without a row: once, on a volume that is new.

        It made files before their rows. A file that has none later is of no version that is known to have
        failed: the database may be older than the volume, and what is there may be all that is left.
        """
        pack_ids = await asyncio.to_thread(self._files.list) if is_new else []
        for begin in range(0, len(pack_ids), LISTED_PAGE):
            page = pack_ids[begin : begin + LISTED_PAGE]
            async with self._database.statements() as statements:
                known = await statements.pack_ends(page)
            for pack_id in page:
                await asyncio.to_thread(self._files.seal, pack_id, known.get(pack_id, 0))
        async with self._database.statements() as statements:
            kept = await statements.quarantined()
        for sha256 in set(await asyncio.to_thread(self._files.quarantined)) - set(kept):
            await asyncio.to_thread(self._files.release, sha256)
