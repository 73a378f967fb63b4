"""Routing's use cases on a PostgreSQL of their own."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import available_timezones

import asyncpg
import msgspec
import pytest

from kernel.ids import UUID7, FacilityId
from plumbing.db import Database
from services.routing.domain import EndpointRule, Facility, FacilitySettings, Held, Model, Placement, Study
from services.routing.store import RoutingTransaction
from services.routing.usecases import FACILITY_ADMIN, Administration, Facilities, Placements, Rules
from tests.routing.builders import EVERYWHERE, TAG, Archive, Permissions

ADMIN = "ada"
TIME_ZONES = available_timezones()


class TickingClock:
    """A clock that goes on by a millisecond each time it is read."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 1, 8, 0, tzinfo=UTC)

    def now(self) -> datetime:
        self.at += timedelta(milliseconds=1)
        return self.at


@dataclass
class Routing:
    """The use cases, and what a test wants to see or say around them."""

    database: Database[RoutingTransaction]
    permissions: Permissions
    archive: Archive
    facilities: Facilities
    rules: Rules
    placements: Placements

    async def facility(
        self, name: str, model: Model | None = None, tag: str | None = None, **changes: Any
    ) -> Facility:
        tag = tag or (TAG if model is Model.HUB else None)
        wanted = FacilitySettings(name, changes.pop("time_zone", None), model, tag)
        return await self.facilities.save(ADMIN, changes.pop("facility_id", None), wanted)

    async def rule(self, hub: Facility, text: str, endpoint: Facility) -> EndpointRule:
        return await self.rules.save(ADMIN, endpoint.id, hub.id, text)

    async def place(self, *studies: Study) -> None:
        for study in studies:
            async with self.database.transaction() as transaction:
                await self.placements.place(transaction, study)

    async def cases(self) -> list[Placement]:
        rows = await self.query("select case_id from placements order by case_id")
        return [await self.placements.describe(row["case_id"]) for row in rows]

    async def held(self) -> list[Held]:
        return list(await self.placements.list_held(ADMIN, None, 500))

    async def facts(self) -> list[tuple[str, int]]:
        """Subjects and versions of what was said, in order."""
        rows = await self.query("select subject, payload from outbox order by said_at, event_id")
        return [(row["subject"], msgspec.json.decode(row["payload"])["version"]) for row in rows]

    async def query(self, sql: str, *values: object) -> list[asyncpg.Record]:
        async with self.database.statements() as transaction:
            return list(await transaction.connection.fetch(sql, *values))

    def only_at(self, *facilities: FacilityId) -> None:
        """From now on the acting user administers these facilities and no other."""
        self.permissions.held[FACILITY_ADMIN] = type(EVERYWHERE)(False, frozenset(facilities))


@pytest.fixture
async def routing(fresh_database: Callable[[str], str]) -> AsyncIterator[Routing]:
    clock = TickingClock()
    new_id = UUID7(clock)
    database = await Database.connect(
        fresh_database("routing"), RoutingTransaction, clock=clock, new_id=new_id
    )
    permissions = Permissions({FACILITY_ADMIN: EVERYWHERE})
    archive = Archive()
    administration = Administration(database, permissions)
    yield Routing(
        database,
        permissions,
        archive,
        Facilities(database, administration, new_id, TIME_ZONES),
        Rules(database, administration, new_id),
        Placements(database, administration, archive, new_id),
    )
    await database.close()
