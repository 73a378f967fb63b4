"""Folders, what is in them, and grants of single cases: the ways around a privilege (ACC-4, ACC-5).

Both show a case to users who may have no privilege where it is. So both need the same of a delegated manager
(A13): they administer the facility of the case, see its cases there by their own privilege, manage everybody
whom the case is shown to, and hold what those users may do with it. Taking back needs less: to administer the
facility of the case, or to manage everybody whom it is taken from. A folder that a manager could put nothing
into does not exist for them.

A grant or an entry of a folder belongs to the facility at which it was made: it ends when the case moves
(`usecases.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from kernel.database import Database
from kernel.errors import Denied, Invalid, NotFound, Unavailable
from kernel.events import SightChanged
from kernel.ids import CaseId, FacilityId, FolderId, NewId, UserId
from kernel.reading import PrivilegeLevel
from kernel.versions import NEVER_SAVED, Change, must_be_current
from services.access.administration import Act, Administration
from services.access.domain import Answer, CompiledUser, Owned, Permission, User, no_case, no_user
from services.access.manager import Manager
from services.access.names import MAX_FOLDER_NAME_CHARACTERS, checked_name

if TYPE_CHECKING:
    from services.access.store import AccessTransaction


MAX_FOLDER_MEMBERS = 1000
"""A shared folder is for a board or a department, and each member is checked with each case that comes in."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A set of cases shown to a set of users.

    Attributes:
        last: who changed it last, and its version.
    """

    id: FolderId
    name: str
    members: frozenset[UserId]
    last: Change = NEVER_SAVED

    @property
    def folded_name(self) -> str:
        """What makes the name unique, without regard to case."""
        return self.name.casefold()


@dataclass(frozen=True, slots=True)
class FolderSettings:
    """A folder as an administrator wants it to be.

    Attributes:
        folder_id: None for a new folder.
        version: the version that these settings were made from; 0 for a new folder.
    """

    folder_id: FolderId | None
    name: str
    members: frozenset[UserId]
    version: int = 0

    def __post_init__(self) -> None:
        if len(self.members) > MAX_FOLDER_MEMBERS:
            raise Invalid(
                f"a folder has at most {MAX_FOLDER_MEMBERS} members: make a second folder",
                field="member_user_ids",
            )


@dataclass(frozen=True, slots=True)
class Showing:
    """A case that a grant shows to a user, or that a folder shows to its members.

    Attributes:
        to: the user or the folder.
        received_at: of the case; lists are sorted by it, newest first.
        name: of the user or folder; empty if they are none of the manager's.
        login: of the user, likewise; empty of a folder.
    """

    case_id: CaseId
    facility_id: FacilityId
    to: UUID
    received_at: datetime
    facility_name: str
    name: str
    login: str

    @property
    def place(self) -> Place:
        return Place(self.received_at, self.case_id, self.to)


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a list of showings: after this one."""

    received_at: datetime
    case_id: CaseId
    to: UUID


def must_show(manager: Manager, owned: Owned, users: Collection[User], now: datetime) -> None:
    """Raises Denied unless a manager may show a case to these users, whom they manage (A13)."""
    facility_id = owned.facility_id
    manager.must_administer(facility_id)
    if manager.everywhere:
        return
    if manager.user.level_at(facility_id, now) < PrivilegeLevel.VIEW:
        raise Denied(
            "you may show others only what you see by your own privilege: "
            "you have none at the facility of the case"
        )
    if not owned.by_privilege:
        raise Denied(
            "you may show others only what you see by your own privilege: your filter hides the case"
        )
    for user in users:
        if not manager.sees_like(user.role):
            raise Denied(f"`{user.login}` sees pre-reads and you do not: show others only what you may see")
    for user in users:
        manager.must_see_as_much(user, facility_id)


def may_use(manager: Manager, members: Collection[User]) -> bool:
    """Whether a manager may put cases into a folder: they manage everybody who sees them there."""
    if manager.everywhere:
        return True
    return bool(members) and all(manager.administers(member.home_facility_id) for member in members)


