"""Dates and times as DICOM writes them; what is malformed is None, that is null in a filter."""

import re
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo

from services.access.filter.forms import BLANKS

# PS3.5 6.2: DA, TM. Colons are of the form before 1993, which a reader may still accept.
_DATE = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})")
_TIME = re.compile(r"([0-9]{2})(?:(:?)([0-9]{2})(?:\2([0-9]{2})(?:\.([0-9]{1,6}))?)?)?")
# PS3.3 C.12.1.1.8: Timezone Offset From UTC, `&ZZXX`.
_OFFSET = re.compile(r"([+-])([0-9]{2})([0-5][0-9])")
_FIRST_OFFSET, _LAST_OFFSET = timedelta(hours=-12), timedelta(hours=14)

# A DA is a date of the Gregorian calendar, which began in 1582. Programs write 00010101 and 99991231 for one
# that they do not know.
_FIRST_YEAR, _LAST_YEAR = 1583, 9998

_LEAP_SECOND = 60  # PS3.5 6.2, TM


def parse_date(text: str) -> date | None:
    """The date in a DA (PS3.5 6.2), from 1583 to 9998."""
    found = _DATE.fullmatch(text.rstrip(BLANKS))
    if not found:
        return None
    year, month, day = map(int, found.groups())
    if not _FIRST_YEAR <= year <= _LAST_YEAR:
        return None
    try:
        return date(year, month, day)
    except ValueError:
        return None


def parse_time(text: str) -> time | None:
    """The time in a TM (PS3.5 6.2); a leap second is the last microsecond of its minute."""
    found = _TIME.fullmatch(text.rstrip(BLANKS))
    if not found:
        return None
    hour, _, minute, second, fraction = found.groups()
    microsecond = int((fraction or "").ljust(6, "0"))
    seconds = int(second or 0)
    if seconds == _LEAP_SECOND:
        seconds, microsecond = 59, 999_999
    try:
        return time(int(hour), int(minute or 0), seconds, microsecond)
    except ValueError:
        return None


def parse_offset(text: str) -> tzinfo | None:
    """The offset in a Timezone Offset From UTC (0008,0201): from `-1200` to `+1400`, not `-0000`."""
    found = _OFFSET.fullmatch(text.rstrip(BLANKS))
    if not found or found[0] == "-0000":
        return None
    offset = timedelta(hours=int(found[2]), minutes=int(found[3]))
    offset = -offset if found[1] == "-" else offset
    return timezone(offset) if _FIRST_OFFSET <= offset <= _LAST_OFFSET else None


def study_instant(day: date | None, at: time | None, offset: str, zone: tzinfo | None) -> datetime | None:
    """When a study was, in UTC.

    Args:
        day: its date, as `parse_date` gives it.
        at: its time, as `parse_time` gives it.
        offset: (0008,0201) as received.
        zone: the time zone of the owning facility, which counts where the offset is absent or malformed;
            None: not known.
    """
    zone = parse_offset(offset) or zone
    if day is None or at is None or zone is None:
        return None
    return datetime.combine(day, at, zone).astimezone(UTC)
