"""The bus: each fact is applied once, and none holds up another."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from uuid import UUID

import nats
import pytest
from nats.aio.client import Client
from prometheus_client import REGISTRY

from kernel.errors import Invalid, Unavailable
from kernel.events import CasePlaced, Fact, StudyChanged, StudyReceived
from local.embedded import EmbeddedServers, binaries
from plumbing import telemetry
from plumbing.bus import Bus
from plumbing.busowner import keep_up, set_up_once
from plumbing.db import Database
from plumbing.hearing import CONCURRENCY, MAX_FAILURES
from plumbing.outbox import Relay
from plumbing.status import TooLarge
from plumbing.stream import ACK_WAIT_S, STREAM
from tests.hosting import answers
from tests.plumbing.telling import (
    CLOCK,
    HEARERS,
    Ledger,
    a_bus,
    a_database,
    a_hearer,
    a_sayer,
    an_empty_stream,
    ledger,
    letters,
    new_id,
    running,
    say,
)
from tests.wait import eventually


@pytest.fixture(autouse=True)
async def servers(own_servers: EmbeddedServers) -> EmbeddedServers:
    """With an empty stream."""
    await an_empty_stream(own_servers)
    return own_servers


@pytest.fixture
async def sayer(servers: EmbeddedServers) -> AsyncIterator[Database[Ledger]]:
    async with a_sayer(servers) as database:
        yield database


@pytest.fixture
async def hearer(servers: EmbeddedServers) -> AsyncIterator[Database[Ledger]]:
    """The hearer's database; nobody hears yet."""
    async with a_database(servers) as database:
        yield database


@asynccontextmanager
async def a_client(servers: EmbeddedServers) -> AsyncIterator[Client]:
    client = await nats.connect(servers.nats_url)
    yield client
    await client.close()


async def publish(
    servers: EmbeddedServers, data: bytes, event_id: str, subject: str = "study.received.v1"
) -> None:
    """Publishes past the outbox."""
    async with a_client(servers) as client:
        await client.jetstream().publish(subject, data, headers={"Nats-Msg-Id": event_id})


async def all_told(hearer: Database[Ledger], count: int, within: float = 10) -> dict[UUID, tuple[int, int]]:
    """The ledger once it has `count` rows."""

    async def complete() -> bool:
        return len(await ledger(hearer)) >= count

    await eventually(complete, within)
    return await ledger(hearer)


async def acknowledged(servers: EmbeddedServers, name: str = "hearer") -> bool:
    """Whether NATS has nothing more for this consumer."""
    async with a_client(servers) as client:
        info = await client.jetstream().consumer_info(STREAM, name)
        return (info.num_pending, info.num_ack_pending) == (0, 0)


async def nothing_left(servers: EmbeddedServers, name: str = "hearer", within: float = 10) -> None:
    await eventually(lambda: acknowledged(servers, name), within)


async def test_each_fact_is_applied_once_by_each_service_that_hears_it(
    servers: EmbeddedServers, sayer: Database[Ledger], hearer: Database[Ledger]
) -> None:
    facts = [StudyReceived(new_id(), 1) for _ in range(200)]
    async with a_database(servers) as other, a_hearer(servers, hearer), a_hearer(servers, other, "other"):
        await say(sayer, CasePlaced(new_id(), 1), *facts)
        for database in (hearer, other):
            told = await all_told(database, 200)
            assert told == {fact.id: (1, 1) for fact in facts}


async def test_a_fact_that_comes_again_is_not_applied_again(
    servers: EmbeddedServers, sayer: Database[Ledger], hearer: Database[Ledger]
) -> None:
    facts = [StudyReceived(new_id(), 1) for _ in range(50)]
    async with a_hearer(servers, hearer):
        await say(sayer, *facts)
        await all_told(hearer, 50)
        await nothing_left(servers)
    async with a_client(servers) as client:
        await client.jetstream().delete_consumer(STREAM, "hearer")
    await set_up_once(servers.nats.setup_url, HEARERS)
    async with a_hearer(servers, hearer):  # the new consumer is given everything again
        await nothing_left(servers)
        assert await ledger(hearer) == {fact.id: (1, 1) for fact in facts}


async def test_facts_out_of_order_leave_the_newest(
    servers: EmbeddedServers, sayer: Database[Ledger], hearer: Database[Ledger]
) -> None:
    study = new_id()
    for version in (3, 1, 2):
        await say(sayer, StudyChanged(study, version))
    async with a_hearer(servers, hearer):
        await all_told(hearer, 1)
        await nothing_left(servers)
        version, told = (await ledger(hearer))[study]
    assert version == 3
    assert told <= 3, "one that waited beside a newer one is covered by it"


