"""Explain and ExplainList of users who have a filter (BEY-1, ACC-15)."""

from collections.abc import Sequence
from random import Random
from typing import Any
from uuid import UUID

import pytest

from kernel.errors import Invalid
from kernel.events import CasePlaced
from kernel.ids import CaseId
from kernel.reading import PrivilegeLevel
from services.access.accessfilter import Historical
from services.access.domain import Path, Permission, PermissionGrant, Role
from services.access.explain import Explanation, Reason
from services.access.explained import MAX_CLAUSE_CHARACTERS, MAX_VALUES
from services.access.filter.writing import write
from services.access.received import StudyAttributes
from tests.access.builders import a_study, a_user
from tests.access.conftest import ADMIN, Access
from tests.access.filter.cases import draw_case
from tests.access.filter.draw import draw_filter
from tests.access.service import Service
from tests.access.test_explaining import explained, reasons
from tests.access.test_filters import filtered, save
from tests.wait import eventually
from wire.access.v1 import access_pb2 as pb

CHILD_ONLY = "PatientAge < '18Y'"


def a_patient(**attributes: str) -> Any:
    values = {"patient_name": "Doe^Jane", "study_date": "20261101", "study_description": "CT head"}
    return a_study(attributes=StudyAttributes(**values | attributes))


def of_18_years(**attributes: str) -> Any:
    return a_patient(patient_birth_date="20081015", **attributes)


def told_clauses(told: Explanation) -> list[tuple[str, bool | None, Sequence[str], Sequence[str]]]:
    assert told.filter is not None
    return [(each.text, each.truth, [*each.values], [*each.near]) for each in told.filter.clauses]


async def seen_by_admin(access: Access, facility: Any) -> None:
    """The administrator sees the facility's cases themself, so they are told their values."""
    await access.give(access.admin, facility, PrivilegeLevel.VIEW)


@pytest.mark.proves("BEY-1", part="clauses")
async def test_whom_the_filter_hides_a_case_from_is_told_which_clause_and_what_nearly_showed_it(
    access: Access,
) -> None:
    facility = await access.facility()
    await seen_by_admin(access, facility)
    case_id = await access.case(facility, of_18_years())
    jane = await filtered(access, facility, CHILD_ONLY)

    told = await explained(access, jane, case_id)

    assert not told.decision.allowed
    assert reasons(told)[Path.PRIVILEGE] is Reason.FILTER
    assert told_clauses(told) == [(CHILD_ONLY, False, ["18Y"], ["PatientAge <= '18Y'"])]
    await save(access, jane, "PatientAge <= '18Y'")
    told = await explained(access, jane, case_id)
    assert (told.decision.allowed, reasons(told)[Path.PRIVILEGE]) == (True, Reason.OPEN)
    assert told_clauses(told) == [("PatientAge <= '18Y'", True, ["18Y"], [])]


@pytest.mark.proves("A73", part="values of clauses")
async def test_who_does_not_see_the_case_is_told_truths_and_no_values(access: Access) -> None:
    """A near miss tells a value too."""
    facility = await access.facility()
    case_id = await access.case(facility, of_18_years())
    jane = await filtered(access, facility, CHILD_ONLY)

    told = await explained(access, jane, case_id)

    assert told_clauses(told) == [(CHILD_ONLY, False, [], [])]
    assert told.filter is not None
    assert not told.filter.values_shown
    await access.folders.grant_case(ADMIN, case_id, access.admin.id)
    told = await explained(access, jane, case_id)
    assert told_clauses(told)[0][2] == ["18Y"]


async def test_what_the_case_does_not_have_is_unknown(access: Access) -> None:
    facility = await access.facility()
    await seen_by_admin(access, facility)
    case_id = await access.case(facility, a_patient())
    jane = await filtered(access, facility, f"not {CHILD_ONLY} and Modality = 'CT'")

    told = await explained(access, jane, case_id)

    assert told.filter is not None
    found = [(each.depth, each.truth) for each in told.filter.clauses]
    assert found == [(0, None), (1, None), (2, None), (1, True)]
    assert not told.decision.allowed


async def test_a_form_is_told_as_what_it_says_and_together_with_the_expression(access: Access) -> None:
    facility = await access.facility("North")
    await seen_by_admin(access, facility)
    case_id = await access.case(facility, of_18_years(referring_physician_name="Okafor^Ben"))
    jane = await filtered(access, facility, CHILD_ONLY)
    await save(
        access,
        jane,
        CHILD_ONLY,
        form={"referring_physicians": ["okafor"], "facilities": [str(facility.id)]},
    )

    told = await explained(access, jane, case_id)

    assert {(text, truth) for text, truth, *_ in told_clauses(told)} >= {
        ("ReferringPhysicianName contains 'okafor'", True),
        ("Facility in ('North')", True),
        (CHILD_ONLY, False),
    }


