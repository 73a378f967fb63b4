"""Why a filter shows a case or hides it: clause by clause, by the functions that decide (BEY-1). Pure."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from itertools import count
from uuid import UUID

from services.access.filter.bounds import AGE_COLUMN
from services.access.filter.evaluate import Holds, connected
from services.access.filter.evaluate import compile as compiled
from services.access.filter.fields import Kind
from services.access.filter.near import near
from services.access.filter.reader import Reader
from services.access.filter.tree import (
    Age,
    AgeUnit,
    And,
    Bound,
    Constant,
    Expression,
    Name,
    Not,
    Or,
    Predicate,
    predicates,
)
from services.access.filter.values import Columns, value

Values = Mapping[str, object]
"""Of one case, by column, as asyncpg gives them."""


class Part(StrEnum):
    """What a clause is."""

    ALL = "all"
    ANY = "any"
    NOT = "not"
    PREDICATE = "predicate"
    CONSTANT = "constant"


@dataclass(frozen=True, slots=True)
class Clause:
    """One clause of a filter, asked of one case.

    Attributes:
        depth: how many clauses it lies within.
        truth: None: unknown.
        values: of the field of a predicate, as people read them; none: absent.
        misses: the same predicate changed a little, each of which would make the whole filter show the case.
    """

    expression: Expression
    depth: int
    truth: bool | None
    values: Sequence[str] = ()
    misses: Sequence[Predicate] = ()

    @property
    def part(self) -> Part:
        return _PARTS[type(self.expression)]


_PARTS: Mapping[type, Part] = {
    And: Part.ALL,
    Or: Part.ANY,
    Not: Part.NOT,
    Predicate: Part.PREDICATE,
    Constant: Part.CONSTANT,
}


def columns(expression: Expression, reader: Reader) -> Sequence[str]:
    """The columns of a case that a trace reads."""
    found: dict[str, None] = {}
    for each, _ in _clauses(expression, 0):
        found.update(dict.fromkeys(compiled(each, reader).columns))
        if isinstance(each, Predicate):
            for other in near(each):
                found.update(dict.fromkeys(compiled(other, reader).columns))
            read = Columns()
            value(each.field, reader, read)
            found.update(dict.fromkeys(read))
    return tuple(found)


def trace(
    expression: Expression, reader: Reader, values: Values, now: datetime, names: Mapping[UUID, str]
) -> Sequence[Clause]:
    """Every clause of a filter that is bound, in the order of its text.

    Args:
        values: of the columns that `columns` names.
        names: today's names of users and facilities.
    """
    shows = holds(expression, reader, values, now)
    changed = _changed(expression, reader, values, now)
    return [
        Clause(
            each,
            depth,
            holds(each, reader, values, now),
            tuple(_told(each, reader, values, now, names)) if isinstance(each, Predicate) else (),
            tuple(_misses(each, next(changed), reader, values, now))
            if isinstance(each, Predicate) and shows is not True
            else (),
        )
        for each, depth in _clauses(expression, 0)
    ]


def holds(expression: Expression, reader: Reader, values: Values, now: datetime) -> bool | None:
    """Whether the case with these values satisfies a clause; None: unknown."""
    found = compiled(expression, reader)
    return found.holds([values[column] for column in found.columns], now)


def _clauses(expression: Expression, depth: int) -> Iterator[tuple[Expression, int]]:
    yield expression, depth
    for term in _terms(expression):
        yield from _clauses(term, depth + 1)


def _terms(expression: Expression) -> tuple[Expression, ...]:
    match expression:
        case And(terms) | Or(terms):
            return terms
        case Not(term):
            return (term,)
    return ()


# Near misses


Shows = Callable[[bool | None], bool]
"""Whether the whole filter would show the case if one of its predicates had this truth."""


def _changed(expression: Expression, reader: Reader, values: Values, now: datetime) -> Iterator[Shows]:
    """What would become of the filter, for each predicate in the order of the text.

    Only the connectives are evaluated again: a filter has up to 200 predicates, and each some neighbours.
    """
    truths = [holds(each, reader, values, now) for each in predicates(expression)]
    positions = count()

    def nth(position: int) -> Holds:
        return lambda row, now: row[position]

    whole = connected(expression, lambda _: nth(next(positions)))

    def with_truth_at(position: int) -> Shows:
        before, after = truths[:position], truths[position + 1 :]
        return lambda truth: whole([*before, truth, *after], now) is True

    return map(with_truth_at, range(len(truths)))


def _misses(
    asked: Predicate, shows: Shows, reader: Reader, values: Values, now: datetime
) -> Iterator[Predicate]:
    if shows(True) or shows(False):
        yield from (other for other in near(asked) if shows(holds(other, reader, values, now)))


def named(expression: Expression, names: Mapping[UUID, str]) -> Expression:
    """The same predicate with today's names of the users and facilities that it is bound to."""
    if not isinstance(expression, Predicate):
        return expression
    literals = (
        Name(names[each.id]) if isinstance(each, Bound) and each.id in names else each
        for each in expression.literals
    )
    return replace(expression, literals=tuple(literals))


# Values as people read them


def _told(
    asked: Predicate, reader: Reader, values: Values, now: datetime, names: Mapping[UUID, str]
) -> Iterator[str]:
    field = asked.field
    if field.of_group and not reader.is_of_group:
        return
    if field.kind is Kind.AGE:
        yield from _ages(asked, values)
        return
    read = Columns()
    get = value(field, reader, read)
    found = get([values[column] for column in read], now)
    if found is None:
        return
    choices = {stored: choice for choice, stored in (field.choices or {}).items()}
    for each in found if isinstance(found, list | tuple | set | frozenset) else (found,):
        yield choices[each] if each in choices else _word(each, reader, names)


def _ages(asked: Predicate, values: Values) -> Iterator[str]:
    """The age in the units of the literals; asked for none, in every one that is known."""
    units = [each.unit for each in asked.literals if isinstance(each, Age)]
    for unit in dict.fromkeys(units or AgeUnit):
        if (count := values[AGE_COLUMN[unit]]) is not None:
            yield f"{count}{unit}"


def _word(value: object, reader: Reader, names: Mapping[UUID, str]) -> str:
    match value:
        case UUID():
            return names.get(value, f"#{value}")
        case datetime(tzinfo=None):
            return value.isoformat(" ")
        case datetime():
            return f"{value.astimezone(reader.zone).isoformat(' ', 'seconds')}"
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
