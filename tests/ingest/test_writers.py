"""Whose pack it is, until when anything is committed into it, and who touches its file."""

from pathlib import Path
from uuid import uuid4

import pytest

from kernel.clock import MonotonicClock
from kernel.errors import Unavailable
from kernel.ids import UUID7, PackId, StudyId
from plumbing.db import Database
from services.ingest.domain import Limits, Sender, Verdict
from services.ingest.gateway import Gateway
from services.ingest.packs import Packs
from services.ingest.store import IngestTransaction
from services.ingest.usecases import Studies
from services.ingest.writers import LEASE, Writer
from tests.conftest import OpenDatabase
from tests.ingest.builders import NOTHING, a_gateway, a_sender, a_uid, an_instance, stored
from tests.ingest.writing import a_writer

Store = Database[IngestTransaction]
CLOCK = MonotonicClock()
NEW_ID = UUID7(CLOCK)


@pytest.fixture
async def store(open_database: OpenDatabase) -> Store:
    return await open_database("ingest", IngestTransaction, CLOCK, NEW_ID)


@pytest.fixture
async def gateway(store: Store) -> Gateway:
    gateway = a_gateway()
    async with store.transaction() as transaction:
        await transaction.insert_gateway(gateway)
    return gateway


async def run_out(store: Store, writer: Writer) -> None:
    """Its lease has run out by PostgreSQL's clock, and nobody has noticed."""
    async with store.statements() as statements:
        await statements.connection.execute(
            "update writers set ends_at = now() - interval '1 ms' where writer_id = $1", writer.writer_id
        )


class Association:
    """Sends one study as a writer."""

    def __init__(self, store: Store, packs: Packs, writer: Writer, sender: Sender) -> None:
        self.store, self.packs, self.writer, self.sender = store, packs, writer, sender
        self.study, self.series, self.study_id = a_uid(), a_uid(), StudyId(uuid4())
        self.pack_id, self.end = PackId(NEW_ID()), 0

    async def opens(self) -> None:
        async with self.store.statements() as statements:
            await statements.open_pack(self.pack_id, self.writer.volume_id, self.writer.writer_id)
        self.packs.create(self.pack_id).close()

    @property
    def file(self) -> Path:
        return self.packs._path(self.pack_id)

    async def sends(self) -> Verdict:
        """One more instance, whose bytes are written before it is indexed; more bytes follow it."""
        with self.file.open("r+b") as file:
            file.truncate(self.end + 5000)
        entry = stored(
            an_instance(study=self.study, series=self.series), pack_id=self.pack_id, offset=self.end
        )
        async with self.store.transaction() as transaction:
            verdict, _ = await transaction.receive(self.study_id, self.sender, entry, NOTHING, create=True)
        self.end = entry.place.end
        return verdict

    async def sealed(self) -> bool:
        async with self.store.statements() as statements:
            return bool(
                await statements.connection.fetchval(
                    "select sealed_at is not null from packs where pack_id = $1", self.pack_id
                )
            )


@pytest.mark.proves("R3", part="nothing is committed into a pack whose writer's lease has run out")
async def test_an_instance_fails_whose_writer_has_lost_its_lease_before_anybody_has_sealed_the_pack(
    store: Store, gateway: Gateway, tmp_path: Path
) -> None:
    packs = Packs(tmp_path / "packs", NEW_ID)
    writer = await a_writer(store, packs, NEW_ID)
    association = Association(store, packs, writer, a_sender(gateway))
    await association.opens()
    assert await association.sends() is Verdict.FIRST
    await run_out(store, writer)
    with pytest.raises(Unavailable):
        await association.sends()
    assert not await association.sealed()
    # Who has lost nothing but time goes on, under the same lease.
    before = writer.writer_id
    await writer.renew()
    assert writer.writer_id == before
    assert await association.sends() is Verdict.NEW
    packs.close()


@pytest.mark.proves("R3", part="a commit under way when the lease runs out is kept, and the next one fails")
async def test_a_pack_is_sealed_behind_the_commit_that_is_under_way_and_keeps_no_lease_waiting(
    store: Store, gateway: Gateway, tmp_path: Path
) -> None:
    packs, others = Packs(tmp_path / "packs", NEW_ID), Packs(tmp_path / "packs", NEW_ID)
    writer, other = await a_writer(store, packs, NEW_ID), await a_writer(store, others, NEW_ID)
    association = Association(store, packs, writer, a_sender(gateway))
    await association.opens()
    assert await association.sends() is Verdict.FIRST
    entry = stored(
        an_instance(study=association.study, series=association.series),
        pack_id=association.pack_id,
        offset=association.end,
    )
    async with store.transaction() as transaction:
        await transaction.receive(
            association.study_id, association.sender, entry, NOTHING, create=False, described=True
        )
        with association.file.open("r+b") as file:
            file.truncate(entry.place.end + 5000)
        await run_out(store, writer)
        await other.renew()
        assert not await association.sealed()
    await other.renew()
    await other.trim()
    assert await association.sealed()
    assert association.file.stat().st_size == entry.place.end + 1024
    # It was only slow: it goes on as another writer, and into another pack.
    before = writer.writer_id
    await writer.renew()
    assert writer.writer_id != before
    with pytest.raises(Unavailable):
        await association.sends()
    for each in (packs, others):
        each.close()


