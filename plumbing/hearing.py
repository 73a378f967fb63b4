"""Hearing facts: each is applied once.

Fetch the snapshot, then BEGIN → heard → apply → COMMIT → acknowledge. A fact that cannot be applied is tried
again after a growing delay; after MAX_FAILURES, or at once if the answer is FINAL, it is a dead letter.
The others are never held up.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import NAMESPACE_OID, UUID, uuid5

import msgspec
import nats.errors
from nats.aio.msg import Msg
from nats.js.api import Header
from opentelemetry.trace import SpanKind
from prometheus_client import Counter, Histogram

from kernel.clock import Clock
from kernel.errors import Conflict, Invalid, ReadroomError, Unavailable
from kernel.events import Fact, fact_of
from plumbing import log, telemetry
from plumbing.audit import AuditEntry
from plumbing.bus import Bus
from plumbing.db import Database, Transaction
from plumbing.deadletters import DeadLetter, DeadLetters
from plumbing.lanes import Held, Lanes
from plumbing.pull import in_progress
from plumbing.status import TooLarge
from plumbing.timers import cancelled

_ANSWER_S = 2.0
"""For NATS to note an acknowledgement."""
_RETRY_S = 0.5

CONCURRENCY = 8
"""Facts in work at once. Most of the time they wait for their owner's answer."""
MAX_FAILURES = 8
FINAL: tuple[type[Exception], ...] = (Invalid, TooLarge)
"""Answers that the same question gets again, however often it is asked."""
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.1, 15.0

HEARD = Counter("readroom_facts_heard", "Facts heard, by what became of them", ["subject", "outcome"])
DELAY = Histogram(
    "readroom_fact_delay_seconds",
    "From the publication of a fact to the commit of its effect",
    ["subject"],
    # P10 wants a case on the worklist within 150 ms; the last ones are an outage.
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 5, 30, 300),
)

_log = log.get()

T = TypeVar("T", bound=Transaction)
S = TypeVar("S")


@dataclass(frozen=True)
class Hearing(Generic[T, S]):
    """What a service does about one kind of fact.

    Attributes:
        fact: the kind.
        fetch: asks the owner for the snapshot, before the transaction is opened.
        apply: writes what is newer, in the transaction that notes the fact as heard.
        concerns: whether there is anything to write of a snapshot. Of what does not concern us nothing is
            noted: to hear it again does as little.
        unasked_because: why nobody is asked, see `without_asking`.
    """

    fact: type[Fact]
    fetch: Callable[[Fact], Awaitable[S]]
    apply: Callable[[T, Fact, S], Awaitable[None]]
    unasked_because: str = ""
    concerns: Callable[[S], bool] = lambda _snapshot: True


def without_asking(
    fact: type[Fact], apply: Callable[[T, Fact, None], Awaitable[None]], *, because: str
) -> Hearing[T, None]:
    """For a fact about which nobody need be asked; `because` says why it is harmless if it is not true."""
    assert because

    async def ask_nobody(_fact: Fact) -> None:
        return None

    return Hearing(fact, ask_nobody, apply, because)


_NO_FACT = (ValueError, msgspec.MsgspecError)
"""How it shows that bytes are no fact, or that they come without an id."""


class _Unreadable(Exception):
    """No fact; `known_as` is how its dead letter is known."""

    def __init__(self, known_as: UUID, why: Exception) -> None:
        super().__init__("this is no fact")
        self.known_as, self.why = known_as, why


def _headers(message: Msg) -> dict[str, str]:
    return {name: str(value) for name, value in (message.headers or {}).items()}


