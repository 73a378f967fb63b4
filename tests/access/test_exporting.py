"""Lists as CSV: whole, in order, audited, and nothing in them that a spreadsheet obeys."""

import csv
import io
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import Exhausted, Invalid
from kernel.reading import PrivilegeLevel
from services.access.casecsv import csv_columns, harmless
from services.access.domain import User
from services.access.exporting import Exports
from services.access.received import StudyAttributes
from services.access.search import Listing, Order
from services.access.shown import Column
from tests.access.builders import a_study
from tests.access.conftest import Access
from tests.access.test_rows import a_full_case
from tests.clocks import NOON


async def file_of(
    access: Access, user: User, asked: Listing, *columns: str, most: int = 100
) -> list[list[str]]:
    """The cells of a file, read in pages of two; the last part says how many cases it has."""
    exports = Exports(access.questions, access.database, page=2, most=most)
    parts = [part async for part in exports.export_cases(user.login, "", asked, csv_columns(columns))]
    cells = list(csv.reader(io.StringIO("".join(part.text for part in parts).removeprefix("\ufeff"))))
    assert [part.case_count for part in parts] == [None] * (len(parts) - 1) + [len(cells) - 1]
    return cells


async def a_list(access: Access, *names: str) -> User:
    user, facility = await access.user(), await access.facility("North")
    await access.give(user, facility, PrivilegeLevel.VIEW)
    for minute, name in enumerate(names):
        attributes = StudyAttributes(patient_name=name, study_date="20261101")
        received_at = NOON + timedelta(minutes=minute)
        await access.case(facility, a_study(attributes=attributes, received_at=received_at, in_full=True))
    return user


async def details(access: Access, user: User) -> list[tuple[str, str]]:
    rows = await access.query(
        "select action, detail::text from audit_rows where actor = $1 order by id", user.login
    )
    return [tuple(row) for row in rows]


async def test_a_file_has_every_case_of_the_list_in_its_order_and_the_columns_that_were_named(
    access: Access,
) -> None:
    user = await a_list(access, "Doe^A", "Roe^B", "Moe^C", "Doe^D", "Doe^E")

    by_name = Listing(Order.PATIENT_NAME, descending=False, where="PatientName contains 'doe'")
    assert [
        ["patient_name", "study_date"],
        ["Doe^A", "20261101"],
        ["Doe^D", "20261101"],
        ["Doe^E", "20261101"],
    ] == (await file_of(access, user, by_name, "patient_name", "study_date"))
    assert 6 == len(await file_of(access, user, Listing(), "case_id"))


async def test_every_column_says_something(access: Access) -> None:
    user = await access.user()
    await a_full_case(access, user)

    head, first, _ = await file_of(access, user, Listing(order=Order.PRIORITY))
    assert ["case_id", *Column] == head
    assert all(first), dict(zip(head, first, strict=True))


@pytest.mark.proves("BEY-16", part="who took which list as a file")
async def test_who_takes_a_list_is_audited_with_how_many_and_without_what_they_searched(
    access: Access,
) -> None:
    user = await a_list(access, "Doe^A", "Roe^B", "Doe^C")

    await file_of(access, user, Listing(where="PatientName contains 'doe'", line="ct"), "patient_name")
    begun, done = await details(access, user)
    assert ["cases.export_begun", "cases.exported"] == [begun[0], done[0]]
    assert "PatientName" in done[1]
    assert '"columns": "patient_name"' in done[1]
    assert '"cases": 2' in done[1]
    assert "doe" not in begun[1] + done[1]


async def test_who_stops_half_way_is_audited_with_what_has_left(access: Access) -> None:
    user = await a_list(access, "A", "B", "C", "D", "E")
    exports = Exports(access.questions, access.database, page=2)

    parts = exports.export_cases(user.login, "", Listing(), csv_columns(["case_id"]))
    for _ in range(3):
        await anext(parts)
    await parts.aclose()

    [_, cut] = await details(access, user)
    assert ("cases.export_cut", True) == (cut[0], '"cases": 4' in cut[1])


async def test_a_list_that_is_too_long_is_refused_and_not_cut(access: Access) -> None:
    user = await a_list(access, "A", "B", "C", "D")

    assert 5 == len(await file_of(access, user, Listing(), most=4))
    with pytest.raises(Exhausted, match="more than 3 cases: search for fewer"):
        await file_of(access, user, Listing(), most=3)


async def test_who_saves_two_lists_at_once_waits_with_the_third(access: Access) -> None:
    user = await a_list(access, "A")
    exports = Exports(access.questions, access.database)
    one, other, third = [exports.export_cases(user.login, "", Listing(), ["case_id"]) for _ in range(3)]
    await anext(one)
    await anext(other)

    with pytest.raises(Exhausted, match="wait until one of them is"):
        await anext(third)
    await one.aclose()
    assert 3 == len([part async for part in exports.export_cases(user.login, "", Listing(), ["case_id"])])
    await other.aclose()


async def test_a_search_that_cannot_be_read_is_refused_before_anything_leaves(access: Access) -> None:
    user = await a_list(access)
    exports = Exports(access.questions, access.database)

    with pytest.raises(Invalid):
        await anext(exports.export_cases(user.login, "", Listing(where="Nothing = 1"), ["case_id"]))


FORMULAS = st.sampled_from(["=", "+", "-", "@", "\uff1d", "\t=", " =", "\u200b@", "\r\n+", "\ufeff-"])


@given(FORMULAS, st.text(max_size=20))
def test_no_cell_begins_a_formula(begin: str, rest: str) -> None:
    assert harmless(begin + rest).startswith("'")


@given(st.text(max_size=30))
def test_what_begins_no_formula_stays_but_for_line_breaks(text: str) -> None:
    shown = harmless(text)

    assert not any(each in shown for each in "\r\n\t\0\u2028\x85")
    assert shown.removeprefix("'") == text or not text.isprintable() or text.startswith("'")
