"""A case from its assignment to its move, as those see it whom it concerns (A74, A75)."""

from dataclasses import replace
from uuid import uuid4

import pytest

from kernel.errors import Conflict, Denied, Invalid
from kernel.ids import MoveId
from kernel.reading import PrivilegeLevel, ReadType
from services.access.caseindex import Priority
from services.access.domain import Permission, PermissionGrant, Role
from services.access.moves import Move
from services.access.reading import Projection
from services.access.search import Listing, Order
from tests.access.builders import a_lock, a_placement, a_reading, a_study, a_user
from tests.access.conftest import ADMIN, Access, refused
from tests.access.test_assignment import Scene, settings
from tests.access.test_filters import save


@pytest.mark.proves("A74")
@pytest.mark.proves("A75")
async def test_a_case_is_assigned_read_added_to_and_moves(access: Access) -> None:
    scene = await Scene(access).set()
    for reader in (scene.vos, scene.lind):
        await save(access, reader, "AssignedToUser = '$user'")
    study = a_study(settled=True)
    second = a_placement(scene.facility.id, study)
    await access.hear(study, second)
    tech = await scene.a_user(
        Role.FACILITY_USER,
        PrivilegeLevel.VIEW,
        permissions=a_user(Role.FACILITY_USER).permissions | {PermissionGrant(Permission.ASSIGN_CASE)},
    )
    for act in await scene.acts(tech):  # a role of the facility side that was given it once
        with pytest.raises(Denied, match="only people of the radiology group"):
            await act

    given = scene.physician.permissions | {PermissionGrant(Permission.ASSIGN_CASE)}
    await refused(access.users.save_user(ADMIN, settings(scene.physician, given)), Invalid, "permissions")

    async def seen_by() -> list[bool]:
        """By each of the two readers: for the first to report, or to add to what they wrote."""
        return [(await access.check(each, scene.case_id)).allowed for each in (scene.vos, scene.lind)]

    # A pre-read by its reader is for the next one; a report is not.
    await scene.assign(scene.vos)
    assert [True, False] == await seen_by()
    await scene.signs(scene.vos, ReadType.PRE_READ, version=1)
    assert [False, False] == await seen_by()
    await scene.assign(scene.lind)
    for version, read_type in enumerate((ReadType.PRELIMINARY, ReadType.FINAL), start=2):
        await scene.signs(scene.lind, read_type, version)
        assert [False, True] == await seen_by()
    assert PrivilegeLevel.REPORT is (await access.check(scene.lind, scene.case_id)).level

    # Who reads it keeps it, unless it is forced.
    lock = a_lock(scene.lind.name, holder_login="lind", ends_at=access.clock.now().replace(year=2027))
    await access.hear(a_reading(scene.case_id, Projection(lock=lock), version=4))
    for act in (scene.assign(scene.vos), scene.unassign()):
        with pytest.raises(Conflict, match="force it"):
            await act
    await scene.assign(scene.vos, force=True)
    assert [True, False] == await seen_by()
    await access.hear(a_reading(scene.case_id, Projection(), version=5))

    # How soon it is to be read is set by hand, shown to both sides, and ordered and searched by.
    await scene.set_priority(Priority.STAT)
    for user in (scene.coordinator, scene.physician):
        rows = await access.questions.list_cases(user.login, None, 10, Listing(Order.PRIORITY))
        assert [Priority.STAT, Priority.NORMAL] == [row.priority for row in rows]
        found = await access.questions.list_cases(user.login, None, 10, Listing(where="Priority = 'stat'"))
        assert [scene.case_id] == [row.case_id for row in found]

    # An assignment keeps no case from moving without a hand, and ends with it; the priority stays.
    other = await access.facility("Lakeside")
    for user in (scene.coordinator, scene.physician, scene.vos):
        await access.give(user, other, PrivilegeLevel.VIEW)
    move = Move(MoveId(uuid4()), second.case_id, scene.facility.id, other.id, by_hand=False)
    await access.assignments.assign(scene.coordinator.login, "", second.case_id, "lind", force=False)
    await access.moves.begin_move(move, preview=False)
    await access.hear(replace(scene.placement, facility_id=other.id, version=2))
    assert [False, False] == await seen_by()
    for user in (scene.coordinator, scene.physician):
        shown = await access.questions.describe_case(user.login, scene.case_id)
        assert (other.id, None, Priority.STAT) == (shown.facility_id, shown.assignee_login, shown.priority)
