"""Position: somebody whose filter hides cases, and who may act on what such a filter asks for.

A filter narrows what privileges show. So nobody opens by an act of theirs what their own filter hides: they
neither assign such a case nor say how soon it is to be read, and link no patients of whom they see a part.
"""

from collections.abc import Awaitable
from dataclasses import replace

import pytest

from kernel.errors import Conflict, Denied
from kernel.ids import CaseId
from kernel.reading import DraftState, PrivilegeLevel
from services.access.accessfilter import Historical
from services.access.caseindex import Priority
from services.access.domain import Facility, Path, Permission, PermissionGrant, Role, User
from services.access.reading import AtLock, Projection
from services.access.status import ReadingState
from tests.access.builders import a_lock, a_reading, a_user
from tests.access.conftest import ADMIN, Access
from tests.access.test_filters import described, save
from tests.access.test_linking import link, refusal, told
from tests.access.test_moves import REPORTED
from tests.access.test_moves import Scene as Move
from tests.access.test_patients import JANE, JOHN, a_case

MINE = "AssignedToUser = '$user' or Priority = 'STAT' or LockedBy = '$user'"


async def a_coordinator(access: Access, facility: Facility, expression: str) -> User:
    permissions = a_user().permissions | {PermissionGrant(Permission.ASSIGN_CASE)}
    user = await access.user(Role.ADMINISTRATOR, permissions=permissions)
    await access.give(user, facility, PrivilegeLevel.REPORT)
    await save(access, user, expression, historical=Historical.ALL)
    return user


def acts(access: Access, by: User, case_id: CaseId, to: User) -> list[Awaitable[object]]:
    return [
        access.assignments.assign(by.login, "", case_id, to.login, force=True),
        access.assignments.unassign(by.login, "", case_id, force=True),
        access.assignments.set_priority(by.login, "", case_id, Priority.STAT),
    ]


@pytest.mark.proves("ACC-15", part="by one's own act")
async def test_who_may_assign_does_not_open_to_themself_what_their_filter_hides(access: Access) -> None:
    facility = await access.facility()
    user = await a_coordinator(access, facility, MINE)
    granted, foldered, historical = [await access.case(facility, described("Head")) for _ in range(3)]
    unseen = await access.case(facility, described("Head"))
    anchor = await access.case(facility, described("Head"))
    await access.folders.grant_case(ADMIN, granted, user.id)
    await access.folders.put_in_folder(ADMIN, await access.folder(user), foldered)
    await access.assignments.assign(
        (await an_assigner(access, facility)).login, "", anchor, user.login, force=False
    )
    for case_id in (anchor, historical):
        await access.query("update cases set person_id = $2 where case_id = $1", case_id, facility.id)

    for case_id, path in ((granted, Path.GRANT), (foldered, Path.FOLDER), (historical, Path.HISTORICAL)):
        assert (path,) == (await access.check(user, case_id)).paths
        for act in acts(access, user, case_id, user):
            with pytest.raises(Denied, match="your filter hides the case"):
                await act
        assert (path,) == (await access.check(user, case_id)).paths
    for act in acts(access, user, unseen, user):
        assert "NotFound" == type(await refusal(act)).__name__
    # What it shows them they assign, and then lose it.
    await access.assignments.set_priority(user.login, "", anchor, Priority.URGENT)
    await access.assignments.unassign(user.login, "", anchor, force=False)
    assert not (await access.check(user, anchor)).allowed


async def an_assigner(access: Access, facility: Facility) -> User:
    user = await access.user(Role.RADIOLOGY_SUPPORT)
    await access.give(user, facility, PrivilegeLevel.VIEW)
    return user


