"""Reporting as a process: `python -m services reporting`."""

import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import timedelta

from pydantic import PositiveFloat

from kernel.clock import Clock
from kernel.ids import NewId
from plumbing import permitted, replaying, rpc, runtime, verifying
from plumbing.bus import Bus, Consumer
from plumbing.config import Address, ServiceSettings
from plumbing.db import Database
from plumbing.outbox import Relay
from plumbing.sealing import AuditTrail
from plumbing.tokens import Verifier
from services.reporting import api, events
from services.reporting.clients import AccessClient
from services.reporting.store import ReportingTransaction
from services.reporting.usecases import NAME, Readings, ReadTypes


class Settings(ServiceSettings):
    """What reporting is told beyond what every service is.

    Attributes:
        access_address: gRPC address of the service it asks.
        lock_lease_s: how long a lock lasts unless it is renewed; a page renews it a few times in between.
    """

    prefix = "READROOM_REPORTING_"

    access_address: Address
    lock_lease_s: PositiveFloat = 300


async def build(
    settings: Settings, clock: Clock, new_id: NewId, resources: AsyncExitStack
) -> runtime.Application:
    database = await Database.connect(
        settings.database_url.get_secret_value(),
        ReportingTransaction,
        clock=clock,
        new_id=new_id,
        ca=settings.servers_ca,
    )
    resources.push_async_callback(database.close)
    bus = await Bus.connect(settings.nats_url.get_secret_value(), NAME, settings.servers_ca)
    resources.push_async_callback(bus.close)
    to_access = rpc.connect(settings.access_address, "access", settings.tls)
    resources.push_async_callback(to_access.close)

    access = AccessClient(to_access)
    lease = timedelta(seconds=settings.lock_lease_s)
    readings = Readings(database, access, new_id, lease, time.monotonic)
    read_types = ReadTypes(database, access)

    trail = AuditTrail(database, NAME, settings, clock)
    verifier = Verifier(settings.token_public_key.read_bytes(), clock)
    server = rpc.Server(NAME, settings.listen, settings.tls, verifier)
    api.serve(server, readings, read_types)
    consumer = Consumer(bus, database, NAME, events.hearings(readings, access), clock)
    holds = permitted.asks(to_access)
    verifying.serve(server, trail, holds)
    replaying.serve(server, consumer, holds)
    return runtime.Application(
        servers=[server],
        tasks={
            "relay": Relay(database, bus, clock).run,
            "seal": trail.seal,
            "consumer": consumer.run,
        },
        ready={"database": database.ready},
    )


def main(environ: Mapping[str, str]) -> int:
    return runtime.run(NAME, Settings, build, environ)
