"""Routing as a process: `python -m services routing`."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from zoneinfo import available_timezones

from pydantic import PositiveFloat

from kernel.clock import Clock
from kernel.ids import NewId
from plumbing import permitted, runtime
from plumbing.config import Address, ServiceSettings
from plumbing.healing import Healing
from plumbing.service import open_parts
from services.routing import api, events
from services.routing.arrivals import Arrivals
from services.routing.clients import AccessClient, IngestClient
from services.routing.heldparts import HeldParts
from services.routing.moves import Moves
from services.routing.placements import Placements
from services.routing.reevaluation import Reevaluation
from services.routing.store import RoutingTransaction
from services.routing.usecases import NAME, Administration, Facilities, Rules


class Settings(ServiceSettings):
    """What routing is told beyond what every service is.

    Attributes:
        access_address, ingest_address: gRPC addresses of the services it asks.
        heal_interval_s: how often it catches up with ingest, so that a lost fact heals.
    """

    prefix = "READROOM_ROUTING_"

    access_address: Address
    ingest_address: Address
    heal_interval_s: PositiveFloat = 3600


async def build(
    settings: Settings, clock: Clock, new_id: NewId, resources: AsyncExitStack
) -> runtime.Application:
    parts = await open_parts(NAME, settings, RoutingTransaction, clock, new_id, resources)
    database = parts.database
    to_access = parts.asks("access", settings.access_address)
    to_ingest = parts.asks("ingest", settings.ingest_address)

    # `localtime` is this machine's own zone, which means another one elsewhere.
    time_zones = available_timezones() - {"localtime"}
    access = AccessClient(to_access)
    administration = Administration(database, access)
    facilities = Facilities(database, administration, new_id, time_zones)
    rules = Rules(database, administration, new_id)
    ingest = IngestClient(to_ingest)
    placements = Placements(database, administration, ingest, new_id)
    arrivals = Arrivals(database, placements, access, new_id)
    held_parts = HeldParts(database, access, administration, placements)
    moves = Moves(database, administration, access, new_id)
    reevaluation = Reevaluation(database, administration, access, ingest, placements, new_id)

    api.serve(parts.server, api.RoutingApi(facilities, rules, placements, held_parts, moves, reevaluation))
    return parts.application(
        events.hearings(placements, arrivals),
        permitted.asks(to_access),
        tasks={
            "heal": partial(Healing(database, arrivals.kinds(), new_id()).run, settings.heal_interval_s),
            "count-held": partial(events.count_held, held_parts),
        },
    )


def main(environ: Mapping[str, str]) -> int:
    return runtime.run(NAME, Settings, build, environ)
