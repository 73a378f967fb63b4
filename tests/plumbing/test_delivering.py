"""The engine of deliveries, on a table that knows nothing of mails."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from kernel.delivery import Delivery, Event, State, Undelivered
from kernel.ids import UUID7
from plumbing import db, delivering
from plumbing.delivering import Envelope, Queue, Sender
from tests.clocks import Clock
from tests.wait import eventually

_QUEUE = Queue("reports_sent", "report_id")


class Transaction(db.Transaction):
    """A store of reports that are to be sent to some other system."""

    async def claim(self, held_until: datetime) -> Delivery | None:
        row = await _QUEUE.claim(self, held_until)
        if row is None:
            return None
        return Delivery(
            id=row["report_id"],
            state=State(row["state"]),
            attempts=row["attempts"],
            held_until=row["next_attempt_at"],
            trying_since=row["trying_since"],
            last_error=row["last_error"],
        )

    async def advance(self, delivery: Delivery, was: Collection[State]) -> bool:
        return await _QUEUE.advance(self, delivery, was)

    async def wake(self) -> None:
        await _QUEUE.wake(self)

    async def add(self, report_id: UUID) -> None:
        await self.connection.execute(
            "insert into reports_sent (report_id, next_attempt_at) values ($1, $2)", report_id, self.now
        )


@dataclass
class Receiver:
    """Another system, and what it answers to each report: nothing is taking it."""

    taken: list[str] = field(default_factory=list)
    says: Event | None = None

    @asynccontextmanager
    async def envelope(self, content: str) -> AsyncIterator[Envelope]:
        if self.says is Event.AWAY:
            raise Undelivered(Event.AWAY, "nobody answers")
        yield _Envelope(self, content)


@dataclass
class _Envelope:
    receiver: Receiver
    content: str

    async def hand_over(self) -> None:
        if self.receiver.says is not None:
            raise Undelivered(self.receiver.says, "as told")
        self.receiver.taken.append(self.content)


@dataclass
class Reports:
    database: db.Database[Transaction]
    clock: Clock
    receiver: Receiver
    sender: Sender[Delivery, str]
    settled: list[Event]

    async def add(self) -> UUID:
        report_id = uuid4()
        async with self.database.transaction() as transaction:
            await transaction.add(report_id)
        return report_id

    async def deliver(self) -> int:
        attempts = 0
        while await self.sender.deliver_next():
            attempts += 1
        return attempts

    async def states(self) -> dict[UUID, str]:
        async with self.database.statements() as transaction:
            rows = await transaction.connection.fetch("select report_id, state from reports_sent")
        return {row["report_id"]: row["state"] for row in rows}


@pytest.fixture
async def reports(fresh_database: Callable[[str], str]) -> AsyncIterator[Reports]:
    clock, receiver, settled = Clock(), Receiver(), list[Event]()
    database = await db.Database.connect(
        fresh_database("reporting"), Transaction, clock=clock, new_id=UUID7(clock)
    )
    async with database.statements() as transaction:
        await transaction.connection.execute(
            """
            create table reports_sent (
                report_id uuid primary key, state text not null default 'waiting',
                attempts integer not null default 0, trying_since timestamptz,
                next_attempt_at timestamptz not null, sent_at timestamptz, last_error text not null default ''
            )
            """
        )

    async def write(delivery: Delivery) -> str:
        return str(delivery.id)

    async def note(_transaction: Any, _delivery: Delivery, event: Event) -> None:
        settled.append(event)

    sender = Sender("report", database, write, receiver, note)
    yield Reports(database, clock, receiver, sender, settled)
    await database.close()


async def test_each_report_is_handed_over_once_by_however_many(reports: Reports) -> None:
    added = {str(await reports.add()) for _ in range(20)}

    await asyncio.gather(*(reports.deliver() for _ in range(4)))

    assert sorted(added) == sorted(reports.receiver.taken)
    assert [Event.TAKEN] * 20 == reports.settled


async def test_what_the_receiver_does_not_take_waits_longer_and_longer_and_is_given_up(
    reports: Reports,
) -> None:
    await reports.add()
    reports.receiver.says = Event.LATER
    assert 1 == await reports.deliver()
    reports.clock.pass_by(timedelta(seconds=1))
    assert 1 == await reports.deliver()
    reports.clock.pass_by(timedelta(hours=48))
    assert 1 == await reports.deliver()

    assert {"dead"} == set((await reports.states()).values())


async def test_the_first_that_is_taken_wakes_what_waited_for_the_receiver(reports: Reports) -> None:
    first = await reports.add()
    reports.receiver.says = Event.AWAY
    await reports.deliver()
    reports.clock.pass_by(timedelta(hours=1))
    await reports.deliver()
    reports.receiver.says = None
    second = await reports.add()

    await reports.deliver()

    assert [str(second), str(first)] == reports.receiver.taken


async def test_what_was_begun_and_not_answered_is_nobodys_but_an_operators(reports: Reports) -> None:
    report_id = await reports.add()
    reports.receiver.says = Event.LOST
    await reports.deliver()
    reports.receiver.says = None
    reports.clock.pass_by(timedelta(days=3))

    assert 0 == await reports.deliver()
    assert {report_id: "unknown"} == await reports.states()


async def test_it_delivers_as_soon_as_it_is_asked(reports: Reports) -> None:
    asked = asyncio.Event()
    running = asyncio.create_task(delivering.run(reports.sender, asked, 2))
    report_id = await reports.add()
    asked.set()

    async def sent() -> bool:
        return await reports.states() == {report_id: "sent"}

    await eventually(sent)
    running.cancel()
    await asyncio.wait([running])
