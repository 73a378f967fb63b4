"""The clock of a process."""

import os
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from kernel.clock import Clock, MonotonicClock, OffsetClock, wall_time

# Every call asks for the time more than once, and each look at the file asks the kernel for a path.
_LOOK_EVERY_S = 0.001


def clock_of(
    offset_file: Path | None,
    corrected: Callable[[timedelta], None] = lambda _lead: None,
    stopwatch: Callable[[], float] = time.monotonic,
) -> Clock:
    """The process's clock: the system's, or the system's moved by the seconds that stand in the file.

    The file is looked at again a millisecond later, so that a demo can move time while it runs; an absent one
    is zero.
    `corrected` is told by how much the system's clock was set back.
    """
    if offset_file is None:
        return MonotonicClock(corrected=corrected)

    def offset() -> timedelta:
        try:
            return timedelta(seconds=float(offset_file.read_text() or 0))
        except FileNotFoundError:
            return timedelta()

    path = str(offset_file)
    moved = OffsetClock(MonotonicClock(), offset)
    looked_at, is_moved = -_LOOK_EVERY_S, False

    def wall() -> datetime:
        nonlocal looked_at, is_moved
        if (now := stopwatch()) - looked_at >= _LOOK_EVERY_S:
            looked_at, is_moved = now, os.access(path, os.F_OK)
        return moved.now() if is_moved else wall_time()

    return MonotonicClock(wall, corrected)
