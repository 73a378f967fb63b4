"""What users ask, on PostgreSQL."""

from datetime import timedelta
from uuid import uuid4

import pytest

from kernel.errors import Invalid, NotFound, Unauthenticated, Unavailable
from kernel.ids import CaseId, FacilityId
from services.access.domain import NO_SIGHT, Level, Path, Permission, PermissionGrant, Role
from tests.access.builders import PrivilegeCase, a_study, privilege_cases
from tests.access.conftest import ADMIN, Access


@pytest.mark.parametrize("case", privilege_cases())
async def test_check_and_list_answer_what_the_user_may_do(access: Access, case: PrivilegeCase) -> None:
    north = await access.facility("North", "Europe/Amsterdam")
    south = await access.facility("South", "America/New_York")
    places = {"North": north.id, "South": south.id}
    changes = {"home_facility_id": south.id} if case.role is Role.FACILITY_MANAGER else {}
    user = await access.user(case.role, permissions=case.permissions(places), **changes)
    for facility, privilege in ((north, case.privilege()), (south, case.privilege("elsewhere"))):
        if privilege:
            await access.users.save_privilege(ADMIN, user.id, facility.id, privilege)
    case_id = await access.case(north)
    if case.entry.get("grant"):
        await access.folders.grant_case(ADMIN, case_id, user.id)
    if case.entry.get("folder"):
        await access.folders.put_in_folder(ADMIN, await access.folder(user), case_id)
    access.clock.at = case.now

    decision = await access.check(user, case_id)
    (again,) = await access.sight.check_many(user.login, [case_id])
    listed = await access.sight.list_cases(user.login, None, 10, facility_id=None, at_least=0)

    if case.expected is None:
        assert [NO_SIGHT, NO_SIGHT, []] == [decision, again, listed]
        return
    assert case.expected["level"] == decision.level.name.lower()
    assert [case.expected["images"], case.expected["reports"]] == [decision.images, decision.reports]
    assert set(case.expected["read_types"]) == decision.read_types
    assert case.expected["ways"] == list(decision.paths)
    assert decision.facility_id == north.id
    assert decision.images == bool(decision.studies)
    assert (decision.level, decision.paths, ()) == (again.level, again.paths, again.studies)
    assert [(case_id, decision.level)] == [(each.case_id, level) for each, level in listed]
