"""What administrators get wrong in a filter that is valid (BEY-4)."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple, dataclass
from datetime import time, timedelta
from typing import NamedTuple

from services.access.filter.faults import quoted
from services.access.filter.fields import OF_THE_GROUP, SET_BY_HAND, Function, Kind, Operator
from services.access.filter.tokens import CURLY, quote
from services.access.filter.tree import (
    Age,
    And,
    Choice,
    Constant,
    Expression,
    Literal,
    LocalTime,
    Not,
    Or,
    Pattern,
    Predicate,
    Span,
    Text,
    Wildcard,
)
from services.access.filter.writing import write_literal


class Caution(NamedTuple):
    """A place in a filter at which it may not do what was meant, and a sentence about it."""

    span: Span
    sentence: str


class Filled(NamedTuple):
    """In how many of some cases a field has a value."""

    cases: int
    with_value: int


@dataclass(frozen=True, slots=True)
class Use:
    """What a filter is for.

    Attributes:
        is_access_filter: whether it decides what a user may see; else it is a search.
        is_of_group: whether who is shown the cases is answered the group's projection of the reading.
        filled: by keyword of a field, how many cases have a value; of the fields for which it was counted.
    """

    is_access_filter: bool
    is_of_group: bool
    filled: Mapping[str, Filled]


class _Asked(NamedTuple):
    """A predicate where it stands, and what the filter is for."""

    predicate: Predicate
    is_denied: bool  # whether it stands under a `not`, or asks the contrary itself
    use: Use

    @property
    def literals(self) -> Iterator[tuple[Literal, Span]]:
        """Its literals and their places."""
        return zip(self.predicate.literals, self.predicate.literal_spans, strict=True)

    @property
    def texts(self) -> Iterator[tuple[str, Span]]:
        """The texts that it compares or looks for."""
        for literal, span in self.literals:
            match literal:
                case Text(text):
                    yield text, span
                case Pattern(parts):
                    yield from ((part, span) for part in parts if isinstance(part, str))


def lint(expression: Expression, use: Use) -> tuple[Caution, ...]:
    """What may not be meant, in the order of the text."""
    asked = list(_asked(expression, use, is_denied=False))
    tested = {each.predicate.field for each in asked if each.predicate.operator is Operator.IS_NULL}
    found = [caution for each in asked for rule in _RULES for caution in rule(each)]
    found += [_absent(each) for each in asked if each.is_denied and each.predicate.field not in tested]
    return tuple(sorted(dict.fromkeys(found), key=lambda each: each.span.start))


def _asked(expression: Expression, use: Use, *, is_denied: bool) -> Iterator[_Asked]:
    match expression:
        case Predicate(negated=negated):
            yield _Asked(expression, is_denied is not negated, use)
        case Not(term):
            yield from _asked(term, use, is_denied=not is_denied)
        case And(terms) | Or(terms):
            for term in terms:
                yield from _asked(term, use, is_denied=is_denied)
        case Constant():
            pass


def _absent(asked: _Asked) -> Caution:
    """Unknown stays unknown under `not` (A10)."""
    field = asked.predicate.field.keyword
    return Caution(
        asked.predicate.span,
        f"cases without a value of `{field}` are hidden too; `or {field} is null` would show them",
    )


def _wildcards(asked: _Asked) -> Iterator[Caution]:
    """Signs that mean something else than it seems."""
    operator = asked.predicate.operator
    for literal, span in asked.literals:
        if isinstance(literal, Pattern):
            if Wildcard.ONE_CHARACTER in literal.parts:
                yield Caution(span, "`_` stands for any one character; write `\\_` for the sign itself")
            if not any(isinstance(part, Wildcard) for part in literal.parts):
                yield Caution(span, "a pattern without `%` is the whole value; `%` stands for any text")
    for text, span in asked.texts:
        if "%" in text and operator in (Operator.CONTAINS, Operator.STARTSWITH):
            yield Caution(span, f"`{operator}` looks for the sign `%` itself; it is a wildcard after `like`")
        if "*" in text:
            yield Caution(span, "`*` stands for itself; after `like`, `%` stands for any text")


def _pasted(asked: _Asked) -> Iterator[Caution]:
    """Signs that a program for texts put in place of others."""
    for text, span in asked.texts:
        if "\u00a0" in text:
            yield Caution(span, "this text has a no-break space in it, where values have ordinary ones")
        if any(sign in text for sign in CURLY):
            yield Caution(span, "this text has a typographic quote in it, where values have straight ones")


_MADE: Mapping[Function, tuple[Callable[[str], str], str]] = {
    Function.UPPER: (str.upper, "capitals"),
    Function.LOWER: (str.lower, "small letters"),
}


def _never_made(asked: _Asked) -> Iterator[Caution]:
    """`upper()` and `lower()` change the value and not the literal (A9). `contains` ignores case anyway."""
    predicate = asked.predicate
    if predicate.function not in _MADE or predicate.operator in (Operator.CONTAINS, Operator.STARTSWITH):
        return
    made, letters = _MADE[predicate.function]
    for text, span in asked.texts:
        if made(text) != text:
            yield Caution(
                span,
                f"`{predicate.function}()` makes {letters} of the value and leaves {quoted(text)} as it is, "
                f"so they are never the same; write {quoted(made(text))}",
            )


_LONG, _SHORT, _CODE = r".{1,64}", r".{1,16}", r"[A-Z0-9_ ]{1,16}"
_FACETS = {
    "PatientSex": ("`M`, `F` or `O`", r"[MFO]"),
    "ModalitiesInStudy": ("at most 16 capitals, digits, `_` and blanks", _CODE),
    "BodyPartsInStudy": ("at most 16 capitals, digits, `_` and blanks", _CODE),
    "StudyInstanceUID": ("at most 64 digits and dots", r"[0-9.]{1,64}"),
    "AccessionNumber": ("at most 16 characters", _SHORT),
    "StudyID": ("at most 16 characters", _SHORT),
    "CallingAETitle": ("at most 16 characters", _SHORT),
    "PatientID": ("at most 64 characters", _LONG),
    "StudyDescription": ("at most 64 characters", _LONG),
    "InstitutionName": ("at most 64 characters", _LONG),
    "PatientInstitutionResidence": ("at most 64 characters", _LONG),
}
"""What DICOM lets an element hold: a regular expression, and the same in words (PS3.5 6.2)."""


def _facets(asked: _Asked) -> Iterator[Caution]:
    """A text that DICOM does not let the element hold."""
    field, function, operator = asked.predicate.field, asked.predicate.function, asked.predicate.operator
    if field.keyword not in _FACETS or function or operator in (Operator.CONTAINS, Operator.STARTSWITH):
        return
    says, holds = _FACETS[field.keyword]
    for text, span in asked.texts:
        if not re.fullmatch(holds, text, re.DOTALL):
            capitals = text.upper()
            is_case = capitals != text and re.fullmatch(holds, capitals, re.DOTALL)
            instead = f"; write {quoted(capitals)}" if is_case else ""
            problem = f"`{field.keyword}` holds {says}, and {quoted(text)} is none of these"
            yield Caution(span, f"{problem}{instead}")


def _empty_range(asked: _Asked) -> Iterator[Caution]:
    if asked.predicate.operator is not Operator.BETWEEN:
        return
    low, high = asked.predicate.literals
    # Ages of two units are two numbers: neither is the larger.
    comparable = not isinstance(low, Age) or (isinstance(high, Age) and low.unit is high.unit)
    if comparable and astuple(low) > astuple(high):  # type: ignore[arg-type]
        yield Caution(asked.predicate.span, "this range ends before it begins: no value lies in it")


def _whole_name(asked: _Asked) -> Iterator[Caution]:
    """The parts of a name are parted by `^` (PS3.5 6.2.1)."""
    predicate = asked.predicate
    if predicate.field.kind is Kind.NAME and predicate.operator in (Operator.EQ, Operator.IN):
        for text, span in asked.texts:
            if re.search(r"[ ,]", text) and "^" not in text:
                yield Caution(span, "DICOM writes a name as `FAMILY^GIVEN`, so this is rarely the whole name")


def _midnight(asked: _Asked) -> Iterator[Caution]:
    """A date against an instant is the moment at which the day begins."""
    operator = asked.predicate.operator
    literals = list(asked.literals)
    # Only the end of a range surprises.
    for literal, span in literals[1:] if operator is Operator.BETWEEN else literals:
        if not isinstance(literal, LocalTime) or literal.local.time() != time():
            continue
        day = literal.local.date()
        if operator in (Operator.EQ, Operator.IN):
            next_day = quote(f"{day + timedelta(days=1)}")
            instead = f"for the day, write `>=` this and `< {next_day}`"
            yield Caution(span, f"this is {day} at 00:00 and no other moment; {instead}")
        elif operator in (Operator.LE, Operator.GT, Operator.BETWEEN):
            yield Caution(span, f"this is {day} at 00:00; the rest of that day comes after it")


def _age_itself(asked: _Asked) -> Iterator[Caution]:
    """`< '18Y'` is often written for \"18 and below\" (A8)."""
    operator = asked.predicate.operator
    for literal, span in asked.literals:
        if isinstance(literal, Age) and operator in (Operator.LT, Operator.GT) and not asked.is_denied:
            written = write_literal(literal)
            unit = {"Y": "year", "M": "month", "W": "week", "D": "day"}[literal.unit]
            yield Caution(
                span,
                f"{literal.count}-{unit}-olds are hidden; `{operator}= {written}` would show them",
            )


