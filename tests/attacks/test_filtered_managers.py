"""Position: a delegated manager who sees less than whom they manage, by a filter or by their level.

They cannot widen what they see themselves, so they would have a second account of theirs see it.
"""

from dataclasses import replace

import pytest

from kernel.errors import Denied
from kernel.reading import PrivilegeLevel
from services.access.domain import Facility, Permission, PermissionGrant, Role, User
from services.access.manager import UserSettings
from tests.access.conftest import Access, refused
from tests.access.test_filters import RESEARCH, a_managed_user, described, new_user, save


async def settings(access: Access, user: User, **changes: object) -> UserSettings:
    """The user as a manager loads them, to be saved with these changes."""
    stored = await access.stored(user.id)
    kept = UserSettings(
        user_id=user.id,
        version=stored.version,
        login=stored.login,
        name=stored.name,
        role=stored.role,
        active=stored.active,
        home_facility_id=stored.home_facility_id,
        permissions=None,
    )
    return replace(kept, **changes)  # type: ignore[arg-type]


async def a_filtered_manager(access: Access, home: Facility) -> User:
    manager = await access.manager(home, Permission.VIEW_IMAGES)
    await access.give(manager, home, PrivilegeLevel.VIEW)
    await save(access, manager, RESEARCH)
    return manager


@pytest.mark.proves("A13", part="through a filter")
async def test_a_filtered_manager_gives_no_level_to_who_sees_without_their_filter(access: Access) -> None:
    home = await access.facility()
    hidden = await access.case(home, described("Head"))
    manager = await a_filtered_manager(access, home)
    second = await access.user(Role.FACILITY_USER, home_facility_id=home.id)

    await refused(access.give(second, home, PrivilegeLevel.VIEW, by=manager.login), Denied, None)
    await save(access, second, "StudyDescription contains 'head'")
    await refused(access.give(second, home, PrivilegeLevel.VIEW, by=manager.login), Denied, None)
    assert not (await access.check(second, hidden)).allowed

    await save(access, second, RESEARCH)
    await access.give(second, home, PrivilegeLevel.VIEW, by=manager.login)
    assert not (await access.check(second, hidden)).allowed


@pytest.mark.proves("A13", part="through a filter")
async def test_a_filtered_manager_wakes_nobody_who_sees_more_and_gives_them_no_permission(
    access: Access,
) -> None:
    home = await access.facility()
    manager = await a_filtered_manager(access, home)
    second = await a_managed_user(access, home)
    await access.users.save_user("ada", await settings(access, second, permissions=frozenset(), active=True))
    images = frozenset({PermissionGrant(Permission.VIEW_IMAGES, home.id)})

    await refused(
        access.users.save_user(manager.login, await settings(access, second, permissions=images)),
        Denied,
        None,
    )
    await access.users.save_user(manager.login, await settings(access, second, active=False))
    await refused(
        access.users.save_user(manager.login, await settings(access, second, active=True)), Denied, None
    )


async def test_a_filtered_manager_goes_on_with_what_gives_nobody_more(access: Access) -> None:
    home = await access.facility()
    manager = await a_filtered_manager(access, home)
    before = await a_managed_user(access, home)
    created, _ = await access.users.save_user(manager.login, new_user(home.id, Role.FACILITY_USER))

    await access.give(created, home, PrivilegeLevel.VIEW, by=manager.login)
    await access.users.save_user(manager.login, await settings(access, before, name="Another name"))
    await access.give(before, home, PrivilegeLevel.NONE, by=manager.login)


@pytest.mark.proves("A13", part="what is shown one by one")
async def test_a_manager_who_does_not_see_every_case_gives_no_more_of_what_is_shown_one_by_one(
    access: Access,
) -> None:
    """A grant shows a case whatever the level and the filter of its user are."""
    home = await access.facility()
    hidden = await access.case(home, described("Head"))
    second = await access.user(Role.FACILITY_USER, home_facility_id=home.id, permissions=frozenset())
    await access.folders.grant_case("ada", hidden, second.id)
    images = frozenset({PermissionGrant(Permission.VIEW_IMAGES, home.id)})
    without_a_level = await access.manager(home, Permission.VIEW_IMAGES)
    filtered = await a_filtered_manager(access, home)
    await save(access, second, RESEARCH)

    for manager in (without_a_level, filtered):
        for changes in ({"permissions": images}, {"active": False}, {"active": True}):
            act = access.users.save_user(manager.login, await settings(access, second, **changes))
            if changes == {"active": False}:
                await act
            else:
                await refused(act, Denied, None)
            assert not (await access.stored(second.id)).permissions
        await access.users.save_user("ada", await settings(access, second, active=True))
    sees_all = await access.manager(home, Permission.VIEW_IMAGES)
    await access.give(sees_all, home, PrivilegeLevel.VIEW)
    await access.users.save_user(sees_all.login, await settings(access, second, permissions=images))
    assert (await access.check(second, hidden)).images


@pytest.mark.proves("A13", part="through a filter")
async def test_a_manager_without_a_level_opens_nobodys_filter(access: Access) -> None:
    """What they do not see at the facility they would let another see."""
    home = await access.facility()
    hidden = await access.case(home, described("Head"))
    manager = await access.manager(home)
    second = await a_managed_user(access, home)
    await save(access, second, RESEARCH, by=manager.login)  # a first filter only hides

    for wider in ("", "true"):
        await refused(save(access, second, wider, by=manager.login), Denied, "level")
    assert not (await access.check(second, hidden)).allowed

    await access.give(manager, home, PrivilegeLevel.VIEW)
    await save(access, second, "", by=manager.login)
    assert (await access.check(second, hidden)).allowed
