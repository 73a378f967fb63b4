"""Users and facilities in a filter: named by people, kept by their ids, shown by today's names.

    as written     AssignedToUser = 'brandt' and Facility in ('Maple Street')
    as stored      AssignedToUser = '#01936f…' and Facility in ('#01936e…')

So a rename changes no filter, and a name that another takes over later gives them nothing.
"""

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple
from uuid import UUID

from services.access.filter.faults import Edit, FilterError, quoted
from services.access.filter.fields import Kind
from services.access.filter.literals import nearest
from services.access.filter.tokens import quote
from services.access.filter.tree import (
    And,
    Bound,
    Constant,
    Expression,
    Literal,
    Name,
    Not,
    Or,
    Predicate,
    Span,
    predicates,
)
from services.access.filter.writing import write_literal

_MAX_COMPARED = 1000
"""Names among which the nearest is looked for: it takes some 20 ms."""


@dataclass(frozen=True, slots=True)
class Directory:
    """Users and facilities by today's names: those that exist for who asks.

    It holds at least those of them that the filter names. Whatever more it holds may be offered as the
    nearest to a name that it does not hold.

    Attributes:
        users: logins by the id of the user.
        facilities: names by the id of the facility.
    """

    users: Mapping[UUID, str]
    facilities: Mapping[UUID, str]


class Names(NamedTuple):
    """Whom and what a filter names: by name as it was written, or by id as it was stored."""

    logins: frozenset[str]
    facilities: frozenset[str]
    user_ids: frozenset[UUID]
    facility_ids: frozenset[UUID]


def facility_key(name: str) -> str:
    """What makes the name of a facility one: trimmed, without case, in the normal form C (A16)."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).strip().casefold())


def names(expression: Expression) -> Names:
    """Whom and what a filter names; facilities by `facility_key`."""
    logins, facilities, user_ids, facility_ids = set[str](), set[str](), set[UUID](), set[UUID]()
    for predicate in predicates(expression):
        is_user = predicate.field.kind is Kind.LOGIN
        for literal in predicate.literals:
            match literal:
                case Name(name):
                    (logins if is_user else facilities).add(name if is_user else facility_key(name))
                case Bound(id=bound):
                    (user_ids if is_user else facility_ids).add(bound)
    return Names(frozenset(logins), frozenset(facilities), frozenset(user_ids), frozenset(facility_ids))


def bind(text: str, expression: Expression, directory: Directory) -> Expression:
    """The filter with the ids of users and facilities in place of their names.

    A user who is bound already gets their login from the directory, for a lock names its holder by it.

    Args:
        text: the filter as it was parsed.
        expression: its tree.
        directory: whom and what there is.

    Raises:
        FilterError: at the first name that the directory does not hold. It says the same of what does not
            exist and of what does not exist for who asks.
    """
    find = {Kind.LOGIN: _users(directory), Kind.FACILITY: _facilities(directory)}
    faults: list[FilterError] = []

    def bound(predicate: Predicate) -> Predicate:
        kind = predicate.field.kind
        if kind not in find:
            return predicate
        literals: list[Literal] = []
        for literal, span in zip(predicate.literals, predicate.literal_spans, strict=True):
            found: Literal | None = literal
            if isinstance(literal, Name):
                key = literal.name if kind is Kind.LOGIN else facility_key(literal.name)
                found = find[kind].get(key)
                if found is None:
                    faults.append(_unknown(text, span, literal.name, kind, directory))
            elif isinstance(literal, Bound) and kind is Kind.LOGIN:
                found = Bound(literal.id, directory.users.get(literal.id, ""))
            literals.append(found or literal)
        return replace(predicate, literals=tuple(literals))

    found = _changed(expression, bound)
    if faults:
        faults[0].repaired = _repaired(text, faults)
        raise faults[0]
    return found


def stored(text: str, expression: Expression) -> str:
    """A filter as it is stored: its text with `'#<id>'` in place of each literal that is bound."""
    return _rewritten(
        text,
        [
            Edit(span, write_literal(literal))
            for predicate in predicates(expression)
            for literal, span in zip(predicate.literals, predicate.literal_spans, strict=True)
            if isinstance(literal, Bound)
        ],
    )


def shown(text: str, expression: Expression, directory: Directory) -> str:
    """A stored filter as people read it: with today's names of the users and facilities that it is bound to.

    Whom the directory does not hold stays as stored.
    """
    today = {**directory.users, **directory.facilities}
    return _rewritten(
        text,
        [
            Edit(span, quote(today[literal.id]))
            for predicate in predicates(expression)
            for literal, span in zip(predicate.literals, predicate.literal_spans, strict=True)
            if isinstance(literal, Bound) and literal.id in today
        ],
    )


def named(expression: Expression, directory: Directory) -> Expression:
    """A bound filter with today's names in place of ids, to be read; `bind` is the way back."""
    today = {**directory.users, **directory.facilities}

    def named_again(predicate: Predicate) -> Predicate:
        literals = (
            Name(today[literal.id]) if isinstance(literal, Bound) and literal.id in today else literal
            for literal in predicate.literals
        )
        return replace(predicate, literals=tuple(literals))

    return _changed(expression, named_again)


def _users(directory: Directory) -> dict[str, Bound]:
    return {login: Bound(user_id, login) for user_id, login in directory.users.items()}


def _facilities(directory: Directory) -> dict[str, Bound]:
    return {facility_key(name): Bound(facility_id) for facility_id, name in directory.facilities.items()}


def _unknown(text: str, span: Span, name: str, kind: Kind, directory: Directory) -> FilterError:
    known, noun = (directory.users, "user") if kind is Kind.LOGIN else (directory.facilities, "facility")
    near = nearest(name, tuple(known.values())[:_MAX_COMPARED])
    expected, edits = (f"the nearest is `{near}`", [Edit(span, quote(near))]) if near else ("", [])
    return FilterError(text, span, f"there is no {noun} {quoted(name)}", expected, *edits)


def _repaired(text: str, faults: list[FilterError]) -> str | None:
    """The text with the nearest names; None if one of the unknown has none."""
    edits = [fault.edits[0] for fault in faults if fault.edits]
    return _rewritten(text, edits) if len(edits) == len(faults) else None


def _rewritten(text: str, edits: list[Edit]) -> str:
    # From the end: what stands before keeps its place.
    for edit in sorted(edits, key=lambda each: each.span.start, reverse=True):
        text = edit.applied(text)
    return text


def _changed(expression: Expression, change: Callable[[Predicate], Predicate]) -> Expression:
    """The same filter of changed predicates."""
    match expression:
        case Predicate():
            return change(expression)
        case Not(term):
            return replace(expression, term=_changed(term, change))
        case And(terms) | Or(terms):
            return replace(expression, terms=tuple(_changed(term, change) for term in terms))
        case Constant():
            return expression
