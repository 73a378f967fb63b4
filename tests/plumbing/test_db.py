"""The database: transactions that tell and audit, time limits."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import asyncpg
import msgspec
import pytest

from kernel.errors import Unavailable
from kernel.events import StudyChanged, StudyReceived
from local.embedded import EmbeddedServers
from plumbing.audit import AuditEntry
from plumbing.db import WAITERS_PER_CONNECTION, Database, Transaction
from plumbing.migrating import migrate
from tests.plumbing.telling import CLOCK, Ledger, a_database, empty_database, new_id
from tests.wait import eventually


@pytest.fixture
async def database(servers: EmbeddedServers) -> AsyncIterator[Database[Ledger]]:
    async with a_database(servers) as made:
        yield made


@pytest.fixture(scope="module")
def own_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServers]:
    """Only PostgreSQL runs, and a test may do with it what it likes."""
    made = EmbeddedServers(tmp_path_factory.mktemp("servers") / "data", [], durable=False)
    made.open()
    made.postgres.start()
    yield made
    made.stop()
    made.remove()


async def rows(database: Database[Ledger], table: str) -> list[asyncpg.Record]:
    async with database.statements() as statements:
        return await statements.connection.fetch(f"table {table}")


async def test_what_is_said_stands_with_its_transaction_and_wakes_the_relay(
    database: Database[Ledger],
) -> None:
    study = new_id()
    async with database.transaction() as transaction:
        await transaction.say(StudyReceived(study, 1), StudyChanged(study, 2))
        assert not database.spoke.is_set()
    assert database.spoke.is_set()
    first, second = await rows(database, "outbox")
    assert (first["subject"], second["subject"]) == ("study.received.v1", "study.changed.v1")
    assert msgspec.json.decode(second["payload"], type=StudyChanged) == StudyChanged(study, 2)
    assert first["event_id"] != second["event_id"]
    assert first["said_at"] == transaction.now
    assert first["published_at"] is None


async def test_a_transaction_that_fails_leaves_nothing_and_says_nothing(database: Database[Ledger]) -> None:
    async def fail() -> None:
        async with database.transaction() as transaction:
            await transaction.write(StudyReceived(new_id(), 1))
            await transaction.say(StudyReceived(new_id(), 1))
            await transaction.audit(AuditEntry("alice", "case.distributed", "case:1", "done"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    for table in ("ledger", "outbox", "audit_rows"):
        assert await rows(database, table) == []
    assert not database.spoke.is_set()


async def test_a_fact_is_not_said_without_a_transaction(database: Database[Ledger]) -> None:
    async with database.statements() as statements:
        with pytest.raises(RuntimeError):
            await statements.say(StudyReceived(new_id(), 1))


async def test_an_audit_row_says_who_did_what_to_what(database: Database[Ledger]) -> None:
    async with database.transaction() as transaction:
        await transaction.audit(AuditEntry("alice", "case.distributed", "case:1", "refused", {"held": 2}))
    [row] = await rows(database, "audit_rows")
    assert (row["actor"], row["action"], row["object"], row["outcome"]) == (
        "alice",
        "case.distributed",
        "case:1",
        "refused",
    )
    assert msgspec.json.decode(row["detail"]) == {"held": 2}
    assert row["at"] == transaction.now


async def test_a_fact_is_heard_for_the_first_time_once_by_each_consumer(database: Database[Ledger]) -> None:
    event = new_id()
    async with database.transaction() as transaction:
        assert await transaction.heard("routing", event)
        assert not await transaction.heard("routing", event)
        assert await transaction.heard("access", event)


async def test_a_broken_constraint_passes_as_it_is(database: Database[Ledger]) -> None:
    study = new_id()

    async def insert_twice() -> None:
        async with database.transaction() as transaction:
            for _ in range(2):
                await transaction.connection.execute("insert into ledger values ($1, 1, 1)", study)

    with pytest.raises(asyncpg.UniqueViolationError):
        await insert_twice()
    assert await rows(database, "ledger") == []


async def sleep(database: Database[Ledger], seconds: int) -> None:
    async with database.transaction() as transaction:
        await transaction.connection.execute("select pg_sleep($1)", seconds)


async def asleep(database: Database[Ledger]) -> bool:
    """Whether PostgreSQL works on a sleep."""
    async with database.statements() as statements:
        return bool(
            await statements.connection.fetchval(
                """
                select count(*) from pg_stat_activity
                where query like 'select pg_sleep%' and state = 'active'
                """
            )
        )


async def test_a_cancelled_caller_gives_its_connection_back_and_its_statement_ends(
    servers: EmbeddedServers,
) -> None:
    async with a_database(servers, pool_size=2) as database:
        for _ in range(10):
            sleeper = asyncio.create_task(sleep(database, 60))
            await eventually(lambda: asleep(database))
            others = [asyncio.create_task(sleep(database, 60)) for _ in range(3)]
            await asyncio.sleep(0)
            for task in (sleeper, *others):
                task.cancel()
            results = await asyncio.gather(sleeper, *others, return_exceptions=True)
            assert {type(result) for result in results} == {asyncio.CancelledError}
            assert not await asleep(database)
        await asyncio.gather(*(sleep(database, 0) for _ in range(4)))


async def test_a_statement_that_takes_too_long_is_given_up_and_ends_in_postgresql(
    servers: EmbeddedServers,
) -> None:
    async with a_database(servers, pool_size=2) as database:
        with pytest.raises(Unavailable):
            await sleep(database, 60)

        async def nobody_sleeps() -> bool:
            return not await asleep(database)

        await eventually(nobody_sleeps)


async def test_a_connection_goes_to_whoever_waits_longest_and_is_not_lost_with_one_who_leaves(
    servers: EmbeddedServers,
) -> None:
    async with a_database(servers, pool_size=1) as database:
        served: list[str] = []

        async def ask(name: str) -> None:
            async with database.statements() as statements:
                served.append(name)
                await statements.connection.fetchval("select 1")
            if name == "first":
                waiting[2].cancel()  # the connection was just handed to it

        async with database.statements() as statements:
            await statements.connection.fetchval("select 1")
            waiting = [asyncio.create_task(ask(name)) for name in ("first", "leaves", "leaves late", "last")]
            await eventually(lambda: len(database._line) == 4)
            waiting[1].cancel()
        await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5)
        assert served == ["first", "last"]
        assert database._taken == 1


async def test_a_connection_that_is_lost_makes_room_for_whoever_waits(servers: EmbeddedServers) -> None:
    async with a_database(servers, pool_size=1) as database:

        async def ask() -> int:
            async with database.statements() as statements:
                return int(await statements.connection.fetchval("select 1"))

        async def lose() -> None:
            async with database.statements() as statements:
                waiting.append(asyncio.create_task(ask()))
                await eventually(lambda: bool(database._line))
                await statements.connection.execute("select pg_terminate_backend(pg_backend_pid())")

        waiting: list[asyncio.Task[int]] = []
        for _ in range(3):
            with pytest.raises(Unavailable):
                await lose()
        assert await asyncio.wait_for(asyncio.gather(*waiting), 5) == [1, 1, 1]
        assert database._taken == 1


async def test_too_many_callers_are_refused_at_once(servers: EmbeddedServers) -> None:
    async with a_database(servers, pool_size=1) as database:
        release = asyncio.Event()

        async def hold() -> None:
            async with database.statements():
                await release.wait()

        holding = asyncio.create_task(hold())
        await asyncio.sleep(0)
        waiting = [asyncio.create_task(hold()) for _ in range(WAITERS_PER_CONNECTION)]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="overloaded"):
            async with database.statements():
                pass
        release.set()
        await asyncio.gather(holding, *waiting)


@pytest.mark.proves("R8", part="the database pool")
async def test_a_frozen_database_is_unavailable_within_5_s_without_a_pile_up(
    own_servers: EmbeddedServers,
) -> None:
    async with a_database(own_servers) as database:
        longest = 0.0

        async def call() -> str:
            nonlocal longest
            begin = time.monotonic()
            try:
                async with database.transaction() as transaction:
                    await transaction.connection.fetchval("select 1")
                return "answered"
            except Unavailable:
                return "unavailable"
            finally:
                longest = max(longest, time.monotonic() - begin)

        assert {await call() for _ in range(3)} == {"answered"}
        tasks_before = len(asyncio.all_tasks())
        own_servers.postgres.freeze()
        try:
            for _ in range(3):  # with idle connections, with broken ones, with none
                answers = await asyncio.gather(*(call() for _ in range(500)))
                assert set(answers) == {"unavailable"}
            assert not await database.ready()
        finally:
            own_servers.postgres.thaw()
        assert longest < 5
        await eventually(database.ready, within=10)
        assert set(await asyncio.gather(*(call() for _ in range(100)))) == {"answered"}
        await eventually(lambda: len(asyncio.all_tasks()) <= tasks_before)


async def test_a_statement_in_work_when_the_database_freezes_is_given_up(
    own_servers: EmbeddedServers,
) -> None:
    async with a_database(own_servers, pool_size=1) as database:

        async def write_while_it_freezes() -> None:
            async with database.transaction() as transaction:
                await transaction.write(StudyReceived(new_id(), 1))
                own_servers.postgres.freeze()
                await transaction.write(StudyReceived(new_id(), 1))

        begin = time.monotonic()
        try:
            with pytest.raises(Unavailable):
                await write_while_it_freezes()
            assert time.monotonic() - begin < 5
        finally:
            own_servers.postgres.thaw()
        await eventually(database.ready, within=10)
        assert await rows(database, "ledger") == []


async def test_a_cancelled_caller_does_not_wait_for_a_frozen_database(own_servers: EmbeddedServers) -> None:
    async with a_database(own_servers, pool_size=1) as database:
        sleeper = asyncio.create_task(sleep(database, 60))
        async with a_database(own_servers) as other:
            await eventually(lambda: asleep(other))
        own_servers.postgres.freeze()
        try:
            begin = time.monotonic()
            sleeper.cancel()
            await asyncio.gather(sleeper, return_exceptions=True)
            assert time.monotonic() - begin < 2.5
        finally:
            own_servers.postgres.thaw()
        await eventually(database.ready, within=10)


async def test_the_database_may_be_away_at_the_start_and_go_and_come(own_servers: EmbeddedServers) -> None:
    url = empty_database(own_servers)
    own_servers.postgres.stop()
    database = await Database.connect(url, Transaction, clock=CLOCK, new_id=new_id)
    try:
        assert not await database.ready()
        with pytest.raises(Unavailable):
            await migrate(url, [])
        own_servers.postgres.start()
        assert await database.ready()
        own_servers.postgres.kill()
        assert not await database.ready()
        with pytest.raises(Unavailable):
            async with database.transaction():
                pass
        own_servers.postgres.start()
        assert await database.ready()
    finally:
        await database.close()
        own_servers.postgres.start()
