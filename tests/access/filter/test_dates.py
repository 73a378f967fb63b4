"""Dates, times and offsets as DICOM writes them: what is malformed is nothing."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from services.access.filter.dates import parse_date, parse_offset, parse_time, study_instant

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("20261121", date(2026, 11, 21)),
        ("20261121 ", date(2026, 11, 21)),
        ("20240229", date(2024, 2, 29)),
        ("20230229", None),
        ("20261301", None),
        ("20261100", None),
        ("2026-11-21", None),
        ("2026.11.21", None),
        ("202611", None),
        (" 20261121", None),
        ("20261121\n", None),
        ("２０２６1121", None),
        ("00010101", None),
        ("00000000", None),
        ("99991231", None),
        ("15830101", date(1583, 1, 1)),
        ("", None),
    ],
)
def test_a_date_is_eight_digits_that_name_a_day(text: str, day: date | None) -> None:
    assert day == parse_date(text)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("10", time(10)),
        ("1015", time(10, 15)),
        ("101530", time(10, 15, 30)),
        ("101530.5", time(10, 15, 30, 500_000)),
        ("101530.000001", time(10, 15, 30, 1)),
        ("101530.123456 ", time(10, 15, 30, 123_456)),
        ("10:15", time(10, 15)),
        ("10:15:30.25", time(10, 15, 30, 250_000)),
        ("235960", time(23, 59, 59, 999_999)),
        ("235961", None),
        ("24", None),
        ("1060", None),
        ("10:1530", None),
        ("1015:30", None),
        ("101530.", None),
        ("101530.1234567", None),
        ("1015.5", None),
        ("1", None),
        ("101", None),
        (" 10", None),
        ("", None),
    ],
)
def test_a_time_may_leave_out_minutes_and_seconds(text: str, at: time | None) -> None:
    assert at == parse_time(text)


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("+0100", 1),
        ("-0500", -5),
        ("+0000", 0),
        ("+1400", 14),
        ("-1200", -12),
        ("+0545 ", 5.75),
        ("-0000", None),
        ("+1401", None),
        ("-1201", None),
        ("+0160", None),
        ("0100", None),
        ("+01:00", None),
        ("+01", None),
        ("Z", None),
        ("", None),
    ],
)
def test_an_offset_is_a_sign_and_four_digits(text: str, hours: float | None) -> None:
    zone = parse_offset(text)

    assert (None if hours is None else timedelta(hours=hours)) == (zone and zone.utcoffset(None))


@pytest.mark.parametrize(
    ("offset", "hour"),
    [("", 11), ("+0500", 7), ("-0500", 17), ("+9900", 11)],
)
def test_a_study_was_at_its_own_offset_or_else_in_the_zone_of_the_facility(offset: str, hour: int) -> None:
    at = study_instant(date(2026, 11, 21), time(12, 30), offset, BERLIN)

    assert datetime(2026, 11, 21, hour, 30, tzinfo=UTC) == at
    assert at is not None
    assert at.tzinfo is UTC


def test_a_study_without_date_or_time_was_at_no_instant() -> None:
    assert study_instant(None, time(12), "", BERLIN) is None
    assert study_instant(date(2026, 11, 21), None, "", BERLIN) is None


def test_the_first_and_the_last_day_are_instants_everywhere() -> None:
    for day in ("15830101", "99981231"):
        for offset in ("-1200", "+1400"):
            assert study_instant(parse_date(day), time(23, 59), offset, BERLIN)
