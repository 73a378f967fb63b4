"""Random filters: trees that the language can write, over values that random cases have (`cases.py`)."""

from collections.abc import Callable, Mapping
from datetime import date, time
from random import Random
from typing import Any

from services.access.filter.fields import (
    FIELDS,
    FUNCTIONS,
    OPERATORS,
    OPERATORS_OF_AGE,
    OPERATORS_OF_SETS,
    Field,
    Function,
    Kind,
    Operator,
)
from services.access.filter.forms import BLANKS, NAME_PADDING, plain
from services.access.filter.literals import DURATIONS
from services.access.filter.tree import (
    Age,
    AgeUnit,
    And,
    Bound,
    Choice,
    Constant,
    Day,
    Duration,
    Expression,
    Literal,
    LocalTime,
    Me,
    Not,
    Number,
    Or,
    Pattern,
    Predicate,
    Text,
    TimeOfDay,
    Wildcard,
)
from tests.access.filter.cases import (
    BERLIN,
    FACILITIES,
    MODALITIES,
    NAMES,
    NOW,
    SEXES,
    SINCE,
    TITLES,
    UIDS,
    USERS,
    WORDS,
)

DEPTH = 4
MAX_WILDCARDS = 5


def draw_filter(random: Random, depth: int = DEPTH) -> Expression:
    """A filter of up to so many levels."""
    if depth == 0 or random.random() < 0.3:
        return Constant(random.random() < 0.5) if random.random() < 0.03 else draw_predicate(random)
    kind: Any = random.choice((Not, And, Or))
    terms = tuple(draw_filter(random, depth - 1) for _ in range(random.choice((2, 2, 2, 3))))
    return kind(terms) if kind is not Not else Not(terms[0])


def draw_predicate(random: Random, field: Field | None = None) -> Predicate:
    """A predicate on any field, or on one, with any function and operator that it takes."""
    field = field or random.choice(FIELDS)
    function = random.choice((Function.NONE, *sorted(FUNCTIONS.get(field.kind, ()))))
    operators = OPERATORS_OF_AGE if function is Function.AGE else OPERATORS[field.kind]
    if field.is_set:
        operators &= OPERATORS_OF_SETS
    operator = random.choice(sorted(operators))
    counts: Mapping[Operator, int] = {
        Operator.IS_NULL: 0,
        Operator.BETWEEN: 2,
        Operator.IN: random.randint(1, 3),
    }
    literals = [draw_literal(random, field, function, operator) for _ in range(counts.get(operator, 1))]
    if operator is Operator.BETWEEN and random.random() < 0.8:
        literals.sort(key=_rank)
    negated = random.random() < 0.3
    return Predicate(field, operator, tuple(literals), function, negated)


def _rank(literal: Literal) -> tuple[Any, ...]:
    match literal:
        case Age(count, unit):
            return (count * {"Y": 365, "M": 30, "W": 7, "D": 1}[unit],)
        case Text(value) | Number(value) | Duration(value) | Day(value) | TimeOfDay(value) | LocalTime(value):
            return (value,)
    return ()


def draw_literal(random: Random, field: Field, function: Function, operator: Operator) -> Literal:
    """A literal as the language would read it for such a predicate."""
    if function is Function.AGE:
        return Duration(random.choice(_LENGTHS))
    if operator is Operator.LIKE:
        return _pattern(random, field, function)
    if field.kind in (Kind.TEXT, Kind.NAME):
        searches = operator in (Operator.CONTAINS, Operator.STARTSWITH)
        return Text(_text(random, field, function, padding="" if searches else _PADDING[field.kind]))
    return _LITERALS[field.kind](random, field)


_TEXTS = {
    "PatientSex": SEXES,
    "CallingAETitle": TITLES,
    "StudyInstanceUID": UIDS,
    "ModalitiesInStudy": MODALITIES,
}
_FORMS: Mapping[Function, Callable[[str], str]] = {
    Function.NONE: str,
    Function.UPPER: str.upper,
    Function.LOWER: str.lower,
    Function.PLAIN: plain,
}
_LENGTHS = (*map(abs, SINCE[:1] + SINCE[2:]), DURATIONS["m"], 9999 * DURATIONS["y"])
_PADDING = {Kind.TEXT: BLANKS, Kind.NAME: NAME_PADDING}


