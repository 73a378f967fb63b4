"""What is derived of a case for filters and lists: ages, days, instants, and the forms of its texts.

Whoever changes what comes out raises DERIVED and adds an index like `cases_to_derive` for the new number:
then every case is derived again (`describing.py`), and until then it stands as it was derived before.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, tzinfo
from typing import Any

from services.access.filter.ages import ages
from services.access.filter.dates import parse_date, parse_time, study_instant
from services.access.filter.fields import FIELDS, Kind
from services.access.filter.forms import BLANKS, NAME_PADDING, Forms, plain, stored_forms

DERIVED = 1
"""The state of these functions, as it is stored with what they derived."""

NO_STUDY_DATE = datetime.min  # noqa: DTZ901  PostgreSQL's -infinity: lists put it before every date


def _columns(kind: Kind) -> tuple[str, ...]:
    return tuple(dict.fromkeys(column for each in FIELDS if each.kind is kind for column in each.columns))


TEXTS, NAMES = _columns(Kind.TEXT), _columns(Kind.NAME)
"""The columns that fields of texts and of person names read."""


@dataclass(frozen=True, slots=True)
class Derived:
    """What is derived, by column; None: absent, malformed, or not known.

    Attributes:
        study_at: date and time in UTC; None too while nobody knows in which time zone they are.
        text_forms: the forms of each text that is not of ASCII alone, bounded as the texts are; None: all
            are.
        plain_text: the plain forms of all texts, each on a line: what is contained in any form of one is
            contained here, plain.
        patient_name_order, study_order: what lists are ordered by; absent values are the smallest.
    """

    study_day: date | None
    study_time_of_day: time | None
    study_at: datetime | None
    birth_day: date | None
    age_years: int | None
    age_months: int | None
    age_weeks: int | None
    age_days: int | None
    text_forms: Mapping[str, Forms] | None
    plain_text: str
    patient_name_order: str
    study_order: datetime


def derive(received: Mapping[str, Any], zone: tzinfo | None) -> Derived:
    """Derives what the index keeps beside what was received.

    Args:
        received: by column; a column of several values holds them as a sequence.
        zone: the time zone of the owning facility, if it is known.
    """
    day, at = parse_date(received["study_date"]), parse_time(received["study_time"])
    birth_day = parse_date(received["patient_birth_date"])
    age = ages(birth_day, day, received["patient_age"])
    texts, names = tuple(_values(received, TEXTS)), tuple(_values(received, NAMES))
    return Derived(
        study_day=day,
        study_time_of_day=at,
        study_at=study_instant(day, at, received["timezone_offset_from_utc"], zone),
        birth_day=birth_day,
        age_years=age.years,
        age_months=age.months,
        age_weeks=age.weeks,
        age_days=age.days,
        text_forms=stored_forms(texts, names) or None,
        plain_text="\n".join(_lines(texts, names)),
        patient_name_order=plain(received["patient_name"].rstrip(NAME_PADDING)),
        study_order=datetime.combine(day, at or time.min) if day else NO_STUDY_DATE,
    )


def _values(received: Mapping[str, Any], columns: Iterable[str]) -> Iterator[str]:
    """The values of these columns that say anything."""
    for column in columns:
        value = received[column]
        yield from filter(None, (value,) if isinstance(value, str) else value)


def _lines(texts: Iterable[str], names: Iterable[str]) -> Iterable[str]:
    stripped = [*(text.rstrip(BLANKS) for text in texts), *(name.rstrip(NAME_PADDING) for name in names)]
    # Of `ı` alone the capital is another letter, plain: `upper()` may search for it.
    return dict.fromkeys(plain(form) for each in stripped if each for form in (each, each.upper()))
