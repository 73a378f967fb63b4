"""Migrations only expand, and one that has landed never changes: what `make check` refuses."""

from pathlib import Path

import pytest

from tests.migrations import ROOT, add_lines, contractions, differences

FOLDER = "services/access/migrations"
FIRST = """
create table users (user_id uuid primary key, login text not null unique, note text);
create function greet(p_login text) returns text language sql as $$ select 'drop table users' $$;
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A house with one migration, which has landed."""
    (tmp_path / FOLDER).mkdir(parents=True)
    (tmp_path / FOLDER / "0001_users.sql").write_text(FIRST)
    add_lines(tmp_path)
    return tmp_path


def test_every_migration_is_the_file_of_its_line_and_only_expands() -> None:
    assert [] == differences(ROOT) + contractions(ROOT)


def test_a_landed_migration_that_changes_is_refused_and_its_line_is_not_made_anew(root: Path) -> None:
    (root / FOLDER / "0001_users.sql").write_text(FIRST + "-- a word more")
    assert add_lines(root) == []
    [fault] = differences(root)
    assert "0001_users.sql is not the file of its line" in fault
    assert "restore it" in fault


def test_a_migration_without_a_line_is_refused_until_it_has_one(root: Path) -> None:
    (root / FOLDER / "0002_more.sql").write_text("alter table users add column email text;")
    [fault] = differences(root)
    assert "0002_more.sql has no line in migrations.lock: run `make migrations`" in fault
    assert add_lines(root) == [f"{FOLDER}/0002_more.sql"]
    assert differences(root) == []


def test_a_landed_migration_that_is_gone_is_refused(root: Path) -> None:
    (root / FOLDER / "0001_users.sql").unlink()
    [fault] = differences(root)
    assert "restore it" in fault


@pytest.mark.parametrize(
    "sql",
    [
        "drop table users",
        "DROP TABLE IF EXISTS users",
        "drop function greet",
        "drop index users_by_login",
        "drop trigger t on users",
        "alter table users drop column login",
        "alter table users drop login",
        "alter table only users\n    add column a text,\n    drop column\n login",
        "alter table users add column a numeric(3, 2) default 0, drop constraint users_login_key",
        "alter table users rename to people",
        "alter table users rename column login to name",
        "alter table users alter column login type varchar(9)",
        "alter table users alter login set data type varchar(9)",
        "alter table users alter column note set not null",
        "alter table users alter column note drop default",
        "alter table users add column a text not null",
        "alter table users add column a text check (a in ('x', 'y')) not null",
        "alter table users add constraint short check (length(login) < 9)",
        "alter table users add unique (note)",
        "create unique index users_by_note on users (note)",
        "create index users_by_note on users (note)",
        "create index if not exists users_by_note on users (note)",
        "create trigger t before insert on users for each row execute function f()",
        "alter type level rename value 'a' to 'b'",
        "truncate users",
        "create or replace function greet(p_login text, p_age int) returns text language sql as $$ select $$",
        "create or replace function greet(p_login text) returns int language sql as $$ select 1 $$",
        "do $$ begin if true then alter table users drop column login; end if; end $$",
    ],
)
def test_what_takes_something_from_the_version_before_is_refused_unless_somebody_says_why_it_is_safe(
    root: Path, sql: str
) -> None:
    path = root / FOLDER / "0002_more.sql"
    path.write_text(f"-- more\n{sql};\n")
    faults = contractions(root)
    assert faults
    assert f"{FOLDER}/0002_more.sql, line " in faults[0]

    marked = [f"{line}  -- safe for 4874741: nobody uses it" for line in f"{sql};".splitlines()]
    path.write_text("\n".join(["-- more", *marked]))
    assert contractions(root) == []
    path.write_text("\n".join(["-- more", *(line.partition(" nobody")[0] for line in marked)]))
    assert contractions(root)


@pytest.mark.parametrize(
    "sql",
    [
        "create table notes (text text not null); create unique index n on notes (text);"
        "create index m on notes (text);"
        "alter table notes add constraint short check (length(text) < 9)",
        "alter table users add column a text",
        "alter table users add column if not exists a text not null default ''",
        "alter table users add column a int generated always as (1) stored not null",
        "alter table users alter column login drop not null",
        "alter type level add value 'c'",
        "create or replace function greet(p_login  text) returns text language sql as $$ select 'hi' $$",
        "create function greet(p_login text, p_name text) returns text language sql as $$ select '' $$",
        "-- drop table users\nselect 1",
        "/* drop\ntable users; */ insert into users values (null, 'drop table users; alter table x drop y')",
        "delete from users where login = 'rename'",
    ],
)
def test_what_only_adds_is_taken(root: Path, sql: str) -> None:
    (root / FOLDER / "0002_more.sql").write_text(f"{sql};\n")
    assert contractions(root) == []


def concurrent(root: Path, sql: str, folder: str = FOLDER) -> list[str]:
    """What is said against a file that begins with `-- concurrently`."""
    (root / folder).mkdir(parents=True, exist_ok=True)
    (root / folder / "0002_indexes.sql").write_text(f"-- concurrently\n{sql};\n")
    return contractions(root)


MAKES = "create index concurrently if not exists users_by_note on users (note)"


def test_an_index_of_a_served_table_is_made_outside_a_transaction(root: Path) -> None:
    assert concurrent(root, f"{MAKES};\n{MAKES.replace('note', 'login')}") == []
    (root / FOLDER / "0002_indexes.sql").write_text(f"{MAKES};")
    [fault] = contractions(root)
    assert "begin the file with `-- concurrently`" in fault


def test_outside_a_transaction_an_index_is_dropped_only_with_a_word(root: Path) -> None:
    drops = "drop index concurrently if exists users_by_note"
    [fault] = concurrent(root, drops)
    assert "the version before may need it" in fault
    assert concurrent(root, f"{drops};  -- safe for 4874741: nothing reads by it\n") == []


@pytest.mark.parametrize(
    "sql",
    [
        "alter table users add column a text",
        "insert into users values (null)",
        "create index users_by_note on users (note)",
        "create unique index concurrently if not exists users_by_note on users (note)",
        f"{MAKES}; alter table users add column a text",
        "drop table users;  -- safe for 4874741: nobody uses it\n",
    ],
)
def test_outside_a_transaction_nothing_but_an_index_is_made_or_dropped(root: Path, sql: str) -> None:
    assert any(
        "stand only `create index concurrently if not exists" in fault for fault in concurrent(root, sql)
    )


def test_a_gateway_has_no_file_outside_a_transaction_and_indexes_its_tables_as_it_likes(root: Path) -> None:
    [fault] = concurrent(root, MAKES, "gateway/migrations")
    assert "SQLite knows no `-- concurrently`" in fault
    (root / "gateway/migrations/0002_indexes.sql").write_text("create index by_note on users (note);")
    assert contractions(root) == []