@pytest.mark.proves("R5", part="what a killed writer left on a disk that others share")
async def test_only_the_holder_of_a_volume_trims_what_an_ended_writer_left(
    store: Store, gateway: Gateway, tmp_path: Path
) -> None:
    """Three processes on one volume, one on another; any of them seals, and one of them trims."""
    folders = ["shared", "shared", "shared", "own"]
    packs = [Packs(tmp_path / folder, NEW_ID) for folder in folders]
    holder, second, killed, elsewhere = [await a_writer(store, each, NEW_ID) for each in packs]
    association = Association(store, packs[2], killed, a_sender(gateway))
    await association.opens()
    assert await association.sends() is Verdict.FIRST
    empty = Association(store, packs[2], killed, a_sender(gateway))
    await empty.opens()

    await run_out(store, killed)
    await elsewhere.renew()
    assert await association.sealed()
    assert (await second.trim(), await elsewhere.trim()) == (0, 0)
    assert association.file.stat().st_size == 5000
    assert await holder.trim() == 2
    assert association.file.stat().st_size == association.end + 1024
    assert not empty.file.exists()
    # The holder ends too: the next one takes the volume.
    await run_out(store, holder)
    await second.renew()
    async with store.statements() as statements:
        held_by = await statements.connection.fetchval(
            "select holder_id from volumes where volume_id = $1", second.volume_id
        )
    assert held_by == second.writer_id
    for each in packs:
        each.close()


async def test_a_start_that_is_alone_on_its_volume_waits_for_no_lease(
    store: Store, gateway: Gateway, tmp_path: Path
) -> None:
    packs = Packs(tmp_path / "packs", NEW_ID)
    killed = await a_writer(store, packs, NEW_ID)
    association = Association(store, packs, killed, a_sender(gateway))
    await association.opens()
    assert await association.sends() is Verdict.FIRST
    unknown = packs.create(PackId(NEW_ID()))  # as where the database was restored from a backup
    unknown.close()
    packs.close()  # as the end of a process does
    packs = Packs(tmp_path / "packs", NEW_ID)
    await a_writer(store, packs, NEW_ID)
    assert await association.sealed()
    assert association.file.stat().st_size == association.end + 1024
    assert set(packs.list()) == {association.pack_id, unknown.pack_id}
    packs.close()
    assert LEASE.total_seconds() == 30


@pytest.mark.proves("R3", part="what the version before had open when it ended")
async def test_the_first_start_on_a_directory_of_the_version_before_puts_it_in_order(
    store: Store, gateway: Gateway, tmp_path: Path
) -> None:
    """It wrote rows without volume and writer, and files before their rows."""
    (tmp_path / "packs" / "00").mkdir(parents=True)
    packs = Packs(tmp_path / "packs", NEW_ID)
    half, stray = PackId(NEW_ID()), PackId(NEW_ID())
    for each in (half, stray):
        with packs._path(each).open("wb") as file:
            file.truncate(9000)
    study_id, instance = StudyId(uuid4()), an_instance()
    async with store.statements() as statements:
        await statements.connection.execute(
            "insert into packs (pack_id, study_id, committed_end) values ($1, $2, 4096)", half, study_id
        )
    writer = await a_writer(store, packs, NEW_ID)
    assert packs.list() == [half]
    assert packs._path(half).stat().st_size == 4096 + 1024
    async with store.statements() as statements:
        volume_id, sealed = await statements.connection.fetchrow(  # type: ignore[misc]
            "select volume_of(volume_id), sealed_at is not null from packs"
        )
    assert (volume_id, sealed) == (writer.volume_id, True)
    late = stored(instance, pack_id=half, offset=4096)
    async with store.statements() as statements:
        with pytest.raises(Unavailable):
            await statements.receive(study_id, a_sender(gateway), late, NOTHING, create=True)
    packs.close()


async def test_the_row_of_a_pack_is_there_before_its_file(
    store: Store, gateway: Gateway, tmp_path: Path
) -> None:
    packs = Packs(tmp_path / "packs", NEW_ID)
    writer = await a_writer(store, packs, NEW_ID)
    studies = Studies(store, writer, Limits(), NEW_ID)
    _, _, of_a_study = await studies.open_study(a_sender(gateway), a_uid())
    of_none = await studies.open_pack()
    assert packs.list() == []
    async with store.statements() as statements:
        rows = await statements.connection.fetch("select pack_id, volume_id, writer_id, sealed_at from packs")
    assert {tuple(row) for row in rows} == {
        (pack_id, writer.volume_id, writer.writer_id, None) for pack_id in (of_a_study, of_none)
    }
    packs.close()
