"""The whole way of a fact, whatever comes in between: said, published, heard, applied, acknowledged.

A service owns things with versions and says each change; another hears, asks for the snapshot, and writes
what is newer. Both die at any boundary of their databases, so also between a commit and the acknowledgement
that follows it: their connection to NATS is cut, nothing more is said on it, and they are started again.
Facts come late, twice, after newer ones, about things that never were; consumers are lost, owners do not
answer.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
import nats
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from nats.aio.client import Client

from kernel.errors import Unavailable
from kernel.events import Fact, StudyChanged
from local.embedded import EmbeddedServers
from plumbing.bus import Bus
from plumbing.busowner import set_up_once
from plumbing.db import Database, Transaction
from plumbing.hearing import Consumer, Hearing
from plumbing.migrating import migrate
from plumbing.outbox import CLAIM_S, Relay
from plumbing.stream import STREAM
from tests.plumbing.telling import CLOCK, MIGRATIONS, an_empty_stream, empty_database, new_id
from tests.wait import eventually

HEARS = {"hearer": (StudyChanged,)}
THINGS = 3
ACK_WAIT_S = 0.5
"""NATS gives what a dead process had in work to the next after this; of a service it is 10 s."""


class Things(Transaction):
    """What the one service owns, and what the other has made of it."""

    async def prepare(self) -> None:
        await self.connection.execute(
            """
            create table things (id uuid primary key, version int not null);
            create table effects (id uuid not null, version int not null);
            """
        )

    async def change(self, thing: UUID) -> int:
        version: int = await self.connection.fetchval(
            """
            insert into things values ($1, 1)
            on conflict (id) do update set version = things.version + 1 returning version
            """,
            thing,
        )
        return version

    async def write(self, fact: Fact, version: int | None) -> None:
        """Writes the snapshot, if it is newer, and notes that there was an effect."""
        if version is not None:
            await self.connection.execute(
                """
                insert into things values ($1, $2) on conflict (id) do update
                    set version = excluded.version where things.version < excluded.version
                """,
                fact.id,
                version,
            )
        await self.connection.execute("insert into effects values ($1, $2)", fact.id, fact.version)

    async def rows(self, statement: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await self.connection.fetch(statement)]


class Mortal(Database[Things]):
    """A database whose process dies at a boundary: before a connection is taken, or after it is given back.

    A transaction is committed before its connection is given back, and what follows from it comes later.
    """

    due: list[int]
    """For each death that is to come, how many boundaries are passed before it."""
    die: Callable[[], None]
    is_dead: bool = False
    died_after_a_commit: int = 0

    @asynccontextmanager
    async def statements(self) -> AsyncIterator[Things]:
        self._boundary(0)
        async with super().statements() as statements:
            yield statements
        self._boundary(1)

    def _boundary(self, after: int) -> None:
        if self.due and not self.is_dead:
            self.due[0] -= 1
            if self.due[0] < 0:
                self.due.pop(0)
                self.died_after_a_commit += after
                self.is_dead = True
                self.die()
        if self.is_dead:  # also for a worker whose cancellation nats-py has swallowed (`pull.py`)
            raise asyncio.CancelledError


class Line:
    """The way to NATS, which can be cut: then nothing more goes through, in either direction."""

    def __init__(self, url: str) -> None:
        self._to = urlsplit(url)
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        user = self._to.netloc.rpartition("@")[0]
        return self._to._replace(netloc=f"{user}@127.0.0.1:{port}" if user else f"127.0.0.1:{port}").geturl()

    def cut(self) -> None:
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()

    async def stop(self) -> None:
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    async def _connect(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        far, forth = await asyncio.open_connection(self._to.hostname, self._to.port)
        self._open |= {back, forth}
        await asyncio.gather(self._pump(near, forth), self._pump(far, back))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


@dataclass
class Process:
    """What runs on a database and a line, and is started again when it dies."""

    name: str
    line: Line
    database: Mortal
    start: Callable[[Bus], Awaitable[None]]
    deaths: int = 0

    async def live(self) -> None:
        url = await self.line.start()
        try:
            while True:
                self.database.is_dead = False
                life = asyncio.ensure_future(self._one_life(url))
                self.database.die = partial(self._die, life)
                try:
                    await asyncio.wait([life])
                finally:
                    life.cancel()
                    with suppress(asyncio.CancelledError):
                        await life
                self.deaths += 1
        finally:
            await self.line.stop()

    def _die(self, life: asyncio.Future[None]) -> None:
        self.line.cut()
        life.cancel()

    async def _one_life(self, url: str) -> None:
        bus = await Bus.connect(url, self.name)
        try:
            await self.start(bus)
        finally:
            await bus.close()


@dataclass
class World:
    """The two services, with what they should have said and heard, of all examples so far.

    NATS may give a fact to the hearer twice, and count it as settled when one of the two is. So when it is
    quiet there may be a copy in work yet, and in the next example too it finds what the first has written.
    """

    servers: EmbeddedServers
    owner: Database[Things]
    ledger: Database[Things]
    relay: Process
    hearer: Process
    client: Client
    things: list[UUID] = field(default_factory=list)
    said: Counter[tuple[UUID, int]] = field(default_factory=Counter)
    late: set[UUID] = field(default_factory=set)
    failures: list[Exception] = field(default_factory=list)
    at_work: set[UUID] = field(default_factory=set)
    overlapped: bool = False

    # What happens

    async def change(self, number: int, times: int) -> None:
        """Each change is a transaction; what it says is published after it."""
        thing = self.things[number]
        for _ in range(times):
            async with self.owner.transaction() as transaction:
                version = await transaction.change(thing)
                await transaction.say(StudyChanged(thing, version))
            self.said[thing, version] += 1

    async def roll_back(self, number: int, times: int) -> None:
        thing = self.things[number]
        with suppress(ZeroDivisionError):
            async with self.owner.transaction() as transaction:
                for _ in range(times):
                    await transaction.say(StudyChanged(thing, await transaction.change(thing)))
                raise ZeroDivisionError

    async def say_late(self, number: int, version: int) -> None:
        """Somebody says something old again, or something that never was."""
        event_id, fact = new_id(), StudyChanged(self.things[number], version)
        headers = {"Nats-Msg-Id": str(event_id)}
        await self.client.jetstream().publish(fact.subject, msgspec.json.encode(fact), headers=headers)
        self.said[fact.id, version] += 1
        self.late.add(event_id)

    async def fail(self, number: int, _: int) -> None:
        """The next question fails: the owner is away, or the answer is not understood."""
        self.failures.append([Unavailable("away"), KeyError("not understood"), Unavailable("away")][number])

    async def kill_hearer(self, _: int, boundaries: int) -> None:
        self.hearer.database.due.append(boundaries - 1)

    async def kill_relay(self, _: int, boundaries: int) -> None:
        self.relay.database.due.append(boundaries - 1)

    async def lose_the_consumer(self, _: int, __: int) -> None:
        """The next one is given everything again."""
        with suppress(nats.js.errors.NotFoundError):
            await self.client.jetstream().delete_consumer(STREAM, "hearer")
        await self.set_up()

    # What is asked, and in between

    async def fetch(self, fact: Fact) -> int | None:
        self.overlapped |= fact.id in self.at_work
        self.at_work.add(fact.id)
        try:
            if self.failures:
                raise self.failures.pop()
            async with self.owner.statements() as statements:
                version: int | None = await statements.connection.fetchval(
                    "select version from things where id = $1", fact.id
                )
            return version
        finally:
            self.at_work.discard(fact.id)

    async def set_up(self) -> None:
        await set_up_once(self.servers.nats.setup_url, HEARS)
        stream = self.client.jetstream()
        config = (await stream.consumer_info(STREAM, "hearer")).config
        config.ack_wait = ACK_WAIT_S
        await stream.add_consumer(STREAM, config)

    async def begin(self) -> None:
        self.things = [new_id() for _ in range(THINGS)]
        self.failures.clear()
        await self.client.jetstream().purge_stream(STREAM)

    async def play(self, steps: Sequence[tuple[str, int, int]]) -> None:
        await self.begin()
        for verb, number, times in steps:
            await getattr(self, verb)(number, times)
        await eventually(self.is_quiet, within=60)
        self.relay.database.due.clear()
        self.hearer.database.due.clear()
        await self.check()

    async def is_quiet(self) -> bool:
        async with self.owner.statements() as statements:
            # A relay that died has claimed rows: the time that the claim lasts passes.
            waiting = await statements.rows(
                f"""
                update outbox set claimed_until = claimed_until - interval '{CLAIM_S} s'
                where published_at is null and id in (
                    select id from outbox where published_at is null and claimed_until is not null
                ) returning 1
                """
            )
            waiting += await statements.rows("select 1 from outbox where published_at is null")
        # A message is acknowledged to who published it a moment before it counts as pending.
        last = (await self.client.jetstream().stream_info(STREAM)).state.last_seq
        consumer = await self.client.jetstream().consumer_info(STREAM, "hearer")
        waiting_there = (consumer.num_pending, consumer.num_ack_pending)
        return not waiting and waiting_there == (0, 0) and consumer.delivered.stream_seq >= last

    async def check(self) -> None:
        async with self.owner.statements() as statements:
            own = await statements.rows("select id, version from things order by id")
            event_ids = {row[0] for row in await statements.rows("select event_id from outbox")}
        async with self.ledger.statements() as statements:
            known = await statements.rows("select id, version from things order by id")
            effects = Counter(await statements.rows("select id, version from effects"))
            heard = Counter(row[0] for row in await statements.rows("select event_id from heard"))
            letters = await statements.rows("select event_id from dead_letters where failures > 0")
        assert own == known, "each thing is known as its owner has it, and no other"
        lost, unsaid = (event_ids | self.late) - heard.keys(), heard.keys() - event_ids - self.late
        assert (lost, unsaid) == (set(), set()), "each fact is heard, and no other"
        assert set(heard.values()) <= {1}, "and once"
        assert effects - self.said == Counter(), "no fact has two effects, and none has one that was not said"
        newest = {thing: max(v for each, v in self.said if each == thing) for thing, _ in self.said}
        assert all(effects[each] for each in newest.items()), "the newest fact about a thing has its effect"
        assert [] == letters
        assert not self.overlapped, "facts about one thing were in work side by side"


@asynccontextmanager
async def a_world(servers: EmbeddedServers) -> AsyncIterator[World]:
    async with AsyncExitStack() as resources:

        async def database(url: str) -> Any:
            made: Any = await Mortal.connect(url, Things, clock=CLOCK, new_id=new_id)
            made.due = []
            resources.push_async_callback(made.close)
            return made

        urls = [empty_database(servers) for _ in range(2)]
        for url in urls:
            await migrate(url, [MIGRATIONS])
        owner, said = [await database(urls[0]) for _ in range(2)]
        ledger, hears = [await database(urls[1]) for _ in range(2)]
        said.spoke = owner.spoke  # the commit wakes the relay, as in one process
        for each in (owner, ledger):
            async with each.statements() as statements:
                await statements.prepare()
        client = await nats.connect(servers.nats_url)
        resources.push_async_callback(client.close)

        async def hear(bus: Bus) -> None:
            hearing = Hearing(StudyChanged, world.fetch, Things.write)
            await Consumer(bus, hears, "hearer", [hearing], CLOCK, first_delay_s=0.002).run()

        def relay(bus: Bus) -> Awaitable[None]:
            return Relay(said, bus, CLOCK).run()

        lines = [Line(servers.nats_url) for _ in range(2)]
        world = World(
            servers,
            owner,
            ledger,
            Process("ingest", lines[0], said, relay),
            Process("hearer", lines[1], hears, hear),
            client,
        )
        await an_empty_stream(servers, HEARS)
        await world.set_up()
        for process in (world.relay, world.hearer):
            living = asyncio.ensure_future(process.live())

            async def end(living: asyncio.Future[None] = living) -> None:
                living.cancel()
                with suppress(asyncio.CancelledError):
                    await living

            resources.push_async_callback(end)
        yield world


def steps() -> st.SearchStrategy[list[tuple[str, int, int]]]:
    often = ["change"] * 4 + ["kill_hearer"] * 2
    seldom = ["roll_back", "say_late", "fail", "kill_relay", "lose_the_consumer"]
    step = st.tuples(st.sampled_from(often + seldom), st.integers(0, THINGS - 1), st.integers(1, 4))
    return st.lists(step, min_size=8, max_size=30)


@pytest.mark.proves("R3", part="a service between commit and acknowledgement")
@pytest.mark.parametrize("examples", [6, pytest.param(100, marks=pytest.mark.drill)])
def test_whatever_happens_each_fact_has_its_effect_once(own_servers: EmbeddedServers, examples: int) -> None:
    with asyncio.Runner() as runner:
        context = a_world(own_servers)
        world = runner.run(context.__aenter__())

        @settings(
            max_examples=examples,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(steps())
        def plays(drawn: list[tuple[str, int, int]]) -> None:
            runner.run(world.play(drawn))

        try:
            plays()
        finally:
            runner.run(context.__aexit__(None, None, None))
        assert world.hearer.database.died_after_a_commit > 0, "and before it acknowledged that"