async def test_a_lock_of_their_own_opens_nothing_by_their_privilege(access: Access) -> None:
    """Who has a share with write access may lock: the filter asks of the reading as it stood before."""
    facility = await access.facility()
    user = await a_coordinator(access, facility, f"{MINE} or StudyStatusID = 'DICTATED'")
    case_id = await access.case(facility, described("Head"))
    await access.share(user, case_id, write_report=True)
    lock = a_lock(user.name, holder_login=user.login)
    stood = AtLock(ReadingState.UNREAD, DraftState.NONE, frozenset())

    for version, reading in enumerate(
        (Projection(lock=lock), Projection(lock=lock, draft=DraftState.DICTATED)), 1
    ):
        await access.hear(replace(a_reading(case_id, reading, version=version), at_lock=stood))
        assert (Path.SHARE,) == (await access.check(user, case_id)).paths


# Links


@pytest.mark.proves("A13", part="links of patients")
async def test_a_manager_links_no_patients_of_whom_their_filter_hides_a_case(access: Access) -> None:
    """With historical studies the link would show them, and others, what it hides."""
    north = await access.facility("North")
    manager = await access.manager(north)
    await access.give(manager, north, PrivilegeLevel.VIEW)
    seen = replace(JANE, study_description="Research")
    one, other = (
        await a_case(access, north.id, seen),
        await a_case(access, north.id, replace(JOHN, study_description="Research")),
    )
    hidden = await a_case(access, north.id, JOHN)
    await save(access, manager, "StudyDescription = 'Research'", historical=Historical.OFF)

    for preview in (True, False):
        refused = await refusal(link(access, one, other, manager.login, preview=preview))
        assert isinstance(refused, Denied)
        assert "by your own privilege" in refused.sentence
    # A grant shows the case to them, and is not theirs to hand on.
    await access.folders.grant_case(ADMIN, hidden, manager.id)
    assert isinstance(await refusal(link(access, one, other, manager.login)), Denied)
    await save(access, manager, "", version=1)
    await link(access, one, other, manager.login)


@pytest.mark.proves("A73", part="patients")
async def test_a_patient_is_named_to_who_sees_a_case_of_theirs_only(access: Access) -> None:
    north, south = await access.facility("North"), await access.facility("South")
    permissions = frozenset(PermissionGrant(Permission.ADMINISTER_ACCESS, at.id) for at in (north, south))
    manager = await access.user(Role.FACILITY_MANAGER, permissions=permissions, home_facility_id=north.id)
    await access.give(manager, north, PrivilegeLevel.VIEW)
    for facility in (north, south):
        await access.give(access.admin, facility, PrivilegeLevel.VIEW)
    one, other = await a_case(access, north.id), await a_case(access, south.id, JOHN)
    made = (await link(access, one, other)).link
    assert made is not None

    for by in (manager.login, ADMIN):
        known = await told(access, one, by)
        assert [made.id] == [each.id for each in known.links]
        assert ([], 1) == (list(known.others), known.left_out) or by == ADMIN
    await access.folders.grant_case(ADMIN, other, manager.id)
    assert (1, 0) == (len((known := await told(access, one, manager.login)).others), known.left_out)
    await access.folders.revoke_grant(ADMIN, other, manager.id)

    records, _ = await access.linking.unlink_patients(manager.login, made.id)

    assert ["Doe^Jane"] == [record.patient.name for record in records]


# Moves


async def test_who_moves_a_case_that_they_do_not_see_is_told_of_its_reading_that_it_is_read(
    access: Access,
) -> None:
    """A move asks no sight: who administers facilities says whose a study is, by its mapping value."""
    scene = await Move(access).set()
    blind, sighted = await scene.a_mover(Role.ADMINISTRATOR), scene.mover
    assert not await scene.seen_by(blind)

    async def said(by: User) -> str:
        refused = await refusal(scene.begin(by, preview=True))
        assert isinstance(refused, Conflict)
        return refused.sentence

    await access.hear(a_reading(scene.case_id, Projection(lock=a_lock("Dr. Roe"))))
    assert "Dr. Roe" in await said(sighted)
    assert "Dr. Roe" not in await said(blind)
    await access.hear(a_reading(scene.case_id, REPORTED, version=2))
    assert "has a report" in await said(sighted)
    assert "somebody has begun to read" in await said(blind)
    assert not await scene.seen_by(blind)
