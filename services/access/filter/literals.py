"""Literals: a text or number of the filter, taken as a value of the field that it is compared to."""

import difflib
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from typing import NamedTuple
from uuid import UUID

from kernel import logins
from services.access.filter.faults import Edit, FilterError, quoted
from services.access.filter.fields import Field, Function, Kind, Operator
from services.access.filter.forms import BLANKS, NAME_PADDING, plain
from services.access.filter.tokens import BETWEEN, CURLY, MISQUOTES, Token, quote
from services.access.filter.tokens import Kind as TokenKind
from services.access.filter.tree import (
    Age,
    AgeUnit,
    Bound,
    Choice,
    Day,
    Duration,
    Literal,
    LocalTime,
    Me,
    Name,
    Number,
    Pattern,
    Span,
    Text,
    TimeOfDay,
    Wildcard,
)

MAX_WILDCARDS = 5
FIRST_DAY, LAST_DAY = date(1000, 1, 1), date(9999, 12, 30)
"""Within them an instant has a date in every time zone."""

SEARCHES = frozenset({Operator.CONTAINS, Operator.STARTSWITH})

DURATIONS: Mapping[str, timedelta] = {
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
    "m": timedelta(days=30.436875),
    "y": timedelta(days=365.2425),
}
"""The units of `age()`; a month is a twelfth of the mean year of the calendar."""

_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})|([0-9]{4})([0-9]{2})([0-9]{2})")
_TIME = re.compile(
    r"([0-9]{2})(?::([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,6}))?)?)?"
    r"|([0-9]{2})([0-9]{2})(?:([0-9]{2})(?:\.([0-9]{1,6}))?)?"
)
_MORE_WORDS = re.compile(rf"(?:[{BETWEEN}]+(?!(?:and|or)\b)[^{BETWEEN},()'<>={MISQUOTES}]+)*", re.IGNORECASE)
_ID = re.compile(r"#([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")


class Asked(NamedTuple):
    """What a literal is compared to, and how."""

    field: Field
    written: str  # the field, as it is written
    function: Function
    operator: Operator
    is_of_group: bool
    stored: bool

    @property
    def choices(self) -> tuple[str, ...]:
        """The values of an enum."""
        return self.field.choices_for(is_of_group=self.is_of_group)

    @property
    def is_duration(self) -> bool:
        """Whether it is the time since something."""
        return self.function is Function.AGE


def literal(text: str, token: Token, asked: Asked) -> Literal:
    """The value of a token in the type of the field; raises FilterError at the token."""
    if token.kind is TokenKind.NUMBER and (asked.is_duration or asked.field.kind is not Kind.NUMBER):
        raise bare(text, token.span, asked)
    if token.text.lower() == Me.USER.value and asked.field.kind is not Kind.LOGIN:
        raise FilterError(text, token.span, "`$user` stands for a login", f"`{asked.written}` holds none")
    value: Literal | None
    if asked.is_duration:
        value = _duration(token.text)
    elif asked.field.kind in (Kind.TEXT, Kind.NAME):
        value = _text(text, token, asked)
    elif asked.field.kind is Kind.ENUM:
        value = _choice(token.text, asked)
    elif asked.stored and (found := _ID.fullmatch(token.text)):
        value = Bound(UUID(found[1]))
    else:
        value = _TAKES[asked.field.kind](token.text)
    if value is None:
        meant = _meant(token.text, asked)
        fault = _fault(token.text, asked)
        subject = "it" if fault.endswith(_operand(asked)) else _operand(asked)
        raise FilterError(
            text,
            token.span,
            f"{quoted(token.text)} {fault}",
            f"{subject} takes {_expected(asked)}",
            *([Edit(token.span, meant)] if meant else ()),
        )
    return value


def _fault(written: str, asked: Asked) -> str:
    """What is wrong with a literal that cannot be converted."""
    if written.isdecimal() and (asked.is_duration or asked.field.kind is Kind.AGE):
        return "has no unit"
    if asked.field.kind in (Kind.DATE, Kind.LOCAL, Kind.INSTANT) and (found := _DATE.match(written)):
        day = _calendar(found)
        if day is None:
            return "is no day of the calendar"
        if not FIRST_DAY <= day <= LAST_DAY:
            return f"lies outside {FIRST_DAY} to {LAST_DAY}"
    return f"is no value of {_operand(asked)}"


def _calendar(found: re.Match[str]) -> date | None:
    """The day that a date names, if there is such a day."""
    try:
        return date(*(int(part) for part in found.groups() if part))
    except ValueError:
        return None


def bare(text: str, span: Span, asked: Asked) -> FilterError:
    """A value that stands without quotes; one that may be of several words goes on to a keyword."""
    if asked.field.kind in (Kind.TEXT, Kind.NAME, Kind.FACILITY):
        more = _MORE_WORDS.match(text, span.end)
        span = Span(span.start, more.end() if more else span.end)
    written = text[span.start : span.end].rstrip(f"'{CURLY}")
    meant = _meant(written, asked) or quote(written)
    problem = f"{quoted(written)} stands without quotes"
    return FilterError(text, span, problem, f"{_operand(asked)} takes {_expected(asked)}", Edit(span, meant))


