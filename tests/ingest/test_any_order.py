"""R4 over any interleaving of senders: real packs, real index, chunks of many associations in any order."""

import asyncio
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from kernel.clock import MonotonicClock
from kernel.dicom import UID
from kernel.ids import UUID7
from local.embedded import EmbeddedServers
from plumbing import dimse
from plumbing.cache import RateWindow
from plumbing.db import Database
from plumbing.lines import Lines
from services.ingest import events
from services.ingest.dimse import Association, Sink
from services.ingest.domain import ANSWERS, Limits, StoreStatus
from services.ingest.gateways import Gateways
from services.ingest.instanceindex import INDEX, Index
from services.ingest.office import EventLoopBridge, InProcess, Office
from services.ingest.packformat import HEADER_LENGTH
from services.ingest.packs import OpenPack, Packs
from services.ingest.reception import Reception
from services.ingest.store import IngestTransaction
from services.ingest.usecases import Studies
from tests.ingest.builders import a_gateway, a_sender
from tests.ingest.objects import a_ct
from tests.ingest.system import DicomObject, quarantined_file, sha256
from tests.ingest.writing import a_writer

R = TypeVar("R")

STUDIES = [UID("1.2.1"), UID("1.2.2")]
VARIANTS = {
    (study, f"{study}.{number}", variant): a_ct(
        study=study, series=f"{study}.9", uid=f"{study}.{number}", pixels=bytes([variant]) * 3000
    )
    for study in STUDIES
    for number in range(2)
    for variant in range(2)
}
CHUNK = 1024
PLACES = st.integers(1, 3)


class World:
    """An event loop in a thread, a database, and what one run of the machine needs."""

    def __init__(self, url: str, cache_url: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.clock = MonotonicClock()
        self.new_id = UUID7(self.clock)
        self.bridge = EventLoopBridge(self.loop)
        self.rates = RateWindow(cache_url, self.clock)
        self.lines = Lines(url, INDEX, size=4)
        self.database = self.run(
            Database.connect(url, IngestTransaction, clock=self.clock, new_id=self.new_id)
        )

    def run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(20)

    def rows(self, sql: str) -> list[Any]:
        async def fetch() -> list[Any]:
            async with self.database.statements() as statements:
                return list(await statements.connection.fetch(sql))

        return self.run(fetch())

    def close(self) -> None:
        self.run(self.rates.close())
        self.run(self.database.close())
        self.lines.close()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)


