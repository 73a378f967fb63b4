"""What ingest hears: that a service has purged a deleted case (A60). What it stores depends on nobody."""

from collections.abc import Sequence
from typing import Any

from kernel.events import CasePurged
from plumbing.bus import Hearing, ask_nobody
from services.ingest.deletion import Deletions


def hearings(deletions: Deletions) -> Sequence[Hearing[Any, None]]:
    """The fact says all there is to know."""

    async def confirm(transaction: Any, fact: Any, _nothing: None) -> None:
        await deletions.confirm(transaction, fact)

    return [Hearing(CasePurged, ask_nobody, confirm)]
