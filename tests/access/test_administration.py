"""What administrators do: users, privileges, folders, grants, and what is refused."""

import asyncio
from collections.abc import Awaitable
from datetime import date, timedelta
from typing import Any
from uuid import uuid4

import pytest

from kernel.errors import Conflict, Denied, Invalid, NotFound
from kernel.ids import FacilityId, UserId
from kernel.reading import PrivilegeLevel, ReadType
from services.access.domain import NO_SIGHT, ROLES, Facility, Permission, PermissionGrant, Role, User
from services.access.folders import FolderSettings
from services.access.manager import UserSettings
from tests.access.builders import a_facility, a_user
from tests.access.conftest import ADMIN, Access
from tests.clocks import NOON


def settings(user: User | None = None, **changes: Any) -> UserSettings:
    """What an administrator sends: a new user, or this one as they are; and what they change."""
    values: dict[str, Any] = {
        "user_id": user.id if user else None,
        "version": user.version if user else 0,
        "login": user.login if user else "jane",
        "name": user.name if user else "Jane Doe",
        "role": user.role if user else Role.RADIOLOGIST,
        "active": user.active if user else True,
        "home_facility_id": user.home_facility_id if user else None,
        "permissions": None,
    }
    return UserSettings(**values | changes)


async def save(access: Access, by: str = ADMIN, user: User | None = None, **changes: Any) -> User:
    """As an administrator does who has just loaded the user."""
    if user and "version" not in changes:
        changes["version"] = (await access.stored(user.id)).version
    saved, _ = await access.users.save_user(by, settings(user, **changes))
    return saved


async def refused(
    awaitable: Awaitable[object], word: type[Denied | NotFound | Invalid | Conflict], field: str | None
) -> None:
    with pytest.raises(word) as refusal:
        await awaitable
    assert field == refusal.value.field, refusal.value.sentence


# The first administrator


async def test_the_first_administrator_holds_access_admin_and_his_roles_defaults(access: Access) -> None:
    admin = await access.stored(access.admin.id)

    assert {Permission.ADMINISTER_ACCESS} | ROLES[Role.ADMINISTRATOR].defaults == {
        grant.permission for grant in admin.permissions if grant.facility_id is None
    }
    assert [("service:access", "user.saved", "done")] == await access.audited()


async def test_there_is_one_first_administrator(access: Access) -> None:
    assert await access.users.create_first_administrator("mallory") is None
    assert [ADMIN] == [user.login for user in await access.users.list_users(ADMIN, "", 10)]


# Users


async def test_a_new_user_has_the_permissions_of_his_role(access: Access) -> None:
    jane = await save(access, login="Jane.D", role=Role.RADIOLOGIST, active=False)

    assert jane == await access.stored(jane.id)
    assert ("jane.d", True, 1) == (jane.login, jane.active, jane.version)
    assert jane.permissions == {PermissionGrant(each) for each in ROLES[Role.RADIOLOGIST].defaults}


async def test_a_facility_manager_administers_his_own_facility_only(access: Access) -> None:
    home = await access.facility()
    manager = await save(access, role=Role.FACILITY_MANAGER, home_facility_id=home.id)

    assert {home.id} == {
        grant.facility_id for grant in manager.permissions if grant.permission is Permission.ADMINISTER_ACCESS
    }


async def test_a_user_keeps_role_and_permissions_that_are_not_given(access: Access) -> None:
    jane = await save(access, permissions=frozenset({PermissionGrant(Permission.READ_AUDIT)}))

    changed = await save(access, user=jane, role=None, name="Jane Roe")

    assert (jane.role, jane.permissions, jane.version + 1) == (
        changed.role,
        changed.permissions,
        changed.version,
    )


@pytest.mark.parametrize(
    ("changes", "word", "field"),
    [
        ({"login": "$user"}, Invalid, "login"),
        ({"login": "o'brien"}, Invalid, "login"),
        ({"name": " "}, Invalid, "name"),
        ({"role": None}, Invalid, "role"),
        ({"role": Role.FACILITY_MANAGER}, Invalid, "home_facility_id"),
        ({"home_facility_id": FacilityId(uuid4())}, NotFound, "facility_id"),
        (
            {"permissions": frozenset({PermissionGrant(Permission.VIEW_IMAGES, FacilityId(uuid4()))})},
            NotFound,
            "facility_id",
        ),
        ({"user_id": UserId(uuid4())}, NotFound, "user_id"),
        ({"login": ADMIN.upper()}, Conflict, "login"),
    ],
)
async def test_a_user_that_cannot_be_is_refused(
    access: Access, changes: dict[str, Any], word: type[Invalid], field: str
) -> None:
    await refused(save(access, **changes), word, field)


