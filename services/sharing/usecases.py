"""What sharing does: people share, open, revoke and extend; access is told until it has accepted.

The own row is written first, then access is asked. A bucket is saved pending and opened when access has
granted it; every other change is the bucket's next version, told to access until that version is accepted.
So whatever is cut off, one pass of `Repairs` makes both agree (docs/decisions/0005).
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Literal, Protocol
from uuid import UUID

from kernel.errors import (
    Conflict,
    Denied,
    Exhausted,
    Expired,
    Invalid,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from kernel.events import CasePurged, Fact, ShareCreated, ShareExpired, ShareOpened, ShareRevoked
from kernel.ids import BucketId, CaseId, FacilityId, NewId, ShareId
from services.sharing.domain import (
    Act,
    Bucket,
    Change,
    Language,
    Links,
    Permit,
    Policy,
    Preferences,
    Received,
    Recipient,
    Share,
    Sight,
    State,
    User,
    Validity,
    Wanted,
    check,
    check_cases,
    check_recipient,
    end_for,
    is_earlier,
    lacks,
    language_of,
    last_day_before,
    link_digest,
    no_bucket,
    no_case,
    no_link,
    no_share,
    preferences_of,
    today_at,
)

SHARE_CREATE = "share.create"
SHARE_ADMIN = "share.admin"

BATCH = 500
"""Buckets expired, abandoned or told at once; access takes 1,000."""

Outcome = Literal["done", "refused"]
REFUSED = (Invalid, NotFound, Denied, Unauthenticated, Conflict, Expired, Exhausted)
"""What access says when it has done nothing; after Unavailable nobody knows."""


class Access(Protocol):
    """The service access: the first three on behalf of the acting user."""

    async def check_many(self, case_ids: Sequence[CaseId]) -> Sequence[Sight]: ...
    async def check_permission(self, permission: str, facility_id: FacilityId | None) -> Permit: ...
    async def grant(self, share: Share) -> str:
        """Opens the buckets of a share, all or none; answers the revision of sight."""
        ...

    async def change(self, changes: Sequence[Change]) -> str:
        """Sets how buckets stand; answers the revision of sight."""
        ...

    async def users(self, logins: Collection[str]) -> Mapping[str, User]:
        """Those that there are, by login."""
        ...

    async def time_zones(self, case_ids: Collection[CaseId]) -> Mapping[CaseId, str]:
        """The time zone of each case's facility, of those that there are."""
        ...


class Transaction(Protocol):
    """What sharing's store does within one transaction; `store.py` says more."""

    @property
    def now(self) -> datetime: ...
    async def say(self, *facts: Fact) -> None: ...
    async def record(
        self, actor: str, action: str, object_: str, outcome: Outcome, **detail: str | int
    ) -> None: ...

    async def keep_from_deletion(self, case_ids: Collection[CaseId]) -> bool: ...
    async def purge_case(self, case_id: CaseId) -> None: ...

    async def insert_share(self, share: Share, link_digests: Mapping[BucketId, bytes]) -> None: ...
    async def delete_share(self, share_id: ShareId) -> None: ...
    async def share(self, share_id: ShareId) -> Share | None: ...
    async def share_of(self, bucket_id: BucketId) -> Share | None: ...
    async def shares(
        self,
        sender_login: str,
        permit: Permit,
        *,
        blocked_only: bool,
        before: UUID | None,
        limit: int,
    ) -> Sequence[Share]: ...

    async def lock_buckets(self, bucket_ids: Collection[BucketId]) -> Sequence[Bucket]: ...
    async def lock_children(self, bucket_ids: Collection[BucketId]) -> Sequence[Bucket]: ...
    async def save_buckets(self, buckets: Collection[Bucket]) -> None: ...
    async def accept(self, changes: Collection[Change]) -> None: ...
    async def note_opening(self, bucket_id: BucketId) -> bool: ...
    async def claim_ended(self, limit: int) -> Sequence[Bucket]: ...
    async def claim_pending(self, since: datetime, limit: int) -> Sequence[Bucket]: ...
    async def untold(self, limit: int) -> Sequence[Bucket]: ...

    async def to_share_on(self, login: str, case_ids: Collection[CaseId]) -> Bucket | None: ...
    async def received(
        self, login: str, session: str, before: UUID | None, limit: int
    ) -> Sequence[Received]: ...
    async def received_by_link(self, digest: bytes, login: str, session: str) -> Received | None: ...

    async def policy(self, facility_id: FacilityId) -> Policy: ...
    async def save_policy(self, policy: Policy) -> None: ...
    async def preferences(self, login: str) -> Preferences: ...
    async def save_preferences(self, login: str, preferences: Preferences) -> None: ...


