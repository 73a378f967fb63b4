"""What happens without anybody asking: buckets expire, are given up, and are told until access accepts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from kernel.database import Database
from kernel.events import CasePurged, ShareExpired, ShareRevoked
from kernel.ids import CaseId
from services.sharing.asking import BATCH, Telling
from services.sharing.domain import (
    Act,
    Bucket,
)

if TYPE_CHECKING:
    from services.sharing.store import SharingTransaction


class Repairs:
    """What happens without anybody asking: the clock, and what a crash or a failing access left behind."""

    def __init__(
        self, database: Database[SharingTransaction], telling: Telling, abandon_after: timedelta
    ) -> None:
        self._database = database
        self._telling = telling
        self._abandon_after = abandon_after

    async def expire(self) -> int:
        """Records what has ended; sight ended by access's own clock (R11)."""
        async with self._database.transaction() as transaction:
            ended = await transaction.claim_ended(BATCH)
            expired = [bucket.after(Act.EXPIRE, transaction.now) for bucket in ended]
            await transaction.save_buckets(expired)
            await transaction.say(*(ShareExpired(bucket.id, bucket.version) for bucket in expired))
            await _record_each(transaction, "share.expired", expired)
        return len(expired)

    async def abandon(self) -> int:
        """Ends what was begun so long ago that nobody is at work on it any more.

        A pending share is revoked; a bucket for which a later end was begun keeps the end that it had.
        """
        async with self._database.transaction() as transaction:
            since = transaction.now - self._abandon_after
            pending = await transaction.claim_pending(since, BATCH)
            abandoned = [bucket.after(Act.REVOKE, transaction.now) for bucket in pending]
            await transaction.save_buckets(abandoned)
            await transaction.say(*(ShareRevoked(bucket.id, bucket.version) for bucket in abandoned))
            await _record_each(transaction, "share.abandoned", abandoned)
            given_up = [bucket.given_up() for bucket in await transaction.claim_lengthening(since, BATCH)]
            await transaction.save_buckets(given_up)
            await _record_each(transaction, "share.extension_abandoned", given_up)
        return len(abandoned) + len(given_up)

    async def untold(self) -> Sequence[Bucket]:
        """Buckets that access has not accepted yet as they stand."""
        async with self._database.transaction() as transaction:
            return await transaction.untold(BATCH)

    async def tell(self, untold: Sequence[Bucket]) -> None:
        """Tells access how these stand."""
        await self._telling.repeat(untold)

    async def count_untold(self) -> int:
        """How many buckets access has not accepted as they stand."""
        async with self._database.transaction() as transaction:
            return await transaction.count_untold()

    async def purge(self, transaction: SharingTransaction, case_id: CaseId, version: int) -> None:
        """Keeps nothing of a deleted case: a share with no other goes whole (A60)."""
        await transaction.purge_case(case_id)
        await transaction.say(CasePurged(case_id, version, "sharing"))
        await transaction.record("service:sharing", "case.purged", f"case:{case_id}", "done")


async def _record_each(transaction: SharingTransaction, action: str, buckets: Collection[Bucket]) -> None:
    for bucket in buckets:
        await transaction.record("service:sharing", action, f"bucket:{bucket.id}", "done")