def must_take_back(
    manager: Manager,
    case_id: CaseId,
    owner: FacilityId | None,
    *,
    is_shown: bool,
    is_theirs: bool,
    nothing: NotFound,
) -> None:
    """Raises unless a manager may end that a case is shown to a user or in a folder.

    Who administers its facility may, and who manages everybody whom it is taken from. A case, user or folder
    that the manager may not know of is as an absent one.

    Args:
        owner: None for a case that the manager neither sees nor administers.
        is_theirs: whether the user or the folder is the manager's.
        nothing: the answer for a user or folder that does not exist.
    """
    if is_shown and is_theirs:
        return
    if owner is None:
        raise no_case(case_id)
    if is_theirs:
        return
    # Before anything is said of the user or folder: whoever only sees the case learns nothing of either.
    manager.must_administer(owner)
    if not is_shown:
        raise nothing


class Folders:
    """What administrators do with folders and grants."""

    def __init__(self, database: Database[AccessTransaction], new_id: NewId) -> None:
        self._administration = Administration(database)
        self._new_id = new_id

    async def save_folder(self, login: str, settings: FolderSettings) -> tuple[Folder, int]:
        """Creates a folder or changes its name and members; answers it and the revision.

        Only who may show any case to anybody adds a member, so what is in the folder is not looked at.
        """
        name = checked_name(settings.name, MAX_FOLDER_NAME_CHARACTERS)
        folder_id = settings.folder_id or FolderId(self._new_id())
        async with self._administration.change(login, "folder.saved", f"folder:{folder_id}") as act:
            act.manager.must_administer_everything()
            transaction = act.transaction
            new = Folder(folder_id, "", frozenset())
            old = await transaction.folder(folder_id) if settings.folder_id else new
            if old is None:
                raise _no_folder(folder_id)
            if unknown := settings.members - await transaction.known_users(settings.members):
                raise NotFound(f"there is no user `{min(unknown)}`", field="member_user_ids")
            if (name, settings.members) == (old.name, old.members):
                return old, await transaction.revision()
            must_be_current(f"the folder `{old.name}`", settings.version, old.last)
            change = Change(old.last.version + 1, act.actor.login, transaction.now)
            folder = Folder(folder_id, name, settings.members, change)
            await transaction.save_folder(folder)
            joined, left = folder.members - old.members, old.members - folder.members
            revision = await act.done(
                *await act.users_changed(joined | left),
                joined=" ".join(sorted(map(str, joined))),
                left=" ".join(sorted(map(str, left))),
            )
        return folder, revision

    async def list_folders(self, login: str, after: str, limit: int) -> list[Folder]:
        """The folders that the caller may use, by name."""
        async with self._administration.look(login) as (transaction, actor):
            return await transaction.folders(Manager(actor).homes, after, limit)

    async def put_in_folder(self, login: str, folder_id: FolderId, case_id: CaseId) -> int:
        """Shows a case to the members of a folder; answers the revision."""
        async with self._administration.act(login, "folder.case_put", f"case:{case_id}") as act:
            manager, owned = await _known(act, case_id)
            if owned is None:
                raise no_case(case_id)
            manager.must_administer(owned.facility_id)
            folder, members = await _folder(act.transaction, folder_id)
            if folder is None or not may_use(manager, members):
                raise _no_folder(folder_id)
            must_show(manager, owned, members, act.transaction.now)
            changed = await act.transaction.put_in_folder(folder_id, case_id)
            return await _sight_changed(act, case_id, changed, folder=str(folder_id))

    async def remove_from_folder(self, login: str, folder_id: FolderId, case_id: CaseId) -> int:
        """Takes a case out of a folder; answers the revision."""
        async with self._administration.act(login, "folder.case_removed", f"case:{case_id}") as act:
            transaction = act.transaction
            manager, owned = await _known(act, case_id)
            folder, members = await _folder(transaction, folder_id)
            must_take_back(
                manager,
                case_id,
                owned.facility_id if owned else None,
                is_shown=await transaction.is_in_folder(folder_id, case_id),
                is_theirs=folder is not None and may_use(manager, members),
                nothing=_no_folder(folder_id),
            )
            changed = await transaction.remove_from_folder(folder_id, case_id)
            return await _sight_changed(act, case_id, changed, folder=str(folder_id))

    async def grant_case(self, login: str, case_id: CaseId, user_id: UserId) -> int:
        """Shows one case to one user; answers the revision."""
        async with self._administration.act(login, "case.granted", f"case:{case_id}") as act:
            manager, owned = await _known(act, case_id)
            if owned is None:
                raise no_case(case_id)
            manager.must_administer(owned.facility_id)
            user = await act.transaction.user(user_id)
            if user is None:
                raise no_user(user_id)
            manager.must_manage(user)
            must_show(manager, owned, [user], act.transaction.now)
            changed = await act.transaction.grant_case(user_id, case_id)
            return await _sight_changed(act, case_id, changed, user=str(user_id))

    async def revoke_grant(self, login: str, case_id: CaseId, user_id: UserId) -> int:
        """Takes that back; answers the revision."""
        async with self._administration.act(login, "case.grant_revoked", f"case:{case_id}") as act:
            transaction = act.transaction
            manager, owned = await _known(act, case_id)
            user = await transaction.user(user_id)
            must_take_back(
                manager,
                case_id,
                owned.facility_id if owned else None,
                is_shown=await transaction.is_granted(user_id, case_id),
                is_theirs=user is not None and manager.administers(user.home_facility_id),
                nothing=no_user(user_id),
            )
            changed = await transaction.revoke_grant(user_id, case_id)
            return await _sight_changed(act, case_id, changed, user=str(user_id))

    async def list_grants(
        self, login: str, of: CaseId | UserId, *, by_case: bool, after: Place | None, limit: int
    ) -> Sequence[Showing]:
        """The grants of a case, or those to a user, which the caller may know of; newest case first."""
        async with self._administration.look(login) as (transaction, actor):
            manager = Manager(actor)
            if by_case:
                await _must_know(transaction, manager, CaseId(of))
            else:
                user = await transaction.user(UserId(of))
                if user is None:
                    raise no_user(UserId(of))
                manager.must_manage(user)
            return _current(
                actor,
                await transaction.list_grants(
                    actor, of, by_case=by_case, facilities=manager.homes, after=after, limit=limit
                ),
            )

    async def list_folder_cases(
        self, login: str, of: CaseId | FolderId, *, by_case: bool, after: Place | None, limit: int
    ) -> Sequence[Showing]:
        """The folders that hold a case, or the cases in a folder, which the caller may know of."""
        async with self._administration.look(login) as (transaction, actor):
            manager = Manager(actor)
            if by_case:
                await _must_know(transaction, manager, CaseId(of))
            else:
                folder, members = await _folder(transaction, FolderId(of))
                if folder is None or not may_use(manager, members):
                    raise _no_folder(FolderId(of))
            return _current(
                actor,
                await transaction.list_folder_cases(
                    actor, of, by_case=by_case, facilities=manager.homes, after=after, limit=limit
                ),
            )


