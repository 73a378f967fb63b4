"""What sharing hears: that a case is deleted; and what it does by the clock."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from prometheus_client import Gauge

from kernel.errors import Conflict, ReadroomError
from kernel.events import CaseDeleted, Fact
from kernel.ids import CaseId
from plumbing import log
from plumbing.bus import Hearing
from services.sharing.codes import CodeRepairs
from services.sharing.usecases import BATCH, Access, Repairs, Transaction

SWEEP_INTERVAL_S = 0.5
"""Expiry is recorded within 1 s (R11)."""

TELL_INTERVAL_S = 1.0
"""How long access and sharing may differ after a crash, or after access was away."""

UNTOLD = Gauge(
    "readroom_sharing_untold",
    "Buckets that access shows otherwise than they stand; alert if it stays above 0",
)

_log = log.get()


def hearings(repairs: Repairs, access: Access) -> Sequence[Hearing[Any, None]]:
    """A deleted case is purged; access, where every deletion begins, describes it no more."""

    async def must_be_deleted(fact: Fact) -> None:
        if await access.owners([CaseId(fact.id)]):
            raise Conflict("no deletion of this case has begun", field="case_id")

    async def purge(transaction: Transaction, fact: Fact, _nothing: None) -> None:
        await repairs.purge(transaction, CaseId(fact.id), fact.version)

    return [Hearing(CaseDeleted, must_be_deleted, purge)]


async def sweep(repairs: Repairs, codes: CodeRepairs) -> None:
    """Records what has ended, and ends what was never granted, or was left after five tries."""
    await _every(SWEEP_INTERVAL_S, repairs.expire, repairs.abandon, codes.lapse, codes.block)


async def tell(repairs: Repairs, codes: CodeRepairs) -> None:
    """Tells access what it has not accepted."""

    async def count() -> int:
        UNTOLD.set(await repairs.count_untold())
        return 0

    await _every(TELL_INTERVAL_S, count, repairs.tell, codes.register)


async def _every(interval_s: float, *acts: Callable[[], Awaitable[int]]) -> None:
    """Does each act until it finds less than a batch, then pauses."""
    while True:
        for act in acts:
            try:
                while await act() == BATCH:
                    pass
            except ReadroomError as error:
                _log.warning("a timer has to wait", task=act.__name__, cause=error.sentence)
        await asyncio.sleep(interval_s)
