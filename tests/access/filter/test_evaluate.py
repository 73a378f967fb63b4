"""Filters as nested functions: logic of three values, what is absent, what is read, and for whom."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from random import Random
from typing import Any
from uuid import UUID

import pytest

from kernel.ids import UserId
from services.access.derived import DERIVED
from services.access.filter import evaluate
from services.access.filter.fields import FIELD_BY_NAME, FIELDS, Operator
from services.access.filter.grammar import parse
from services.access.filter.names import Directory, bind
from services.access.filter.reader import Reader
from services.access.filter.tree import And, Bound, Constant, Expression, Not, Or, Predicate
from tests.access.filter.cases import BERLIN, NOW, USERS, draw_case, row
from tests.access.filter.draw import draw_predicate

READER = Reader(UserId(USERS["user1"]), "user1", is_of_group=True, zone=BERLIN, as_of_lock=False)
FACILITY_SIDE = replace(READER, is_of_group=False)
DIRECTORY = Directory({user_id: login for login, user_id in USERS.items()}, {UUID(int=100): "North"})

NOTHING: dict[str, Any] = {
    **dict.fromkeys((column for field in FIELDS for column in field.columns), ""),
    **row({**draw_case(Random(1)), "described": False}),
}
"""A row of which nothing is known that may be absent."""
NOTHING |= {column: type(value)() for column, value in NOTHING.items() if isinstance(value, str | list)}
NOTHING |= dict.fromkeys(
    (
        "study_day", "study_time_of_day", "study_at", "birth_day", "age_years", "age_months", "age_weeks",
        "age_days", "last_received_at", "text_forms", "assignee_id", "locked_until", "status_at_lock",
        "status_group", "status_facility",
    )
)  # fmt: skip
NOTHING["derived"] = DERIVED
ALWAYS_THERE = {
    "CreatedTime", "NumberOfStudyRelatedInstances", "NumberOfStudyRelatedSeries", "Facility", "Priority",
}  # fmt: skip


def bound(text: str) -> Expression:
    return bind(text, parse(text, is_of_group=True), DIRECTORY)


def holds(expression: Expression | str, values: dict[str, Any] | None = None, reader: Reader = READER) -> Any:
    expression = bound(expression) if isinstance(expression, str) else expression
    compiled = evaluate.compile(expression, reader)
    stored = {**NOTHING, **(values or {})}
    return compiled.holds([stored[column] for column in compiled.columns], NOW)


# Logic

TRUE = Predicate(FIELD_BY_NAME["patientid"], Operator.IS_NULL)
TERMS: dict[bool | None, Expression] = {
    True: TRUE,
    False: replace(TRUE, negated=True),
    None: bound("PatientID = 'a'"),
}


@pytest.mark.parametrize("truths", [*product(TERMS, repeat=2), *product(TERMS, repeat=3)])
def test_and_and_or_are_those_of_sql(truths: tuple[bool | None, ...]) -> None:
    terms = tuple(TERMS[truth] for truth in truths)

    assert holds(And(terms)) is (False if False in truths else None if None in truths else True)
    assert holds(Or(terms)) is (True if True in truths else None if None in truths else False)


@pytest.mark.parametrize(("truth", "contrary"), [(True, False), (False, True), (None, None)])
def test_the_contrary_of_unknown_is_unknown(truth: bool | None, contrary: bool | None) -> None:
    term = TERMS[truth]

    assert holds(Not(term)) is contrary
    assert isinstance(term, Predicate)
    assert holds(replace(term, negated=not term.negated)) is contrary


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("true and PatientID = 'a'", "PatientID = 'a'"),
        ("PatientID = 'a' or false", "PatientID = 'a'"),
        ("PatientID = 'a' and not true", "false"),
        ("PatientID = 'a' or (true and not false)", "true"),
        ("not (true and PatientID = 'a' and true)", "not PatientID = 'a'"),
        ("(true and true) or (false or false)", "true"),
    ],
)
def test_what_decides_or_changes_nothing_is_left_out(text: str, left: str) -> None:
    assert evaluate.folded(bound(text)) == bound(left)


def test_a_constant_reads_nothing() -> None:
    assert evaluate.compile(And((Constant(value=False), TRUE)), READER).columns == ()
    assert holds("false") is False
    assert holds("true") is True


# What is absent


@pytest.mark.proves("ACC-15", part="what is unknown is hidden")
@pytest.mark.parametrize("field", [each for each in FIELDS if each.keyword not in ALWAYS_THERE], ids=str)
def test_every_predicate_on_what_is_absent_is_unknown_but_that_it_is(field: Any) -> None:
    random = Random(field.keyword)
    drawn = [draw_predicate(random, field) for _ in range(200)]
    assert {each.operator for each in drawn} >= {Operator.EQ, Operator.IS_NULL}

    for asked in drawn:
        if asked.operator is Operator.IS_NULL:
            assert holds(asked) is not asked.negated
        else:
            assert holds(asked) is None
            assert holds(Not(asked)) is None


@pytest.mark.parametrize("padding", ["", " ", "   "])
def test_padding_alone_is_absent(padding: str) -> None:
    assert holds("PatientID is null", {"patient_id": padding}) is True
    assert holds("InstitutionName is null", {"institution_names": [padding]}) is True
    assert holds("PatientName is null", {"patient_name": f"^^{padding}=^{padding}="}) is True
    assert holds("PatientName != 'Doe'", {"patient_name": f"={padding}"}) is None


@pytest.mark.parametrize("text", ["PatientAge is null", "StudyDescription is null", "ReceivedTime is null"])
def test_what_is_not_there_is_not_known_to_be_absent_until_the_case_was_described(text: str) -> None:
    assert holds(text, {"derived": 0}) is None
    assert holds(f"not {text}", {"derived": 0}) is None
    assert holds(text) is True


def test_who_reads_a_case_is_told_at_once() -> None:
    assert holds("AssignedToUser is null and LockedBy is null", {"derived": 0}) is True


# What is read


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("PatientID = 'a' and PatientID != 'b'", "patient_id"),
        ("PatientName = 'a'", "patient_name"),
        ("upper(PatientName) = 'A'", "patient_name text_forms"),
        ("PatientName contains 'a'", "patient_name text_forms"),
        ("PatientAge < '18Y'", "age_years"),
        ("PatientAge between '1M' and '2Y'", "age_months age_years"),
        ("PatientAge is null", "age_years age_months age_weeks age_days derived"),
        ("StudyDateTime < '2026-11-01'", "study_day study_time_of_day"),
        ("StudyStatusID = 'READ'", "status_group"),
        ("AssignedToUser = '$user'", "assignee_id"),
        ("LockedBy is null", "locked_by locked_until"),
        ("PhysicianNames = 'a'", "referring_physician_name requesting_physician"),
    ],
)
def test_a_filter_reads_the_columns_that_it_names(text: str, columns: str) -> None:
    assert set(evaluate.compile(bound(text), READER).columns) == set(columns.split())


def test_a_filter_reads_the_side_of_its_reader() -> None:
    values = {"status_group": "ASSIGNED", "status_facility": "READY_TO_READ"}

    assert holds("StudyStatusID = 'ASSIGNED'", values) is True
    assert holds("StudyStatusID = 'ASSIGNED'", values, FACILITY_SIDE) is False
    assert evaluate.compile(bound("StudyStatusID = 'READ'"), FACILITY_SIDE).columns == ("status_facility",)


# For whom


@pytest.mark.proves("ACC-28", part="as Check decides")
@pytest.mark.proves("ACC-29", part="as Check decides")
def test_a_filter_for_assigned_cases_shows_those_of_the_user() -> None:
    theirs, others = {"assignee_id": USERS["user1"]}, {"assignee_id": USERS["user2"]}

    for text in ("AssignedToUser = '$user'", "AssignedToUser = '$USER'", "AssignedToUser = 'User1'"):
        assert [True, False, None] == [holds(text, each) for each in (theirs, others, {})]


@pytest.mark.proves("ACC-28", part="the facility side is not told")
@pytest.mark.parametrize("asks", ["= '$user'", "is null", "!= 'user2'"])
def test_the_facility_side_learns_nothing_of_who_is_assigned(asks: str) -> None:
    text = f"AssignedToUser {asks}"
    for assignee in (None, *USERS.values()):
        assert holds(text, {"assignee_id": assignee}, FACILITY_SIDE) is None
    assert evaluate.compile(bound(text), FACILITY_SIDE).columns == ()


@pytest.mark.parametrize("names", [Bound(UUID(int=9)), *parse("Facility = 'x'", is_of_group=True).literals])  # type: ignore[union-attr]
def test_a_filter_that_names_somebody_by_no_id_is_not_evaluated(names: Any) -> None:
    asked = Predicate(FIELD_BY_NAME["lockedby"], Operator.EQ, (names,))

    with pytest.raises(ValueError, match="not bound"):
        evaluate.compile(asked, READER)


# Locks

LIVE, ENDED = NOW + timedelta(minutes=1), NOW


@pytest.mark.parametrize(("until", "expected"), [(LIVE, "user1"), (ENDED, None), (None, None)])
def test_a_case_is_locked_while_the_lock_lives(until: datetime | None, expected: str | None) -> None:
    values = {"locked_by": "user1", "locked_until": until}

    assert holds("LockedBy is null", values) is (expected is None)
    assert holds("LockedBy = 'USER1'", values) is (None if expected is None else True)


def test_for_the_holder_of_a_live_lock_the_reading_counts_as_it_was_when_the_lock_began() -> None:
    """Else they lose the case by drafting it."""
    values = {
        "locked_by": "user1",
        "locked_until": LIVE,
        "status_group": "DICTATED",
        "status_at_lock": "READY_TO_READ",
        "reported_types_group": ["FINAL"],
        "reported_types_at_lock": [],
    }
    text = "StudyStatusID = 'READY_TO_READ' and ReportedTypes is null and LockedBy is null"
    holder = replace(READER, as_of_lock=True)

    assert holds(text, values, holder) is True
    assert holds(text, values, replace(holder, login="user2")) is False
    assert holds(text, values | {"locked_until": ENDED}, holder) is False
    assert holds(text, values, READER) is False


# Times


def test_a_time_without_a_zone_is_that_of_the_reader() -> None:
    """Midnight in Berlin is 23:00 of the day before in UTC, in winter."""
    at = {"received_at": datetime(2026, 11, 20, 23, tzinfo=UTC)}

    assert holds("CreatedTime >= '2026-11-21'", at) is True
    assert holds("CreatedTime > '2026-11-21'", at) is False
    assert holds("CreatedTime = '2026-11-21 00:00'", at) is True


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("age(CreatedTime) < '3d'", False),
        ("age(CreatedTime) <= '3d'", True),
        ("age(CreatedTime) >= '72h'", True),
        ("age(CreatedTime) > '3d'", False),
        ("age(CreatedTime) between '2d' and '3d'", True),
        ("age(CreatedTime) between '73h' and '9d'", False),
    ],
)
def test_an_age_is_the_time_since(text: str, expected: bool) -> None:
    assert holds(text, {"received_at": NOW - timedelta(days=3)}) is expected


@pytest.mark.parametrize("text", ["< '9999y'", "<= '9999y'", "> '0h'", ">= '0h'", "between '0h' and '9999y'"])
def test_what_is_to_come_satisfies_no_age(text: str) -> None:
    assert holds(f"age(CreatedTime) {text}", {"received_at": NOW + timedelta(microseconds=1)}) is False
    assert holds(f"age(CreatedTime) {text}", {"received_at": NOW - timedelta(microseconds=1)}) is True
