"""A tree as text: what is written is read again as the same tree."""

from services.access.filter.fields import Operator
from services.access.filter.literals import DURATIONS
from services.access.filter.tokens import quote
from services.access.filter.tree import (
    Age,
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
    Name,
    Not,
    Number,
    Or,
    Pattern,
    Predicate,
    Text,
    TimeOfDay,
    Wildcard,
)

_BINDS = {Or: 0, And: 1, Not: 2, Predicate: 3, Constant: 3}
"""How strongly an expression holds together without parentheses."""

_ESCAPED = str.maketrans({sign: f"\\{sign}" for sign in "\\%_"})


def write(expression: Expression) -> str:
    """A filter as text, in one line; users and facilities that are bound as `'#<id>'`."""
    match expression:
        case Or(terms) | And(terms):
            word = " or " if isinstance(expression, Or) else " and "
            return word.join(_within(term, _BINDS[type(expression)] + 1) for term in terms)
        case Not(term):
            return f"not {_within(term, _BINDS[Not])}"
        case Constant(value):
            return "true" if value else "false"
        case Predicate():
            return _predicate(expression)


def _within(term: Expression, binds: int) -> str:
    return f"({write(term)})" if _BINDS[type(term)] < binds else write(term)


def _predicate(predicate: Predicate) -> str:
    keyword, function = predicate.field.keyword, predicate.function
    operand = f"{function}({keyword})" if function else keyword
    literals = [write_literal(each) for each in predicate.literals]
    no = "not " if predicate.negated else ""
    match predicate.operator:
        case Operator.IS_NULL:
            return f"{operand} is {no}null"
        case Operator.IN:
            return f"{operand} {no}in ({', '.join(literals)})"
        case Operator.BETWEEN:
            return f"{operand} {no}between {literals[0]} and {literals[1]}"
        case Operator.LIKE | Operator.CONTAINS | Operator.STARTSWITH as operator:
            return f"{operand} {no}{operator} {literals[0]}"
        case Operator.EQ:
            return f"{operand} {'!=' if predicate.negated else '='} {literals[0]}"
        case operator:
            return f"{no}{operand} {operator} {literals[0]}"


def write_literal(literal: Literal) -> str:
    """A literal as text."""
    match literal:
        case Number(number):
            return str(number)
        case Pattern(parts):
            return quote(
                "".join(
                    part.value if isinstance(part, Wildcard) else part.translate(_ESCAPED) for part in parts
                )
            )
        case Text(text) | Choice(text) | Name(text):
            return quote(text)
        case Me():
            return quote(literal.value)
        case Bound(id=bound):
            return quote(f"#{bound}")
        case Age(count, unit):
            return quote(f"{count}{unit}")
        case Duration():
            return quote(_duration(literal))
        case Day(day):
            return quote(day.isoformat())
        case TimeOfDay(time):
            return quote(time.isoformat())
        case LocalTime(local):
            return quote(local.isoformat(" ").removesuffix(" 00:00:00"))


def _duration(literal: Duration) -> str:
    """In the largest unit of which it is a whole number."""
    largest_first = sorted(DURATIONS.items(), key=lambda unit: unit[1], reverse=True)
    unit, length = next(each for each in largest_first if not literal.length % each[1])
    return f"{literal.length // length}{unit}"