class Senders(RuleBasedStateMachine):
    """Any number of associations, each with at most one instance under way."""

    world: ClassVar[World]
    seen: ClassVar[Counter[StoreStatus]]

    def __init__(self) -> None:
        super().__init__()
        world = self.world
        tables = "instances, mapping_values, series, packs, studies, quarantined, transfers"
        of_gateways = "gateway_contacts, gateway_names, gateway_titles, gateway_certificates, gateways"
        self.execute(f"truncate {tables}, {of_gateways}, outbox, refusals cascade")
        self.folder = Path(tempfile.mkdtemp())
        self.packs = Packs(self.folder, world.new_id)
        self.gateway = a_gateway()
        limits = Limits(refusals_per_minute=1_000_000)
        nobody: Any = None  # no administrator comes in here
        self.gateways = Gateways(
            world.database, nobody, world.rates, limits, world.new_id, world.clock, lambda: None
        )
        self.writer = world.run(a_writer(world.database, self.packs, world.new_id))
        self.studies = Studies(world.database, self.writer, limits, world.new_id)
        self.parent = InProcess(Office(self.gateways, self.studies), world.bridge)
        self.run_in_transaction(lambda t: t.insert_gateway(self.gateway))
        self.associations: dict[int, Association] = {}
        self.under_way: dict[int, tuple[Sink, bytes, DicomObject]] = {}
        self.stored: dict[str, str] = {}
        self.refused: set[str] = set()

    def execute(self, sql: str) -> None:
        async def go() -> None:
            async with self.world.database.statements() as statements:
                await statements.connection.execute(sql)

        self.world.run(go())

    def run_in_transaction(self, act: Callable[[IngestTransaction], Coroutine[Any, Any, None]]) -> None:
        async def go() -> None:
            async with self.world.database.transaction() as transaction:
                await act(transaction)

        self.world.run(go())

    @rule(at=PLACES, key=st.sampled_from(sorted(VARIANTS)), cut=st.sampled_from([0, 0, 0, 7]))
    def begin(self, at: int, key: tuple[UID, str, int], cut: int) -> None:
        world = self.world
        if at not in self.associations:
            reception = Reception(
                a_sender(self.gateway), self.parent, self.packs, Index(world.lines), world.clock
            )
            self.associations[at] = Association(reception, world.clock)
        if at in self.under_way:
            return
        sending = VARIANTS[key]
        command = dimse.StoreCommand(
            sending.sop_class_uid, sending.sop_instance_uid, sending.transfer_syntax_uid, 1
        )
        data = sending.data[: len(sending.data) - cut]
        self.under_way[at] = (self.associations[at].store(command), data, sending)

    @rule(at=PLACES)
    def write(self, at: int) -> None:
        if at in self.under_way:
            sink, data, sending = self.under_way[at]
            sink.write(memoryview(bytearray(data[:CHUNK])))
            self.under_way[at] = (sink, data[CHUNK:], sending)

    @rule(at=PLACES)
    def finish(self, at: int) -> None:
        if at not in self.under_way:
            return
        sink, data, sending = self.under_way.pop(at)
        while data:
            sink.write(memoryview(bytearray(data[:CHUNK])))
            data = data[CHUNK:]
        try:
            status, _ = sink.finish()
        except dimse.Refused as refused:
            status = refused.status
        digest, uid = sink._digest.hexdigest(), sending.sop_instance_uid
        if digest != sha256(sending.data):
            expected = StoreStatus.TRUNCATED
            self.refused.add(digest)
        elif uid not in self.stored:
            expected = StoreStatus.STORED
            self.stored[uid] = digest
        elif self.stored[uid] == digest:
            expected = StoreStatus.DUPLICATE
        else:
            expected = StoreStatus.CONFLICT
            self.refused.add(digest)
        assert status == ANSWERS[expected].status
        self.seen[expected] += 1
        self.nothing_is_left_over(at)

    @rule(at=PLACES, key=st.sampled_from(sorted(VARIANTS)))
    def send(self, at: int, key: tuple[UID, str, int]) -> None:
        """All at once, while others are under way."""
        self.begin(at, key, 0)
        self.finish(at)

    @rule(at=PLACES, key=st.sampled_from(sorted(VARIANTS)))
    def send_cut_off(self, at: int, key: tuple[UID, str, int]) -> None:
        """The same without the last byte."""
        self.begin(at, key, 1)
        self.finish(at)

    @rule(at=PLACES)
    def lose_the_instance(self, at: int) -> None:
        if at in self.under_way:
            self.under_way.pop(at)[0].discard()
            self.nothing_is_left_over(at)

    @rule(at=PLACES)
    def end(self, at: int) -> None:
        if at in self.under_way:
            self.under_way.pop(at)[0].discard()
        if at in self.associations:
            self.associations.pop(at).ended("released")

    def nothing_is_left_over(self, at: int) -> None:
        """The association's packs end where their last kept entry does."""
        for study in self.associations[at].reception._open.values():
            path = self.packs._path(study.pack.pack_id)
            assert path.stat().st_size == cast("OpenPack", study.pack).end

    @rule()
    def look_after(self) -> None:
        self.world.run(events.upkeep(self.studies, self.writer))

    @invariant()
    def the_index_holds_what_came_first(self) -> None:
        rows = self.world.rows("select sop_instance_uid, sha256 from instances")
        assert {row["sop_instance_uid"]: row["sha256"].hex() for row in rows} == self.stored

    def teardown(self) -> None:
        world = self.world
        for sink, _, _ in self.under_way.values():
            sink.discard()
        world.run(self.writer.end())
        told = [row["subject"] for row in world.rows("select subject from outbox")]
        studies = {uid.rpartition(".")[0] for uid in self.stored}
        assert told.count("study.received.v1") == len(world.rows("select from studies")) == len(studies)
        for row in world.rows("select * from instances"):
            content = self.packs._path(row["pack_id"]).read_bytes()
            start = row["entry_offset"] + HEADER_LENGTH + row["prefix_length"]
            data_set = content[start : start + row["data_set_length"]]
            assert sha256(data_set) == self.stored[row["sop_instance_uid"]]
        kept = world.rows("select * from quarantined")
        assert {row["sha256"].hex() for row in kept} == self.refused
        for row in kept:
            assert sha256(quarantined_file(self.folder, row)[row["prefix_length"] :]) == row["sha256"].hex()
        self.packs.close()
        shutil.rmtree(self.folder)


@pytest.mark.proves("R4")
def test_whatever_the_order_of_senders_each_instance_counts_once(
    fresh_database: Callable[[str], str], servers: EmbeddedServers
) -> None:
    class Machine(Senders):
        world = World(fresh_database("ingest"), servers.cache_url)
        seen: ClassVar[Counter[StoreStatus]] = Counter()

    try:
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=20,
                stateful_step_count=50,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        Machine.world.close()
    # The machine went everywhere.
    tried = {StoreStatus.STORED, StoreStatus.DUPLICATE, StoreStatus.CONFLICT, StoreStatus.TRUNCATED}
    assert set(Machine.seen) == tried
