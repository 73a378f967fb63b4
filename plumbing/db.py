"""The database: a pool with time limits, and transactions that tell and audit.

Whatever PostgreSQL does, a caller has its answer or `Unavailable` within 5 s (R8): 2 s for a connection,
2.5 s for a statement. A connection whose statement took too long is dropped, never repaired, because repair
means waiting for a server that may be frozen.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast
from uuid import UUID

import asyncpg
import msgspec

from kernel.clock import Clock
from kernel.database import Outcome
from kernel.errors import (
    Conflict,
    Denied,
    Exhausted,
    Expired,
    NotFound,
    ReadroomError,
    Unavailable,
)
from kernel.events import FACTS, Fact
from kernel.ids import NewId
from plumbing import held, log, remote
from plumbing.audit import AuditEntry
from plumbing.dblimits import ACQUIRE_S, COMMAND_S, SERVER_SETTINGS
from plumbing.refusals import Refusals
from plumbing.renewed import Text, asked
from plumbing.telemetry import inject

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
    Pool = asyncpg.Pool[asyncpg.Record]
    Proxy = asyncpg.pool.PoolConnectionProxy[asyncpg.Record]

GIVE_BACK_S = 1.0
"""For the end of a statement whose caller was cancelled, and for a ROLLBACK."""
CLOSE_S = 2.0
"""For the connections to say goodbye when the service stops."""
WAITERS_PER_CONNECTION = 32
"""Callers that may wait for a connection; the next one is refused at once, so nothing piles up (R8)."""

_LOST = (
    TimeoutError,
    ConnectionError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shutting down, starting up, crashed
    asyncpg.InsufficientResourcesError,  # disk full, too many connections
    asyncpg.ReadOnlySQLTransactionError,  # no longer the primary
    asyncpg.InternalClientError,  # the server said goodbye to this connection, and it is not closed yet
)
REFUSALS = (Denied, NotFound, Conflict, Expired, Exhausted)
"""The words that refuse an act. The others refuse a request that is wrong, or fail."""

_SENTENCE = "the database does not answer"

_log = log.get()


class Transaction:
    """What a use case does to the database at once. A service's store subclasses it and adds its SQL.

    Attributes:
        connection: for the SQL of the subclass. It gives `jsonb` as text.
        now: the time at which the transaction began.
        said: whether a fact was said in it.
        asked: whether something waits for its delivery because of it.
    """

    def __init__(self, connection: "Connection", *, now: datetime, new_id: NewId) -> None:
        self.connection = connection
        self.now = now
        self.new_id = new_id
        self.said = False
        self.asked = False

    async def say(self, *facts: Fact) -> None:
        """Puts facts into the outbox: they are published after the commit, or never said at all."""
        if not self.connection.is_in_transaction():
            raise RuntimeError("a fact is said in the transaction of its cause")
        if unknown := [fact for fact in facts if fact.subject not in FACTS]:
            raise ValueError(f"not a fact of kernel.events: {unknown}")
        if not facts:
            return
        await self.connection.execute(
            """
            insert into outbox (event_id, subject, payload, traceparent, said_at)
            select event_id, subject, payload, $4, $5
            from unnest($1::uuid[], $2::text[], $3::jsonb[]) with ordinality
                as said (event_id, subject, payload, position)
            order by position
            """,
            [self.new_id() for _ in facts],
            [fact.subject for fact in facts],
            [msgspec.json.encode(fact).decode() for fact in facts],
            inject().get("traceparent"),
            self.now,
        )
        self.said = True

    async def record(
        self, actor: str, action: str, object_: str, outcome: Outcome, **detail: str | int
    ) -> None:
        """Writes an audit row; see `audit`."""
        await self.audit(AuditEntry(actor, action, object_, outcome, detail))

    async def audit(self, entry: AuditEntry) -> None:
        """Writes an audit row; it stands or falls with the transaction."""
        await self.connection.execute(
            """
            insert into audit_rows (at, actor, action, object, outcome, detail)
            values ($1, $2, $3, $4, $5, $6)
            """,
            self.now,
            entry.actor,
            entry.action,
            entry.object,
            entry.outcome,
            msgspec.json.encode(entry.detail).decode(),
        )

    async def heard(self, consumer: str, event_id: UUID) -> bool:
        """Notes that `consumer` hears this fact; True the first time. Its earlier failures are forgotten."""
        return bool(
            await self.connection.fetchval(
                """
                with healed as (delete from dead_letters where consumer = $1 and event_id = $2)
                insert into heard (consumer, event_id, heard_at) values ($1, $2, $3)
                on conflict do nothing
                returning true
                """,
                consumer,
                event_id,
                self.now,
            )
        )


T = TypeVar("T", bound=Transaction)


class Database(Generic[T]):
    """A service's own database. It comes up and comes back by itself, whenever PostgreSQL does.

    Attributes:
        spoke: set after a commit that said something; the relay waits for it.
        asked: set after a commit because of which a delivery waits; its senders wait for it.
    """

    def __init__(self, pool: "Pool", transaction: type[T], *, clock: Clock, new_id: NewId, size: int) -> None:
        self.spoke = asyncio.Event()
        self.asked = asyncio.Event()
        self._pool = pool
        self._transaction = transaction
        self._clock = clock
        self._new_id = new_id
        self._refusals = Refusals()
        self._idle: list[Proxy] = []
        self._line: deque[asyncio.Future[Proxy | None]] = deque()
        self._size, self._taken, self._waiting = size, 0, 0
        self._closing = False
        self._most_waiting = size * WAITERS_PER_CONNECTION

    @classmethod
    async def connect(
        cls,
        url: Text,
        transaction: type[T],
        *,
        clock: Clock,
        new_id: NewId,
        pool_size: int = 8,
        ca: Path | None = None,
        settings: Mapping[str, str] | None = None,
        command_s: float = COMMAND_S,
    ) -> "Database[T]":
        """Opens the pool. No connection is made before the first is needed, so PostgreSQL may be away.

        `ca` is of the server's certificate, where the server is on another machine (`remote.py`); `settings`
        are of PostgreSQL, for these connections, beside those that all have. A statement has `command_s`.
        """
        address, contexts = asked(url), remote.contexts(url, remote.DATABASE, ca)

        async def dial(*_: object, **more: Any) -> "asyncpg.Connection[asyncpg.Record]":
            connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(
                address(), ssl=contexts(), **more
            )
            return connection

        pool = await asyncpg.create_pool(
            connect=dial,
            min_size=0,
            max_size=pool_size,
            timeout=ACQUIRE_S,
            command_timeout=command_s,
            server_settings={**SERVER_SETTINGS, **(settings or {})},
            reset=_keep,
        )
        return cls(pool, transaction, clock=clock, new_id=new_id, size=pool_size)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[T]:
        """BEGIN … COMMIT at READ COMMITTED; an exception rolls back. It calls nobody else (`held.py`).

        A cut-off COMMIT raises Unavailable although it may have happened: what is repeated must be
        idempotent.
        """
        async with self.statements() as transaction:
            database_transaction = transaction.connection.transaction()
            await database_transaction.start()
            try:
                yield transaction
            except BaseException as error:
                if not _lost(error, transaction.connection):
                    await self._roll_back(database_transaction, transaction.connection)
                raise
            await database_transaction.commit()
        if transaction.said:
            self.spoke.set()
        if transaction.asked:
            self.asked.set()

    def statements(self) -> AbstractAsyncContextManager[T]:
        """Each statement commits by itself: saves two round trips where one statement is all there is."""
        return _Statements(self)

    @asynccontextmanager
    async def audited(
        self, actor: str, action: str, object_: str, *, reason: bool = False
    ) -> AsyncIterator[None]:
        """Audits a refusal of what is done within; with `reason`, the row says why.

        Open it around the transaction of the act, never inside: the refusal has a transaction of its own.
        """
        try:
            yield
        except REFUSALS as refusal:
            why = {"reason": refusal.sentence} if reason else {}
            await self.refuse(actor, action, object_, **why)
            raise

    async def refuse(self, actor: str, action: str, object_: str, **detail: str | int) -> None:
        """Audits a refused call in a transaction of its own, unless there were too many (`refusals.py`)."""
        entry = AuditEntry(actor, action, object_, "refused", detail)
        if self._refusals.allow(entry, self._clock.now()):
            async with self.statements() as transaction:
                await transaction.audit(entry)

    async def audit_suppressed(self) -> None:
        """Writes the numbers of refusals that were not audited one by one, for the minutes that are over."""
        entries = self._refusals.ended(self._clock.now())
        if not entries:
            return
        try:
            async with self.transaction() as transaction:
                for entry in entries:
                    await transaction.audit(entry)
        except BaseException:
            self._refusals.keep(entries)
            raise

    async def ready(self) -> bool:
        """Whether PostgreSQL answers now."""
        try:
            async with self.statements() as transaction:
                await transaction.connection.fetchval("select 1")
        except ReadroomError as error:
            _log.warning("the database is not ready", cause=type(error.__cause__ or error).__name__)
            return False
        return True

    async def close(self) -> None:
        """Closes every connection, by force those that do not close in time."""
        self._closing = True
        try:
            async with asyncio.timeout(CLOSE_S):
                while self._idle:
                    await self._give_back(self._idle.pop())
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    async def lend(self) -> tuple["Proxy", T]:
        """A connection, and what runs statements on it; `take_back` ends it."""
        proxy = self._take() or await self._acquire()
        connection = cast("Connection", proxy)  # it has every method of one
        try:
            return proxy, self._transaction(connection, now=self._clock.now(), new_id=self._new_id)
        except BaseException:
            await self._give_back(proxy)
            raise

    async def take_back(self, proxy: "Proxy", error: BaseException | None) -> None:
        """Takes a connection back after what `error` says; raises Unavailable if the server is at fault."""
        if error is None and not self._closing:
            self._hand_on(proxy)
            return
        lost = error is not None and _lost(error, cast("Connection", proxy))
        if lost:
            _drop(cast("Connection", proxy))
        await self._give_back(proxy)
        if lost:
            raise Unavailable(_SENTENCE) from error

    async def _roll_back(
        self, transaction: asyncpg.transaction.Transaction, connection: "Connection"
    ) -> None:
        try:
            async with asyncio.timeout(GIVE_BACK_S):
                await transaction.rollback()
        except (*_LOST, asyncpg.InterfaceError):
            _drop(connection)

    # Going to the pool and back costs two tasks, a third of what the shortest statement does. So the pool
    # makes connections and ends those that are lost. The others stay here, the last one used on top, or go
    # from one caller to the next.
    def _take(self) -> "Proxy | None":
        while self._idle:
            proxy = self._idle.pop()
            if not _closed(cast("Connection", proxy)):
                return proxy
            self._taken -= 1  # the pool has dropped it
        return None

    def _hand_on(self, proxy: "Proxy | None") -> None:
        """Gives a connection to whoever waits longest; None tells them to make one in its place."""
        while self._line:
            waiter = self._line.popleft()
            if not waiter.done():
                waiter.set_result(proxy)
                return
        if proxy is None:
            self._taken -= 1
        else:
            self._idle.append(proxy)

    async def _give_back(self, proxy: "Proxy") -> None:
        try:
            with suppress(*_LOST):  # then the pool has dropped it
                await self._pool.release(proxy, timeout=GIVE_BACK_S)
        finally:
            self._hand_on(None)

    async def _acquire(self) -> "Proxy":
        if self._waiting >= self._most_waiting:
            raise Unavailable("the database is overloaded")
        self._waiting += 1
        try:
            async with asyncio.timeout(ACQUIRE_S):
                if self._taken < self._size:
                    self._taken += 1
                else:
                    proxy = await self._in_line()
                    if proxy is not None and not _closed(cast("Connection", proxy)):
                        return proxy
                return await self._from_pool()
        except (*_LOST, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise Unavailable(_SENTENCE) from error
        finally:
            self._waiting -= 1

    async def _in_line(self) -> "Proxy | None":
        waiter: asyncio.Future[Proxy | None] = asyncio.get_running_loop().create_future()
        self._line.append(waiter)
        try:
            return await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled():  # it came in the moment in which we left
                self._hand_on(waiter.result())
            raise

    async def _from_pool(self) -> "Proxy":
        try:
            return await self._pool.acquire()
        except BaseException:
            self._hand_on(None)
            raise


class _Statements(AbstractAsyncContextManager[T]):
    """A connection for the block. A class, because each call that asks the database pays for it."""

    __slots__ = ("_database", "_held", "_proxy")

    def __init__(self, database: Database[T]) -> None:
        self._database = database
        self._held = held.Connection()

    async def __aenter__(self) -> T:
        self._proxy, transaction = await self._database.lend()
        self._held.__enter__()
        return transaction

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self._held.__exit__()
        await self._database.take_back(self._proxy, error)


async def _keep(_connection: object) -> None:
    """Resets nothing on release, which saves a round trip: nobody here changes a session."""


def _lost(error: BaseException, connection: "Connection") -> bool:
    """Whether `error` means that the server, not the statement, is at fault."""
    return isinstance(error, _LOST) or (isinstance(error, asyncpg.InterfaceError) and _closed(connection))


# A connection that PostgreSQL closed is back in the pool already, and refuses every call.
def _closed(connection: "Connection") -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        return True


def _drop(connection: "Connection") -> None:
    with suppress(asyncpg.InterfaceError):
        connection.terminate()
