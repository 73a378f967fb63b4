"""What administrators do: users and their privileges."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from kernel.database import Database
from kernel.errors import Conflict, Invalid, NotFound
from kernel.events import Fact, UserChanged
from kernel.ids import FacilityId, NewId, UserId
from kernel.reading import PrivilegeLevel, ReadType
from kernel.versions import must_be_current
from services.access.accessfilter import NO_FILTER, SavedFilter
from services.access.account import Account
from services.access.contact import NO_CONTACT, changed_fields
from services.access.domain import (
    ROLES,
    CompiledUser,
    Facility,
    Permission,
    PermissionGrant,
    Privilege,
    Role,
    User,
    effective_privilege,
    must_be_active,
    no_user,
)
from services.access.filterrules import must_give_through, must_suit_role
from services.access.manager import Manager, UserSettings, must_suit_side
from services.access.names import acting_login, canonical_login, possible_logins
from services.access.privileges import must_suit, shown_privilege, with_what_is_hidden

if TYPE_CHECKING:
    from services.access.store import AccessTransaction


MAX_DESCRIBED_USERS = 100
"""What one DescribeUsers answers."""

# Who acts where no user does.
_OURSELVES = "service:access"

VERSIONS_PAGE = 500
"""What a page of users' versions holds; a page with fewer is the last."""


@dataclass(frozen=True, slots=True)
class Act:
    """An administrative act under way: its transaction, who does it, and what its audit row will say."""

    transaction: AccessTransaction
    actor: CompiledUser
    action: str
    object: str

    @property
    def manager(self) -> Manager:
        """The actor, if they may administer anything at all."""
        return Manager(self.actor)

    async def users_changed(self, user_ids: Collection[UserId]) -> list[UserChanged]:
        """Ends the validity of what these users were compiled to; answers the facts that say so."""
        changed = await self.transaction.bump_users(user_ids, by=self.actor.login)
        return [UserChanged(user_id, version) for user_id, version in changed]

    async def done(self, *facts: Fact, **detail: str | int) -> int:
        """Audits and tells; answers the revision that this act made. Nothing is written after it."""
        await self.transaction.record(self.actor.login, self.action, self.object, "done", **detail)
        await self.transaction.say(*facts)
        return await self.transaction.bump_revision()


class Administration:
    """Opens the transactions of what administrators do. A refusal is audited."""

    def __init__(self, database: Database[AccessTransaction]) -> None:
        self._database = database

    @asynccontextmanager
    async def change(self, login: str, action: str, object_: str) -> AsyncIterator[Act]:
        """For an act that changes what users are compiled from: one at a time, and nobody acts meanwhile."""
        async with self._opened(login, action, object_) as transaction:
            await transaction.lock_administration()
            yield Act(transaction, await compiled(transaction, login), action, object_)

    @asynccontextmanager
    async def act(self, login: str, action: str, object_: str) -> AsyncIterator[Act]:
        """For any other act: many at a time, and nobody loses the right to do what they are doing."""
        async with self._opened(login, action, object_) as transaction:
            await transaction.hold_rights()
            yield Act(transaction, await compiled(transaction, login), action, object_)

    @asynccontextmanager
    async def _opened(self, login: str, action: str, object_: str) -> AsyncIterator[AccessTransaction]:
        async with (
            self._database.audited(login, action, object_, reason=True),
            self._database.transaction() as transaction,
        ):
            yield transaction

    @asynccontextmanager
    async def look(self, login: str) -> AsyncIterator[tuple[AccessTransaction, CompiledUser]]:
        """For what only reads."""
        async with self._database.transaction() as transaction:
            yield transaction, await compiled(transaction, login)


async def compiled(transaction: AccessTransaction, login: str) -> CompiledUser:
    """The acting user as they are now; raises Unauthenticated for one who is absent or deactivated."""
    return must_be_active(await transaction.compiled_user(acting_login(login)))


@dataclass(frozen=True, slots=True)
class HeldPrivilege:
    """A stored privilege as a side may know it, with what it amounts to now."""

    user_id: UserId
    facility_id: FacilityId
    facility_name: str
    privilege: Privilege
    effective_level: PrivilegeLevel
    expires_at: datetime | None

    @classmethod
    def of(cls, user: User, facility: Facility, shown: Privilege, now: datetime) -> HeldPrivilege:
        effective = effective_privilege(shown, user.role, facility.time_zone)
        return cls(user.id, facility.id, facility.name, shown, effective.at(now), effective.expires_at)