class Consumer(Generic[T]):
    """Hears the facts a service listens to, as a durable consumer with the service's name.

    Facts about one thing are worked on one after the other, others side by side: a worker who meets a lane
    that is taken parks the fact there and takes another. The newest of those parked stands for the older
    ones (`lanes.py`). They are noted as heard in its transaction and share what becomes of it.
    """

    def __init__(
        self,
        bus: Bus,
        database: Database[T],
        name: str,
        hearings: Sequence[Hearing[T, Any]],
        clock: Clock,
        *,
        first_delay_s: float = _FIRST_DELAY_S,
    ) -> None:
        self._bus = bus
        self._database = database
        self._name = name
        self._hearings = {hearing.fact.subject: hearing for hearing in hearings}
        self._clock = clock
        self._first_delay_s = first_delay_s
        self._lanes: Lanes[Msg] = Lanes()
        self.letters = DeadLetters(database, name)

    async def run(self) -> None:
        """Hears until it is cancelled, whatever becomes of NATS, the stream and the consumer."""
        async with asyncio.TaskGroup() as workers:
            for _ in range(CONCURRENCY):
                workers.create_task(self._work())
            workers.create_task(self.letters.tend())

    async def replay(self, letter: DeadLetter, entry: AuditEntry) -> None:
        """Applies a dead letter now, with this audit row.

        Raises Conflict if the fact fails again or cannot be read, Unavailable if its owner does not answer.
        """
        try:
            fact = self._fact(letter.subject, letter.payload.encode())
        except _NO_FACT:
            raise Conflict("the fact cannot be read, so nothing can be applied: drop it") from None
        try:
            await self._apply(letter.subject, fact, letter.event_id, [], entry)
        except Unavailable:
            raise
        except Exception as error:
            _log.warning("a dead fact failed again", event_id=letter.event_id, exc_info=error)
            await self.letters.fail(letter.event_id, letter.subject, letter.payload, error, max_failures=1)
            said = error.sentence if isinstance(error, ReadroomError) else "an unexpected error, see its log"
            raise Conflict(f"the fact failed again: {said}") from error

    async def _work(self) -> None:
        while not cancelled():
            try:
                async with self._bus.pulling(self._name) as pull:
                    while not cancelled():
                        if message := await pull.next():
                            await self._hear(message)
            except Unavailable:
                await asyncio.sleep(_RETRY_S)

    async def _hear(self, message: Msg) -> None:
        """Works on a fact and on those that come meanwhile about the same thing, or parks it."""
        try:
            held = self._read(message)
        except _Unreadable as unreadable:
            failing = self._fail(message, unreadable.known_as, unreadable.why, max_failures=1)
            async with in_progress(lambda: [message]):
                await self._tell([message], await self._or_waits(failing))
            return
        if not self._lanes.parks(held.fact):
            await self._tell([message], "waits")
            return
        lane = self._lanes.enter(held)
        if lane is None:
            return
        try:
            async with in_progress(lambda: [each.message for each in lane.held]):
                while True:
                    await self._settle(lane.in_work)
                    if not self._lanes.advance(lane):
                        break
        finally:
            self._lanes.leave(lane)

    def _read(self, message: Msg) -> Held[Msg]:
        """The fact in a message. If only a newer version of this service hears it, it is a plain Fact."""
        try:
            known_as = UUID(_headers(message).get(Header.MSG_ID, ""))
            return Held(self._fact(message.subject, message.data), known_as, message)
        except _NO_FACT as error:
            place = message.metadata
            known_as = uuid5(NAMESPACE_OID, f"{place.timestamp} {place.sequence.stream}")
            raise _Unreadable(known_as, error) from error

    def _fact(self, wire_subject: str, payload: bytes) -> Fact:
        """Raises one of _NO_FACT."""
        subject, sayer = fact_of(wire_subject)
        kind = self._hearings[subject].fact if subject in self._hearings else Fact
        return msgspec.json.decode(payload, type=kind).said_by(sayer)

    async def _settle(self, group: Sequence[Held[Msg]]) -> None:
        """Applies the newest of a group, or counts its failure; NATS is told of all."""
        newest, *older = group
        headers = _headers(newest.message)
        subject = newest.message.subject
        with (
            telemetry.span(f"hear {subject}", SpanKind.CONSUMER, headers),
            log.bound(consumer=self._name, subject=subject, event_id=str(newest.event_id)),
        ):
            outcome = await self._or_waits(self._outcome(newest, older))
            await self._tell([each.message for each in group], outcome)

    async def _outcome(self, newest: Held[Msg], older: Sequence[Held[Msg]]) -> str:
        try:
            subject, older_ids = newest.message.subject, [each.event_id for each in older]
            # One that failed before has a dead letter to heal.
            anew = all(each.message.metadata.num_delivered == 1 for each in (newest, *older))
            applied = await self._apply(subject, newest.fact, newest.event_id, older_ids, anew=anew)
            return "applied" if applied else "repeated"
        except Unavailable:
            raise
        except Exception as error:
            most = 1 if isinstance(error, FINAL) else MAX_FAILURES
            return await self._fail(newest.message, newest.event_id, error, max_failures=most)

    async def _or_waits(self, outcome: Awaitable[str]) -> str:
        try:
            return await outcome
        except Unavailable as error:
            _log.info("a fact has to wait", cause=error.sentence)
        except Exception:  # its failure cannot even be counted: the others go on
            _log.exception("a fact has to wait")
        return "waits"

    async def _apply(
        self,
        wire_subject: str,
        fact: Fact,
        event_id: UUID,
        older: Sequence[UUID],
        entry: AuditEntry | None = None,
        *,
        anew: bool = False,
    ) -> bool:
        """False: the fact was applied before, and with it the older ones.

        `anew`: each of them comes for the first time.
        """
        hearing = self._hearings.get(fact_of(wire_subject)[0])
        if hearing is None:
            raise Unavailable("only a newer version of this service hears this fact")
        snapshot = await hearing.fetch(fact)
        if anew and not hearing.concerns(snapshot):
            return True
        async with self._database.transaction() as transaction:
            first_time = await transaction.heard(self._name, event_id)
            if first_time:
                await hearing.apply(transaction, fact, snapshot)
            for each in sorted(set(older) - {event_id}):
                await transaction.heard(self._name, each)
            if entry:
                await transaction.audit(entry)
        return first_time

    async def _tell(self, messages: Sequence[Msg], outcome: str) -> None:
        """Tells NATS what became of messages. What it does not hear comes again, and is known."""
        for message in messages:
            with suppress(nats.errors.Error, TimeoutError):
                if outcome in ("applied", "repeated"):
                    await message.ack_sync(timeout=_ANSWER_S)
                elif outcome == "died":
                    await message.term()
                else:
                    await message.nak(delay=self._delay_s(message))
            HEARD.labels(message.subject, outcome).inc()
            if outcome == "applied":
                # Both times are the machines': the injected clock may be moved by a demo.
                delay_s = time.time() - message.metadata.timestamp.timestamp()
                DELAY.labels(message.subject).observe(delay_s)

    async def _fail(self, message: Msg, event_id: UUID, error: Exception, *, max_failures: int) -> str:
        """Counts a failure: the fact comes again later, or never after the last."""
        payload = message.data.decode(errors="backslashreplace")
        if await self.letters.fail(event_id, message.subject, payload, error, max_failures=max_failures):
            _log.error("a fact is dead", exc_info=error)
            return "died"
        _log.warning("a fact cannot be applied yet", exc_info=error)
        return "failed"

    def _delay_s(self, message: Msg) -> float:
        doublings = min(message.metadata.num_delivered - 1, 16)
        return min(self._first_delay_s * 2.0**doublings, _LONGEST_DELAY_S)
