"""Whom a case may be assigned to, each judged as if it were already (ASG-2, A38, BEY-19)."""

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from kernel.errors import Denied, NotFound
from kernel.reading import DraftState, PrivilegeLevel, ReadType
from services.access.accessfilter import Historical
from services.access.assignable import Assignable
from services.access.domain import Role, User
from services.access.reading import AtLock, Projection
from services.access.status import ReadingState
from tests.access.builders import a_lock, a_reading, a_study
from tests.access.conftest import ADMIN, Access, refused
from tests.access.test_assignment import Scene
from tests.access.test_filters import save

REPORT = PrivilegeLevel.REPORT


@pytest.fixture
async def scene(access: Access) -> Scene:
    return await Scene(access).set()


async def listed(scene: Scene, by: User | None = None, *, page: int = 100) -> dict[str, Assignable]:
    """By login, page by page."""
    found: dict[str, Assignable] = {}
    after = ""
    while True:
        told = await scene.access.assignments.list_assignable(
            (by or scene.coordinator).login, "", scene.case_id, after, page
        )
        assert len(told) <= page
        found |= {each.user.login: each for each in told}
        if len(told) < page:
            assert list(found) == sorted(found)
            return found
        after = told[-1].user.login


@pytest.mark.proves("ASG-2")
async def test_those_are_listed_who_may_report_at_the_facility_now(scene: Scene) -> None:
    access = scene.access
    elsewhere = await access.facility("Elsewhere")
    expired, lasting = await access.user(login="expired"), await access.user(login="lasting")
    await access.give(expired, scene.facility, REPORT, expires_on=date(2026, 11, 1))
    await access.give(lasting, scene.facility, REPORT, expires_on=date(2026, 12, 1))
    administrator = await scene.a_user(Role.ADMINISTRATOR, REPORT, login="boss")
    for role, level, facility, changes in (
        (Role.RADIOLOGIST, PrivilegeLevel.NONE, scene.facility, {}),
        (Role.RADIOLOGIST, PrivilegeLevel.DRAFT, scene.facility, {}),
        (Role.RADIOLOGIST, REPORT, elsewhere, {}),
        (Role.TRANSCRIPTIONIST, REPORT, scene.facility, {}),
        (Role.REFERRING_PHYSICIAN, REPORT, scene.facility, {}),
        (Role.RADIOLOGIST, REPORT, scene.facility, {"active": False}),
    ):
        await scene.a_user(role, level, facility, **changes)
    await scene.assign(scene.lind)

    for page in (1, 2, 100):
        found = await listed(scene, page=page)
        assert ["boss", "lasting", "lind", "vos"] == list(found)
        assert ["lind"] == [login for login, each in found.items() if each.is_assignee]
        assert {REPORT} == {each.level for each in found.values()}
    for login in found:  # each of them is taken
        await scene.assign(login)
    assert administrator.login in found


FILTERS: dict[str, tuple[str, Historical]] = {
    "mine": ("AssignedToUser = '$user'", Historical.OFF),
    "mine_and_head": ("AssignedToUser = '$user' and StudyDescription = 'Head'", Historical.OFF),
    "not_assigned": ("AssignedToUser is null", Historical.OFF),
    "not_assigned_all": ("AssignedToUser is null", Historical.ALL),
    "not_assigned_earlier": ("AssignedToUser is null", Historical.EARLIER),
    "another": ("AssignedToUser != '$user' or Modality = 'MR'", Historical.ALL),
    "status": ("StudyStatusID = 'ASSIGNED'", Historical.OFF),
    "ready": ("StudyStatusID in ('READY_TO_READ', 'DICTATED')", Historical.ALL),
    "unread": ("ReportedTypes is null and AssignedToUser = '$user'", Historical.OFF),
    "stat": ("Priority = 'STAT' and (AssignedToUser = '$user' or Modality = 'CT')", Historical.EARLIER),
    "nothing": ("false", Historical.ALL),
    "mr": ("not (Modality = 'CT') or PatientSex = 'F'", Historical.ALL),
    "open": ("true", Historical.OFF),
}

