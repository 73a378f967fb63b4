"""Packs whose rows are there before their files, opened as a running ingest opens them."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from kernel.ids import NewId, PackId, VolumeId, WriterId
from plumbing.db import Database
from services.ingest.packs import Packs
from services.ingest.store import IngestTransaction
from services.ingest.writers import Writer

VOLUME, WRITER = VolumeId(UUID(int=1)), WriterId(UUID(int=2))


@dataclass(frozen=True)
class WriterOfTheTest:
    """Who has opened those packs."""

    writer_id: WriterId = WRITER
    volume_id: VolumeId = VOLUME


async def open_pack(transaction: IngestTransaction, pack_id: PackId) -> PackId:
    """Opens a pack of a writer that lives as long as the test, unless it is open."""
    execute = transaction.connection.execute
    await transaction.keep_volume(VOLUME, is_earlier=False)
    await execute(
        """
        insert into writers (writer_id, volume_id, address, began_at, ends_at)
        values ($1, $2, 'nowhere:1', now(), now() + interval '1 hour') on conflict do nothing
        """,
        WRITER,
        VOLUME,
    )
    await execute(
        """
        insert into packs (pack_id, committed_end, volume_id, writer_id, to_trim)
            select $1, 0, $2, $3, true where not exists (select from packs where pack_id = $1)
        """,
        pack_id,
        VOLUME,
        WRITER,
    )
    return pack_id


async def a_writer(database: Database[IngestTransaction], packs: Packs, new_id: NewId) -> Writer:
    """This process as a writer, as after a start."""
    writer = Writer(database, packs, "nowhere:1", new_id)
    async with database.statements() as statements:
        later = await statements.clock() + timedelta(seconds=1)
    await writer.begin(later - timedelta(seconds=1))
    return writer
