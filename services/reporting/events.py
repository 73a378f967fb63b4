"""What reporting hears: that a case is being deleted. What else it has to know, it asks while it serves."""

from collections.abc import Sequence
from typing import Any, Protocol

from kernel.errors import Conflict
from kernel.events import CaseDeleted, Fact
from kernel.ids import CaseId
from plumbing.bus import Hearing
from services.reporting.usecases import Readings, Transaction


class Access(Protocol):
    """The service access, asked by reporting itself."""

    async def is_live(self, case_id: CaseId) -> bool:
        """Whether the case is known and nobody has begun to delete it."""
        ...


def hearings(readings: Readings, access: Access) -> Sequence[Hearing[Any, None]]:
    """A deleted case is purged; access, where every deletion begins, knows it no more as a live one."""

    async def must_be_deleted(fact: Fact) -> None:
        if await access.is_live(CaseId(fact.id)):
            raise Conflict("no deletion of this case has begun", field="case_id")

    async def purge(transaction: Transaction, fact: Fact, _: None) -> None:
        await readings.purge(transaction, CaseId(fact.id), fact.version)

    return [Hearing(CaseDeleted, must_be_deleted, purge)]
