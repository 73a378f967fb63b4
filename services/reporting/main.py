"""Reporting as a process: `python -m services reporting`."""

import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import timedelta

from pydantic import PositiveFloat

from kernel.clock import Clock
from kernel.ids import NewId
from plumbing import permitted, runtime
from plumbing.config import Address, ServiceSettings
from plumbing.service import open_parts
from services.reporting import api, events
from services.reporting.clients import AccessClient
from services.reporting.store import ReportingTransaction
from services.reporting.switching import ReadTypes
from services.reporting.usecases import NAME, Readings


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
    parts = await open_parts(NAME, settings, ReportingTransaction, clock, new_id, resources)
    database = parts.database
    to_access = parts.asks("access", settings.access_address)

    access = AccessClient(to_access)
    lease = timedelta(seconds=settings.lock_lease_s)
    readings = Readings(database, access, new_id, lease, time.monotonic)
    read_types = ReadTypes(database, access)

    api.serve(parts.server, api.ReportingApi(readings, read_types))
    return parts.application(
        events.hearings(readings, access),
        permitted.asks(to_access),
    )


def main(environ: Mapping[str, str]) -> int:
    return runtime.run(NAME, Settings, build, environ)
