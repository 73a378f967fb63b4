"""The database for threads that cannot wait for an event loop: one statement at a time, through libpq.

A statement is sent, and whoever sent it goes on meanwhile, with a sync for one. The server keeps it in a
transaction until the message Sync, which `commit` sends (PostgreSQL, Extended Query): a line that ends before
rolls back. The limits are those of `dblimits.py`: 2 s for a connection, 2.5 s for the answer. So a caller
knows within 5 s, whatever PostgreSQL does (R8). A line that took too long is dropped, never repaired.
"""

import select
import threading
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Self
from uuid import UUID

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo

from kernel.errors import Unavailable
from plumbing import remote
from plumbing.dblimits import ACQUIRE_S, COMMAND_S, SERVER_SETTINGS
from plumbing.renewed import Text, asked

Value = object
"""None, a truth value, a number, text, bytes, an id or a time."""

_SENTENCE = "the database does not answer"
_LOST = frozenset({"08", "25", "40", "53", "55", "57"})
"""Classes of SQLSTATE (PostgreSQL, appendix A) of what the same statement may not meet again: connection,
read-only, deadlock, resources, state of an object, operator."""
_NAME = b"statement"
_TEXT, _BINARY = pq.Format.TEXT, pq.Format.BINARY
# Of a client that stopped between a statement and its commit. Servers before 17 have no such setting.
_LIMIT = b"select set_config(name, '30s', false) from pg_settings where name = 'transaction_timeout'"


class StatementFailed(Exception):
    """PostgreSQL refused the statement. The text names no value of it: values may be patient data."""


class Lines:
    """At most `size` connections for one statement; used by many threads.

    A connection is made when the first thread needs it, so PostgreSQL may be away, and comes back by itself.
    """

    def __init__(self, url: Text, statement: str, *, size: int, ca: Path | None = None) -> None:
        """Raises Invalid for an address that may not be used (`remote.py`)."""
        self._url, self._ca = asked(url), ca
        self._conninfo()
        self._statement = statement.encode()
        self._free = threading.BoundedSemaphore(size)
        self._idle: list[_Line] = []

    def begin(self, parameters: Sequence[Value]) -> "Begun":
        """Sends the statement. Raises Unavailable; nothing was committed then."""
        deadline = time.monotonic() + ACQUIRE_S
        if not self._free.acquire(timeout=ACQUIRE_S):
            raise Unavailable("the database is overloaded")
        try:
            line = self._take() or _Line(self._conninfo(), self._statement, deadline)
            try:
                line.send(parameters, deadline)
            except BaseException:
                line.close()
                raise
        except BaseException:
            self._free.release()
            raise
        return Begun(self, line)

    def close(self) -> None:
        """Closes the connections that nobody uses now."""
        while self._idle:
            self._idle.pop().close()

    def _conninfo(self) -> bytes:
        url = self._url()
        options = " ".join(f"-c {name}={value}" for name, value in SERVER_SETTINGS.items())
        told = {**remote.libpq(url, self._ca), "options": options, "gssencmode": "disable"}
        return make_conninfo(url, **told).encode()

    def _take(self) -> "_Line | None":
        """The connection that was used last, unless its server has ended it meanwhile."""
        while True:
            try:
                line = self._idle.pop()
            except IndexError:
                return None
            if line.is_quiet:
                return line
            line.close()

    def give_back(self, line: "_Line", *, whole: bool) -> None:
        """Ends the use of a connection; one that is not whole is closed."""
        if whole:
            self._idle.append(line)
        else:
            line.close()
        self._free.release()


class Begun:
    """A statement under way. As a context, it ends rolled back unless it was committed."""

    def __init__(self, lines: Lines, line: "_Line") -> None:
        self._lines = lines
        self._line: _Line | None = line

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end(whole=False)

    def commit(self) -> Sequence[bytes | None]:
        """Commits; the one row of the answer, as text.

        Raises Unavailable: whether it was committed is not known then. Raises StatementFailed: it was not.
        """
        line = self._line
        assert line is not None
        row = line.commit(time.monotonic() + COMMAND_S)
        self._end(whole=True)
        return row

    def _end(self, *, whole: bool) -> None:
        line, self._line = self._line, None
        if line is not None:
            self._lines.give_back(line, whole=whole)