async def test_a_filter_that_no_longer_parses_is_told_so(access: Access) -> None:
    facility = await access.facility()
    case_id = await access.case(facility)
    jane = await filtered(access, facility, CHILD_ONLY)
    await access.query("update user_filters set expression = 'NoSuchField = 1' where user_id = $1", jane.id)
    await access.query("update users set version = version + 1 where user_id = $1", jane.id)

    told = await explained(access, jane, case_id)

    assert told.filter is not None
    assert (told.filter.is_broken, told.filter.clauses) == (True, ())
    assert reasons(told)[Path.PRIVILEGE] is Reason.FILTER


async def test_a_filter_closes_no_other_path(access: Access) -> None:
    facility = await access.facility()
    case_id = await access.case(facility, of_18_years())
    jane = await filtered(access, facility, CHILD_ONLY)
    await access.folders.grant_case(ADMIN, case_id, jane.id)

    told = await explained(access, jane, case_id)

    assert (told.decision.allowed, told.decision.paths) == (True, (Path.GRANT,))
    assert (reasons(told)[Path.PRIVILEGE], reasons(told)[Path.GRANT]) == (Reason.FILTER, Reason.OPEN)


async def test_somebody_whom_a_manager_does_not_know_is_told_by_an_id(access: Access) -> None:
    home = await access.facility()
    group = {PermissionGrant(each, home.id) for each in (Permission.ADMINISTER_ACCESS,)}
    manager = await access.user(
        Role.RADIOLOGY_SUPPORT, home_facility_id=home.id, permissions=a_user().permissions | group
    )
    theirs = await filtered(access, home, "false", home_facility_id=home.id)
    foreign = await access.user(login="stranger")
    await save(access, theirs, "AssignedToUser = 'stranger'")
    case_id = await access.case(home)

    told = await explained(access, theirs, case_id, manager.login)

    assert told_clauses(told)[0][0] == f"AssignedToUser = '#{foreign.id}'"
    assert told_clauses(await explained(access, theirs, case_id))[0][0] == "AssignedToUser = 'stranger'"


@pytest.mark.proves("BEY-1", part="one evaluation")
async def test_of_random_filters_what_is_explained_is_what_check_answers(access: Access) -> None:
    """The clauses are asked of the values that Check is asked of: the first is the whole filter."""
    random = Random(7)
    facility = await access.facility()
    await seen_by_admin(access, facility)
    cases: list[CaseId] = []
    for _ in range(12):
        drawn = draw_case(random)
        attributes = {
            "patient_name": drawn["PatientName"],
            "patient_birth_date": drawn["PatientBirthDate"],
            "study_date": drawn["StudyDate"],
            "study_description": drawn["StudyDescription"],
            "referring_physician_name": drawn["ReferringPhysicianName"],
        }
        cases.append(await access.case(facility, a_study(attributes=StudyAttributes(**attributes))))
    jane = await filtered(access, facility, "true", login="user0")
    seen = hidden = 0
    for _ in range(60):
        try:
            await save(access, jane, write(draw_filter(random)))
        except (Invalid, RuntimeError):  # of nobody here, or of a time that no unit writes
            continue
        for case_id in cases:
            told = await explained(access, jane, case_id)
            checked = await access.check(jane, case_id)
            assert told.filter is not None
            assert told.decision.allowed == checked.allowed == told.filter.shows
            assert (reasons(told)[Path.PRIVILEGE] is Reason.OPEN) == checked.allowed
            for clause in told.filter.clauses:
                assert not clause.near or not checked.allowed
            seen, hidden = seen + checked.allowed, hidden + (not checked.allowed)
    assert min(seen, hidden) > 10


@pytest.mark.proves("ACC-30", part="explained")
async def test_the_path_historical_is_told(access: Access) -> None:
    facility = await access.facility()
    await seen_by_admin(access, facility)
    patient = {"patient_id": "P-1", "patient_birth_date": "20081015"}
    old = await access.case(facility, a_patient(study_date="20200101", study_description="old", **patient))
    await access.case(facility, a_patient(study_date="20261101", study_description="Research", **patient))
    jane = await filtered(access, facility, "true")

    for historical, reason in ((Historical.OFF, Reason.NONE), (Historical.EARLIER, Reason.OPEN)):
        await save(access, jane, "StudyDescription = 'Research'", historical=historical)
        told = await explained(access, jane, old)
        assert reasons(told)[Path.PRIVILEGE] is Reason.FILTER
        assert reasons(told)[Path.HISTORICAL] is reason
        assert told.decision.allowed == (reason is Reason.OPEN)
        assert told.filter is not None
        assert told.filter.historical is historical


@pytest.mark.proves("BEY-1", part="counts of a facility")
async def test_of_a_facility_it_is_told_how_many_cases_the_filter_hides(access: Access) -> None:
    facility, elsewhere = await access.facility("North"), await access.facility("South")
    for study in (of_18_years(), a_patient(), a_patient(patient_birth_date="20101015")):
        await access.case(facility, study)
    granted = await access.case(facility, of_18_years())
    await access.case(elsewhere, a_patient(patient_birth_date="20101015"))
    jane = await filtered(access, facility, CHILD_ONLY)
    await access.folders.grant_case(ADMIN, granted, jane.id)

    north, south = await access.explaining.explain_list(ADMIN, jane.id, None, 10)

    assert (north.counted.cases, north.counted.shown, north.hidden_by_filter) == (4, 2, 2)
    assert (south.counted.cases, south.counted.shown, south.hidden_by_filter) == (1, 0, 0)


