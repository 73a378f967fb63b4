"""Routing's tables: SQL beside the function that runs it, rows to domain values and back."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

import asyncpg

from kernel.errors import Conflict
from kernel.ids import FacilityId, RuleId
from kernel.reach import Reach
from kernel.versions import NEVER_SAVED, Change
from services.routing.domain import (
    EndpointRule,
    Facility,
    Model,
    fold,
    match_key,
)
from services.routing.movestore import MoveStore
from services.routing.placementstore import PlacementStore


class RoutingTransaction(PlacementStore, MoveStore):
    """A transaction over routing's database."""

    # Facilities

    async def facility(self, facility_id: FacilityId) -> Facility | None:
        row = await self.connection.fetchrow("select * from facilities where facility_id = $1", facility_id)
        return _facility(row) if row else None

    async def lock_facility(self, facility_id: FacilityId) -> Facility | None:
        """The facility, which this transaction is going to change."""
        row = await self.connection.fetchrow(
            "select * from facilities where facility_id = $1 for no key update", facility_id
        )
        return _facility(row) if row else None

    async def hold_facilities(self, facility_ids: Collection[FacilityId]) -> dict[FacilityId, Facility]:
        """The facilities of these that exist; they cannot change before this transaction ends."""
        rows = await self.connection.fetch(
            "select * from facilities where facility_id = any($1) order by facility_id for share",
            list(facility_ids),
        )
        return {row["facility_id"]: _facility(row) for row in rows}

    async def last_change_of_facility(self, facility_id: FacilityId) -> Change:
        row = await self.connection.fetchrow(
            "select version, changed_by, changed_at from facilities where facility_id = $1", facility_id
        )
        return Change(*row) if row else NEVER_SAVED

    async def save_facility(self, facility: Facility, by: str) -> None:
        """Inserts or replaces; raises Conflict if another facility has the name."""
        try:
            await self.connection.execute(
                """
                insert into facilities (facility_id, name, name_key, time_zone, model, mapping_tag, version,
                    changed_by, changed_at)
                values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
                on conflict (facility_id) do update set name = excluded.name, name_key = excluded.name_key,
                    time_zone = excluded.time_zone, model = excluded.model,
                    mapping_tag = excluded.mapping_tag, version = excluded.version,
                    changed_by = excluded.changed_by, changed_at = excluded.changed_at
                """,
                facility.id,
                facility.name,
                fold(facility.name),
                facility.time_zone,
                facility.model,
                facility.mapping_tag,
                facility.version,
                by,
                self.now,
            )
        except asyncpg.UniqueViolationError as error:
            raise Conflict(f"a facility named `{facility.name}` already exists", field="name") from error

    async def facilities(self, reach: Reach, after: tuple[str, UUID] | None, limit: int) -> list[Facility]:
        """Facilities within reach, by name, after the one with this folded name and id."""
        rows = await self.connection.fetch(
            """
            select * from facilities
            where ($1 or facility_id = any($2)) and (name_key, facility_id) > ($3, $4)
            order by name_key, facility_id limit $5
            """,
            reach.everywhere,
            list(reach.facilities),
            *(after or ("", UUID(int=0))),
            limit,
        )
        return [_facility(row) for row in rows]

    async def facility_versions(self, after: UUID, limit: int) -> list[tuple[UUID, int]]:
        rows = await self.connection.fetch(
            "select facility_id, version from facilities where facility_id > $1 order by 1 limit $2",
            after,
            limit,
        )
        return [(row["facility_id"], row["version"]) for row in rows]

    # Endpoint rules

    async def is_in_rules(self, facility_id: FacilityId) -> bool:
        """Whether a rule names the facility, as its hub or as its endpoint."""
        return bool(
            await self.connection.fetchval(
                """
                select exists (select from endpoint_rules where hub_facility_id = $1)
                    or exists (select from endpoint_rules where endpoint_facility_id = $1)
                """,
                facility_id,
            )
        )

    async def insert_rule(self, rule: EndpointRule) -> None:
        """Raises Conflict if the hub has a rule whose text is compared the same."""
        taken = Conflict(f"the hub already has a rule for `{rule.text}`", field="text")
        key = match_key(rule.text)
        if await self._has_rule(rule.hub_facility_id, key):
            raise taken
        try:
            await self.connection.execute(
                """
                insert into endpoint_rules (rule_id, hub_facility_id, endpoint_facility_id, text, text_key)
                values ($1, $2, $3, $4, $5)
                """,
                rule.id,
                rule.hub_facility_id,
                rule.endpoint_facility_id,
                rule.text,
                key,
            )
        except asyncpg.UniqueViolationError as error:
            raise taken from error

    async def _has_rule(self, hub_facility_id: FacilityId, key: str) -> bool:
        return bool(
            await self.connection.fetchval(
                "select exists (select from endpoint_rules where hub_facility_id = $1 and match_key = $2)",
                hub_facility_id,
                key,
            )
        )

    async def rule(self, rule_id: RuleId) -> EndpointRule | None:
        row = await self.connection.fetchrow(
            "select * from endpoint_rules where rule_id = $1 for update", rule_id
        )
        return _rule(row) if row else None

    async def delete_rule(self, rule_id: RuleId) -> None:
        await self.connection.execute("delete from endpoint_rules where rule_id = $1", rule_id)

    async def rules(
        self, facility_id: FacilityId, after: tuple[str, UUID] | None, limit: int
    ) -> list[EndpointRule]:
        """Rules of a hub or of an endpoint, by text, after the one with this folded text and id."""
        rows = await self.connection.fetch(
            """
            select * from endpoint_rules
            where (hub_facility_id = $1 or endpoint_facility_id = $1) and (text_key, rule_id) > ($2, $3)
            order by text_key, rule_id limit $4
            """,
            facility_id,
            *(after or ("", UUID(int=0))),
            limit,
        )
        return [_rule(row) for row in rows]

    async def all_rules(self, hub_facility_id: FacilityId) -> list[EndpointRule]:
        """Every rule of a hub."""
        rows = await self.connection.fetch(
            "select * from endpoint_rules where hub_facility_id = $1", hub_facility_id
        )
        return [_rule(row) for row in rows]

    async def endpoints(self, hub_facility_id: FacilityId, keys: Sequence[str]) -> dict[str, FacilityId]:
        """The endpoint of each of these texts that a rule of the hub has: one look-up by index.

        The version before told runs of blanks apart. Where rules that are alike now name several endpoints,
        none is meant (A16).
        """
        rows = await self.connection.fetch(
            """
            select match_key, min(endpoint_facility_id::text)::uuid as endpoint_facility_id
            from endpoint_rules where hub_facility_id = $1 and match_key = any($2)
            group by match_key having count(distinct endpoint_facility_id) = 1
            """,
            hub_facility_id,
            keys,
        )
        return {row["match_key"]: row["endpoint_facility_id"] for row in rows}


Row = asyncpg.Record | Mapping[str, Any]


def _facility(row: Row) -> Facility:
    return Facility(
        row["facility_id"],
        row["name"],
        row["time_zone"],
        Model(row["model"]),
        row["mapping_tag"],
        row["version"],
    )


def _rule(row: Row) -> EndpointRule:
    return EndpointRule(row["rule_id"], row["endpoint_facility_id"], row["hub_facility_id"], row["text"])
