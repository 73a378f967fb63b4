"""The gateway's SQLite file: one connection, numbered migrations, and room to write on a full disk.

synchronous=FULL, so that a commit is on the disk (A54).
"""

import os
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from gateway.private import make_private
from gateway.uptime import Uptime
from kernel.clock import Clock
from kernel.ids import NewId

_MIGRATIONS = Path(__file__).parent / "migrations"
_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")

_WAL_PAGES = 100
"""Of 4 KiB, after which the log is written into the file: on a full disk it must not outgrow the reserve."""

_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
"""What SQLite says, by its primary codes, when a file of its own cannot grow or be made."""

P = ParamSpec("P")
R = TypeVar("R")
D = TypeVar("D", bound="Database")


def _keep_private(path: Path) -> None:
    """Makes the file if it is absent, and takes it from others if the version before let them read it.

    A file that exists is not opened here: closing it would free the locks of this process on it. SQLite gives
    the files beside it the mode of the file, once it makes them.
    """
    if not path.exists():
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    for each in (path, *(path.with_name(path.name + beside) for beside in ("-wal", "-shm"))):
        if each.exists():
            make_private(each)


class Database:
    """One connection for all threads: commits are serial on one file anyway.

    `spend` frees the room that is kept for forwarding, and answers whether there was any.
    """

    def __init__(
        self, path: Path, *, clock: Clock, uptime: Uptime, new_id: NewId, spend: Callable[[], bool]
    ) -> None:
        self._clock = clock
        self._uptime = uptime
        self._new_id = new_id
        self._spend = spend
        self._lock = threading.Lock()
        _keep_private(path)
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        try:
            self._open()
        except sqlite3.OperationalError as error:
            if not _is_full(error) or not spend():
                raise
            self._open()

    def _open(self) -> None:
        for pragma in (
            "busy_timeout = 4000",
            "journal_mode = wal",
            f"wal_autocheckpoint = {_WAL_PAGES}",
            "synchronous = full",
            "foreign_keys = on",
        ):
            self._connection.execute(f"pragma {pragma}")
        self._migrate()

    def _migrate(self) -> None:
        """Apply each file that `user_version` says is missing; a file of the first version finds its tables.

        Another process, such as `--status` beside a gateway that starts, may do this at once.
        """
        files = sorted(
            (int(match[1]), path) for path in _MIGRATIONS.iterdir() if (match := _NAME.fullmatch(path.name))
        )
        if self._version() >= files[-1][0]:
            return
        with self._transaction() as sql:
            applied = self._version()
            for number, path in files:
                if number > applied:
                    for statement in _statements(path.read_text()):
                        sql.execute(statement)
                    sql.execute(f"pragma user_version = {number}")

    def _version(self) -> int:
        return int(self._connection.execute("pragma user_version").fetchone()[0])

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._connection.execute("begin immediate")
            try:
                yield self._connection
                self._connection.execute("commit")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("rollback")
                raise

    def _now(self) -> float:
        return self._clock.now().timestamp()


def from_the_reserve(verb: Callable[Concatenate[D, P], R]) -> Callable[Concatenate[D, P], R]:
    """Let a verb of forwarding write on a full disk: it is done once more in the room kept for it."""

    @wraps(verb)
    def done(self: D, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return verb(self, *args, **kwargs)
        except sqlite3.OperationalError as error:
            if not _is_full(error) or not self._spend():
                raise
            return verb(self, *args, **kwargs)

    return done


def _is_full(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorcode & 0xFF in _FULL


def _statements(sql: str) -> Iterator[str]:
    """The statements of a file, each ending where SQLite says that it is complete."""
    statement = ""
    for line in sql.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        yield statement