async def test_a_login_never_changes(access: Access) -> None:
    jane = await save(access)

    await refused(save(access, user=jane, login="janet"), Invalid, "login")


async def test_somebody_always_administers(access: Access) -> None:
    admin = await access.stored(access.admin.id)

    await refused(save(access, user=admin, active=False), Conflict, None)
    await refused(save(access, user=admin, permissions=frozenset()), Conflict, None)
    assert admin == await access.stored(admin.id)


async def test_two_administrators_cannot_deactivate_each_other_at_once(access: Access) -> None:
    admin = await access.stored(access.admin.id)
    other = await save(access, login="other", permissions=admin.permissions, role=Role.ADMINISTRATOR)
    for _ in range(8):  # they do not always meet
        results = await asyncio.gather(
            save(access, by=ADMIN, user=other, active=False),
            save(access, by="other", user=admin, active=False),
            return_exceptions=True,
        )

        (deactivated,) = [result for result in results if isinstance(result, User)]
        left = admin if deactivated.id == other.id else other
        await save(access, by=left.login, user=deactivated, active=True)


async def test_an_act_is_audited_told_and_bumps_what_it_changes(access: Access) -> None:
    revision = await access.revision()
    jane, told = await access.users.save_user(ADMIN, settings())
    facility = await access.facility()
    facts = len(await access.facts())

    after = await access.give(jane, facility, PrivilegeLevel.VIEW)

    assert revision < told < after == await access.revision()
    assert [("user.changed.v1", str(jane.id), 2)] == (await access.facts())[facts:]
    assert 2 == (await access.stored(jane.id)).version
    assert (ADMIN, "privilege.saved", "done") == (await access.audited())[-1]


async def test_what_changes_nothing_is_not_an_act(access: Access) -> None:
    jane = await save(access)
    facility = await access.facility()
    case_id = await access.case(facility)
    await access.give(jane, facility, PrivilegeLevel.VIEW)
    folder_id = await access.folder(jane)
    await access.folders.put_in_folder(ADMIN, folder_id, case_id)
    await access.folders.grant_case(ADMIN, case_id, jane.id)
    before = (await access.revision(), await access.facts(), await access.audited())

    await save(access, user=await access.stored(jane.id))
    await access.give(jane, facility, PrivilegeLevel.VIEW)
    await access.folders.save_folder(ADMIN, FolderSettings(folder_id, "Folder", frozenset({jane.id})))
    await access.folders.put_in_folder(ADMIN, folder_id, case_id)
    await access.folders.grant_case(ADMIN, case_id, jane.id)

    assert before == (await access.revision(), await access.facts(), await access.audited())


async def test_users_are_listed_by_login_page_by_page(access: Access) -> None:
    for login in ("carol", "bob", "dave"):
        await save(access, login=login)

    first = await access.users.list_users(ADMIN, "", 2)
    second = await access.users.list_users(ADMIN, first[-1].login, 10)

    assert [ADMIN, "bob", "carol", "dave"] == [user.login for user in first + second]


# Privileges


@pytest.mark.proves("ACC-1")
async def test_each_pair_of_user_and_facility_has_one_privilege(access: Access) -> None:
    facility, other = await access.facility("A"), await access.facility("B")
    user = await access.user()

    await access.give(user, other, PrivilegeLevel.VIEW)
    for level in (PrivilegeLevel.VIEW, PrivilegeLevel.REPORT, PrivilegeLevel.DRAFT):
        await access.give(user, facility, level)
        held = await access.users.list_privileges(ADMIN, user.id)
        assert [(facility.id, level), (other.id, PrivilegeLevel.VIEW)] == [
            (each.facility_id, each.privilege.level) for each in held
        ]
    await access.give(user, facility, PrivilegeLevel.NONE)

    assert [other.id] == [each.facility_id for each in await access.users.list_privileges(ADMIN, user.id)]