def _text(random: Random, field: Field, function: Function, padding: str) -> str:
    """What a case may have, or a part of it, in another form; never without anything to compare."""
    values = NAMES if field.kind is Kind.NAME else _TEXTS.get(field.keyword, WORDS)
    forms = (_FORMS[function], _FORMS[function], str, str.upper, str.lower, plain, str.swapcase)
    while True:
        text = random.choice(values if random.random() < 0.8 else WORDS)
        form = random.choice(forms)
        text = form(text).rstrip(padding)
        if random.random() < 0.3:
            start = random.randrange(len(text) + 1)
            text = text[start : start + random.randint(1, 6)].rstrip(padding)
        if plain(text) if function is Function.PLAIN else text:
            return text


def _pattern(random: Random, field: Field, function: Function) -> Pattern:
    text = _text(random, field, function, "")
    parts: list[str | Wildcard] = []
    cuts = sorted(random.randrange(len(text) + 1) for _ in range(random.randint(0, 2)))
    for start, end in zip((0, *cuts), (*cuts, len(text)), strict=True):
        parts += (text[start:end], random.choice((*Wildcard, "")))
    if random.random() < 0.7:
        parts += (Wildcard.ANY_RUN,)
    if random.random() < 0.7:
        parts.insert(0, Wildcard.ANY_RUN)
    joined: list[str | Wildcard] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        elif part:
            joined.append(part)
    says = all(plain(part) or function is not Function.PLAIN for part in joined if isinstance(part, str))
    wildcards = sum(isinstance(part, Wildcard) for part in joined)
    if not says or wildcards > MAX_WILDCARDS:
        return Pattern((Wildcard.ANY_RUN, Wildcard.ONE_CHARACTER))
    return Pattern(tuple(joined))


def _local(random: Random, field: Field) -> Literal:
    at = NOW - random.choice(SINCE)
    if random.random() < 0.5:
        at = at.replace(hour=0, minute=0, second=0, microsecond=0)
    return LocalTime(at.astimezone(BERLIN).replace(tzinfo=None))


_DAYS = (
    date(2026, 11, 1), date(2026, 10, 31), date(2026, 10, 29), date(2026, 1, 31), date(2024, 2, 29),
    date(2008, 11, 1), date(1970, 1, 1), date(1000, 1, 1), date(9999, 12, 30),
)  # fmt: skip
_TIMES = (
    time(10),
    time(10, 15),
    time(10, 15, 30),
    time(10, 15, 30, 500_000),
    time(0),
    time(12),
    time(23, 59, 59),
)
_USERS: tuple[Literal, ...] = (Me.USER, *(Bound(user_id, login) for login, user_id in USERS.items()))
_LITERALS: Mapping[Kind, Callable[[Random, Field], Literal]] = {
    Kind.NUMBER: lambda random, field: Number(random.choice((0, 1, 2, 3, 1199, 1200, 1201, 999_999_999))),
    Kind.AGE: lambda random, field: Age(
        random.choice((0, 3, 17, 18, 19, 21, 30, 31, 215, 216, 217, 9999)), random.choice(tuple(AgeUnit))
    ),
    Kind.DATE: lambda random, field: Day(random.choice(_DAYS)),
    Kind.TIME: lambda random, field: TimeOfDay(random.choice(_TIMES)),
    Kind.LOCAL: _local,
    Kind.INSTANT: _local,
    Kind.ENUM: lambda random, field: Choice(random.choice(tuple(field.choices or ()))),
    Kind.LOGIN: lambda random, field: random.choice(_USERS),
    Kind.FACILITY: lambda random, field: Bound(random.choice(FACILITIES)),
}