class Database(Protocol):
    """Opens transactions."""

    def transaction(self) -> AbstractAsyncContextManager[Transaction]: ...


class Acts:
    """Sees to it that every act is audited."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def audited(self, actor: str, action: str, object_: str) -> AsyncIterator[None]:
        """A refusal within is audited in a transaction of its own."""
        try:
            yield
        except (Denied, NotFound, Conflict, Expired, Exhausted):
            async with self._database.transaction() as transaction:
                await transaction.record(actor, action, object_, "refused")
            raise


class Telling:
    """Tells access how buckets stand."""

    def __init__(self, database: Database, access: Access) -> None:
        self._database = database
        self._access = access

    async def tell(self, buckets: Sequence[Bucket]) -> str:
        """Returns when access has accepted these buckets as they are here; answers the revision of sight."""
        revision = ""
        for begin in range(0, len(buckets), BATCH):
            changes = [bucket.change for bucket in buckets[begin : begin + BATCH]]
            try:
                revision = await self._access.change(changes)
            except Unavailable as error:
                raise Unavailable("it is saved, and takes effect as soon as access answers") from error
            async with self._database.transaction() as transaction:
                await transaction.accept(changes)
        return revision


@dataclass(frozen=True, slots=True)
class Way:
    """How the acting user may share some cases.

    Attributes:
        parent: his own bucket that he shares on; None: he shares by his privilege.
    """

    facility_id: FacilityId
    time_zone: str
    policy: Policy
    parent: Bucket | None


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a share begins with."""

    language: Language
    valid_till: date
    valid_till_at_most: date | None
    unlimited_allowed: bool
    preferences: Preferences


@dataclass(frozen=True, slots=True)
class Described:
    """The owner's snapshot of a bucket, for the mail about it."""

    share: Share
    bucket: Bucket
    mail_due: bool
    link: str


