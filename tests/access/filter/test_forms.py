"""The forms of texts: what is stored of them, and what holds for every character of Unicode."""

import sys
import unicodedata
from collections.abc import Iterator
from itertools import chain

import pytest

from services.access.filter.forms import Forms, forms, name_groups, plain, stored_forms

FIRST_SURROGATE, LAST_SURROGATE = 0xD800, 0xDFFF


def characters() -> Iterator[str]:
    return map(chr, chain(range(FIRST_SURROGATE), range(LAST_SURROGATE + 1, sys.maxunicode + 1)))


DOTLESS_I = "ı"
"""The one letter that `upper` makes another letter: `I`."""


def test_the_plain_form_has_neither_case_nor_accents() -> None:
    assert ["muller", "angstrom", "strasse", "ι", "か"] == [
        plain(each) for each in ("MÜLLER", "Ångström", "Straße", "ΐ", "が")
    ]
    assert plain("Å") == plain("Å") == plain("A\u030a") == "a"


def test_upper_lower_and_case_fold_leave_the_plain_form_of_every_character_but_one() -> None:
    changed = set()
    for each in characters():
        folded = plain(each)
        forms_of_it = {each.upper(), each.lower(), each.casefold(), folded} - {each}
        if any(plain(form) != folded for form in forms_of_it):
            changed.add(each)

    assert {DOTLESS_I} == changed


def test_the_case_fold_of_upper_and_lower_is_the_case_fold_of_every_character_but_one() -> None:
    """SQL rests on it: it has the case fold of a text, and none of its upper form."""
    upper = {each for each in characters() if each.upper().casefold() != each.casefold()}
    lower = {each for each in characters() if each.lower().casefold() != each.casefold()}
    of_dotless_i = {each for each in characters() if DOTLESS_I in each.casefold()}

    assert ({DOTLESS_I}, set(), {DOTLESS_I}) == (upper, lower, of_dotless_i)
    assert DOTLESS_I.upper().casefold() == "i"


@pytest.mark.parametrize("other", ["Ω\u0345", "\u0301"])
def test_the_plain_form_of_a_text_is_that_of_its_parts(other: str) -> None:
    """A prefilter rests on it: what a text contains, its plain form contains plain."""
    for each in characters():
        if unicodedata.normalize("NFKD", each) != each or unicodedata.combining(each):
            assert plain(each + other) == plain(each) + plain(other)
            assert plain(other + each) == plain(other) + plain(each)


def test_a_name_has_component_groups_without_padding() -> None:
    assert ("Yamada^Tarou", "山田^太郎", "やまだ^たろう") == name_groups(
        "Yamada^Tarou^^^=山田^太郎 =やまだ^たろう"
    )
    assert ("山田",) == name_groups("=山田=")
    assert () == name_groups("^^= ^=")


def test_the_forms_of_what_is_not_ascii_are_stored_as_it_is_compared() -> None:
    stored = stored_forms(["Schädel  ", "CT head", "ß\0"], ["Roe^Jane", "Yamada=山田^ =", "İnan^ "])

    assert {each: forms(each) for each in ("Schädel", "ß", "山田", "Yamada=山田^ =", "İnan")} == stored
    assert Forms("SS", "ß", "ss", "ss") == stored["ß"]
