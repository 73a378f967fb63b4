"""What reporting hears: that a case is being deleted. What else it has to know, it asks while it serves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from kernel.errors import Conflict
from kernel.events import CaseDeleted, Fact
from kernel.ids import CaseId
from plumbing.hearing import Hearing
from services.reporting.usecases import Readings

if TYPE_CHECKING:
    from services.reporting.store import ReportingTransaction


class Access(Protocol):
    """The service access, asked by reporting itself."""

    async def is_deleted(self, case_id: CaseId) -> bool:
        """Whether the deletion of the case has begun."""
        ...


def hearings(readings: Readings, access: Access) -> Sequence[Hearing[Any, None]]:
    """A deleted case is purged, once access, where every deletion begins, confirms that it is one."""

    async def must_be_deleted(fact: Fact) -> None:
        if not await access.is_deleted(CaseId(fact.id)):
            raise Conflict("no deletion of this case has begun", field="case_id")

    async def purge(transaction: ReportingTransaction, fact: Fact, _: None) -> None:
        await readings.purge(transaction, CaseId(fact.id), fact.version)

    return [Hearing(CaseDeleted, must_be_deleted, purge)]
