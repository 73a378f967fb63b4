"""Time is an argument: whoever needs the time takes a `Clock`."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Protocol


class Clock(Protocol):
    """Answers the time."""

    def now(self) -> datetime:
        """The time in UTC; within one process it never goes back, but for a correction (R11, MAX_LEAD)."""
        ...


def wall_time() -> datetime:
    """The system's time in UTC, which may be stepped in either direction."""
    return datetime.now(UTC)


MAX_LEAD = timedelta(seconds=30)
"""How far a process may be ahead of the wall: half the life of a user token, so that a new one is still good.

A wall that is further behind was set back on purpose, after it had been wrong.
"""


class MonotonicClock:
    """Wall time that never goes back: while the wall is a little behind what was said, it stands still (R11).

    A wall that is behind by more than MAX_LEAD was corrected. The clock follows it at once, because one that
    stands still for an hour refuses every token, and ends no code and no lock in that hour.

    Args:
        wall: what it follows.
        corrected: is told by how much the wall was set back.
    """

    def __init__(
        self,
        wall: Callable[[], datetime] = wall_time,
        corrected: Callable[[timedelta], None] = lambda _lead: None,
    ) -> None:
        self._wall = wall
        self._corrected = corrected
        self._last = datetime.min.replace(tzinfo=UTC)
        self._lock = Lock()

    def now(self) -> datetime:
        with self._lock:
            wall = self._wall()
            if wall >= self._last:  # nearly always
                self._last = wall
                return wall
            lead = self._last - wall
            self._last = wall if lead > MAX_LEAD else max(self._last, wall)
            now = self._last
        if lead > MAX_LEAD:
            self._corrected(lead)
        return now


class OffsetClock:
    """A clock moved by an offset that is read at each call; only a demo on embedded servers has one."""

    def __init__(self, clock: Clock, offset: Callable[[], timedelta]) -> None:
        self._clock = clock
        self._offset = offset

    def now(self) -> datetime:
        return self._clock.now() + self._offset()
