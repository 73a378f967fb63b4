"""Numbered migrations of a database: each file is applied once, whoever comes first, and may be resumed.

A file runs in a transaction of its own. One that begins with `-- concurrently` makes and drops indexes of
tables that are full, outside a transaction, so that nobody who writes to such a table waits for it.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from kernel.errors import Invalid, Unavailable
from plumbing import locks, remote
from plumbing.db import CLOSE_S
from plumbing.dblimits import ACQUIRE_S
from plumbing.locks import LockClass

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

CONCURRENTLY = "-- concurrently"
"""The first line of a file that runs outside a transaction."""

_SETTINGS = {"statement_timeout": "0", "lock_timeout": "0"}
"""An index of a full table takes its time, whatever the database allows to others."""

_ENCODING = "UTF8"

_SENTENCE = "the database does not answer"
_MIGRATION = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_RECONCILES = re.compile(r"^-- reconciles: (\S+) as ([0-9a-f]{64})$", re.MULTILINE)
"""In a migration: it brings databases to which an earlier form of another file was applied up to date."""

_PIECE = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:''|[^'])*'|\"[^\"]*\"|.", re.DOTALL)
"""A comment, a quoted text, a quoted name, or a sign outside them."""
_INDEX = re.compile(
    r"(create) index concurrently if not exists ([a-z0-9_]+) on .+"
    r"|(drop) index concurrently if exists ([a-z0-9_]+)".replace(" ", r"\s+"),
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class IndexChange:
    """A statement of a file that runs outside a transaction: it makes the index of this name, or drops it."""

    index: str
    makes: bool
    statement: str


def runs_concurrently(sql: str) -> bool:
    """Whether the file runs outside a transaction."""
    return sql.partition("\n")[0].rstrip() == CONCURRENTLY


def index_changes(sql: str) -> list[IndexChange]:
    """The statements of a file that runs outside a transaction; raises Invalid for another than these two.

    Each of the two may be repeated, wherever the file was cut off. Others may not.
    """
    return [_index_change(statement) for each in _parted(sql) if (statement := each.strip())]


def _parted(sql: str) -> list[str]:
    """The statements without comments; a semicolon in quotes parts nothing."""
    parted = [""]
    for piece in _PIECE.findall(sql):
        if piece == ";":
            parted.append("")
        else:
            parted[-1] += " " if piece.startswith(("--", "/*")) else piece
    return parted


def _index_change(statement: str) -> IndexChange:
    match = _INDEX.fullmatch(statement)
    if not match:
        raise Invalid(
            f"after `{CONCURRENTLY}` stand only `create index concurrently if not exists NAME on …` and "
            f"`drop index concurrently if exists NAME`: `{statement}` belongs in a file of its own"
        )
    making, made, _, dropped = match.groups()
    return IndexChange(made or dropped, bool(making), statement)


async def migrate(url: str, folders: Sequence[Path], ca: Path | None = None) -> list[str]:
    """Applies each `NNNN_name.sql` of `folders` that this database has not seen; returns their names.

    Folders in the order given, files by number, each file in a transaction of its own, or outside one;
    several processes may do this at once. `ca` is of the server's certificate, where the server is on another
    machine. Raises Invalid for a file that was changed after it was applied, has no number or the number of
    another, or has after `-- concurrently` what may not stand there, and for a database that is not encoded
    in UTF-8; Unavailable if the database does not answer, or somebody cuts a file off.
    """
    files = {name: path.read_text() for folder in folders for name, path in _migrations(folder)}
    for name, sql in files.items():
        if runs_concurrently(sql):
            _changes_of(name, sql)
    known = {(name, _checksum(sql)) for name, sql in files.items()} | _reconciled(files)
    try:
        context = remote.context(url, remote.DATABASE, ca)
        connection = await asyncpg.connect(url, timeout=ACQUIRE_S, ssl=context, server_settings=_SETTINGS)
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise Unavailable(_SENTENCE) from error
    try:
        _require_utf8(connection)
        await locks.hold_for_session(connection, LockClass.MIGRATION)
        await connection.execute(
            """
            create table if not exists migrations (
                name text primary key, checksum text not null, applied_at timestamptz not null default now()
            )
            """
        )
        rows = await connection.fetch("select name, checksum from migrations")
        applied: dict[str, str] = {row["name"]: row["checksum"] for row in rows}
        for name, checksum in applied.items():
            if name in files and (name, checksum) not in known:
                raise Invalid(
                    f"migration `{name}` was changed after it was applied: restore the file whose SHA-256 is "
                    f"{checksum}, and put the change into a new migration"
                )
        new = [name for name in files if name not in applied]
        for name in new:
            await _apply(connection, name, files[name])
        return new
    finally:
        await connection.close(timeout=CLOSE_S)


def _require_utf8(connection: "Connection") -> None:
    """In another encoding names would not fit, and SQL would take letters for others than Python does."""
    encoding = connection.get_settings().server_encoding
    if encoding != _ENCODING:
        raise Invalid(
            f"the database is encoded in `{encoding}`: make another with `createdb --template=template0 "
            f"--encoding={_ENCODING}`, and restore into it"
        )


def _migrations(folder: Path) -> list[tuple[str, Path]]:
    """The files of a folder such as `services/access/migrations`, named like `access/0001_users.sql`."""
    numbers: dict[str, str] = {}
    for path in folder.glob("*.sql"):
        match = _MIGRATION.fullmatch(path.name)
        if not match:
            raise Invalid(f"migration `{path.name}` has no name like 0001_users.sql")
        if other := numbers.get(match[1]):
            raise Invalid(f"migrations `{other}` and `{path.name}` have the same number")
        numbers[match[1]] = path.name
    owner = folder.resolve().parent.name
    return [(f"{owner}/{name}", folder / name) for _, name in sorted(numbers.items())]


def _reconciled(files: Mapping[str, str]) -> set[tuple[str, str]]:
    """Name and checksum of each earlier form that one of the files brings up to date."""
    return {
        (f"{name.partition('/')[0]}/{earlier}", checksum)
        for name, sql in files.items()
        for earlier, checksum in _RECONCILES.findall(sql)
    }


def _changes_of(name: str, sql: str) -> list[IndexChange]:
    try:
        return index_changes(sql)
    except Invalid as error:
        raise Invalid(f"migration `{name}`: {error.sentence}") from error


async def _apply(connection: "Connection", name: str, sql: str) -> None:
    try:
        if runs_concurrently(sql):
            for change in _changes_of(name, sql):
                await _change_index(connection, change)
            await _note(connection, name, sql)
        else:
            async with connection.transaction():
                await connection.execute(sql)
                await _note(connection, name, sql)
    except (asyncpg.OperatorInterventionError, asyncpg.PostgresConnectionError) as error:
        raise Unavailable(f"migration `{name}` was cut off: run `migrate` again") from error
    except asyncpg.PostgresError as error:
        raise Invalid(f"migration `{name}` failed: {error}") from error


async def _note(connection: "Connection", name: str, sql: str) -> None:
    await connection.execute("insert into migrations (name, checksum) values ($1, $2)", name, _checksum(sql))


async def _change_index(connection: "Connection", change: IndexChange) -> None:
    """Makes or drops an index outside a transaction; does nothing if that has been done.

    Whoever was cut off while they made an index left an invalid one, which slows writes and serves nobody.
    It is dropped and made again. Nobody else makes it meanwhile, for the lock of migrations is held.
    """
    if change.makes and await _is_invalid(connection, change.index):
        await connection.execute(f"drop index concurrently if exists {change.index}")
    await connection.execute(change.statement)


async def _is_invalid(connection: "Connection", index: str) -> bool:
    return bool(
        await connection.fetchval(
            "select not indisvalid from pg_index where indexrelid = to_regclass($1)", index
        )
    )


def _checksum(sql: str) -> str:
    return hashlib.sha256(sql.encode()).hexdigest()
