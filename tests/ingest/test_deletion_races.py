"""While a study is deleted others store into it: no instance is committed into a purged study (A26, R5)."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from uuid import UUID, uuid4

import pytest
from pydicom.uid import ExplicitVRLittleEndian

from kernel.clock import MonotonicClock
from kernel.dicom import UID
from kernel.errors import Unavailable
from kernel.ids import UUID7, DeletionId, PackId, StudyId
from plumbing.db import Database
from services.ingest.deletionstore import TABLES
from services.ingest.domain import Instance, Limits, Verdict
from services.ingest.gateway import Gateway
from services.ingest.store import IngestTransaction
from tests.ingest.builders import NOTHING, a_gateway, a_sender, a_uid, an_instance, stored
from tests.ingest.objects import CT, a_ct
from tests.ingest.system import Ingest, Sender, store_object
from tests.ingest.test_deletion import DELETED, a_case, begin_transfer, delete
from tests.ingest.test_faults import all_sealed, every_row_has_its_bytes, on_disk
from tests.ingest.writing import VOLUME, WRITER, open_pack
from tests.wait import eventually

OUT_OF_RESOURCES = 0xA700
CLOCK = MonotonicClock()


@dataclass
class Index:
    """The index, with a study that two packs of one association fill."""

    database: Database[IngestTransaction]
    gateway: Gateway
    study_id: StudyId
    study: UID
    series: UID
    pack_id: PackId

    async def begins(self, transaction: IngestTransaction) -> DeletionId:
        deletion_id = DeletionId(uuid4())
        await transaction.connection.execute(
            "insert into deletions (deletion_id, case_id, deleted_by, asked_at) values ($1, $2, 'user', $3)",
            deletion_id,
            uuid4(),
            transaction.now,
        )
        return deletion_id

    async def purge(self, transaction: IngestTransaction, deletion_id: DeletionId | None = None) -> None:
        """Locks and ends the study, as `Deletions` does."""
        deletion_id = deletion_id or await self.begins(transaction)
        await transaction.lock_studies([self.study_id])
        await transaction.purge_studies(deletion_id, [self.study_id], CLOCK.now())

    async def purge_the_rest(self) -> None:
        rows: int | None = 0
        while rows is not None:
            async with self.database.transaction() as transaction:
                rows = await transaction.purge_some(1)

    def instance(self) -> Instance:
        return an_instance(study=self.study, series=self.series)

    async def receive(
        self,
        *,
        pack_id: PackId,
        offset: int,
        begun_at: datetime,
        create: bool = False,
        study_id: StudyId | None = None,
    ) -> Verdict:
        """As reception does it: one statement."""
        async with self.database.statements() as statements:
            await open_pack(statements, pack_id)
            verdict, _ = await statements.receive(
                study_id or self.study_id,
                a_sender(self.gateway, begun_at=begun_at),
                stored(self.instance(), pack_id=pack_id, offset=offset),
                NOTHING,
                create=create,
                described=offset != 0,
            )
        return verdict

    async def waiting(self, statements: int) -> None:
        """So many statements have come to a lock that another transaction holds."""

        async def come() -> bool:
            async with self.database.statements() as looking:
                count = await looking.connection.fetchval(
                    "select count(*) from pg_stat_activity"
                    " where datname = current_database() and wait_event_type = 'Lock'"
                )
            return bool(count == statements)

        await eventually(come)

    async def orphans(self) -> dict[str, int]:
        """Rows of no live study, once the purge has come to its end."""
        await self.purge_the_rest()
        async with self.database.statements() as statements:
            counts = {
                table: await statements.connection.fetchval(
                    f"select count(*) from {table} t where t.study_id is not null"
                    " and not exists (select from studies s where s.study_id = t.study_id)"
                )
                for table in (*TABLES, "packs", "quarantined")
            }
        return {table: count for table, count in counts.items() if count}


@pytest.fixture
async def index(fresh_database: Callable[[str], str]) -> AsyncIterator[Index]:
    database = await Database.connect(
        fresh_database("ingest"), IngestTransaction, clock=CLOCK, new_id=UUID7(CLOCK)
    )
    gateway = a_gateway()
    async with database.transaction() as transaction:
        await transaction.insert_gateway(gateway)
    made = Index(database, gateway, StudyId(uuid4()), a_uid(), a_uid(), PackId(uuid4()))
    first = await made.receive(pack_id=made.pack_id, offset=0, begun_at=CLOCK.now(), create=True)
    assert first is Verdict.FIRST
    yield made
    await database.close()


async def test_a_statement_that_waits_for_the_purge_leaves_nothing(index: Index) -> None:
    """In a pack that the purge knows, in a pack that it does not know, and in a study it makes anew."""
    before = CLOCK.now()
    async with index.database.transaction() as purge:
        await index.purge(purge)
        known = asyncio.create_task(index.receive(pack_id=index.pack_id, offset=4096, begun_at=before))
        new = asyncio.create_task(index.receive(pack_id=PackId(uuid4()), offset=0, begun_at=before))
        await index.waiting(2)
    for task in (known, new):
        with pytest.raises(Unavailable):
            await task
    assert not await index.orphans()
    later = partial(index.receive, pack_id=PackId(uuid4()), offset=0, create=True)
    assert await later(begun_at=before) is Verdict.DELETED
    after = CLOCK.now()  # not later than now: that would be a wrong clock's, and count as old
    assert await later(begun_at=after) is Verdict.PURGED
    assert await later(begun_at=after, study_id=StudyId(uuid4())) is Verdict.FIRST
    assert await later(begun_at=before) is Verdict.DELETED
    assert not await index.orphans()


async def test_a_purge_that_waits_for_a_statement_takes_its_instance(index: Index) -> None:
    """Also one of a transfer that began after the purge's transaction: what is left of it is refused."""
    async with index.database.transaction() as purge:
        deletion_id = await index.begins(purge)
        begun_at = CLOCK.now()
        async with index.database.transaction() as transaction:
            pack_id = await open_pack(transaction, PackId(uuid4()))
            await transaction.receive(
                index.study_id,
                a_sender(index.gateway, begun_at=begun_at),
                stored(index.instance(), pack_id=pack_id),
                NOTHING,
                create=False,
            )
            purging = asyncio.create_task(index.purge(purge, deletion_id))
            await index.waiting(1)
        await purging
    assert not await index.orphans()
    async with index.database.statements() as statements:
        assert not await statements.connection.fetchval("select count(*) from instances")
        found = await statements.open_pack_for(
            a_sender(index.gateway, begun_at=begun_at), index.study, PackId(uuid4()), VOLUME, WRITER
        )
        assert found == (None, True)


