"""The age of a patient at the study: four numbers, of which the literal of a filter picks one (A8)."""

import re
from datetime import date
from typing import NamedTuple

from services.access.filter.forms import BLANKS

# PS3.5 6.2, AS: three digits and a unit.
_AGE = re.compile(r"([0-9]{3})([DWMY])")

_MONTHS_A_YEAR = 12
_DAYS_A_WEEK = 7
_DAYS_A_MONTH = 30.436875  # 365.2425 / 12


class Ages(NamedTuple):
    """Completed years, months, weeks and days; None: the data do not say."""

    years: int | None = None
    months: int | None = None
    weeks: int | None = None
    days: int | None = None


UNKNOWN = Ages()


def ages(birth_day: date | None, study_day: date | None, element: str) -> Ages:
    """The age from birth date and study date where both are known, else from Patient's Age (0010,1010).

    A birth after the study is an error in the data, so that nothing is known. Who is born on 29 February
    completes a year on 1 March.
    """
    if birth_day and study_day:
        return _between(birth_day, study_day)
    return _from_element(element)


def _between(birth_day: date, study_day: date) -> Ages:
    days = (study_day - birth_day).days
    if days < 0:
        return UNKNOWN
    months = (study_day.year - birth_day.year) * _MONTHS_A_YEAR + study_day.month - birth_day.month
    months -= study_day.day < birth_day.day
    return Ages(months // _MONTHS_A_YEAR, months, days // _DAYS_A_WEEK, days)


def _from_element(element: str) -> Ages:
    """`018Y` says nothing of months, weeks and days beyond a lower bound, `018M` nothing of weeks, days."""
    found = _AGE.fullmatch(element.rstrip(BLANKS))
    if not found:
        return UNKNOWN
    count, unit = int(found[1]), found[2]
    if unit == "Y":
        return Ages(years=count)
    if unit == "M":
        return Ages(years=count // _MONTHS_A_YEAR, months=count)
    days = count * _DAYS_A_WEEK if unit == "W" else count
    months = int(days / _DAYS_A_MONTH)
    return Ages(months // _MONTHS_A_YEAR, months, days // _DAYS_A_WEEK, days)
