"""Why a filter shows a case or hides it, clause by clause (BEY-1)."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
import yaml

from kernel.ids import UserId
from services.access.filter.evaluate import compile as compiled
from services.access.filter.fields import FIELD_BY_NAME, Kind, Operator
from services.access.filter.grammar import parse
from services.access.filter.near import near
from services.access.filter.reader import Reader
from services.access.filter.trace import Clause, Part, columns, holds, trace
from services.access.filter.tree import Bound, Constant, Expression, Predicate
from services.access.filter.writing import write
from tests.access.filter.cases import BERLIN, FACILITIES, NOW, USERS, draw_case, row
from tests.access.filter.draw import draw_filter

CASES = yaml.safe_load((Path(__file__).parents[2] / "cases" / "filter" / "traces.yaml").read_text())
VOS = Reader(UserId(USERS["user0"]), "user0", True, BERLIN, True)
TRUTHS = {True: "yes", False: "no", None: "unknown"}
WORDS = {Part.ALL: "all of", Part.ANY: "any of", Part.NOT: "not"}
NAMES: Mapping[UUID, str] = {user_id: login for login, user_id in USERS.items()}


def an_empty_case() -> dict[str, Any]:
    """With nothing in it but what a case always has."""
    drawn = draw_case(Random(1))
    empty: dict[type, Any] = {str: "", list: [], tuple: (), dict: {"group": None, "facility": None}}
    case = {keyword: empty.get(type(value)) for keyword, value in drawn.items()}
    of_every_case = ("zone of facility", "created", "instances", "series", "facility")
    return (
        case
        | {each: drawn[each] for each in of_every_case}
        | {
            "priority": "NORMAL",
            "reported": {"group": [], "facility": []},
            "reported at lock": [],
            "described": True,
        }
    )


def traced(expression: Expression, values: Mapping[str, Any], reader: Reader = VOS) -> list[Clause]:
    read = {column: values.get(column) for column in columns(expression, reader)}
    return list(trace(expression, reader, read, NOW, NAMES))


def line(clause: Clause) -> str:
    said = WORDS.get(clause.part) or write(clause.expression)
    values = f" ~ {', '.join(clause.values)}" if clause.values else ""
    return f"{TRUTHS[clause.truth]} {said}{values}"


@pytest.mark.proves("BEY-1", part="clauses")
@pytest.mark.parametrize("entry", CASES, ids=lambda entry: entry["filter"])
def test_each_clause_is_told_with_its_truth_the_value_of_the_case_and_what_nearly_showed_it(
    entry: dict[str, Any],
) -> None:
    found = traced(parse(entry["filter"], is_of_group=True), row(an_empty_case() | entry["case"]))

    assert [line(clause) for clause in found] == entry["clauses"]
    assert [write(each) for clause in found for each in clause.misses] == entry.get("near", [])


@pytest.mark.proves("BEY-1", part="clauses")
def test_what_is_told_is_what_decides() -> None:
    """Of random filters and cases: the first clause is the filter, and each near miss would show the case."""
    random = Random(11)
    near_misses = 0
    for _ in range(300):
        expression = draw_filter(random)
        reader = Reader(VOS.user_id, "user0", random.random() < 0.5, BERLIN, True)
        for _ in range(5):
            values = row(draw_case(random))
            found = traced(expression, values, reader)
            whole = compiled(expression, reader)
            decided = whole.holds([values.get(column) for column in whole.columns], NOW)
            assert found[0].truth is decided
            for clause in found:
                assert decided is not True or not clause.misses
                near_misses += len(clause.misses)
                if isinstance(clause.expression, Predicate) and not clause.values:
                    is_null = clause.expression.operator is Operator.IS_NULL
                    assert is_null or clause.truth is None
    assert near_misses > 5


def test_a_near_miss_differs_in_one_clause_and_shows_the_case() -> None:
    expression = parse("PatientAge < '18Y' and (Modality = 'ct' or PatientSex = 'f')", is_of_group=True)
    case = an_empty_case() | {"PatientAge": "017Y", "Modality": ["CT"], "PatientSex": "F"}
    values = row(case)

    found = traced(expression, values)

    misses = {write(each) for clause in found for each in clause.misses}
    assert "upper(ModalitiesInStudy) = 'CT'" in misses
    assert "upper(PatientSex) = 'F'" in misses
    assert not any(miss.startswith("PatientAge") for miss in misses)


def test_a_predicate_that_stands_twice_is_changed_in_one_place() -> None:
    expression = parse("PatientAge < '18Y' and PatientAge < '18Y'", is_of_group=True)

    found = traced(expression, row(an_empty_case() | {"PatientAge": "018Y"}))

    assert not any(clause.misses for clause in found)


@pytest.mark.proves("A59", part="explanations")
def test_the_facility_side_is_told_nothing_of_an_assignment() -> None:
    """Whoever wrote the filter: of the group's values there are none for them."""
    asked = Predicate(FIELD_BY_NAME["assignedtouser"], Operator.EQ, (Bound(USERS["user0"], "user0"),))
    outside = Reader(VOS.user_id, "user0", False, ZoneInfo("UTC"), True)
    values = row(an_empty_case() | {"assignee": USERS["user0"]})

    (inside_told,), (outside_told,) = traced(asked, values), traced(asked, values, outside)

    assert (inside_told.truth, inside_told.values) == (True, ("user0",))
    assert (outside_told.truth, outside_told.values) == (None, ())


def test_facilities_and_users_are_told_by_todays_names_and_times_in_the_zone_of_the_user() -> None:
    values = row(an_empty_case() | {"created": NOW - timedelta(days=1)})
    at_a_facility = Predicate(FIELD_BY_NAME["facility"], Operator.EQ, (Bound(FACILITIES[0]),))
    created = parse("age(CreatedTime) < '3d'", is_of_group=True)

    (facility,) = trace(at_a_facility, VOS, values, NOW, {values["facility_id"]: "North"})
    (nameless,) = trace(at_a_facility, VOS, values, NOW, {})
    (at,) = trace(created, VOS, values, NOW, {})

    assert (facility.values, nameless.values) == (("North",), (f"#{values['facility_id']}",))
    assert at.values == ((NOW - timedelta(days=1)).astimezone(BERLIN).isoformat(" ", "seconds"),)


def test_constants_have_no_neighbours_and_no_values() -> None:
    (clause,) = trace(Constant(False), VOS, {}, NOW, {})

    assert (clause.part, clause.truth, clause.values, clause.misses) == (Part.CONSTANT, False, (), ())
    assert holds(Constant(True), VOS, {}, NOW) is True


def test_every_neighbour_is_a_filter_that_the_language_can_write() -> None:
    random = Random(5)
    seen = 0
    for _ in range(2000):
        expression = draw_filter(random, depth=0)
        if isinstance(expression, Predicate) and expression.field.kind in (Kind.TEXT, Kind.NAME):
            for other in near(expression):
                written = write(other)
                assert write(parse(written, is_of_group=True)) == written
                seen += 1
    assert seen > 100
