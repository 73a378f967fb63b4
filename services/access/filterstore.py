"""The filters of users as they are stored, and the names that they may use."""

from collections.abc import Collection
from uuid import UUID

import asyncpg
import msgspec

from kernel.ids import FacilityId, UserId
from kernel.versions import NEVER_SAVED, Change
from plumbing.db import Transaction
from services.access.accessfilter import NO_FILTER, Historical, SavedFilter
from services.access.domain import Role
from services.access.filtering import ListedFilter


class FilterStore(Transaction):
    """Keeps filters; one that was taken away is a row that asks nothing, so that no version comes twice."""

    async def saved_filter(self, user_id: UserId) -> SavedFilter:
        row = await self.connection.fetchrow("select * from user_filters where user_id = $1", user_id)
        return saved_filter(row) if row else NO_FILTER

    async def last_change_of_filter(self, user_id: UserId) -> Change:
        """Its version, and who made it when."""
        row = await self.connection.fetchrow(
            "select version, changed_by, changed_at from user_filters where user_id = $1", user_id
        )
        return Change(*row) if row else NEVER_SAVED

    async def save_filter(self, user_id: UserId, saved: SavedFilter, *, by: str) -> Change:
        """Answers the version that this makes."""
        row = await self.connection.fetchrow(
            """
            insert into user_filters as f
                (user_id, form, expression, historical, version, changed_by, changed_at)
            values ($1, $2, $3, $4, 1, $5, $6)
            on conflict (user_id) do update set form = excluded.form, expression = excluded.expression,
                historical = excluded.historical, version = f.version + 1, changed_by = excluded.changed_by,
                changed_at = excluded.changed_at
            returning version, changed_by, changed_at
            """,
            user_id,
            msgspec.json.encode(saved.form).decode(),
            saved.expression,
            saved.historical,
            by,
            self.now,
        )
        assert row is not None
        return Change(*row)

    async def filters(
        self, homes: Collection[FacilityId] | None, roles: Collection[Role], after: str, limit: int
    ) -> list[ListedFilter]:
        """The filters that ask something, of users of these homes (None: all) and roles, by login."""
        rows = await self.connection.fetch(
            """
            select u.user_id, u.login, u.role, f.*
            from user_filters f join users u using (user_id)
            where u.login > $1 and ($2::uuid[] is null or u.home_facility_id = any($2)) and u.role = any($3)
                and (f.expression <> '' or f.form <> '{}')
            order by u.login limit $4
            """,
            after,
            None if homes is None else list(homes),
            list(roles),
            limit,
        )
        return [
            ListedFilter(
                row["user_id"],
                row["login"],
                Role(row["role"]),
                saved_filter(row),
                Change(row["version"], row["changed_by"], row["changed_at"]),
            )
            for row in rows
        ]

    async def logins_of(self, user_ids: Collection[UUID]) -> dict[UUID, str]:
        rows = await self.connection.fetch(
            "select user_id, login from users where user_id = any($1)", list(user_ids)
        )
        return {row["user_id"]: row["login"] for row in rows}

    async def facility_names(self) -> dict[UUID, str]:
        rows = await self.connection.fetch("select facility_id, name from facilities")
        return {row["facility_id"]: row["name"] for row in rows}


def saved_filter(row: asyncpg.Record) -> SavedFilter:
    """A filter of its row."""
    form = msgspec.json.decode(row["form"] or "{}", type=dict[str, object])
    return SavedFilter(form, row["expression"], Historical(row["historical"]))
