"""What reporting hears: that a case is being deleted. What else it has to know, it asks while it serves."""

from collections.abc import Sequence
from typing import Any

from kernel.events import CaseDeleted, Fact
from kernel.ids import CaseId
from plumbing.bus import Hearing, ask_nobody
from services.reporting.usecases import Readings, Transaction


def hearings(readings: Readings) -> Sequence[Hearing[Any, None]]:
    """A deleted case is purged."""

    async def purge(transaction: Transaction, fact: Fact, _: None) -> None:
        await readings.purge(transaction, CaseId(fact.id), fact.version)

    return [Hearing(CaseDeleted, ask_nobody, purge)]
