"""Dead letters: what could not be applied is seen, applied once its cause is mended, or dropped."""

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import asyncpg
import nats
import pytest
from nats.aio.client import Client

from kernel.clock import OffsetClock
from kernel.errors import Conflict, Invalid, Unavailable
from kernel.events import Fact, StudyReceived
from local.embedded import EmbeddedServers
from plumbing import callers
from plumbing.audit import AuditEntry
from plumbing.busowner import set_up_once
from plumbing.db import Database
from plumbing.deadletters import KEPT_FOR, DeadLetter
from plumbing.hearing import Consumer
from plumbing.replaying import DeadLettersApi
from plumbing.stream import STREAM
from tests.plumbing.telling import (
    CLOCK,
    HEARERS,
    Ledger,
    a_database,
    a_hearer,
    a_sayer,
    an_empty_stream,
    ledger,
    new_id,
    say,
)
from tests.wait import eventually
from wire.letters.v1.letters_pb2 import ReplayRequest

ENTRY = AuditEntry("support", "dead_letter.replayed", "dead_letter:1", "done")


class Owner:
    """Whom the hearer asks; answers as the test says, and remembers who asked."""

    def __init__(self) -> None:
        self.error: Exception | None = Invalid("the study has no placement")
        self.asked_by: list[callers.Caller | None] = []

    async def fetch(self, fact: Fact) -> None:
        self.asked_by.append(callers.current.get(None))
        if self.error:
            raise self.error


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
    async with a_database(servers) as database:
        yield database


@pytest.fixture
def owner() -> Owner:
    return Owner()


@pytest.fixture
async def consumer(
    servers: EmbeddedServers, hearer: Database[Ledger], owner: Owner
) -> AsyncIterator[Consumer[Ledger]]:
    async with a_hearer(servers, hearer, fetch=owner.fetch) as hears:
        yield hears


async def dead(consumer: Consumer[Ledger], count: int = 1) -> list[DeadLetter]:
    async def are_dead() -> list[DeadLetter]:
        found = list(await consumer.letters.list_dead_letters(None, 100))
        assert len(found) == count
        assert all(each.died_at for each in found)
        return found

    return await eventually(are_dead)


async def comes_again(servers: EmbeddedServers) -> None:
    """The bus gives everything once more, and hears what became of it."""
    client: Client = await nats.connect(servers.nats_url)
    try:
        await client.jetstream().delete_consumer(STREAM, "hearer")
        await set_up_once(servers.nats.setup_url, HEARERS)

        async def all_heard() -> bool:
            info = await client.jetstream().consumer_info(STREAM, "hearer")
            return (info.num_pending, info.num_ack_pending) == (0, 0)

        await eventually(all_heard)
    finally:
        await client.close()


async def audited(database: Database[Ledger]) -> list[asyncpg.Record]:
    async with database.statements() as statements:
        return await statements.connection.fetch("select actor, action, outcome from audit_rows")


async def test_a_fact_whose_cause_is_mended_is_applied_once_and_leaves_no_letter(
    servers: EmbeddedServers,
    sayer: Database[Ledger],
    hearer: Database[Ledger],
    consumer: Consumer[Ledger],
    owner: Owner,
) -> None:
    fact = StudyReceived(new_id(), 1)
    await say(sayer, fact)
    [letter] = await dead(consumer)
    assert letter.sentence == "the study has no placement"

    owner.error = None
    await consumer.replay(letter, ENTRY)
    assert await ledger(hearer) == {fact.id: (1, 1)}
    assert not await consumer.letters.list_dead_letters(None, 100)
    assert [tuple(row) for row in await audited(hearer)] == [("support", "dead_letter.replayed", "done")]
    await comes_again(servers)
    assert await ledger(hearer) == {fact.id: (1, 1)}


