from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from kernel.clock import MAX_LEAD, MonotonicClock, OffsetClock

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.proves("R11", part="now() never goes back")
def test_a_clock_stands_still_while_the_wall_is_behind() -> None:
    wall = iter([NOON, NOON - MAX_LEAD, NOON - timedelta(seconds=1), NOON + timedelta(seconds=1)])
    clock = MonotonicClock(lambda: next(wall))

    told = [clock.now() for _ in range(4)]

    assert [NOON, NOON, NOON, NOON + timedelta(seconds=1)] == told


@pytest.mark.proves("R11", part="a clock that was wrong is right again")
def test_a_step_ahead_that_is_corrected_leaves_nothing_behind() -> None:
    told: list[timedelta] = []
    ahead = NOON + timedelta(hours=1)
    back = [NOON + timedelta(seconds=each) for each in (1, 2)]
    wall = iter([NOON, ahead, *back])
    clock = MonotonicClock(lambda: next(wall), told.append)

    assert [NOON, ahead, *back] == [clock.now() for _ in range(4)]
    assert told == [timedelta(minutes=59, seconds=59)]


def test_no_clock_is_ever_further_ahead_than_it_may_be() -> None:
    random = Random(20)
    wall = NOON

    def step() -> datetime:
        nonlocal wall
        wall += timedelta(seconds=random.choice([0, 1, 3600, -1, -29, -31, -3600]))
        return wall

    clock = MonotonicClock(step)
    last = clock.now()
    for _ in range(10_000):
        now = clock.now()
        assert wall <= now <= wall + MAX_LEAD
        assert now >= last or last - wall > MAX_LEAD
        last = now


def test_an_offset_is_read_at_each_call() -> None:
    offsets = iter([timedelta(0), timedelta(days=2)])
    clock = OffsetClock(MonotonicClock(lambda: NOON), lambda: next(offsets))

    assert [NOON, NOON + timedelta(days=2)] == [clock.now(), clock.now()]
