"""What administrators do: users and their privileges, folders, grants of single cases."""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, Protocol

from kernel.errors import Conflict, Denied, Invalid, NotFound
from kernel.events import Fact, SightChanged, UserChanged
from kernel.ids import CaseId, DeletionId, FacilityId, FolderId, NewId, StudyId, UserId
from services.access.caseindex import Deletion, Lock
from services.access.contact import NO_CONTACT, changed_fields
from services.access.domain import (
    MAX_FOLDER_NAME_CHARACTERS,
    ROLES,
    Answer,
    CompiledUser,
    ConfirmedStudy,
    Facility,
    Folder,
    Level,
    Permission,
    PermissionGrant,
    Privilege,
    Role,
    Side,
    Sighting,
    User,
    acting_login,
    canonical_login,
    checked_name,
    must_suit,
    no_active_user,
    no_case,
    no_user,
    possible_logins,
    shown_read_types,
    stand,
)
from services.access.manager import Manager, UserSettings

MAX_DESCRIBED_USERS = 100
"""What one DescribeUsers answers."""

VERSIONS_PAGE = 500
"""What a page of users' versions holds; a page with fewer is the last."""


class Transaction(Protocol):
    """What access's store does within one transaction; `store.py` says more."""

    @property
    def now(self) -> datetime: ...
    async def say(self, *facts: Fact) -> None: ...
    async def record(
        self, actor: str, action: str, object_: str, outcome: Literal["done", "refused"], **detail: str | int
    ) -> None: ...
    async def lock_administration(self) -> None: ...
    async def revision(self) -> int: ...
    async def bump_revision(self) -> int: ...

    async def compiled_user(self, login: str) -> CompiledUser | None: ...
    async def user(self, user_id: UserId) -> User | None: ...
    async def users(self, homes: Collection[FacilityId] | None, after: str, limit: int) -> list[User]: ...
    async def known_users(self, user_ids: Collection[UserId]) -> set[UserId]: ...
    async def there_are_users(self) -> bool: ...
    async def somebody_administers(self) -> bool: ...
    async def users_called(self, user_ids: Collection[UserId], logins: Collection[str]) -> Sequence[User]: ...
    async def user_versions(self, after: UserId | None, limit: int) -> Sequence[tuple[UserId, int]]: ...
    async def save_user(self, user: User) -> None: ...
    async def bump_users(self, user_ids: Collection[UserId]) -> Sequence[tuple[UserId, int]]: ...

    async def privilege(self, user_id: UserId, facility_id: FacilityId) -> Privilege: ...
    async def privileges(self, user_id: UserId) -> Sequence[tuple[Facility, Privilege]]: ...
    async def privileges_of(
        self, user_ids: Collection[UserId]
    ) -> Sequence[tuple[UserId, Facility, Privilege]]: ...
    async def save_privilege(
        self, user_id: UserId, facility_id: FacilityId, privilege: Privilege
    ) -> None: ...

    async def facility(self, facility_id: FacilityId) -> Facility | None: ...
    async def known_facilities(self, facility_ids: Collection[FacilityId]) -> set[FacilityId]: ...
    async def save_facility(self, facility: Facility) -> None: ...
    async def users_at(self, facility_id: FacilityId) -> Sequence[UserId]: ...

    async def folder(self, folder_id: FolderId) -> Folder | None: ...
    async def folders(self, homes: Collection[FacilityId] | None, after: str, limit: int) -> list[Folder]: ...
    async def save_folder(self, folder: Folder) -> None: ...
    async def put_in_folder(self, folder_id: FolderId, case_id: CaseId) -> bool: ...
    async def remove_from_folder(self, folder_id: FolderId, case_id: CaseId) -> bool: ...
    async def grant_case(self, user_id: UserId, case_id: CaseId) -> bool: ...
    async def revoke_grant(self, user_id: UserId, case_id: CaseId) -> bool: ...
    async def bump_case(self, case_id: CaseId) -> int: ...

    async def owning_facility(
        self, user: CompiledUser, case_id: CaseId, *, everywhere: bool, facilities: Collection[FacilityId]
    ) -> FacilityId | None: ...
    async def check(
        self, user: CompiledUser, case_id: CaseId, *, with_studies: bool, session: str = ""
    ) -> Answer[tuple[Sighting | None, tuple[ConfirmedStudy, ...]]] | None: ...

    async def hold_case(self, case_id: CaseId) -> bool: ...
    async def studies_of(self, case_id: CaseId) -> Sequence[StudyId]: ...
    async def lock_of(self, case_id: CaseId, side: Side) -> Lock | None: ...
    async def deletion(self, deletion_id: DeletionId) -> Deletion | None: ...
    async def begin_delete(self, deletion: Deletion) -> None: ...


