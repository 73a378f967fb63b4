"""The forms in which texts are compared, for the index that stores them and for the evaluators alike.

    upper, lower   Python's `str.upper` and `str.lower`                                     (A9)
    folded         full Unicode case fold: `contains`, `startswith`
    plain          case fold, NFKD, without characters of category M, case fold again: `plain()`, search box

Of a text of ASCII alone PostgreSQL makes each of them by itself, under COLLATE "C". Of any other they are
stored, for no collation of a database agrees with Python.
"""

import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

BLANKS = " \0"
"""What pads a value at its end (PS3.5 6.2)."""

NAME_PADDING = BLANKS + "^"
"""What pads a person name, or one of its component groups, at its end (PS3.5 6.2.1)."""

GROUPS_PARTED_BY = "="
"""Parts the component groups of a person name: alphabetic, ideographic, phonetic (PS3.5 6.2.1)."""


class Forms(NamedTuple):
    """The forms of one text, in the order in which the index stores them."""

    upper: str
    lower: str
    folded: str
    plain: str


def plain(text: str) -> str:
    """A text without case and accents; what is done to a text before leaves it unchanged (A9)."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(each for each in decomposed if not unicodedata.category(each).startswith("M")).casefold()


def forms(text: str) -> Forms:
    """All forms of a text."""
    return Forms(text.upper(), text.lower(), text.casefold(), plain(text))


def name_groups(name: str) -> tuple[str, ...]:
    """The component groups of a person name that say anything, without padding."""
    groups = (group.rstrip(NAME_PADDING) for group in name.split(GROUPS_PARTED_BY))
    return tuple(group for group in groups if group)


def stored_forms(texts: Iterable[str], names: Iterable[str]) -> dict[str, Forms]:
    """The forms of all that a filter compares in texts and person names, where it is not of ASCII alone.

    That is each text, each component group and each whole name, without padding. Both evaluators read them,
    so that what the index has not described yet is unknown to both.
    """
    compared = {text.rstrip(BLANKS) for text in texts}
    for name in names:
        compared |= {name.rstrip(NAME_PADDING), *name_groups(name)}
    return {each: forms(each) for each in compared if not each.isascii()}