# Over the wire


@pytest.mark.proves("BEY-1")
async def test_a_help_desk_is_told_all_that_decided(service: Service) -> None:
    """The privilege with its end, the ceiling, each clause, every other path, and the near miss."""
    facility_id = await service.facility("North", "Europe/Amsterdam")
    jane = await service.user(pb.ROLE_RADIOLOGY_ASSISTANT)
    ada = next(u for u in (await service.stub.ListUsers(pb.ListUsersRequest())).users if u.login == "ada")
    study_id = service.a_study(("1.1", "CT", 1))
    attributes = {"PatientName": "Doe^Jane", "StudyDate": "20261101", "PatientAge": "018Y"}
    service.ingest.studies[study_id].attribute_sets[0].attributes.update(attributes)
    case_id = str(service.a_placement(facility_id, study_id))
    await service.say(CasePlaced(UUID(case_id), 1))
    await service.give(ada, facility_id, pb.LEVEL_VIEW)
    await service.save_privilege(
        pb.Privilege(
            user_id=jane.user_id, facility_id=facility_id, level=pb.LEVEL_REPORT, expires_on="2999-01-01"
        )
    )
    await eventually(service.listed)
    wanted = pb.Filter(user_id=jane.user_id, expression=CHILD_ONLY)
    await service.stub.SaveFilter(pb.SaveFilterRequest(filter=wanted))

    request = pb.ExplainRequest(user_id=jane.user_id, case_id=case_id)
    told = (await service.stub.Explain(request)).explanation

    assert (told.user.login, told.side, told.facility_name) == ("jane", pb.SIDE_GROUP, "North")
    assert (told.decision.allowed, told.obstacle) == (False, pb.Explanation.OBSTACLE_UNSPECIFIED)
    privilege = told.privilege
    assert (privilege.level, privilege.effective_level) == (pb.LEVEL_REPORT, pb.LEVEL_DRAFT)
    assert privilege.expires_at.ToJsonString() == "2998-12-31T23:00:00Z"
    assert (told.role_ceiling, told.reverts_to) == (pb.LEVEL_DRAFT, pb.LEVEL_DRAFT)
    assert (told.holds_view_images, told.holds_report_view) == (True, True)
    assert {path.path: path.reason for path in told.paths} == {
        pb.PATH_PRIVILEGE: pb.ExplainedPath.REASON_FILTER,
        pb.PATH_GRANT: pb.ExplainedPath.REASON_NONE,
        pb.PATH_FOLDER: pb.ExplainedPath.REASON_NONE,
        pb.PATH_SHARE: pb.ExplainedPath.REASON_NONE,
        pb.PATH_HISTORICAL: pb.ExplainedPath.REASON_NONE,
    }
    (clause,) = told.filter.clauses
    assert (clause.part, clause.truth) == (pb.ExplainedClause.PART_PREDICATE, pb.TRUTH_FALSE)
    assert (clause.text, [*clause.values]) == (CHILD_ONLY, ["18Y"])
    assert [*clause.near_misses] == ["PatientAge <= '18Y'"]

    counted = await service.stub.ExplainList(pb.ExplainListRequest(user_id=jane.user_id))
    (facility,) = counted.facilities
    assert (facility.facility_name, facility.level) == ("North", pb.LEVEL_DRAFT)
    assert (facility.cases, facility.shown, facility.hidden_by_filter, facility.has_more) == (1, 0, 1, False)


async def test_what_an_administrator_and_a_sender_wrote_is_cut_to_what_is_read_aloud(
    service: Service,
) -> None:
    facility_id = await service.facility("North")
    jane = await service.user()
    ada = next(u for u in (await service.stub.ListUsers(pb.ListUsersRequest())).users if u.login == "ada")
    study_id = service.a_study(*((f"1.{n}", f"M{n}", 1) for n in range(10)))
    case_id = str(service.a_placement(facility_id, study_id))
    await service.say(CasePlaced(UUID(case_id), 1))
    for user in (ada, jane):
        await service.give(user, facility_id, pb.LEVEL_VIEW)
    await eventually(service.listed)
    texts = ", ".join(f"'{'x' * 60}{n}'" for n in range(20))
    wanted = pb.Filter(user_id=jane.user_id, expression=f"Modality not in ({texts})")
    await service.stub.SaveFilter(pb.SaveFilterRequest(filter=wanted))

    request = pb.ExplainRequest(user_id=jane.user_id, case_id=case_id)
    (clause,) = (await service.stub.Explain(request)).explanation.filter.clauses

    assert (len(clause.text), clause.text[-1]) == (MAX_CLAUSE_CHARACTERS, "…")
    assert (len(clause.values), clause.values_left_out) == (MAX_VALUES, 2)
    assert clause.truth == pb.TRUTH_TRUE