class Shares:
    """What senders do, and those who administer their shares."""

    def __init__(
        self,
        database: Database,
        access: Access,
        telling: Telling,
        links: Links,
        new_id: NewId,
        max_recipients: int,
    ) -> None:
        self._database = database
        self._acts = Acts(database)
        self._access = access
        self._telling = telling
        self._links = links
        self._new_id = new_id
        self._max_recipients = max_recipients

    async def prepare(self, actor: str, case_ids: Sequence[CaseId], logins: Sequence[str]) -> Prepared:
        """What a share of these cases to these recipients begins with."""
        check_cases(case_ids)
        async with self._acts.audited(actor, "share.prepared", f"case:{case_ids[0]}"):
            way = await self._way(actor, case_ids)
            users = await self._access.users(logins) if logins else {}
            recipients = [check_recipient(Recipient(each), users.get(each.lower()), actor) for each in logins]
            async with self._database.transaction() as transaction:
                preferences = await transaction.preferences(actor)
                await transaction.record(actor, "share.prepared", f"case:{case_ids[0]}", "done")
            policy, bound = way.policy, way.parent and way.parent.ends_at
            default = end_for(Validity(), policy, way.time_zone, transaction.now, way.parent)
            assert default is not None
            last_days = [policy.last_day(today_at(transaction.now, way.time_zone))]
            last_days += [last_day_before(bound, way.time_zone)] if bound else []
            return Prepared(
                language_of([user.language for user in recipients]),
                last_day_before(default, way.time_zone),
                min((day for day in last_days if day), default=None),
                policy.unlimited_allowed and bound is None,
                preferences,
            )

    async def share(self, actor: str, wanted: Wanted) -> tuple[Share, str]:
        """Shares; answers the share and the revision of sight."""
        check(wanted, self._max_recipients)
        share_id = ShareId(self._new_id())
        async with self._acts.audited(actor, "share.created", f"share:{share_id}"):
            way = await self._way(actor, wanted.case_ids)
            if wanted.allow_further_sharing and not way.policy.further_sharing_allowed:
                raise Invalid(
                    "`allow_further_sharing` is not allowed at this facility", field="allow_further_sharing"
                )
            users = await self._access.users([actor, *(each.login for each in wanted.recipients)])
            share = await self._save_pending(actor, share_id, wanted, way, users)
            revision = await self._granted(share)
            return await self._activate(share, preferences_of(wanted.recipients)), revision

    async def share_again(self, actor: str, share_id: ShareId, wanted: Wanted) -> tuple[Share, str]:
        """Shares the cases of an earlier share of the actor (SHR-32)."""
        if wanted.case_ids:
            raise Invalid("`case_ids` are those of the earlier share: expected none", field="case_ids")
        async with self._acts.audited(actor, "share.repeated", f"share:{share_id}"):
            async with self._database.transaction() as transaction:
                earlier = await transaction.share(share_id)
            if earlier is None or earlier.sender_login != actor:
                raise no_share()
        return await self.share(actor, replace(wanted, case_ids=earlier.case_ids))

    async def _way(self, actor: str, case_ids: Sequence[CaseId]) -> Way:
        """How the actor may share these cases; access decides once more when it grants."""
        sights = await self._access.check_many(case_ids)
        if not all(sight.allowed for sight in sights):
            raise no_case()
        facility_id, *others = {sight.facility_id for sight in sights}
        if others or facility_id is None:
            raise Invalid("`case_ids` names cases of more than one facility", field="case_ids")
        time_zones = await self._access.time_zones(case_ids)
        if len(time_zones) < len(case_ids):
            raise no_case()
        permit = await self._access.check_permission(SHARE_CREATE, facility_id)
        by_privilege = permit.allowed and all(sight.by_privilege for sight in sights)
        async with self._database.transaction() as transaction:
            policy = await transaction.policy(facility_id)
            parent = None if by_privilege else await transaction.to_share_on(actor, case_ids)
        if not by_privilege and not (parent and policy.further_sharing_allowed):
            raise lacks(SHARE_CREATE)
        return Way(facility_id, time_zones[case_ids[0]], policy, parent)

    async def _save_pending(
        self, actor: str, share_id: ShareId, wanted: Wanted, way: Way, users: Mapping[str, User]
    ) -> Share:
        sender = users.get(actor)
        if sender is None:
            raise Unauthenticated("no active user has this login")
        recipients = [
            (each, check_recipient(each, users.get(each.login.lower()), actor)) for each in wanted.recipients
        ]
        assert wanted.rights is not None
        async with self._database.transaction() as transaction:
            if not await transaction.keep_from_deletion(wanted.case_ids):
                raise no_case()
            parent = None
            if way.parent:  # whoever ends it now waits for this share, and ends it too
                parent = first(await transaction.lock_buckets([way.parent.id]))
                if parent is None or parent.stands(transaction.now) is not State.ACTIVE:
                    raise lacks(SHARE_CREATE)
            ends_at = end_for(wanted.validity, way.policy, way.time_zone, transaction.now, parent)
            share = Share(
                id=share_id,
                sender_login=actor,
                sender_user_id=sender.id,
                sender_name=sender.name,
                facility_id=way.facility_id,
                time_zone=way.time_zone,
                reason=wanted.reason,
                message=wanted.message,
                language=wanted.language or language_of([user.language for _, user in recipients]),
                urgent=wanted.urgent,
                rights=wanted.rights,
                allow_further_sharing=wanted.allow_further_sharing,
                parent_bucket_id=parent.id if parent else None,
                shared_at=transaction.now,
                case_ids=tuple(wanted.case_ids),
                buckets=tuple(
                    Bucket(
                        BucketId(self._new_id()),
                        share_id,
                        user.login,
                        user.id,
                        recipient.two_factor,
                        recipient.send_mail,
                        ends_at,
                    )
                    for recipient, user in recipients
                ),
            )
            digests = {bucket.id: self._links.stored(bucket.id) for bucket in share.buckets}
            await transaction.insert_share(share, digests)
        return share

    async def _granted(self, share: Share) -> str:
        """Asks access; what it refuses was never shared. If nobody knows, `Repairs` ends it."""
        try:
            return await self._access.grant(share)
        except REFUSED:
            async with self._database.transaction() as transaction:
                await transaction.delete_share(share.id)
            raise

    async def _activate(self, share: Share, preferences: Preferences) -> Share:
        async with self._database.transaction() as transaction:
            buckets = await transaction.lock_buckets([bucket.id for bucket in share.buckets])
            if len(buckets) < len(share.buckets):
                raise no_case()  # deleted meanwhile
            active = {bucket.id: bucket.granted() for bucket in buckets}
            await transaction.save_buckets(active.values())
            await transaction.save_preferences(share.sender_login, preferences)
            await transaction.say(*(ShareCreated(each.id, each.version) for each in active.values()))
            await transaction.record(
                share.sender_login,
                "share.created",
                f"share:{share.id}",
                "done",
                facility=str(share.facility_id),
                cases=" ".join(map(str, share.case_ids)),
                recipients=" ".join(each.recipient_login for each in share.buckets),
                rights=share.rights.value,
                parent=str(share.parent_bucket_id or ""),
            )
        return replace(share, buckets=tuple(active[bucket.id] for bucket in share.buckets))

    async def list(
        self, actor: str, *, blocked_only: bool, before: UUID | None, limit: int
    ) -> Sequence[Share]:
        """The actor's shares, and those of facilities whose shares he administers, newest first."""
        permit = await self._access.check_permission(SHARE_ADMIN, None)
        async with self._database.transaction() as transaction:
            await transaction.record(actor, "shares.listed", f"user:{actor}", "done")
            shares = await transaction.shares(
                actor, permit, blocked_only=blocked_only, before=before, limit=limit
            )
            return [_as_it_stands(share, transaction.now) for share in shares]

    async def revoke(self, actor: str, bucket_id: BucketId | None, share_id: ShareId | None) -> str:
        """Ends a bucket, or all of a share, and whatever was shared on from it; answers the revision."""
        if (bucket_id is None) == (share_id is None):
            raise Invalid("one of `bucket_id` and `share_id` is expected", field="bucket_id")
        object_ = f"bucket:{bucket_id}" if bucket_id else f"share:{share_id}"
        async with self._acts.audited(actor, "share.revoked", object_):
            share = await self._administered(actor, bucket_id, share_id)
            roots = [bucket_id] if bucket_id else [bucket.id for bucket in share.buckets]
            async with self._database.transaction() as transaction:
                tree = await lock_tree(transaction, roots)
                ended = [
                    bucket.after(Act.REVOKE, transaction.now)
                    for bucket in tree
                    if bucket.state is not State.REVOKED
                ]
                await transaction.save_buckets(ended)
                await transaction.say(*(ShareRevoked(bucket.id, bucket.version) for bucket in ended))
                await transaction.record(actor, "share.revoked", object_, "done", buckets=len(ended))
            changed = {bucket.id: bucket for bucket in ended}
        return await self._telling.tell([changed.get(bucket.id, bucket) for bucket in tree])

    async def extend(self, actor: str, bucket_id: BucketId, validity: Validity) -> tuple[Share, Bucket, str]:
        """Gives a bucket another end; an earlier one is also the latest of what was shared on from it.

        Who does not administer the facility's shares must be able to share the cases still.
        """
        if bool(validity.valid_till) is validity.unlimited:
            raise Invalid("one of `valid_till` and `unlimited` is expected", field="valid_till")
        async with self._acts.audited(actor, "share.extended", f"bucket:{bucket_id}"):
            share = await self._administered(actor, bucket_id, None)
            if not (await self._access.check_permission(SHARE_ADMIN, share.facility_id)).allowed:
                await self._way(actor, share.case_ids)
            async with self._database.transaction() as transaction:
                above = [share.parent_bucket_id] if share.parent_bucket_id else []
                parent = first(await transaction.lock_buckets(above))
                tree = await lock_tree(transaction, [bucket_id])
                if not tree:
                    raise no_bucket()
                policy = await transaction.policy(share.facility_id)
                now = transaction.now
                ends_at = end_for(validity, policy, share.time_zone, now, parent)
                bucket = tree[0].ending(ends_at, now)
                below = [
                    each.ending(ends_at, now)
                    for each in tree[1:]
                    if each.state is not State.REVOKED and is_earlier(ends_at, each.ends_at)
                ]
                await transaction.save_buckets([bucket, *below])
                await transaction.record(
                    actor,
                    "share.extended",
                    f"bucket:{bucket_id}",
                    "done",
                    ends_at=ends_at.isoformat() if ends_at else "never",
                )
        return share, bucket, await self._telling.tell([bucket, *below])

    async def _administered(self, actor: str, bucket_id: BucketId | None, share_id: ShareId | None) -> Share:
        """A share that the actor sent, or whose facility's shares he administers."""
        async with self._database.transaction() as transaction:
            share = await transaction.share_of(bucket_id) if bucket_id else None
            share = await transaction.share(share_id) if share_id else share
        if share is None:
            raise no_share()
        permit = await self._access.check_permission(SHARE_ADMIN, share.facility_id)
        if share.sender_login != actor and not permit.allowed:
            raise no_share()
        return share

    async def describe_bucket(self, bucket_id: BucketId) -> Described:
        """The snapshot for notify."""
        async with self._database.transaction() as transaction:
            share = await transaction.share_of(bucket_id)
        if share is None:
            raise no_bucket()
        bucket = share.bucket(bucket_id)
        mail_due = bucket.send_mail and bucket.stands(transaction.now) is State.ACTIVE
        return Described(share, bucket, mail_due, self._links.text(bucket_id))