async def _known(act: Act, case_id: CaseId) -> tuple[Manager, Owned | None]:
    """The actor as a manager, and the owner of a case that they see or administer.

    The case does not move until the transaction ends. For somebody who administers nothing: raises NotFound
    for a case that they do not see, else Denied.
    """
    await act.transaction.hold_case(case_id)
    owned = await _owned(act.transaction, act.actor, case_id)
    if owned is None and not act.actor.holds_anywhere(Permission.ADMINISTER_ACCESS):
        raise no_case(case_id)
    return act.manager, owned


async def _must_know(transaction: AccessTransaction, manager: Manager, case_id: CaseId) -> None:
    if await _owned(transaction, manager.user, case_id) is None:
        raise no_case(case_id)


async def _owned(transaction: AccessTransaction, user: CompiledUser, case_id: CaseId) -> Owned | None:
    """The owner of a case that a user sees or whose facility they administer."""
    return await transaction.owned(
        user,
        case_id,
        everywhere=user.holds(Permission.ADMINISTER_ACCESS),
        facilities=user.holds_singly(Permission.ADMINISTER_ACCESS),
    )


async def _folder(
    transaction: AccessTransaction, folder_id: FolderId
) -> tuple[Folder | None, Sequence[User]]:
    """A folder and its members; an absent one costs as many statements as a foreign one."""
    folder = await transaction.folder(folder_id)
    return folder, await transaction.users_called(folder.members if folder else (), ())


def _current(user: CompiledUser, answer: Answer[Sequence[Showing]] | None) -> Sequence[Showing]:
    """What was found, unless the user was changed since they were compiled."""
    if answer is None or answer.user_version != user.version:
        raise Unavailable("an administrator is changing your account: try again in a second")
    return answer.found


async def _sight_changed(act: Act, case_id: CaseId, changed: bool, **detail: str) -> int:
    if not changed:
        return await act.transaction.revision()
    version = await act.transaction.bump_case(case_id)
    return await act.done(SightChanged(case_id, version), **detail)


def _no_folder(folder_id: FolderId) -> NotFound:
    """The answer for a folder that does not exist or is not the caller's to use."""
    return NotFound(f"there is no folder `{folder_id}`", field="folder_id")
