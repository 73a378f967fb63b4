"""Routing's use cases on a PostgreSQL of their own, and routing as it runs."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import available_timezones

import asyncpg
import msgspec
import pytest
from pydantic import SecretStr

from kernel.ids import UUID7, FacilityId
from local.embedded import EmbeddedServers
from local.pki import Pki
from plumbing import rpc
from plumbing.bus import Bus
from plumbing.db import Database
from plumbing.tokenkeys import KeyFile
from plumbing.tokens import Verifier
from services.routing import main
from services.routing.arrivals import Arrivals
from services.routing.domain import EndpointRule, Facility, FacilitySettings, Model, Placement, Study
from services.routing.heldparts import HeldParts
from services.routing.moves import Moves
from services.routing.parts import Held
from services.routing.placements import Placements
from services.routing.reevaluation import Reevaluation
from services.routing.store import RoutingTransaction
from services.routing.usecases import FACILITY_ADMIN, Administration, Facilities, Rules
from tests.auditing import AUDIT_KEY
from tests.conftest import OpenDatabase
from tests.hosting import answers
from tests.routing.builders import EVERYWHERE, TAG, Archive, Movers, Permissions
from tests.routing.system import CLOCK, Access, Ingest, System
from tests.wait import eventually
from wire.access.v1 import access_pb2_grpc
from wire.facts.v1 import facts_pb2_grpc
from wire.ingest.v1 import ingest_pb2_grpc

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
    held_parts: HeldParts
    moves: Moves
    movers: Movers
    arrivals: Arrivals
    reevaluation: Reevaluation

    async def facility(
        self, name: str, model: Model | None = None, tag: str | None = None, **changes: Any
    ) -> Facility:
        tag = tag or (TAG if model is Model.HUB else None)
        wanted = FacilitySettings(name, changes.pop("time_zone", None), model, tag)
        facility_id = changes.pop("facility_id", None)
        made_from = changes.pop("made_from", None)
        if made_from is None:
            async with self.database.transaction() as transaction:
                stored = await transaction.facility(facility_id) if facility_id else None
            made_from = stored.version if stored else 0
        return await self.facilities.save_facility(changes.pop("by", ADMIN), facility_id, wanted, made_from)

    async def rule(self, hub: Facility, text: str, endpoint: Facility) -> EndpointRule:
        return await self.rules.save_rule(ADMIN, endpoint.id, hub.id, text)

    async def place(self, *studies: Study) -> None:
        for study in studies:
            async with self.database.transaction() as transaction:
                await self.placements.place(transaction, study)

    async def receive(self, study: Study) -> None:
        """The study is in ingest, and a fact about it is heard."""
        self.archive.add(study)
        arrival = await self.arrivals.fetch(study.id, study.version)
        if arrival is None:  # that version is applied
            return
        async with self.database.transaction() as transaction:
            await self.arrivals.place(transaction, arrival)

    async def cases(self) -> list[Placement]:
        rows = await self.query("select case_id from placements order by case_id")
        return [await self.placements.describe_placement(row["case_id"]) for row in rows]

    async def held(self) -> list[Held]:
        return list(await self.held_parts.list_held(ADMIN, None, 500))

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
async def routing(open_database: OpenDatabase) -> Routing:
    clock = TickingClock()
    new_id = UUID7(clock)
    database = await open_database("routing", RoutingTransaction, clock, new_id)
    permissions = Permissions({FACILITY_ADMIN: EVERYWHERE})
    archive, movers = Archive(), Movers()
    administration = Administration(database, permissions)
    placements = Placements(database, administration, archive, new_id)
    return Routing(
        database,
        permissions,
        archive,
        Facilities(database, administration, new_id, TIME_ZONES),
        Rules(database, administration, new_id),
        placements,
        HeldParts(database, permissions, administration, placements),
        Moves(database, administration, movers, new_id),
        movers,
        Arrivals(database, placements, movers, new_id),
        Reevaluation(database, administration, movers, archive, placements, new_id),
    )


@pytest.fixture
async def system(
    servers: EmbeddedServers, fresh_database: Callable[[str], str], pki: Pki
) -> AsyncIterator[System]:
    verifier = Verifier(KeyFile(pki.token_keys), CLOCK)
    access, ingest = Access(), Ingest()  # type: ignore[abstract]
    access_server = rpc.Server("access", "127.0.0.1:0", pki.tls("access"), verifier)
    access_server.add(
        access_pb2_grpc.add_AccessServiceServicer_to_server, access, "wire.access.v1.AccessService"
    )
    ingest_server = rpc.Server("ingest", "127.0.0.1:0", pki.tls("ingest"), verifier)
    ingest_server.add(
        ingest_pb2_grpc.add_IngestServiceServicer_to_server, ingest, "wire.ingest.v1.IngestService"
    )
    ingest_server.add(facts_pb2_grpc.add_FactsServiceServicer_to_server, ingest, "wire.facts.v1.FactsService")
    access_port, ingest_port = await access_server.start(), await ingest_server.start()
    database_url = fresh_database("routing")
    tls = pki.tls("routing")
    bus = await Bus.connect(servers.nats_url, "test")
    await eventually(lambda: answers(bus))
    settings = main.Settings(
        listen="127.0.0.1:0",
        http_listen="127.0.0.1:0",
        database_url=SecretStr(database_url),
        nats_url=SecretStr(servers.nats_url),
        tls_certificate=tls.certificate,
        tls_key=tls.key,
        tls_ca=tls.ca,
        token_keys=pki.token_keys,
        audit_key=SecretStr(AUDIT_KEY),
        audit_anchor_file=servers.data_dir / "anchors-routing.jsonl",
        access_address=f"127.0.0.1:{access_port}",
        ingest_address=f"127.0.0.1:{ingest_port}",
        heal_interval_s=0.2,
    )
    yield System(pki, bus, access, ingest, database_url, settings)
    await bus.close()
    await access_server.stop(0)
    await ingest_server.stop(0)


@pytest.fixture
async def running(system: System) -> AsyncIterator[System]:
    async with system.running():
        yield system