@pytest.mark.proves("ACC-11")
@pytest.mark.proves("ACC-12")
async def test_a_privilege_that_expires_is_listed_with_what_it_amounts_to(access: Access) -> None:
    north, south = await access.facility("North", "Europe/Amsterdam"), await access.facility("South")
    user = await access.user()
    await access.give(user, north, PrivilegeLevel.REPORT, expires_on=date(2026, 12, 1))
    await access.give(user, south, PrivilegeLevel.REPORT)
    case_north, case_south = await access.case(north), await access.case(south)

    (held, unlimited) = await access.users.list_privileges(ADMIN, user.id)
    assert (PrivilegeLevel.REPORT, date(2026, 12, 1)) == (held.effective_level, held.privilege.expires_on)
    assert held.expires_at is not None
    assert unlimited.expires_at is None

    access.clock.at = held.expires_at - timedelta(microseconds=1)
    assert PrivilegeLevel.REPORT is (await access.check(user, case_north)).level

    access.clock.at = held.expires_at
    assert PrivilegeLevel.DRAFT is (await access.check(user, case_north)).level
    assert PrivilegeLevel.REPORT is (await access.check(user, case_south)).level
    (held, _) = await access.users.list_privileges(ADMIN, user.id)
    assert (PrivilegeLevel.DRAFT, PrivilegeLevel.REPORT) == (held.effective_level, held.privilege.level)

    await access.give(user, north, PrivilegeLevel.REPORT, expires_on=date(2027, 12, 1))
    assert PrivilegeLevel.REPORT is (await access.check(user, case_north)).level


async def test_a_facility_that_moves_to_another_time_zone_moves_the_instant(access: Access) -> None:
    facility = await access.facility("North", "Europe/Amsterdam")
    user = await access.user()
    case_id = await access.case(facility)
    await access.give(user, facility, PrivilegeLevel.REPORT, expires_on=date(2026, 12, 1))
    access.clock.at = NOON.replace(month=12, day=1, hour=3)
    assert PrivilegeLevel.DRAFT is (await access.check(user, case_id)).level

    moved = Facility(facility.id, facility.name, "America/New_York", 2)
    revision, version = await access.revision(), (await access.stored(user.id)).version
    await access.hear(moved)

    assert PrivilegeLevel.REPORT is (await access.check(user, case_id)).level
    assert revision + 1 == await access.revision()
    assert ("user.changed.v1", str(user.id), version + 1) == (await access.facts())[-1]


@pytest.mark.proves("ACC-2")
async def test_only_who_holds_access_admin_changes_privileges(access: Access) -> None:
    facility = await access.facility()
    mighty = await access.user(
        Role.ADMINISTRATOR,
        permissions=frozenset(
            PermissionGrant(each) for each in Permission if each is not Permission.ADMINISTER_ACCESS
        ),
    )
    user = await access.user()

    for by in (mighty, user):
        await refused(access.give(user, facility, PrivilegeLevel.VIEW, by=by.login), Denied, None)
        await refused(save(access, by=by.login, user=user, name="Other"), Denied, None)
        await refused(access.users.list_users(by.login, "", 10), Denied, None)
        await refused(access.folders.list_folders(by.login, "", 10), Denied, None)
        await refused(
            access.folders.save_folder(by.login, FolderSettings(None, "F", frozenset())), Denied, None
        )
    assert [] == await access.users.list_privileges(ADMIN, user.id)
    assert (user.login, "user.saved", "refused") in await access.audited()


@pytest.mark.proves("ACC-2")
async def test_who_loses_access_admin_has_lost_it_at_once(access: Access) -> None:
    facility = await access.facility()
    manager = await access.manager(facility)
    user = await access.user(Role.FACILITY_USER, home_facility_id=facility.id)
    await access.give(manager, facility, PrivilegeLevel.VIEW)
    await access.give(user, facility, PrivilegeLevel.VIEW, by=manager.login)

    await save(access, user=await access.stored(manager.id), permissions=frozenset())

    await refused(access.give(user, facility, PrivilegeLevel.NONE, by=manager.login), Denied, None)


async def test_an_administrator_gives_himself_sight_and_it_shows(access: Access) -> None:
    facility = await access.facility()
    case_id = await access.case(facility)
    assert NO_SIGHT == await access.check(access.admin, case_id)

    await access.give(access.admin, facility, PrivilegeLevel.REPORT)

    assert PrivilegeLevel.REPORT is (await access.check(access.admin, case_id)).level
    assert (ADMIN, "privilege.saved", "done") == (await access.audited())[-1]


