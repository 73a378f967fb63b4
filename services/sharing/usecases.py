"""What sharing does but for senders: recipients open, facilities set rules, access is told until it accepts.

The own row is written first, then access is asked. A bucket is saved pending and opened when access has
granted it; every other change is the bucket's next version, told to access until that version is accepted.
So whatever is cut off, one pass of `Repairs` makes both agree (docs/decisions/0005).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, Protocol
from uuid import UUID

from kernel.database import Database
from kernel.errors import NotFound, Unauthenticated, Unavailable, lacks
from kernel.events import CasePurged, ShareExpired, ShareOpened, ShareRevoked
from kernel.ids import BucketId, CaseId, FacilityId
from kernel.reach import Reach
from kernel.versions import must_be_current
from services.sharing.domain import (
    Act,
    ActiveUser,
    Bucket,
    Change,
    Owner,
    Prospect,
    Received,
    Share,
    Sight,
    State,
    User,
    link_digest,
    no_link,
)
from services.sharing.validity import Policy

if TYPE_CHECKING:
    from services.sharing.store import SharingTransaction

SHARE_CREATE = "share.create"
SHARE_ADMIN = "share.admin"

BATCH = 500
"""Buckets expired, abandoned or told at once; access takes 1,000."""

CHECKED = 1_000
"""Cases that access is asked about at once: as many as it takes."""

Outcome = Literal["done", "refused"]


NO_CASE = CaseId(UUID(int=0))
"""What access is asked about in the place of cases that there are not."""


class Owning(Protocol):
    """The service access, asked whose cases are."""

    async def is_deleted(self, case_id: CaseId) -> bool:
        """Whether the deletion of the case has begun."""
        ...

    async def owners(self, case_ids: Collection[CaseId]) -> Mapping[CaseId, Owner]:
        """The facility that each case is at now, of those that there are."""
        ...


class Describing(Protocol):
    """The service access, asked who users are."""

    async def users(self, logins: Collection[str]) -> Mapping[str, User]:
        """Those that there are, by login."""
        ...


class Access(Owning, Describing, Protocol):
    """The service access: but for `change` on behalf of the acting user."""

    async def prepare_grant(self, case_ids: Sequence[CaseId], logins: Sequence[str]) -> Prospect: ...
    async def check_many(self, case_ids: Sequence[CaseId]) -> Sequence[Sight]: ...
    async def reach(self, permission: str) -> Reach: ...
    async def holds(self, permission: str, facility_id: FacilityId) -> bool:
        """Raises NotFound for a facility that does not exist, as for one where the user holds nothing."""
        ...

    async def grant(self, share: Share) -> str:
        """Opens the buckets of a share, all or none; answers the revision of sight."""
        ...

    async def extend(self, change: Change) -> str:
        """Sets how a bucket stands, with a later end, if the actor could share it now; answers the
        revision of sight."""
        ...

    async def change(self, changes: Sequence[Change]) -> str:
        """Sets how buckets stand, none with a later end; answers the revision of sight."""
        ...


async def active_user(access: Describing, actor: str) -> ActiveUser:
    """Who acts, as access knows them now. Raises Unauthenticated for a user who is deactivated or unknown."""
    user = (await access.users([actor])).get(actor)
    if user is None or not user.active:
        raise Unauthenticated("no active user has this login")
    return ActiveUser(user.login, user.mobile_number, user.language, user.contact_version)


async def owners_of(access: Owning, share: Share | None) -> set[FacilityId]:
    """The facilities that the cases of a share are at now; one may have moved since it was shared (A17).

    Of no share there are none, and access is asked all the same: an absent one costs what a foreign one does.
    """
    owners = await access.owners(share.case_ids if share else [NO_CASE])
    found = {owner.facility_id for owner in owners.values()}
    return found or ({share.facility_id} if share else set())


class Telling:
    """Tells access how buckets stand."""

    def __init__(self, database: Database[SharingTransaction], access: Access) -> None:
        self._database = database
        self._access = access

    async def tell(self, buckets: Sequence[Bucket]) -> str:
        """Returns when access has accepted these buckets as they are here; answers the revision of sight.

        Of a pending one it is told with its activation: a bucket that was closed under a version stays so.
        """
        try:
            return await self.repeat(buckets)
        except Unavailable as error:
            raise Unavailable("it is saved, and takes effect as soon as access answers") from error

    async def repeat(self, buckets: Sequence[Bucket]) -> str:
        """The same, for whoever does not wait for it."""
        revision = ""
        told = [bucket for bucket in buckets if bucket.state is not State.PENDING]
        for begin in range(0, len(told), BATCH):
            changes = [bucket.change for bucket in told[begin : begin + BATCH]]
            revision = await self._access.change(changes)
            async with self._database.transaction() as transaction:
                await transaction.accept(changes)
        return revision


async def lock_tree(transaction: SharingTransaction, roots: Collection[BucketId]) -> Sequence[Bucket]:
    """These buckets and all that was shared on from them, locked from the top down.

    A further share locks the bucket it comes from, so none is missed.
    """
    tree: list[Bucket] = []
    level = await transaction.lock_buckets(roots)
    while level:
        tree += level
        level = await transaction.lock_children([bucket.id for bucket in level])
    return tree


class Inbox:
    """What recipients see."""

    def __init__(self, database: Database[SharingTransaction], access: Access) -> None:
        self._database = database
        self._access = access

    async def list_received(
        self, actor: str, session: str, before: UUID | None, limit: int
    ) -> Sequence[Received]:
        """What the actor has received and has not ended, newest first (SHR-29)."""
        user = await active_user(self._access, actor)
        async with self._database.transaction() as transaction:
            await transaction.record(user.login, "received.listed", f"user:{user.login}", "done")
            received = await transaction.received(user, session, before, limit)
        return await as_seen(self._access, received)

    async def open(self, actor: str, session: str, link: str) -> Received:
        """The bucket that a link names, to its recipient alone (A56)."""
        user = await active_user(self._access, actor)
        async with self._database.audited(actor, "share.opened", "link"):
            async with self._database.transaction() as transaction:
                received = await transaction.received_by_link(link_digest(link), user, session)
            if received is None:
                raise no_link()
            (received,) = await as_seen(self._access, [received])
            async with self._database.transaction() as transaction:
                await transaction.record(actor, "share.opened", f"bucket:{received.bucket.id}", "done")
                return await open_bucket(transaction, received)


class Seeing(Protocol):
    """The service access, asked on behalf of the acting user."""

    async def check_many(self, case_ids: Sequence[CaseId]) -> Sequence[Sight]: ...


async def as_seen(access: Seeing, received: Sequence[Received]) -> list[Received]:
    """Without the cases that access does not show them now: they are being deleted, or their role sees none.

    It alone decides sight; a share of which it shows no case is withheld.
    """
    asked = list({case_id for each in received if not each.withheld for case_id in each.share.case_ids})
    seen: set[CaseId] = set()
    for begin in range(0, len(asked), CHECKED):
        part = asked[begin : begin + CHECKED]
        sights = await access.check_many(part)
        seen |= {case_id for case_id, sight in zip(part, sights, strict=True) if sight.allowed}
    return [each if each.withheld else each.with_cases(seen) for each in received]


async def open_bucket(transaction: SharingTransaction, received: Received) -> Received:
    """Notes the first time that the recipient is shown what they received."""
    bucket = received.bucket
    if received.withheld or not await transaction.note_opening(bucket.id):
        return received
    await transaction.say(ShareOpened(bucket.id, bucket.version))
    return replace(received, bucket=replace(bucket, opened_at=transaction.now))


class Policies:
    """The rules of sending facilities."""

    def __init__(self, database: Database[SharingTransaction], access: Access) -> None:
        self._database = database
        self._access = access

    async def save_policy(self, actor: str, policy: Policy) -> Policy:
        """Sets the rules; they count for what is shared or extended from now on.

        Raises Conflict if they are not made from the ones that are stored (A68).
        """
        policy.check()
        object_ = f"facility:{policy.facility_id}"
        async with self._database.audited(actor, "policy.saved", object_):
            if not await self._access.holds(SHARE_ADMIN, policy.facility_id):
                raise lacks(SHARE_ADMIN, at="this facility")
            async with self._database.transaction() as transaction:
                last = await transaction.lock_policy(policy.facility_id)
                must_be_current("the policy of this facility", policy.version, last)
                policy = replace(policy, version=last.version + 1)
                await transaction.save_policy(policy, actor)
                await transaction.record(
                    actor,
                    "policy.saved",
                    object_,
                    "done",
                    default_days=policy.default_days,
                    maximum_days=policy.maximum_days,
                    unlimited_allowed=int(policy.unlimited_allowed),
                    further_sharing_allowed=int(policy.further_sharing_allowed),
                    version=policy.version,
                )
        return policy

    async def describe_policy(self, actor: str, facility_id: FacilityId) -> Policy:
        """The rules, to who shares there or administers shares there."""
        object_ = f"facility:{facility_id}"
        async with self._database.audited(actor, "policy.read", object_):
            held: list[bool] = []
            unknown: NotFound | None = None
            for each in (SHARE_ADMIN, SHARE_CREATE):
                try:
                    held.append(await self._access.holds(each, facility_id))
                except NotFound as error:
                    unknown = error
            if unknown is not None and not held:
                raise unknown
            if not any(held):
                raise lacks(SHARE_ADMIN, at="this facility")
            async with self._database.transaction() as transaction:
                await transaction.record(actor, "policy.read", object_, "done")
                return await transaction.policy(facility_id)


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