async def test_facts_about_one_thing_are_applied_one_after_the_other_and_others_side_by_side(
    servers: EmbeddedServers, sayer: Database[Ledger], hearer: Database[Ledger]
) -> None:
    at_work: list[UUID] = []
    most, overlapped = 0, False

    async def fetch(fact: Fact) -> None:
        nonlocal most, overlapped
        overlapped = overlapped or fact.id in at_work
        at_work.append(fact.id)
        most = max(most, len(at_work))
        await asyncio.sleep(0.005)
        at_work.remove(fact.id)

    studies = [new_id() for _ in range(20)]
    async with a_hearer(servers, hearer, fetch=fetch):
        await say(sayer, *(StudyChanged(study, version) for study in studies for version in range(1, 6)))
        await all_told(hearer, 20)
        await nothing_left(servers)
    assert {version for version, _ in (await ledger(hearer)).values()} == {5}
    assert not overlapped
    assert 1 < most <= CONCURRENCY


async def test_a_lane_that_is_taken_keeps_no_worker_and_its_facts_become_one(
    servers: EmbeddedServers, sayer: Database[Ledger], hearer: Database[Ledger]
) -> None:
    huge, others = new_id(), [new_id() for _ in range(20)]
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def fetch(fact: Fact) -> None:
        if fact.id == huge:
            begun.set()
            await go_on.wait()

    async with a_hearer(servers, hearer, fetch=fetch):
        await say(sayer, StudyChanged(huge, 1))
        await begun.wait()
        await say(sayer, *(StudyChanged(huge, version) for version in range(2, 5 * CONCURRENCY)))
        await say(sayer, *(StudyReceived(other, 1) for other in others))
        told = await all_told(hearer, 20, within=5)
        assert huge not in told
        go_on.set()
        await nothing_left(servers)
        version, told_of_huge = (await ledger(hearer))[huge]
    assert (version, told_of_huge) == (5 * CONCURRENCY - 1, 2), "the first, and the newest for all others"


@pytest.mark.parametrize("answer", [Invalid("no such thing"), TooLarge("a message is too large")])
async def test_a_final_answer_is_final_at_once(
    servers: EmbeddedServers, sayer: Database[Ledger], hearer: Database[Ledger], answer: Exception
) -> None:
    tries = 0

    async def fetch(fact: Fact) -> None:
        nonlocal tries
        tries += 1
        raise answer

    async with a_hearer(servers, hearer, fetch=fetch):
        await say(sayer, StudyReceived(new_id(), 1))
        await eventually(lambda: letters(hearer))
        await nothing_left(servers)
        [letter] = await letters(hearer)
    assert tries == letter["failures"] == 1
    assert letter["died_at"] is not None


@pytest.mark.proves("R9")
async def test_one_poisoned_fact_of_a_thousand_holds_up_no_other_and_is_seen_as_a_dead_letter(
    servers: EmbeddedServers, sayer: Database[Ledger], hearer: Database[Ledger]
) -> None:
    facts = [StudyReceived(new_id(), 1) for _ in range(1000)]
    poisoned = facts[100]
    tries = 0

    async def apply(store: Ledger, fact: Fact, snapshot: None) -> None:
        nonlocal tries
        await store.write(fact)
        if fact == poisoned:
            tries += 1
            raise ValueError("Doe^John cannot be stored")

    async with a_hearer(servers, hearer, apply=apply):
        await say(sayer, *facts)
        told = await all_told(hearer, 999, within=30)
        assert poisoned.id not in told
        await nothing_left(servers)
        [letter] = await letters(hearer)
    assert tries == letter["failures"] == MAX_FAILURES
    assert letter["died_at"] is not None
    assert (letter["consumer"], letter["subject"]) == ("hearer", "study.received.v1")
    assert letter["error"] == "builtins.ValueError"
    assert str(poisoned.id) in letter["payload"]
    assert "Doe" not in letter["sentence"], "what the error quotes may be patient data"


async def test_a_fact_that_fails_for_a_while_is_applied_and_leaves_no_letter(
    servers: EmbeddedServers, sayer: Database[Ledger], hearer: Database[Ledger]
) -> None:
    tries = 0

    async def apply(store: Ledger, fact: Fact, snapshot: None) -> None:
        nonlocal tries
        tries += 1
        if tries < MAX_FAILURES:
            assert len(await store.letters()) == (1 if tries > 2 else 0)
            raise ZeroDivisionError
        await store.write(fact)

    async with a_hearer(servers, hearer, apply=apply):
        await say(sayer, StudyReceived(new_id(), 1))
        await all_told(hearer, 1)
    assert await letters(hearer) == []