class _Line:
    """One connection in pipeline mode, with its statement prepared; used by one thread at a time."""

    def __init__(self, conninfo: bytes, statement: bytes, deadline: float) -> None:
        self._connection = pq.PGconn.connect_start(conninfo)
        self._incoming = select.poll()
        try:
            self._connect(deadline)
            self._connection.nonblocking = 1
            self._incoming.register(self._connection.socket, select.POLLIN)
            self._connection.enter_pipeline_mode()
            self._connection.send_query_params(_LIMIT, None)
            self._connection.send_prepare(_NAME, statement)
            self._connection.pipeline_sync()
            self._results(deadline)
        except psycopg.Error as error:
            self.close()
            raise Unavailable(_SENTENCE) from error
        except BaseException:
            self.close()
            raise

    @property
    def is_quiet(self) -> bool:
        """Whether the server has said nothing since the last answer, as it does when it ends a connection."""
        return not self._incoming.poll(0)

    def close(self) -> None:
        """Ends the connection, whatever is under way."""
        self._connection.finish()

    def send(self, parameters: Sequence[Value], deadline: float) -> None:
        """Has the server execute the statement, and not commit it yet."""
        try:
            values = [_written(each) for each in parameters]
            formats = [_BINARY if isinstance(each, UUID | bytes) else _TEXT for each in parameters]
            self._connection.send_query_prepared(_NAME, values, formats)
            self._connection.send_flush_request()
            self._flush(deadline)
        except psycopg.Error as error:
            raise Unavailable(_SENTENCE) from error

    def commit(self, deadline: float) -> Sequence[bytes | None]:
        """Has the server commit; the row that the statement answered."""
        try:
            self._connection.pipeline_sync()
            (result,) = self._results(deadline)
        except psycopg.Error as error:
            raise Unavailable(_SENTENCE) from error
        return [result.get_value(0, column) for column in range(result.nfields)]

    def _connect(self, deadline: float) -> None:
        while True:
            match self._connection.connect_poll():
                case pq.PollingStatus.OK:
                    return
                case pq.PollingStatus.READING:
                    self._wait(select.POLLIN, deadline)
                case pq.PollingStatus.WRITING:
                    self._wait(select.POLLOUT, deadline)
                case _:
                    raise Unavailable(_SENTENCE)

    def _flush(self, deadline: float) -> None:
        while self._connection.flush():
            self._wait(select.POLLIN | select.POLLOUT, deadline)
            self._connection.consume_input()

    def _results(self, deadline: float) -> list[pq.abc.PGresult]:
        """The results up to the end of the pipeline."""
        self._flush(deadline)
        results: list[pq.abc.PGresult] = []
        while True:
            while self._connection.is_busy():
                if not self._incoming.poll(max(0.0, deadline - time.monotonic()) * 1000):
                    raise Unavailable("no answer in time")
                self._connection.consume_input()
            result = self._connection.get_result()
            if result is None:  # the end of one statement
                if self._connection.status != pq.ConnStatus.OK:
                    raise Unavailable(_SENTENCE)
            elif result.status == pq.ExecStatus.PIPELINE_SYNC:
                return results
            elif result.status in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
                results.append(result)
            else:
                raise _failure(result)

    def _wait(self, events: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(self._connection.socket, events)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise Unavailable("no answer in time")


def _failure(result: pq.abc.PGresult) -> Exception:
    state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
    said = (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"").decode(errors="replace")
    failed = StatementFailed(f"{state}: {said}")
    if state and state[:2] not in _LOST:
        return failed
    lost = Unavailable(_SENTENCE)
    lost.__cause__ = failed
    return lost


def _written(value: Value) -> bytes | None:
    """A value as PostgreSQL reads it: ids and bytes as they are, everything else as text."""
    match value:
        case None | bytes():
            return value
        case str():
            return value.encode()
        case bool():
            return b"true" if value else b"false"
        case UUID():
            return value.bytes
        case datetime():
            return value.isoformat().encode()
        case _:
            return str(value).encode()
