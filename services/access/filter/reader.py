"""For whom a filter is evaluated, and what for."""

from dataclasses import dataclass
from zoneinfo import ZoneInfo

from kernel.ids import UserId


@dataclass(frozen=True, slots=True)
class Reader:
    """Who is shown the case.

    Attributes:
        is_of_group: whether they are answered the group's projection of the reading; else the facility's
            (A59).
        zone: in which dates are read; theirs, else that of their home facility, else UTC.
        as_of_lock: whether values that follow the reading count, for the holder of a live lock, as they were
            when the lock began: in an access filter, not in a search.
    """

    user_id: UserId
    login: str
    is_of_group: bool
    zone: ZoneInfo
    as_of_lock: bool

    @property
    def side(self) -> str:
        """What stands for `{side}` in the name of a column."""
        return "group" if self.is_of_group else "facility"
