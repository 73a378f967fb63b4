"""What senders do: they prepare a share, share, share again, list and revoke."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import TYPE_CHECKING, Literal, Protocol
from uuid import UUID

from kernel.database import Database
from kernel.errors import (
    Conflict,
    Denied,
    Exhausted,
    Expired,
    Invalid,
    NotFound,
    Unauthenticated,
    Unavailable,
    lacks,
)
from kernel.events import ShareCreated, ShareRevoked
from kernel.ids import BucketId, CaseId, FacilityId, NewId, ShareId
from kernel.language import Language
from services.sharing.domain import (
    CASES_FACILITY,
    MAX_PARENTS,
    Act,
    Bucket,
    Share,
    State,
    User,
    most_allowing,
    no_bucket,
    no_case,
    no_share,
)
from services.sharing.links import Links
from services.sharing.validity import Policy, Validity, end_for, last_day_before, today_at
from services.sharing.wanted import (
    Preferences,
    Recipient,
    Wanted,
    check,
    check_cases,
    check_logins,
    check_numbers,
    check_recipient,
    language_of,
    preferences_of,
)

if TYPE_CHECKING:
    from services.sharing.store import SharingTransaction
from services.sharing.asking import SHARE_ADMIN, Access, Telling, active_user, administered, lock_tree

SHARE_CREATE = "share.create"


CHECKED = 1_000
"""Cases that access is asked about at once: as many as it takes."""

Outcome = Literal["done", "refused"]


REFUSED = (Invalid, NotFound, Denied, Unauthenticated, Conflict, Expired, Exhausted)
"""What access says when it has done nothing; after Unavailable nobody knows."""


@dataclass(frozen=True, slots=True)
class Way:
    """How the acting user may share some cases.

    Attributes:
        parent: their own bucket that they share on; None: they share by their privilege.
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


class Texts(Protocol):
    """The service notify."""

    async def served(self, mobile_numbers: Sequence[str]) -> tuple[Sequence[bool], Sequence[str]]:
        """Whether text messages are sent to each number, and to which countries at all."""
        ...


