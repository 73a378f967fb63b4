"""The tables of folders and grants; which of them a user may know of is in `showings.py`."""

from collections.abc import Collection

import asyncpg

from kernel.errors import Conflict
from kernel.ids import CaseId, FacilityId, FolderId, UserId
from kernel.versions import Change
from services.access.folders import Folder
from services.access.movestore import MoveStore


class FolderStore(MoveStore):
    """Keeps folders, what is in them, and grants."""

    async def folder(self, folder_id: FolderId) -> Folder | None:
        row = await self.connection.fetchrow(
            """
            select *, array(select user_id from folder_members m where m.folder_id = f.folder_id) as members
            from folders f where folder_id = $1
            """,
            folder_id,
        )
        return _folder(row) if row else None

    async def folders(self, homes: Collection[FacilityId] | None, after: str, limit: int) -> list[Folder]:
        """Folders by folded name, after this one: all (None), or those with members, all of these homes."""
        rows = await self.connection.fetch(
            """
            select * from folders f
            cross join lateral (
                select coalesce(array_agg(u.user_id), '{}') as members,
                    coalesce(bool_and(u.home_facility_id is not null and u.home_facility_id = any($2)), false)
                        as are_theirs
                from folder_members m join users u using (user_id) where m.folder_id = f.folder_id
            ) member
            where name_folded > $1 and ($2::uuid[] is null or member.are_theirs)
            order by name_folded limit $3
            """,
            after,
            None if homes is None else list(homes),
            limit,
        )
        return [_folder(row) for row in rows]

    async def save_folder(self, folder: Folder) -> None:
        """Inserts or replaces a folder and its members; raises Conflict if another has the name."""
        try:
            await self.connection.execute(
                """
                insert into folders (folder_id, name, name_folded, version, changed_by, changed_at)
                values ($1, $2, $3, $4, $5, $6)
                on conflict (folder_id) do update set name = excluded.name,
                    name_folded = excluded.name_folded, version = excluded.version,
                    changed_by = excluded.changed_by, changed_at = excluded.changed_at
                """,
                folder.id,
                folder.name,
                folder.folded_name,
                folder.last.version,
                folder.last.by,
                folder.last.at,
            )
        except asyncpg.UniqueViolationError as error:
            raise Conflict(f"a folder named `{folder.name}` already exists", field="name") from error
        await self.connection.execute("delete from folder_members where folder_id = $1", folder.id)
        await self.connection.executemany(
            "insert into folder_members (folder_id, user_id) values ($1, $2)",
            [(folder.id, user_id) for user_id in folder.members],
        )

    async def put_in_folder(self, folder_id: FolderId, case_id: CaseId) -> bool:
        """Whether it was not there before."""
        status = await self.connection.execute(
            """
            insert into folder_cases (folder_id, case_id, received_at)
            select $1, case_id, received_at from cases where case_id = $2 on conflict do nothing
            """,
            folder_id,
            case_id,
        )
        await self.touch_cases([case_id])
        return status == "INSERT 0 1"

    async def is_in_folder(self, folder_id: FolderId, case_id: CaseId) -> bool:
        """Whether a folder holds a case that is not being deleted."""
        return bool(
            await self.connection.fetchval(
                """
                select exists (
                    select from folder_cases join cases using (case_id)
                    where folder_id = $1 and case_id = $2 and deletion_id is null
                )
                """,
                folder_id,
                case_id,
            )
        )

    async def remove_from_folder(self, folder_id: FolderId, case_id: CaseId) -> bool:
        """Whether it was there."""
        status = await self.connection.execute(
            "delete from folder_cases where folder_id = $1 and case_id = $2", folder_id, case_id
        )
        return status == "DELETE 1"

    async def grant_case(self, user_id: UserId, case_id: CaseId) -> bool:
        """Whether the grant is new."""
        status = await self.connection.execute(
            """
            insert into case_grants (user_id, case_id, received_at)
            select $1, case_id, received_at from cases where case_id = $2 on conflict do nothing
            """,
            user_id,
            case_id,
        )
        await self.touch_cases([case_id])
        return status == "INSERT 0 1"

    async def is_granted(self, user_id: UserId, case_id: CaseId) -> bool:
        """Whether a user has a grant of a case that is not being deleted."""
        return bool(
            await self.connection.fetchval(
                """
                select exists (
                    select from case_grants join cases using (case_id)
                    where user_id = $1 and case_id = $2 and deletion_id is null
                )
                """,
                user_id,
                case_id,
            )
        )

    async def revoke_grant(self, user_id: UserId, case_id: CaseId) -> bool:
        """Whether there was one."""
        status = await self.connection.execute(
            "delete from case_grants where user_id = $1 and case_id = $2", user_id, case_id
        )
        return status == "DELETE 1"

    async def end_showings(self, case_id: CaseId) -> tuple[list[UserId], list[FolderId]]:
        """Ends every grant of a case and takes it out of every folder; answers of whom, and out of which."""
        granted = await self.connection.fetch(
            "delete from case_grants where case_id = $1 returning user_id", case_id
        )
        held = await self.connection.fetch(
            "delete from folder_cases where case_id = $1 returning folder_id", case_id
        )
        return sorted(row["user_id"] for row in granted), sorted(row["folder_id"] for row in held)


def _folder(row: asyncpg.Record) -> Folder:
    last = Change(row["version"], row["changed_by"], row["changed_at"])
    return Folder(row["folder_id"], row["name"], frozenset(row["members"]), last)