def _text(text: str, token: Token, asked: Asked) -> Text | Pattern:
    """A text without the padding that comparisons ignore; a pattern and what is searched stay as written."""
    if asked.operator is Operator.LIKE:
        return _pattern(text, token, asked)
    value = token.text
    if asked.operator not in SEARCHES:
        value = value.rstrip(NAME_PADDING if asked.field.kind is Kind.NAME else BLANKS)
    if not _says_anything(value, asked):
        raise _empty(text, token, asked)
    return Text(value)


def _says_anything(value: str, asked: Asked) -> bool:
    """Whether something is left to be compared: `plain()` takes away what only marks a letter."""
    return bool(plain(value) if asked.function is Function.PLAIN else value)


def _empty(text: str, token: Token, asked: Asked) -> FilterError:
    problem = (
        f"nothing of {quoted(token.text)} can be compared" if token.text else "an empty text is no value"
    )
    instead = f"to ask whether there is a value, write `{asked.written} is null` or `is not null`"
    return FilterError(text, token.span, problem, instead)


def _pattern(text: str, token: Token, asked: Asked) -> Pattern:
    """pattern := ("%" | "_" | "\\" any | any)*"""
    parts: list[str | Wildcard] = []
    signs = iter(token.text)
    for sign in signs:
        if sign in (wildcards := {each.value: each for each in Wildcard}):
            parts.append(wildcards[sign])
            continue
        if sign == "\\":
            escaped = next(signs, None)
            if escaped is None:
                raise FilterError(
                    text, token.span, "a `\\` at the end of a pattern escapes nothing", "write `\\\\` for one"
                )
            sign = escaped
        if parts and isinstance(parts[-1], str):
            parts[-1] += sign
        else:
            parts.append(sign)
    if sum(isinstance(part, Wildcard) for part in parts) > MAX_WILDCARDS:
        raise FilterError(
            text,
            token.span,
            f"a pattern has at most {MAX_WILDCARDS} wildcards",
            "write `\\%` and `\\_` for the signs themselves, or use `contains`",
        )
    if not parts or not all(isinstance(part, Wildcard) or _says_anything(part, asked) for part in parts):
        raise _empty(text, token, asked)
    return Pattern(tuple(parts))


def _number(written: str) -> Number | None:
    return Number(int(written)) if re.fullmatch(r"[0-9]{1,9}", written) else None


def _age(written: str) -> Age | None:
    """age := digit{1,4} ("D" | "W" | "M" | "Y"), in any case"""
    found = re.fullmatch(r"([0-9]{1,4})([DWMY])", written, re.IGNORECASE | re.ASCII)
    return Age(int(found[1]), AgeUnit(found[2].upper())) if found else None


def _duration(written: str) -> Duration | None:
    """duration := digit{1,4} ("h" | "d" | "w" | "m" | "y"), in any case"""
    found = re.fullmatch(r"([0-9]{1,4})([HDWMY])", written, re.IGNORECASE | re.ASCII)
    return Duration(int(found[1]) * DURATIONS[found[2].lower()]) if found else None


def _day(written: str) -> Day | None:
    """date := YYYY-MM-DD | YYYYMMDD"""
    found = _DATE.fullmatch(written)
    day = _calendar(found) if found else None
    return Day(day) if day and FIRST_DAY <= day <= LAST_DAY else None


def _time(written: str) -> TimeOfDay | None:
    """time := HH[:MM[:SS[.f]]] | HHMM[SS[.f]]"""
    found = _TIME.fullmatch(written)
    if found is None:
        return None
    hour, minute, second, fraction = (found.group(n) or found.group(n + 4) or "0" for n in range(1, 5))
    try:
        return TimeOfDay(time(int(hour), int(minute), int(second), int(fraction.ljust(6, "0"))))
    except ValueError:
        return None


def _local(written: str) -> LocalTime | None:
    """local := date [("T" | " "+) time]; a date alone is its beginning"""
    head, _, tail = written.replace("T", " ").partition(" ")
    day, at = _day(head), _time(tail.strip() or "00")
    return LocalTime(datetime.combine(day.day, at.time)) if day and at else None


def _choice(written: str, asked: Asked) -> Choice | None:
    chosen = written.upper()
    return Choice(chosen) if written.isascii() and chosen in asked.choices else None


def _login(written: str) -> Name | Me | None:
    if written.lower() == Me.USER.value:
        return Me.USER
    login = logins.canonical(written) if written.isascii() else None
    return Name(login) if login else None


def _facility(written: str) -> Name | None:
    return Name(written.strip()) if written.strip() else None