class Users:
    """Accounts and their privileges."""

    def __init__(self, database: Database[AccessTransaction], new_id: NewId) -> None:
        self._database = database
        self._administration = Administration(database)
        self._new_id = new_id

    async def save_user(self, login: str, settings: UserSettings) -> tuple[User, int]:
        """Creates or changes a user; answers them and the revision of sight."""
        user_id = settings.user_id or UserId(self._new_id())
        async with self._administration.change(login, "user.saved", f"user:{user_id}") as act:
            manager, transaction = act.manager, act.transaction
            old = None
            if settings.user_id is not None:
                old = await transaction.user(user_id)
                if old is None:
                    raise no_user(user_id)
                manager.must_manage(old)
                must_be_current(
                    f"the user `{old.login}`", settings.version, await transaction.last_change_of_user(old.id)
                )
            user = settings.applied(user_id, old, manager)
            if old is None:
                manager.must_create(Account(user, {}, frozenset()), transaction.now)
            else:
                before = await account_of(transaction, old)
                await _must_change(transaction, manager, before, replace(before, user=user))
            must_suit_side(user, old)
            facilities = {grant.facility_id for grant in user.permissions} | {user.home_facility_id}
            await _must_know(transaction, {facility for facility in facilities if facility})
            if user == old:
                return manager.shown(user), await transaction.revision()
            user = replace(user, version=user.version + 1)
            begins_with = await _filter_of(transaction, manager, old, user)
            await transaction.save_user(user, by=act.actor.login)
            if begins_with.asks_something:
                await transaction.save_filter(user_id, begins_with, by=act.actor.login)
            if old is not None and old.contact_version != user.contact_version:
                await transaction.end_sessions(user.id)
            if not user.active:
                await transaction.end_invitation(user.id)
            if not await transaction.somebody_administers():
                raise Conflict(
                    "nobody would have `access.admin` at every facility any more: give it to somebody "
                    "else first"
                )
            revision = await act.done(
                UserChanged(user.id, user.version),
                login=user.login,
                role=user.role,
                active=int(user.active),
                permissions=" ".join(sorted(_permission_text(grant) for grant in user.permissions)),
                contact_changed=" ".join(
                    sorted(changed_fields(old.contact if old else NO_CONTACT, user.contact))
                ),
            )
        return manager.shown(user), revision

    async def create_first_administrator(self, login: str) -> User | None:
        """The first user, who holds `access.admin`; None if there is any user already (A63)."""
        async with self._database.transaction() as transaction:
            await transaction.lock_administration()
            if await transaction.there_are_users():
                return None
            user = User(
                id=UserId(self._new_id()),
                login=canonical_login(login),
                name=login,
                role=Role.ADMINISTRATOR,
                active=True,
                permissions=frozenset(
                    PermissionGrant(permission)
                    for permission in ROLES[Role.ADMINISTRATOR].defaults | {Permission.ADMINISTER_ACCESS}
                ),
                home_facility_id=None,
                version=1,
            )
            await transaction.save_user(user, by=_OURSELVES)
            await transaction.record(
                _OURSELVES, "user.saved", f"user:{user.id}", "done", login=user.login, role=user.role
            )
            await transaction.say(UserChanged(user.id, user.version))
            await transaction.bump_revision()
        return user

    async def list_users(self, login: str, after: str, limit: int) -> list[User]:
        """The users that the caller manages, by login."""
        async with self._administration.look(login) as (transaction, actor):
            manager = Manager(actor)
            return [manager.shown(user) for user in await transaction.users(manager.homes, after, limit)]

    async def save_privilege(
        self, login: str, user_id: UserId, facility_id: FacilityId, privilege: Privilege
    ) -> tuple[HeldPrivilege, int]:
        """Sets the one privilege of a user at a facility; answers it and the revision of sight."""
        async with self._administration.change(login, "privilege.saved", f"user:{user_id}") as act:
            manager, transaction = act.manager, act.transaction
            manager.must_administer(facility_id)
            facility = await transaction.facility(facility_id)
            if facility is None:
                raise NotFound(f"there is no facility `{facility_id}`", field="facility_id")
            user = await managed(transaction, manager, user_id)
            must_suit(privilege, user.role)
            must_be_current(
                f"the privilege of `{user.login}` at `{facility.name}`",
                privilege.version,
                await transaction.last_change_of_privilege(user_id, facility_id),
            )
            old = await transaction.privilege(user_id, facility_id)
            privilege = with_what_is_hidden(privilege, old, act.actor.side)
            before = await account_of(transaction, user)
            await _must_change(transaction, manager, before, before.with_privilege(facility, privilege))
            if privilege != old:
                version = await transaction.save_privilege(
                    user_id, facility_id, privilege, by=act.actor.login
                )
                privilege = replace(privilege, version=version)
            held = HeldPrivilege.of(
                user, facility, shown_privilege(privilege, act.actor.side), transaction.now
            )
            if privilege == old:
                return held, await transaction.revision()
            revision = await act.done(
                *await act.users_changed({user_id}),
                facility=str(facility_id),
                level=privilege.level.name.lower(),
                expires_on=str(privilege.expires_on or ""),
                read_types=" ".join(sorted(privilege.read_types)),
            )
        return held, revision

    async def list_privileges(self, login: str, user_id: UserId) -> list[HeldPrivilege]:
        """A user's privileges above none, where the caller administers them or is that user."""
        async with self._administration.look(login) as (transaction, actor):
            if user_id == actor.id:
                user = await transaction.user(user_id)
                if user is None:
                    raise no_user(user_id)
                administers = None
            else:
                manager = Manager(actor)
                user = await managed(transaction, manager, user_id)
                administers = manager.homes
            return [
                HeldPrivilege.of(user, facility, shown_privilege(privilege, actor.side), transaction.now)
                for facility, privilege in await transaction.privileges(user_id)
                if administers is None or facility.id in administers
            ]

    async def describe_users(
        self, user_ids: Collection[UserId], logins: Collection[str]
    ) -> tuple[list[User], list[HeldPrivilege]]:
        """The users of these ids and logins, without their permissions, and their privileges above none."""
        if not 1 <= len(user_ids) + len(logins) <= MAX_DESCRIBED_USERS:
            raise Invalid(f"name 1 to {MAX_DESCRIBED_USERS} ids and logins in all", field="user_ids")
        async with self._database.transaction() as transaction:
            called = await transaction.users_called(user_ids, possible_logins(logins))
            users = {user.id: replace(user, permissions=frozenset()) for user in called}
            held = [
                # Whoever reminds of an expiry needs level and end as stored, and nothing of pre-reads.
                HeldPrivilege.of(
                    users[user_id],
                    facility,
                    replace(privilege, read_types=privilege.read_types - {ReadType.PRE_READ}),
                    transaction.now,
                )
                for user_id, facility, privilege in await transaction.privileges_of(users)
            ]
        return list(users.values()), held

    async def list_versions(self, after: UserId | None) -> Sequence[tuple[UserId, int]]:
        """A page of the versions of all users."""
        async with self._database.transaction() as transaction:
            return await transaction.user_versions(after, VERSIONS_PAGE)


