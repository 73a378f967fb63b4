"""What ingest hears: that a service has purged a deleted case (A60). What it stores depends on nobody."""

from collections.abc import Sequence
from typing import Any

from kernel.events import CasePurged
from kernel.ids import StudyId
from plumbing.bus import Hearing
from services.ingest.deletion import Deletions


def hearings(deletions: Deletions) -> Sequence[Hearing[Any, Any]]:
    """Routing is asked what it has purged. The others confirm for themselves, which only they can (`by`)."""

    async def fetch(fact: Any) -> Sequence[StudyId]:
        return await deletions.fetch_purge(fact)

    async def confirm(transaction: Any, fact: Any, study_ids: Sequence[StudyId]) -> None:
        await deletions.confirm(transaction, fact, study_ids)

    return [Hearing(CasePurged, fetch, confirm)]
