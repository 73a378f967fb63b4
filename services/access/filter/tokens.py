"""The words of the filter language, one after the other, and what people write in their place."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from services.access.filter.faults import Edit, FilterError, quoted
from services.access.filter.tree import Span


class Kind(Enum):
    """What a token is."""

    WORD = "word"  # keyword, function or field; in any case
    TEXT = "text"  # in straight single quotes; a quote inside is doubled (ACC-26)
    MISQUOTED = "misquoted"  # in quotes of another kind; the grammar refuses it and offers straight ones
    NUMBER = "number"  # decimal digits
    SIGN = "sign"  # a comparison, a parenthesis, a comma
    END = "end"


@dataclass(frozen=True, slots=True)
class Token:
    """One token.

    Attributes:
        text: a word in lower case, a text without its quotes, else as written.
    """

    kind: Kind
    text: str
    span: Span

    def __str__(self) -> str:
        """As a message names it."""
        return "the end" if self.kind is Kind.END else quoted(self.text)


BETWEEN = " \t\r\n\u00a0"
"""What may stand between tokens; a no-break space comes with text that was pasted from a page."""

CURLY = "‘’‚‛′´`"
_DOUBLE = '"“”„‟″«»'
MISQUOTES = CURLY + _DOUBLE
"""What programs for texts make of a straight quote, and double quotes."""

_TOKEN = re.compile(
    rf"""(?P<blank>[{BETWEEN}]+)
    |(?P<text>'(?:[^']++|'')*+')
    |(?P<number>[0-9]+)
    |(?P<word>[^\W\d]\w*)
    |(?P<sign><>|<=|>=|!=|[=<>(),])
    """,
    re.VERBOSE,
)

# Up to a quote that closes: any typographic one, or a straight one before what may follow a text.
_MISQUOTED = re.compile(
    rf"[{MISQUOTES}](?P<text>.*?)(?:[{MISQUOTES}]|'(?=[{BETWEEN}]*(?:$|[,)]|(?:and|or)\b)))",
    re.IGNORECASE | re.DOTALL,
)

_MEANT = {
    "==": "=",
    "=<": "<=",
    "=>": ">=",
    "≤": "<=",
    "≥": ">=",
    "≠": "!=",
    "!": "not",
    "&&": "and",
    "&": "and",
    "||": "or",
    "|": "or",
    "（": "(",
    "）": ")",
    "，": ",",
    "＝": "=",
    "＜": "<",
    "＞": ">",
    ";": "",
}
"""Signs of other languages and keyboards, and what they stand for."""

_IN_NO_VALUE = re.compile("[\0\ud800-\udfff]")


def tokens(text: str) -> Iterator[Token]:
    """The tokens of a filter as they are asked for, END last, again and again; raises FilterError."""
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        # `==` and `=<` begin as a sign of ours does.
        if found is None or (found["sign"] and text[at : at + 2] in _MEANT):
            token = _odd(text, at)
            yield token
            at = token.span.end
            continue
        span, at = Span(at, found.end()), found.end()
        if found["blank"]:
            continue
        if found["text"]:
            yield Token(Kind.TEXT, _checked(text, span).replace("''", "'"), span)
        elif found["number"]:
            yield Token(Kind.NUMBER, found["number"], span)
        elif found["word"]:
            # Words are of ASCII: no other letter may pass for one of them by losing its case.
            word = found["word"]
            yield Token(Kind.WORD, word.lower() if word.isascii() else word, span)
        else:
            yield Token(Kind.SIGN, found["sign"], span)
    while True:
        yield Token(Kind.END, "", Span(len(text), len(text)))


def quote(text: str) -> str:
    """A text as a literal of the language."""
    doubled = text.replace("'", "''")
    return f"'{doubled}'"


def _checked(text: str, span: Span) -> str:
    """The inside of a text in quotes; refuses what cannot be in any value."""
    never = _IN_NO_VALUE.search(text, span.start, span.end)
    if never:
        raise _invisible(text, never.start())
    return text[span.start + 1 : span.end - 1]


def _odd(text: str, at: int) -> Token:
    """A text in quotes of another kind, which the grammar refuses; raises for all else that is no token."""
    sign = text[at]
    if sign == "'":
        raise unclosed(text, at)
    if sign in MISQUOTES:
        found = _MISQUOTED.match(text, at)
        if found:
            return Token(Kind.MISQUOTED, found["text"], Span(at, found.end()))
        raise misquote(text, at)
    for length in (2, 1):
        span = Span(at, at + length)
        written = text[at : at + length]
        if written in _MEANT:
            meant = _MEANT[written]
            instead = f"write `{meant}`" if meant else "leave it out"
            if meant.isalpha():  # it must not grow together with a word beside it
                before = " " * (text[at - 1 : at] not in BETWEEN)
                meant = f"{before}{meant}{' ' * (text[span.end : span.end + 1] not in BETWEEN)}"
            raise FilterError(text, span, _no_sign(written), instead, Edit(span, meant))
    if not sign.isprintable() or sign.isspace():
        raise _invisible(text, at)
    span = Span(at, at + 1)
    raise FilterError(text, span, _no_sign(sign), "a value stands in single quotes")


def _no_sign(written: str) -> str:
    return f"{quoted(written)} is no sign of this language"


def unclosed(text: str, at: int) -> FilterError:
    """A quote that opens a text and has none that closes it. Obvious is a text of one word."""
    inside = text[at + 1 :]
    other = next((offset for offset, sign in enumerate(inside) if sign in MISQUOTES), None)
    if other is not None:
        return misquote(text, at + 1 + other)
    word = re.match(rf"[^{BETWEEN},()']+", inside)
    edits = [Edit(Span(at + 1 + word.end(), at + 1 + word.end()), "'")] if word else []
    problem = "the text that begins here has no closing quote"
    return FilterError(text, Span(at, at + 1), problem, "close it with `'`", *edits)


def misquote(text: str, at: int) -> FilterError:
    """A quote of another kind where a straight one belongs."""
    span = Span(at, at + 1)
    problem = f"{quoted(text[at])} is not the quote of this language"
    return FilterError(text, span, problem, "write `'`", Edit(span, "'"))


def _invisible(text: str, at: int) -> FilterError:
    sign = text[at]
    name = (
        unicodedata.name(sign, "").lower() or "half a character" if sign > "\xff" else "a control character"
    )
    span = Span(at, at + 1)
    problem = f"the invisible character U+{ord(sign):04X} ({name}) cannot stand in a filter"
    if sign.isspace():
        return FilterError(text, span, problem, "write a blank", Edit(span, " "))
    return FilterError(text, span, problem, "leave it out", Edit(span, ""))