async def lock_tree(transaction: Transaction, roots: Collection[BucketId]) -> Sequence[Bucket]:
    """These buckets and all that was shared on from them, locked from the top down.

    A further share locks the bucket it comes from, so none is missed.
    """
    tree: list[Bucket] = []
    level = await transaction.lock_buckets(roots)
    while level:
        tree += level
        level = await transaction.lock_children([bucket.id for bucket in level])
    return tree


def first(buckets: Sequence[Bucket]) -> Bucket | None:
    return buckets[0] if buckets else None


class Inbox:
    """What recipients see."""

    def __init__(self, database: Database, access: Access) -> None:
        self._database = database
        self._acts = Acts(database)
        self._access = access

    async def list(self, actor: str, session: str, before: UUID | None, limit: int) -> Sequence[Received]:
        """What the actor has received and has not ended, newest first (SHR-29)."""
        await self._must_be_active()
        async with self._database.transaction() as transaction:
            await transaction.record(actor, "received.listed", f"user:{actor}", "done")
            return await transaction.received(actor, session, before, limit)

    async def open(self, actor: str, session: str, link: str) -> Received:
        """The bucket that a link names, to its recipient alone (A56)."""
        await self._must_be_active()
        async with self._acts.audited(actor, "share.opened", "link"):
            async with self._database.transaction() as transaction:
                received = await transaction.received_by_link(link_digest(link), actor, session)
                if received is not None:
                    received = await open_bucket(transaction, received)
                    await transaction.record(actor, "share.opened", f"bucket:{received.bucket.id}", "done")
            if received is None:
                raise no_link()
            return received

    async def _must_be_active(self) -> None:
        """Access refuses who is no active user, whatever he asks."""
        await self._access.check_permission(SHARE_CREATE, None)


