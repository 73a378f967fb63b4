"""Hands things over, each at most once unless its receiver itself says that it did not take it.

Claim → prepare → connect → commit UNKNOWN → hand over → commit what the receiver said. Who dies before the
second commit leaves a delivery that others take up; who dies after it, one that only an operator does. The
states and pauses are those of `kernel/delivery.py`; what is delivered, a service says.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager, suppress
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

import asyncpg

from kernel.delivery import (
    HELD_FOR,
    LONGEST_PAUSE,
    MAX_ERROR_CHARACTERS,
    Delivery,
    Event,
    NotDue,
    State,
    Undelivered,
)
from kernel.errors import ReadroomError, Unavailable
from plumbing import log, timers
from plumbing.db import Transaction

AGAIN_S = 0.5
"""How soon what became of a delivery is written again while the database does not answer."""

LOOK_INTERVAL_S = 1.0
"""How soon a delivery is seen that became due by the clock; one just asked for is seen at once."""

FINISH_S = 0.8
"""What a delivery on its way has when the process ends: less than the second that tasks are given."""

D = TypeVar("D", bound=Delivery)
Content = TypeVar("Content")
Content_in = TypeVar("Content_in", contravariant=True)

_log = log.get()


class Envelope(Protocol):
    """A receiver that waits for one content, having accepted to take it."""

    async def hand_over(self) -> None:
        """Raises Undelivered unless the receiver has taken it."""
        ...


class Channel(Protocol[Content_in]):
    """The way to the receivers."""

    def envelope(self, content: Content_in, /) -> AbstractAsyncContextManager[Envelope]:
        """Raises Undelivered if nobody is there to take it, or it is not accepted."""
        ...


class Queue:
    """The statements over a table of deliveries.

    Its columns beside the key: `state`, `attempts`, `trying_since`, `next_attempt_at` (`held_until`),
    `sent_at`, `last_error`.
    """

    def __init__(self, table: str, key: str) -> None:
        self._claim = f"""
            update {table} set attempts = attempts + 1, next_attempt_at = $2,
                trying_since = coalesce(trying_since, $1)
            where {key} = (
                select {key} from {table}
                where state = 'waiting' and (next_attempt_at <= $1 or next_attempt_at > $3)
                order by next_attempt_at limit 1 for update skip locked
            )
            returning *
            """  # noqa: S608  names of our own
        self._advance = f"""
            update {table} set state = $2, trying_since = $3, next_attempt_at = $4, sent_at = $5,
                last_error = $6
            where {key} = $1 and attempts = $7 and state = any($8)
            returning true
            """  # noqa: S608
        self._wake = f"""
            update {table} set next_attempt_at = $1
            where {key} in (
                select {key} from {table}
                where state = 'waiting' and next_attempt_at > $1 for update skip locked
            )
            """  # noqa: S608

    async def claim(self, transaction: Transaction, held_until: datetime) -> asyncpg.Record | None:
        """The row that has waited longest, held by the caller alone until then.

        One that would have to wait longer than ever is due too: the clock was set back after a restart (R11).
        """
        now = transaction.now
        return await transaction.connection.fetchrow(self._claim, now, held_until, now + LONGEST_PAUSE)

    async def advance(self, transaction: Transaction, delivery: Delivery, was: Collection[State]) -> bool:
        """Saves how the delivery stands, unless it is no longer as it was or another attempt's."""
        return bool(
            await transaction.connection.fetchval(
                self._advance,
                delivery.id,
                delivery.state,
                delivery.trying_since,
                delivery.held_until,
                delivery.sent_at,
                delivery.last_error[:MAX_ERROR_CHARACTERS],
                delivery.attempts,
                list(was),
            )
        )

    async def wake(self, transaction: Transaction) -> None:
        """Whatever waits is due now; an attempt that holds such a delivery finds that it is another's.

        What somebody is just writing is left to them, so that two who write many never wait for each other.
        """
        await transaction.connection.execute(self._wake, transaction.now)


class Database(Protocol):
    """Opens transactions, or lets single statements commit by themselves."""

    def transaction(self) -> AbstractAsyncContextManager[Any]: ...
    def statements(self) -> AbstractAsyncContextManager[Any]: ...


