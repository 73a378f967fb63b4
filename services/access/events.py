"""What access hears: from routing, ingest and reporting; and what it does by the clock."""

from collections.abc import Sequence
from typing import Any

from kernel.events import (
    CaseDeleted,
    CaseMoved,
    CasePlaced,
    CaseUndistributed,
    FacilityChanged,
    Fact,
    ReadingChanged,
    StudyChanged,
    StudyReceived,
)
from kernel.ids import CaseId, FacilityId, StudyId
from plumbing import timers
from plumbing.bus import Hearing
from services.access.caseindex import Reading
from services.access.deletion import Deletions
from services.access.domain import Facility
from services.access.moves import Moves
from services.access.received import ReceivedStudy
from services.access.usecases import CaseIndex, Snapshots

SETTLE_EVERY_S = 2


def hearings(index: CaseIndex, deletions: Deletions) -> Sequence[Hearing[Any, Any]]:
    """For each fact heard: whom to ask, and what to do with the answer."""

    async def fetch_case(fact: Fact) -> Snapshots:
        return await index.fetch_case(CaseId(fact.id))

    async def index_case(transaction: Any, fact: Fact, snapshots: Snapshots) -> None:
        await index.index_case(transaction, CaseId(fact.id), snapshots)

    async def fetch_study(fact: Fact) -> ReceivedStudy | None:
        return await index.fetch_study(StudyId(fact.id))

    async def index_study(transaction: Any, _fact: Fact, study: ReceivedStudy | None) -> None:
        await index.index_study(transaction, study)

    async def fetch_reading(fact: Fact) -> Reading | None:
        return await index.fetch_reading(CaseId(fact.id))

    async def index_reading(transaction: Any, _fact: Fact, reading: Reading | None) -> None:
        await index.index_reading(transaction, reading)

    async def fetch_facility(fact: Fact) -> Facility | None:
        return await index.fetch_facility(FacilityId(fact.id))

    async def index_facility(transaction: Any, _fact: Fact, facility: Facility | None) -> None:
        await index.index_facility(transaction, facility)

    async def must_be_told(fact: Fact) -> None:
        await deletions.must_be_told(CaseId(fact.id))

    async def purge(transaction: Any, fact: Fact, _nothing: None) -> None:
        await deletions.purge(transaction, CaseId(fact.id), fact.version)

    return [
        *(Hearing(fact, fetch_case, index_case) for fact in (CasePlaced, CaseUndistributed, CaseMoved)),
        *(Hearing(fact, fetch_study, index_study) for fact in (StudyReceived, StudyChanged)),
        Hearing(ReadingChanged, fetch_reading, index_reading),
        Hearing(FacilityChanged, fetch_facility, index_facility),
        Hearing(CaseDeleted, must_be_told, purge),
    ]


async def settle(moves: Moves) -> int:
    """Settles the moves of which nothing was heard; answers how many there were."""
    begun = await moves.unsettled()
    await timers.each("settle-moves", begun, moves.settle)
    return len(begun)
