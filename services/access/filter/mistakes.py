"""What people write in place of what the grammar knows, and what they most likely meant (BEY-4)."""

from collections.abc import Iterable
from typing import NamedTuple

from services.access.filter.faults import Edit, FilterError, quoted
from services.access.filter.fields import (
    FIELD_BY_NAME,
    FIELDS,
    OPERATORS,
    OPERATORS_OF_AGE,
    OPERATORS_OF_SETS,
    Field,
    Function,
    Operator,
)
from services.access.filter.literals import Asked, bare, in_full, nearest
from services.access.filter.tokens import BETWEEN, CURLY, MISQUOTES, Token, misquote, quote, unclosed
from services.access.filter.tokens import Kind as TokenKind
from services.access.filter.tree import Span

OPERATOR_WORDS = {
    "like": Operator.LIKE,
    "contains": Operator.CONTAINS,
    "startswith": Operator.STARTSWITH,
    "in": Operator.IN,
    "between": Operator.BETWEEN,
}
KEYWORDS = frozenset({"and", "or", "not", "is", "null", "true", "false", *OPERATOR_WORDS})
FUNCTIONS_BY_NAME = {each.value: each for each in Function if each}

_MEANT = {
    "starts": "startswith",
    "begins": "startswith",
    "beginswith": "startswith",
    "has": "contains",
    "eq": "=",
    "equals": "=",
}
"""Operators of other languages."""

_WANTS_IDENTITY = "referringphysician"
"""The account behind the name; it comes with identities (BEY-6)."""


class Stop(NamedTuple):
    """Where the reading of a filter stopped: before `token`."""

    text: str
    before: Token | None
    token: Token

    @property
    def end(self) -> int:
        """Where what was understood ends."""
        return self.before.span.end if self.before else 0

    def fault(self, problem: str, expected: str = "", *edits: Edit) -> FilterError:
        """A fault at the token."""
        return FilterError(self.text, self.token.span, problem, expected, *edits)

    def missing(self, sign: str) -> Edit:
        """The repair that writes a sign behind what was understood."""
        return Edit(Span(self.end, self.end), sign)

    @property
    def found(self) -> str:
        """What stands there, as a sentence begins."""
        if self.token.kind is TokenKind.END:
            return "the filter ends here"
        return f"found {quoted(self.written(self.token.span))}"

    def written(self, span: Span) -> str:
        """A place of the text as it was written."""
        return self.text[span.start : span.end]


def no_operand(stop: Stop) -> FilterError:
    """A field should stand here."""
    token = stop.token
    if token.kind is TokenKind.MISQUOTED:
        if token.text.lower() in FIELD_BY_NAME:
            return stop.fault("a field stands in quotes", "write it without", Edit(token.span, token.text))
        return misquoted(stop)
    return stop.fault(stop.found, "a condition begins with a field, as in `Modality = 'CT'`")


def no_field(stop: Stop, word: Token, *, is_of_group: bool) -> FilterError:
    """The word is no field."""
    if word.text == _WANTS_IDENTITY:
        return FilterError(
            stop.text,
            word.span,
            "`ReferringPhysician` compares accounts, and Readroom does not know yet which account is whose",
            "compare the name, as in `ReferringPhysicianName contains 'BRONSTEIN'`",
        )
    written = stop.written(word.span)
    names = tuple(name for each in FIELDS if is_of_group or not each.of_group for name in each.names)
    near = nearest(written, names) or in_full(written, names)
    expected = f"the nearest is `{near}`" if near else "a field is named by its DICOM keyword"
    edits = [Edit(word.span, near)] if near else []
    return FilterError(stop.text, word.span, f"there is no field {quoted(written)}", expected, *edits)


def no_function(stop: Stop, word: Token) -> FilterError:
    """The word stands before a parenthesis and is no function."""
    near = nearest(word.text, tuple(FUNCTIONS_BY_NAME))
    expected = f"the functions are {listed(FUNCTIONS_BY_NAME)}"
    edits = [Edit(word.span, near)] if near else []
    return FilterError(
        stop.text, word.span, f"there is no function {quoted(stop.written(word.span))}", expected, *edits
    )


def no_function_of(stop: Stop, word: Token, function: Function, field: Field) -> FilterError:
    """The function does not take the field."""
    takes = "a date or an instant" if function is Function.AGE else "a text"
    is_a = f"{'an' if field.kind.value[0] in 'aeiou' else 'a'} {field.kind}"
    problem = f"`{function}()` takes {takes}, and `{field.keyword}` is {is_a}"
    return FilterError(stop.text, word.span, problem)


def no_operator(stop: Stop) -> FilterError:
    """Nothing is asked of the field."""
    token = stop.token
    expected = "ask something of the field, with `=`, `!=`, `<`, `in`, `like`, `contains`, `is null` …"
    if token.kind is not TokenKind.WORD:
        return stop.fault(stop.found, expected)
    if token.text == "ilike":
        return stop.fault("there is no operator `ilike`", "`contains` ignores case, and takes no `%`")
    meant = _MEANT.get(token.text) or nearest(token.text, (*OPERATOR_WORDS, "is"))
    if not meant:
        return stop.fault(stop.found, expected)
    span, rest = token.span, stop.text[token.span.end :]
    if meant == "startswith" and rest.lstrip(BETWEEN).lower().startswith("with "):
        span = Span(span.start, span.end + rest.lower().index("with") + len("with"))
    problem = f"there is no operator {quoted(stop.written(span))}"
    return FilterError(stop.text, span, problem, f"write `{meant}`", Edit(span, meant))


