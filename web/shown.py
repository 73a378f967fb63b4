"""How values are written on pages: names, dates, ages. What nobody can read is shown as it came."""

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from google.protobuf.timestamp_pb2 import Timestamp

_MOST_CHARACTERS = 128
"""Of a value in a table; whoever needs more opens the case."""

_UNREADABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_DATE = re.compile(r"(\d{4})(\d{2})(\d{2})")
_TIME = re.compile(r"(\d{2})(\d{2})?.*", re.ASCII)


def text(value: str) -> str:
    """Without controls, and not without end."""
    clean = _UNREADABLE.sub(" ", value).strip()
    return clean if len(clean) <= _MOST_CHARACTERS else f"{clean[: _MOST_CHARACTERS - 1]}…"


def person_name(value: str) -> str:
    """A name as `FAMILY, Given Middle`: the first group of its components (DICOM PS3.5, 6.2.1)."""
    return "; ".join(filter(None, map(_one_name, text(value).split("\\"))))


def _one_name(value: str) -> str:
    family, *given = value.partition("=")[0].split("^")
    rest = " ".join(part.strip() for part in given[:2] if part.strip())
    return f"{family.strip().upper()}, {rest}" if rest else family.strip().upper()


def dicom_date(value: str) -> str:
    """`20261126` as `2026-11-26` (DICOM PS3.5, VR DA)."""
    match = _DATE.fullmatch(value)
    return "-".join(match.groups()) if match else text(value)


def dicom_time(value: str) -> str:
    """`103107.5` as `10:31` (DICOM PS3.5, VR TM)."""
    match = _TIME.fullmatch(value)
    return f"{match[1]}:{match[2] or '00'}" if match else text(value)


def age(birth_date: str, now: datetime) -> str:
    """Years of life, and below two years months; empty where the date says nothing."""
    match = _DATE.fullmatch(birth_date)
    try:
        born = date(*map(int, match.groups())) if match else None
    except ValueError:
        born = None
    today = now.date()
    if born is None or born > today:
        return ""
    months = (today.year - born.year) * 12 + today.month - born.month - (today.day < born.day)
    return f"{months // 12} y" if months >= 24 else f"{months} mo"


def instant(value: Timestamp | datetime, zone: str = "UTC") -> str:
    """A point in time as `2026-11-26 10:31` where the reader is."""
    at = value if isinstance(value, datetime) else value.ToDatetime(tzinfo=ZoneInfo("UTC"))
    try:
        here = at.astimezone(ZoneInfo(zone))
    except (ZoneInfoNotFoundError, ValueError):
        here = at
    return here.strftime("%Y-%m-%d %H:%M")


def second(value: Timestamp | datetime, zone: str = "UTC") -> str:
    """A point in time with its seconds, as `2026-11-26 10:31:07`."""
    at = value if isinstance(value, datetime) else value.ToDatetime(tzinfo=ZoneInfo("UTC"))
    return f"{instant(at, zone)}:{at:%S}"


def moment(value: Timestamp | datetime) -> str:
    """A point in time for a script, as `2026-11-26T10:31:07Z`."""
    at = value if isinstance(value, datetime) else value.ToDatetime(tzinfo=ZoneInfo("UTC"))
    return f"{at.astimezone(ZoneInfo('UTC')):%Y-%m-%dT%H:%M:%SZ}"


def since(value: Timestamp | datetime, now: datetime) -> str:
    """How long ago, in the largest unit that says enough: `4 min`, `3 h`, `12 d`."""
    at = value if isinstance(value, datetime) else value.ToDatetime(tzinfo=ZoneInfo("UTC"))
    minutes = max(now - at, timedelta()) // timedelta(minutes=1)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // (24 * 60)} d"


FILTERS: Mapping[str, Callable[..., Any]] = {
    "text": text,
    "person_name": person_name,
    "dicom_date": dicom_date,
    "dicom_time": dicom_time,
    "age": age,
    "instant": instant,
    "second": second,
    "moment": moment,
    "since": since,
}
