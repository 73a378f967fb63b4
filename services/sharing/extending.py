"""The end of a bucket: an earlier one needs no grant, a later one is judged as if it were shared now."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

from kernel.database import Database
from kernel.errors import (
    Conflict,
    Denied,
    Unavailable,
)
from kernel.ids import BucketId, FacilityId
from services.sharing.asking import Access, Telling, administered, lock_tree
from services.sharing.domain import (
    Bucket,
    Share,
    State,
    no_bucket,
)
from services.sharing.usecases import REFUSED, first
from services.sharing.validity import (
    Validity,
    asked_end,
    check_end,
    is_earlier,
    must_name_one_end,
)

if TYPE_CHECKING:
    from services.sharing.store import SharingTransaction


class Extending:
    """Moves the end of a bucket, and of what was shared on from it."""

    def __init__(self, database: Database[SharingTransaction], access: Access, telling: Telling) -> None:
        self._database = database
        self._access = access
        self._telling = telling

    async def extend(self, actor: str, bucket_id: BucketId, validity: Validity) -> tuple[Share, Bucket, str]:
        """Gives a bucket another end; answers the revision of sight.

        An earlier one is also the latest of what was shared on from it. A later one is granted anew by
        access, in the actor's name: whoever could not share the cases now, administrator or not, extends
        nothing.
        """
        must_name_one_end(validity)
        async with self._database.audited(actor, "share.extended", f"bucket:{bucket_id}"):
            share, owners = await administered(self._database, self._access, actor, bucket_id, None)
            async with self._database.transaction() as transaction:
                parent, tree = await _lock_with_parent(transaction, share, bucket_id)
                now = transaction.now
                ends_at = asked_end(validity, share.time_zone, now)
                is_shortened = tree[0].is_shortened_by(ends_at, now)
                if is_shortened:
                    saved = _shortened(tree, ends_at, now)
                    await _record_end(transaction, actor, bucket_id, ends_at)
                else:
                    await self._may_lengthen(transaction, share, owners, parent, ends_at)
                    saved = [tree[0].lengthening(now)]
                await transaction.save_buckets(saved)
            if is_shortened:
                return share, saved[0], await self._telling.tell(saved)
            return share, *await self._lengthen(actor, share, saved[0], saved[0].lengthened(ends_at, now))

    async def _may_lengthen(
        self,
        transaction: SharingTransaction,
        share: Share,
        owners: Collection[FacilityId],
        parent: Bucket | None,
        ends_at: datetime | None,
    ) -> None:
        """Raises unless the policies of now, counted from the first day, and the parent allow the end."""
        if owners != {share.facility_id}:
            raise Conflict(
                "a case of the share has moved to another facility: you can only shorten or revoke the share"
            )
        policy = await transaction.policy(share.facility_id)
        if share.parent_bucket_id and not policy.further_sharing_allowed:
            raise Denied("somebody shared this on, and the facility no longer allows that")
        _must_carry_on(share, parent, transaction.now)
        bound = parent.ends_at if parent else None
        check_end(ends_at, policy, share.time_zone, share.shared_at, bound)

    async def _lengthen(self, actor: str, share: Share, begun: Bucket, wanted: Bucket) -> tuple[Bucket, str]:
        """Has access grant the later end that was begun.

        What it refuses is given up; if nobody knows, `Repairs` gives it up.
        """
        try:
            revision = await self._access.extend(wanted.change)
        except REFUSED:
            await self._give_up(begun)
            raise
        except Unavailable as error:
            raise Unavailable(
                "we do not know yet whether the last day was changed: look again in a minute"
            ) from error
        try:
            async with self._database.transaction() as transaction:
                parent, (bucket, *_) = await _lock_with_parent(transaction, share, begun.id)
                if bucket.version != begun.version:
                    raise Conflict("the share was changed meanwhile: try again")
                _must_carry_on(share, parent, transaction.now)
                if parent and is_earlier(parent.ends_at, wanted.ends_at):
                    raise Conflict("what was shared on from it has just got an earlier end: try again")
                bucket = bucket.lengthened(wanted.ends_at, transaction.now)
                await transaction.save_buckets([bucket])
                await _record_end(transaction, actor, bucket.id, bucket.ends_at)
        except Conflict:
            await self._give_up(begun)
            raise
        return bucket, revision

    async def _give_up(self, begun: Bucket) -> None:
        """Tells access that the end is what it was, unless somebody has changed the bucket since."""
        async with self._database.transaction() as transaction:
            buckets = await transaction.lock_buckets([begun.id])
            given_up = [each.given_up() for each in buckets if each.version == begun.version]
            await transaction.save_buckets(given_up)
        with suppress(Unavailable):  # then it is repeated until access has accepted it
            await self._telling.tell(given_up)


async def _lock_with_parent(
    transaction: SharingTransaction, share: Share, bucket_id: BucketId
) -> tuple[Bucket | None, Sequence[Bucket]]:
    """What a bucket was shared on from, and the bucket with all that was shared on from it, locked."""
    above = [share.parent_bucket_id] if share.parent_bucket_id else []
    parent = first(await transaction.lock_buckets(above))
    tree = await lock_tree(transaction, [bucket_id])
    if not tree:  # deleted meanwhile
        raise no_bucket()
    return parent, tree


def _must_carry_on(share: Share, parent: Bucket | None, now: datetime) -> None:
    if share.parent_bucket_id and (parent is None or parent.stands(now) is not State.ACTIVE):
        raise Conflict("the share that you received, and share on, has ended or is blocked")


def _shortened(tree: Sequence[Bucket], ends_at: datetime | None, now: datetime) -> list[Bucket]:
    """The first with this end, and what was shared on from it with no later one; no later end goes on."""
    below = [
        each.shortened(ends_at, now) if each.is_shortened_by(ends_at, now) else each.given_up()
        for each in tree[1:]
        if each.is_shortened_by(ends_at, now) or each.lengthening_since
    ]
    return [tree[0].shortened(ends_at, now), *below]


async def _record_end(
    transaction: SharingTransaction, actor: str, bucket_id: BucketId, ends_at: datetime | None
) -> None:
    till = ends_at.isoformat() if ends_at else "never"
    await transaction.record(actor, "share.extended", f"bucket:{bucket_id}", "done", ends_at=till)
