"""Position: a delegated manager, who administers one facility and wants more: for themself, or for strangers.

Ways around a privilege are grants and folders. What a manager could not give by a privilege they cannot give
by these, and what they gave ends when the case is no longer their facility's.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.errors import Denied, NotFound, ReadroomError
from kernel.ids import CaseId, FolderId, UserId
from kernel.reading import PrivilegeLevel
from services.access.caseindex import Placement
from services.access.domain import NO_SIGHT, Facility, Path, Permission, PermissionGrant, Role, User
from tests.access.builders import a_placement, a_study
from tests.access.conftest import ADMIN, Access, start


async def said(refusal: type[ReadroomError], act: Awaitable[object], *words: object) -> str:
    """The sentence of a refusal, without what the asker has typed themself."""
    with pytest.raises(refusal) as raised:
        await act
    sentence = raised.value.sentence
    for word in words:
        sentence = sentence.replace(str(word), "")
    return sentence


async def test_a_manager_without_a_privilege_shows_themself_no_case(access: Access) -> None:
    home = await access.facility()
    case_id = await access.case(home)
    manager = await access.manager(home)
    own_folder = await access.folder(manager)

    await said(Denied, access.folders.grant_case(manager.login, case_id, manager.id))
    await said(Denied, access.folders.put_in_folder(manager.login, own_folder, case_id))

    assert NO_SIGHT == await access.check(manager, case_id)
    assert [] == await access.worklist(manager)
    refused = [each for each in await access.audited() if each[2] == "refused"]
    assert [
        (manager.login, "case.granted", "refused"),
        (manager.login, "folder.case_put", "refused"),
    ] == refused


async def test_a_manager_shows_no_case_to_foreign_members_of_a_folder(access: Access) -> None:
    home, elsewhere = await access.facility(), await access.facility()
    case_id = await access.case(home)
    manager = await access.manager(home)
    await access.give(manager, home, PrivilegeLevel.VIEW)
    own = await access.user(Role.FACILITY_USER, home_facility_id=home.id)
    stranger = await access.user(Role.FACILITY_USER, home_facility_id=elsewhere.id)
    foreign, mixed, empty = (
        await access.folder(stranger, name="Foreign"),
        await access.folder(stranger, own, name="Mixed"),
        await access.folder(name="Empty"),
    )

    absent = FolderId(uuid4())
    sentences = {
        await said(NotFound, access.folders.put_in_folder(manager.login, folder_id, case_id), folder_id)
        for folder_id in (foreign, mixed, empty, absent)
    }
    assert 1 == len(sentences)
    assert NO_SIGHT == await access.check(stranger, case_id)
    assert [] == await access.folders.list_folders(manager.login, "", 500)


@pytest.mark.parametrize("is_shown", [True, False])
async def test_whoever_only_sees_a_case_learns_nothing_of_whom_else_it_is_shown_to(
    access: Access, is_shown: bool
) -> None:
    """A manager of one facility who sees a case of another, and tries to take it from strangers there."""
    home, elsewhere = await access.facility(), await access.facility()
    case_id = await access.case(elsewhere)
    manager = await access.manager(home)
    await access.give(manager, elsewhere, PrivilegeLevel.VIEW)
    stranger = await access.user(home_facility_id=elsewhere.id)
    foreign = await access.folder(stranger)
    if is_shown:
        await access.folders.grant_case(ADMIN, case_id, stranger.id)
        await access.folders.put_in_folder(ADMIN, foreign, case_id)

    take = access.folders
    sentences = {
        await said(Denied, each)
        for each in (
            take.revoke_grant(manager.login, case_id, stranger.id),
            take.revoke_grant(manager.login, case_id, UserId(uuid4())),
            take.remove_from_folder(manager.login, foreign, case_id),
            take.remove_from_folder(manager.login, FolderId(uuid4()), case_id),
        )
    }

    assert 1 == len(sentences)
    assert is_shown == (await access.check(stranger, case_id)).allowed


async def test_foreign_folders_users_and_cases_answer_like_absent_ones_on_every_way(access: Access) -> None:
    home, elsewhere = await access.facility(), await access.facility()
    here, there = await access.case(home), await access.case(elsewhere)
    manager = await access.manager(home)
    await access.give(manager, home, PrivilegeLevel.VIEW)
    stranger = await access.user(home_facility_id=elsewhere.id)
    foreign = await access.folder(stranger)
    await access.folders.grant_case(ADMIN, there, stranger.id)
    await access.folders.put_in_folder(ADMIN, foreign, there)
    by, folders = manager.login, access.folders
    nobody, nothing, nowhere = UserId(uuid4()), FolderId(uuid4()), CaseId(uuid4())
    alike: dict[str, tuple[Callable[[Any], Awaitable[object]], Any, Any]] = {
        "grant to": (lambda user: folders.grant_case(by, here, user), stranger.id, nobody),
        "revoke from": (lambda user: folders.revoke_grant(by, here, user), stranger.id, nobody),
        "grants to": (
            lambda user: folders.list_grants(by, user, by_case=False, after=None, limit=9),
            stranger.id,
            nobody,
        ),
        "put in": (lambda folder: folders.put_in_folder(by, folder, here), foreign, nothing),
        "remove from": (lambda folder: folders.remove_from_folder(by, folder, here), foreign, nothing),
        "cases in": (
            lambda folder: folders.list_folder_cases(by, folder, by_case=False, after=None, limit=9),
            foreign,
            nothing,
        ),
        "grant": (lambda case: folders.grant_case(by, case, manager.id), there, nowhere),
        "revoke": (lambda case: folders.revoke_grant(by, case, stranger.id), there, nowhere),
        "put": (lambda case: folders.put_in_folder(by, foreign, case), there, nowhere),
        "remove": (lambda case: folders.remove_from_folder(by, foreign, case), there, nowhere),
        "grants of": (
            lambda case: folders.list_grants(by, case, by_case=True, after=None, limit=9),
            there,
            nowhere,
        ),
        "folders of": (
            lambda case: folders.list_folder_cases(by, case, by_case=True, after=None, limit=9),
            there,
            nowhere,
        ),
    }
    for way, (ask, foreign_one, absent_one) in alike.items():
        answers = {await said(NotFound, ask(each), each) for each in (foreign_one, absent_one)}
        assert 1 == len(answers), way


async def test_what_a_manager_gave_at_a_hub_ends_when_the_case_goes_to_its_endpoint(access: Access) -> None:
    hub, endpoint = await access.facility(), await access.facility()
    manager = await access.manager(hub)
    await access.give(manager, hub, PrivilegeLevel.VIEW)
    study = a_study()
    placement = a_placement(hub.id, study, undistributed=True)
    await access.hear(study, placement)
    await access.folders.grant_case(manager.login, placement.case_id, manager.id)
    await access.folders.put_in_folder(manager.login, await access.folder(manager), placement.case_id)

    await access.hear(replace(placement, facility_id=endpoint.id, undistributed=False, version=2))

    assert NO_SIGHT == await access.check(manager, placement.case_id)
    await said(NotFound, access.folders.grant_case(manager.login, placement.case_id, manager.id))


# Random worlds: nobody sees a case that no giver could have given


@dataclass
class World:
    """People, folders and cases, and who has given what since the case came where it is."""

    access: Access
    random: Random
    facilities: list[Facility] = field(default_factory=list)
    managers: list[User] = field(default_factory=list)
    users: list[User] = field(default_factory=list)
    folders: dict[FolderId, list[User]] = field(default_factory=dict)
    placements: dict[CaseId, Placement] = field(default_factory=dict)
    levels: dict[tuple[UserId, Any], PrivilegeLevel] = field(default_factory=dict)
    given: set[tuple[CaseId, Path, UserId | FolderId]] = field(default_factory=set)
    times_given: int = 0

    async def begin(self) -> None:
        pick, access = self.random, self.access
        self.facilities = [await access.facility() for _ in range(3)]
        for home in self.facilities:
            images = {PermissionGrant(Permission.VIEW_IMAGES, home.id)} if pick.random() < 0.5 else set()
            manager = await access.user(
                Role.FACILITY_MANAGER,
                home_facility_id=home.id,
                permissions=frozenset(
                    {
                        PermissionGrant(Permission.ADMINISTER_ACCESS, home.id),
                        PermissionGrant(Permission.VIEW_REPORT),
                    }
                    | images
                ),
            )
            self.managers.append(manager)
            if pick.random() < 0.6:
                await access.give(manager, home, PrivilegeLevel.VIEW)
                self.levels[manager.id, home.id] = PrivilegeLevel.VIEW
        self.users = [
            await access.user(
                Role.FACILITY_USER,
                home_facility_id=pick.choice([None, *(each.id for each in self.facilities)]),
                permissions=frozenset(
                    PermissionGrant(each)
                    for each in (Permission.VIEW_IMAGES, Permission.VIEW_REPORT)
                    if pick.random() < 0.6
                ),
            )
            for _ in range(5)
        ] + self.managers
        for number in range(4):
            members = pick.sample(self.users, pick.randint(0, 3))
            self.folders[await access.folder(*members, name=f"Folder {number}")] = members
        for _ in range(5):
            study = a_study()
            placement = a_placement(pick.choice(self.facilities).id, study)
            await access.hear(study, placement)
            self.placements[placement.case_id] = placement

    def could_give(self, manager: User, case_id: CaseId, users: list[User]) -> bool:
        """Said once more, and from the rule alone (A13): by nothing of what is tried."""
        owner = self.placements[case_id].facility_id
        holds = manager.permissions
        return (
            manager.home_facility_id == owner
            and self.levels.get((manager.id, owner), PrivilegeLevel.NONE) >= PrivilegeLevel.VIEW
            and bool(users)
            and all(user.home_facility_id == manager.home_facility_id for user in users)
            and all(
                PermissionGrant(each, owner) in holds or PermissionGrant(each) in holds
                for user in users
                for each in (Permission.VIEW_IMAGES, Permission.VIEW_REPORT)
                if user.permissions & {PermissionGrant(each), PermissionGrant(each, owner)}
            )
        )

    async def step(self) -> None:
        pick, folders = self.random, self.access.folders
        manager, user = pick.choice(self.managers), pick.choice(self.users)
        case_id, folder_id = pick.choice(list(self.placements)), pick.choice(list(self.folders))
        match pick.choice(["grant", "grant", "put", "put", "revoke", "remove", "move"]):
            case "grant":
                if await done(folders.grant_case(manager.login, case_id, user.id)):
                    assert self.could_give(manager, case_id, [user])
                    self.given.add((case_id, Path.GRANT, user.id))
                    self.times_given += 1
                else:
                    assert not self.could_give(manager, case_id, [user])
            case "put":
                if await done(folders.put_in_folder(manager.login, folder_id, case_id)):
                    assert self.could_give(manager, case_id, self.folders[folder_id])
                    self.given.add((case_id, Path.FOLDER, folder_id))
                    self.times_given += 1
                else:
                    assert not self.could_give(manager, case_id, self.folders[folder_id])
            case "revoke":
                if await done(folders.revoke_grant(manager.login, case_id, user.id)):
                    self.given.discard((case_id, Path.GRANT, user.id))
            case "remove":
                if await done(folders.remove_from_folder(manager.login, folder_id, case_id)):
                    self.given.discard((case_id, Path.FOLDER, folder_id))
            case "move":
                old = self.placements[case_id]
                moved = replace(old, facility_id=pick.choice(self.facilities).id, version=old.version + 1)
                await self.access.hear(moved)
                self.placements[case_id] = moved
                if moved.facility_id != old.facility_id:
                    self.given = {each for each in self.given if each[0] != case_id}

    async def nobody_sees_what_nobody_could_give(self) -> None:
        for user in self.users:
            for case_id, placement in self.placements.items():
                paths = set()
                if self.levels.get((user.id, placement.facility_id)):
                    paths.add(Path.PRIVILEGE)
                if (case_id, Path.GRANT, user.id) in self.given:
                    paths.add(Path.GRANT)
                if any(
                    (case_id, Path.FOLDER, folder_id) in self.given
                    for folder_id, members in self.folders.items()
                    if user in members
                ):
                    paths.add(Path.FOLDER)
                decision = await self.access.check(user, case_id)
                assert paths == set(decision.paths)
                assert decision.level is (PrivilegeLevel.VIEW if paths else PrivilegeLevel.NONE)


async def done(act: Awaitable[object]) -> bool:
    try:
        await act
    except (Denied, NotFound):
        return False
    return True


@pytest.mark.proves("A13", part="grants and folders")
def test_nobody_sees_a_case_that_no_manager_could_have_given(fresh_database: Any) -> None:
    times_given = []

    @settings(max_examples=8)
    @given(st.integers(0, 2**32))
    def holds(seed: int) -> None:
        async def try_it() -> None:
            async for access in start(fresh_database("access")):
                world = World(access, Random(seed))
                await world.begin()
                for _ in range(60):
                    await world.step()
                await world.nobody_sees_what_nobody_could_give()
                times_given.append(world.times_given)

        asyncio.run(try_it())

    holds()
    assert sum(times_given) > 0  # else nothing was tried
