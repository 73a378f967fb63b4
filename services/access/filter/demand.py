"""What a filter demands of a case that an index finds: whoever lists cases looks at no others.

A demand is weaker than its filter, never stronger: `to_sql` decides. What a filter demands of texts says
`prefilter.py`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime
from functools import reduce
from typing import Any, Generic, TypeVar
from uuid import UUID

from services.access.filter.bounds import chosen, comparables, since
from services.access.filter.fields import Function, Operator
from services.access.filter.reader import Reader
from services.access.filter.tree import And, Constant, Expression, Or, Predicate

T = TypeVar("T", date, datetime)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Range(Generic[T]):
    """From a value to a value, both included; None: without end."""

    first: T | None = None
    last: T | None = None

    def within(self, other: "Range[T]") -> "Range[T]":
        """What is in both."""
        firsts = [each for each in (self.first, other.first) if each is not None]
        lasts = [each for each in (self.last, other.last) if each is not None]
        return Range(max(firsts, default=None), min(lasts, default=None))

    def around(self, other: "Range[T]") -> "Range[T]":
        """The smallest that holds both."""
        first = None if self.first is None or other.first is None else min(self.first, other.first)
        last = None if self.last is None or other.last is None else max(self.last, other.last)
        return Range(first, last)


@dataclass(frozen=True, slots=True)
class Demand:
    """What every case that satisfies a filter has.

    Attributes:
        nothing: no case satisfies it.
        unread: its status is not READ, or somebody holds its lock, for whom it may count as it was before.
        assignees: its assignee is one of these; None: any or none.
        facilities: its facility is one of these; None: any.
        received: when its first instance was received.
        studied: the day of the study; None: any day, or none.
    """

    nothing: bool = False
    unread: bool = False
    assignees: frozenset[UUID] | None = None
    facilities: frozenset[UUID] | None = None
    received: Range[datetime] = Range()
    studied: Range[date] | None = None

    def both(self, other: "Demand") -> "Demand":
        """What is demanded by either of two filters, both of which a case satisfies."""
        return Demand(
            self.nothing or other.nothing,
            self.unread or other.unread,
            _both(self.assignees, other.assignees, frozenset.intersection),
            _both(self.facilities, other.facilities, frozenset.intersection),
            self.received.within(other.received),
            _both(self.studied, other.studied, Range.within),
        )

    def either(self, other: "Demand") -> "Demand":
        """What is demanded by each of two filters, one of which a case satisfies."""
        if self.nothing or other.nothing:
            return other if self.nothing else self
        return Demand(
            False,
            self.unread and other.unread,
            _either(self.assignees, other.assignees, frozenset.union),
            _either(self.facilities, other.facilities, frozenset.union),
            self.received.around(other.received),
            _either(self.studied, other.studied, Range.around),
        )


ANYTHING = Demand()


def _both(one: V | None, other: V | None, join: Callable[[V, V], V]) -> V | None:
    if one is None or other is None:
        return other if one is None else one
    return join(one, other)


def _either(one: V | None, other: V | None, join: Callable[[V, V], V]) -> V | None:
    return None if one is None or other is None else join(one, other)


def demand_of(expression: Expression, reader: Reader, now: datetime) -> Demand:
    """What a bound filter demands of a case for a reader at an instant."""
    match expression:
        case Constant(value):
            return ANYTHING if value else Demand(nothing=True)
        case And(terms):
            return reduce(Demand.both, (demand_of(each, reader, now) for each in terms))
        case Or(terms):
            return reduce(Demand.either, (demand_of(each, reader, now) for each in terms))
        case Predicate():
            return _demanded(expression, reader, now)
    return ANYTHING


_READ = "READ"


def _demanded(asked: Predicate, reader: Reader, now: datetime) -> Demand:
    keyword, names_some = asked.field.keyword, asked.operator in (Operator.EQ, Operator.IN)
    if asked.operator is Operator.IS_NULL or (asked.field.of_group and not reader.is_of_group):
        return ANYTHING
    if keyword == "StudyStatusID" and names_some:
        return Demand(unread=(_READ in chosen(asked, reader)) is asked.negated)
    if asked.negated:
        return ANYTHING
    if keyword == "AssignedToUser" and names_some:
        return Demand(assignees=frozenset(chosen(asked, reader)))
    if keyword == "Facility" and names_some:
        return Demand(facilities=frozenset(chosen(asked, reader)))
    if keyword == "CreatedTime":
        return Demand(received=_range(asked, reader, now))
    if keyword == "StudyDate":
        return Demand(studied=_range(asked, reader, now))
    return ANYTHING


def _range(asked: Predicate, reader: Reader, now: datetime) -> Range[Any]:
    if asked.function is Function.AGE:
        return _narrowest(_RANGES[how]([bound]) for how, bound in since(asked, now, reader.zone))
    return _RANGES[asked.operator](comparables(asked, reader)) if asked.operator in _RANGES else Range()


def _narrowest(ranges: Iterable[Range[Any]]) -> Range[Any]:
    return reduce(Range.within, ranges, Range())


_RANGES: dict[Operator, Callable[[list[Any]], Range[Any]]] = {
    Operator.EQ: lambda values: Range(values[0], values[0]),
    Operator.IN: lambda values: Range(min(values), max(values)),
    Operator.BETWEEN: lambda values: Range(values[0], values[1]),
    Operator.LT: lambda values: Range(None, values[0]),
    Operator.LE: lambda values: Range(None, values[0]),
    Operator.GT: lambda values: Range(values[0], None),
    Operator.GE: lambda values: Range(values[0], None),
}
