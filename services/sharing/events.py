"""What sharing hears: that a case is deleted; and what it does by the clock."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from prometheus_client import Gauge

from kernel.errors import Conflict, ReadroomError
from kernel.events import CaseDeleted, Fact
from kernel.ids import CaseId
from plumbing import answers, timers
from plumbing.hearing import Hearing
from services.sharing.asking import BATCH, Access
from services.sharing.codes import CodeRepairs
from services.sharing.repairs import Repairs

if TYPE_CHECKING:
    from services.sharing.store import SharingTransaction

SWEEP_INTERVAL_S = 0.5
"""Expiry is recorded within 1 s (R11)."""

TELL_INTERVAL_S = 1.0
"""How long access and sharing may differ after a crash, or after access was away."""

UNTOLD = Gauge(
    "readroom_sharing_untold",
    "Buckets that access shows otherwise than they stand; alert if it stays above 0",
)


def hearings(repairs: Repairs, access: Access) -> Sequence[Hearing[Any, None]]:
    """A deleted case is purged, once access, where every deletion begins, confirms that it is one."""

    async def must_be_deleted(fact: Fact) -> None:
        if not await access.is_deleted(CaseId(fact.id)):
            raise Conflict("no deletion of this case has begun", field="case_id")

    async def purge(transaction: SharingTransaction, fact: Fact, _nothing: None) -> None:
        await repairs.purge(transaction, CaseId(fact.id), fact.version)

    return [Hearing(CaseDeleted, must_be_deleted, purge)]


async def sweep(repairs: Repairs, codes: CodeRepairs) -> None:
    """Records what has ended, and ends what was never granted, or was left after five tries."""
    acts = (repairs.expire, repairs.abandon, codes.lapse, codes.block)
    await timers.every(SWEEP_INTERVAL_S, *(partial(timers.drain, BATCH, act) for act in acts))


async def tell(repairs: Repairs, codes: CodeRepairs) -> None:
    """Tells access what it has not accepted."""

    async def count() -> None:
        UNTOLD.set(await repairs.count_untold())

    acts = (partial(tell_access, repairs), partial(register, codes))
    await timers.every(TELL_INTERVAL_S, count, *(partial(timers.drain, BATCH, act) for act in acts))


async def tell_access(repairs: Repairs) -> int:
    """Tells access how buckets stand; how many of them it has accepted now."""
    untold = await repairs.untold()
    try:
        await repairs.tell(untold)
    except ReadroomError as error:
        if answers.nobody_answers(error):
            raise
        # Perhaps because of one of them.
        refused = await timers.each("tell access", [[bucket] for bucket in untold], repairs.tell)
        return len(untold) - len(refused)
    return len(untold)


async def register(codes: CodeRepairs) -> int:
    """Tells access of login sessions; how many of them it has accepted now."""
    sessions = await codes.unregistered()
    failed = await timers.each("register login sessions", sessions, codes.register)
    return len(sessions) - len(failed)
