"""The outbox: what a transaction said is published after its commit, whatever becomes of NATS.

Rows are claimed by their state, never by `id > last`: ids become visible out of order. A claim is committed
before its rows are published, and lasts for CLAIM_S: no connection is held while NATS is asked. A row is
marked after the stream acknowledged it. If that is cut off, or comes after the end of the claim, the row is
published again, and the stream or the hearer recognises its event id. When the stream was lost and made
again, the rows of the last 7 days become unpublished (R10).
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from operator import itemgetter
from typing import Generic, TypeVar

import asyncpg
from prometheus_client import Counter, Gauge

from kernel.clock import Clock
from kernel.errors import Unavailable
from plumbing import log, timers
from plumbing.bus import Bus
from plumbing.db import Database, Transaction
from plumbing.stream import KEPT_S, STREAM

BATCH = 256
"""Rows claimed at once: their acknowledgements overlap, and a batch stays well below a second."""
CLAIM_S = 5.0
"""Longer than publishing and marking a batch takes. The rows of a relay that died wait so long."""
POLL_S = 1.0
"""The safety net: the commit itself wakes the relay."""
TEND_S = 5.0
"""Between looks at the stream's creation time, the depth of the outbox, and what is too old."""
_KEPT = timedelta(seconds=KEPT_S)
_HEARD_KEPT = 2 * _KEPT + timedelta(days=1)
"""A row is sent again up to 7 days after its publication, and the stream keeps that for 7 days more."""
_PRUNE = {
    _KEPT: """
        delete from outbox
        where id = any(array(select id from outbox where published_at < $1 limit $2))
        """,
    _HEARD_KEPT: """
        delete from heard
        where ctid = any(array(select ctid from heard where heard_at < $1 limit $2))
        """,
}
_PRUNED_AT_ONCE = 5_000
_RESEND_S = 60.0
"""For the one statement that makes 7 days of rows unpublished."""

OVERDUE_S = 60.0
"""Longer than NATS takes to start again, or the bus to be mended."""

DEPTH = Gauge("readroom_outbox_facts", "Facts that wait to be published")
WAITS = Gauge(
    "readroom_outbox_waits_s", "Alert above 60: how long the oldest fact has waited to be published"
)
PUBLISHED = Counter("readroom_facts_published", "Facts that the stream acknowledged", ["subject"])

_log = log.get()
T = TypeVar("T", bound=Transaction)