async def test_of_what_does_not_concern_the_hearer_nothing_is_noted_but_that_a_failure_is_over(
    servers: EmbeddedServers, sayer: Database[Ledger], hearer: Database[Ledger]
) -> None:
    fails_once, *others = [StudyReceived(new_id(), 1) for _ in range(20)]
    asked: list[Fact] = []

    async def fetch(fact: Fact) -> None:
        asked.append(fact)
        if fact == fails_once and asked.count(fact) == 1:
            raise ZeroDivisionError

    async def apply(store: Ledger, fact: Fact, snapshot: None) -> None:
        assert fact == fails_once
        assert await store.letters() == []

    async with a_hearer(servers, hearer, fetch=fetch, apply=apply, concerns=lambda _nothing: False):
        await say(sayer, fails_once, *others)
        await eventually(lambda: len(asked) == len(others) + 2, 10)
        await nothing_left(servers)
    assert await letters(hearer) == []
    async with hearer.statements() as statements:
        assert await statements.noted() == 1


async def test_a_fact_waits_for_its_owner_however_often_he_does_not_answer(
    servers: EmbeddedServers, sayer: Database[Ledger], hearer: Database[Ledger]
) -> None:
    tries = 0

    async def fetch(fact: Fact) -> None:
        nonlocal tries
        tries += 1
        if tries <= MAX_FAILURES + 1:
            raise Unavailable("ingest does not answer")

    async with a_hearer(servers, hearer, fetch=fetch):
        await say(sayer, StudyReceived(new_id(), 1))
        await all_told(hearer, 1, within=20)
    assert tries == MAX_FAILURES + 2
    assert await letters(hearer) == []


@pytest.mark.parametrize(
    ("data", "event_id"),
    [
        (b"\xff\x00{", str(UUID(int=1))),
        (b'{"id":"no id","version":1}', str(UUID(int=1))),
        (b'{"version":1}', str(UUID(int=1))),
        (b'{"id":"00000000-0000-0000-0000-000000000001","version":1}', "no id"),
    ],
)
async def test_an_unreadable_fact_is_a_dead_letter_at_once(
    servers: EmbeddedServers, hearer: Database[Ledger], data: bytes, event_id: str
) -> None:
    await publish(servers, data, event_id)
    await publish(servers, b'{"id":"00000000-0000-0000-0000-000000000002","version":1}', str(UUID(int=2)))
    async with a_hearer(servers, hearer):
        assert set(await all_told(hearer, 1)) == {UUID(int=2)}
        await nothing_left(servers)
        [letter] = await letters(hearer)
    assert letter["failures"] == 1
    assert letter["died_at"] is not None


async def test_a_fact_with_a_field_of_a_newer_form_is_understood(
    servers: EmbeddedServers, hearer: Database[Ledger]
) -> None:
    data = b'{"id":"00000000-0000-0000-0000-000000000001","version":1,"more":{}}'
    await publish(servers, data, str(new_id()))
    async with a_hearer(servers, hearer):
        assert await all_told(hearer, 1) == {UUID(int=1): (1, 1)}


async def test_the_trace_of_the_cause_reaches_the_effect(
    servers: EmbeddedServers, sayer: Database[Ledger], hearer: Database[Ledger]
) -> None:
    heard_in: list[str] = []

    async def apply(store: Ledger, fact: Fact, snapshot: None) -> None:
        heard_in.append(telemetry.inject()["traceparent"])

    telemetry.configure("test", None)
    async with a_hearer(servers, hearer, apply=apply):
        with telemetry.span("cause") as cause:
            await say(sayer, StudyReceived(new_id(), 1))
        await eventually(lambda: heard_in)
    assert cause.request_id in heard_in[0]


async def test_a_service_that_stops_hands_back_what_it_was_working_on(
    servers: EmbeddedServers, sayer: Database[Ledger], hearer: Database[Ledger]
) -> None:
    begun = asyncio.Event()

    async def fetch(fact: Fact) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with a_hearer(servers, hearer, fetch=fetch):
        await say(sayer, StudyReceived(new_id(), 1))
        await begun.wait()
    async with a_hearer(servers, hearer):
        await all_told(hearer, 1, within=ACK_WAIT_S * 0.8)


