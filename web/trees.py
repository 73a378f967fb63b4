"""Markup as trees of values: a script builds elements from them; in the browser no text becomes markup."""

from html.parser import HTMLParser
from typing import Any

_VOID = {"br", "img", "input", "path"}
"""Without an end tag, and `path` of an icon, which is written with a slash."""

Tree = list[Any]
"""`[tag, {attribute: value}, child, …]`; a child is a tree or a text."""


def tree_of(markup: str) -> Tree:
    """The one element of some markup that a template made."""
    reader = _Reader()
    reader.feed(markup)
    reader.close()
    [element] = reader.root[2:]
    return list(element)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root: Tree = ["", {}]
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element: Tree = [tag, {name: value or "" for name, value in attrs}]
        self._open[-1].append(element)
        if tag not in _VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            assert self._open.pop()[0] == tag, "a template closes what it opens"

    def handle_data(self, data: str) -> None:
        if data.strip() or "\n" not in data:
            self._open[-1].append(data)