def operators(asked: Asked) -> frozenset[Operator]:
    """The operators that a field, or the time since it, has."""
    has = OPERATORS_OF_AGE if asked.is_duration else OPERATORS[asked.field.kind]
    return has & OPERATORS_OF_SETS if asked.field.is_set else has


def no_operator_of(stop: Stop, asked: Asked, at: Token) -> FilterError:
    """The field does not have the operator."""
    name = f"`age({asked.written})`" if asked.is_duration else f"`{asked.written}`"
    problem = f"{name} does not take {quoted(stop.written(at.span))}"
    has = operators(asked)
    return FilterError(
        stop.text,
        at.span,
        problem,
        "it takes " + listed(each.value for each in Operator if each in has),
    )


def not_before_sign(stop: Stop, negation: Token) -> FilterError:
    """`not` stands before `=` or another sign."""
    span = Span(negation.span.start, stop.token.span.end)
    edits = [Edit(span, "!=")] if stop.token.text == "=" else []
    problem = f"`not` cannot stand before {quoted(stop.token.text)}"
    return FilterError(stop.text, span, problem, "write `!=`, or `not` before the field", *edits)


def not_null(stop: Stop, word: Token, negated: bool) -> FilterError:
    """`is` stands before something else than `null`."""
    if stop.token.kind is not TokenKind.TEXT:
        return stop.fault(stop.found, "write `is null` or `is not null`")
    sign = "!=" if negated else "="
    span = Span(word.span.start, stop.end)
    return FilterError(stop.text, span, "`is` asks for `null` alone", f"write `{sign}`", Edit(span, sign))


def no_literal(stop: Stop, asked: Asked, comparison: Token) -> FilterError:
    """A value should stand here."""
    token = stop.token
    if token.kind is TokenKind.MISQUOTED:
        return misquoted(stop)
    if token.text == "null" and comparison.text in ("=", "!=", "<>"):
        instead = "is null" if comparison.text == "=" else "is not null"
        span = Span(comparison.span.start, token.span.end)
        return FilterError(
            stop.text, span, "nothing equals `null`", f"write `{instead}`", Edit(span, instead)
        )
    if token.kind is TokenKind.WORD and token.text in FIELD_BY_NAME:
        return stop.fault(
            f"{quoted(stop.written(token.span))} is a field",
            "a field is compared to a value, not to another field",
        )
    if token.kind is TokenKind.WORD and token.text not in KEYWORDS:
        return bare(stop.text, bare_value(stop), asked)
    if token.text == "(" and comparison.text in ("=", "!=", "<>"):
        instead, edit = ("in" if comparison.text == "=" else "not in"), comparison.span
        return FilterError(
            stop.text, edit, f"{comparison} takes one value", f"write `{instead}`", Edit(edit, instead)
        )
    return stop.fault(stop.found, "a value in single quotes is missing")


def bare_value(stop: Stop) -> Span:
    """What stands here without quotes: up to a blank, a comma, a parenthesis, a comparison or a quote.

    A quote that closes it belongs to it: the one that opens was forgotten.
    """
    start = end = stop.token.span.start
    while end < len(stop.text) and stop.text[end] not in f"{BETWEEN},()'<>={MISQUOTES}":
        end += 1
    closed = end > start and stop.text[end : end + 1] in (*CURLY, "'")
    return Span(start, end + closed)


def misquoted(stop: Stop) -> FilterError:
    """A text stands in quotes of another kind."""
    span, meant = stop.token.span, quote(stop.token.text)
    problem = f"{quoted(stop.text[span.start])} is not the quote of this language"
    return FilterError(
        stop.text, Span(span.start, span.start + 1), problem, f"write {quoted(meant)}", Edit(span, meant)
    )


def no_list(stop: Stop, last: Token) -> FilterError:
    """Values stand without parentheses, from the token up to the last."""
    span = Span(stop.token.span.start, last.span.end)
    edits = [Edit(span, f"({stop.written(span)})")] if last.kind is TokenKind.TEXT else []
    return FilterError(stop.text, span, "a list stands in parentheses", "write `in ('…', '…')`", *edits)


def leftover(stop: Stop, expected: str) -> FilterError:
    """Something follows that cannot: often the text before it ended too early or too late."""
    token, before = stop.token, stop.before
    if before and before.kind is TokenKind.TEXT:
        written = stop.written(before.span)
        other = next((at for at, sign in enumerate(written) if sign in MISQUOTES), None)
        if other is not None:
            return misquote(stop.text, before.span.start + other)
        follows = token.span.start == before.span.end and token.kind is TokenKind.WORD
        if follows and not before.text[-1:].isalpha():
            return unclosed(stop.text, before.span.start)
        if follows:
            return FilterError(
                stop.text,
                Span(before.span.end - 1, before.span.end),
                "the text ends at this quote",
                "a quote inside a text is doubled, as in `'O''Neil'`",
                stop.missing("'"),
            )
    meant = nearest(token.text, ("and", "or")) if token.kind is TokenKind.WORD else None
    return stop.fault(stop.found, f"expected {expected}", *([Edit(token.span, meant)] if meant else ()))


def listed(words: Iterable[str]) -> str:
    """Words in backticks, one after the other."""
    return ", ".join(f"`{word}`" for word in words)
