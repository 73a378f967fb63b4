"""Near misses: the same predicate, changed a little, as whoever wrote it may have meant it (BEY-1).

    PatientAge < '18Y'              PatientAge <= '18Y'
    StudyDate > '2026-11-26'        StudyDate >= '2026-11-26'
    age(CreatedTime) < '3d'         age(CreatedTime) < '4d'
    PatientName = 'Doe^Jane'        upper(PatientName) = 'DOE^JANE', plain(…) = …, PatientName contains …

Which of them a case would satisfy, `trace.py` tries.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta

from services.access.filter.fields import FUNCTIONS, OPERATORS, OPERATORS_OF_SETS, Function, Operator
from services.access.filter.forms import plain
from services.access.filter.literals import DURATIONS
from services.access.filter.tree import (
    Age,
    Day,
    Duration,
    Literal,
    Number,
    Pattern,
    Predicate,
    Text,
    Wildcard,
)

_AT_THE_BOUND: Mapping[Operator, Operator] = {
    Operator.LT: Operator.LE,
    Operator.LE: Operator.LT,
    Operator.GT: Operator.GE,
    Operator.GE: Operator.GT,
}
"""The comparison that differs at the literal itself, and nowhere else."""


def near(asked: Predicate) -> Iterator[Predicate]:
    """The predicates beside one, the nearest first."""
    if asked.operator in _AT_THE_BOUND:
        yield replace(asked, operator=_AT_THE_BOUND[asked.operator])
    if asked.operator in _AT_THE_BOUND or asked.operator is Operator.BETWEEN:
        yield from _a_step_further(asked)
    if Function.PLAIN in FUNCTIONS.get(asked.field.kind, ()):
        for other in (*_without_regard_to_case(asked), *_anywhere(asked)):
            if other.function is not Function.PLAIN or all(map(_leaves_a_text, other.literals)):
                yield other


def _a_step_further(asked: Predicate) -> Iterator[Predicate]:
    """One literal by its smallest step more or less, where that is not what another sign says too."""
    if asked.operator in _EXCLUDES and asked.function is not Function.AGE:
        return
    for position, literal in enumerate(asked.literals):
        for other in _beside(literal):
            yield replace(
                asked, literals=(*asked.literals[:position], other, *asked.literals[position + 1 :])
            )


_EXCLUDES = frozenset({Operator.LT, Operator.GT})
"""`< '19Y'` is `<= '18Y'`, of whatever is counted."""


def _beside(literal: Literal) -> Iterator[Literal]:
    match literal:
        case Age(count, unit):
            yield from (Age(each, unit) for each in (count + 1, count - 1) if each >= 0)
        case Number(number):
            yield from (Number(each) for each in (number + 1, number - 1) if each >= 0)
        case Day(day):
            yield from (Day(day + timedelta(days=days)) for days in (1, -1))
        case Duration(length):
            step = max(step for step in DURATIONS.values() if not length % step)
            yield from (Duration(each) for each in (length + step, length - step) if each >= timedelta(0))


def _without_regard_to_case(asked: Predicate) -> Iterator[Predicate]:
    if asked.operator in (Operator.EQ, Operator.IN, Operator.LIKE):
        kept = asked.function if asked.function is not Function.NONE else Function.UPPER
        for function in dict.fromkeys((kept, Function.PLAIN)):
            yield replace(asked, function=function, literals=tuple(_written(function, asked.literals)))
    elif asked.operator in (Operator.CONTAINS, Operator.STARTSWITH):
        yield replace(asked, function=Function.PLAIN)


def _anywhere(asked: Predicate) -> Iterator[Predicate]:
    """A text somewhere in the value, where it was asked for as the value or its beginning."""
    operators = OPERATORS_OF_SETS if asked.field.is_set else OPERATORS[asked.field.kind]
    if asked.operator in (Operator.EQ, Operator.STARTSWITH) and Operator.CONTAINS in operators:
        for function in (Function.NONE, Function.PLAIN):
            yield replace(asked, operator=Operator.CONTAINS, function=function)


def _leaves_a_text(literal: Literal) -> bool:
    """Whether `plain` leaves something to compare: of an accent alone it leaves nothing."""
    match literal:
        case Text(text):
            return bool(plain(text))
        case Pattern(parts):
            return all(isinstance(part, Wildcard) or plain(part) for part in parts)
    return True


def _written(function: Function, literals: tuple[Literal, ...]) -> Iterator[Literal]:
    """Literals as the function leaves the values that they are compared to."""
    write = {Function.UPPER: str.upper, Function.LOWER: str.lower}.get(function, str)
    for literal in literals:
        match literal:
            case Text(text):
                yield Text(write(text))
            case Pattern(parts):
                yield Pattern(tuple(part if isinstance(part, Wildcard) else write(part) for part in parts))
            case _:
                yield literal
