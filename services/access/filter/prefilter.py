"""What a filter demands that an index finds: of a number its beginning, of other texts what they contain.

The latter is asked of `plain_text`, the plain forms of all texts of a case.
"""

from collections.abc import Iterable

from services.access.filter.fields import Function, Kind, Operator
from services.access.filter.forms import plain
from services.access.filter.sql import Condition, escaped, joined
from services.access.filter.texts import literal_texts
from services.access.filter.tree import And, Expression, Or, Pattern, Predicate, Text

_LEAST_CHARACTERS = 3
"""Of a text that an index of trigrams finds."""

_SEARCHES = (Operator.EQ, Operator.LIKE, Operator.CONTAINS, Operator.STARTSWITH, Operator.IN)
"""The operators for which a text of the case contains what is asked for."""

NUMBERS = ("PatientID", "AccessionNumber", "StudyID")
"""Fields of which an index knows each beginning, without case (migration 0029)."""

_BEGINS = (Operator.EQ, Operator.IN, Operator.STARTSWITH)
"""The operators for which a number begins with what is asked for, but for its case."""


def prefilter(expression: Expression, *, alias: str, first_parameter: int, derived: int) -> Condition | None:
    """What every row that satisfies a filter satisfies too; None: it demands nothing that is long enough.

    Whoever uses it demands it beside `to_sql`, which decides. A row whose `plain_text` is out of date passes:
    one that was derived by functions before the state `derived`.
    """
    parameters: list[str] = []
    text = _demanded(expression, alias, first_parameter, parameters)
    return Condition(f"({text} or {alias}.derived < {derived})", tuple(parameters)) if text else None


def _demanded(expression: Expression, alias: str, first: int, parameters: list[str]) -> str | None:
    """A condition that an index serves; None: any will do."""
    match expression:
        case Predicate():
            begins = _beginnings(expression)
            patterns = dict.fromkeys(begins or _patterns(expression))
            parameters += (each for each in patterns if each not in parameters)
            asked = [f"${first + parameters.index(each)}::text" for each in patterns]
            if begins:
                return _begins_with(f"{alias}.{expression.field.columns[0]}", asked)
            return joined(" or ", (f"{alias}.plain_text like {each}" for each in asked)) if asked else None
        case And(terms):
            found = [text for each in terms if (text := _demanded(each, alias, first, parameters))]
            return joined(" and ", dict.fromkeys(found)) if found else None
        case Or(terms):
            kept = len(parameters)
            found = [text for each in terms if (text := _demanded(each, alias, first, parameters))]
            if len(found) == len(terms):
                return joined(" or ", dict.fromkeys(found))
            del parameters[kept:]
    return None


def _begins_with(column: str, patterns: Iterable[str]) -> str:
    """Whether a number is like one of these, or not of ASCII alone; as the indexes of 0029 say it."""
    key = f"""(case when octet_length({column}) = length({column})
        then lower({column} collate "C") else '' end collate "C")"""
    return (
        f"({column} <> '' and ({joined(' or ', (f'{key} like {each}' for each in patterns))} or {key} = ''))"
    )


def _beginnings(asked: Predicate) -> list[str]:
    """Patterns of which a number, in small letters, is like one, if it satisfies the predicate.

    A number of ASCII alone satisfies nothing that is not, and is its own case fold in small letters.
    """
    is_number = asked.field.keyword in NUMBERS and asked.operator in _BEGINS and not asked.negated
    texts = literal_texts(asked) if is_number and asked.function is Function.NONE else ()
    if not all(len(text) >= _LEAST_CHARACTERS for text in texts):
        return []
    return [f"{escaped(text.lower())}%" for text in texts]


def _patterns(asked: Predicate) -> list[str]:
    """Patterns of which `plain_text` has one, if a text of the case satisfies the predicate.

    What a form of a text contains, its plain form contains plain; but for the upper form, whose plain form is
    kept beside it where it is another (`derived.py`).
    """
    if asked.negated or asked.operator not in _SEARCHES or asked.field.kind not in (Kind.TEXT, Kind.NAME):
        return []
    patterns = []
    for literal in asked.literals:
        texts = [plain(part) for part in _parts(literal)]
        if not any(len(text) >= _LEAST_CHARACTERS for text in texts) or any("\n" in text for text in texts):
            return []
        patterns.append(f"%{'%'.join(escaped(text) for text in texts)}%")
    return patterns


def _parts(literal: object) -> list[str]:
    match literal:
        case Text(text):
            return [text]
        case Pattern(parts):
            return [part for part in parts if isinstance(part, str)]
    return []
