"""Access as a process: `python -m services access`."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from pydantic import SecretStr

from kernel.clock import Clock, MonotonicClock
from kernel.countries import DEFAULT
from kernel.ids import UUID7, NewId
from plumbing import healing, replaying, rpc, runtime, timers, verifying
from plumbing.bus import Bus, Consumer
from plumbing.config import Address, Countries, ServiceSettings
from plumbing.db import Database
from plumbing.outbox import Relay
from plumbing.sealing import AuditTrail
from plumbing.tokens import Verifier
from services.access import api, events
from services.access.administration import Users
from services.access.clients import IngestClient, ReportingClient, RoutingClient
from services.access.deletion import Deletions
from services.access.explaining import Explaining
from services.access.folders import Folders
from services.access.granting import Buckets
from services.access.moves import Moves
from services.access.revision import RevisionTokens
from services.access.store import AccessTransaction
from services.access.usecases import CaseIndex, Questions

NAME = "access"


class Settings(ServiceSettings):
    """What access is told beyond what every service is.

    Attributes:
        ingest_address, routing_address, reporting_address: gRPC addresses of those whose facts it hears.
        text_countries: as notify is told: ISO 3166 codes of the countries that text messages are sent to.
        revision_key: encrypts revision tokens; at least 32 characters, the same at each instance.
    """

    prefix = "READROOM_ACCESS_"

    ingest_address: Address
    routing_address: Address
    reporting_address: Address
    text_countries: Countries = DEFAULT
    revision_key: SecretStr


async def build(
    settings: Settings, clock: Clock, new_id: NewId, resources: AsyncExitStack
) -> runtime.Application:
    revisions = RevisionTokens(settings.revision_key.get_secret_value())
    database = await Database.connect(
        settings.database_url.get_secret_value(),
        AccessTransaction,
        clock=clock,
        new_id=new_id,
        ca=settings.servers_ca,
    )
    resources.push_async_callback(database.close)
    bus = await Bus.connect(settings.nats_url.get_secret_value(), NAME, settings.servers_ca)
    resources.push_async_callback(bus.close)
    to_routing = rpc.connect(settings.routing_address, "routing", settings.tls)
    resources.push_async_callback(to_routing.close)
    to_ingest = rpc.connect(settings.ingest_address, "ingest", settings.tls)
    resources.push_async_callback(to_ingest.close)
    to_reporting = rpc.connect(settings.reporting_address, "reporting", settings.tls)
    resources.push_async_callback(to_reporting.close)

    questions = Questions(database, clock)
    users = Users(database, new_id)
    folders = Folders(database, new_id)
    buckets = Buckets(database)
    ingest = IngestClient(to_ingest)
    deletions = Deletions(database, ingest)
    routing = RoutingClient(to_routing)
    index = CaseIndex(database, routing, ingest, ReportingClient(to_reporting))
    moves = Moves(database, routing, index)

    trail = AuditTrail(database, NAME, settings, clock)
    verifier = Verifier(settings.token_public_key.read_bytes(), clock)
    server = rpc.Server(NAME, settings.listen, settings.tls, verifier)
    api.serve(
        server,
        questions,
        users,
        folders,
        buckets,
        deletions,
        moves,
        Explaining(database),
        revisions,
        settings.text_countries,
    )
    consumer = Consumer(bus, database, NAME, events.hearings(index, deletions), clock)
    holds = api.holds(questions)
    verifying.serve(server, trail, holds)
    replaying.serve(server, consumer, holds)
    return runtime.Application(
        servers=[server],
        tasks={
            "relay": Relay(database, bus, clock).run,
            "seal": trail.seal,
            "consumer": consumer.run,
            "heal": partial(healing.run, index.kinds()),
            "settle-moves": partial(timers.every, events.SETTLE_EVERY_S, partial(events.settle, moves)),
        },
        ready={"database": database.ready},
    )


async def create_first_admin(database_url: str, login: str, ca: Path | None = None) -> bool:
    """Creates the first user, who holds `access.admin`; False if there is any user already (A63)."""
    clock = MonotonicClock()
    new_id = UUID7(clock)
    database = await Database.connect(
        database_url, AccessTransaction, clock=clock, new_id=new_id, pool_size=1, ca=ca
    )
    try:
        return await Users(database, new_id).create_first_administrator(login) is not None
    finally:
        await database.close()


def main(environ: Mapping[str, str]) -> int:
    return runtime.run(NAME, Settings, build, environ)
