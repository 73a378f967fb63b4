"""A filter as nested functions: whether a row of the case index satisfies it.

Logic is three-valued as in SQL: True, False, None for unknown. Whoever asks hides what is not True (A10).
The same filter as SQL is in `sql.py`; both must agree on every filter and every case.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from services.access.filter.bounds import (
    AGE_COLUMN,
    BOUND,
    before,
    chosen,
    comparables,
    require_bound,
    within,
)
from services.access.filter.fields import DESCRIBED, Function, Kind, Operator
from services.access.filter.forms import BLANKS, GROUPS_PARTED_BY, NAME_PADDING
from services.access.filter.reader import Reader
from services.access.filter.texts import Form, asks_whole_name, form_of, matcher
from services.access.filter.tree import (
    Age,
    And,
    Constant,
    Expression,
    Not,
    Or,
    Predicate,
)
from services.access.filter.values import (
    OF_ASCII,
    TEXT_FORMS,
    Columns,
    Get,
    Row,
    column,
    formed,
    texts,
    value,
)

Holds: TypeAlias = Callable[[Row, datetime], bool | None]


@dataclass(frozen=True, slots=True)
class Compiled:
    """A filter for one reader.

    Attributes:
        columns: of the row of the case that it reads, without repetition.
        holds: whether values of these columns, as asyncpg gives them and in this order, satisfy the filter at
            a time; None: unknown.
    """

    columns: tuple[str, ...]
    holds: Holds


def compile(expression: Expression, reader: Reader) -> Compiled:  # noqa: A001  it is what it is called
    """Compiles a filter that is bound; raises ValueError for one that is not."""
    columns = Columns()
    holds = connected(folded(expression), lambda asked: predicate(asked, reader, columns))
    return Compiled(tuple(columns), holds)


# Connectives


def folded(expression: Expression) -> Expression:
    """The same without `true` and `false` that decide or change nothing."""
    match expression:
        case Not(term):
            inner = folded(term)
            return Constant(not inner.value) if isinstance(inner, Constant) else Not(inner)
        case And(terms) | Or(terms):
            decides = isinstance(expression, Or)
            left = [each for each in map(folded, terms) if each != Constant(not decides)]
            if Constant(decides) in left or not left:
                return Constant(decides if left else not decides)
            return left[0] if len(left) == 1 else type(expression)(tuple(left))
    return expression


def connected(expression: Expression, of_predicate: Callable[[Predicate], Holds]) -> Holds:
    """The truth of an expression from that of its predicates, which are asked for in order."""
    match expression:
        case Predicate():
            return of_predicate(expression)
        case Constant(value):
            return lambda row, now: value
        case Not(term):
            return _not(connected(term, of_predicate))
        case And(terms):
            return _joined([connected(term, of_predicate) for term in terms], decides=False)
        case Or(terms):
            return _joined([connected(term, of_predicate) for term in terms], decides=True)


def _not(holds: Holds) -> Holds:
    def contrary(row: Row, now: datetime) -> bool | None:
        truth = holds(row, now)
        return None if truth is None else not truth

    return contrary


def _joined(terms: Sequence[Holds], *, decides: bool) -> Holds:
    """One term that `decides` settles it; else an unknown one makes it unknown."""
    if len(terms) == 2:
        first, second = terms

        def both(row: Row, now: datetime) -> bool | None:
            one = first(row, now)
            if one is decides:
                return decides
            other = second(row, now)
            return None if one is None and other is not decides else other

        return both

    def joined(row: Row, now: datetime) -> bool | None:
        truth: bool | None = not decides
        for term in terms:
            found = term(row, now)
            if found is decides:
                return decides
            if found is None:
                truth = None
        return truth

    return joined


# Predicates


def predicate(asked: Predicate, reader: Reader, columns: Columns) -> Holds:
    """Whether a row satisfies one predicate."""
    require_bound(asked)
    if asked.field.of_group and not reader.is_of_group:
        return lambda row, now: None
    if asked.operator is Operator.IS_NULL:
        holds = _is_null(asked, reader, columns)
    elif asked.function is Function.AGE:
        holds = _time_since(asked, reader, columns)
    else:
        holds = _PREDICATES[asked.field.kind](asked, reader, columns)
    return _not(holds) if asked.negated else holds


def _is_null(asked: Predicate, reader: Reader, columns: Columns) -> Holds:
    """A value that is not there is not known to be absent before the case was described in full."""
    get = value(asked.field, reader, columns)
    if not asked.field.is_described:
        return lambda row, now: get(row, now) is None
    described = columns.at(DESCRIBED)

    def holds(row: Row, now: datetime) -> bool | None:
        if get(row, now) is not None:
            return False
        return True if row[described] > 0 else None

    return holds


def _text(asked: Predicate, reader: Reader, columns: Columns) -> Holds:
    """Of a text; of a name or of a set whether any of its texts does."""
    field, form, matches = asked.field, form_of(asked), matcher(asked)
    whole = asks_whole_name(asked)
    members, of_ascii = texts(field, columns, whole_names=whole), OF_ASCII[form]
    forms = columns.at(TEXT_FORMS) if form is not Form.RAW else 0

    def any_of_all(row: Row, now: datetime) -> bool | None:
        """Of no members nothing is known, and of one whose form is not known nothing either."""
        unknown, empty = False, True
        for text in members(row):
            empty = False
            found = of_ascii(text) if text.isascii() else formed(text, form, row[forms])
            if found is None:
                unknown = True
            elif matches(found):
                return True
        return None if unknown or empty else False

    if field.is_set or whole:
        return any_of_all
    at = columns.at(field.columns[0])
    padding = NAME_PADDING if field.kind is Kind.NAME else BLANKS

    def holds(row: Row, now: datetime) -> bool | None:
        """Nearly every text is of ASCII, and nearly every name has one component group."""
        text = row[at]
        if not text.isascii() or GROUPS_PARTED_BY in text:
            return any_of_all(row, now)
        text = text.rstrip(padding)
        return matches(of_ascii(text)) if text else None

    return holds


def _ordered(asked: Predicate, reader: Reader, columns: Columns) -> Holds:
    """Of a number or a time."""
    return _compared(asked.operator, value(asked.field, reader, columns), comparables(asked, reader))


COMPARE: Mapping[Operator, Callable[[Any, Any], bool]] = {
    Operator.EQ: operator.eq,
    Operator.LT: operator.lt,
    Operator.LE: operator.le,
    Operator.GT: operator.gt,
    Operator.GE: operator.ge,
}


def _compared(asked: Operator, get: Get, literals: Sequence[Any]) -> Holds:
    if asked is Operator.IN:
        return _one_of(get, frozenset(literals))
    if asked is Operator.BETWEEN:
        least, most = literals

        def between(row: Row, now: datetime) -> bool | None:
            found = get(row, now)
            return None if found is None else least <= found <= most

        return between
    compare, (literal,) = COMPARE[asked], literals

    def holds(row: Row, now: datetime) -> bool | None:
        found = get(row, now)
        return None if found is None else compare(found, literal)

    return holds


def _one_of(get: Get, wanted: frozenset[Any]) -> Holds:
    def holds(row: Row, now: datetime) -> bool | None:
        found = get(row, now)
        return None if found is None else found in wanted

    return holds


def _age(asked: Predicate, reader: Reader, columns: Columns) -> Holds:
    """Of an age: the unit of each literal picks the number that it is compared to (A8)."""

    def compare(how: Operator, literal: Age) -> Holds:
        return _compared(how, column(AGE_COLUMN[literal.unit], columns), [literal.count])

    literals = [each for each in asked.literals if isinstance(each, Age)]
    match asked.operator:
        case Operator.IN:
            return _joined([compare(Operator.EQ, each) for each in literals], decides=True)
        case Operator.BETWEEN:
            bounds = compare(Operator.GE, literals[0]), compare(Operator.LE, literals[1])
            return _joined(bounds, decides=False)
    return compare(asked.operator, literals[0])


def _time_since(asked: Predicate, reader: Reader, columns: Columns) -> Holds:
    get, zone = value(asked.field, reader, columns), reader.zone
    bound, since = BOUND[asked.field.kind], [(COMPARE[how], how, length) for how, length in within(asked)]

    def holds(row: Row, now: datetime) -> bool | None:
        found = get(row, now)
        if found is None:
            return None
        for compare, how, length in since:  # noqa: SIM110  a generator would take as long as all the rest
            if not compare(found, bound(how, before(now, length), zone)):
                return False
        return True

    return holds


def _chosen(asked: Predicate, reader: Reader, columns: Columns) -> Holds:
    """Of a choice, a login or a facility; of a set whether any of its members is asked for."""
    get, wanted = value(asked.field, reader, columns), frozenset(chosen(asked, reader))
    if not asked.field.is_set:
        return _one_of(get, wanted)

    def holds(row: Row, now: datetime) -> bool | None:
        found = get(row, now)
        return None if found is None else not wanted.isdisjoint(found)

    return holds


_PREDICATES: Mapping[Kind, Callable[[Predicate, Reader, Columns], Holds]] = {
    Kind.TEXT: _text,
    Kind.NAME: _text,
    Kind.NUMBER: _ordered,
    Kind.AGE: _age,
    Kind.DATE: _ordered,
    Kind.TIME: _ordered,
    Kind.LOCAL: _ordered,
    Kind.INSTANT: _ordered,
    Kind.ENUM: _chosen,
    Kind.LOGIN: _chosen,
    Kind.FACILITY: _chosen,
}