async def test_a_privilege_of_nobody_or_nowhere_is_refused(access: Access) -> None:
    facility, user = await access.facility(), await access.user()

    await refused(access.give(a_user(), facility, PrivilegeLevel.VIEW), NotFound, "user_id")
    await refused(access.give(user, a_facility(), PrivilegeLevel.VIEW), NotFound, "facility_id")


async def test_a_user_lists_his_own_privileges_and_nobody_elses(access: Access) -> None:
    facility = await access.facility()
    user, other = await access.user(), await access.user()
    await access.give(user, facility, PrivilegeLevel.VIEW)

    assert [facility.id] == [
        each.facility_id for each in await access.users.list_privileges(user.login, user.id)
    ]
    await refused(access.users.list_privileges(other.login, user.id), Denied, None)


# Delegated managers give only what they have


@pytest.mark.proves("ACC-2")
async def test_a_delegated_manager_gives_at_his_facility_up_to_his_own_level(access: Access) -> None:
    home, elsewhere = await access.facility(), await access.facility()
    manager = await access.manager(home)
    await access.give(manager, home, PrivilegeLevel.REPORT)  # amounts to view
    await access.give(manager, elsewhere, PrivilegeLevel.REPORT)
    own = await access.user(Role.FACILITY_USER, home_facility_id=home.id)
    strangers = await access.user(Role.FACILITY_USER, home_facility_id=elsewhere.id)
    homeless = await access.user(Role.FACILITY_USER)

    await access.give(own, home, PrivilegeLevel.VIEW, by=manager.login)
    await access.give(own, home, PrivilegeLevel.NONE, by=manager.login)
    await refused(access.give(own, home, PrivilegeLevel.DRAFT, by=manager.login), Denied, "level")
    await refused(access.give(own, elsewhere, PrivilegeLevel.VIEW, by=manager.login), Denied, None)
    for user in (strangers, homeless):
        await refused(access.give(user, home, PrivilegeLevel.VIEW, by=manager.login), NotFound, "user_id")
        await refused(access.users.list_privileges(manager.login, user.id), NotFound, "user_id")
        await refused(save(access, by=manager.login, user=user, name="X"), NotFound, "user_id")


async def test_who_has_nothing_gives_nothing(access: Access) -> None:
    home = await access.facility()
    manager = await access.manager(home)

    await refused(access.give(manager, home, PrivilegeLevel.VIEW, by=manager.login), Denied, "level")


async def test_a_delegated_manager_gives_his_own_read_types_for_no_longer_than_he_has_them(
    access: Access,
) -> None:
    home = await access.facility()
    manager = await access.user(
        Role.RADIOLOGIST,
        permissions=a_user().permissions | {PermissionGrant(Permission.ADMINISTER_ACCESS, home.id)},
        home_facility_id=home.id,
    )
    own = await access.user(Role.RADIOLOGIST, home_facility_id=home.id)
    until = date(2026, 12, 1)
    await access.give(
        manager, home, PrivilegeLevel.REPORT, expires_on=until, read_types=[ReadType.PRELIMINARY]
    )

    def give(expires_on: date | None, *read_types: ReadType) -> Awaitable[int]:
        return access.give(
            own, home, PrivilegeLevel.REPORT, expires_on=expires_on, read_types=read_types, by=manager.login
        )

    await refused(give(until), Denied, "read_types")  # final, if none is named
    await refused(give(None, ReadType.PRELIMINARY), Denied, "expires_on")
    await refused(give(date(2026, 12, 2), ReadType.PRELIMINARY), Denied, "expires_on")
    await give(until, ReadType.PRELIMINARY)


async def test_a_delegated_manager_makes_users_of_his_own_facility_only(access: Access) -> None:
    home, elsewhere = await access.facility(), await access.facility()
    manager = await access.manager(home)

    new = await save(access, by=manager.login, role=Role.FACILITY_USER, home_facility_id=home.id)
    assert new.permissions == {
        PermissionGrant(Permission.VIEW_IMAGES, home.id),
        PermissionGrant(Permission.VIEW_REPORT, home.id),
    }  # they cannot give `study.upload`, which they do not hold

    async def make(**changes: Any) -> User:
        values: dict[str, Any] = {"login": "new", "role": Role.FACILITY_USER, "home_facility_id": home.id}
        return await save(access, by=manager.login, **values | changes)

    await refused(make(home_facility_id=elsewhere.id), Denied, "home_facility_id")
    await refused(make(home_facility_id=None), Denied, "home_facility_id")
    await refused(
        save(access, by=manager.login, user=new, home_facility_id=elsewhere.id), Denied, "home_facility_id"
    )
    for role in (Role.ADMINISTRATOR, Role.RADIOLOGIST, Role.RADIOLOGY_SUPPORT, Role.OPERATOR):
        await refused(make(role=role), Denied, "role")
        await refused(save(access, by=manager.login, user=new, role=role), Denied, "role")
    await make(role=Role.FACILITY_MANAGER)


