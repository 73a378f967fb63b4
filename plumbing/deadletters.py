"""Dead letters: the facts that a service could not apply, until they are applied, dropped or too old.

A row is written when a fact fails for the first time. It is dead after the last attempt (`hearing.py`); what
an operator can do then is in `replaying.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar
from uuid import UUID

from prometheus_client import Gauge

from kernel.errors import ReadroomError
from plumbing import log, timers
from plumbing.audit import AuditEntry
from plumbing.db import Database, Transaction

MAX_PAYLOAD_CHARACTERS = 64 << 10
"""A fact with its ids is much shorter. One that was cut can be dropped, not replayed."""
MAX_SENTENCE_CHARACTERS = 4000
KEPT_FOR = timedelta(days=90)
"""As long as settled notices. The owners' versions are compared each week, so an old letter heals nothing."""
TEND_S = 60.0
_PRUNED_AT_ONCE = 5_000

DEAD = Gauge("readroom_dead_letters", "Alert above 0: facts that this service could not apply")

T = TypeVar("T", bound=Transaction)


@dataclass(frozen=True, slots=True)
class Position:
    """Where a letter stands in the list."""

    first_failed_at: datetime
    event_id: UUID


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A fact that failed.

    Attributes:
        event_id: of the fact; of what is no fact, made from its place in the stream.
        died_at: when it was given up; None while it is still being tried.
    """

    event_id: UUID
    subject: str
    payload: str
    sentence: str
    failures: int
    first_failed_at: datetime
    last_failed_at: datetime
    died_at: datetime | None

    @property
    def position(self) -> Position:
        return Position(self.first_failed_at, self.event_id)


_COLUMNS = "event_id, subject, payload, sentence, failures, first_failed_at, last_failed_at, died_at"


class DeadLetters(Generic[T]):
    """The dead letters of one consumer."""

    def __init__(self, database: Database[T], consumer: str) -> None:
        self.database = database
        self.consumer = consumer

    async def fail(
        self, event_id: UUID, subject: str, payload: str, error: Exception, *, max_failures: int
    ) -> bool:
        """Counts a failure; True if it was the last."""
        sentence = error.sentence if isinstance(error, ReadroomError) else log.describe(error)
        async with self.database.statements() as transaction:
            return bool(
                await transaction.connection.fetchval(
                    """
                    insert into dead_letters as letter (
                        consumer, event_id, subject, payload, error, sentence, failures,
                        first_failed_at, last_failed_at, died_at
                    )
                    values ($1, $2, $3, $4, $5, $6, 1, $7, $7, case when $8 <= 1 then $7::timestamptz end)
                    on conflict (consumer, event_id) do update set
                        error = excluded.error,
                        sentence = excluded.sentence,
                        failures = letter.failures + 1,
                        last_failed_at = excluded.last_failed_at,
                        died_at = case when letter.failures + 1 >= $8 then excluded.last_failed_at end
                    returning died_at is not null
                    """,
                    self.consumer,
                    event_id,
                    subject,
                    payload.replace("\0", "")[:MAX_PAYLOAD_CHARACTERS],
                    f"{type(error).__module__}.{type(error).__qualname__}",
                    sentence[:MAX_SENTENCE_CHARACTERS],
                    transaction.now,
                    max_failures,
                )
            )

    async def list_dead_letters(self, after: Position | None, limit: int) -> Sequence[DeadLetter]:
        """Newest first."""
        async with self.database.statements() as transaction:
            rows = await transaction.connection.fetch(
                f"""
                select {_COLUMNS} from dead_letters
                where consumer = $1 and ($2::timestamptz is null or (first_failed_at, event_id) < ($2, $3))
                order by first_failed_at desc, event_id desc limit $4
                """,  # noqa: S608
                self.consumer,
                after and after.first_failed_at,
                after and after.event_id,
                limit,
            )
        return [DeadLetter(**row) for row in rows]

    async def find(self, event_id: UUID) -> DeadLetter | None:
        async with self.database.statements() as transaction:
            row = await transaction.connection.fetchrow(
                f"select {_COLUMNS} from dead_letters where consumer = $1 and event_id = $2",  # noqa: S608
                self.consumer,
                event_id,
            )
        return DeadLetter(**row) if row else None

    async def drop(self, letter: DeadLetter, entry: AuditEntry) -> None:
        """Gives a fact up: noted as heard, it is not tried if it comes again."""
        async with self.database.transaction() as transaction:
            await transaction.heard(self.consumer, letter.event_id)
            await transaction.audit(entry)

    async def tend(self) -> None:
        """Counts the dead, and removes what is too old, for as long as the process lives."""
        await timers.every(TEND_S, self.count, self.prune)

    async def count(self) -> None:
        async with self.database.statements() as transaction:
            dead = await transaction.connection.fetchval(
                "select count(*) from dead_letters where consumer = $1 and died_at is not null", self.consumer
            )
        DEAD.set(dead)

    async def prune(self) -> None:
        async with self.database.statements() as transaction:
            await transaction.connection.execute(
                """
                delete from dead_letters where ctid = any(array(
                    select ctid from dead_letters where first_failed_at < $1 limit $2))
                """,
                transaction.now - KEPT_FOR,
                _PRUNED_AT_ONCE,
            )
