"""What a predicate asks of one text: in which form of it, and what the form must satisfy."""

import re
from collections.abc import Callable, Mapping
from enum import Enum

from services.access.filter.fields import Function, Kind, Operator
from services.access.filter.forms import GROUPS_PARTED_BY, plain
from services.access.filter.tree import Pattern, Predicate, Text, Wildcard

DOTLESS_I = "ı"
"""The one letter of which `upper` makes another letter, from which the case fold does not lead back."""


class Form(Enum):
    """A form of a text. FOLDED_UPPER, the case fold of its upper form, is its case fold with `i` for `ı`."""

    RAW = "raw"
    UPPER = "upper"
    LOWER = "lower"
    FOLDED = "folded"
    PLAIN = "plain"
    FOLDED_UPPER = "folded upper"


_SEARCHES = (Operator.CONTAINS, Operator.STARTSWITH)

_COMPARED: Mapping[Function, Form] = {
    Function.NONE: Form.RAW,
    Function.UPPER: Form.UPPER,
    Function.LOWER: Form.LOWER,
    Function.PLAIN: Form.PLAIN,
}

# `contains` and `startswith` case-fold what the function leaves (A9); of `lower` that is the case fold.
_SEARCHED: Mapping[Function, Form] = {
    Function.NONE: Form.FOLDED,
    Function.UPPER: Form.FOLDED_UPPER,
    Function.LOWER: Form.FOLDED,
    Function.PLAIN: Form.PLAIN,
}


def form_of(predicate: Predicate) -> Form:
    """The form in which a text is compared."""
    return (_SEARCHED if predicate.operator in _SEARCHES else _COMPARED)[predicate.function]


def literal_texts(predicate: Predicate) -> tuple[str, ...]:
    """The literals in the form in which they are compared; patterns are left out."""
    return tuple(_formed(predicate, each.text) for each in predicate.literals if isinstance(each, Text))


def pattern(predicate: Predicate) -> Pattern:
    """The pattern in the form in which it is compared; `plain` takes each text of it by itself."""
    (found,) = (each for each in predicate.literals if isinstance(each, Pattern))
    parts = (part if isinstance(part, Wildcard) else _formed(predicate, part) for part in found.parts)
    return Pattern(tuple(part for part in parts if part))


def _formed(predicate: Predicate, literal: str) -> str:
    if predicate.function is Function.PLAIN:
        return plain(literal)
    return literal.casefold() if predicate.operator in _SEARCHES else literal


def asks_whole_name(predicate: Predicate) -> bool:
    """Whether a person name is compared as a whole, not by component group: a literal parts groups too."""
    if predicate.field.kind is not Kind.NAME:
        return False
    written = (each.text if isinstance(each, Text) else _written(each) for each in predicate.literals)
    return any(GROUPS_PARTED_BY in each for each in written)


def _written(literal: object) -> str:
    parts = literal.parts if isinstance(literal, Pattern) else ()
    return "".join(part for part in parts if isinstance(part, str))


def matcher(predicate: Predicate) -> Callable[[str], bool]:
    """Whether a form of a text satisfies a predicate, negation apart."""
    if predicate.operator is Operator.LIKE:
        return like(pattern(predicate))
    return _MATCHERS[predicate.operator](*literal_texts(predicate))


_MATCHERS: Mapping[Operator, Callable[..., Callable[[str], bool]]] = {
    Operator.EQ: lambda literal: lambda text: text == literal,
    Operator.LT: lambda literal: lambda text: text < literal,
    Operator.LE: lambda literal: lambda text: text <= literal,
    Operator.GT: lambda literal: lambda text: text > literal,
    Operator.GE: lambda literal: lambda text: text >= literal,
    Operator.CONTAINS: lambda literal: lambda text: literal in text,
    Operator.STARTSWITH: lambda literal: lambda text: text.startswith(literal),
    Operator.IN: lambda *literals: frozenset(literals).__contains__,
    Operator.BETWEEN: lambda least, most: lambda text: least <= text <= most,
}


def like(asked: Pattern) -> Callable[[str], bool]:
    """Whether a text has the pattern, in time that grows with the product of their lengths at most.

    Between runs stand pieces of texts and single characters. The first stands at the beginning, the last at
    end, each between them at the first place where it fits: a later one could not help the next.
    """
    pieces: list[list[str | Wildcard]] = [[]]
    for part in asked.parts:
        if part is Wildcard.ANY_RUN:
            pieces.append([])
        else:
            pieces[-1].append(part)
    if not any(Wildcard.ONE_CHARACTER in piece for piece in pieces):
        return _like_texts(["".join(str(part) for part in piece) for piece in pieces])
    return _like_pieces([(len(_expression(piece, ".")), _compiled(piece)) for piece in pieces])


def _like_texts(pieces: list[str]) -> Callable[[str], bool]:
    match pieces:
        case [only]:
            return lambda text: text == only
        case ["", within, ""]:
            return lambda text: within in text
        case [first, ""]:
            return lambda text: text.startswith(first)
        case ["", last]:
            return lambda text: text.endswith(last)
    first, *between, last = pieces
    least = len(first) + len(last)

    def matches(text: str) -> bool:
        if len(text) < least or not text.startswith(first) or not text.endswith(last):
            return False
        at, end = len(first), len(text) - len(last)
        for piece in between:
            at = text.find(piece, at, end)
            if at < 0:
                return False
            at += len(piece)
        return True

    return matches


def _like_pieces(pieces: list[tuple[int, re.Pattern[str]]]) -> Callable[[str], bool]:
    if len(pieces) == 1:
        only = pieces[0][1]
        return lambda text: only.fullmatch(text) is not None
    (length, first), *between, (length_of_last, last) = pieces

    def matches(text: str) -> bool:
        at, end = length, len(text) - length_of_last
        if end < at or not first.match(text) or not last.match(text, end):
            return False
        for length_of_piece, piece in between:
            found = piece.search(text, at, end)
            if found is None:
                return False
            at = found.start() + length_of_piece
        return True

    return matches


def _expression(piece: list[str | Wildcard], one_character: str) -> str:
    return "".join(one_character if part is Wildcard.ONE_CHARACTER else str(part) for part in piece)


def _compiled(piece: list[str | Wildcard]) -> re.Pattern[str]:
    return re.compile(
        "".join("." if part is Wildcard.ONE_CHARACTER else re.escape(str(part)) for part in piece), re.DOTALL
    )
