"""The database for threads: a statement that is committed later, time limits, connections that come back."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID

import pytest

from kernel.errors import Invalid, Unavailable
from local.embedded import EmbeddedServers
from plumbing.lines import Lines, StatementFailed
from tests.plumbing.telling import empty_database

WRITE = "insert into told values ($1::int) returning number"
COUNT = "select count(*)::int from told"
# Answers once they have ended, within 10 s.
END_OTHERS = """
    select count(*) filter (where pg_terminate_backend(pid, 10000)) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid()
"""


@pytest.fixture(scope="module")
def own_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServers]:
    """Only PostgreSQL runs, and a test may do with it what it likes."""
    made = EmbeddedServers(tmp_path_factory.mktemp("servers") / "data", [], durable=False)
    made.open()
    made.postgres.start()
    yield made
    made.stop()
    made.remove()


@pytest.fixture
def told(own_servers: EmbeddedServers) -> Iterator[str]:
    """The address of a database with a table."""
    url = empty_database(own_servers)
    lines = Lines(url, "create table told (number int check (number > 0))", size=1)
    ask(lines)
    lines.close()
    yield url
    own_servers.postgres.start()


def ask(lines: Lines, *parameters: object) -> list[bytes | None]:
    with lines.begin(parameters) as begun:
        return list(begun.commit())


def count(url: str) -> int:
    lines = Lines(url, COUNT, size=1)
    (number,) = ask(lines)
    lines.close()
    return int(number or 0)


def test_values_arrive_as_they_are(own_servers: EmbeddedServers) -> None:
    statement = "select $1::uuid, $2::bytea, $3::timestamptz, $4::boolean, $5::text, $6::bigint, $7::text"
    lines = Lines(empty_database(own_servers), statement, size=1)
    instant = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)

    assert ask(lines, UUID(int=7), b"\0\xff", instant, True, None, 1 << 40, "Ä'\\") == [
        b"00000000-0000-0000-0000-000000000007",
        b"\\x00ff",
        b"2026-01-02 03:04:05.678901+00",
        b"t",
        None,
        b"1099511627776",
        "Ä'\\".encode(),
    ]


def test_nothing_is_there_before_the_commit(told: str) -> None:
    lines = Lines(told, WRITE, size=1)
    with lines.begin([1]) as begun:
        time.sleep(0.1)  # the server has executed it by then
        assert count(told) == 0
        assert begun.commit() == [b"1"]
    assert count(told) == 1


def test_what_was_not_committed_is_rolled_back(told: str) -> None:
    lines = Lines(told, WRITE, size=1)
    with suppress(OSError), lines.begin([1]):
        raise OSError
    assert ask(lines, 2) == [b"2"]  # a rolled back statement costs the connection, not its place
    assert count(told) == 1


def test_a_refused_statement_says_why_without_its_values(told: str) -> None:
    lines = Lines(told, WRITE, size=1)
    with pytest.raises(StatementFailed) as failed:
        ask(lines, -4711)
    assert "23514" in str(failed.value)
    assert "4711" not in str(failed.value)
    assert ask(lines, 1) == [b"1"]


def test_connections_are_used_again_and_never_more_than_allowed(told: str) -> None:
    lines = Lines(told, "select pg_backend_pid(), pg_sleep(0.02)", size=2)
    seen: set[bytes | None] = set()

    def repeat() -> None:
        for _ in range(10):
            seen.add(ask(lines)[0])

    threads = [threading.Thread(target=repeat) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 2


def test_who_finds_every_connection_taken_waits_no_longer_than_2_s(told: str) -> None:
    lines = Lines(told, WRITE, size=1)
    with lines.begin([1]) as begun:
        began = time.monotonic()
        with pytest.raises(Unavailable, match="overloaded"):
            lines.begin([2])
        assert 1.5 < time.monotonic() - began < 4
        begun.commit()
    assert ask(lines, 3) == [b"3"]


@pytest.mark.proves("R8", part="the statement of each instance")
@pytest.mark.parametrize("when", ["before it is sent", "before its commit", "before a connection is made"])
def test_a_frozen_database_is_unavailable_within_5_s(
    own_servers: EmbeddedServers, told: str, when: str
) -> None:
    lines = Lines(told, WRITE, size=1)
    freeze: Callable[[], None] = own_servers.postgres.freeze
    if when != "before a connection is made":
        ask(lines, 1)

    def write() -> None:
        if when != "before its commit":
            freeze()
        with lines.begin([2]) as begun:
            if when == "before its commit":
                freeze()
            begun.commit()

    began = time.monotonic()
    try:
        with pytest.raises(Unavailable):
            write()
        assert time.monotonic() - began < 5
    finally:
        own_servers.postgres.thaw()
    assert ask(lines, 3) == [b"3"]


def test_a_connection_that_the_server_has_ended_meanwhile_is_not_used(
    own_servers: EmbeddedServers, told: str
) -> None:
    lines = Lines(told, WRITE, size=1)
    ask(lines, 1)
    own_servers.postgres.stop()
    with pytest.raises(Unavailable):
        ask(lines, 2)
    own_servers.postgres.start()
    ask(lines, 3)
    own_servers.postgres.stop()
    own_servers.postgres.start()
    ask(lines, 4)
    assert count(told) == 3


def test_a_connection_that_ends_between_statement_and_commit_is_unavailable(told: str) -> None:
    lines, others = Lines(told, WRITE, size=1), Lines(told, END_OTHERS, size=1)
    with lines.begin([1]) as begun:
        assert ask(others) == [b"1"]
        with pytest.raises(Unavailable):
            begun.commit()
    others.close()
    assert count(told) == 0
    assert ask(lines, 2) == [b"2"]


def test_another_machine_is_not_reached_without_an_authority() -> None:
    with pytest.raises(Invalid):
        Lines("postgresql://role@database.example/readroom", WRITE, size=1)