class Database(Protocol):
    """Opens transactions."""

    def transaction(self) -> AbstractAsyncContextManager[Transaction]: ...


@dataclass(frozen=True, slots=True)
class Act:
    """An administrative act under way: its transaction, who does it, and what its audit row will say."""

    transaction: Transaction
    actor: CompiledUser
    action: str
    object: str

    @property
    def manager(self) -> Manager:
        """The actor, if he may administer anything at all."""
        return Manager(self.actor)

    async def done(self, *facts: Fact, **detail: str | int) -> int:
        """Audits and tells; answers the revision that this act made. Nothing is written after it."""
        await self.transaction.record(self.actor.login, self.action, self.object, "done", **detail)
        await self.transaction.say(*facts)
        return await self.transaction.bump_revision()


class Administration:
    """Opens the transactions of what administrators do. A refusal is audited in one of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def act(self, login: str, action: str, object_: str) -> AsyncIterator[Act]:
        try:
            async with self._database.transaction() as transaction:
                await transaction.lock_administration()
                actor = await compiled(transaction, login)
                yield Act(transaction, actor, action, object_)
        except (Denied, NotFound, Conflict) as refusal:
            async with self._database.transaction() as transaction:
                await transaction.record(login, action, object_, "refused", reason=refusal.sentence)
            raise

    @asynccontextmanager
    async def look(self, login: str) -> AsyncIterator[tuple[Transaction, CompiledUser]]:
        """For what only reads."""
        async with self._database.transaction() as transaction:
            yield transaction, await compiled(transaction, login)


async def compiled(transaction: Transaction, login: str) -> CompiledUser:
    """The acting user as he is now; raises Unauthenticated for one who is absent or deactivated."""
    user = await transaction.compiled_user(acting_login(login))
    if user is None:
        raise no_active_user()
    return user


@dataclass(frozen=True, slots=True)
class HeldPrivilege:
    """A stored privilege as a side may know it, with what it amounts to now."""

    user_id: UserId
    facility_id: FacilityId
    facility_name: str
    privilege: Privilege
    effective_level: Level
    expires_at: datetime | None

    @classmethod
    def of(
        cls, user: User, facility: Facility, privilege: Privilege, now: datetime, shown_to: Side
    ) -> "HeldPrivilege":
        standing = stand(privilege, user.role, facility.time_zone)
        shown = replace(privilege, read_types=shown_read_types(privilege.read_types, shown_to))
        return cls(user.id, facility.id, facility.name, shown, standing.at(now), standing.expires_at)


class Users:
    """Accounts and their privileges."""

    def __init__(self, database: Database, new_id: NewId) -> None:
        self._database = database
        self._administration = Administration(database)
        self._new_id = new_id

    async def save_user(self, login: str, settings: UserSettings) -> tuple[User, int]:
        """Creates or changes a user; answers him and the revision of sight."""
        user_id = settings.user_id or UserId(self._new_id())
        async with self._administration.act(login, "user.saved", f"user:{user_id}") as act:
            manager, transaction = act.manager, act.transaction
            old = None
            if settings.user_id is not None:
                old = await transaction.user(user_id)
                if old is None:
                    raise no_user(user_id)
                manager.must_manage(old)
            user = settings.applied(user_id, old, manager)
            manager.must_give_user(old, user)
            facilities = {grant.facility_id for grant in user.permissions} | {user.home_facility_id}
            await _must_know(transaction, {facility for facility in facilities if facility})
            if user == old:
                return user, await transaction.revision()
            user = replace(user, version=user.version + 1)
            await transaction.save_user(user)
            if not await transaction.somebody_administers():
                raise Conflict("nobody would be left who holds `access.admin` for every facility")
            revision = await act.done(
                UserChanged(user.id, user.version),
                login=user.login,
                role=user.role,
                active=int(user.active),
                permissions=" ".join(sorted(_permission_text(grant) for grant in user.permissions)),
                contact_changed=" ".join(changed_fields(old.contact if old else NO_CONTACT, user.contact)),
            )
        return user, revision

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
            await transaction.save_user(user)
            await transaction.record(
                "service:access", "user.saved", f"user:{user.id}", "done", login=user.login, role=user.role
            )
            await transaction.say(UserChanged(user.id, user.version))
            await transaction.bump_revision()
        return user

    async def list_users(self, login: str, after: str, limit: int) -> list[User]:
        """The users that the caller manages, by login."""
        async with self._administration.look(login) as (transaction, actor):
            return await transaction.users(Manager(actor).homes, after, limit)

    async def save_privilege(
        self, login: str, user_id: UserId, facility_id: FacilityId, privilege: Privilege
    ) -> tuple[HeldPrivilege, int]:
        """Sets the one privilege of a user at a facility; answers it and the revision of sight."""
        async with self._administration.act(login, "privilege.saved", f"user:{user_id}") as act:
            manager, transaction = act.manager, act.transaction
            manager.must_administer(facility_id)
            facility = await transaction.facility(facility_id)
            if facility is None:
                raise NotFound(f"no facility `{facility_id}`", field="facility_id")
            user = await self._managed(transaction, manager, user_id)
            must_suit(privilege, user.role)
            old = await transaction.privilege(user_id, facility_id)
            manager.must_give_privilege(facility, old, privilege, transaction.now)
            held = HeldPrivilege.of(user, facility, privilege, transaction.now, act.actor.side)
            if privilege == old:
                return held, await transaction.revision()
            await transaction.save_privilege(user_id, facility_id, privilege)
            revision = await act.done(
                *await _users_changed(transaction, {user_id}),
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
                user = await self._managed(transaction, manager, user_id)
                administers = manager.homes
            return [
                HeldPrivilege.of(user, facility, privilege, transaction.now, actor.side)
                for facility, privilege in await transaction.privileges(user_id)
                if administers is None or facility.id in administers
            ]

    async def describe(
        self, user_ids: Collection[UserId], logins: Collection[str]
    ) -> tuple[list[User], list[HeldPrivilege]]:
        """The users of these ids and logins, without their permissions, and their privileges above none."""
        if not 1 <= len(user_ids) + len(logins) <= MAX_DESCRIBED_USERS:
            raise Invalid(
                f"together 1 to {MAX_DESCRIBED_USERS} ids and logins must be named", field="user_ids"
            )
        async with self._database.transaction() as transaction:
            called = await transaction.users_called(user_ids, possible_logins(logins))
            users = {user.id: replace(user, permissions=frozenset()) for user in called}
            held = [
                HeldPrivilege.of(users[user_id], facility, privilege, transaction.now, Side.FACILITY)
                for user_id, facility, privilege in await transaction.privileges_of(users)
            ]
        return list(users.values()), held

    async def versions(self, after: UserId | None) -> Sequence[tuple[UserId, int]]:
        """A page of the versions of all users."""
        async with self._database.transaction() as transaction:
            return await transaction.user_versions(after, VERSIONS_PAGE)

    async def _managed(self, transaction: Transaction, manager: Manager, user_id: UserId) -> User:
        user = await transaction.user(user_id)
        if user is None:
            raise no_user(user_id)
        manager.must_manage(user)
        return user


class Folders:
    """Folders, what is in them, and grants of single cases: the ways around a privilege (ACC-4, ACC-5)."""

    def __init__(self, database: Database, new_id: NewId) -> None:
        self._administration = Administration(database)
        self._new_id = new_id

    async def save_folder(
        self, login: str, folder_id: FolderId | None, name: str, members: frozenset[UserId]
    ) -> tuple[Folder, int]:
        """Creates a folder (no id) or changes its name and members; answers it and the revision."""
        folder = Folder(
            folder_id or FolderId(self._new_id()), checked_name(name, MAX_FOLDER_NAME_CHARACTERS), members
        )
        async with self._administration.act(login, "folder.saved", f"folder:{folder.id}") as act:
            act.manager.must_administer_everything()
            transaction = act.transaction
            old = None
            if folder_id is not None:
                old = await transaction.folder(folder_id)
                if old is None:
                    raise _no_folder(folder_id)
            if unknown := members - await transaction.known_users(members):
                raise NotFound(f"no user `{min(unknown)}`", field="member_user_ids")
            if folder == old:
                return folder, await transaction.revision()
            await transaction.save_folder(folder)
            joined, left = (
                (members, frozenset()) if old is None else (members - old.members, old.members - members)
            )
            revision = await act.done(
                *await _users_changed(transaction, joined | left),
                joined=" ".join(sorted(map(str, joined))),
                left=" ".join(sorted(map(str, left))),
            )
        return folder, revision

    async def list_folders(self, login: str, after: str, limit: int) -> list[Folder]:
        """The folders by name, with the members that the caller manages."""
        async with self._administration.look(login) as (transaction, actor):
            return await transaction.folders(Manager(actor).homes, after, limit)

    async def put_in_folder(self, login: str, folder_id: FolderId, case_id: CaseId) -> int:
        """Shows a case to the members of a folder; answers the revision."""
        async with self._administration.act(login, "folder.case_put", f"case:{case_id}") as act:
            await _must_administer_case(act, case_id)
            if await act.transaction.folder(folder_id) is None:
                raise _no_folder(folder_id)
            changed = await act.transaction.put_in_folder(folder_id, case_id)
            return await _sight_changed(act, case_id, changed, folder=str(folder_id))

    async def remove_from_folder(self, login: str, folder_id: FolderId, case_id: CaseId) -> int:
        """Ends that; answers the revision."""
        async with self._administration.act(login, "folder.case_removed", f"case:{case_id}") as act:
            await _must_administer_case(act, case_id)
            if await act.transaction.folder(folder_id) is None:
                raise _no_folder(folder_id)
            changed = await act.transaction.remove_from_folder(folder_id, case_id)
            return await _sight_changed(act, case_id, changed, folder=str(folder_id))

    async def grant_case(self, login: str, case_id: CaseId, user_id: UserId) -> int:
        """Shows one case to one user; answers the revision."""
        async with self._administration.act(login, "case.granted", f"case:{case_id}") as act:
            await self._must_grant(act, case_id, user_id)
            changed = await act.transaction.grant_case(user_id, case_id)
            return await _sight_changed(act, case_id, changed, user=str(user_id))

    async def revoke_grant(self, login: str, case_id: CaseId, user_id: UserId) -> int:
        """Ends that; answers the revision."""
        async with self._administration.act(login, "case.grant_revoked", f"case:{case_id}") as act:
            await self._must_grant(act, case_id, user_id)
            changed = await act.transaction.revoke_grant(user_id, case_id)
            return await _sight_changed(act, case_id, changed, user=str(user_id))

    async def _must_grant(self, act: Act, case_id: CaseId, user_id: UserId) -> None:
        await _must_administer_case(act, case_id)
        user = await act.transaction.user(user_id)
        if user is None:
            raise no_user(user_id)
        act.manager.must_manage(user)


async def _must_administer_case(act: Act, case_id: CaseId) -> None:
    """Raises NotFound for a case that the actor neither sees nor administers, Denied for one he only sees."""
    actor = act.actor
    owner = await act.transaction.owning_facility(
        actor,
        case_id,
        everywhere=actor.holds(Permission.ADMINISTER_ACCESS),
        facilities=actor.holds_singly(Permission.ADMINISTER_ACCESS),
    )
    if owner is None:
        raise no_case(case_id)
    act.manager.must_administer(owner)


async def _sight_changed(act: Act, case_id: CaseId, changed: bool, **detail: str) -> int:
    if not changed:
        return await act.transaction.revision()
    version = await act.transaction.bump_case(case_id)
    return await act.done(SightChanged(case_id, version), **detail)


async def _users_changed(transaction: Transaction, user_ids: Collection[UserId]) -> list[UserChanged]:
    return [UserChanged(user_id, version) for user_id, version in await transaction.bump_users(user_ids)]


async def _must_know(transaction: Transaction, facility_ids: set[FacilityId]) -> None:
    if unknown := facility_ids - await transaction.known_facilities(facility_ids):
        raise NotFound(f"no facility `{min(unknown)}`", field="facility_id")


def _permission_text(grant: PermissionGrant) -> str:
    return grant.permission if grant.facility_id is None else f"{grant.permission}@{grant.facility_id}"


def _no_folder(folder_id: FolderId) -> NotFound:
    return NotFound(f"no folder `{folder_id}`", field="folder_id")