class Relay(Generic[T]):
    """Publishes a database's outbox. Several relays of one database share the work."""

    def __init__(self, database: Database[T], bus: Bus, clock: Clock) -> None:
        self._database = database
        self._bus = bus
        self._clock = clock
        self._tended_at = -TEND_S
        self._waiting_for = ""
        self._overdue = False

    async def run(self) -> None:
        """Publishes until it is cancelled."""
        while not timers.cancelled():
            self._database.spoke.clear()
            try:
                await self._tend()
                claimed = await self._publish()
            except Unavailable as error:
                self._note(error.sentence)
                self._tended_at = -TEND_S  # perhaps the stream is gone
                await asyncio.sleep(POLL_S)
                continue
            self._note("")
            if claimed < BATCH:
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await self._database.spoke.wait()

    def _note(self, waiting_for: str) -> None:
        if waiting_for != self._waiting_for:
            self._waiting_for = waiting_for
            if waiting_for:
                _log.warning("facts wait in the outbox", cause=waiting_for)
            else:
                _log.info("the outbox drains again")

    async def _publish(self) -> int:
        """Publishes a batch; returns how many rows were claimed. Raises Unavailable if one was not taken."""
        rows = await self._claim()
        answers = await asyncio.gather(
            *(
                self._bus.publish(
                    row["subject"],
                    row["payload"].encode(),
                    row["event_id"],
                    {"traceparent": row["traceparent"]} if row["traceparent"] else {},
                )
                for row in rows
            ),
            return_exceptions=True,
        )
        taken = [row for row, answer in zip(rows, answers, strict=True) if answer is None]
        if rows:
            await self._mark([row["id"] for row in rows], [row["id"] for row in taken])
        for row in taken:
            PUBLISHED.labels(row["subject"]).inc()
        _raise_first(rows, answers)
        return len(rows)

    # The clock of PostgreSQL is the same for all relays. A claim that ends much too late was made before that
    # clock was set back, and does not count any more. One of a statement that began a moment after ours, and
    # was quicker, ends a little later than ours would.
    async def _claim(self) -> Sequence[asyncpg.Record]:
        """The oldest rows that no other relay publishes now, oldest first."""
        async with self._database.statements() as statements:
            rows = await statements.connection.fetch(
                """
                update outbox set claimed_until = now() + $1 where id = any(array(
                    select id from outbox
                    where published_at is null
                        and (claimed_until is null or claimed_until not between now() and now() + $1 + $1)
                    order by id
                    limit $2
                    for update skip locked))
                returning id, event_id, subject, payload, traceparent
                """,
                timedelta(seconds=CLAIM_S),
                BATCH,
            )
        return sorted(rows, key=itemgetter("id"))

    async def _mark(self, claimed: Sequence[int], taken: Sequence[int]) -> None:
        """Ends a claim; those that the stream took are published."""
        async with self._database.statements() as statements:
            await statements.connection.execute(
                """
                update outbox
                set claimed_until = null, published_at = case when id = any($2) then $3::timestamptz end
                where id = any($1) and published_at is null
                """,
                claimed,
                taken,
                statements.now,
            )

    async def _tend(self) -> None:
        if time.monotonic() - self._tended_at < TEND_S:
            return
        await self._measure()
        created_at = await self._bus.stream_created_at()
        async with self._database.transaction() as transaction:
            # The row is locked by the insert, so that of several relays one finds the stream changed.
            known = await transaction.connection.fetchval(
                """
                insert into bus_state as state (stream, created_at) values ($1, $2)
                on conflict (stream) do update set created_at = state.created_at
                returning created_at
                """,
                STREAM,
                created_at,
            )
            if known != created_at:
                await transaction.connection.execute(
                    "update bus_state set created_at = $2 where stream = $1", STREAM, created_at
                )
                told = await transaction.connection.execute(
                    "update outbox set published_at = null where published_at > $1",
                    transaction.now - _KEPT,
                    timeout=_RESEND_S,
                )
                _log.warning("the stream was made again: the outbox fills it", facts=int(told.split()[-1]))
            await self._prune(transaction)
        self._tended_at = time.monotonic()

    async def _measure(self) -> None:
        """Tells how many facts wait, and whether they wait too long."""
        async with self._database.statements() as statements:
            [(count, oldest)] = await statements.connection.fetch(
                "select count(*), min(said_at) from outbox where published_at is null"
            )
            waits_s = (statements.now - oldest).total_seconds() if oldest else 0.0
        DEPTH.set(count)
        WAITS.set(waits_s)
        overdue = waits_s > OVERDUE_S
        if overdue and not self._overdue:
            _log.error("the outbox does not drain", cause=self._waiting_for, facts=count)
        self._overdue = overdue

    async def _prune(self, transaction: T) -> None:
        for kept, statement in _PRUNE.items():
            await transaction.connection.execute(statement, transaction.now - kept, _PRUNED_AT_ONCE)


def _raise_first(rows: Sequence[asyncpg.Record], answers: Sequence[BaseException | None]) -> None:
    """Raises that NATS is away. A row that fails for another reason is told, and keeps no other."""
    for row, answer in zip(rows, answers, strict=True):
        if isinstance(answer, Exception) and not isinstance(answer, Unavailable):
            with timers.surviving("publish a fact", subject=row["subject"], event_id=row["event_id"]):
                raise answer
    for answer in answers:
        if answer is not None and (isinstance(answer, Unavailable) or not isinstance(answer, Exception)):
            raise answer