class Shares:
    """What senders do, and those who administer their shares."""

    def __init__(
        self,
        database: Database[SharingTransaction],
        access: Access,
        texts: Texts,
        telling: Telling,
        links: Links,
        new_id: NewId,
        max_recipients: int,
    ) -> None:
        self._database = database
        self._access = access
        self._texts = texts
        self._telling = telling
        self._links = links
        self._new_id = new_id
        self._max_recipients = max_recipients

    async def prepare_share(self, actor: str, case_ids: Sequence[CaseId], logins: Sequence[str]) -> Prepared:
        """What a share of these cases to these recipients begins with."""
        check_cases(case_ids)
        check_logins(logins, self._max_recipients, at_least=0)
        async with self._database.audited(actor, "share.prepared", f"case:{case_ids[0]}"):
            way, users = await self._way(actor, case_ids, logins)
            recipients = [check_recipient(Recipient(each), users.get(each.lower()), actor) for each in logins]
            async with self._database.transaction() as transaction:
                preferences = await transaction.preferences(actor)
                await transaction.record(actor, "share.prepared", f"case:{case_ids[0]}", "done")
            policy, bound = way.policy, way.parent.ends_at if way.parent else None
            default = end_for(Validity(), policy, way.time_zone, transaction.now, bound)
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
        async with self._database.audited(actor, "share.created", f"share:{share_id}"):
            named = [each.login for each in wanted.recipients]
            way, users = await self._way(actor, wanted.case_ids, named)
            if wanted.allow_further_sharing and not way.policy.further_sharing_allowed:
                raise Invalid(
                    "this facility does not allow recipients to share on: leave `allow_further_sharing` out",
                    field="allow_further_sharing",
                )
            await self._check_numbers(actor, wanted.recipients, users)
            share = await self._save_pending(actor, share_id, wanted, way, users)
            revision = await self._granted(share)
            return await self._activate(share, preferences_of(wanted.recipients)), revision

    async def share_again(self, actor: str, share_id: ShareId, wanted: Wanted) -> tuple[Share, str]:
        """Shares the cases of an earlier share of the actor (SHR-32)."""
        if wanted.case_ids:
            raise Invalid("the cases are those of the earlier share: leave `case_ids` out", field="case_ids")
        async with self._database.audited(actor, "share.repeated", f"share:{share_id}"):
            user = await active_user(self._access, actor)
            async with self._database.transaction() as transaction:
                earlier = await transaction.share(share_id)
            if earlier is None or earlier.sender_login != user.login:
                raise no_share()
        return await self.share(actor, replace(wanted, case_ids=earlier.case_ids))

    async def _way(
        self, actor: str, case_ids: Sequence[CaseId], logins: Sequence[str]
    ) -> tuple[Way, Mapping[str, User]]:
        """How the actor may share these cases, and who they and those named are; access decides once more
        when it grants."""
        prospect = await self._access.prepare_grant(case_ids, [actor, *logins])
        if not all(sight.allowed for sight in prospect.sights):
            raise no_case()
        facility_id, *others = {sight.facility_id for sight in prospect.sights}
        if others or facility_id is None:
            raise Invalid("all cases of a share must be at one facility (`case_ids`)", field="case_ids")
        if len(prospect.owners) < len(case_ids):
            raise no_case()
        by_privilege = prospect.may_share and all(sight.by_privilege for sight in prospect.sights)
        async with self._database.transaction() as transaction:
            policy = await transaction.policy(facility_id)
            parent = None
            if not by_privilege:
                parent = most_allowing(await transaction.to_share_on(actor, case_ids, MAX_PARENTS))
        if not by_privilege and not (parent and policy.further_sharing_allowed):
            raise lacks(SHARE_CREATE, at=CASES_FACILITY)
        return Way(facility_id, prospect.owners[case_ids[0]].time_zone, policy, parent), prospect.users

    async def _check_numbers(
        self, actor: str, recipients: Sequence[Recipient], users: Mapping[str, User]
    ) -> None:
        """Refuses a code for who cannot be sent one.

        While notify does not answer, the share is made: the code is sent, or refused, when they ask for it.
        """
        coded = [
            check_recipient(each, users.get(each.login.lower()), actor)
            for each in recipients
            if each.two_factor
        ]
        if not coded:
            return
        with suppress(Unavailable):
            served, countries = await self._texts.served([each.mobile_number for each in coded])
            check_numbers(coded, served, countries)

    async def _save_pending(
        self, actor: str, share_id: ShareId, wanted: Wanted, way: Way, users: Mapping[str, User]
    ) -> Share:
        sender = users.get(actor)
        if sender is None:
            raise Unauthenticated("there is no active user with this login")
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
                    raise lacks(SHARE_CREATE, at=CASES_FACILITY)
            bound = parent.ends_at if parent else None
            ends_at = end_for(wanted.validity, way.policy, way.time_zone, transaction.now, bound)
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

    async def list_shares(
        self,
        actor: str,
        *,
        blocked_only: bool,
        before: UUID | None,
        limit: int,
        case_id: CaseId | None = None,
    ) -> Sequence[Share]:
        """The actor's shares, and those of facilities whose shares they administer, newest first.

        With `case_id` those that hold this case, whether the actor sees it or not: they are their shares.
        """
        reach = await self._access.reach(SHARE_ADMIN)
        async with self._database.transaction() as transaction:
            await transaction.record(actor, "shares.listed", f"user:{actor}", "done")
            shares = await transaction.shares(
                actor, reach, blocked_only=blocked_only, case_id=case_id, before=before, limit=limit
            )
            return [_as_it_stands(share, transaction.now) for share in shares]

    async def revoke(self, actor: str, bucket_id: BucketId | None, share_id: ShareId | None) -> str:
        """Ends a bucket, or all of a share, and whatever was shared on from it; answers the revision."""
        if (bucket_id is None) == (share_id is None):
            raise Invalid("name either `bucket_id` or `share_id`", field="bucket_id")
        object_ = f"bucket:{bucket_id}" if bucket_id else f"share:{share_id}"
        async with self._database.audited(actor, "share.revoked", object_):
            share, _ = await administered(self._database, self._access, actor, bucket_id, share_id)
            roots = [bucket_id] if bucket_id else [bucket.id for bucket in share.buckets]
            async with self._database.transaction() as transaction:
                tree = await lock_tree(transaction, roots)
                if not tree:
                    raise no_share()
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

    async def describe_bucket(self, bucket_id: BucketId) -> Described:
        """The snapshot for notify."""
        async with self._database.statements() as transaction:
            share = await transaction.share_of(bucket_id)
        if share is None:
            raise no_bucket()
        bucket = share.bucket(bucket_id)
        mail_due = bucket.send_mail and bucket.stands(transaction.now) is State.ACTIVE
        return Described(share, bucket, mail_due, self._links.text(bucket_id))


def first(buckets: Sequence[Bucket]) -> Bucket | None:
    return buckets[0] if buckets else None


def _as_it_stands(share: Share, now: datetime) -> Share:
    buckets = tuple(replace(bucket, state=bucket.stands(now)) for bucket in share.buckets)
    return replace(share, buckets=buckets)
