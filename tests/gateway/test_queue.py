"""The queue's rules, without a clock, a disk or a network."""

from datetime import UTC, datetime, timedelta
from itertools import product
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.queue import (
    OLDEST,
    TRANSITIONS,
    Aged,
    Backoff,
    Event,
    Illegal,
    Outcome,
    State,
    Transfer,
    after,
    outcome,
)
from kernel.dicom import UID, AETitle
from kernel.ids import TransferId


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)))
def test_what_is_not_in_the_table_is_illegal(state: State, event: Event) -> None:
    if (state, event) in TRANSITIONS:
        assert after(state, event) is TRANSITIONS[state, event]
    else:
        with pytest.raises(Illegal, match=f"{event} while {state}"):
            after(state, event)


def test_what_has_ended_stays_so() -> None:
    assert not [state for state, _ in TRANSITIONS if state in (State.DONE, State.FAILED)]


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        (0x0000, Outcome.ACKNOWLEDGED),
        (0x0001, Outcome.ACKNOWLEDGED),
        (0xB000, Outcome.ACKNOWLEDGED),
        (0xB007, Outcome.ACKNOWLEDGED),
        (0xA700, Outcome.WAITING),
        (0xA701, Outcome.WAITING),
        (0x0110, Outcome.WAITING),
        (0xA900, Outcome.REFUSED),
        (0xC000, Outcome.REFUSED),
        (0x0117, Outcome.REFUSED),
        (0x0122, Outcome.REFUSED),
        (0x0124, Outcome.REFUSED),
        (0xFE00, Outcome.REFUSED),
        (0xFFFF, Outcome.REFUSED),
    ],
)
def test_a_status_means(status: int, meaning: Outcome) -> None:
    assert outcome(status) is meaning


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_pauses_grow_to_a_limit_and_chance_takes_at_most_half(failures: int, chance: float) -> None:
    pause = Backoff(1.0, 30.0, lambda: chance).pause_s(failures)
    assert 0.5 <= pause <= 30
    assert pause <= Backoff(1.0, 30.0, lambda: 0.0).pause_s(failures)
    assert Backoff(1.0, 30.0, lambda: 0.0).pause_s(failures) == min(30.0, 2.0 ** min(failures - 1, 10))


BORN = datetime(2026, 11, 21, tzinfo=UTC)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


@pytest.mark.proves("A26", part="the age that a gateway announces")
@pytest.mark.parametrize(
    ("by_wall", "by_uptime", "since_birth", "announced"),
    [
        (MINUTE, MINUTE, True, MINUTE),
        (MINUTE, 2 * MINUTE, True, 2 * MINUTE),  # the wall clock was set back by a minute
        (3 * DAY, MINUTE, False, 3 * DAY),  # the machine was off for three days
        (-DAY, MINUTE, True, MINUTE),  # it was set back by a day: the uptime still tells
        (-DAY, MINUTE, False, OLDEST),  # and after another boot nobody can
        (1_800 * DAY, MINUTE, True, OLDEST),  # it was years behind when the study came
        (MINUTE, 200 * DAY, True, OLDEST),
    ],
)
def test_a_transfer_is_as_old_as_the_older_of_two_clocks_says(
    by_wall: timedelta, by_uptime: timedelta, since_birth: bool, announced: timedelta
) -> None:
    aged = Aged(by_uptime.total_seconds(), "boot", 1_000.0, since_birth)
    transfer = Transfer(TransferId(UUID(int=1)), UID("1.2"), AETitle("A"), BORN, State.SENDING, aged)
    assert transfer.age(BORN + by_wall) == announced


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1e7), st.floats(-1e9, 1e9))))
def test_no_step_of_the_wall_clock_and_no_boot_makes_a_transfer_younger_than_it_ran(
    steps: list[tuple[bool, float, float]],
) -> None:
    """What Central server is told is never less than the time for which the machine ran, nor impossible."""
    boot, up_s, ran_s, wall = 0, 100.0, 0.0, BORN
    aged = Aged(0.0, "0", up_s, since_birth=True)
    for boots, passed_s, step_s in steps:
        if boots:
            boot, up_s = boot + 1, 0.0
            aged = aged.at(str(boot), up_s)
        up_s, ran_s = up_s + passed_s, ran_s + passed_s
        wall += timedelta(seconds=passed_s + step_s)
        aged = aged.at(str(boot), up_s)
        transfer = Transfer(TransferId(UUID(int=1)), UID("1.2"), AETitle("A"), BORN, State.SENDING, aged)
        age = transfer.age(wall)
        assert timedelta() <= age <= OLDEST
        assert age >= min(OLDEST, timedelta(seconds=ran_s)) - timedelta(milliseconds=1)
