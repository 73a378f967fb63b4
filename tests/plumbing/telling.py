"""What the tests of database, outbox and bus share: databases with the plumbing tables only, a service that
says and one that hears."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from uuid import UUID

import asyncpg
import nats
from nats.js.errors import NotFoundError

from kernel.clock import Clock, MonotonicClock
from kernel.events import Fact, StudyChanged, StudyReceived
from kernel.ids import UUID7
from local.embedded import EmbeddedServers
from local.embedded.postgres import SUPERUSER
from plumbing.bus import Bus
from plumbing.busowner import set_up_once
from plumbing.db import Database, Transaction
from plumbing.hearing import Consumer, Hearing
from plumbing.migrating import migrate
from plumbing.outbox import Relay
from plumbing.stream import STREAM

MIGRATIONS = Path(__file__).parents[2] / "plumbing" / "migrations"
CLOCK = MonotonicClock()
new_id = UUID7(CLOCK)
_numbers = itertools.count(1)


def empty_database(servers: EmbeddedServers) -> str:
    """The address of a new database with nothing in it."""
    name = f"telling_{next(_numbers)}"
    servers.postgres.execute(f"create database {name}")
    return servers.postgres.url(name, SUPERUSER, servers.postgres.password)


class Ledger(Transaction):
    """A store that keeps the newest version of what it heard of, and how often it was told."""

    async def prepare(self) -> None:
        await self.connection.execute(
            "create table if not exists ledger (id uuid primary key, version int not null, told int not null)"
        )

    async def write(self, fact: Fact) -> None:
        await self.connection.execute(
            """
            insert into ledger (id, version, told) values ($1, $2, 1)
            on conflict (id) do update
                set version = greatest(ledger.version, excluded.version), told = ledger.told + 1
            """,
            fact.id,
            fact.version,
        )

    async def ledger(self) -> dict[UUID, tuple[int, int]]:
        """Version and number of tellings of each id."""
        rows = await self.connection.fetch("select id, version, told from ledger")
        return {row["id"]: (row["version"], row["told"]) for row in rows}

    async def letters(self) -> list[asyncpg.Record]:
        """The dead letters."""
        return await self.connection.fetch("select * from dead_letters order by event_id")

    async def noted(self) -> int:
        """How many facts are noted as heard."""
        return int(await self.connection.fetchval("select count(*) from heard"))

    async def unpublished(self) -> int:
        """How many facts wait in the outbox."""
        return int(await self.connection.fetchval("select count(*) from outbox where published_at is null"))


@asynccontextmanager
async def a_database(
    servers: EmbeddedServers, *, pool_size: int = 8, clock: Clock = CLOCK
) -> AsyncIterator[Database[Ledger]]:
    """A migrated database of its own."""
    url = empty_database(servers)
    await migrate(url, [MIGRATIONS])
    database = await Database.connect(url, Ledger, clock=clock, new_id=new_id, pool_size=pool_size)
    try:
        async with database.statements() as statements:
            await statements.prepare()
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def a_bus(servers: EmbeddedServers) -> AsyncIterator[Bus]:
    bus = await Bus.connect(servers.nats_url, "test")
    try:
        yield bus
    finally:
        await bus.close()


@asynccontextmanager
async def running(work: Callable[[], Awaitable[None]]) -> AsyncIterator[asyncio.Task[None]]:
    """A task for the length of the block; it must not end by itself."""
    task = asyncio.ensure_future(work())
    try:
        yield task
        if task.done():
            task.result()
            raise AssertionError("the task ended by itself")
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def a_sayer(servers: EmbeddedServers, clock: Clock = CLOCK) -> AsyncIterator[Database[Ledger]]:
    """A database whose outbox is published."""
    async with (
        a_database(servers, clock=clock) as database,
        a_bus(servers) as bus,
        running(Relay(database, bus, clock).run),
    ):
        yield database


async def no_snapshot(fact: Fact) -> None:
    """Asks nobody."""


async def write(ledger: Ledger, fact: Fact, snapshot: None) -> None:
    await ledger.write(fact)


@asynccontextmanager
async def a_hearer(
    servers: EmbeddedServers,
    database: Database[Ledger],
    name: str = "hearer",
    *,
    fetch: Callable[[Fact], Awaitable[None]] = no_snapshot,
    apply: Callable[[Ledger, Fact, None], Awaitable[None]] = write,
    concerns: Callable[[None], bool] = lambda _nothing: True,
) -> AsyncIterator[Consumer[Ledger]]:
    """A service that hears of studies."""
    hearings = [Hearing(kind, fetch, apply, concerns=concerns) for kind in (StudyReceived, StudyChanged)]
    async with a_bus(servers) as bus:
        consumer = Consumer(bus, database, name, hearings, CLOCK, first_delay_s=0.002)
        async with running(consumer.run):
            yield consumer


async def say(database: Database[Ledger], *facts: Fact) -> None:
    async with database.transaction() as transaction:
        await transaction.say(*facts)


HEARERS = dict.fromkeys(("hearer", "other", "late"), (StudyReceived, StudyChanged))
"""The services of these tests, and what they hear."""


async def an_empty_stream(
    servers: EmbeddedServers, hears: Mapping[str, Sequence[type[Fact]]] = HEARERS
) -> None:
    """Makes the stream anew: with new consumers, and without memory of event ids."""
    await forget_stream(servers)
    await set_up_once(servers.nats.setup_url, hears)


async def forget_stream(servers: EmbeddedServers) -> None:
    """Deletes the stream, with its consumers and what it remembers of event ids."""
    client = await nats.connect(servers.nats_url)
    with suppress(NotFoundError):
        await client.jetstream().delete_stream(STREAM)
    await client.close()


async def ledger(database: Database[Ledger]) -> dict[UUID, tuple[int, int]]:
    async with database.statements() as statements:
        return await statements.ledger()


async def letters(database: Database[Ledger]) -> list[asyncpg.Record]:
    async with database.statements() as statements:
        return await statements.letters()


async def unpublished(database: Database[Ledger]) -> int:
    async with database.statements() as statements:
        return await statements.unpublished()
