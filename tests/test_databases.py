"""A database that is lent again is as a new one (`databases.py`)."""

from collections.abc import Iterator

import psycopg
import pytest

from local.processes import until
from tests.databases import CHANGED, EMPTY, IN_USE, Databases, Lent

WRITTEN = """
    delete from migrations;
    insert into audit_rows (at, actor, action, object, outcome, detail)
    values (now(), 'ada', 'read', 'it', 'done', '{}')
"""


@pytest.fixture
def lent(clones: Databases) -> Iterator[Lent]:
    database = clones.lend("access")
    yield database
    clones.take_back(database)


def contents(database: Lent) -> dict[str, list[tuple[object, ...]]]:
    """The rows of each table, and each sequence's number."""
    with psycopg.connect(database.address) as connection:
        names = connection.execute(
            "select quote_ident(relname) from pg_class"
            " where relkind in ('r', 'S') and relnamespace = 'public'::regnamespace"
        ).fetchall()
        return {name: connection.execute(f"select * from {name}".encode()).fetchall() for (name,) in names}


def emptied(database: Lent) -> str:
    """What emptying it answers, once those have gone who closed their connections."""
    state = IN_USE

    def somebody_gone() -> bool:
        nonlocal state
        state = database.empty()
        return state != IN_USE

    until(somebody_gone, 10.0)
    return state


def write(database: Lent, statement: str) -> None:
    with psycopg.connect(database.address) as connection:
        connection.execute(statement.encode())


def test_of_what_a_test_has_written_the_next_finds_nothing(lent: Lent) -> None:
    assert emptied(lent) == EMPTY
    new = contents(lent)
    write(lent, WRITTEN)
    assert new != contents(lent)

    assert emptied(lent) == EMPTY
    assert new == contents(lent)


@pytest.mark.parametrize(
    "statement",
    [
        "create table more (n int)",
        "alter table users drop column login",
        "alter table users alter column login set default ''",
        "alter table audit_rows disable trigger user",
        "create function mine() returns int language sql as 'select 1'",
        "drop table audit_rows",
        "grant select on users to public",
        "analyze users",
    ],
)
def test_nobody_is_lent_a_database_that_was_altered(lent: Lent, clones: Databases, statement: str) -> None:
    write(lent, statement)

    assert emptied(lent) == CHANGED


def test_nobody_is_lent_a_database_that_somebody_is_connected_to(lent: Lent) -> None:
    with psycopg.connect(lent.address):
        assert lent.empty() == IN_USE


def test_nobody_is_lent_a_database_that_does_not_answer(lent: Lent) -> None:
    lent.close()
    assert lent.empty() == CHANGED
