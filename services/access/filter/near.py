"""Near misses: the same predicate, changed a little, as whoever wrote it may have meant it (BEY-1).

    PatientAge < '18Y'              PatientAge <= '18Y'
    StudyDate > '2026-11-26'        StudyDate >= '2026-11-26'
    PatientName = 'Doe^Jane'        upper(PatientName) = 'DOE^JANE', plain(…) = …, PatientName contains …

Which of them a case would satisfy, `trace.py` tries.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from services.access.filter.fields import FUNCTIONS, OPERATORS, OPERATORS_OF_SETS, Function, Operator
from services.access.filter.forms import plain
from services.access.filter.tree import Literal, Pattern, Predicate, Text, Wildcard

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
    if Function.PLAIN in FUNCTIONS.get(asked.field.kind, ()):
        for other in (*_without_regard_to_case(asked), *_anywhere(asked)):
            if other.function is not Function.PLAIN or all(map(_leaves_a_text, other.literals)):
                yield other


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