async def managed(transaction: AccessTransaction, manager: Manager, user_id: UserId) -> User:
    """A user whom a manager manages; raises NotFound for any other."""
    user = await transaction.user(user_id)
    if user is None:
        raise no_user(user_id)
    manager.must_manage(user)
    return user


async def _must_change(
    transaction: AccessTransaction, manager: Manager, before: Account, after: Account
) -> None:
    """Raises unless they may make one account of the other, with what they have and through their filter."""
    manager.must_change(before, after, transaction.now)
    manager.must_see_what_is_shown(before, after, transaction.now)
    if not manager.everywhere and after.gives_more_than(before):
        own = await transaction.saved_filter(manager.user.id)
        must_give_through(own, await transaction.saved_filter(before.user.id), before.user)


async def _filter_of(
    transaction: AccessTransaction, manager: Manager, old: User | None, user: User
) -> SavedFilter:
    """The filter that a new user begins with: that of the delegated manager who creates them (A72).

    Raises Conflict if it is none for their role, or that of an existing user is none for the role they get.
    """
    if old is not None:
        if old.role is not user.role:
            must_suit_role(await transaction.saved_filter(user.id), user, before=old.role)
        return NO_FILTER
    if manager.everywhere:
        return NO_FILTER
    saved = await transaction.saved_filter(manager.user.id)
    must_suit_role(saved, user)
    return saved


async def account_of(transaction: AccessTransaction, user: User) -> Account:
    """A user with all that others gave them."""
    return Account.of(
        user, await transaction.privileges(user.id), await transaction.facilities_shown(user.id)
    )


async def _must_know(transaction: AccessTransaction, facility_ids: set[FacilityId]) -> None:
    if unknown := facility_ids - await transaction.known_facilities(facility_ids):
        raise NotFound(f"there is no facility `{min(unknown)}`", field="facility_id")


def _permission_text(grant: PermissionGrant) -> str:
    return grant.permission if grant.facility_id is None else f"{grant.permission}@{grant.facility_id}"
