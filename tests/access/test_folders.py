"""Folders and grants of single cases: who may show what to whom, who takes it back, and what a move ends."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from kernel.errors import Conflict, Denied, Invalid, NotFound
from kernel.ids import CaseId, FacilityId, FolderId, UserId
from kernel.reading import PrivilegeLevel
from services.access.domain import NO_SIGHT, Facility, Permission, PermissionGrant, Role, User
from services.access.folders import MAX_FOLDER_MEMBERS, Folder, FolderSettings, Place, Showing
from tests.access.builders import a_placement, a_study
from tests.access.conftest import ADMIN, Access, refused
from tests.clocks import NOON
from tests.healing import heal


async def a_manager(
    access: Access, home: Facility, *more: Permission, level: PrivilegeLevel = PrivilegeLevel.VIEW
) -> User:
    manager = await access.manager(home, *more)
    await access.give(manager, home, level)
    return manager


async def save(access: Access, folder: Folder, by: str = ADMIN, **changes: Any) -> Folder:
    values: dict[str, Any] = {
        "folder_id": folder.id,
        "name": folder.name,
        "members": folder.members,
        "version": folder.last.version,
    }
    saved, _ = await access.folders.save_folder(by, FolderSettings(**values | changes))
    return saved


async def stored(access: Access, folder_id: FolderId) -> Folder:
    (folder,) = [each for each in await access.folders.list_folders(ADMIN, "", 500) if each.id == folder_id]
    return folder


async def grants(access: Access, by: User | str, of: CaseId | User, limit: int = 500) -> list[Showing]:
    return await every(
        lambda after: access.folders.list_grants(
            by if isinstance(by, str) else by.login,
            of.id if isinstance(of, User) else of,
            by_case=not isinstance(of, User),
            after=after,
            limit=limit,
        ),
        limit,
    )


async def entries(
    access: Access, by: User | str, case_id: CaseId | None = None, **of: FolderId
) -> list[Showing]:
    found = await access.folders.list_folder_cases(
        by if isinstance(by, str) else by.login,
        case_id or of["folder_id"],
        by_case=case_id is not None,
        after=None,
        limit=500,
    )
    return list(found)


async def every(ask: Callable[[Place | None], Any], limit: int) -> list[Showing]:
    found: list[Showing] = []
    while page := await ask(found[-1].place if found else None):
        assert len(page) <= limit
        found += page
    return found


# Who may show a case to others


def ways_around(access: Access, folder_id: FolderId, user: User) -> dict[str, Callable[[str, CaseId], Any]]:
    folders = access.folders
    return {
        "grant": lambda by, case_id: folders.grant_case(by, case_id, user.id),
        "revoke": lambda by, case_id: folders.revoke_grant(by, case_id, user.id),
        "put": lambda by, case_id: folders.put_in_folder(by, folder_id, case_id),
        "remove": lambda by, case_id: folders.remove_from_folder(by, folder_id, case_id),
    }


WAYS = ["grant", "revoke", "put", "remove"]
GIVING = ["grant", "put"]
TAKING = ["revoke", "remove"]


@pytest.mark.proves("ACC-4")
@pytest.mark.proves("ACC-5")
@pytest.mark.parametrize("way", WAYS)
async def test_who_may_show_a_case_to_others(access: Access, way: str) -> None:
    home, elsewhere = await access.facility(), await access.facility()
    case_id, foreign = await access.case(home), await access.case(elsewhere)
    manager = await a_manager(access, home)
    own = await access.user(Role.FACILITY_USER, home_facility_id=home.id)
    sees = await access.user(Role.RADIOLOGIST)
    await access.give(sees, home, PrivilegeLevel.REPORT)
    folder_id = await access.folder(own)
    do = ways_around(access, folder_id, own)[way]

    await do(ADMIN, case_id)  # without sight of it
    await do(manager.login, case_id)  # who administers its facility
    await refused(do(sees.login, case_id), Denied, None)  # seen
    await refused(do(own.login, foreign), NotFound, "case_id")  # not seen
    await refused(do(manager.login, foreign), NotFound, "case_id")
    for by in (ADMIN, manager.login, sees.login):
        await refused(do(by, CaseId(uuid4())), NotFound, "case_id")  # absent


@pytest.mark.proves("A13", part="grants and folders")
@pytest.mark.parametrize("way", GIVING)
async def test_a_manager_shows_only_what_they_see_by_their_own_privilege(access: Access, way: str) -> None:
    home = await access.facility()
    case_id = await access.case(home)
    manager = await access.manager(home)
    own = await access.user(Role.FACILITY_USER, home_facility_id=home.id)
    do = ways_around(access, await access.folder(own), own)[way]

    await refused(do(manager.login, case_id), Denied, None)
    # Neither a grant, nor a folder, nor a share is theirs to hand on.
    await access.folders.grant_case(ADMIN, case_id, manager.id)
    await access.folders.put_in_folder(ADMIN, await access.folder(manager, name="Theirs"), case_id)
    await access.share(manager, case_id)
    await refused(do(manager.login, case_id), Denied, None)
    assert NO_SIGHT == await access.check(own, case_id)

    await access.give(manager, home, PrivilegeLevel.VIEW)
    await do(manager.login, case_id)
    assert (await access.check(own, case_id)).allowed


@pytest.mark.proves("A13", part="grants and folders")
@pytest.mark.parametrize("way", GIVING)
@pytest.mark.parametrize("permission", [Permission.VIEW_IMAGES, Permission.VIEW_REPORT])
@pytest.mark.parametrize("is_held_everywhere", [True, False])
async def test_nobody_may_do_more_with_a_case_than_the_manager_who_shows_it(
    access: Access, way: str, permission: Permission, is_held_everywhere: bool
) -> None:
    home = await access.facility()
    case_id = await access.case(home)
    manager = await access.user(
        Role.FACILITY_MANAGER,
        home_facility_id=home.id,
        permissions=frozenset({PermissionGrant(Permission.ADMINISTER_ACCESS, home.id)}),
    )
    await access.give(manager, home, PrivilegeLevel.VIEW)
    held = PermissionGrant(permission, None if is_held_everywhere else home.id)
    user = await access.user(Role.FACILITY_USER, home_facility_id=home.id, permissions=frozenset({held}))
    lesser = await access.user(Role.FACILITY_USER, home_facility_id=home.id, permissions=frozenset())

    await refused(
        ways_around(access, await access.folder(lesser, user), user)[way](manager.login, case_id),
        Denied,
        None,
    )
    await ways_around(access, await access.folder(lesser, name="Lesser"), lesser)[way](manager.login, case_id)


@pytest.mark.parametrize("way", GIVING)
async def test_a_manager_shows_cases_only_to_users_whom_they_manage(access: Access, way: str) -> None:
    home = await access.facility()
    case_id = await access.case(home)
    manager, stranger = await a_manager(access, home), await access.user()
    own = await access.user(Role.FACILITY_USER, home_facility_id=home.id)
    field = "user_id" if way == "grant" else "folder_id"

    do = ways_around(access, await access.folder(own, stranger), stranger)[way]
    await refused(do(manager.login, case_id), NotFound, field)
    do = ways_around(access, await access.folder(name="Empty"), stranger)[way]
    await refused(do(manager.login, case_id), NotFound, field)


@pytest.mark.proves("ACC-4")
async def test_a_grant_shows_one_case_until_it_is_revoked(access: Access) -> None:
    facility = await access.facility()
    user = await access.user()
    case_id, other = await access.case(facility), await access.case(facility)

    granted = await access.folders.grant_case(ADMIN, case_id, user.id)
    assert (await access.check(user, case_id)).allowed
    assert NO_SIGHT == await access.check(user, other)
    assert [case_id] == await access.worklist(user)
    assert ("sight.changed.v1", str(case_id)) == (await access.facts())[-1][:2]

    assert granted < await access.folders.revoke_grant(ADMIN, case_id, user.id)
    assert NO_SIGHT == await access.check(user, case_id)
    assert [] == await access.worklist(user)


@pytest.mark.proves("ACC-5")
async def test_a_folder_shows_its_cases_to_its_members(access: Access) -> None:
    facility = await access.facility()
    member, other = await access.user(), await access.user()
    case_id = await access.case(facility)
    folder_id = await access.folder(member)

    await access.folders.put_in_folder(ADMIN, folder_id, case_id)
    assert [case_id] == await access.worklist(member)
    assert [] == await access.worklist(other)

    folder = await stored(access, folder_id)
    await save(access, folder, name="Renamed", members=frozenset({other.id}))
    assert NO_SIGHT == await access.check(member, case_id)
    assert [case_id] == await access.worklist(other)
    told = [fact[:2] for fact in await access.facts() if fact[0] == "user.changed.v1"][-2:]
    assert {("user.changed.v1", str(user.id)) for user in (member, other)} == set(told)

    await access.folders.remove_from_folder(ADMIN, folder_id, case_id)
    assert [] == await access.worklist(other)


# Taking back


@pytest.mark.parametrize("way", TAKING)
async def test_a_manager_takes_back_at_their_facility_whoever_gave_it_to_whom(
    access: Access, way: str
) -> None:
    home = await access.facility()
    case_id = await access.case(home)
    manager, stranger = await access.manager(home), await access.user()
    folder_id = await access.folder(stranger)
    take = ways_around(access, folder_id, stranger)[way]
    field = "user_id" if way == "revoke" else "folder_id"

    await refused(take(manager.login, case_id), NotFound, field)  # nothing to take: nobody they know
    await access.folders.grant_case(ADMIN, case_id, stranger.id)
    await access.folders.put_in_folder(ADMIN, folder_id, case_id)
    await take(manager.login, case_id)
    await refused(take(manager.login, case_id), NotFound, field)


@pytest.mark.parametrize("way", TAKING)
async def test_a_manager_takes_back_from_their_users_wherever_the_case_is(access: Access, way: str) -> None:
    """Reducing is easier than giving: whom they manage may see less of others too."""
    home, elsewhere = await access.facility(), await access.facility()
    foreign, other = await access.case(elsewhere), await access.case(elsewhere)
    manager = await access.manager(home)
    own = await access.user(Role.FACILITY_USER, home_facility_id=home.id)
    folder_id = await access.folder(own)
    take = ways_around(access, folder_id, own)[way]
    await access.folders.grant_case(ADMIN, foreign, own.id)
    await access.folders.put_in_folder(ADMIN, folder_id, foreign)

    await take(manager.login, foreign)
    assert 1 == len((await access.check(own, foreign)).paths)
    await refused(take(manager.login, foreign), NotFound, "case_id")
    await refused(take(manager.login, other), NotFound, "case_id")


@pytest.mark.parametrize("way", TAKING)
async def test_who_administers_neither_the_case_nor_the_users_takes_nothing_back(
    access: Access, way: str
) -> None:
    home, elsewhere = await access.facility(), await access.facility()
    seen, unseen = await access.case(elsewhere), await access.case(elsewhere)
    manager, stranger = await a_manager(access, home), await access.user()
    folder_id = await access.folder(stranger)
    take = ways_around(access, folder_id, stranger)[way]
    await access.folders.grant_case(ADMIN, seen, manager.id)
    for case_id in (seen, unseen):
        await access.folders.grant_case(ADMIN, case_id, stranger.id)
        await access.folders.put_in_folder(ADMIN, folder_id, case_id)

    await refused(take(manager.login, seen), Denied, None)
    await refused(take(manager.login, unseen), NotFound, "case_id")
    assert {seen, unseen} == set(await access.worklist(stranger))


# A move ends what the old owner has shown


async def test_a_move_ends_grants_and_takes_the_case_out_of_folders(access: Access) -> None:
    hub, endpoint = await access.facility(), await access.facility()
    manager = await a_manager(access, hub)
    own = await access.user(Role.FACILITY_USER, home_facility_id=hub.id)
    study = a_study()
    placement = a_placement(hub.id, study, undistributed=True)
    case_id = placement.case_id
    await access.hear(study, placement)
    folder_id = await access.folder(own)
    await access.folders.grant_case(manager.login, case_id, own.id)
    await access.folders.put_in_folder(manager.login, folder_id, case_id)
    share = await access.user()
    await access.share(share, case_id)
    revision = await access.revision()

    await access.hear(replace(placement, facility_id=endpoint.id, undistributed=False, version=2))

    assert NO_SIGHT == await access.check(own, case_id)
    assert [] == await access.worklist(own)
    assert (await access.check(share, case_id)).allowed  # what was shared stays shared
    assert revision + 1 == await access.revision()
    subject, changed, version = (await access.facts())[-1]
    assert ("sight.changed.v1", str(case_id)) == (subject, changed)
    assert version == (await access.query("select version from cases"))[0]["version"]
    assert [
        ("service:access", "case.grant_ended", "done"),
        ("service:access", "folder.case_ended", "done"),
    ] == (await access.audited())[-2:]
    details = [row["detail"] for row in await access.query("select detail::text from audit_rows order by id")]
    assert str(own.id) in details[-2]
    assert str(folder_id) in details[-1]

    # It comes back as nobody's, and is shown again only by who may then.
    await access.hear(replace(placement, version=3))
    assert NO_SIGHT == await access.check(own, case_id)
    assert [] == await grants(access, ADMIN, case_id) == await entries(access, ADMIN, case_id)
    await access.folders.grant_case(manager.login, case_id, own.id)
    assert (await access.check(own, case_id)).allowed


async def test_what_is_no_move_ends_nothing(access: Access) -> None:
    hub = await access.facility()
    user = await access.user()
    study = a_study()
    placement = a_placement(hub.id, study, undistributed=True)
    await access.hear(study, placement)
    await access.folders.grant_case(ADMIN, placement.case_id, user.id)
    later = a_study()

    await access.hear(replace(placement, undistributed=False, version=3))
    await access.hear(replace(placement, facility_id=FacilityId(uuid4()), version=2))  # old news
    await access.hear(later, a_placement(hub.id, study, later, case_id=placement.case_id, version=4))

    assert [placement.case_id] == await access.worklist(user)


async def test_a_move_of_which_no_fact_told_ends_them_when_it_heals(access: Access) -> None:
    hub, endpoint = await access.facility(), await access.facility()
    user = await access.user()
    study = a_study()
    placement = a_placement(hub.id, study)
    await access.hear(study, placement)
    await access.folders.grant_case(ADMIN, placement.case_id, user.id)

    access.owners.add(replace(placement, facility_id=endpoint.id, version=2))
    await heal(access.database, access.index.kinds())

    assert NO_SIGHT == await access.check(user, placement.case_id)


async def test_a_grant_made_while_its_case_moves_does_not_outlive_the_move(access: Access) -> None:
    """Whoever comes second sees what the first has done: they hold the same lock."""
    hub, endpoint = await access.facility(), await access.facility()
    manager = await a_manager(access, hub)
    own = await access.user(Role.FACILITY_USER, home_facility_id=hub.id)
    for _ in range(5):
        study = a_study()
        placement = a_placement(hub.id, study)
        await access.hear(study, placement)
        await asyncio.gather(
            access.folders.grant_case(manager.login, placement.case_id, own.id),
            access.hear(replace(placement, facility_id=endpoint.id, version=2)),
            return_exceptions=True,
        )
        assert NO_SIGHT == await access.check(own, placement.case_id)


# What is listed


async def test_grants_are_listed_by_case_and_by_user_page_by_page(access: Access) -> None:
    home = await access.facility()
    manager = await access.manager(home)
    own = await access.user(Role.FACILITY_USER, home_facility_id=home.id)
    users = [own, *[await access.user() for _ in range(4)]]
    cases = [
        await access.case(home, a_study(received_at=NOON + timedelta(minutes=minute % 3)))
        for minute in range(5)
    ]
    for user in users:
        await access.folders.grant_case(ADMIN, cases[0], user.id)
    for case_id in cases[1:]:
        await access.folders.grant_case(ADMIN, case_id, own.id)

    for by in (ADMIN, manager):
        for limit in (1, 2, 500):
            of_case = await grants(access, by, cases[0], limit)
            assert {user.id for user in users} == {each.to for each in of_case}
            assert len(users) == len(of_case)
            of_user = await grants(access, by, own, limit)
            order = [(each.received_at, each.case_id) for each in of_user]
            assert order == sorted(set(order), reverse=True)
            assert set(cases) == {each.case_id for each in of_user}
            assert {home.id} == {each.facility_id for each in of_user}
            assert {(own.login, own.name, home.name)} == named(of_user)
    assert {(each.login, each.name, home.name) for each in users} == named(
        await grants(access, ADMIN, cases[0])
    )
    strangers = {("", "", home.name)}  # as their ids are all that a manager learns of them
    assert {(own.login, own.name, home.name)} | strangers == named(await grants(access, manager, cases[0]))


def named(found: list[Showing]) -> set[tuple[str, str, str]]:
    return {(each.login, each.name, each.facility_name) for each in found}


@pytest.mark.proves("ACC-5", part="what is in a folder is listed")
async def test_folder_contents_are_listed_by_folder_and_by_case(access: Access) -> None:
    home = await access.facility()
    own, stranger = await access.user(Role.FACILITY_USER, home_facility_id=home.id), await access.user()
    manager = await access.manager(home)
    case_id, other = await access.case(home), await access.case(home)
    theirs, foreign = await access.folder(own, name="Own"), await access.folder(stranger, name="Foreign")
    for folder_id, held in ((theirs, case_id), (theirs, other), (foreign, case_id)):
        await access.folders.put_in_folder(ADMIN, folder_id, held)

    for by in (ADMIN, manager):
        assert {case_id, other} == {each.case_id for each in await entries(access, by, folder_id=theirs)}
        assert {theirs, foreign} == {each.to for each in await entries(access, by, case_id)}
        assert {("", "Own", home.name)} == named(await entries(access, by, folder_id=theirs))
    assert {"Own", "Foreign"} == {each.name for each in await entries(access, ADMIN, case_id)}
    assert {"Own", ""} == {each.name for each in await entries(access, manager, case_id)}
    await refused(entries(access, manager, folder_id=foreign), NotFound, "folder_id")
    await refused(entries(access, manager, folder_id=FolderId(uuid4())), NotFound, "folder_id")


async def test_of_foreign_cases_a_manager_is_listed_what_they_see_and_their_users_are_shown(
    access: Access,
) -> None:
    home, elsewhere = await access.facility(), await access.facility()
    manager = await access.manager(home)
    own = await access.user(Role.FACILITY_USER, home_facility_id=home.id)
    stranger = await access.user()
    seen, unseen = await access.case(elsewhere), await access.case(elsewhere)
    folder_id = await access.folder(own, name="Own")
    foreign_id = await access.folder(own, stranger, name="Foreign")
    await access.folders.grant_case(ADMIN, seen, manager.id)
    for case_id in (seen, unseen):
        for user in (own, stranger):
            await access.folders.grant_case(ADMIN, case_id, user.id)
        for each in (folder_id, foreign_id):
            await access.folders.put_in_folder(ADMIN, each, case_id)

    assert [seen] == [each.case_id for each in await grants(access, manager, own)]
    assert {manager.id, own.id} == {each.to for each in await grants(access, manager, seen)}
    assert [seen] == [each.case_id for each in await entries(access, manager, folder_id=folder_id)]
    assert [folder_id] == [each.to for each in await entries(access, manager, seen)]
    await refused(grants(access, manager, unseen), NotFound, "case_id")
    await refused(entries(access, manager, unseen), NotFound, "case_id")
    await refused(grants(access, manager, stranger), NotFound, "user_id")
    for ask in (grants(access, own, seen), entries(access, own, seen), grants(access, own, own)):
        await refused(ask, Denied, None)


async def test_what_is_listed_can_be_taken_back_also_from_a_user_whose_home_changed(access: Access) -> None:
    home, elsewhere = await access.facility(), await access.facility()
    here, there = await a_manager(access, home), await access.manager(elsewhere)
    user = await access.user(Role.FACILITY_USER, home_facility_id=home.id)
    cases = [await access.case(home) for _ in range(2)]
    for case_id in cases:
        await access.folders.grant_case(here.login, case_id, user.id)
    async with access.database.transaction() as transaction:
        await transaction.save_user(replace(user, home_facility_id=elsewhere.id, version=9), by=ADMIN)

    (listed,) = await grants(access, here, cases[0])
    await access.folders.revoke_grant(here.login, listed.case_id, UserId(listed.to))
    assert [cases[1]] == await access.worklist(user)
    await access.folders.revoke_grant(there.login, cases[1], user.id)
    assert [] == await access.worklist(user)


async def test_a_manager_is_listed_the_folders_that_they_may_use(access: Access) -> None:
    home = await access.facility()
    manager = await access.manager(home)
    own = await access.user(Role.FACILITY_USER, home_facility_id=home.id)
    homeless, stranger = await access.user(), await access.user(home_facility_id=(await access.facility()).id)
    usable = await access.folder(own, manager, name="Usable")
    for members in ((), (homeless,), (stranger,), (own, homeless), (own, stranger)):
        await access.folder(*members, name=str(uuid4()))

    assert [usable] == [each.id for each in await access.folders.list_folders(manager.login, "", 500)]
    assert 6 == len(await access.folders.list_folders(ADMIN, "", 500))


# Saving folders


@pytest.mark.proves("A68", part="folders")
async def test_nobody_brings_back_a_member_whom_somebody_else_has_removed(access: Access) -> None:
    facility = await access.facility()
    jane, john = await access.user(), await access.user()
    case_id = await access.case(facility)
    folder_id = await access.folder(jane)
    await access.folders.put_in_folder(ADMIN, folder_id, case_id)
    other = await access.user(
        Role.ADMINISTRATOR, permissions=(await access.stored(access.admin.id)).permissions
    )

    loaded = await stored(access, folder_id)
    removed = await save(access, loaded, by=other.login, members=frozenset())
    with pytest.raises(
        Conflict, match=f"the folder `Folder` was changed by `{other.login}` on 20"
    ) as refusal:
        await save(access, loaded, members=loaded.members | {john.id})

    assert "version" == refusal.value.field
    assert NO_SIGHT == await access.check(jane, case_id)
    assert removed == await stored(access, folder_id)
    assert (2, other.login, NOON) == (removed.last.version, removed.last.by, removed.last.at)
    await refused(
        save(access, replace(removed, last=replace(removed.last, version=0)), name="X"), Conflict, "version"
    )
    assert 3 == (await save(access, removed, name="Renamed")).last.version


@pytest.mark.proves("A68", part="folders")
async def test_a_save_again_of_what_is_stored_is_answered_again(access: Access) -> None:
    user = await access.user()
    loaded = await stored(access, await access.folder(user))
    saved = await save(access, loaded, members=frozenset())

    assert saved == await save(access, loaded, members=frozenset())


async def test_a_folder_that_the_version_before_has_written_is_saved(access: Access) -> None:
    await access.query(
        "insert into folders (folder_id, name, name_folded) values ($1, 'Old', 'old')", uuid4()
    )
    (old,) = await access.folders.list_folders(ADMIN, "", 1)

    assert (1, "", None) == (old.last.version, old.last.by, old.last.at)
    assert "New" == (await save(access, old, name="New")).name


async def test_a_folder_that_cannot_be_is_refused(access: Access) -> None:
    user, case_id = await access.user(), await access.case(await access.facility())
    await access.folder(user, name="Straße")

    async def save_folder(folder_id: FolderId | None, name: str, *members: UserId) -> None:
        await access.folders.save_folder(ADMIN, FolderSettings(folder_id, name, frozenset(members), 1))

    nothing = FolderId(uuid4())
    many: Sequence[UserId] = [UserId(uuid4()) for _ in range(MAX_FOLDER_MEMBERS + 1)]
    await refused(save_folder(None, ""), Invalid, "name")
    await refused(
        access.folders.save_folder(ADMIN, FolderSettings(None, "STRASSE", frozenset())), Conflict, "name"
    )
    await refused(save_folder(None, "Other"), Conflict, "version")  # there is none yet
    await refused(save_folder(nothing, "Other"), NotFound, "folder_id")
    await refused(save_folder(None, "Other", user.id, UserId(uuid4())), NotFound, "member_user_ids")
    await refused(save_folder(None, "Other", *many), Invalid, "member_user_ids")
    await refused(access.folders.put_in_folder(ADMIN, nothing, case_id), NotFound, "folder_id")
    await refused(access.folders.remove_from_folder(ADMIN, nothing, case_id), NotFound, "folder_id")
    await refused(access.folders.grant_case(ADMIN, case_id, UserId(uuid4())), NotFound, "user_id")
    await refused(access.folders.revoke_grant(ADMIN, case_id, UserId(uuid4())), NotFound, "user_id")