def _status(asked: _Asked) -> Iterator[Caution]:
    for literal, span in asked.literals:
        match literal:
            case Choice(choice) if choice in SET_BY_HAND and asked.predicate.field.keyword == "StudyStatusID":
                yield Caution(span, f"nothing sets the status `{choice}` yet")
            case Choice(choice) if choice in OF_THE_GROUP and not asked.use.is_of_group:
                yield Caution(span, f"the facility side is never shown the status `{choice}`")


def _reading(asked: _Asked) -> Iterator[Caution]:
    field = asked.predicate.field
    if field.reads and asked.use.is_access_filter:
        yield Caution(
            asked.predicate.span,
            f"`{field.keyword}` changes as a case is read, and so does who sees it; whoever holds the lock "
            "keeps the case",
        )


def _mostly_empty(asked: _Asked) -> Iterator[Caution]:
    field = asked.predicate.field.keyword
    filled = asked.use.filled.get(field)
    if filled and 2 * filled.with_value < filled.cases and asked.predicate.operator is not Operator.IS_NULL:
        counted = f"{filled.with_value:,} of {filled.cases:,} cases have a value of `{field}`"
        yield Caution(asked.predicate.span, f"{counted}; the others are hidden")


_RULES: tuple[Callable[[_Asked], Iterator[Caution]], ...] = (
    _wildcards,
    _pasted,
    _never_made,
    _facets,
    _empty_range,
    _whole_name,
    _midnight,
    _age_itself,
    _status,
    _reading,
    _mostly_empty,
)