async def open_bucket(transaction: Transaction, received: Received) -> Received:
    """Notes the first time that the recipient is shown what he received."""
    bucket = received.bucket
    if received.withheld or not await transaction.note_opening(bucket.id):
        return received
    await transaction.say(ShareOpened(bucket.id, bucket.version))
    return replace(received, bucket=replace(bucket, opened_at=transaction.now))


class Policies:
    """The rules of sending facilities."""

    def __init__(self, database: Database, access: Access) -> None:
        self._database = database
        self._acts = Acts(database)
        self._access = access

    async def save(self, actor: str, policy: Policy) -> Policy:
        """Sets the rules; they count for what is shared or extended from now on."""
        policy.check()
        object_ = f"facility:{policy.facility_id}"
        async with self._acts.audited(actor, "policy.saved", object_):
            if not (await self._access.check_permission(SHARE_ADMIN, policy.facility_id)).allowed:
                raise lacks(SHARE_ADMIN)
            async with self._database.transaction() as transaction:
                await transaction.save_policy(policy)
                await transaction.record(
                    actor,
                    "policy.saved",
                    object_,
                    "done",
                    default_days=policy.default_days,
                    maximum_days=policy.maximum_days,
                    unlimited_allowed=int(policy.unlimited_allowed),
                    further_sharing_allowed=int(policy.further_sharing_allowed),
                )
        return policy

    async def describe(self, actor: str, facility_id: FacilityId) -> Policy:
        """The rules, to who shares there or administers shares there."""
        object_ = f"facility:{facility_id}"
        async with self._acts.audited(actor, "policy.read", object_):
            permits = [
                await self._access.check_permission(each, facility_id) for each in (SHARE_ADMIN, SHARE_CREATE)
            ]
            if not any(permit.allowed for permit in permits):
                raise lacks(SHARE_ADMIN)
            async with self._database.transaction() as transaction:
                await transaction.record(actor, "policy.read", object_, "done")
                return await transaction.policy(facility_id)