@pytest.mark.parametrize("rounds", [range(0, 30, 3), pytest.param(range(30), marks=pytest.mark.drill)])
async def test_services_that_stop_while_facts_flow_end_in_time(
    servers: EmbeddedServers, hearer: Database[Ledger], rounds: range
) -> None:
    async def chat() -> None:
        while True:
            await say(hearer, *(StudyReceived(new_id(), 1) for _ in range(5)))

    async with running(chat):
        for round_ in rounds:
            async with (
                asyncio.timeout(10),
                a_bus(servers) as bus,
                a_hearer(servers, hearer),
                running(Relay(hearer, bus, CLOCK).run),
            ):
                await asyncio.sleep(round_ / 100)  # so that it ends at some point of its work


@pytest.mark.drill
@pytest.mark.proves("R3", part="NATS, between say and hear")
async def test_nats_killed_in_the_middle_loses_nothing_and_nothing_happens_twice(
    servers: EmbeddedServers, sayer: Database[Ledger], hearer: Database[Ledger]
) -> None:
    facts = [StudyReceived(new_id(), 1) for _ in range(2000)]
    async with a_hearer(servers, hearer):
        for batch in range(4):
            await say(sayer, *facts[batch * 500 : batch * 500 + 500])
            await all_told(hearer, batch * 500 + 100, within=30)
            await asyncio.to_thread(servers.nats.kill)
            await asyncio.to_thread(servers.nats.start)
        assert await all_told(hearer, 2000, within=60) == {fact.id: (1, 1) for fact in facts}
        await nothing_left(servers, within=30)


@pytest.mark.proves("R3", part="PostgreSQL, between say and hear")
async def test_postgresql_killed_in_the_middle_loses_nothing_and_nothing_happens_twice(
    servers: EmbeddedServers, sayer: Database[Ledger], hearer: Database[Ledger]
) -> None:
    facts = [StudyReceived(new_id(), 1) for _ in range(1000)]
    async with a_hearer(servers, hearer):
        await say(sayer, *facts)
        for count in (100, 400):
            await all_told(hearer, count, within=30)
            await asyncio.to_thread(servers.postgres.kill)
            await asyncio.to_thread(servers.postgres.start)
            await eventually(hearer.ready, within=30)
        assert await all_told(hearer, 1000, within=60) == {fact.id: (1, 1) for fact in facts}
        assert await letters(hearer) == []


async def test_a_service_may_start_before_nats_and_have_its_consumer_lost(
    servers: EmbeddedServers,
    sayer: Database[Ledger],
    hearer: Database[Ledger],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "plumbing.bus._ANSWER_S", 0.5
    )  # each connection waits as long for a NATS that is away
    monkeypatch.setattr("plumbing.busowner.LOOK_INTERVAL_S", 0.5)
    await asyncio.to_thread(servers.nats.stop)
    async with (
        a_bus(servers) as bus,
        a_hearer(servers, hearer),
        running(partial(keep_up, servers.nats.setup_url, HEARERS)),
    ):
        assert not await answers(bus)
        await say(sayer, StudyReceived(new_id(), 1))
        await asyncio.to_thread(servers.nats.start)
        await eventually(lambda: answers(bus))
        await all_told(hearer, 1)
        async with a_client(servers) as client:
            await client.jetstream().delete_consumer(STREAM, "hearer")
        await say(sayer, StudyReceived(new_id(), 1))
        await all_told(hearer, 2)


async def test_a_nats_that_acknowledges_before_it_syncs_is_given_no_work(
    servers: EmbeddedServers, tmp_path: Path
) -> None:
    settings = (servers.data_dir / "nats" / "nats.conf").read_text()
    assert "sync_interval: always" in settings
    lazy = settings.replace(", sync_interval: always", "").replace(
        str(servers.data_dir / "nats"), str(tmp_path)
    )
    (tmp_path / "nats.conf").write_text(lazy)
    servers.nats.stop()
    process = subprocess.Popen(  # noqa: ASYNC220
        [binaries.locate("nats-server", os.environ), "-c", str(tmp_path / "nats.conf")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    bus = Bus(servers.nats_url, "test")

    async def hears() -> None:
        async with bus.pulling("test"):
            raise AssertionError("it pulls")

    try:
        await eventually(bus.works)  # connected; nobody has looked yet
        for work in (
            bus.stream_created_at,
            partial(bus.publish, "study.received", b"{}", new_id(), {}),
            hears,
        ):
            with pytest.raises(Unavailable, match="acknowledges before it syncs"):
                await work()
            assert not await bus.works()
        assert REGISTRY.get_sample_value("readroom_bus_syncs_late") == 1
    finally:
        process.terminate()
        process.wait()
        servers.nats.start()
    await eventually(lambda: answers(bus))  # what was seen counts for one connection
    assert await bus.works()
    assert REGISTRY.get_sample_value("readroom_bus_syncs_late") == 0
    await bus.close()
