"""Numbered migrations: applied once, in order, and resumed where they were cut off."""

import asyncio
import hashlib
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from kernel.errors import Invalid, Unavailable
from local.embedded import EmbeddedServers
from plumbing.migrating import index_changes, migrate
from tests.plumbing.telling import empty_database
from tests.wait import eventually


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "access" / "migrations"
    made.mkdir(parents=True)
    (made / "0002_cases.sql").write_text("create table cases (id int); insert into cases values (1);")
    (made / "0001_users.sql").write_text("create table users (id int);")
    return made


async def test_each_migration_is_applied_once_in_order_by_whoever_comes_first(
    servers: EmbeddedServers, folder: Path
) -> None:
    url = empty_database(servers)
    answers = await asyncio.gather(*(migrate(url, [folder]) for _ in range(4)))
    assert max(answers, key=len) == ["access/0001_users.sql", "access/0002_cases.sql"]
    assert sum(map(len, answers)) == 2
    (folder / "0003_more.sql").write_text("alter table cases add version int;")
    assert await migrate(url, [folder]) == ["access/0003_more.sql"]


async def test_a_database_of_another_encoding_is_refused(servers: EmbeddedServers, folder: Path) -> None:
    name = f"latin_{uuid4().hex}"
    await asyncio.to_thread(
        servers.postgres.execute,
        f"create database {name} template template0 encoding 'LATIN1' locale_provider libc locale 'C'"
        " owner readroom_access",
    )
    url = servers.database_url("access").removesuffix("readroom_access") + name

    with pytest.raises(Invalid, match=r"encoded in `LATIN1`: make another with `createdb"):
        await migrate(url, [folder])

    await asyncio.to_thread(servers.postgres.execute, f"drop database {name}")


async def test_folders_are_applied_in_the_order_given(servers: EmbeddedServers, tmp_path: Path) -> None:
    first, second = tmp_path / "plumbing", tmp_path / "access"
    for owner, sql in ((first, "create table a ();"), (second, "alter table a add b int;")):
        (owner / "migrations").mkdir(parents=True)
        (owner / "migrations" / "0001_a.sql").write_text(sql)
    applied = await migrate(empty_database(servers), [first / "migrations", second / "migrations"])
    assert applied == ["plumbing/0001_a.sql", "access/0001_a.sql"]


async def test_a_migration_changed_after_it_was_applied_is_refused_by_name(
    servers: EmbeddedServers, folder: Path
) -> None:
    url = empty_database(servers)
    await migrate(url, [folder])
    (folder / "0001_users.sql").write_text("create table users (id bigint);")
    (folder / "0003_more.sql").write_text("create table more ();")
    with pytest.raises(Invalid, match=r"`access/0001_users.sql` was changed after it was applied: restore"):
        await migrate(url, [folder])


async def test_a_database_with_an_earlier_form_that_a_later_migration_reconciles_is_taken(
    servers: EmbeddedServers, folder: Path
) -> None:
    url = empty_database(servers)
    await migrate(url, [folder])
    earlier = hashlib.sha256((folder / "0001_users.sql").read_bytes()).hexdigest()
    (folder / "0001_users.sql").write_text("create table users (id int, name text);")
    (folder / "0003_more.sql").write_text(
        f"-- reconciles: 0001_users.sql as {earlier}\nalter table users add column if not exists name text;"
    )
    assert await migrate(url, [folder]) == ["access/0003_more.sql"]
    assert await migrate(url, [folder]) == []
    assert await migrate(empty_database(servers), [folder]) != []


async def test_a_migration_that_fails_leaves_nothing_of_itself(
    servers: EmbeddedServers, folder: Path
) -> None:
    url = empty_database(servers)
    (folder / "0002_cases.sql").write_text("create table cases (id int); insert into nowhere values (1);")
    with pytest.raises(Invalid, match=r"`access/0002_cases.sql` failed: .*nowhere"):
        await migrate(url, [folder])
    (folder / "0002_cases.sql").write_text("create table cases (id int);")
    assert await migrate(url, [folder]) == ["access/0002_cases.sql"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("0002_other.sql", "have the same number"),
        ("more.sql", "has no name like"),
        ("3_a.sql", "has no name"),
    ],
)
async def test_a_migration_with_a_wrong_name_is_refused(folder: Path, name: str, sentence: str) -> None:
    (folder / name).write_text("")
    with pytest.raises(Invalid, match=sentence):
        await migrate("postgresql://nobody@127.0.0.1:1/none", [folder])


