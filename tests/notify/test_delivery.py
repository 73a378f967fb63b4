"""One notice per intent, handed over once, whatever fails."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from kernel.delivery import HELD_FOR, State
from kernel.errors import Conflict, Unavailable
from kernel.reach import Reach
from plumbing import delivering
from plumbing.delivering import Envelope, Sender
from services.notify.domain import Letter, Notice
from services.notify.store import NotifyTransaction
from services.notify.usecases import OPERATOR
from tests.notify.conftest import Notify

LONG = timedelta(hours=1)


@pytest.mark.proves("NTF-2")
@pytest.mark.proves("SHR-28")
async def test_a_share_is_told_by_mail_once_however_often_it_is_heard(notify: Notify) -> None:
    bucket = notify.owners.bucket(message="Please look")
    for _ in range(3):
        await notify.created(bucket)

    (mail,) = await notify.deliver()
    await notify.created(bucket)

    assert [mail] == await notify.deliver()
    assert ("readroom@group.example", "roe@clinic.example") == (mail.sender, mail.to)
    assert f"https://readroom.example/shared/{'L' * 43}" in mail.text
    assert "> Please look" in mail.text
    notice = await notify.only()
    assert (State.SENT, 1, notify.clock.now()) == (notice.state, notice.attempts, notice.sent_at)


async def test_who_is_not_to_get_a_mail_gets_none(notify: Notify) -> None:
    await notify.created(notify.owners.bucket(mail_due=False))

    assert [] == await notify.deliver()
    assert [] == await notify.all()


# What ends a notice


@pytest.mark.parametrize(
    "gone", ["revoked", "no longer due", "expired", "deleted", "inactive", "operator", "no address"]
)
async def test_what_has_ended_before_the_mail_is_not_told(notify: Notify, gone: str) -> None:
    owners = notify.owners
    jane = owners.person("Jane Roe")
    bucket = owners.bucket(jane, ends_at=notify.clock.now() + LONG)
    await notify.created(bucket)

    match gone:
        case "revoked":
            del owners.buckets[bucket.id]
        case "no longer due":
            owners.bucket(jane, id=bucket.id, mail_due=False)
        case "expired":
            notify.clock.pass_by(LONG)
        case "deleted":
            owners.exams.clear()
        case "inactive":
            owners.bump(jane, active=False)
        case "operator":
            owners.bump(jane, is_operator=True)
        case "no address":
            owners.bump(jane, email="")

    assert [] == await notify.deliver()
    assert State.CANCELLED == await notify.state()


async def test_a_mail_tells_of_the_cases_that_are_left(notify: Notify) -> None:
    first, second = notify.owners.exam("A.B."), notify.owners.exam("C.D.")
    await notify.created(notify.owners.bucket(case_ids=(first, second)))
    del notify.owners.exams[first]

    (mail,) = await notify.deliver()

    assert "C.D." in mail.text
    assert "A.B." not in mail.text


async def test_a_share_that_ends_is_heard_before_the_mail_is_tried(notify: Notify) -> None:
    bucket = notify.owners.bucket()
    await notify.created(bucket)
    await notify.ended(bucket)

    assert [] == await notify.deliver()
    assert State.CANCELLED == await notify.state()


async def test_a_mail_that_sharing_says_is_due_is_sent_whatever_a_fact_says(notify: Notify) -> None:
    bucket = notify.owners.bucket()
    await notify.created(bucket)
    await notify.told_that_it_ended(bucket)

    assert 1 == len(await notify.deliver())
    assert State.SENT == await notify.state()


async def test_a_share_that_ends_while_the_mail_server_waits_for_the_mail_stops_it(notify: Notify) -> None:
    bucket = notify.owners.bucket()
    await notify.created(bucket)
    post = Steps(notify)
    post.at["accepted"] = lambda: notify.ended(bucket)

    assert await post.sender.deliver_next()

    assert [] == await notify.deliver()
    assert State.CANCELLED == await notify.state()


# A mail server on a bad day

WAITS, DEAD, UNKNOWN, SENT = State.WAITING, State.DEAD, State.UNKNOWN, State.SENT


@pytest.mark.parametrize(
    ("at", "answer", "state", "reason"),
    [
        ("MAIL", "451 4.3.0 come later", WAITS, "the mail server answered 451 4.3.0 to MAIL"),
        ("RCPT", "450 4.2.1 roe@clinic.example is busy", WAITS, "the mail server answered 450 4.2.1 to RCPT"),
        ("RCPT", "550 5.1.1 roe@clinic.example unknown", DEAD, "the mail server answered 550 5.1.1 to RCPT"),
        ("DATA", "451 not now", WAITS, "the mail server answered 451 to DATA"),
        ("DATA", "554 no", DEAD, "the mail server answered 554 to DATA"),
        ("content", "452 4.3.1 full", WAITS, "the mail server answered 452 4.3.1 to the mail"),
        ("content", "550 5.7.1 J.D. is spam", DEAD, "the mail server answered 550 5.7.1 to the mail"),
        ("content", "421 closing", WAITS, "the mail server answered 421 to the mail"),
        ("MAIL", None, WAITS, "the mail server ended the connection"),
        ("RCPT", None, WAITS, "the mail server ended the connection"),
        ("DATA", None, WAITS, "the mail server ended the connection before the mail"),
        ("content", None, UNKNOWN, "the connection was lost when the mail server had the mail"),
    ],
)
async def test_what_the_mail_server_does_decides_what_becomes_of_a_mail(
    notify: Notify, at: str, answer: str | None, state: State, reason: str
) -> None:
    await notify.created(notify.owners.bucket())
    notify.server.misbehave(at, answer)

    assert [] == await notify.deliver()

    notice = await notify.only()
    assert (state, reason) == (notice.state, notice.last_error)
    notify.clock.pass_by(LONG)
    assert len(await notify.deliver()) == (1 if state is WAITS else 0)
    assert await notify.state() is (SENT if state is WAITS else state)


async def test_a_mail_that_was_taken_without_an_answer_is_not_sent_twice(notify: Notify) -> None:
    await notify.created(notify.owners.bucket())
    notify.server.misbehave("content", None)
    notify.server.keeps_first = True

    assert len(await notify.deliver()) == 1
    notify.clock.pass_by(timedelta(days=3))
    assert len(await notify.deliver()) == 1
    assert UNKNOWN == await notify.state()


async def test_a_mail_server_that_is_silent_too_long_may_have_the_mail(notify: Notify) -> None:
    await notify.created(notify.owners.bucket())
    notify.post._timeout_s = 0.1
    notify.server.delay_s = 5
    notify.server.keeps_first = True

    assert len(await notify.deliver()) == 1
    assert UNKNOWN == await notify.state()


@pytest.mark.proves("SHR-11", part="the mail waits while the mail server is down")
async def test_while_the_mail_server_is_down_a_mail_waits_and_says_why(notify: Notify) -> None:
    await notify.server.stop()
    await notify.created(notify.owners.bucket())

    tried_at = []
    for _ in range(5):
        await notify.deliver()
        notice = await notify.only()
        assert (WAITS, "the mail server cannot be reached") == (notice.state, notice.last_error)
        tried_at.append(notify.clock.now())
        notify.clock.at = notice.held_until
    await notify.server.start()
    (mail,) = await notify.deliver()

    pauses = [(after - before).total_seconds() for before, after in itertools.pairwise(tried_at)]
    assert [1, 1, 2, 4] == pauses
    assert "roe@clinic.example" == mail.to
    assert SENT == await notify.state()


async def test_when_the_mail_server_is_back_the_first_mail_wakes_all_that_wait(notify: Notify) -> None:
    await notify.server.stop()
    for _ in range(5):
        await notify.created(notify.owners.bucket())
    await notify.deliver()
    notify.clock.pass_by(timedelta(minutes=20))
    await notify.deliver()
    await notify.server.start()
    assert [] == await notify.deliver()

    await notify.created(notify.owners.bucket())
    assert len(await notify.deliver()) == 6


async def test_who_wakes_all_waits_for_nobody_who_does_the_same(notify: Notify) -> None:
    await notify.server.stop()
    for _ in range(2):
        await notify.created(notify.owners.bucket())
    await notify.deliver()
    first, second = [notice.id for notice in await notify.all()]

    async with notify.database.transaction() as one, notify.database.transaction() as other:
        await one.lock_notice(first)
        await other.lock_notice(second)
        await asyncio.gather(one.wake(), other.wake())

    await notify.server.start()
    assert len(await notify.deliver()) == 2


async def test_one_of_many_mails_wakes_all_that_wait(notify: Notify, monkeypatch: pytest.MonkeyPatch) -> None:
    woken = []

    async def wake(transaction: NotifyTransaction) -> None:
        woken.append(transaction)

    monkeypatch.setattr(NotifyTransaction, "wake", wake)
    await notify.server.stop()
    for _ in range(8):
        await notify.created(notify.owners.bucket())
    await notify.deliver()
    notify.clock.pass_by(LONG)
    await notify.server.start()

    await asyncio.gather(*(notify.deliver() for _ in range(8)))

    assert (8, 1) == (len(notify.server.received), len(woken))


async def test_after_48_hours_a_notice_is_dead_and_an_operator_tries_it_again(notify: Notify) -> None:
    await notify.server.stop()
    await notify.created(notify.owners.bucket())
    await notify.deliver()
    notify.clock.pass_by(timedelta(hours=47))
    await notify.deliver()
    assert WAITS == await notify.state()
    notify.clock.pass_by(timedelta(hours=1))
    await notify.deliver()
    dead = await notify.only()
    assert (DEAD, "given up after 48 hours: the mail server cannot be reached") == (
        dead.state,
        dead.last_error,
    )

    notify.owners.reaches[OPERATOR] = Reach(True, frozenset())
    await notify.notices.resend("olga", dead.id)
    await notify.deliver()
    assert WAITS == await notify.state()
    await notify.server.start()
    notify.clock.pass_by(LONG)
    assert len(await notify.deliver()) == 1


async def test_while_an_owner_does_not_answer_a_mail_waits(notify: Notify) -> None:
    await notify.created(notify.owners.bucket())
    notify.owners.away = True
    await notify.deliver()
    notice = await notify.only()
    assert (WAITS, "`sharing` does not answer") == (notice.state, notice.last_error)

    notify.owners.away = False
    notify.clock.pass_by(LONG)
    assert len(await notify.deliver()) == 1


async def test_a_clock_that_was_set_back_keeps_nobody_waiting(notify: Notify) -> None:
    await notify.created(notify.owners.bucket())
    notify.clock.pass_by(-timedelta(days=400))

    assert len(await notify.deliver()) == 1


async def test_connections_are_used_again_and_lost_ones_replaced(notify: Notify) -> None:
    for _ in range(3):
        await notify.created(notify.owners.bucket())
    await notify.deliver()
    assert notify.server.connections == 1

    notify.server.drop_all()
    await notify.created(notify.owners.bucket())
    assert len(await notify.deliver()) == 4
    assert notify.server.connections == 2


# Dying on the way


class Killed(BaseException):
    """The process is gone: nothing after it runs."""


class Steps:
    """A sender that does something at a step of its next attempt.

    The steps: `claimed`, `written`, `accepted` (the server has taken the recipient), `begun` (committed),
    `taken` (the server has the mail), `settled` (committed).
    """

    def __init__(self, notify: Notify) -> None:
        self.at: dict[str, Any] = {}
        self._notify = notify
        self.sender = self.on(_Database(notify.database, self))

    def on(self, database: Any) -> Sender[Notice, Letter]:
        return Sender("notice", database, self.write, self, self._notify.notices.settled)

    async def reach(self, step: str) -> None:
        if step in self.at:
            await self.at[step]()

    async def write(self, notice: Notice) -> Letter:
        await self.reach("claimed")
        letter = await self._notify.letters.write(notice)
        await self.reach("written")
        return letter

    @asynccontextmanager
    async def envelope(self, letter: Letter) -> AsyncIterator[Envelope]:
        async with self._notify.post.envelope(letter) as envelope:
            await self.reach("accepted")
            yield _Envelope(envelope, self)


class _Envelope:
    def __init__(self, inner: Envelope, steps: Steps) -> None:
        self._inner = inner
        self._steps = steps

    async def hand_over(self) -> None:
        await self._steps.reach("begun")
        await self._inner.hand_over()
        await self._steps.reach("taken")


class _Database:
    """Tells of the last commit of an attempt, which settles: the two before are single statements."""

    def __init__(self, inner: Any, steps: Steps) -> None:
        self._inner = inner
        self._steps = steps

    @asynccontextmanager
    async def statements(self) -> AsyncIterator[Any]:
        async with self._inner.statements() as transaction:
            yield transaction

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        async with self._inner.transaction() as transaction:
            yield transaction
        await self._steps.reach("settled")


@pytest.mark.proves("NTF-2", part="no second mail, whoever dies when")
@pytest.mark.parametrize(
    ("step", "taken", "state"),
    [
        ("claimed", 1, SENT),
        ("written", 1, SENT),
        ("accepted", 1, SENT),
        ("begun", 0, UNKNOWN),
        ("taken", 1, UNKNOWN),
        ("settled", 1, SENT),
    ],
)
async def test_who_dies_while_a_mail_leaves_never_causes_a_second_one(
    notify: Notify, step: str, taken: int, state: State
) -> None:
    await notify.created(notify.owners.bucket())
    steps = Steps(notify)

    async def die() -> None:
        raise Killed

    steps.at[step] = die
    with pytest.raises(Killed):
        await steps.sender.deliver_next()

    assert len(await notify.deliver()) == (1 if step in ("taken", "settled") else 0)
    notify.clock.pass_by(HELD_FOR)
    assert len(await notify.deliver()) == taken
    notify.clock.pass_by(timedelta(days=3))
    assert len(await notify.deliver()) == taken
    assert state == await notify.state()


async def test_nobody_else_takes_up_a_notice_that_is_being_tried(notify: Notify) -> None:
    await notify.created(notify.owners.bucket())
    steps = Steps(notify)

    async def others_look() -> None:
        assert not await notify.sender.deliver_next()

    steps.at["accepted"] = others_look
    assert await steps.sender.deliver_next()
    assert len(notify.server.received) == 1


async def test_an_attempt_that_was_thought_dead_hands_nothing_over(notify: Notify) -> None:
    """It held the notice for too long, and another one has it now."""
    await notify.created(notify.owners.bucket())
    steps = Steps(notify)

    async def sleep_too_long() -> None:
        notify.clock.pass_by(HELD_FOR)
        assert await notify.sender.deliver_next()

    steps.at["accepted"] = sleep_too_long
    assert await steps.sender.deliver_next()

    assert len(notify.server.received) == 1
    assert (2, SENT) == ((await notify.only()).attempts, await notify.state())


async def test_what_became_of_a_mail_is_written_when_the_database_is_back(notify: Notify) -> None:
    await notify.created(notify.owners.bucket())
    steps = Steps(notify)

    failures = iter([True, False])

    class Away(_Database):
        @asynccontextmanager
        async def transaction(self) -> AsyncIterator[Any]:
            if next(failures):
                raise Unavailable("the database does not answer")
            async with super().transaction() as transaction:
                yield transaction

    sender = steps.on(Away(notify.database, steps))
    assert await sender.deliver_next()
    assert SENT == await notify.state()


# Again, by hand


async def test_of_a_mail_of_unknown_fate_an_operator_sends_another_once_nobody_hands_it_over(
    notify: Notify,
) -> None:
    await notify.created(notify.owners.bucket())
    notify.owners.reaches[OPERATOR] = Reach(True, frozenset())
    steps = Steps(notify)

    async def resend() -> None:
        with pytest.raises(Conflict, match="being handed over"):
            await notify.notices.resend("olga", (await notify.only()).id)
        raise Killed

    steps.at["taken"] = resend
    with pytest.raises(Killed):
        await steps.sender.deliver_next()
    first = notify.server.received[0].message["Message-ID"]

    notify.clock.pass_by(HELD_FOR)
    await notify.notices.resend("olga", (await notify.only()).id)
    _, second = await notify.deliver()

    assert first == second.message["Message-ID"]
    assert SENT == await notify.state()
    with pytest.raises(Conflict, match="the mail server has taken the mail: it is not sent twice"):
        await notify.notices.resend("olga", (await notify.only()).id)


async def test_many_senders_send_each_mail_once(notify: Notify) -> None:
    for _ in range(40):
        await notify.created(notify.owners.bucket())

    async def drain() -> None:
        while await notify.sender.deliver_next():
            pass

    await asyncio.gather(*(drain() for _ in range(8)))

    ids = [mail.message["Message-ID"] for mail in notify.server.received]
    assert (40, 40) == (len(ids), len(set(ids)))


async def test_when_the_process_is_told_to_end_a_mail_on_its_way_arrives(notify: Notify) -> None:
    await notify.created(notify.owners.bucket())
    notify.server.delay_s = 0.2
    has_content = asyncio.Event()
    notify.server.on_content = has_content.set
    sending = asyncio.create_task(delivering.run(notify.sender, notify.database.asked, 16))

    await has_content.wait()
    sending.cancel()
    await asyncio.wait([sending])

    assert (1, SENT) == (len(notify.server.received), await notify.state())


async def test_what_was_settled_is_forgotten_after_90_days_and_what_was_not_stays(notify: Notify) -> None:
    for answer in ("550 no", None, "250 OK"):
        await notify.created(notify.owners.bucket())
        notify.server.misbehave("content", answer)
        await notify.deliver()
    notify.clock.pass_by(timedelta(days=90))
    assert 0 == await notify.notices.forget()
    notify.clock.pass_by(timedelta(seconds=1))

    assert 1 == await notify.notices.forget()
    assert {DEAD, UNKNOWN} == {notice.state for notice in await notify.all()}


async def test_what_was_sent_and_what_was_not_is_audited(notify: Notify) -> None:
    first, second = notify.owners.bucket(), notify.owners.bucket()
    await notify.created(first)
    await notify.deliver()
    await notify.created(second)
    notify.server.misbehave("RCPT", "550 no")
    await notify.deliver()

    rows = await notify.query(
        "select actor, action, object, outcome from audit_rows where object = any($1) order by id",
        [f"bucket:{first.id}", f"bucket:{second.id}"],
    )
    assert [
        ("service:notify", "notice.sent", f"bucket:{first.id}", "done"),
        ("service:notify", "notice.sent", f"bucket:{second.id}", "refused"),
    ] == [tuple(row) for row in rows]