@pytest.mark.parametrize(
    "permission", [Permission.UPLOAD_STUDY, Permission.ADMINISTER_FACILITIES, Permission.OPERATOR]
)
async def test_a_delegated_manager_gives_only_permissions_that_he_holds_there(
    access: Access, permission: Permission
) -> None:
    home, elsewhere = await access.facility(), await access.facility()
    manager = await access.manager(home)
    own = await access.user(Role.FACILITY_USER, home_facility_id=home.id, permissions=frozenset())

    def give(*grants: PermissionGrant) -> Awaitable[User]:
        return save(access, by=manager.login, user=own, permissions=frozenset(grants))

    await refused(give(PermissionGrant(permission, home.id)), Denied, "permissions")
    await refused(give(PermissionGrant(Permission.VIEW_IMAGES)), Denied, "permissions")
    await refused(give(PermissionGrant(Permission.VIEW_IMAGES, elsewhere.id)), Denied, "permissions")
    await give(PermissionGrant(Permission.VIEW_IMAGES, home.id))
    others = await access.user(Role.FACILITY_USER, home_facility_id=home.id)
    await refused(save(access, by=manager.login, user=others, permissions=frozenset()), Denied, "permissions")


async def test_a_delegated_manager_does_not_change_the_mightier(access: Access) -> None:
    home = await access.facility()
    manager = await access.manager(home)
    radiologist = await access.user(Role.RADIOLOGIST, home_facility_id=home.id)

    await refused(save(access, by=manager.login, user=radiologist, active=False), Denied, "role")


async def test_a_delegated_manager_lists_their_own_users_and_privileges(access: Access) -> None:
    home, elsewhere = await access.facility(), await access.facility()
    manager = await access.manager(home)
    own = await access.user(Role.FACILITY_USER, home_facility_id=home.id)
    await access.user(Role.FACILITY_USER, home_facility_id=elsewhere.id)
    for facility in (home, elsewhere):
        await access.give(own, facility, PrivilegeLevel.VIEW)

    assert {manager.id, own.id} == {user.id for user in await access.users.list_users(manager.login, "", 10)}
    held = await access.users.list_privileges(manager.login, own.id)
    assert [home.id] == [each.facility_id for each in held]
    await refused(
        access.folders.save_folder(manager.login, FolderSettings(None, "Mine", frozenset())), Denied, None
    )


# Refusals, and several at once


async def test_a_refusal_leaves_an_audit_row_and_nothing_else(access: Access) -> None:
    user = await access.user()
    case_id = await access.case(await access.facility())
    facts, revision = await access.facts(), await access.revision()

    await refused(access.folders.grant_case(user.login, case_id, user.id), NotFound, "case_id")

    assert (user.login, "case.granted", "refused") == (await access.audited())[-1]
    assert (facts, revision) == (await access.facts(), await access.revision())


async def test_administrators_at_work_side_by_side_do_not_lock_each_other_out(access: Access) -> None:
    facility = await access.facility()
    admin = await access.stored(access.admin.id)
    others = [
        await save(access, login=f"admin{n}", role=Role.ADMINISTRATOR, permissions=admin.permissions)
        for n in range(6)
    ]

    async def give(by: User, user: User, level: PrivilegeLevel) -> None:
        while True:
            try:
                await access.give(user, facility, level, by=by.login)
                return
            except Conflict:  # another was faster: it is loaded again
                pass

    async def work(by: User) -> None:
        for user in [each for each in others if each != by]:
            await give(by, user, PrivilegeLevel.DRAFT)
            await give(by, user, PrivilegeLevel.VIEW)

    await asyncio.gather(*map(work, others))

    for user in others:
        (held,) = await access.users.list_privileges(ADMIN, user.id)
        assert PrivilegeLevel.VIEW is held.privilege.level
