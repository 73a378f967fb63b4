"""What routing hears: of received studies and deletions; and what it counts."""

from collections.abc import Sequence
from typing import Any

from prometheus_client import Gauge

from kernel.events import CaseDeleted, Fact, StudyChanged, StudyReceived
from kernel.ids import CaseId, StudyId
from plumbing import timers
from plumbing.hearing import Hearing
from services.routing.arrivals import Arrival, Arrivals
from services.routing.domain import Deletion
from services.routing.heldparts import HeldParts
from services.routing.placements import Placements

HELD = Gauge("readroom_routing_held", "What waits for a person, by kind; alert above 0", ["kind"])

COUNT_INTERVAL_S = 15
"""How old the gauge may be: about what a scrape takes to come round."""


def hearings(placements: Placements, arrivals: Arrivals) -> Sequence[Hearing[Any, Any]]:
    """Each fact about a received study has its newest snapshot placed; a deleted case is purged."""

    async def fetch(fact: Fact) -> Arrival | None:
        return await arrivals.fetch(StudyId(fact.id), fact.version)

    async def place(transaction: Any, _fact: Fact, arrival: Arrival | None) -> None:
        if arrival is not None:  # else it is gone, of which its own facts tell, or as new as was told
            await arrivals.place(transaction, arrival)

    async def fetch_deletion(fact: Fact) -> Deletion | None:
        return await placements.fetch_deletion(CaseId(fact.id))

    async def purge(transaction: Any, fact: Fact, deletion: Deletion | None) -> None:
        if deletion is not None:  # else ingest knows of none, and purges nothing itself
            await placements.purge(transaction, deletion, fact.version)

    return [
        *(
            Hearing(fact, fetch, place, concerns=lambda arrival: arrival is not None)
            for fact in (StudyReceived, StudyChanged)
        ),
        Hearing(CaseDeleted, fetch_deletion, purge),
    ]


async def count_held(held_parts: HeldParts) -> None:
    """Keeps the gauge."""

    async def once() -> None:
        for kind, count in (await held_parts.count()).items():
            HELD.labels(kind.value).set(count)

    await timers.every(COUNT_INTERVAL_S, once)
