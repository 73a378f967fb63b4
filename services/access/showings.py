# ruff: noqa: S608  statements are put together from constants of this file
"""Grants of cases and entries of folders, as far as a manager may know of them."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

from kernel.ids import CaseId, FacilityId, FolderId, UserId
from plumbing.db import Transaction
from services.access.casequery import CaseQuery, seen_by
from services.access.domain import Answer, CompiledUser
from services.access.folders import Place, Showing
from services.access.sightings import answer_of

_LAST_ID = UUID(int=2**128 - 1)
_NEWEST = Place(datetime.max.replace(tzinfo=UTC), CaseId(_LAST_ID), _LAST_ID)

# What shows cases beside privileges, by what is shown to: table, column, whether it is a manager's whose
# users' homes are these, and where its name stands. Who administers everything names no home.
_SHOWN_TO = {
    "user": (
        "case_grants",
        "user_id",
        "exists (select from users t where t.user_id = shown.user_id and t.home_facility_id = any({homes}))",
        "select n.name, n.login from users n where found.is_theirs and n.user_id = found.shown_to",
    ),
    "folder": (
        "folder_cases",
        "folder_id",
        """(
            select coalesce(bool_and(coalesce(t.home_facility_id = any({homes}), false)), false)
            from folder_members m join users t using (user_id) where m.folder_id = shown.folder_id
        )""",
        "select n.name, '' as login from folders n where found.is_theirs and n.folder_id = found.shown_to",
    ),
}


def _showings(
    cases: CaseQuery,
    to: Literal["user", "folder"],
    of: UUID,
    by_case: bool,
    facilities: Collection[FacilityId] | None,
    after: Place,
    limit: int,
) -> str:
    """The showings of a case, or those to a user or folder, that a manager may know of."""
    table, column, is_theirs, named = _SHOWN_TO[to]
    homes = cases.value(None if facilities is None else list(facilities))
    is_theirs = is_theirs.format(homes=homes)
    asked = f"shown.{'case_id' if by_case else column} = {cases.value(of)}"
    place = ", ".join(map(cases.value, (after.received_at, after.case_id, after.to)))
    return f"""
        select u.version as user_version, revision.value as revision, found.*,
            coalesce(named.name, '') as name, coalesce(named.login, '') as login,
            coalesce(f.name, '') as facility_name
        from users u
        cross join revision
        left join lateral (
            select shown.case_id, shown.{column} as shown_to, shown.received_at, sighted.facility_id,
                {homes}::uuid[] is null or {is_theirs} as is_theirs
            from {table} shown join {cases.sighted} using (case_id)
            where {asked} and (shown.received_at, shown.case_id, shown.{column}) < ({place})
                and sighted.deletion_id is null
                and (
                    {homes}::uuid[] is null or sighted.facility_id = any({homes})
                    or ({cases.visible} and {is_theirs})
                )
            order by shown.received_at desc, shown.case_id desc, shown.{column} desc
            limit {cases.value(limit)}
        ) found on true
        left join facilities f on f.facility_id = found.facility_id
        left join lateral ({named}) named on true
        where u.login = {cases.login}
        order by found.received_at desc, found.case_id desc, found.shown_to desc
    """


class Showings(Transaction):
    """Lists whom a case is shown to, and what is shown to somebody."""

    async def list_grants(
        self,
        user: CompiledUser,
        of: CaseId | UserId,
        *,
        by_case: bool,
        facilities: Collection[FacilityId] | None,
        after: Place | None,
        limit: int,
    ) -> Answer[list[Showing]] | None:
        """The grants of a case or to a user that a manager of these facilities (None: all) may know of."""
        return await self._list(user, "user", of, by_case, facilities, after, limit)

    async def list_folder_cases(
        self,
        user: CompiledUser,
        of: CaseId | FolderId,
        *,
        by_case: bool,
        facilities: Collection[FacilityId] | None,
        after: Place | None,
        limit: int,
    ) -> Answer[list[Showing]] | None:
        """The same of the folders that hold a case, or of what is in a folder."""
        return await self._list(user, "folder", of, by_case, facilities, after, limit)

    async def _list(
        self,
        user: CompiledUser,
        to: Literal["user", "folder"],
        of: UUID,
        by_case: bool,
        facilities: Collection[FacilityId] | None,
        after: Place | None,
        limit: int,
    ) -> Answer[list[Showing]] | None:
        cases = seen_by(user, self.now)
        statement = _showings(cases, to, of, by_case, facilities, after or _NEWEST, limit)
        rows = await self.connection.fetch(statement, *cases.parameters)
        if not rows:
            return None
        found = [
            Showing(
                row["case_id"],
                row["facility_id"],
                row["shown_to"],
                row["received_at"],
                row["facility_name"],
                row["name"],
                row["login"],
            )
            for row in rows
            if row["case_id"]
        ]
        return answer_of(rows[0], found)
