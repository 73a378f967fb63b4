"""Folders, what is in them, and grants of single cases."""

from collections.abc import Collection
from typing import Protocol

from kernel.errors import NotFound
from kernel.events import SightChanged
from kernel.ids import CaseId, FacilityId, FolderId, NewId, UserId
from services.access import administration
from services.access.administration import Act, Administration
from services.access.domain import (
    MAX_FOLDER_NAME_CHARACTERS,
    CompiledUser,
    Folder,
    Permission,
    checked_name,
    no_case,
    no_user,
)
from services.access.manager import Manager


class Transaction(administration.Transaction, Protocol):
    """What access's store does within one transaction; `store.py` says more."""

    async def folder(self, folder_id: FolderId) -> Folder | None: ...
    async def folders(self, homes: Collection[FacilityId] | None, after: str, limit: int) -> list[Folder]: ...
    async def save_folder(self, folder: Folder) -> None: ...
    async def put_in_folder(self, folder_id: FolderId, case_id: CaseId) -> bool: ...
    async def remove_from_folder(self, folder_id: FolderId, case_id: CaseId) -> bool: ...
    async def grant_case(self, user_id: UserId, case_id: CaseId) -> bool: ...
    async def revoke_grant(self, user_id: UserId, case_id: CaseId) -> bool: ...
    async def owning_facility(
        self, user: CompiledUser, case_id: CaseId, *, everywhere: bool, facilities: Collection[FacilityId]
    ) -> FacilityId | None: ...


class Folders:
    """Folders, what is in them, and grants of single cases: the ways around a privilege (ACC-4, ACC-5)."""

    def __init__(self, database: administration.Database[Transaction], new_id: NewId) -> None:
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
                *await act.users_changed(joined | left),
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

    async def _must_grant(self, act: Act[Transaction], case_id: CaseId, user_id: UserId) -> None:
        await _must_administer_case(act, case_id)
        user = await act.transaction.user(user_id)
        if user is None:
            raise no_user(user_id)
        act.manager.must_manage(user)


async def _must_administer_case(act: Act[Transaction], case_id: CaseId) -> None:
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


async def _sight_changed(act: Act[Transaction], case_id: CaseId, changed: bool, **detail: str) -> int:
    if not changed:
        return await act.transaction.revision()
    version = await act.transaction.bump_case(case_id)
    return await act.done(SightChanged(case_id, version), **detail)


def _no_folder(folder_id: FolderId) -> NotFound:
    return NotFound(f"no folder `{folder_id}`", field="folder_id")