class Repairs:
    """What happens without anybody asking: the clock, and what a crash or a failing access left behind."""

    def __init__(self, database: Database, telling: Telling, abandon_after: timedelta) -> None:
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
        """Revokes what has been pending for so long that nobody is at work on it any more."""
        async with self._database.transaction() as transaction:
            pending = await transaction.claim_pending(transaction.now - self._abandon_after, BATCH)
            abandoned = [bucket.after(Act.REVOKE, transaction.now) for bucket in pending]
            await transaction.save_buckets(abandoned)
            await transaction.say(*(ShareRevoked(bucket.id, bucket.version) for bucket in abandoned))
            await _record_each(transaction, "share.abandoned", abandoned)
        return len(abandoned)

    async def tell(self) -> int:
        """Tells access what it has not accepted yet."""
        async with self._database.transaction() as transaction:
            untold = await transaction.untold(BATCH)
        if untold:
            await self._telling.tell(untold)
        return len(untold)

    async def purge(self, transaction: Transaction, case_id: CaseId, version: int) -> None:
        """Keeps nothing of a deleted case: a share with no other goes whole (A60)."""
        await transaction.purge_case(case_id)
        await transaction.say(CasePurged(case_id, version, "sharing"))
        await transaction.record("service:sharing", "case.purged", f"case:{case_id}", "done")


async def _record_each(transaction: Transaction, action: str, buckets: Collection[Bucket]) -> None:
    for bucket in buckets:
        await transaction.record("service:sharing", action, f"bucket:{bucket.id}", "done")


def _as_it_stands(share: Share, now: datetime) -> Share:
    buckets = tuple(replace(bucket, state=bucket.stands(now)) for bucket in share.buckets)
    return replace(share, buckets=buckets)
