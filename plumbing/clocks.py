"""The clock of a process."""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from kernel.clock import Clock, MonotonicClock, OffsetClock, wall_time


def clock_of(offset_file: Path | None, corrected: Callable[[timedelta], None] = lambda _lead: None) -> Clock:
    """The process's clock: the system's, or the system's moved by the seconds that stand in the file.

    The file is read at each question, so that a demo can move time while it runs; an absent one is zero.
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
    # Nearly always there is none, and every call asks for the time more than once.
    return MonotonicClock(lambda: moved.now() if os.access(path, os.F_OK) else wall_time(), corrected)