Settled = Callable[[Any, D, Event], Awaitable[None]]
"""What else is written, in the transaction that settles a delivery, once its receiver has had its chance."""


class Sender(Generic[D, Content]):
    """Delivers what waits in a database.

    Args:
        name: what the log calls a delivery.
        prepare: makes the content. Raises NotDue if there is nothing to deliver any more, a word if it
            cannot be made now.
        channel: hands the content over.
        settled: see `Settled`.
    """

    def __init__(
        self,
        name: str,
        database: Database,
        prepare: Callable[[D], Awaitable[Content]],
        channel: Channel[Content],
        settled: Settled[D],
    ) -> None:
        self._name = name
        self._database = database
        self._prepare = prepare
        self._channel = channel
        self._settled = settled
        self._was_away = True  # who begins does not know

    async def deliver_next(self) -> bool:
        """One attempt at what has waited longest; False if nothing is due."""
        async with self._database.statements() as transaction:
            delivery: D | None = await transaction.claim(transaction.now + HELD_FOR)
        if delivery is None:
            return False
        try:
            content = await self._prepare(delivery)
            async with self._channel.envelope(content) as envelope:
                begun = await self._begin(delivery)
                if begun is None:
                    return True
                delivery = begun
                await envelope.hand_over()
            event, reason = Event.TAKEN, ""
        except NotDue as not_due:
            event, reason = Event.CANCEL, str(not_due)
        except Undelivered as undelivered:
            event, reason = undelivered.event, undelivered.reason
        except ReadroomError as error:
            event, reason = delivery.unanswered, error.sentence
        except Exception:
            _log.exception("unexpected error")
            event, reason = delivery.unanswered, "unexpected error, see the log"
        await self._settle(delivery, event, reason)
        return True

    async def _begin(self, delivery: D) -> D | None:
        """The delivery as it stands from now on; None if it was cancelled, or is another attempt's by now."""
        async with self._database.statements() as transaction:
            begun = delivery.begun(transaction.now)
            return begun if await transaction.advance(begun, [delivery.state]) else None

    async def _settle(self, delivery: D, event: Event, reason: str) -> None:
        """Writes what became of the delivery, and insists: it may be known to nobody else."""
        wakes = event is Event.TAKEN and self._was_away
        if event in (Event.AWAY, Event.TAKEN):
            self._was_away = event is Event.AWAY  # said before anything is awaited: one wakes for all
        while True:
            try:
                async with self._database.transaction() as transaction:
                    settled = delivery.after(event, reason, transaction.now)
                    # UNKNOWN too where an answer to the commit of it was lost.
                    if not await transaction.advance(settled, [State.WAITING, State.UNKNOWN]):
                        return
                    if wakes:
                        await transaction.wake()
                    if event in (Event.TAKEN, Event.REFUSED, Event.LOST):
                        await self._settled(transaction, delivery, event)
            except Unavailable:
                await asyncio.sleep(AGAIN_S)
            else:
                about: dict[str, UUID] = {self._name: delivery.id}
                _log.info(self._name, **about, state=settled.state, reason=settled.last_error)
                return


async def run(sender: Sender[Any, Any], asked: asyncio.Event, at_once: int) -> None:
    """Delivers what is due, several at once, as soon as it is asked for."""
    async with asyncio.TaskGroup() as senders:
        for _ in range(at_once):
            senders.create_task(_send(sender, asked))


async def _send(sender: Sender[Any, Any], asked: asyncio.Event) -> None:
    while True:
        asked.clear()
        sent = False
        with timers.surviving("send") as attempt:
            sent = await _whole(sender.deliver_next())
        if attempt.failed:
            await asyncio.sleep(LOOK_INTERVAL_S)
        elif not sent:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_INTERVAL_S):
                    await asked.wait()


async def _whole(attempt: Awaitable[bool]) -> bool:
    """Does not break an attempt off when the process ends: nobody would know of what it was handing over."""
    task = asyncio.ensure_future(attempt)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=FINISH_S)
        task.cancel()
        raise
