"""`readroom patient`: what somebody reads before and after they say that two patients are one person."""

import uuid
from datetime import UTC, datetime

import pytest

from readroom.patients import known_lines, linked_lines
from tests.readroom.conftest import Run
from wire.access.v1.access_pb2 import (
    DescribePatientResponse,
    LinkPatientsResponse,
    PatientLink,
    PatientRecord,
)

NORTH = str(uuid.UUID(int=1))
LINK_ID = str(uuid.UUID(int=2))
JANE = PatientRecord(
    patient_id="P-1", facility_id=NORTH, patient_name="Doe^Jane", patient_birth_date="19700131"
)
REGIONAL = PatientRecord(patient_id="R-7", issuer="REGION", patient_name="Roe^Jane")


def named(facility_id: str) -> str:
    return {NORTH: "North"}[facility_id]


def a_link() -> PatientLink:
    link = PatientLink(link_id=LINK_ID, linked_by="ada")
    link.linked_at.FromDatetime(datetime(2026, 11, 27, 12, tzinfo=UTC))
    return link


def linked(*, link: PatientLink | None, gains: dict[str, int]) -> list[str]:
    told = LinkPatientsResponse(record=JANE, other_record=REGIONAL, link=link)
    told.gains.extend(
        LinkPatientsResponse.SightGained(login=login, cases=cases) for login, cases in gains.items()
    )
    return list(linked_lines(told, named))


def test_a_preview_shows_both_identities_and_who_would_see_more() -> None:
    assert linked(link=None, gains={"vos": 3, "hull": 1}) == [
        "would be linked:",
        "  Doe^Jane, born 19700131, P-1 of North",
        "  Roe^Jane, R-7 of REGION",
        "`vos` would see 3 more",
        "`hull` would see 1 more",
    ]


def test_a_link_says_how_it_is_taken_back() -> None:
    assert linked(link=a_link(), gains={})[3:] == [
        "nobody whom you manage sees more",
        f"to take it back: readroom patient unlink {LINK_ID}",
    ]


def test_what_is_linked_is_shown_with_who_said_so_and_what_is_elsewhere_is_counted() -> None:
    told = DescribePatientResponse(record=JANE, linked=[REGIONAL], links=[a_link()], left_out=2)

    assert list(known_lines(told, named)) == [
        "Doe^Jane, born 19700131, P-1 of North",
        "linked with Roe^Jane, R-7 of REGION",
        f"link {LINK_ID}: by `ada`, 2026-11-27 12:00:00 UTC",
        "linked with 2 more, whom you do not administer or of whom you see no case",
    ]
    assert list(known_lines(DescribePatientResponse(), named)) == [
        "the case has no patient ID, so nothing says whose it is"
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", str(uuid.uuid4())),
        ("link", str(uuid.uuid4()), str(uuid.uuid4())),
        ("link", str(uuid.uuid4()), str(uuid.uuid4()), "--preview"),
        ("unlink", str(uuid.uuid4())),
    ],
)
def test_what_does_not_exist_is_not_found(readroom: Run, arguments: tuple[str, ...]) -> None:
    readroom("login", "admin")

    answer = readroom("patient", *arguments)

    assert (3, "") == (answer.code, answer.out)
    assert f"`{arguments[1]}`" in answer.err