LOCK = a_lock("Dr. mine", holder_login="mine")
STOOD = AtLock(ReadingState.UNREAD, DraftState.NONE, frozenset())


@pytest.mark.proves("A38")
@pytest.mark.proves("BEY-19", part="the list of one case, a clause by its fields")
@pytest.mark.parametrize("situation", ["assigned", "dictated", "read", "beside an anchor"])
async def test_the_list_says_what_assigning_answers(access: Access, scene: Scene, situation: str) -> None:
    """In every situation, for every filter, with and without a grant."""
    study = a_study(id=scene.study.id, version=2, settled=True, attributes=described("20260101"))
    await access.hear(study)
    users = []
    for login, (expression, historical) in FILTERS.items():
        user = await scene.a_user(Role.RADIOLOGIST, REPORT, login=login)
        await save(access, user, expression, historical=historical)
        users.append(user)
    for user in users[::3]:
        await access.folders.grant_case(ADMIN, scene.case_id, user.id)
    match situation:
        case "assigned":
            await scene.assign(users[0])
        case "dictated":
            dictated = Projection(lock=LOCK, draft=DraftState.DICTATED)
            await access.hear(replace(a_reading(scene.case_id, dictated), at_lock=STOOD))
        case "read":
            await scene.signs(scene.lind, ReadType.PRELIMINARY)
        case "beside an anchor":
            for day in ("20251231", "20260102"):
                await access.case(scene.facility, a_study(settled=True, attributes=described(day)))

    found = await listed(scene)

    if situation == "beside an anchor":
        assert [PrivilegeLevel.VIEW] * 2 == [
            found[f"not_assigned_{each}"].level for each in ("all", "earlier")
        ]
    for user in [*users, scene.vos]:
        told = found[user.login]
        now = await access.check(user, scene.case_id)
        assert (user.login, now.level) == (user.login, told.level_now)
        assigned = await scene.assign(user, force=True)
        assert (user.login, assigned.level) == (user.login, told.level)
        assert bool(told.hidden_by) <= (told.level is not REPORT)
        await back_to(scene, situation, users)


def described(day: str) -> Any:
    attributes = a_study().attribute_sets[1]
    return replace(attributes, patient_id="P-1", study_date=day, study_description="Brain")


async def back_to(scene: Scene, situation: str, users: list[User]) -> None:
    """Who was to read it at first."""
    if situation == "assigned":
        await scene.assign(users[0], force=True)
    else:
        await scene.unassign(force=True)


async def test_what_would_hide_it_is_named_by_its_fields_and_by_nothing_else(scene: Scene) -> None:
    access = scene.access
    for user, expression in (
        (
            scene.vos,
            "AssignedToUser = '$user' and (PatientName = 'Roe' or Modality = 'MR') and PatientAge < '3Y'",
        ),
        (scene.lind, "AssignedToUser = '$user'"),
    ):
        await save(access, user, expression)

    found = await listed(scene)

    assert PrivilegeLevel.NONE is found["vos"].level
    assert ["PatientName", "ModalitiesInStudy", "PatientAge"] == list(found["vos"].hidden_by)
    assert (PrivilegeLevel.NONE, REPORT, ()) == (
        found["lind"].level_now,
        found["lind"].level,
        tuple(found["lind"].hidden_by),
    )
    assert [] == await access.query("select case_id from cases where assignee_id is not null")


async def test_who_may_not_assign_a_case_is_listed_nobody(scene: Scene) -> None:
    stranger = await scene.a_user(Role.ADMINISTRATOR, PrivilegeLevel.NONE)

    for user in (scene.vos, scene.physician):
        await refused(listed(scene, user), Denied, None)
    await refused(listed(scene, stranger), NotFound, "case_id")
