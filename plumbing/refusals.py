"""Refused calls in the audit: each of the first few a minute, and the others as a number.

A caller can be refused as often as they like. If each refusal were a row, they could fill the disk, and hide
in thousands of rows what somebody looks for. So of one actor and action ALLOWED_A_MINUTE refusals are written
as they come. What comes beyond that in the minute becomes one row at its end: the last of them, with the
number in `suppressed`. A process counts for itself, and a count that it did not write before its end is lost.

A service reaches this by `Database.audited` and `Database.refuse`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from plumbing.audit import AuditEntry

ALLOWED_A_MINUTE = 30
"""More than anybody is refused who acts by hand."""

WINDOW = timedelta(minutes=1)

MAX_WINDOWS = 10_000
"""Actors and actions counted apart, of 1 kB each; those beyond share one window for each action."""

SEVERAL = "several"
"""The actor of a row for actors who shared a window."""

Key = tuple[str, str]


@dataclass(slots=True)
class _Window:
    began_at: datetime
    written: int = 0
    suppressed: int = 0
    last: AuditEntry | None = None


class Refusals:
    """Counts refusals by actor and action."""

    def __init__(self) -> None:
        self._windows: dict[Key, _Window] = {}
        self._due: list[AuditEntry] = []

    def allow(self, entry: AuditEntry, now: datetime) -> bool:
        """Counts a refusal; whether a row of its own is written."""
        key = (entry.actor, entry.action)
        if key not in self._windows and len(self._windows) >= MAX_WINDOWS:
            key, entry = (SEVERAL, entry.action), replace(entry, actor=SEVERAL)
        window = self._windows.get(key)
        if window is None or abs(now - window.began_at) >= WINDOW:
            self._end(key)
            window = self._windows[key] = _Window(now)
        if window.written < ALLOWED_A_MINUTE:
            window.written += 1
            return True
        window.suppressed += 1
        window.last = entry
        return False

    def ended(self, now: datetime) -> Sequence[AuditEntry]:
        """Ends the windows that are over; answers a row for each that has suppressed something."""
        for key in [key for key, window in self._windows.items() if abs(now - window.began_at) >= WINDOW]:
            self._end(key)
        due, self._due = self._due, []
        return due

    def keep(self, entries: Sequence[AuditEntry]) -> None:
        """These could not be written: `ended` answers them again."""
        self._due += entries[: MAX_WINDOWS - len(self._due)]

    def _end(self, key: Key) -> None:
        window = self._windows.pop(key, None)
        if window is not None and window.last is not None:
            detail = {**window.last.detail, "suppressed": window.suppressed}
            self.keep([replace(window.last, detail=detail)])
