"""`readroom explain`: what a help desk reads aloud."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from readroom.explain import as_object, lines
from tests.readroom.conftest import Run
from wire.access.v1.access_pb2 import (
    HISTORICAL_EARLIER,
    LEVEL_DRAFT,
    LEVEL_REPORT,
    LEVEL_VIEW,
    PATH_FOLDER,
    PATH_GRANT,
    PATH_HISTORICAL,
    PATH_PRIVILEGE,
    PATH_SHARE,
    ROLE_OPERATOR,
    ROLE_RADIOLOGIST,
    ROLE_RADIOLOGY_SUPPORT,
    ROLE_REFERRING_PHYSICIAN,
    TRUTH_FALSE,
    TRUTH_TRUE,
    TRUTH_UNKNOWN,
    Decision,
    ExplainedClause,
    ExplainedFilter,
    ExplainedPath,
    Explanation,
    Level,
    Privilege,
    Role,
    Truth,
    User,
)

NOW = datetime(2026, 11, 27, 12, 0, 0, tzinfo=UTC)
OPEN, NONE = ExplainedPath.REASON_OPEN, ExplainedPath.REASON_NONE
CLOSED, ENDED = ExplainedPath.REASON_CLOSED, ExplainedPath.REASON_ENDED
CASE_ID = str(uuid.UUID(int=5))


def path(of: Any, reason: Any = NONE, ends_at: datetime | None = None, **more: Any) -> ExplainedPath:
    told = ExplainedPath(path=of, reason=reason, **more)
    if ends_at:
        told.ends_at.FromDatetime(ends_at)
    return told


def an_explanation(*paths: ExplainedPath, role: "Role.ValueType", **more: Any) -> Explanation:
    told = Explanation(
        user=User(login="vos", name="Dr Eva Vos", role=role),
        case_id=CASE_ID,
        facility_name="Maple Street 44",
        role_ceiling=more.pop("role_ceiling", LEVEL_REPORT),
        paths=paths or [path(each) for each in (PATH_PRIVILEGE, PATH_GRANT, PATH_FOLDER, PATH_SHARE)],
        **more,
    )
    told.at.FromDatetime(NOW)
    return told


def a_privilege(
    level: "Level.ValueType", now: "Level.ValueType", ends_at: datetime | None = None
) -> Privilege:
    privilege = Privilege(level=level, effective_level=now)
    if ends_at:
        privilege.expires_at.FromDatetime(ends_at)
    return privilege


def test_whoever_sees_nothing_hears_of_every_path() -> None:
    told = an_explanation(role=ROLE_RADIOLOGIST)

    assert list(lines(told)) == [
        f"✗ Dr Eva Vos (`vos`, radiologist) does not see case {CASE_ID} of `Maple Street 44`, at "
        "2026-11-27 12:00:00 UTC",
        "  ✗ privilege   they have no privilege at `Maple Street 44`",
        "  ✗ grant       the case is not granted to them",
        "  ✗ folder      no folder that they are a member of holds it",
        "  ✗ share       no share to them holds it",
    ]


@pytest.mark.parametrize(
    ("role", "ceiling", "privilege", "reverts_to", "said"),
    [
        (
            ROLE_RADIOLOGIST,
            LEVEL_REPORT,
            a_privilege(LEVEL_REPORT, LEVEL_REPORT),
            LEVEL_DRAFT,
            "report at `Maple Street 44`",
        ),
        (
            ROLE_RADIOLOGIST,
            LEVEL_REPORT,
            a_privilege(LEVEL_REPORT, LEVEL_REPORT, NOW + timedelta(seconds=1)),
            LEVEL_DRAFT,
            "report at `Maple Street 44`, which expires at 2026-11-27 12:00:01 UTC and is draft from then on",
        ),
        (
            ROLE_RADIOLOGIST,
            LEVEL_REPORT,
            a_privilege(LEVEL_REPORT, LEVEL_DRAFT, NOW),
            LEVEL_DRAFT,
            "report at `Maple Street 44`, which expired at 2026-11-27 12:00:00 UTC: now draft",
        ),
        (
            ROLE_RADIOLOGY_SUPPORT,
            LEVEL_VIEW,
            a_privilege(LEVEL_REPORT, LEVEL_VIEW),
            LEVEL_VIEW,
            "report at `Maple Street 44`; the role radiology-support has view at most: now view",
        ),
    ],
)
def test_a_privilege_is_told_with_its_end_and_the_ceiling_of_the_role(
    role: "Role.ValueType",
    ceiling: "Level.ValueType",
    privilege: Privilege,
    reverts_to: "Level.ValueType",
    said: str,
) -> None:
    told = an_explanation(
        path(PATH_PRIVILEGE, OPEN),
        role=role,
        role_ceiling=ceiling,
        privilege=privilege,
        reverts_to=reverts_to,
        decision=Decision(allowed=True, level=privilege.effective_level, images=True, reports=True),
        holds_view_images=True,
        holds_report_view=True,
    )

    head, by_privilege, *_ = lines(told)

    assert head.startswith("✓ Dr Eva Vos")
    assert by_privilege == f"  ✓ privilege   {said}"


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (path(PATH_GRANT, OPEN), "✓ grant       the case is granted to them, to view"),
        (
            path(PATH_FOLDER, OPEN, folder_names=["Board"]),
            "✓ folder      `Board` of which they are a member holds it, to view",
        ),
        (
            path(PATH_FOLDER, OPEN, folder_names=["Board"], folders_left_out=2),
            "✓ folder      `Board` and others of which they are a member holds it, to view",
        ),
        (
            path(PATH_FOLDER, OPEN, folders_left_out=1),
            "✓ folder      a folder of which they are a member holds it, to view",
        ),
        (
            path(PATH_SHARE, OPEN, NOW, may_write=True),
            "✓ share       a share shows it until 2026-11-27 12:00:00 UTC, with write access to the report",
        ),
        (
            path(PATH_SHARE, ExplainedPath.REASON_CODE),
            "✗ share       a share shows it, but only in sessions in which they have entered its code",
        ),
        (path(PATH_SHARE, CLOSED), "✗ share       a share holds it that is blocked or revoked"),
        (path(PATH_SHARE, ENDED, NOW), "✗ share       a share held it until 2026-11-27 12:00:00 UTC"),
    ],
)
def test_each_path_has_its_sentence(told: ExplainedPath, said: str) -> None:
    _, line, *_ = lines(an_explanation(told, role=ROLE_RADIOLOGIST))

    assert line == f"  {said}"


def test_a_role_that_opens_nothing_and_what_hides_a_case_from_everybody_are_told() -> None:
    told = an_explanation(
        path(PATH_GRANT, ExplainedPath.REASON_ROLE),
        role=ROLE_OPERATOR,
        obstacle=Explanation.OBSTACLE_BEING_DELETED,
    )

    _, obstacle, grant = lines(told)

    assert obstacle.endswith("the case is being deleted, so it is shown to nobody")
    assert grant == "  ✗ grant       the role operator opens no case by any path"
    assert as_object(told)["obstacle"] == "being-deleted"


def test_who_sees_a_case_hears_which_permission_they_lack() -> None:
    told = an_explanation(
        path(PATH_GRANT, OPEN),
        role=ROLE_REFERRING_PHYSICIAN,
        decision=Decision(allowed=True, level=LEVEL_VIEW, reports=True),
        holds_report_view=True,
    )

    *_, images, reports = lines(told)

    assert images == "  ✗ images      they lack `study.view_images` there"
    assert reports == "  ✓ reports     they hold `report.view` there"


def a_clause(
    part: "ExplainedClause.Part.ValueType", depth: int, truth: "Truth.ValueType", text: str = "", **more: Any
) -> ExplainedClause:
    return ExplainedClause(part=part, depth=depth, truth=truth, text=text, **more)


FALSE, TRUE = TRUTH_FALSE, TRUTH_TRUE
ALL, PREDICATE = ExplainedClause.PART_ALL, ExplainedClause.PART_PREDICATE


def test_the_clauses_of_a_filter_stand_below_the_privilege_that_it_narrows() -> None:
    clauses = [
        a_clause(ALL, 0, FALSE),
        a_clause(
            PREDICATE,
            1,
            TRUTH_FALSE,
            "PatientAge < '18Y'",
            values=["18Y"],
            near_misses=["PatientAge <= '18Y'"],
        ),
        a_clause(PREDICATE, 1, TRUE, "ModalitiesInStudy = 'CT'", values=["CT", "PT"], values_left_out=2),
        a_clause(PREDICATE, 1, TRUTH_UNKNOWN, "BodyPartsInStudy = 'CHEST'"),
    ]
    told = an_explanation(
        path(PATH_PRIVILEGE, ExplainedPath.REASON_FILTER),
        path(PATH_HISTORICAL),
        role=ROLE_RADIOLOGIST,
        privilege=a_privilege(LEVEL_VIEW, LEVEL_VIEW),
        filter=ExplainedFilter(values_shown=True, clauses=clauses, historical=HISTORICAL_EARLIER),
    )

    _, *said = lines(told)

    assert said == [
        "  ✗ privilege   view at `Maple Street 44`",
        "  ✗             their filter hides the case",
        "                ✗ all of",
        "                  ✗ PatientAge < '18Y': 18Y",
        "                    it would be visible with PatientAge <= '18Y'",
        "                  ✓ ModalitiesInStudy = 'CT': CT, PT and 2 more",
        "                  ? BodyPartsInStudy = 'CHEST': unknown, because the case does not have it",
        "  ✗ historical  no study of the patient passes their filter that would open this one",
    ]
    assert as_object(told)["filter"]["clauses"][1]["near_misses"] == ["PatientAge <= '18Y'"]


def test_without_the_values_the_truth_is_told_alone() -> None:
    told = an_explanation(
        path(PATH_PRIVILEGE, ExplainedPath.REASON_FILTER),
        role=ROLE_RADIOLOGIST,
        privilege=a_privilege(LEVEL_VIEW, LEVEL_VIEW),
        filter=ExplainedFilter(clauses=[a_clause(PREDICATE, 0, FALSE, "PatientSex = 'F'")]),
    )

    assert list(lines(told))[-2:] == [
        "                ✗ PatientSex = 'F'",
        "                you do not see the case yourself, so you are told none of its values",
    ]


def test_a_filter_that_no_longer_parses_and_one_that_opens_nothing_more_are_told() -> None:
    broken = an_explanation(
        path(PATH_PRIVILEGE, ExplainedPath.REASON_FILTER),
        path(PATH_HISTORICAL),
        role=ROLE_RADIOLOGIST,
        privilege=a_privilege(LEVEL_VIEW, LEVEL_VIEW),
        filter=ExplainedFilter(broken=True),
    )

    *_, by_filter, historical = lines(broken)

    assert by_filter.endswith("their filter no longer parses, so it hides everything: save another")
    assert historical.endswith("their filter opens no other studies of a patient")
    *_, historical = lines(an_explanation(path(PATH_HISTORICAL), role=ROLE_RADIOLOGIST))
    assert historical.endswith("they have no filter, so it opens nothing more")


def test_a_case_that_nobody_has_is_not_found(admin: Run) -> None:
    answer = admin("explain", "admin", CASE_ID)

    assert (answer.code, answer.out) == (3, "")
    assert CASE_ID in answer.err
