"""What a filter demands of `plain_text`, the plain forms of all texts of a case, which an index finds."""

from services.access.filter.fields import Kind, Operator
from services.access.filter.forms import plain
from services.access.filter.sql import Condition, escaped, joined
from services.access.filter.tree import And, Expression, Or, Pattern, Predicate, Text

_LEAST_CHARACTERS = 3
"""Of a text that an index of trigrams finds."""

_SEARCHES = (Operator.EQ, Operator.LIKE, Operator.CONTAINS, Operator.STARTSWITH, Operator.IN)
"""The operators for which a text of the case contains what is asked for."""


def prefilter(expression: Expression, *, alias: str, first_parameter: int, derived: int) -> Condition | None:
    """What every row that satisfies a filter satisfies too; None: it demands no text that is long enough.

    Whoever uses it demands it beside `to_sql`, which decides. A row whose `plain_text` is out of date passes:
    one that was derived by functions before the state `derived`.
    """
    parameters: list[str] = []
    text = _demanded(expression, alias, first_parameter, parameters)
    return Condition(f"({text} or {alias}.derived < {derived})", tuple(parameters)) if text else None


def _demanded(expression: Expression, alias: str, first: int, parameters: list[str]) -> str | None:
    """A condition for `plain_text`; None: any will do."""
    match expression:
        case Predicate():
            patterns = dict.fromkeys(_patterns(expression))
            parameters += (each for each in patterns if each not in parameters)
            numbers = [first + parameters.index(each) for each in patterns]
            return (
                joined(" or ", (f"{alias}.plain_text like ${n}::text" for n in numbers)) if numbers else None
            )
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
