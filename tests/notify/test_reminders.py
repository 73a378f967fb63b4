"""Privileges that expire: who is told when, by the clock (NTF-1, A51, R11)."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from kernel.delivery import State
from kernel.errors import Conflict
from kernel.language import Language
from kernel.reach import Reach
from services.notify.domain import Expiring, due_step
from tests.clocks import NOON
from tests.healing import heal
from tests.notify.builders import NORTH, OFFICE, SOUTH
from tests.notify.conftest import Notify

DAY = timedelta(days=1)
INSTANT = timedelta(microseconds=1)
STEPS = (30, 7, 1)
IN_A_YEAR = NOON + 365 * DAY
JANE = "roe@clinic.example"


@pytest.mark.parametrize(
    ("left", "last", "due"),
    [
        (31 * DAY, None, None),
        (30 * DAY + INSTANT, None, None),
        (30 * DAY, None, 30),
        (8 * DAY, None, 30),
        (8 * DAY, 30, None),
        (7 * DAY, 30, 7),
        (7 * DAY, None, 7),
        (2 * DAY, 7, None),
        (1 * DAY, 7, 1),
        (1 * DAY, 30, 1),
        (INSTANT, None, 1),
        (INSTANT, 1, None),
        (0 * DAY, None, None),
        (-1 * DAY, 7, None),
        # A clock that was set back asks for nothing again.
        (29 * DAY, 7, None),
        (6 * DAY, 1, None),
    ],
)
@pytest.mark.proves("A51", part="which step is due")
def test_the_nearest_step_that_has_come_is_due_unless_it_or_a_nearer_one_was(
    left: timedelta, last: int | None, due: int | None
) -> None:
    expiring = Expiring(None, NORTH, NOON + left, last)  # type: ignore[arg-type]

    assert due == due_step(expiring, STEPS, NOON)


async def jane(notify: Notify, expires_at: datetime = IN_A_YEAR) -> None:
    person = notify.owners.person("Jane Roe", language=Language.DE)
    notify.owners.privilege(person, expires_at)
    await notify.changed(person)


@pytest.mark.proves("NTF-1")
@pytest.mark.proves("A51")
async def test_user_and_office_are_reminded_30_7_and_1_day_before_to_the_instant(notify: Notify) -> None:
    await jane(notify)
    reminded: dict[int, list[str]] = {}

    for days in (31, 30, 15, 7, 2, 1, 0, -1):
        for instant in (IN_A_YEAR - days * DAY - INSTANT, IN_A_YEAR - days * DAY):
            notify.clock.at = instant
            if to := await notify.remind():
                assert instant == IN_A_YEAR - days * DAY
                reminded[days] = sorted(to)

    assert {days: [OFFICE, JANE] for days in (30, 7, 1)} == reminded
    own, office = sorted(notify.server.received[:2], key=lambda mail: mail.to, reverse=True)
    assert "Ihr Recht zu befunden läuft am 1. November 2027 ab" == own.subject
    assert "Ihr Recht, bei North zu befunden" in " ".join(own.text.split()).replace("ihr", "Ihr")
    assert "Een recht om te verslaan vervalt op 1 november 2027" == office.subject
    assert "Jane Roe" in office.text


async def test_a_reminder_is_sent_once_however_often_is_looked(notify: Notify) -> None:
    await jane(notify)
    notify.clock.at = IN_A_YEAR - 7 * DAY

    assert len(await notify.remind()) == 2
    for _ in range(3):
        notify.clock.pass_by(timedelta(hours=1))
        assert [] == await notify.remind()


@pytest.mark.proves("A51", part="a clock that steps back repeats nothing (R11)")
async def test_a_clock_that_steps_back_reminds_of_nothing_again(notify: Notify) -> None:
    await jane(notify)
    notify.clock.at = IN_A_YEAR - 7 * DAY
    assert len(await notify.remind()) == 2

    for days in (8, 29, 200, 20, 7):
        notify.clock.at = IN_A_YEAR - days * DAY
        assert [] == await notify.remind()
    notify.clock.at = IN_A_YEAR - DAY
    assert len(await notify.remind()) == 2


async def test_of_steps_that_passed_while_nobody_looked_only_the_nearest_is_told(notify: Notify) -> None:
    await jane(notify, NOON + 5 * DAY)

    assert [OFFICE, JANE] == sorted(await notify.remind())
    notify.clock.pass_by(4 * DAY)
    assert len(await notify.remind()) == 2
    notify.clock.pass_by(DAY)
    assert [] == await notify.remind()


@pytest.mark.proves("A51", part="a renewed privilege cancels the rest")
async def test_a_renewed_privilege_cancels_the_rest_and_has_its_own(notify: Notify) -> None:
    await jane(notify)
    (person,) = notify.owners.people.values()
    notify.clock.at = IN_A_YEAR - 7 * DAY
    await notify.reminders.plan()
    notify.owners.privilege(person, IN_A_YEAR + 60 * DAY)
    await notify.changed(person)

    assert [] == await notify.deliver()
    assert {State.CANCELLED} == {notice.state for notice in await notify.all()}
    notify.clock.at = IN_A_YEAR - DAY
    assert [] == await notify.remind()
    notify.clock.at = IN_A_YEAR + 30 * DAY
    assert len(await notify.remind()) == 2


async def test_a_renewal_that_nobody_has_heard_of_is_asked_for_at_the_last_moment(notify: Notify) -> None:
    await jane(notify)
    (person,) = notify.owners.people.values()
    notify.owners.privilege(person, IN_A_YEAR + 60 * DAY)
    notify.clock.at = IN_A_YEAR - 7 * DAY

    assert [] == await notify.remind()
    assert {"the privilege was renewed or taken away"} == {each.last_error for each in await notify.all()}


async def test_a_renewal_taken_back_is_reminded_of_as_before(notify: Notify) -> None:
    await jane(notify)
    (person,) = notify.owners.people.values()
    notify.clock.at = IN_A_YEAR - 7 * DAY
    await notify.reminders.plan()
    for expires_at in (IN_A_YEAR + 60 * DAY, IN_A_YEAR):
        notify.owners.privilege(person, expires_at)
        await notify.changed(person)

    assert [OFFICE, JANE] == sorted(await notify.remind())
    assert [] == await notify.remind()


async def test_a_reminder_that_comes_too_late_is_not_sent(notify: Notify) -> None:
    await jane(notify, NOON + DAY)
    await notify.server.stop()
    assert [] == await notify.remind()
    await notify.server.start()
    notify.clock.pass_by(DAY)

    assert [] == await notify.remind()
    assert {State.CANCELLED} == {notice.state for notice in await notify.all()}


@pytest.mark.parametrize("change", ["taken away", "inactive"])
async def test_who_has_no_privilege_left_is_not_reminded(notify: Notify, change: str) -> None:
    await jane(notify)
    (person,) = notify.owners.people.values()
    if change == "taken away":
        notify.owners.privileges.clear()
        notify.owners.bump(person)
    else:
        notify.owners.bump(person, active=False)
    await notify.changed(person)
    notify.clock.at = IN_A_YEAR - 7 * DAY

    assert [] == await notify.remind()
    assert [] == await notify.all()


async def test_who_has_no_address_leaves_the_reminder_to_the_office(notify: Notify) -> None:
    await jane(notify, NOON + DAY)
    (person,) = notify.owners.people.values()
    notify.owners.bump(person, email="")

    assert [OFFICE] == await notify.remind()


@pytest.mark.proves("NTF-1", part="who has an address later is reminded then")
@pytest.mark.parametrize("lacking", [{"email": ""}, {"active": False}])
async def test_who_can_be_reached_later_is_reminded_then(notify: Notify, lacking: dict[str, Any]) -> None:
    await jane(notify)
    (person,) = notify.owners.people.values()
    notify.clock.at = IN_A_YEAR - 7 * DAY
    await notify.reminders.plan()
    notify.owners.bump(person, **lacking)
    assert JANE not in [mail.to for mail in await notify.deliver()]
    await notify.changed(person)
    assert [] == await notify.remind()

    notify.clock.pass_by(DAY)
    notify.owners.bump(person, email=JANE, active=True)
    await notify.changed(person)
    assert JANE in await notify.remind()
    notify.owners.bump(person)
    await notify.changed(person)
    assert [] == await notify.remind(), "what was sent is not sent again"


async def test_resend_says_what_becomes_of_a_mail_that_was_cancelled(notify: Notify) -> None:
    await jane(notify, NOON + DAY)
    (person,) = notify.owners.people.values()
    notify.owners.bump(person, email="")
    await notify.remind()
    notify.owners.reaches["operator"] = Reach(everywhere=True, facilities=frozenset())
    (cancelled,) = (each for each in await notify.all() if each.state is State.CANCELLED)
    with pytest.raises(Conflict) as refusal:
        await notify.notices.resend("olga", cancelled.id)
    assert refusal.value.sentence.startswith(
        "the mail was cancelled: the recipient has no e-mail address; a reminder comes anew when "
    )


async def test_who_can_be_reached_only_after_the_end_is_not_reminded(notify: Notify) -> None:
    await jane(notify)
    (person,) = notify.owners.people.values()
    notify.clock.at = IN_A_YEAR - DAY
    notify.owners.bump(person, email="")
    assert [OFFICE] == await notify.remind()
    notify.clock.at = IN_A_YEAR
    notify.owners.bump(person, email=JANE)
    await notify.changed(person)
    assert [] == await notify.remind()


async def test_each_facility_is_reminded_of_by_itself(notify: Notify) -> None:
    person = notify.owners.person("Jane Roe")
    notify.owners.privilege(person, NOON + 7 * DAY, NORTH)
    notify.owners.privilege(person, NOON + 8 * DAY, SOUTH)
    await notify.changed(person)

    assert [OFFICE, OFFICE, JANE, JANE] == sorted(await notify.remind())
    notify.clock.pass_by(DAY)
    assert [OFFICE, JANE] == sorted(await notify.remind())


async def test_an_older_snapshot_changes_nothing(notify: Notify) -> None:
    await jane(notify)
    (person,) = notify.owners.people.values()
    old = await notify.reminders.fetch(person.id)
    notify.owners.privilege(person, IN_A_YEAR + DAY)
    await notify.changed(person)

    async with notify.database.transaction() as transaction:
        await notify.reminders.save(transaction, old)

    (row,) = await notify.query("select expires_at from expiring")
    assert IN_A_YEAR + DAY == row["expires_at"]


@pytest.mark.proves("NTF-1", part="a lost fact heals")
async def test_users_of_whom_nothing_was_heard_are_found(notify: Notify) -> None:
    people = [notify.owners.person(f"User {number}") for number in range(120)]
    for person in people[:3]:
        notify.owners.privilege(person, NOON + DAY)

    assert 120 == await heal(notify.database, notify.reminders.kinds())
    assert 0 == await heal(notify.database, notify.reminders.kinds())
    assert len(await notify.remind()) == 6
    notify.owners.bump(people[0])
    assert 1 == await heal(notify.database, notify.reminders.kinds())
