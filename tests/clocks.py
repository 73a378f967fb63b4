"""A clock that a test sets, and the noon at which it stands."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


@dataclass
class Clock:
    """A clock that a test sets."""

    at: datetime = NOON

    def now(self) -> datetime:
        return self.at

    def pass_by(self, time: timedelta) -> None:
        self.at += time