_TAKES: Mapping[Kind, Callable[[str], Literal | None]] = {
    Kind.NUMBER: _number,
    Kind.AGE: _age,
    Kind.DATE: _day,
    Kind.TIME: _time,
    Kind.LOCAL: _local,
    Kind.INSTANT: _local,
    Kind.LOGIN: _login,
    Kind.FACILITY: _facility,
}

_EXPECTED: Mapping[Kind, str] = {
    Kind.TEXT: "a text in single quotes",
    Kind.NAME: "a text in single quotes",
    Kind.NUMBER: "a whole number of at most nine digits, as in `1200`",
    Kind.AGE: "up to four digits and a unit, `Y`, `M`, `W` or `D`, as in `'18Y'`",
    Kind.DATE: "a date, as in `'2026-11-21'`",
    Kind.TIME: "a time, as in `'08:30'`",
    Kind.LOCAL: "a date, with or without a time, as in `'2026-11-21 08:30'`",
    Kind.INSTANT: "a date, with or without a time, as in `'2026-11-21 08:30'`",
    Kind.LOGIN: "a login or `'$user'`",
    Kind.FACILITY: "the name of a facility",
}


def _expected(asked: Asked) -> str:
    if asked.is_duration:
        return "up to four digits and a unit, `h`, `d`, `w`, `m` or `y`, as in `'3d'`"
    if asked.choices:
        return "one of " + ", ".join(f"`{choice}`" for choice in asked.choices)
    return _EXPECTED[asked.field.kind]


def _operand(asked: Asked) -> str:
    return f"`{asked.function}({asked.written})`" if asked.function else f"`{asked.written}`"


# What somebody meant who wrote something near it, as the language writes it

_UNITS = "hours|hour|hrs|hr|h|days|day|d|weeks|week|wks|w|months|month|mo|m|years|year|yrs|yr|y"
_COUNT_AND_UNIT = re.compile(rf"[\s]*([0-9]{{1,4}})[\s-]*({_UNITS})?[\s.]*", re.IGNORECASE | re.ASCII)
_OTHER_DATES = (
    re.compile(r"(?P<y>[0-9]{4})[/. ](?P<m>[0-9]{1,2})[/. ](?P<d>[0-9]{1,2})"),
    re.compile(r"(?P<y>[0-9]{4})-(?P<m>[0-9]{1,2})-(?P<d>[0-9]{1,2})"),
    re.compile(r"(?P<d>[0-9]{1,2})\.(?P<m>[0-9]{1,2})\.(?P<y>[0-9]{4})"),
)


def _meant(written: str, asked: Asked) -> str | None:
    """The literal that was meant, quoted; None if it is not obvious."""
    kind = asked.field.kind
    meant: str | None = written.strip()
    if asked.is_duration:
        meant = _with_unit(written, "d", "hdwmy")
    elif kind is Kind.AGE:
        found = _with_unit(written, "y", "dwmy")
        meant = found.upper() if found else None
    elif kind is Kind.NUMBER:
        found = re.sub(r"(?<=[0-9])[ ,.](?=[0-9]{3})", "", written.strip())
        return found if _number(found) else None
    elif kind in (Kind.DATE, Kind.LOCAL, Kind.INSTANT):
        days = (form.fullmatch(written.strip()) for form in _OTHER_DATES)
        meant = next((f"{day['y']}-{day['m']:0>2}-{day['d']:0>2}" for day in days if day), meant)
    elif kind is Kind.ENUM:
        meant = nearest(re.sub(r"[\s-]+", "_", written.strip()), asked.choices)
    elif kind is Kind.LOGIN and written.startswith("$"):
        meant = Me.USER.value
    if not meant or (kind in _TAKES and not asked.is_duration and _TAKES[kind](meant) is None):
        return None
    return quote(meant)


def _with_unit(written: str, usual: str, units: str) -> str | None:
    found = _COUNT_AND_UNIT.fullmatch(written)
    unit = (found[2] or usual)[0].lower() if found else ""
    return f"{found[1]}{unit}" if found and unit in units else None


def nearest(written: str, known: tuple[str, ...]) -> str | None:
    """The known word that is nearest to one that is not known, if any is near."""
    # What is longer is no slip, and would take long to compare.
    if len(written) > 64:
        return None
    by_folded = {word.casefold(): word for word in known}
    found = difflib.get_close_matches(written.casefold(), by_folded, 1)
    return by_folded[found[0]] if found else None


MIN_ABBREVIATION = 3


def in_full(written: str, known: tuple[str, ...]) -> str | None:
    """The shortest known word of which one that is not known leaves letters out, as `RefPhys` does."""
    if not MIN_ABBREVIATION <= len(written) <= 64:
        return None
    longer = (word for word in known if word[0].casefold() == written[0].casefold())
    return min((word for word in longer if _leaves_out(written, word)), key=len, default=None)


def _leaves_out(written: str, word: str) -> bool:
    letters = iter(word.casefold())
    return all(each in letters for each in written.casefold())
