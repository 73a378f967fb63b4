"""Position: delegated managers, some of whom have a filter, who do in any order what they are let do.

Whatever they do, nobody comes to see by it what the manager who did it does not see by their own privilege,
or may do more with a case than that manager (A13, A72). And their own sight never grows.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import pytest

from kernel.errors import ReadroomError
from kernel.ids import CaseId, FolderId
from kernel.reading import PrivilegeLevel
from services.access.accessfilter import Historical
from services.access.domain import Decision, Facility, Path, Permission, PermissionGrant, Role, User
from tests.access.conftest import ADMIN, Access, start
from tests.access.test_filters import described, new_user, save
from tests.attacks.test_filtered_managers import settings

TEXTS = ("", "true", "StudyDescription = 'Research'", "StudyDescription = 'Head'", "false", "Modality = 'CT'")
ROLES = (Role.FACILITY_USER, Role.REFERRING_PHYSICIAN, Role.FACILITY_MANAGER, Role.RADIOLOGIST)
GIVEN = (Permission.VIEW_IMAGES, Permission.VIEW_REPORT, Permission.ADMINISTER_ACCESS)
ACTS = ("filter", "filter", "level", "user", "active", "create", "grant", "folder", "link", "revoke")
STEPS = 50


@dataclass
class Worlds:
    access: Access
    random: Random
    facilities: list[Facility] = field(default_factory=list)
    managers: list[User] = field(default_factory=list)
    people: list[User] = field(default_factory=list)
    cases: list[CaseId] = field(default_factory=list)
    folders: list[FolderId] = field(default_factory=list)
    done: dict[str, int] = field(default_factory=dict)

    async def made(self) -> "Worlds":
        access, pick = self.access, self.random.choice
        self.facilities = [await access.facility(), await access.facility()]
        for facility in self.facilities:
            for text in ("Research", "Head", "Head"):
                # Patients of two of these, so that historical studies and links have something to show.
                self.cases.append(
                    await access.case(facility, described(text, patient_id=pick(["P-1", "P-2"])))
                )
        one, other = self.facilities
        for at in ((one,), (one, other), (one, other), (other,)):
            manager = await self.a_manager(*at, role=pick([*[Role.FACILITY_MANAGER] * 3, Role.RADIOLOGIST]))
            for facility in at:
                await access.give(manager, facility, pick([PrivilegeLevel.NONE, *[PrivilegeLevel.VIEW] * 3]))
            await self.filtered(manager)
            self.managers.append(manager)
        for facility in (one, one, other):
            user = await access.user(pick(ROLES[:2]), home_facility_id=facility.id, permissions=frozenset())
            if self.random.random() < 0.5:
                await access.give(user, facility, PrivilegeLevel.VIEW)
            await self.filtered(user)
            self.people.append(user)
        self.folders = [await access.folder(user, name=user.login) for user in self.people]
        await access.folders.grant_case(ADMIN, pick(self.cases), pick(self.people).id)
        return self

    async def a_manager(self, *at: Facility, role: Role = Role.FACILITY_MANAGER) -> User:
        sees = self.random.choice([(Permission.VIEW_IMAGES,), (Permission.VIEW_REPORT,), GIVEN[:2]])
        held = (Permission.ADMINISTER_ACCESS, *sees)
        permissions = frozenset(PermissionGrant(each, facility.id) for each in held for facility in at)
        return await self.access.user(role, home_facility_id=at[0].id, permissions=permissions)

    async def filtered(self, user: User) -> None:
        if text := self.random.choice(TEXTS[::2]):
            await save(self.access, user, text, historical=self.random.choice(list(Historical)))

    async def sight(self) -> dict[str, dict[CaseId, Decision]]:
        """What everybody may do with each case, by login."""
        return {
            user.login: dict(
                zip(
                    self.cases,
                    await self.access.questions.check_many(user.login, self.cases)
                    if (await self.access.stored(user.id)).active
                    else [Decision()] * len(self.cases),
                    strict=True,
                )
            )
            for user in (*self.managers, *self.people)
        }

    async def act(self, by: User) -> str:
        """One of them does something; answers what, or raises what they are refused with."""
        access, pick = self.access, self.random.choice
        user, case_id, facility = (
            pick([*self.people, *self.managers]),
            pick(self.cases),
            pick(self.facilities),
        )
        match pick(
            ("filter", "filter", "level", "user", "active", "create", "grant", "folder", "link", "revoke")
        ):
            case "filter":
                await save(access, user, pick(TEXTS), by=by.login, historical=pick(list(Historical)))
                return "filter"
            case "level":
                await access.give(user, facility, pick(list(PrivilegeLevel)[:3]), by=by.login)
                return "level"
            case "user":
                permission = pick(
                    [Permission.VIEW_IMAGES, Permission.VIEW_REPORT, Permission.ADMINISTER_ACCESS]
                )
                held = (await access.stored(user.id)).permissions
                given = held ^ {PermissionGrant(permission, facility.id)}
                changed = await settings(access, user, permissions=given, role=pick([None, None, *ROLES]))
                await access.users.save_user(by.login, changed)
                return "user"
            case "active":
                await access.users.save_user(
                    by.login, await settings(access, user, active=not (await access.stored(user.id)).active)
                )
                return "active"
            case "create" if len(self.people) < 7:
                created, _ = await access.users.save_user(by.login, new_user(facility.id, pick(ROLES)))
                self.people.append(created)
                return "create"
            case "grant":
                await access.folders.grant_case(by.login, case_id, user.id)
                return "grant"
            case "revoke":
                await access.folders.revoke_grant(by.login, case_id, user.id)
                return "revoke"
            case "folder":
                await access.folders.put_in_folder(by.login, pick(self.folders), case_id)
                return "folder"
            case _:
                await access.linking.link_patients(by.login, "", case_id, pick(self.cases), preview=False)
                return "link"


def brief(decision: Decision) -> str:
    """What of a decision is compared."""
    may = [name for name in ("images", "reports") if getattr(decision, name)]
    return f"{decision.level.name.lower()} by {', '.join(decision.paths)} with {', '.join(may)}"


def opened(before: Decision, after: Decision) -> bool:
    """Whether somebody may do more with a case than before."""
    return (
        (after.allowed and not before.allowed)
        or after.level > before.level
        or (after.images and not before.images)
        or (after.reports and not before.reports)
    )


def holds_what_is_new(manager: Decision, was: Decision, after: Decision) -> bool:
    """Whether a manager has by their own privilege what somebody may now do with a case and could not.

    What their own filter shows as historical whoever has the same filter sees as they do.
    """
    return (
        bool({Path.PRIVILEGE, Path.HISTORICAL} & set(manager.paths))
        and (after.level <= was.level or manager.own_level >= after.level)
        and (after.images <= was.images or manager.images)
        and (after.reports <= was.reports or manager.reports)
    )


async def whatever_they_do_opens_only_what_they_have(worlds: Worlds) -> None:
    before = await worlds.sight()
    for _ in range(STEPS):
        by = worlds.random.choice(worlds.managers)
        try:
            what = await worlds.act(by)
        except ReadroomError:
            continue
        worlds.done[what] = worlds.done.get(what, 0) + 1
        after = await worlds.sight()
        for login, decisions in after.items():
            for case_id, decision in decisions.items():
                was = before.get(login, {}).get(case_id, Decision())
                if opened(was, decision):
                    had = before[by.login][case_id]
                    about = (what, by.login, brief(had), login, brief(was), brief(decision))
                    assert login != by.login, about
                    assert holds_what_is_new(had, was, decision), about
        before = after


def worlds_from(fresh_database: Callable[[str], str], seeds: range, done: dict[str, int]) -> None:
    async def try_it(seed: int) -> None:
        async for access in start(fresh_database("access")):
            worlds = await Worlds(access, Random(seed), done=done).made()
            await whatever_they_do_opens_only_what_they_have(worlds)

    for seed in seeds:
        asyncio.run(try_it(seed))


@pytest.mark.proves("A72")
@pytest.mark.proves("A13", part="whatever managers do to sight")
def test_managers_open_nothing_that_they_do_not_see(fresh_database: Callable[[str], str]) -> None:
    done: dict[str, int] = {}
    worlds_from(fresh_database, range(2), done)
    assert {"filter", "level", "create", "grant"} <= set(done)


@pytest.mark.drill
def test_managers_open_nothing_in_many_more_worlds(fresh_database: Callable[[str], str]) -> None:
    done: dict[str, int] = {}
    worlds_from(fresh_database, range(100, 200), done)
    assert set(ACTS) == set(done)
