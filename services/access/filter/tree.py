"""A filter as a tree: typed, frozen, the same for both evaluators.

Every predicate asks one thing of one field, perhaps negated; the connectives join them. A filter that was
parsed and bound names users and facilities by their ids, so that a rename changes nothing.
Spans lead back to the text. They are no part of what a filter means.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field as attribute
from datetime import date, datetime, time, timedelta
from enum import Enum, StrEnum
from typing import TypeAlias
from uuid import UUID

from services.access.filter.fields import Field, Function, Operator


@dataclass(frozen=True, slots=True)
class Span:
    """A place in the text: code points from `start` up to `end`, counted from 0."""

    start: int
    end: int


NOWHERE = Span(0, 0)


# Literals, in the type of their field


@dataclass(frozen=True, slots=True)
class Text:
    """A text, without the padding that its operator ignores."""

    text: str


class Wildcard(Enum):
    """What in a pattern is no text."""

    ANY_RUN = "%"
    ONE_CHARACTER = "_"


@dataclass(frozen=True, slots=True)
class Pattern:
    """The pattern of `like`: texts and wildcards, no two texts side by side."""

    parts: tuple[str | Wildcard, ...]


@dataclass(frozen=True, slots=True)
class Number:
    """A whole number."""

    number: int


class AgeUnit(StrEnum):
    """The units of an Age String (PS3.5 6.2, AS)."""

    YEARS = "Y"
    MONTHS = "M"
    WEEKS = "W"
    DAYS = "D"


@dataclass(frozen=True, slots=True)
class Age:
    """So many completed units of life at the study date (A8)."""

    count: int
    unit: AgeUnit


@dataclass(frozen=True, slots=True)
class Duration:
    """A time since, as `age()` is compared to."""

    length: timedelta


@dataclass(frozen=True, slots=True)
class Day:
    """A date."""

    day: date


@dataclass(frozen=True, slots=True)
class TimeOfDay:
    """A time of day."""

    time: time


@dataclass(frozen=True, slots=True)
class LocalTime:
    """A date and time; against an instant it is read in the time zone of who is shown the case."""

    local: datetime


@dataclass(frozen=True, slots=True)
class Choice:
    """A literal of an enum, as the language writes it: in capitals."""

    choice: str


class Me(Enum):
    """`$user`: who is shown the case (A11)."""

    USER = "$user"


@dataclass(frozen=True, slots=True)
class Name:
    """A login or the name of a facility, not bound yet."""

    name: str


@dataclass(frozen=True, slots=True)
class Bound:
    """The user or facility that was named; of a user also the login, by which a lock names its holder."""

    id: UUID
    login: str = ""


Literal: TypeAlias = (
    Text | Pattern | Number | Age | Duration | Day | TimeOfDay | LocalTime | Choice | Me | Name | Bound
)


# Expressions


@dataclass(frozen=True, slots=True)
class Predicate:
    """One thing asked of one field.

    Attributes:
        literals: none for IS_NULL, two for BETWEEN, one or more for IN, else one.
        negated: whether the case must not satisfy it; unknown stays unknown.
        literal_spans: where the literals stand, quotes included.
    """

    field: Field
    operator: Operator
    literals: tuple[Literal, ...] = ()
    function: Function = Function.NONE
    negated: bool = False
    span: Span = attribute(default=NOWHERE, compare=False)
    literal_spans: tuple[Span, ...] = attribute(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Constant:
    """`true` or `false`."""

    value: bool
    span: Span = attribute(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Not:
    """The contrary; unknown stays unknown."""

    term: "Expression"
    span: Span = attribute(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class And:
    """All of two or more."""

    terms: tuple["Expression", ...]
    span: Span = attribute(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Or:
    """Any of two or more."""

    terms: tuple["Expression", ...]
    span: Span = attribute(default=NOWHERE, compare=False)


Expression: TypeAlias = Predicate | Constant | Not | And | Or


def predicates(expression: Expression) -> Iterator[Predicate]:
    """The predicates of a filter, in the order of the text."""
    match expression:
        case Predicate():
            yield expression
        case Not(term):
            yield from predicates(term)
        case And(terms) | Or(terms):
            for term in terms:
                yield from predicates(term)
