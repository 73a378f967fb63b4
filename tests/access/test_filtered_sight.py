"""What a filter makes of sight: the worked example, historical studies, the holder of a lock, every verb."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from kernel.errors import Denied, NotFound
from kernel.ids import CaseId, DeletionId
from kernel.reading import PrivilegeLevel
from services.access.accessfilter import Historical
from services.access.domain import NO_SIGHT, Facility, Path, Permission, PermissionGrant, Role, User
from services.access.received import StudyAttributes
from services.access.store import AccessTransaction
from services.access.usecases import Questions
from tests.access.builders import a_study
from tests.access.conftest import ADMIN, Access, Scene, refused
from tests.access.test_filters import save
from tests.clocks import NOON


async def assign(access: Access, case_id: CaseId, user: User | None) -> None:
    """By SQL: who may assign to whom is another matter."""
    await access.query("update cases set assignee_id = $2 where case_id = $1", case_id, user and user.id)


# The worked example


@pytest.mark.proves("ACC-31")
@pytest.mark.proves("ACC-32")
@pytest.mark.proves("ASG-8")
@pytest.mark.proves("ACC-29", part="in sight")
async def test_report_at_a_and_b_and_draft_at_c_through_a_filter_to_what_is_assigned(access: Access) -> None:
    levels = {"A": PrivilegeLevel.REPORT, "B": PrivilegeLevel.REPORT, "C": PrivilegeLevel.DRAFT}
    user, other = await access.user(), await access.user()
    facilities = {name: await access.facility(name) for name in (*levels, "D")}
    for name, level in levels.items():
        await access.give(user, facilities[name], level)
    cases: dict[tuple[str, str], CaseId] = {}
    for name, facility in facilities.items():
        for assignee in (user, other, None):
            case_id = await access.case(facility)
            await assign(access, case_id, assignee)
            cases[name, assignee.login if assignee else ""] = case_id

    async def seen() -> Mapping[tuple[str, str], PrivilegeLevel]:
        decisions = await access.questions.check_many(user.login, list(cases.values()))
        found = {
            which: decision.level
            for (which, case_id), decision in zip(cases.items(), decisions, strict=True)
            if decision.allowed
        }
        assert {cases[which] for which in found} == set(await access.worklist(user))
        return found

    assert {which: levels[which[0]] for which in cases if which[0] in levels} == await seen()
    await save(access, user, "AssignedToUser = '$user'")
    assert {(name, user.login): level for name, level in levels.items()} == await seen()


@pytest.mark.proves("ACC-28", part="in sight")
async def test_who_is_named_is_bound_whatever_the_case_of_their_login(access: Access) -> None:
    facility = await access.facility()
    user, reader = await access.user(), await access.user(login="brandt")
    await access.give(user, facility, PrivilegeLevel.VIEW)
    theirs, _ = await access.case(facility), await access.case(facility)
    await assign(access, theirs, reader)

    await save(access, user, "assignedToUser = 'BRANDT'")

    assert [theirs] == await access.worklist(user)


# Historical studies


async def a_patients_case(access: Access, facility: Facility, text: str, day: str, **more: str) -> CaseId:
    attributes = StudyAttributes(
        **{
            "patient_name": "Doe^Jane",
            "patient_id": "4711",
            "patient_birth_date": "19700101",
            "study_description": text,
            "study_date": day,
            **more,
        }
    )
    return await access.case(facility, a_study(attributes=attributes))


@pytest.mark.proves("ACC-30")
@pytest.mark.proves("A7")
@pytest.mark.parametrize(
    ("historical", "expected"),
    [
        (Historical.OFF, set()),
        (Historical.EARLIER, {"earlier", "same day", "undated"}),
        (Historical.ALL, {"earlier", "same day", "undated", "later"}),
    ],
)
async def test_other_studies_of_the_patient_are_shown_beside_one_that_the_filter_shows(
    access: Access, historical: Historical, expected: set[str]
) -> None:
    facility, foreign = await access.facility(), await access.facility()
    user = await access.user(permissions=frozenset(map(PermissionGrant, Permission)))
    await access.give(user, facility, PrivilegeLevel.REPORT)
    anchor = await a_patients_case(access, facility, "Research", "20261101")
    others = {
        "earlier": await a_patients_case(access, facility, "Head", "20200101"),
        "same day": await a_patients_case(access, facility, "Chest", "20261101"),
        "undated": await a_patients_case(access, facility, "Knee", ""),
        "later": await a_patients_case(access, facility, "Foot", "20261102"),
        "of another patient": await a_patients_case(access, facility, "Head", "20200101", patient_id="1"),
        "without an id": await a_patients_case(access, facility, "Head", "20200101", patient_id=""),
        "elsewhere": await a_patients_case(access, foreign, "Head", "20200101"),
    }

    await save(access, user, "StudyDescription = 'Research'", historical=historical)

    decisions = dict(
        zip(others, await access.questions.check_many(user.login, list(others.values())), strict=True)
    )
    assert expected == {which for which, each in decisions.items() if each.allowed}
    assert {anchor, *(others[which] for which in expected)} == set(await access.worklist(user))
    assert {anchor, *(others[which] for which in expected)} == set(
        await access.worklist(user, facility_id=facility.id)
    )
    for which in expected:
        told = await access.check(user, others[which])
        assert ((Path.HISTORICAL,), PrivilegeLevel.VIEW, frozenset()) == (
            told.paths,
            told.level,
            told.read_types,
        )
        case_id = others[which]  # to be viewed, and not to be deleted
        await refused(
            access.deletions.begin_delete(user.login, "", case_id, DeletionId(uuid4()), force=True),
            Denied,
            None,
        )


@pytest.mark.proves("A71", part="an undated anchor")
async def test_an_undated_anchor_opens_only_undated_studies(access: Access) -> None:
    facility = await access.facility()
    user = await access.user()
    await access.give(user, facility, PrivilegeLevel.VIEW)
    anchor = await a_patients_case(access, facility, "Research", "")
    undated = await a_patients_case(access, facility, "Head", "")
    await a_patients_case(access, facility, "Head", "20200101")

    await save(access, user, "StudyDescription = 'Research'", historical=Historical.EARLIER)

    assert {anchor, undated} == set(await access.worklist(user))


@pytest.mark.proves("ACC-30", part="what is historical is not shared")
async def test_what_is_historical_is_not_shared(scene: Scene) -> None:
    access = scene.access
    facility = scene.facility
    anchor = await a_patients_case(access, facility, "Research", "20261101")
    earlier = await a_patients_case(access, facility, "Head", "20200101")
    await save(access, scene.sender, "StudyDescription = 'Research'", historical=Historical.ALL)

    assert {anchor, earlier} == set(await access.worklist(scene.sender))
    await scene.grant(scene.a_share(case_ids=(anchor,)))
    await refused(scene.grant(scene.a_share(case_ids=(earlier,))), Denied, "case_ids")


async def test_an_anchor_that_is_deleted_opens_nothing_any_more(access: Access) -> None:
    facility = await access.facility()
    user = await access.user(permissions=frozenset(map(PermissionGrant, Permission)))
    await access.give(user, facility, PrivilegeLevel.VIEW)
    anchor = await a_patients_case(access, facility, "Research", "20261101")
    earlier = await a_patients_case(access, facility, "Head", "20200101")
    await save(access, user, "StudyDescription = 'Research'", historical=Historical.ALL)
    assert (await access.check(user, earlier)).allowed

    await access.deletions.begin_delete(user.login, "", anchor, DeletionId(uuid4()), force=True)

    assert NO_SIGHT == await access.check(user, earlier)
    assert [] == await access.worklist(user)


async def test_a_filter_that_changes_between_the_two_statements_of_a_check_is_asked_anew(
    access: Access,
) -> None:
    """What is hidden is looked at again for what is historical: by then the user may be another."""
    facility = await access.facility()
    user = await access.user()
    await access.give(user, facility, PrivilegeLevel.VIEW)
    await a_patients_case(access, facility, "Research", "20261101")
    earlier = await a_patients_case(access, facility, "Head", "20200101")
    await save(access, user, "StudyDescription = 'Research'", historical=Historical.ALL)
    assert (await access.check(user, earlier)).allowed

    class Statements(AccessTransaction):
        async def sighted(self, *args: Any, **more: Any) -> Any:
            await save(access, user, "false")
            return await super().sighted(*args, **more)

    class Meddling:
        @asynccontextmanager
        async def statements(self) -> AsyncIterator[Statements]:
            async with access.database.statements() as opened:
                yield Statements(opened.connection, now=opened.now, new_id=opened.new_id)

    questions = Questions(Meddling(), access.clock)  # type: ignore[arg-type]
    decision, _ = await questions.check(user.login, earlier, images=False, at_least=0)
    assert not decision.allowed


# Whoever holds the lock


@pytest.mark.proves("REP-18", part="through a filter")
async def test_nobody_loses_a_case_by_what_they_write_while_they_hold_its_lock(access: Access) -> None:
    facility = await access.facility()
    user, other = await access.user(), await access.user()
    for each in (user, other):
        await access.give(each, facility, PrivilegeLevel.REPORT)
        await save(access, each, "StudyStatusID = 'READY_TO_READ'")
    case_id = await access.case(facility, a_study(settled=True))
    assert [case_id] == await access.worklist(user) == await access.worklist(other)

    await access.query(
        """
        update cases set status_group = 'DICTATED', locked_by = $2, locked_until = $3,
            status_at_lock = 'READY_TO_READ' where case_id = $1
        """,
        case_id,
        user.login,
        NOON + timedelta(minutes=10),
    )

    assert [case_id] == await access.worklist(user)
    assert (await access.check(user, case_id)).allowed
    assert [] == await access.worklist(other)
    access.clock.pass_by(timedelta(minutes=10))
    assert [] == await access.worklist(user)
    assert not (await access.check(user, case_id)).allowed


# Every verb asks the filter


@pytest.mark.proves("A6", part="in every statement")
async def test_what_a_filter_hides_is_absent_for_every_verb(scene: Scene) -> None:
    """Deletion, sharing, extending, and lists of what is shown: as for a case that does not exist."""
    access, user = scene.access, scene.sender
    bucket_id = await scene.grant(scene.a_share())
    await save(access, user, "false")
    for case_id in (scene.cases[0], CaseId(uuid4())):
        await refused(scene.grant(scene.a_share(case_ids=(case_id,))), NotFound, "case_id")
        await refused(
            access.deletions.begin_delete(user.login, "", case_id, DeletionId(uuid4()), force=True),
            NotFound,
            "case_id",
        )
        await refused(access.folders.grant_case(user.login, case_id, scene.jane.id), NotFound, "case_id")
    await refused(scene.extend(bucket_id, 1, ends_at=None), NotFound, "case_id")


async def test_a_manager_lists_what_is_shown_of_foreign_cases_only_where_their_filter_shows_them(
    access: Access,
) -> None:
    home, other = await access.facility(), await access.facility()
    manager = await access.manager(home)
    await access.give(manager, other, PrivilegeLevel.VIEW)
    jane = await access.user(Role.FACILITY_USER, home_facility_id=home.id)
    case_id = await access.case(other)
    await access.folders.grant_case(ADMIN, case_id, jane.id)

    async def listed() -> list[CaseId]:
        found = await access.folders.list_grants(manager.login, jane.id, by_case=False, after=None, limit=10)
        return [each.case_id for each in found]

    assert [case_id] == await listed()
    await save(access, manager, "false")
    assert [] == await listed()
