"""Two administrators at one thing (A68)."""

from datetime import timedelta

import pytest

from kernel.errors import Conflict
from kernel.reading import PrivilegeLevel
from services.access.domain import Facility, Role
from services.access.privileges import checked_privilege
from tests.access.conftest import ADMIN, Access
from tests.access.test_administration import refused, save
from tests.clocks import NOON


@pytest.mark.proves("A68", part="users")
async def test_a_user_is_saved_only_from_the_version_that_is_stored(access: Access) -> None:
    other = await save(access, login="Bo", permissions=access.admin.permissions, role=Role.ADMINISTRATOR)
    loaded = await save(access, login="jane")
    await save(access, by=other.login, user=loaded, permissions=frozenset())
    access.clock.at = NOON + timedelta(hours=3)

    for version, what in ((loaded.version, "after you loaded it"), (0, "name its version"), (9, "again")):
        with pytest.raises(Conflict) as refusal:
            await save(access, user=loaded, name="Jane Roe", version=version)
        assert "the user `jane`" in refusal.value.sentence
        assert "by `bo` on 2026-11-01 at 12:00:00 UTC" in refusal.value.sentence
        assert what in refusal.value.sentence
    assert (frozenset(), "Jane Doe") == (
        (await access.stored(loaded.id)).permissions,
        (await access.stored(loaded.id)).name,
    )


@pytest.mark.proves("A68", part="users")
async def test_whatever_a_user_is_compiled_from_is_part_of_their_version(access: Access) -> None:
    loaded, facility = await save(access, login="jane"), await access.facility()
    await access.give(loaded, facility, PrivilegeLevel.VIEW)
    await refused(save(access, user=loaded, version=loaded.version, name="X"), Conflict, "version")

    loaded = await access.stored(loaded.id)
    await access.hear(Facility(facility.id, facility.name, "America/New_York", 2))
    with pytest.raises(Conflict, match=r"by `service:routing` on") as refusal:
        await save(access, user=loaded, version=loaded.version, name="X")
    assert "version" == refusal.value.field


@pytest.mark.proves("A68", part="privileges")
async def test_a_privilege_is_saved_only_from_the_version_that_is_stored(access: Access) -> None:
    facility, user = await access.facility("North"), await access.user(login="jane")

    async def give(level: PrivilegeLevel, version: int) -> int:
        privilege = checked_privilege(level, None, frozenset(), version)
        held, _ = await access.users.save_privilege(ADMIN, user.id, facility.id, privilege)
        (listed,) = await access.users.list_privileges(ADMIN, user.id) or [held]
        assert held == listed
        assert held.privilege.version == listed.privilege.version
        return held.privilege.version

    first = await give(PrivilegeLevel.VIEW, 0)
    second = await give(PrivilegeLevel.DRAFT, first)
    for version, what in ((first, "was changed by"), (0, "exists already"), (second + 1, "was changed")):
        with pytest.raises(Conflict, match=what) as refusal:
            await give(PrivilegeLevel.REPORT, version)
        assert "the privilege of `jane` at `North`" in refusal.value.sentence
        assert "by `ada` on 2026-11-01 at 12:00:00 UTC" in refusal.value.sentence
    assert 0 == await give(PrivilegeLevel.NONE, second)
    with pytest.raises(Conflict, match="was removed by `ada`"):
        await give(PrivilegeLevel.REPORT, second)
    third = await give(PrivilegeLevel.VIEW, 0)
    assert third not in {0, first, second}


async def test_a_privilege_that_the_version_before_gave_can_be_saved(access: Access) -> None:
    facility, user = await access.facility(), await access.user()
    await access.query(
        "insert into privileges (user_id, facility_id, level, read_types) values ($1, $2, 1, '{}')",
        user.id,
        facility.id,
    )
    (held,) = await access.users.list_privileges(ADMIN, user.id)
    assert 1 == held.privilege.version

    await access.give(user, facility, PrivilegeLevel.DRAFT)

    (held,) = await access.users.list_privileges(ADMIN, user.id)
    assert (PrivilegeLevel.DRAFT, 2) == (held.privilege.level, held.privilege.version)
