"""What a delegated manager may do at their own facility beside what they could give."""

from collections.abc import Awaitable, Collection
from datetime import date

import pytest

from kernel.errors import Denied
from kernel.reading import PrivilegeLevel, ReadType
from services.access.domain import Facility, Permission, PermissionGrant, Role, User
from tests.access.conftest import ADMIN, Access
from tests.access.test_administration import refused, save


@pytest.mark.proves("A13")
async def test_a_delegated_manager_reduces_at_their_own_facility_what_they_could_not_give(
    access: Access,
) -> None:
    home = await access.facility()
    manager = await access.manager(home)
    own = await access.user(Role.RADIOLOGIST, home_facility_id=home.id)
    types = {ReadType.FINAL, ReadType.PRE_READ}
    await access.give(own, home, PrivilegeLevel.REPORT, read_types=types)

    async def give(level: PrivilegeLevel, *read_types: ReadType, expires_on: date | None = None) -> None:
        await access.give(own, home, level, read_types=read_types, expires_on=expires_on, by=manager.login)

    await refused(give(PrivilegeLevel.REPORT, ReadType.FINAL, ReadType.OTHER), Denied, "level")
    await give(PrivilegeLevel.REPORT, ReadType.FINAL)
    await give(PrivilegeLevel.REPORT, ReadType.FINAL, expires_on=date(2027, 1, 1))
    await refused(give(PrivilegeLevel.REPORT, ReadType.FINAL, expires_on=date(2027, 1, 2)), Denied, "level")
    await give(PrivilegeLevel.DRAFT)
    await refused(give(PrivilegeLevel.REPORT, ReadType.FINAL), Denied, "level")
    await give(PrivilegeLevel.NONE)
    await access.give(manager, home, PrivilegeLevel.VIEW)
    await refused(
        give(PrivilegeLevel.VIEW), Denied, "level"
    )  # who sees pre-reads, which the manager does not


@pytest.mark.proves("A13")
async def test_a_permission_elsewhere_is_neither_shown_nor_taken_nor_given(access: Access) -> None:
    """The manager names what they know of; what they are not shown stays."""
    home, elsewhere = await access.facility(), await access.facility()
    manager = await access.manager(home)
    upload = {PermissionGrant(Permission.UPLOAD_STUDY, each.id) for each in (home, elsewhere)}
    own = await access.user(Role.FACILITY_USER, home_facility_id=home.id, permissions=frozenset(upload))
    third = await access.facility()

    def at(*facilities: Facility) -> frozenset[PermissionGrant]:
        return frozenset(PermissionGrant(Permission.UPLOAD_STUDY, each.id) for each in facilities)

    async def keep(*facilities: Facility) -> frozenset[PermissionGrant]:
        shown = await save(access, by=manager.login, user=own, permissions=at(*facilities))
        [listed] = [each for each in await access.users.list_users(manager.login, "", 9) if each.id == own.id]
        assert shown == listed
        return shown.permissions

    assert at(home) == await keep(home)
    assert at(elsewhere, home) == (await access.stored(own.id)).permissions
    await refused(keep(third), Denied, "permissions")
    assert at() == await keep()
    assert at(elsewhere) == (await access.stored(own.id)).permissions
    await refused(keep(home), Denied, "permissions")
    [admins] = [each for each in await access.users.list_users(ADMIN, "", 9) if each.id == own.id]
    assert at(elsewhere) == admins.permissions


@pytest.mark.proves("A13")
@pytest.mark.parametrize("way", ["grant", "folder", "share"])
async def test_whoever_is_shown_a_case_elsewhere_is_switched_by_nobody_here(access: Access, way: str) -> None:
    home, elsewhere = await access.facility(), await access.facility()
    manager = await access.manager(home)
    await access.give(manager, home, PrivilegeLevel.VIEW)
    own = await access.user(Role.FACILITY_USER, home_facility_id=home.id, permissions=frozenset())

    async def switch_off_and_on() -> None:
        await save(access, by=manager.login, user=own, active=False)
        await save(access, by=manager.login, user=own, active=True)

    async def show(facility: Facility) -> None:
        case_id = await access.case(facility)
        match way:
            case "grant":
                await access.folders.grant_case(access.admin.login, case_id, own.id)
            case "folder":
                folder_id = await access.folder(own, name=facility.name)
                await access.folders.put_in_folder(access.admin.login, folder_id, case_id)
            case _:
                await access.share(own, case_id, facility_id=facility.id, is_open=False)

    await show(home)
    await switch_off_and_on()
    await show(elsewhere)
    await refused(save(access, by=manager.login, user=own, active=False), Denied, "active")
    await refused(save(access, by=manager.login, user=own, role=Role.REFERRING_PHYSICIAN), Denied, "role")
    await save(access, by=manager.login, user=own, name="Other")


@pytest.mark.proves("REP-7", part="no manager shows a pre-read that they do not see")
@pytest.mark.parametrize("way", ["privilege", "grant", "folder"])
async def test_who_sees_no_pre_reads_shows_no_case_to_who_does(access: Access, way: str) -> None:
    home = await access.facility()
    manager, case_id = await access.manager(home), await access.case(home)
    await access.give(manager, home, PrivilegeLevel.VIEW)
    permissions = manager.permissions
    for role in (Role.RADIOLOGY_SUPPORT, Role.FACILITY_USER):
        own = await access.user(role, home_facility_id=home.id, permissions=permissions)
        folder_id = await access.folder(own, name=role)
        shown: Awaitable[object]
        match way:
            case "privilege":
                shown = access.give(own, home, PrivilegeLevel.VIEW, by=manager.login)
            case "grant":
                shown = access.folders.grant_case(manager.login, case_id, own.id)
            case _:
                shown = access.folders.put_in_folder(manager.login, folder_id, case_id)
        if role is Role.RADIOLOGY_SUPPORT:
            await refused(shown, Denied, "level" if way == "privilege" else None)
        else:
            await shown
        assert (role is Role.FACILITY_USER) == (await access.check(own, case_id)).allowed


@pytest.mark.proves("A13")
@pytest.mark.parametrize(
    ("role", "level", "more", "field"),
    [
        (Role.RADIOLOGIST, PrivilegeLevel.NONE, (), "role"),
        (Role.FACILITY_USER, PrivilegeLevel.REPORT, (), "level"),
        (Role.FACILITY_USER, PrivilegeLevel.VIEW, (Permission.DELETE_STUDY,), "permissions"),
        (Role.FACILITY_USER, PrivilegeLevel.VIEW, (), None),
    ],
    ids=["role", "dormant level", "permission", "within"],
)
async def test_who_holds_more_is_made_no_manager_by_who_holds_less(
    access: Access, role: Role, level: PrivilegeLevel, more: Collection[Permission], field: str | None
) -> None:
    home = await access.facility()
    manager = await access.manager(home)
    await access.give(manager, home, PrivilegeLevel.VIEW)
    held = frozenset(PermissionGrant(each) for each in more)
    own = await access.user(role, home_facility_id=home.id, permissions=held)
    await access.give(own, home, level)
    made = save(
        access,
        by=manager.login,
        user=own,
        permissions=held | {PermissionGrant(Permission.ADMINISTER_ACCESS, home.id)},
    )

    if field is None:
        assert isinstance(await made, User)
    else:
        await refused(made, Denied, field)