async def test_a_fact_that_fails_again_says_why_and_stays(
    sayer: Database[Ledger], hearer: Database[Ledger], consumer: Consumer[Ledger], owner: Owner
) -> None:
    await say(sayer, StudyReceived(new_id(), 1))
    [letter] = await dead(consumer)
    for error, word, sentence in (
        (Invalid("still none"), Conflict, "the fact failed again: still none"),
        (ValueError("Doe^John"), Conflict, "the fact failed again: an unexpected error, see its log"),
        (Unavailable("routing does not answer"), Unavailable, "routing does not answer"),
    ):
        owner.error = error
        with pytest.raises(word) as failure:
            await consumer.replay(letter, ENTRY)
        assert failure.value.sentence == sentence
    [stays] = await dead(consumer)
    assert stays.failures == letter.failures + 2, "an owner who does not answer is no failure of the fact"
    assert not await ledger(hearer)
    assert not await audited(hearer)


async def test_what_is_no_fact_can_only_be_dropped(
    servers: EmbeddedServers, consumer: Consumer[Ledger], hearer: Database[Ledger]
) -> None:
    client: Client = await nats.connect(servers.nats_url)
    headers = {"Nats-Msg-Id": str(new_id())}
    await client.jetstream().publish("study.received.v1", b"nonsense", headers=headers)
    await client.close()
    [letter] = await dead(consumer)
    with pytest.raises(Conflict, match="cannot be read"):
        await consumer.replay(letter, ENTRY)
    await consumer.letters.drop(letter, ENTRY)
    assert not await consumer.letters.list_dead_letters(None, 100)


async def test_a_fact_that_was_dropped_is_not_tried_when_it_comes_again(
    servers: EmbeddedServers,
    sayer: Database[Ledger],
    hearer: Database[Ledger],
    consumer: Consumer[Ledger],
    owner: Owner,
) -> None:
    await say(sayer, StudyReceived(new_id(), 1))
    [letter] = await dead(consumer)
    await consumer.letters.drop(letter, ENTRY)
    owner.error = None
    await comes_again(servers)
    assert not await ledger(hearer)
    assert not await consumer.letters.list_dead_letters(None, 100)


async def test_a_replay_asks_the_owner_as_the_service_and_takes_no_token_of_the_operator_along(
    sayer: Database[Ledger], hearer: Database[Ledger], consumer: Consumer[Ledger], owner: Owner
) -> None:
    async def holds(permission: str) -> bool:
        return permission == "operator"

    await say(sayer, StudyReceived(new_id(), 1))
    [letter] = await dead(consumer)
    owner.error = None
    kept = callers.current.set(callers.Caller("bff", "support", "session", "token"))
    try:
        request = ReplayRequest(event_id=str(letter.event_id))
        await DeadLettersApi(consumer, holds).Replay(request, None)
    finally:
        callers.current.reset(kept)
    assert owner.asked_by[-1] == callers.Caller("hearer")
    assert [tuple(row) for row in await audited(hearer)] == [("support", "dead_letter.replayed", "done")]


async def test_letters_are_listed_newest_first_by_page(
    sayer: Database[Ledger], consumer: Consumer[Ledger]
) -> None:
    await say(sayer, *(StudyReceived(new_id(), 1) for _ in range(5)))
    everything = await dead(consumer, 5)
    assert everything == sorted(everything, key=lambda each: (each.first_failed_at, each.event_id))[::-1]
    first = await consumer.letters.list_dead_letters(None, 2)
    rest = await consumer.letters.list_dead_letters(first[-1].position, 100)
    assert [*first, *rest] == everything


async def test_a_letter_is_forgotten_after_90_days(servers: EmbeddedServers) -> None:
    age = timedelta()
    async with a_database(servers, clock=OffsetClock(CLOCK, lambda: age)) as database:
        letters = Consumer(None, database, "hearer", [], CLOCK).letters  # type: ignore[arg-type]
        old, young = UUID(int=1), UUID(int=2)
        await letters.fail(old, "study.received.v1", "{}", ValueError(), max_failures=1)
        age = timedelta(days=1)
        await letters.fail(young, "study.received.v1", "{}", ValueError(), max_failures=1)
        age = KEPT_FOR + timedelta(seconds=1)
        await letters.prune()
        assert [each.event_id for each in await letters.list_dead_letters(None, 100)] == [young]