CONCURRENT = """-- concurrently
-- Who looks for a login; a table of users may be long.
create index concurrently if not exists users_by_id on users (id);
create index concurrently if not exists users_by_rest on users (id) where id % 2 = 1;
"""
NAME = "access/0003_indexes.sql"


@pytest.fixture
async def filled(servers: EmbeddedServers, folder: Path) -> str:
    """The address of a database with a table of users, and a migration that is to index it."""
    url = empty_database(servers)
    await migrate(url, [folder])
    await run(url, "insert into users select generate_series(1, 1000)")
    (folder / "0003_indexes.sql").write_text(CONCURRENT)
    return url


async def run(url: str, sql: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetch(sql)
    finally:
        await connection.close()


async def indexes(url: str) -> dict[str, bool]:
    """Whether each index of the table of users is valid."""
    found = await run(
        url,
        "select indexrelid::regclass::text as name, indisvalid from pg_index"
        " where indrelid = 'users'::regclass",
    )
    return {row["name"]: row["indisvalid"] for row in found}


async def noted(url: str) -> bool:
    """Whether the migration counts as applied."""
    return bool(await run(url, f"select from migrations where name = '{NAME}'"))


@asynccontextmanager
async def somebody_writes(url: str) -> AsyncIterator[None]:
    """A transaction that has written to the table and is not at its end: whoever indexes the table waits."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            await connection.execute("insert into users values (0)")
            yield
    finally:
        await connection.close()


async def is_building(url: str) -> bool:
    """Whether an index was begun, and waits for who writes."""
    return bool(
        await run(
            url,
            "select from pg_stat_progress_create_index p join pg_stat_activity a using (pid)"
            " where a.datname = current_database() and p.command = 'CREATE INDEX CONCURRENTLY'"
            " and a.wait_event_type = 'Lock'",
        )
    ) and bool(await indexes(url))


async def test_who_writes_to_a_table_does_not_wait_while_it_is_indexed(filled: str, folder: Path) -> None:
    async with somebody_writes(filled):
        migrating = asyncio.ensure_future(migrate(filled, [folder]))
        await eventually(lambda: is_building(filled))
        async with asyncio.timeout(2):
            await run(filled, "insert into users values (1001)")
        assert not await noted(filled)
        assert not migrating.done()
    assert await migrating == [NAME]
    assert await indexes(filled) == {"users_by_id": True, "users_by_rest": True}
    assert await migrate(filled, [folder]) == []


async def test_an_index_that_was_cut_off_is_dropped_and_made_again(filled: str, folder: Path) -> None:
    async with somebody_writes(filled):
        migrating = asyncio.ensure_future(migrate(filled, [folder]))
        await eventually(lambda: is_building(filled))
        await run(
            filled,
            "select pg_terminate_backend(pid) from pg_stat_progress_create_index"
            " where datname = current_database()",
        )
        with pytest.raises(Unavailable, match="was cut off: run `migrate` again"):
            await migrating
        assert await indexes(filled) == {"users_by_id": False}
        assert not await noted(filled)
    assert await migrate(filled, [folder]) == [NAME]
    assert await indexes(filled) == {"users_by_id": True, "users_by_rest": True}


async def test_a_migration_whose_caller_gives_up_is_resumed(filled: str, folder: Path) -> None:
    async with somebody_writes(filled):
        migrating = asyncio.ensure_future(migrate(filled, [folder]))
        await eventually(lambda: is_building(filled))
        migrating.cancel()
        with suppress(asyncio.CancelledError):
            await migrating
        assert not await noted(filled)
    assert await migrate(filled, [folder]) == [NAME]
    assert await indexes(filled) == {"users_by_id": True, "users_by_rest": True}


async def test_a_migrator_that_is_killed_is_followed_by_another(filled: str, folder: Path) -> None:
    script = (
        "import asyncio, pathlib, sys; from plumbing.migrating import migrate;"
        " asyncio.run(migrate(sys.argv[1], [pathlib.Path(sys.argv[2])]))"
    )
    async with somebody_writes(filled):
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, filled, str(folder))
        await eventually(lambda: is_building(filled))
        process.send_signal(signal.SIGKILL)
        await process.wait()
        migrating = asyncio.ensure_future(migrate(filled, [folder]))
        await eventually(lambda: asks_for_the_lock(filled))
        assert not await noted(filled)
    assert await migrating == [NAME]
    assert await indexes(filled) == {"users_by_id": True, "users_by_rest": True}


async def asks_for_the_lock(url: str) -> bool:
    """Whether somebody waits until nobody else migrates."""
    return bool(
        await run(
            url,
            "select from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
            " and query like '%pg_try_advisory_lock%'",
        )
    )


async def test_of_several_migrators_at_once_one_makes_the_index_and_none_waits_for_another_for_good(
    filled: str, folder: Path
) -> None:
    """A statement that waits for a lock has a snapshot, and whoever makes the index waits for snapshots."""
    async with somebody_writes(filled):
        first = asyncio.ensure_future(migrate(filled, [folder]))
        await eventually(lambda: is_building(filled))
        others = [asyncio.ensure_future(migrate(filled, [folder])) for _ in range(3)]
        await eventually(lambda: asks_for_the_lock(filled))
    async with asyncio.timeout(20):
        assert await first == [NAME]
        assert await asyncio.gather(*others) == [[], [], []]
    assert await indexes(filled) == {"users_by_id": True, "users_by_rest": True}


async def test_a_file_whose_second_statement_fails_keeps_the_first_and_goes_on_there(
    filled: str, folder: Path
) -> None:
    (folder / "0003_indexes.sql").write_text(CONCURRENT.replace("% 2", "% nothing"))
    with pytest.raises(Invalid, match=f"migration `{NAME}` failed: .*nothing"):
        await migrate(filled, [folder])
    assert await indexes(filled) == {"users_by_id": True}
    assert not await noted(filled)
    [first] = await run(filled, "select 'users_by_id'::regclass::oid as id")
    (folder / "0003_indexes.sql").write_text(CONCURRENT)
    assert await migrate(filled, [folder]) == [NAME]
    assert await run(filled, "select 'users_by_id'::regclass::oid as id") == [first]


async def test_an_index_is_dropped_outside_a_transaction_once(filled: str, folder: Path) -> None:
    await migrate(filled, [folder])
    (folder / "0004_fewer.sql").write_text(
        "-- concurrently\ndrop index concurrently if exists users_by_rest;\n"
        "drop index concurrently if exists nobody_made_it;"
    )
    assert await migrate(filled, [folder]) == ["access/0004_fewer.sql"]
    assert await indexes(filled) == {"users_by_id": True}


async def test_a_file_with_another_statement_is_refused_before_anything_is_applied(
    filled: str, folder: Path
) -> None:
    (folder / "0003_more.sql").write_text("create table more ();")
    (folder / "0003_indexes.sql").unlink()
    (folder / "0004_indexes.sql").write_text(CONCURRENT + "delete from users;")
    with pytest.raises(Invalid, match=r"migration `access/0004_indexes.sql`: .*`delete from users` belongs"):
        await migrate(filled, [folder])
    assert await run(filled, "select from pg_class where relname = 'more'") == []


@pytest.mark.parametrize(
    "sql",
    [
        "create index users_by_id on users (id)",
        "create index concurrently users_by_id on users (id)",
        "create index if not exists users_by_id on users (id)",
        "create unique index concurrently if not exists users_by_id on users (id)",
        "create index concurrently if not exists on users (id)",
        "drop index concurrently users_by_id",
        "drop index if exists users_by_id",
        "drop index concurrently if exists a, b",
        "drop table users",
        "update users set id = 0",
        "create index concurrently if not exists a on users (id); drop table users",
        "create index concurrently if not exists a on users (id) where note = ';'; drop table users",
        "/* create index concurrently if not exists a on users (id); */ drop table users",
        "begin",
        "do $$ begin drop table users; end $$",
    ],
)
def test_only_indexes_are_made_and_dropped_outside_a_transaction(sql: str) -> None:
    with pytest.raises(Invalid, match="belongs in a file of its own"):
        index_changes(f"-- concurrently\n{sql};")


def test_a_semicolon_in_quotes_or_a_comment_ends_no_statement() -> None:
    changes = index_changes(
        """-- concurrently; drop table users;
        CREATE INDEX CONCURRENTLY IF NOT EXISTS a /* ; */ ON users
            (id) where note <> 'it''s;  -- not' and ";" > 1;
        -- it is not needed; nobody asks for it
        drop index concurrently if exists b;
        """
    )
    assert [(change.index, change.makes) for change in changes] == [("a", True), ("b", False)]
    assert changes[0].statement.endswith("""where note <> 'it''s;  -- not' and ";" > 1""")
