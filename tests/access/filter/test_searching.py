"""The search box: words to a filter."""

from datetime import date
from uuid import UUID

import pytest

from kernel.errors import Invalid
from services.access.filter.grammar import parse
from services.access.filter.names import Directory, bind, named
from services.access.filter.searching import MAX_CHARACTERS, MAX_WORDS, searched
from services.access.filter.tree import Constant
from services.access.filter.writing import write

TODAY = date(2026, 11, 27)
MAPLE, NORTH = UUID(int=1), UUID(int=2)
FACILITIES = {MAPLE: "Maple Stréet", NORTH: "North"}


def written(line: str) -> str:
    """What a line asks for, as a filter."""
    found = searched(line, TODAY, FACILITIES)
    return write(named(found, Directory({}, FACILITIES))) if found else ""


def anywhere(word: str) -> str:
    fields = ("PatientName", "StudyDescription", "ReferringPhysicianName")
    return " or ".join(f"plain({field}) contains '{word}'" for field in fields)


def number(text: str) -> str:
    return " or ".join(
        f"{field} startswith '{text}'" for field in ("PatientID", "AccessionNumber", "StudyID")
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", ""),
        ("  \t", ""),
        ("smith", anywhere("smith")),
        ("smith ct", f"({anywhere('smith')}) and ModalitiesInStudy = 'CT'"),
        ('"van der  Berg"', anywhere("van der  Berg")),
        ("“van der Berg”", anywhere("van der Berg")),
        ('"open phrase', anywhere("open phrase")),
        ("o'neil", anywhere("o''neil")),
        ("maple", f"{anywhere('maple')} or Facility in ('Maple Stréet')"),
        ("STREET", f"{anywhere('STREET')} or Facility in ('Maple Stréet')"),
        ("2026-11-21", "StudyDate = '2026-11-21'"),
        ("20261121", "StudyDate = '2026-11-21'"),
        ("2026-11", "StudyDate between '2026-11-01' and '2026-11-30'"),
        ("2024-02", "StudyDate between '2024-02-01' and '2024-02-29'"),
        ("2026-12", "StudyDate between '2026-12-01' and '2026-12-31'"),
        ("date:2026", "StudyDate between '2026-01-01' and '2026-12-31'"),
        ("Today", "StudyDate = '2026-11-27'"),
        ("yesterday", "StudyDate = '2026-11-26'"),
        ("-3d", "StudyDate >= '2026-11-24'"),
        ("2026", number("2026")),
        ("20261399", number("20261399")),
        ("id:2026-11", number("2026-11")),
        ("name:ct", "plain(PatientName) contains 'ct'"),
        ("ref:jones", "plain(ReferringPhysicianName) contains 'jones'"),
        ('desc:"t2 flair"', "plain(StudyDescription) contains 't2 flair'"),
        ("mod:xx", "ModalitiesInStudy = 'XX'"),
        ("fac:NORTH", "Facility in ('North')"),
        ("fac:nowhere", "false"),
        ("status:read", "StudyStatusID = 'READ'"),
        ("t2:flair", anywhere("t2:flair")),
        ('"foo:bar"', anywhere("foo:bar")),
        ("name:", anywhere("name:")),
    ],
)
def test_a_line_asks_for(line: str, expected: str) -> None:
    assert expected == written(line)


@pytest.mark.parametrize("line", ["smith", "maple ct -3d", "fac:maple id:12 date:2026", 'o\'neil "a b"'])
def test_what_is_shown_as_a_filter_is_read_as_the_same_tree(line: str) -> None:
    found = searched(line, TODAY, FACILITIES)
    text = written(line)

    assert bind(text, parse(text, is_of_group=True), Directory({}, FACILITIES)) == found


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("date:soon", "knows no date `soon`"),
        ("date:2026-13", "knows no date"),
        ("status:done", "knows no status `done`: expected one of DISREGARD"),
        (
            "nam:smith",
            "`search` knows no word `nam:`: the nearest is `name:`, and all are name: id: ref: desc: mod: "
            'fac: date: status:; to look for such a text itself, quote it, as in `"nam:smith"`',
        ),
        ('x:"a b"', 'knows no word `x:`: expected one of name: .* as in `"x:a b"`'),
        ("\u0301", "nothing to look for"),
        ('""', "nothing to look for"),
        ("a\0b", "a character that no value has"),
        ("x" * (MAX_CHARACTERS + 1), "too long"),
        ("a " * (MAX_WORDS + 1), "too many words"),
    ],
)
def test_what_asks_for_nothing_sensible_says_why(line: str, problem: str) -> None:
    with pytest.raises(Invalid, match=problem) as refused:
        written(line)

    assert refused.value.field == "search"


def test_nothing_is_found_at_facilities_that_one_does_not_know() -> None:
    assert searched("fac:maple", TODAY, {NORTH: "North"}) == Constant(False)
