"""What is wrong with a filter, where, and what to write instead (BEY-4)."""

import unicodedata
from typing import NamedTuple

from kernel.errors import Invalid
from services.access.filter.tree import Span

# A line of a terminal, less the indent.
_PICTURE_COLUMNS = 76
# Enough to recognise what is quoted; a sentence stays one.
_MAX_QUOTED_CHARACTERS = 40
_NO_GLYPH = "·"
_CUT = "…"


class Place(NamedTuple):
    """A place as people count: lines and code points from 1."""

    line: int
    column: int


class Edit(NamedTuple):
    """The repair of one fault: what to write in place of `span`."""

    span: Span
    text: str

    def applied(self, text: str) -> str:
        """The filter with this repair."""
        return f"{text[: self.span.start]}{self.text}{text[self.span.end :]}"


class FilterError(Invalid):
    """A filter is refused. It quotes the filter, which may name a patient: keep it out of logs and audits.

    Attributes:
        text: the filter.
        span: the fault in it.
        problem: what is wrong, one clause.
        expected: what to write instead; empty where the problem says it.
        edits: the repairs of this fault alone. Several are obvious only if they come to the same.
        repaired: the whole filter without this and any further fault, where each repair is obvious.
    """

    def __init__(self, text: str, span: Span, problem: str, expected: str = "", *edits: Edit) -> None:
        self.text, self.span, self.problem, self.expected = text, span, problem, expected
        self.edits = edits
        self.repaired: str | None = None
        self.line, self.column = place(text, span.start)
        said = f"{problem}; {expected}" if expected else problem
        super().__init__(f"line {self.line}, column {self.column}: {said}", field="expression")

    @property
    def picture(self) -> str:
        """The line of the fault with a caret under it."""
        return picture(self.text, self.span)


def quoted(text: str) -> str:
    """User input in backticks, cut to what recognises it, without what a terminal would obey."""
    short = text if len(text) <= _MAX_QUOTED_CHARACTERS else text[: _MAX_QUOTED_CHARACTERS - 1] + _CUT
    return f"`{''.join(map(_drawn, short))}`"


def place(text: str, offset: int) -> Place:
    """The line and column of a code point, counted from 0 in the text."""
    before = text[:offset].replace("\r\n", "\n").replace("\r", "\n")
    line_start = before.rfind("\n") + 1
    return Place(before.count("\n") + 1, len(before) - line_start + 1)


def picture(text: str, span: Span) -> str:
    """Draw the line of a fault, shortened around it, and carets below: two lines of text.

    Wide characters take two columns and combining ones none, as terminals draw them; what would move the
    cursor or turn the direction of writing is drawn as a dot.
    """
    begin = max(text.rfind("\n", 0, span.start), text.rfind("\r", 0, span.start)) + 1
    end = min((at for at in (text.find(sign, span.start) for sign in "\r\n") if at >= 0), default=len(text))
    at, until = span.start - begin, max(span.start + 1, min(span.end, end)) - begin
    line = text[begin:end]
    first = max(0, at - _PICTURE_COLUMNS // 2) if len(line) > _PICTURE_COLUMNS else 0
    shown = line[first : first + _PICTURE_COLUMNS]
    head = _CUT if first else ""
    tail = _CUT if first + _PICTURE_COLUMNS < len(line) else ""
    before = sum(map(_width, shown[: at - first])) + len(head)
    marked = max(1, sum(map(_width, shown[at - first : until - first])))
    return f"{head}{''.join(map(_drawn, shown))}{tail}\n{' ' * before}{'^' * marked}"


def _drawn(sign: str) -> str:
    return sign if sign.isprintable() else " " if sign.isspace() else _NO_GLYPH


def _width(sign: str) -> int:
    if not sign.isprintable():
        return 1
    if unicodedata.combining(sign):
        return 0
    return 2 if unicodedata.east_asian_width(sign) in "WF" else 1
