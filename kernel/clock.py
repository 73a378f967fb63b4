"""Time is an argument: whoever needs the time takes a `Clock`."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Protocol


class Clock(Protocol):
    """Answers the time."""

    def now(self) -> datetime:
        """The time in UTC; within one process it never goes back (R11)."""
        ...


def wall_time() -> datetime:
    """The system's time in UTC, which may be stepped in either direction."""
    return datetime.now(UTC)


class MonotonicClock:
    """Wall time that never goes back: while the wall is behind what was said, it stands still (R11)."""

    def __init__(self, wall: Callable[[], datetime] = wall_time) -> None:
        self._wall = wall
        self._last = datetime.min.replace(tzinfo=UTC)
        self._lock = Lock()

    def now(self) -> datetime:
        with self._lock:
            self._last = max(self._last, self._wall())
            return self._last


class OffsetClock:
    """A clock moved by an offset that is read at each call; only a demo on embedded servers has one."""

    def __init__(self, clock: Clock, offset: Callable[[], timedelta]) -> None:
        self._clock = clock
        self._offset = offset

    def now(self) -> datetime:
        return self._clock.now() + self._offset()
