"""A filter read back in plain English, so that whoever wrote it sees what it does (BEY-4).

PatientAge < '18Y'    patients younger than 18 completed years at the study date; 18-year-olds are hidden
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from services.access.filter.faults import quoted
from services.access.filter.fields import Function, Kind, Operator
from services.access.filter.tree import (
    Age,
    AgeUnit,
    And,
    Choice,
    Constant,
    Duration,
    Expression,
    Literal,
    LocalTime,
    Me,
    Name,
    Not,
    Or,
    Pattern,
    Predicate,
    Text,
    Wildcard,
)
from services.access.filter.writing import write_literal


class _Noun(NamedTuple):
    """What a field is a property of, what it is, and for one with several values what has each of them."""

    of: str
    what: str
    each: str = ""


_NOUNS: Mapping[str, _Noun] = {
    "PatientName": _Noun("patients", "name"),
    "ReferringPhysicianName": _Noun("studies", "referring physician"),
    "PhysiciansOfRecord": _Noun("studies", "name", "a physician of record"),
    "PhysicianNames": _Noun("studies", "name", "a referring or requesting physician"),
    "PatientID": _Noun("patients", "patient ID"),
    "AccessionNumber": _Noun("studies", "accession number"),
    "StudyID": _Noun("studies", "study ID"),
    "PatientSex": _Noun("patients", "sex"),
    "PatientInstitutionResidence": _Noun("patients", "institution of residence"),
    "InstitutionName": _Noun("studies", "institution", "a series"),
    "StudyDescription": _Noun("studies", "description"),
    "BodyPartsInStudy": _Noun("studies", "body part", "a series"),
    "StudyInstanceUID": _Noun("studies", "Study Instance UID"),
    "ModalitiesInStudy": _Noun("studies", "modality", "a series"),
    "StudyDate": _Noun("studies", "date"),
    "StudyTime": _Noun("studies", "time of day"),
    "StudyDateTime": _Noun("studies", "date and time where they were made"),
    "NormalizedStudyDateTime": _Noun("studies", "date and time in the user's time zone"),
    "PatientBirthDate": _Noun("patients", "date of birth"),
    "PatientAge": _Noun("patients", "age"),
    "CreatedTime": _Noun("cases", "arrival (first image)"),
    "ReceivedTime": _Noun("cases", "arrival (last image)"),
    "NumberOfStudyRelatedInstances": _Noun("cases", "number of images"),
    "NumberOfStudyRelatedSeries": _Noun("cases", "number of series"),
    "CallingAETitle": _Noun("cases", "calling AE title"),
    "Facility": _Noun("cases", "facility"),
    "StudyStatusID": _Noun("cases", "status"),
    "ReportedTypes": _Noun("cases", "type", "an issued report"),
    "Priority": _Noun("cases", "priority"),
    "LockedBy": _Noun("cases", "lock holder"),
    "AssignedToUser": _Noun("cases", "assignee"),
}
"""Of each field."""

_AGE_UNITS = {AgeUnit.YEARS: "year", AgeUnit.MONTHS: "month", AgeUnit.WEEKS: "week", AgeUnit.DAYS: "day"}
_DURATION_UNITS = {"h": "hour", "d": "day", "w": "week", "m": "month", "y": "year"}

_IN_FORM = {
    Function.NONE: "",
    Function.UPPER: " in capitals",
    Function.LOWER: " in small letters",
    Function.PLAIN: " without case and accents",
    Function.AGE: "",
}

_COMPARED: Mapping[Operator, tuple[str, str, str, str]] = {
    Operator.LT: ("is less than", "is before", "comes before", "is less than"),
    Operator.LE: ("is at most", "is not after", "is or comes before", "is at most"),
    Operator.GT: ("is more than", "is after", "comes after", "is more than"),
    Operator.GE: ("is at least", "is not before", "is or comes after", "is at least"),
}
"""Of numbers, of what has a place in time, of texts in the order of characters, and of the time since."""

_MAX_NAMED = 20
"""Of a list: what one reads to the end."""

_IN_TIME = frozenset({Kind.DATE, Kind.TIME, Kind.LOCAL, Kind.INSTANT})
_TEXTS = frozenset({Kind.TEXT, Kind.NAME})


def read(expression: Expression) -> str:
    """What a filter shows: one line, or an outline of several."""
    return "\n".join(_lines(expression, is_shown=True))


def _lines(expression: Expression, *, is_shown: bool) -> list[str]:
    """The lines of an expression. Under a `not` none of it is shown by itself: `is_shown` is false."""
    match expression:
        case Constant(value):
            return ["every case" if value else "no case"]
        case Predicate():
            return [phrase(expression, is_shown=is_shown)]
        case And(terms):
            return ["all of:", *_items(terms, is_shown)]
        case Or(terms):
            return ["any of:", *_items(terms, is_shown)]
        case Not(term):
            return _denied(term, is_shown)


def _denied(expression: Expression, is_shown: bool) -> list[str]:
    """The lines of `not` an expression."""
    match expression:
        case Constant(value):
            return _lines(Constant(not value), is_shown=is_shown)
        case Predicate(negated=negated):
            return [phrase(replace(expression, negated=not negated), is_shown=is_shown)]
        case And(terms):
            return ["not all of:", *_items(terms, is_shown=False)]
        case Or(terms):
            return ["none of:", *_items(terms, is_shown=False)]
        case Not(term):
            return _lines(term, is_shown=is_shown)


def _items(terms: tuple[Expression, ...], is_shown: bool) -> list[str]:
    lines: list[str] = []
    for term in terms:
        first, *more = _lines(term, is_shown=is_shown)
        lines += [f"- {first}", *(f"  {line}" for line in more)]
    return lines


def phrase(predicate: Predicate, *, is_shown: bool = True) -> str:
    """What one predicate shows, as in `patients younger than …`; if it does, also who is just not shown."""
    noun = _NOUNS[predicate.field.keyword]
    if predicate.operator is Operator.IS_NULL:
        return _absence(predicate, noun)
    if predicate.field.kind is Kind.AGE:
        return _age(predicate, is_shown)
    what = f"{noun.what}{_IN_FORM[predicate.function]}"
    if predicate.field.is_set:
        with_each = f"without {noun.each}" if predicate.negated else f"with {noun.each}"
        # No member satisfies it: the contrary of what any member does.
        return f"{noun.of} {with_each} whose {what} {_verb(predicate, negated=False)}"
    return f"{noun.of} whose {what} {_verb(predicate, negated=predicate.negated)}"


def _absence(predicate: Predicate, noun: _Noun) -> str:
    word = "with" if predicate.negated else "without"
    return f"{noun.of} {word} {noun.each or _a(noun.what)}{f' of known {noun.what}' if noun.each else ''}"


def _age(predicate: Predicate, is_shown: bool) -> str:
    """Ages are completed units of life at the study date (A8)."""
    ages = [literal for literal in predicate.literals if isinstance(literal, Age)]
    first = _completed(ages[0])
    if predicate.operator in (Operator.LT, Operator.GT):
        bound = f"{'younger' if predicate.operator is Operator.LT else 'older'} than {first}"
    elif predicate.operator is Operator.BETWEEN:
        bound = f"from {first} to {_completed(ages[1])}"
    else:
        most = {Operator.LE: "of at most", Operator.GE: "of at least"}.get(predicate.operator, "of exactly")
        bound = f"{most} {_any([_completed(age) for age in ages])}"
    said = f"patients {'not ' if predicate.negated else ''}{bound} at the study date"
    if is_shown and predicate.operator in (Operator.LT, Operator.GT):
        return f"{said}; {_olds(ages[0])} are {'shown' if predicate.negated else 'hidden'}"
    return said


def _completed(age: Age) -> str:
    return f"{age.count} completed {_plural(_AGE_UNITS[age.unit], age.count)}"


def _olds(age: Age) -> str:
    return f"{age.count}-{_AGE_UNITS[age.unit]}-olds"


def _verb(predicate: Predicate, *, negated: bool) -> str:
    """What is said of the value."""
    values = [_value(literal) for literal in predicate.literals]
    field, operator = predicate.field, predicate.operator
    is_no, does_no = ("is not", "does not ") if negated else ("is", "")
    s = "" if negated else "s"
    exact = "exactly " if field.kind in _TEXTS else ""
    match operator:
        case Operator.EQ:
            return f"{is_no} {exact}{values[0]}"
        case Operator.IN:
            return f"{is_no} {exact}{_any(values)}"
        case Operator.BETWEEN if predicate.function is Function.AGE:
            return f"{is_no} between {values[0]} and {values[1]} ago"
        case Operator.BETWEEN:
            return f"{is_no} from {values[0]} to {values[1]}, both included"
        case Operator.CONTAINS:
            return f"{does_no}contain{s} {values[0]}{_case(predicate)}"
        case Operator.STARTSWITH:
            return f"{does_no}begin{s} with {values[0]}{_case(predicate)}"
        case Operator.LIKE:
            return f"{_like(predicate.literals[0], negated=negated)}{_case(predicate)}"
    return f"{_comparison(predicate)} {values[0]}{' ago' if predicate.function is Function.AGE else ''}"


def _comparison(predicate: Predicate) -> str:
    of_numbers, in_time, of_texts, since = _COMPARED[predicate.operator]
    if predicate.function is Function.AGE:
        return since
    if predicate.field.kind in _IN_TIME:
        return in_time
    return of_texts if predicate.field.kind in _TEXTS else of_numbers


def _case(predicate: Predicate) -> str:
    """Whether capitals count, where no function says it."""
    if predicate.function:
        return ""
    return ", capitals as written" if predicate.operator is Operator.LIKE else ", in any case"


def _like(literal: Literal, *, negated: bool) -> str:
    """A pattern with one text reads as what it asks of that text."""
    s, does_no = ("", "does not ") if negated else ("s", "")
    match literal.parts if isinstance(literal, Pattern) else ():
        case (str(text),):
            return f"{'is not' if negated else 'is'} {quoted(text)}"
        case (Wildcard.ANY_RUN, str(text), Wildcard.ANY_RUN):
            return f"{does_no}contain{s} {quoted(text)}"
        case (str(text), Wildcard.ANY_RUN):
            return f"{does_no}begin{s} with {quoted(text)}"
        case (Wildcard.ANY_RUN, str(text)):
            return f"{does_no}end{s} with {quoted(text)}"
    return f"{does_no}match{'' if negated else 'es'} the pattern {quoted(write_literal(literal)[1:-1])}"


def _value(literal: Literal) -> str:
    match literal:
        case Me():
            return "whoever is shown them"
        case Duration():
            return _duration(literal)
        case Text(text) | Name(text) | Choice(text):
            return quoted(text)
        case LocalTime(local):
            return local.isoformat(" ", "minutes" if not local.second else "auto")
    return write_literal(literal).strip("'")


def _duration(literal: Duration) -> str:
    written = write_literal(literal)[1:-1]
    count, unit = int(written[:-1]), _DURATION_UNITS[written[-1]]
    return f"{count} {_plural(unit, count)}"


def _any(words: Sequence[str]) -> str:
    if len(words) > _MAX_NAMED:
        words = [*words[: _MAX_NAMED - 1], f"{len(words) - _MAX_NAMED + 1:,} others"]
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"


def _a(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"
