"""Which refusals are listed and audited, and which are only counted: windows of a minute.

Each kind of refusal has a window for each certificate, or for each address that shows none, so that garbage
keeps nothing else out; and strangers have one more for all of them together. What a window suppresses is
listed as one line with its number when the window has ended.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from threading import Lock

from services.ingest.domain import Refusal

WINDOW = timedelta(minutes=1)
STRANGERS_TIMES = 10
"""What all strangers together may have listed, in times of what one may."""
MAX_WINDOWS = 4_096
"""At once; beyond it strangers are counted together, whatever their address."""

Key = tuple[str, ...]


@dataclass(slots=True)
class _Window:
    began_at: datetime
    last: Refusal
    listed: int = 0
    suppressed: int = 0


class RefusalWindows:
    """Counts refusals; of one process, by its clock, for many threads."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._windows: dict[Key, _Window] = {}
        self._due: list[Refusal] = []
        self._lock = Lock()

    def lists(self, refusal: Refusal, now: datetime) -> bool:
        """Counts a refusal; whether it is listed."""
        with self._lock:
            return self._lists(refusal, now)

    def _lists(self, refusal: Refusal, now: datetime) -> bool:
        windows = []
        for key, limit in self._keys(refusal):
            window = self._windows.get(key)
            if window is None or abs(now - window.began_at) >= WINDOW:
                self._end(key)
                window = self._windows[key] = _Window(now, refusal)
            if window.listed >= limit:
                window.suppressed += 1
                window.last = refusal
                return False
            windows.append(window)
        for window in windows:
            window.listed += 1
        return True

    def ended(self, now: datetime) -> Sequence[Refusal]:
        """Ends the windows that are over; answers a line for each that has suppressed something."""
        with self._lock:
            for key in [key for key, window in self._windows.items() if abs(now - window.began_at) >= WINDOW]:
                self._end(key)
            due, self._due = self._due, []
            return due

    def keep(self, lines: Sequence[Refusal]) -> None:
        """These lines could not be listed: `ended` answers them again."""
        with self._lock:
            self._due += lines[: MAX_WINDOWS - len(self._due)]

    def _end(self, key: Key) -> None:
        window = self._windows.pop(key, None)
        if window is not None and window.suppressed:
            # The last of those that were suppressed stands for all.
            self._due.append(replace(window.last, suppressed=window.suppressed))

    def _keys(self, refusal: Refusal) -> Sequence[tuple[Key, int]]:
        what = (refusal.kind.value, refusal.cause)
        if refusal.certificate_sha256:
            return [((*what, refusal.certificate_sha256), self._per_minute)]
        own = (*what, "", refusal.remote_address.rpartition(":")[0])
        if own not in self._windows and len(self._windows) >= MAX_WINDOWS:
            own = (*what, "", "")
        return [(own, self._per_minute), (what, STRANGERS_TIMES * self._per_minute)]