async def test_bytes_are_not_quarantined_for_a_purged_study(index: Index) -> None:
    async with index.database.transaction() as purge:
        await index.purge(purge)

        async def quarantine() -> bool:
            async with index.database.transaction() as transaction:
                kept = stored(index.instance(), pack_id=index.pack_id)
                return await transaction.quarantine(
                    index.study_id, a_sender(index.gateway), kept, "why", Limits()
                )

        quarantining = asyncio.create_task(quarantine())
        await index.waiting(1)
    assert not await quarantining
    assert not await index.orphans()


@dataclass
class Outcomes:
    """What senders were answered, by SOP Instance UID; `fresh`: acknowledged since the last deletion."""

    statuses: dict[str, int | None] = field(default_factory=dict)
    fresh: set[str] = field(default_factory=set)
    deleted: int = 0

    def note(self, sop_instance_uid: str, status: int | None, begun_after: int) -> None:
        self.statuses[sop_instance_uid] = status
        if status == 0 and begun_after == DELETIONS:
            self.fresh.add(sop_instance_uid)


DELETIONS = 12


@pytest.mark.drill
@pytest.mark.proves("ING-6", part="associations that store into the study")
async def test_many_associations_store_into_a_study_that_is_deleted_again_and_again(ingest: Ingest) -> None:
    """Nothing is orphaned, and what was acknowledged to who began after the last deletion is stored."""
    gateway = await ingest.enrol()
    study, series = a_uid(), a_uid()
    outcomes, stopped = Outcomes(), threading.Event()

    def send(sender: Sender, begun_after: int) -> None:
        """One transfer: until it is refused, or all is over."""
        with sender.association([(CT, ExplicitVRLittleEndian)]) as association:
            while not stopped.is_set() and association.is_established:
                sending = a_ct(study=study, series=series, pixels=bytes(3000))
                status = store_object(association, sending).status
                outcomes.note(sending.sop_instance_uid, status, begun_after)
                if status != 0:
                    return

    async def transfers(*, named: bool) -> None:
        while not stopped.is_set():
            begun_after = outcomes.deleted
            sender = Sender.of(ingest, gateway)
            if named:
                sender = await begin_transfer(ingest, gateway, study)
            await asyncio.to_thread(send, sender, begun_after)

    sending = [asyncio.create_task(transfers(named=named)) for named in (True, False, True)]
    study_ids: set[UUID] = set()
    while outcomes.deleted < DELETIONS:
        live = await eventually(lambda: ingest.rows("select study_id from studies"))
        study_ids.add(live[0]["study_id"])
        await asyncio.sleep(0.05)
        await delete(ingest, await a_case(ingest, study))
        outcomes.deleted += 1
    await eventually(lambda: len(outcomes.fresh) > 20)
    stopped.set()
    await asyncio.gather(*sending)

    assert len(study_ids) == DELETIONS
    assert set(outcomes.statuses.values()) <= {0, DELETED, OUT_OF_RESOURCES}
    await eventually(lambda: all_sealed(ingest))
    for table in (*TABLES, "packs"):
        assert not await ingest.one(
            f"select count(*) from {table} t where t.study_id is not null"
            " and not exists (select from studies s where s.study_id = t.study_id)"
        )
    kept = set(await ingest.stored())
    assert outcomes.fresh <= kept <= {uid for uid, status in outcomes.statuses.items() if status == 0}
    assert await every_row_has_its_bytes(ingest) == len(kept)
    rows = await ingest.rows("select committed_end from packs where study_id is not null")
    await eventually(lambda: on_disk(ingest) == sum(row["committed_end"] + 1024 for row in rows))
