"""Filters as SQL: parameters for whatever was written, one text for one shape, and indexes that serve it."""

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from random import Random
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from services.access.derived import DERIVED
from services.access.filter.prefilter import prefilter
from services.access.filter.sql import Condition, to_sql
from tests.access.filter.cases import NOW, draw_case, row
from tests.access.filter.draw import draw_filter
from tests.access.filter.test_agreement import insert
from tests.access.filter.test_evaluate import READER, bound


def condition(text: str, first_parameter: int = 1) -> Condition:
    return to_sql(bound(text), READER, NOW, alias="c", first_parameter=first_parameter)


SAME_SHAPE = [
    ("PatientName = 'Doe^Jane'", "PatientName = ' x'' or true --'"),
    ("upper(StudyDescription) like '%A%'", "upper(StudyDescription) like '_\\%\\_ b'"),
    ("PatientID in ('a', 'b')", "PatientID in ('a', 'b', 'c', 'd')"),
    ("PatientAge < '18Y'", "PatientAge < '9Y'"),
    ("age(StudyDate) < '3d'", "age(StudyDate) < '9999y'"),
    ("StudyStatusID = 'READ'", "StudyStatusID in ('ASSIGNED', 'IN_TRANSMIT')"),
    ("Facility = 'North'", "Facility in ('north', 'NORTH')"),
    ("AssignedToUser = '$user'", "AssignedToUser = 'user2'"),
    (
        "CreatedTime between '2026-11-01' and '2026-11-02'",
        "CreatedTime between '1000-01-01' and '9999-12-30'",
    ),
]


@pytest.mark.proves("SEC-13", part="never string-built SQL")
@pytest.mark.parametrize(("one", "other"), SAME_SHAPE)
def test_the_text_is_a_function_of_the_shape(one: str, other: str) -> None:
    assert condition(one).text == condition(other).text
    assert condition(one).parameters != condition(other).parameters or "acility" in one


@pytest.mark.proves("SEC-13", part="never string-built SQL")
def test_nothing_that_was_written_is_in_the_text() -> None:
    written = "zq'x"
    quoted = written.replace("'", "''")
    text = " and ".join(
        f"{operand} {operator} '{quoted}'"
        for operand in ("PatientName", "upper(InstitutionName)", "plain(StudyDescription)", "PhysicianNames")
        for operator in ("=", "like", "contains", "startswith")
    )
    found = condition(text)

    assert "zq" not in found.text.lower()
    assert found.parameters.count(written) > 3
    assert "zq" not in str(prefilter(bound(text), alias="c", first_parameter=1, derived=1)[:1])  # type: ignore[index]


def test_parameters_are_numbered_from_where_the_statement_is() -> None:
    found = condition("PatientID = 'a' and PatientAge between '1M' and '2Y'", first_parameter=7)

    assert found.parameters == ("a", 1, 2)
    assert all(number in found.text for number in ("$7::text", "$8::integer", "$9::integer"))
    assert "$1:" not in found.text


def test_the_same_filter_is_the_same_text_at_any_time() -> None:
    random = Random(5)
    for expression in (draw_filter(random) for _ in range(200)):
        texts = {
            to_sql(expression, READER, NOW + timedelta(hours=hours), alias="c", first_parameter=1).text
            for hours in (0, 13, 900)
        }
        assert len(texts) == 1


@pytest.mark.parametrize(
    ("text", "demanded"),
    [
        ("PatientName contains 'Müller'", ["%muller%"]),
        ("PatientName like 'M%ll_r^%'", None),
        ("PatientName like 'Mül%ler_'", ["%mul%ler%"]),
        ("PatientName in ('Doe^J', 'Roe^J')", ["%doe^j%", "%roe^j%"]),
        ("StudyDescription like '%100\\%%'", ["%100\\%%"]),
        ("PatientID = 'aBc' and Modality = 'CT' and PatientAge < '18Y'", ["abc%"]),
        ("PatientID = 'abc' and (PatientName = 'Doe' or StudyID = 'xyz')", ["abc%", "%doe%", "xyz%"]),
        ("AccessionNumber startswith '10_' or StudyID in ('abc', 'Äbc')", ["10\\_%", "abc%", "äbc%"]),
        ("upper(PatientID) = 'ABC'", ["%abc%"]),
        ("PatientID contains 'abc'", ["%abc%"]),
        ("PatientID = 'abc' or PatientAge < '18Y'", None),
        ("not PatientID = 'abc'", None),
        ("PatientID != 'abc'", None),
        ("PatientID > 'abc'", None),
        ("PatientID is null", None),
        ("PatientID = 'ab'", None),
        ("true", None),
    ],
)
def test_the_prefilter_demands_texts_that_every_case_of_the_filter_has(
    text: str, demanded: list[str] | None
) -> None:
    found = prefilter(bound(text), alias="c", first_parameter=4, derived=1)

    assert demanded == (list(found.parameters) if found else None)


@pytest.fixture
async def connection(
    fresh_database: Callable[[str], str],
) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """Too few rows for the planner to think of an index, so it is told to."""
    connection, random = await asyncpg.connect(fresh_database("access")), Random(7)
    for number in range(300):
        await insert(connection, UUID(int=number), row({**draw_case(random), "described": True}))
    await connection.execute("analyze cases; set enable_seqscan = off")
    yield connection
    await connection.close()


async def test_indexes_serve_what_selects(connection: Any) -> None:
    for text, used, searches in (
        ("Facility = 'North' and CreatedTime > '2026-10-01'", "(facility_id = ANY", False),
        ("AssignedToUser = '$user'", "cases_by_assignee", False),
        ("PatientName contains 'müller'", "cases_by_text", True),
        ("PatientID startswith 'MS44'", "cases_by_patient_id", True),
        ("AccessionNumber = 'A1234' or StudyID startswith '77a'", "cases_by_dicom_study_id", True),
        ("upper(PatientName) like '%MULLER%' or StudyDescription contains 'research'", "cases_by_text", True),
    ):
        found = condition(text)
        demanded, parameters = found.text, list(found.parameters)
        if searches:
            more = prefilter(bound(text), alias="c", first_parameter=1 + len(parameters), derived=DERIVED)
            assert more is not None
            demanded, parameters = f"{demanded} and {more.text}", [*parameters, *more.parameters]
        plan = await connection.fetch(f"explain select case_id from cases c where {demanded}", *parameters)
        assert used in str(plan), plan
