"""Looks for words in all that a running system keeps: tables, packs, JetStream, Valkey, logs, mails."""

import re
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from local.system import LocalSystem
from plumbing.components import SERVICES

SPOOL = ("mail", "texts")
"""What has been delivered, which no deletion reaches (A28)."""

FOLDERS = ("packs", "nats", "valkey", "logs", *SPOOL)

_BYTEA = re.compile(rb"\\x((?:[0-9a-f]{2})+)")
_UID = re.compile(rb"(?<![0-9.])[0-2](?:\.[0-9]+){2,}")


@dataclass(frozen=True, slots=True)
class Trace:
    """Where a word was found.

    Attributes:
        place: a service and its table, or a folder of the data directory.
        where: the row or the file.
    """

    place: str
    where: str
    word: str


@dataclass(frozen=True, slots=True)
class Searched:
    """What was looked at, and what was found."""

    traces: list[Trace]
    rows: int
    files: int

    @property
    def places(self) -> dict[str, set[str]]:
        """The words found in each place."""
        found: dict[str, set[str]] = {}
        for trace in self.traces:
            found.setdefault(trace.place, set()).add(trace.word)
        return found


class Words:
    """Words to look for, whatever their case, and UIDs, which must be whole."""

    def __init__(self, words: Iterable[str], uids: Iterable[str] = ()) -> None:
        self._words = [word.lower().encode() for word in words]
        self._uids = {uid.encode() for uid in uids}

    def __len__(self) -> int:
        return len(self._words) + len(self._uids)

    def within(self, content: bytes) -> Iterator[str]:
        """Those that occur in it, also in what PostgreSQL writes as hexadecimal digits."""
        lower = content.lower()
        for text in (lower, *(bytes.fromhex(digits.decode()).lower() for digits in _BYTEA.findall(lower))):
            yield from (word.decode() for word in self._words if word in text)
            yield from (uid.decode() for uid in set(_UID.findall(text)) & self._uids)


async def search(system: LocalSystem, words: Words) -> Searched:
    """Everything that all services keep, by content; the gateways, which are elsewhere, are left out."""
    traces: list[Trace] = []
    rows = files = 0
    for service in SERVICES:
        async for place, row in table_rows(system, service):
            rows += 1
            traces += [Trace(place, row, word) for word in words.within(row.encode())]
    for folder, path in stored_files(system.data_dir, FOLDERS):
        files += 1
        traces += [Trace(folder, path.name, word) for word in words.within(path.read_bytes())]
    return Searched(traces, rows, files)


async def table_rows(system: LocalSystem, service: str) -> AsyncIterator[tuple[str, str]]:
    """Every row of every table of a service, as text."""
    connection = await asyncpg.connect(system.servers.database_url(service))
    try:
        tables = await connection.fetch(
            "select tablename from pg_tables where schemaname not in ('pg_catalog', 'information_schema')"
        )
        for (table,) in tables:
            for (row,) in await connection.fetch(f'select t::text from "{table}" t'):  # noqa: S608  a name of ours
                yield f"{service}.{table}", row
    finally:
        await connection.close()


def stored_files(data_dir: Path, folders: Collection[str]) -> Iterator[tuple[str, Path]]:
    """Every file below these folders of the data directory."""
    for folder in folders:
        for path in sorted((data_dir / folder).rglob("*")):
            if path.is_file():
                yield folder, path
