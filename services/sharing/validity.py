"""Until when a share may give sight: days of the sending facility, and its policy (SHR-17, SHR-18)."""

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from kernel.errors import Invalid
from kernel.ids import FacilityId

MAX_POLICY_DAYS = 36_500
LAST_DAY = date(9999, 12, 30)
"""The last day whose end can be told as an instant in every time zone."""


@dataclass(frozen=True, slots=True)
class Validity:
    """Until when to share: a last day, no end, or (neither) the default."""

    valid_till: str = ""
    unlimited: bool = False


THE_DEFAULT = Validity()


def is_earlier(one: datetime | None, other: datetime | None) -> bool:
    """Whether an end comes before another; None never comes."""
    return one is not None and (other is None or one < other)


def earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    """Which of two ends comes first."""
    return one if is_earlier(one, other) else other


@dataclass(frozen=True, slots=True)
class Policy:
    """What a sending facility allows (SHR-18); the values here are those of one that never said.

    Attributes:
        default_days: 0 means one month.
        maximum_days: 0 means none.
        version: what was saved last, or what a save was made from (A68); 0 for one that never said.
    """

    facility_id: FacilityId
    default_days: int = 0
    maximum_days: int = 0
    unlimited_allowed: bool = True
    further_sharing_allowed: bool = True
    version: int = 0

    def check(self) -> None:
        """Refuses what contradicts itself (A47)."""
        for field in ("default_days", "maximum_days"):
            if not 0 <= getattr(self, field) <= MAX_POLICY_DAYS:
                raise Invalid(f"`{field}` must be 0 to {MAX_POLICY_DAYS}", field=field)
        if self.maximum_days and self.default_days > self.maximum_days:
            raise Invalid("`default_days` must not be more than the maximum", field="default_days")
        if self.maximum_days and self.unlimited_allowed:
            raise Invalid(
                "a facility with a maximum cannot allow unlimited shares: leave `unlimited_allowed` out, "
                "or the maximum",
                field="unlimited_allowed",
            )

    def last_day(self, today: date) -> date | None:
        """The last day that may be chosen; None: any."""
        return today + timedelta(days=self.maximum_days) if self.maximum_days else None

    def default_day(self, today: date) -> date:
        """The last day of a share that names none."""
        default = today + timedelta(days=self.default_days) if self.default_days else a_month_after(today)
        return min(default, self.last_day(today) or default)


def a_month_after(day: date) -> date:
    """The same day next month, or the last one of that month (A47)."""
    year, month = (day.year + 1, 1) if day.month == 12 else (day.year, day.month + 1)
    return date(year, month, min(day.day, monthrange(year, month)[1]))


def today_at(now: datetime, time_zone: str) -> date:
    return now.astimezone(ZoneInfo(time_zone)).date()


def end_of(day: date, time_zone: str) -> datetime:
    """The instant at which a day ends there: shares are valid till its end (A2)."""
    return datetime.combine(day + timedelta(days=1), time.min, ZoneInfo(time_zone)).astimezone(UTC)


def last_day_before(ends_at: datetime, time_zone: str) -> date:
    """The last day that has ended there at this instant."""
    return (ends_at - timedelta(microseconds=1)).astimezone(ZoneInfo(time_zone)).date()


_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def end_for(
    validity: Validity, policy: Policy, time_zone: str, now: datetime, bound: datetime | None
) -> datetime | None:
    """When a share ends that is made now, None for never; raises Invalid for what is not allowed.

    Args:
        bound: the end of what is shared on, None if it has none. A share that names no end has the default of
            the policy, or ends with that if it is earlier (A46).
    """
    if validity == THE_DEFAULT:
        return earlier(end_of(policy.default_day(today_at(now, time_zone)), time_zone), bound)
    must_name_one_end(validity)
    ends_at = asked_end(validity, time_zone, now)
    check_end(ends_at, policy, time_zone, now, bound)
    return ends_at


def must_name_one_end(validity: Validity) -> None:
    """Raises Invalid for what names no end, or two."""
    if validity.unlimited and validity.valid_till:
        raise Invalid("name either `unlimited` or `valid_till`, not both", field="unlimited")
    if validity == THE_DEFAULT:
        raise Invalid("name the last day, `valid_till`, or `unlimited`", field="valid_till")


def asked_end(validity: Validity, time_zone: str, now: datetime) -> datetime | None:
    """The end that is asked for, None for never; raises Invalid for what is no day or has passed."""
    if validity.unlimited:
        return None
    day = parse_day(validity.valid_till)
    if day < today_at(now, time_zone):
        raise Invalid("the last day, `valid_till`, has passed", field="valid_till")
    return end_of(day, time_zone)


def check_end(
    ends_at: datetime | None, policy: Policy, time_zone: str, shared_at: datetime, bound: datetime | None
) -> None:
    """Raises Invalid unless policy and bound allow the end of a share that was made at `shared_at`.

    The maximum counts from the first day, so that no chain of extensions outruns it.
    """
    if ends_at is None:
        if not policy.unlimited_allowed or bound is not None:
            raise Invalid(
                "the facility does not allow unlimited shares: name the last day instead of `unlimited`",
                field="unlimited",
            )
        return
    last_day = policy.last_day(today_at(shared_at, time_zone))
    if last_day and ends_at > end_of(last_day, time_zone):
        raise Invalid(
            f"`valid_till` is after {last_day}, the last day that the facility allows", field="valid_till"
        )
    if is_earlier(bound, ends_at):
        raise Invalid(
            "`valid_till` is after the end of the share that you received and share on", field="valid_till"
        )


def parse_day(text: str) -> date:
    """A day `YYYY-MM-DD`; raises Invalid for anything else."""
    try:
        day = date.fromisoformat(text) if _DAY.fullmatch(text) else None
    except ValueError:
        day = None
    if day is None or day > LAST_DAY:
        raise Invalid("`valid_till` is not a date: write it as YYYY-MM-DD", field="valid_till")
    return day
