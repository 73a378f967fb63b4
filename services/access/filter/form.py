"""The form of a filter: what an administrator fills in, and the expression that it stands for (ACC-18, A14).

    referring physicians   any of them: contains, in any case          facilities    any of them
    description words      all of them: contains, in any case          modalities    any of them
    patient age, study date                                            from and to, both included

What is filled in is AND-ed. Form and advanced expression are kept apart and AND-ed too, so that each opens
again as it was. An expression that says just what a form would say may be opened as that form.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kernel.errors import Invalid
from kernel.ids import parse_id
from services.access.filter.faults import FilterError
from services.access.filter.fields import Operator
from services.access.filter.grammar import MAX_CHARACTERS, MAX_FACILITIES, flat, parse
from services.access.filter.tokens import quote
from services.access.filter.tree import And, Bound, Expression, Literal, Or, Predicate, Text
from services.access.filter.writing import write_literal

MAX_ENTRIES = 40
"""Of each other list, so that what a form says is a filter of less than 200 nodes."""


@dataclass(frozen=True, slots=True)
class Form:
    """What is filled in; what is empty asks nothing.

    Attributes:
        referring_physicians: parts of names, one a line of the form.
        facilities: their ids.
        age_from, age_to: as in `18Y`, at the study date.
        study_from, study_to: as in `2026-11-21`.
    """

    referring_physicians: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    facilities: tuple[str, ...] = ()
    description_words: tuple[str, ...] = ()
    age_from: str = ""
    age_to: str = ""
    study_from: str = ""
    study_to: str = ""


_LISTS = ("referring_physicians", "modalities", "facilities", "description_words")
_ENDS = ("age_from", "age_to", "study_from", "study_to")


def filled(values: Mapping[str, Any]) -> Form:
    """A form of what was filled in, or of what was kept of one.

    Entries of lists lose the blanks around them; empty ones are left out, one of several lines is several.

    Raises:
        Invalid: with the field that does not hold what it asks for.
    """
    entries: Any = {name: _entries(values.get(name, ())) for name in _LISTS}
    ends: Any = {name: str(values.get(name, "")).strip() for name in _ENDS}
    form = Form(**entries, **ends)
    form = replace(form, facilities=tuple(str(parse_id(each, "facilities")) for each in form.facilities))
    for name in (*_LISTS, *_ENDS):
        value = getattr(form, name)
        most = MAX_FACILITIES if name == "facilities" else MAX_ENTRIES
        if name in _LISTS and len(value) > most:
            raise Invalid(f"a form takes at most {most:,} of `{name}`", field=name)
        _must_be_read(text_of(replace(Form(), **{name: value})), name)
    if len(text_of(replace(form, facilities=()))) > MAX_CHARACTERS:
        raise Invalid(f"a form says at most {MAX_CHARACTERS:,} characters; leave something out", field="form")
    return form


def kept(form: Form) -> Mapping[str, object]:
    """What is kept of a form, for `filled`."""
    lists = {name: list(getattr(form, name)) for name in _LISTS}
    ends = {name: getattr(form, name) for name in _ENDS}
    return {name: value for name, value in (*lists.items(), *ends.items()) if value}


def text_of(form: Form) -> str:
    """What a form says as an expression, facilities by id; empty if it asks nothing."""
    return " and ".join(text for says in _SAYS.values() if (text := says(form)))


def expression_of(form: Form) -> Expression | None:
    """What a form says; None if it asks nothing."""
    text = text_of(form)
    return parse(text, is_of_group=True, stored=True) if text else None


def both(*expressions: Expression | None) -> Expression | None:
    """All of several filters AND-ed (A14); None if there is none."""
    given = tuple(expression for expression in expressions if expression is not None)
    return And(given) if len(given) > 1 else next(iter(given), None)


def offered(expression: Expression) -> Form | None:
    """The form that says just what an expression says, facilities bound; None if no form does."""
    asked: dict[str, Any] = {}
    for term in _terms(expression):
        entry = _entry(term)
        if entry is None:
            return None
        for name, value in entry.items():
            asked[name] = (*asked.get(name, ()), *value) if name == "description_words" else value
    try:
        form = filled(asked)
    except Invalid:
        return None
    said = expression_of(form)
    return form if said and set(_terms(said)) == set(_terms(expression)) else None


def _entries(value: Any) -> tuple[str, ...]:
    lines = (line.strip() for entry in value for line in str(entry).splitlines())
    return tuple(dict.fromkeys(line for line in lines if line))


def _must_be_read(text: str, field: str) -> None:
    try:
        if text:
            parse(text, is_of_group=True, stored=True)
    except FilterError as fault:
        said = f"{fault.problem}; {fault.expected}" if fault.expected else fault.problem
        raise Invalid(said, field=field) from None


# What each field of the form says


def _contains(keyword: str, word: str, entries: Sequence[str]) -> str:
    text = f" {word} ".join(f"{keyword} contains {quote(entry)}" for entry in entries)
    return f"({text})" if word == "or" and len(entries) > 1 else text


def _one_of(keyword: str, entries: Sequence[str]) -> str:
    return f"{keyword} in ({', '.join(map(quote, entries))})" if entries else ""


def _range(keyword: str, first: str, last: str) -> str:
    if first and last:
        return f"{keyword} between {quote(first)} and {quote(last)}"
    if first:
        return f"{keyword} >= {quote(first)}"
    return f"{keyword} <= {quote(last)}" if last else ""


_SAYS: Mapping[str, Callable[[Form], str]] = {
    "referring_physicians": lambda form: _contains("ReferringPhysicianName", "or", form.referring_physicians),
    "modalities": lambda form: _one_of("ModalitiesInStudy", form.modalities),
    "facilities": lambda form: _one_of("Facility", [f"#{each}" for each in form.facilities]),
    "ages": lambda form: _range("PatientAge", form.age_from, form.age_to),
    "study dates": lambda form: _range("StudyDate", form.study_from, form.study_to),
    "description_words": lambda form: _contains("StudyDescription", "and", form.description_words),
}


# Which fields of the form would say a term of an expression

_ENTRIES: Mapping[tuple[str, Operator], str] = {
    ("ReferringPhysicianName", Operator.CONTAINS): "referring_physicians",
    ("StudyDescription", Operator.CONTAINS): "description_words",
    ("ModalitiesInStudy", Operator.IN): "modalities",
    ("Facility", Operator.IN): "facilities",
    ("PatientAge", Operator.GE): "age_from",
    ("PatientAge", Operator.LE): "age_to",
    ("StudyDate", Operator.GE): "study_from",
    ("StudyDate", Operator.LE): "study_to",
}


def _terms(expression: Expression) -> list[Expression]:
    """The terms that an expression joins with `and`, each in the form in which a form says it."""
    whole = flat(expression)
    return [each for term in (whole.terms if isinstance(whole, And) else (whole,)) for each in _alike(term)]


def _alike(term: Expression) -> tuple[Expression, ...]:
    """One value as a list of one, a range as its two ends."""
    if not isinstance(term, Predicate):
        return (term,)
    if term.operator is Operator.EQ:
        return (replace(term, operator=Operator.IN),)
    if term.operator is Operator.BETWEEN:
        first, last = term.literals
        ends = (Operator.GE, first), (Operator.LE, last)
        return tuple(replace(term, operator=operator, literals=(end,)) for operator, end in ends)
    return (term,)


def _entry(term: Expression) -> dict[str, Any] | None:
    """What a form would have to hold to say a term, nearly: whoever asks compares what it says then."""
    any_of = term.terms if isinstance(term, Or) else (term,)
    asked = [each for each in any_of if isinstance(each, Predicate)]
    held = {_ENTRIES.get((each.field.keyword, each.operator)) for each in asked}
    if len(asked) < len(any_of) or len(held) > 1:
        return None
    name = held.pop()
    values = [_written(literal) for each in asked for literal in each.literals]
    if name is None or (len(asked) > 1 and name != "referring_physicians"):
        return None
    return {name: values if name in _LISTS else values[0]}


def _written(literal: Literal) -> str:
    match literal:
        case Text(text):
            return text
        case Bound(id=bound):
            return str(bound)
    return write_literal(literal)[1:-1]
