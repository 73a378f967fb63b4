"""Random worlds of managers: nobody ends up with more than its givers could give, at any facility.

What accounts can do is asked of the decision itself (`compile_user`, `stand`), at several times and for what
could be shown to them, and never of the module that judges changes.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.errors import Denied, Invalid, NotFound
from kernel.ids import FacilityId, UserId
from kernel.reading import PrivilegeLevel, ReadType, Side
from services.access.account import Account
from services.access.domain import (
    ROLES,
    CompiledUser,
    Facility,
    Permission,
    PermissionGrant,
    Privilege,
    Role,
    User,
    compile_user,
    effective_privilege,
)
from services.access.manager import Manager, UserSettings
from services.access.privileges import checked_privilege, must_suit
from tests.access.builders import a_user
from tests.clocks import NOON

NORTH, SOUTH, EAST = FACILITIES = tuple(
    Facility(FacilityId(UUID(int=number)), name, zone, 1)
    for number, (name, zone) in enumerate(
        [("North", "Europe/Amsterdam"), ("South", "America/New_York"), ("East", "UTC")], start=1
    )
)
TODAY = NOON.date()
DATES = [None, TODAY - timedelta(days=9), TODAY + timedelta(days=9), TODAY + timedelta(days=90)]
INSTANTS = [NOON, NOON + timedelta(days=30), NOON + timedelta(days=400)]
ADMIN = Permission.ADMINISTER_ACCESS
SOME = [Permission.VIEW_IMAGES, Permission.DELETE_STUDY, ADMIN]
LEVELS = [PrivilegeLevel.VIEW, PrivilegeLevel.DRAFT, PrivilegeLevel.REPORT]
USERS = [UserId(UUID(int=number)) for number in range(11, 15)]
MANAGERS = USERS[:2]
NOWHERE: frozenset[FacilityId] = frozenset()

Power = Any
"""One thing that somebody can do at a facility; a permission, or a level or read type at a time."""


@dataclass(frozen=True)
class Act:
    """Something that somebody tries; `do` answers whose account it concerned."""

    by: UserId
    what: str
    do: "Callable[[World], UserId]" = field(repr=False)


@dataclass
class World:
    """The accounts as they are stored, and the acts as the use cases do them."""

    accounts: dict[UserId, User]
    privileges: dict[tuple[UserId, FacilityId], Privilege]
    shown: dict[UserId, frozenset[FacilityId]]

    def copy(self) -> "World":
        return World(dict(self.accounts), dict(self.privileges), dict(self.shown))

    def held(self, user_id: UserId) -> list[tuple[Facility, Privilege]]:
        found = [(each, self.privileges.get((user_id, each.id))) for each in FACILITIES]
        return [(facility, privilege) for facility, privilege in found if privilege]

    def account(self, user: User) -> Account:
        return Account.of(user, self.held(user.id), self.shown[user.id])

    def compiled(self, user_id: UserId) -> CompiledUser:
        return compile_user(self.accounts[user_id], self.held(user_id), [])

    def manager(self, user_id: UserId) -> Manager:
        if not self.accounts[user_id].active:
            raise Denied("deactivated")
        return Manager(self.compiled(user_id))

    def save_user(self, by: UserId, wanted: UserSettings) -> UserId:
        manager = self.manager(by)
        user_id = wanted.user_id or UserId(UUID(int=1000 + len(self.accounts)))
        if wanted.user_id is None:
            user = wanted.applied(user_id, None, manager)
            manager.must_create(Account(user, {}, frozenset()), NOON)
            self.shown[user_id] = frozenset()
        else:
            old = self.accounts[user_id]
            manager.must_manage(old)
            user = wanted.applied(user_id, old, manager)
            before = self.account(old)
            manager.must_change(before, replace(before, user=user), NOON)
        self.accounts[user_id] = user
        return user_id

    def save_privilege(self, by: UserId, user_id: UserId, facility: Facility, wanted: Privilege) -> UserId:
        manager = self.manager(by)
        manager.must_administer(facility.id)
        user = self.accounts[user_id]
        manager.must_manage(user)
        must_suit(wanted, user.role)
        before = self.account(user)
        manager.must_change(before, before.with_privilege(facility, wanted), NOON)
        self.privileges[user_id, facility.id] = wanted
        return user_id

    def powers(self, user_id: UserId, facility: Facility) -> set[Power]:
        """All that an account can do at a facility: now, later, and with what is shown to it there."""
        user, compiled = self.accounts[user_id], self.compiled(user_id)
        if not user.active:
            return set()
        role = ROLES[user.role]
        powers: set[Power] = {permission for permission in SOME if compiled.holds(permission, facility.id)}
        for at in INSTANTS:
            level = compiled.level_at(facility.id, at)
            powers |= {(at, each) for each in LEVELS if each <= level}
            if level is PrivilegeLevel.REPORT:
                powers |= {(at, each) for each in compiled.effective[facility.id].read_types}
            if level > PrivilegeLevel.NONE and role.side is Side.GROUP:
                powers.add((at, "sees pre-reads"))
        if facility.id in self.shown[user_id]:
            powers |= shown_to(user.role)
        return powers

    def bound(self, user_id: UserId, facility: Facility) -> set[Power]:
        """What somebody may give at a facility: all that they can do there, if they administer it."""
        user = self.accounts[user_id]
        if not user.active or not self.compiled(user_id).holds(ADMIN, facility.id):
            return set()
        powers = self.powers(user_id, facility) | shown_to(user.role)
        return powers | {("stored", power) for at, power in filter(is_pair, powers) if at == NOON}

    def dormant(self, user_id: UserId, facility: Facility) -> set[Power]:
        """What is stored of an account at a facility, whatever its role and activity make of it."""
        user = self.accounts[user_id]
        given = {grant.permission for grant in user.permissions if grant.facility_id in (None, facility.id)}
        stored = self.privileges.get((user_id, facility.id), Privilege(PrivilegeLevel.NONE))
        effective = effective_privilege(stored, Role.ADMINISTRATOR, facility.time_zone)
        powers: set[Power] = given | {("stored", each) for each in LEVELS if each <= stored.level}
        powers |= {("stored", each) for each in stored.read_types}
        for at in INSTANTS:
            powers |= {(at, each) for each in LEVELS if each <= effective.at(at)}
        return powers


def is_pair(power: Power) -> bool:
    return isinstance(power, tuple)


def shown_to(role: Role) -> set[Power]:
    """What a role makes of a case that a grant, a folder or a share shows."""
    terms = ROLES[role]
    powers: set[Power] = {("shown", each) for each in LEVELS if each <= terms.ceiling}
    return powers | ({("shown", "sees pre-reads")} if terms.side is Side.GROUP else set())


# Worlds: few accounts at few facilities, so that acts often concern each other.

ids = st.sampled_from([each.id for each in FACILITIES])
users = st.sampled_from(USERS)
rarely = st.sampled_from([False, False, False, True])
roles = st.sampled_from(
    [Role.RADIOLOGIST, Role.TRANSCRIPTIONIST, Role.RADIOLOGY_SUPPORT, Role.FACILITY_USER, Role.OPERATOR]
)
grants = st.builds(PermissionGrant, st.sampled_from(SOME), ids)
any_grants = st.one_of(grants, grants, st.sampled_from([PermissionGrant(each) for each in SOME]))
singly = st.frozensets(grants, max_size=3)


@st.composite
def some_privileges(draw: st.DrawFn) -> Privilege:
    level = draw(st.sampled_from(PrivilegeLevel))
    if level is not PrivilegeLevel.REPORT:
        return Privilege(level)
    types = draw(st.sampled_from([{ReadType.FINAL}, {ReadType.PRE_READ}, {ReadType.FINAL, ReadType.OTHER}]))
    return checked_privilege(level, draw(st.sampled_from(DATES)), frozenset(types))


@st.composite
def worlds(draw: st.DrawFn) -> World:
    accounts = {}
    for user_id in USERS:
        held = draw(singly)
        if user_id in MANAGERS:
            held |= {PermissionGrant(each, NORTH.id) for each in SOME} | {PermissionGrant(ADMIN, draw(ids))}
        if draw(rarely):
            held |= {PermissionGrant(draw(st.sampled_from(SOME)))}
        accounts[user_id] = a_user(
            draw(roles),
            id=user_id,
            login=f"user{user_id.int}",
            active=not draw(rarely),
            permissions=held,
            home_facility_id=SOUTH.id if draw(rarely) else NORTH.id,
        )
    pairs = [(user_id, NORTH.id) for user_id in USERS if user_id in MANAGERS or draw(st.booleans())]
    pairs += [(user_id, each.id) for user_id in USERS for each in FACILITIES[1:] if draw(rarely)]
    stored = {pair: draw(some_privileges()) for pair in pairs}
    shown = {user_id: draw(st.frozensets(ids, max_size=1)) if draw(rarely) else NOWHERE for user_id in USERS}
    return World(accounts, {pair: held for pair, held in stored.items() if held.level}, shown)


@st.composite
def user_acts(draw: st.DrawFn) -> Act:
    by, of = draw(st.sampled_from([*MANAGERS, *USERS])), draw(users)
    change = draw(
        st.sampled_from(["role", "role", "active", "home_facility_id", "add", "add", "remove", "new", "name"])
    )
    value: Any = draw(
        {
            "role": roles,
            "new": roles,
            "home_facility_id": ids,
            "add": any_grants,
            "remove": any_grants,
        }.get(change, st.none())
    )

    def act(world: World) -> UserId:
        old = world.accounts[of]
        values: dict[str, Any] = {
            "user_id": of,
            "version": old.version,
            "login": old.login,
            "name": old.name,
            "role": old.role,
            "active": old.active,
            "home_facility_id": old.home_facility_id,
            "permissions": old.permissions,
        }
        match change:
            case "active":
                values["active"] = not old.active
            case "add":
                values["permissions"] |= {value}
            case "remove":
                values["permissions"] -= {value}
            case "new":
                values |= {"user_id": None, "login": f"new{len(world.accounts)}", "role": value}
            case "name":
                values["name"] = "Other"
            case _:
                values[change] = value
        return world.save_user(by, UserSettings(**values))

    return Act(by, f"{change} of {of.int}: {value}", act)


@st.composite
def privilege_acts(draw: st.DrawFn) -> Act:
    by, of = draw(st.sampled_from([*MANAGERS, *USERS])), draw(users)
    facility = draw(st.sampled_from([NORTH, *FACILITIES]))
    wanted = draw(some_privileges())
    return Act(
        by,
        f"privilege of {of.int} at {facility.name}: {wanted}",
        lambda world: world.save_privilege(by, of, facility, wanted),
    )


acts = st.one_of(user_acts(), privilege_acts())


def switches(user: User) -> tuple[Any, ...]:
    everywhere = {grant for grant in user.permissions if grant.facility_id is None}
    return user.role, user.active, user.home_facility_id, everywhere


def must_have_stayed_within(before: World, after: World, by: UserId, changed: UserId) -> None:
    """Nobody gained what the manager could not give, and nothing was taken where they could not give it."""
    for facility in FACILITIES:
        mine = before.bound(by, facility)
        could = before.bound(changed, facility) if changed in before.accounts else set()
        assert after.bound(changed, facility) <= could | mine
        for user_id in after.accounts:
            is_new = user_id not in before.accounts
            had = set() if is_new else before.powers(user_id, facility)
            was = set() if is_new else before.dormant(user_id, facility)
            has, stored = after.powers(user_id, facility), after.dormant(user_id, facility)
            assert has <= had | mine
            assert stored <= was | mine
            if not mine or user_id != changed:
                assert (has, stored) == (had, was)
        if changed in before.accounts:
            old, new = before.accounts[changed], after.accounts[changed]
            if switches(old) != switches(new):
                assert before.dormant(changed, facility) <= mine
                assert shown_to(old.role) | shown_to(new.role) <= shown_to(before.accounts[by].role)
    (home,) = [each for each in FACILITIES if each.id == after.accounts[changed].home_facility_id]
    assert before.bound(by, home)


@pytest.mark.proves("A13", part="over any acts of any managers, at any facility")
@settings(max_examples=300)
@given(worlds(), st.lists(acts, min_size=10, max_size=20))
def test_nobody_ends_up_with_more_than_the_givers_could_give(world: World, acts: list[Act]) -> None:
    managers = {user_id for user_id in USERS if not world.compiled(user_id).holds(ADMIN)}
    had = {(user_id, each): world.powers(user_id, each) for user_id in USERS for each in FACILITIES}
    together = {each: set[Power]().union(*(world.bound(by, each) for by in managers)) for each in FACILITIES}
    for act in acts:
        if act.by not in managers:
            continue
        before = world.copy()
        with suppress(Denied, NotFound, Invalid):
            must_have_stayed_within(before, world, act.by, act.do(world))

    for user_id in world.accounts:
        for facility in FACILITIES:
            assert world.powers(user_id, facility) <= had.get((user_id, facility), set()) | together[facility]
