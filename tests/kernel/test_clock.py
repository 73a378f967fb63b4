from datetime import UTC, datetime, timedelta

import pytest

from kernel.clock import MonotonicClock, OffsetClock

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.proves("R11", part="now() never goes back")
def test_a_clock_stands_still_while_the_wall_is_behind() -> None:
    wall = iter([NOON, NOON - timedelta(hours=1), NOON - timedelta(minutes=1), NOON + timedelta(seconds=1)])
    clock = MonotonicClock(lambda: next(wall))

    told = [clock.now() for _ in range(4)]

    assert [NOON, NOON, NOON, NOON + timedelta(seconds=1)] == told


def test_an_offset_is_read_at_each_call() -> None:
    offsets = iter([timedelta(0), timedelta(days=2)])
    clock = OffsetClock(MonotonicClock(lambda: NOON), lambda: next(offsets))

    assert [NOON, NOON + timedelta(days=2)] == [clock.now(), clock.now()]
