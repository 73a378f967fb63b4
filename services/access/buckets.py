"""Buckets: what a share shows to a recipient (A40), as far as sight needs it.

    (none)          GrantBuckets   →  open
    open or closed  ChangeBuckets  →  open or closed, with no later end; the newest version counts
    open or closed  ExtendBucket   →  open or closed, with any end, if the actor could share the same now
    (none)          ChangeBuckets  →  told of without terms, and never granted any more

Sharing keeps shares and their history, and when it closes a bucket tells of each that came from it too: here
is no tree. A bucket gives sight while it is open, before its end, and where it asks for codes in a registered
session only (A57); `sightings.py` decides that in the statement that reads the cases.

Refusals name the field of the share as its sender knows it: sharing passes them on.
"""

import unicodedata
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, Protocol

from kernel.errors import Conflict, Denied, Expired, Invalid, NotFound, lacks
from kernel.events import Fact, SightChanged
from kernel.ids import BucketId, CaseId, FacilityId, UserId
from services.access.domain import (
    ROLES,
    Answer,
    CompiledUser,
    Level,
    Path,
    Permission,
    Sighting,
    User,
    acting_login,
    decide,
    no_active_user,
    no_case,
    possible_logins,
)

MAX_CASES = 100
"""In one share, and in one question about cases."""
MAX_BUCKETS = 100
"""Of one share; sharing allows fewer recipients (A50)."""
MAX_CHANGES = 1000
MAX_SESSION_CHARACTERS = 128


@dataclass(frozen=True, slots=True)
class Standing:
    """How a bucket stands, as sharing says.

    Attributes:
        version: sharing's; 0 as granted.
        is_open: whether it gives sight until its end; a blocked or revoked one does not.
        ends_at: None for never. At that instant it no longer gives sight.
        has_ended: that it has expired or was revoked is told now; not kept.
    """

    bucket_id: BucketId
    version: int
    is_open: bool
    ends_at: datetime | None
    has_ended: bool = False

    def is_active(self, now: datetime) -> bool:
        return self.is_open and (self.ends_at is None or now < self.ends_at)

    def no_longer_than(self, other: "Standing") -> "Standing":
        """The same, with the end of the other if that is earlier."""
        if other.ends_at is None or (self.ends_at is not None and self.ends_at <= other.ends_at):
            return self
        return replace(self, ends_at=other.ends_at)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a bucket was granted with; never changes.

    Attributes:
        two_factor: whether it gives sight only in sessions that a code has registered (A57).
        parent_id: the bucket that it was shared on from.
    """

    sender_id: UserId
    recipient_id: UserId
    facility_id: FacilityId
    case_ids: frozenset[CaseId]
    two_factor: bool
    write_report: bool
    allow_further_sharing: bool
    parent_id: BucketId | None


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket; without terms it was told of and never granted."""

    standing: Standing
    terms: Terms | None

    @property
    def id(self) -> BucketId:
        return self.standing.bucket_id


@dataclass(frozen=True, slots=True)
class Grant:
    """One bucket of a share that is to be granted."""

    bucket_id: BucketId
    recipient_login: str
    two_factor: bool


@dataclass(frozen=True, slots=True)
class Share:
    """What is to be granted: all of it or nothing."""

    case_ids: tuple[CaseId, ...]
    grants: tuple[Grant, ...]
    ends_at: datetime | None
    write_report: bool
    allow_further_sharing: bool
    parent_id: BucketId | None

    def __post_init__(self) -> None:
        if not 1 <= len(self.case_ids) <= MAX_CASES:
            raise Invalid(f"`case_ids` must name 1 to {MAX_CASES} cases", field="case_ids")
        if not 1 <= len(self.grants) <= MAX_BUCKETS:
            raise Invalid(f"`recipients` must be 1 to {MAX_BUCKETS}", field="recipients")
        if len({grant.bucket_id for grant in self.grants}) < len(self.grants):
            raise Invalid("`bucket_id` occurs twice", field="bucket_id")
        if len({grant.recipient_login.lower() for grant in self.grants}) < len(self.grants):
            raise Invalid("`recipients` names somebody twice", field="recipients")

    def buckets(
        self, sender_id: UserId, recipients: Mapping[str, User], facility_id: FacilityId
    ) -> list[Bucket]:
        """The buckets as granted; without those whose recipient is nobody."""
        return [
            Bucket(
                Standing(grant.bucket_id, 0, True, self.ends_at),
                Terms(
                    sender_id=sender_id,
                    recipient_id=recipients[login].id,
                    facility_id=facility_id,
                    case_ids=frozenset(self.case_ids),
                    two_factor=grant.two_factor,
                    write_report=self.write_report,
                    allow_further_sharing=self.allow_further_sharing,
                    parent_id=self.parent_id,
                ),
            )
            for grant in self.grants
            if (login := grant.recipient_login.lower()) in recipients
        ]

    def must_stay_within(self, parent: Standing, terms: Terms) -> None:
        """Raises unless a bucket may be shared on like this: nothing exceeds it (SHR-24, A46)."""
        if not terms.allow_further_sharing:
            raise Denied(
                "whoever shared this with you did not allow you to share it on", field="parent_bucket_id"
            )
        if parent.ends_at is not None and (self.ends_at is None or self.ends_at > parent.ends_at):
            raise Invalid("`valid_till` lies after the end of what was shared with you", field="valid_till")
        if self.write_report and not terms.write_report:
            raise Invalid("`rights` exceeds what was shared with you: read the report", field="rights")
        if terms.two_factor and not all(grant.two_factor for grant in self.grants):
            raise Invalid(
                "`two_factor` must be chosen: you were asked for a code yourself", field="two_factor"
            )


def must_receive(recipient: User | None, sender: CompiledUser) -> None:
    """Raises Invalid unless somebody can be shared with; who is unknown, inactive or blind is the same."""
    if recipient is None or not recipient.active or ROLES[recipient.role].ceiling < Level.VIEW:
        raise Invalid("`recipients` names somebody who cannot receive studies", field="recipients")
    if recipient.id == sender.id:
        raise Invalid("`recipients` names yourself", field="recipients")


@dataclass(frozen=True, slots=True)
class DescribedCase:
    """What a share and its mail need of a case."""

    case_id: CaseId
    facility_id: FacilityId
    facility_name: str
    time_zone: str
    patient_initials: str
    study_description: str
    study_date: str


def initials(patient_name: str) -> str:
    """The initials of a Patient's Name (PS3.5 6.2.1): of its alphabetic group, given names first.

    Only letters that have capitals: in other scripts one character may be a whole name.
    """
    alphabetic = patient_name.partition("=")[0]
    family, given, middle, *_ = [*alphabetic.split("^"), "", ""]
    return "".join(map(_initial, (given, middle, family)))


def _initial(component: str) -> str:
    letters = (c for c in unicodedata.normalize("NFC", component) if c.isalpha() and c.upper() != c.lower())
    first = next(letters, "")
    return f"{first.upper()[:1]}." if first else ""


class Transaction(Protocol):
    """What access's store does within one transaction; `store.py` says more."""

    @property
    def now(self) -> datetime: ...
    async def say(self, *facts: Fact) -> None: ...
    async def record(
        self, actor: str, action: str, object_: str, outcome: Literal["done", "refused"], **detail: str | int
    ) -> None: ...
    async def lock_administration(self) -> None: ...
    async def revision(self) -> int: ...
    async def bump_revision(self) -> int: ...
    async def bump_cases(self, case_ids: Collection[CaseId]) -> Sequence[tuple[CaseId, int]]: ...
    async def compiled_user(self, login: str) -> CompiledUser | None: ...
    async def users_called(self, user_ids: Collection[UserId], logins: Collection[str]) -> Sequence[User]: ...
    async def check_many(
        self, user: CompiledUser, case_ids: Sequence[CaseId], *, session: str = ""
    ) -> Answer[Sequence[Sighting | None]] | None: ...

    async def buckets(self, bucket_ids: Collection[BucketId]) -> Mapping[BucketId, Bucket]: ...
    async def save_buckets(self, buckets: Sequence[Bucket]) -> None: ...
    async def save_standings(self, standings: Sequence[Standing]) -> None: ...
    async def register_session(self, bucket_id: BucketId, session: str) -> bool: ...
    async def is_registered(self, bucket_id: BucketId, session: str) -> bool: ...
    async def describe_cases(self, case_ids: Collection[CaseId]) -> Mapping[CaseId, DescribedCase]: ...


class Database(Protocol):
    """Opens transactions, and connections on which each statement commits by itself."""

    def transaction(self) -> AbstractAsyncContextManager[Transaction]: ...
    def audited(
        self, actor: str, action: str, object_: str, *, reason: bool = False
    ) -> AbstractAsyncContextManager[None]: ...
    def statements(self) -> AbstractAsyncContextManager[Transaction]: ...


class Buckets:
    """Grants and changes buckets for sharing, and describes cases to whoever shares and mails them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def grant(self, login: str, session: str, share: Share) -> tuple[FacilityId, int]:
        """Opens the buckets of a share; answers the facility that owns the cases, and the revision.

        Again with the same content it answers the same; so a lost answer does no harm.
        """
        object_ = f"bucket:{share.grants[0].bucket_id}"
        async with self._audited(login, "buckets.granted", object_) as transaction:
            return await self._grant(transaction, login, session, share, object_)

    @asynccontextmanager
    async def _audited(self, login: str, action: str, object_: str) -> AsyncIterator[Transaction]:
        """A transaction in which nobody else administers; a refusal is audited."""
        async with (
            self._database.audited(login, action, object_, reason=True),
            self._database.transaction() as transaction,
        ):
            await transaction.lock_administration()
            yield transaction

    async def _grant(
        self, transaction: Transaction, login: str, session: str, share: Share, object_: str
    ) -> tuple[FacilityId, int]:
        sender = await transaction.compiled_user(acting_login(login))
        if sender is None:
            raise no_active_user()
        logins = possible_logins(grant.recipient_login for grant in share.grants)
        recipients = {user.login: user for user in await transaction.users_called([], logins)}
        known = await transaction.buckets([grant.bucket_id for grant in share.grants])
        if known:
            terms = next(iter(known.values())).terms
            if terms and list(known.values()) == share.buckets(sender.id, recipients, terms.facility_id):
                return terms.facility_id, await transaction.revision()
            raise Conflict("a bucket with this id was granted or closed before", field="bucket_id")

        facility_id = await _must_share(transaction, sender, session, share)
        for grant in share.grants:
            must_receive(recipients.get(grant.recipient_login.lower()), sender)
        if share.ends_at is not None and share.ends_at <= transaction.now:
            raise Invalid("`valid_till` has passed", field="valid_till")
        changed = await transaction.bump_cases(share.case_ids)
        await transaction.save_buckets(share.buckets(sender.id, recipients, facility_id))
        await transaction.record(
            sender.login,
            "buckets.granted",
            object_,
            "done",
            facility=str(facility_id),
            buckets=" ".join(f"{grant.bucket_id}:{grant.recipient_login.lower()}" for grant in share.grants),
            cases=" ".join(map(str, share.case_ids)),
            ends_at=str(share.ends_at or ""),
            write_report=int(share.write_report),
            parent=str(share.parent_id or ""),
        )
        await transaction.say(*(SightChanged(case_id, version) for case_id, version in changed))
        return facility_id, await transaction.bump_revision()

    async def extend(self, login: str, session: str, standing: Standing) -> int:
        """Sets how a bucket stands, with any end, if the actor could share it like this now (A46).

        Answers the revision; again with the same content the same, so a lost answer does no harm.
        """
        object_ = f"bucket:{standing.bucket_id}"
        async with self._audited(login, "bucket.extended", object_) as transaction:
            actor = await transaction.compiled_user(acting_login(login))
            if actor is None:
                raise no_active_user()
            bucket = (await transaction.buckets([standing.bucket_id])).get(standing.bucket_id)
            if bucket is None or bucket.terms is None:
                raise no_bucket(standing.bucket_id)
            if bucket.standing == standing:
                return await transaction.revision()
            if standing.version <= bucket.standing.version:
                raise Conflict("the share was changed meanwhile: try again", field="bucket_id")
            await _must_extend(transaction, actor, session, bucket.terms, standing)
            await transaction.save_standings([standing])
            await transaction.record(
                actor.login,
                "bucket.extended",
                object_,
                "done",
                version=standing.version,
                ends_at=str(standing.ends_at or ""),
            )
            return await _sight_changed(transaction, [bucket])

    async def change(self, standings: Sequence[Standing]) -> int:
        """Sets how buckets stand where that is newer, none with a later end; answers the revision.

        One that is not known is remembered, so that a grant that comes late opens nothing.
        """
        if not 1 <= len(standings) <= MAX_CHANGES:
            raise Invalid(f"`changes` must be 1 to {MAX_CHANGES}", field="changes")
        if any(standing.version < 1 for standing in standings):
            raise Invalid("`version` must be at least 1", field="version")
        async with self._database.transaction() as transaction:
            await transaction.lock_administration()
            known = await transaction.buckets({standing.bucket_id for standing in standings})
            versions = {bucket_id: bucket.standing.version for bucket_id, bucket in known.items()}
            newer: dict[BucketId, Standing] = {}
            for standing in sorted(standings, key=lambda each: each.version):
                bucket_id = standing.bucket_id
                if standing.version > versions.get(bucket_id, 0):
                    before = known[bucket_id].standing if bucket_id in known else standing
                    newer[bucket_id] = standing.no_longer_than(newer.get(bucket_id, before))
            if not newer:
                return await transaction.revision()
            await transaction.save_standings(list(newer.values()))
            for standing in newer.values():
                await transaction.record(
                    "service:sharing",
                    "bucket.changed",
                    f"bucket:{standing.bucket_id}",
                    "done",
                    version=standing.version,
                    open=int(standing.is_open),
                    ends_at=str(standing.ends_at or ""),
                )
            return await _sight_changed(transaction, [known[each] for each in newer if each in known])

    async def register_session(self, bucket_id: BucketId, session: str, contact_version: int = 0) -> int:
        """Lets a bucket give sight in a session in which a code was redeemed (A57); answers the revision.

        Raises Expired if the code was sent to another contact than the recipient has now; 0: not told which.
        """
        if not 1 <= len(session) <= MAX_SESSION_CHARACTERS or not session.isprintable():
            raise Invalid(
                f"`session` must be 1 to {MAX_SESSION_CHARACTERS} printable characters", field="session"
            )
        async with self._database.transaction() as transaction:
            await transaction.lock_administration()
            bucket = (await transaction.buckets([bucket_id])).get(bucket_id)
            if bucket is None or bucket.terms is None:
                raise no_bucket(bucket_id)
            if contact_version:
                (recipient,) = await transaction.users_called([bucket.terms.recipient_id], [])
                if recipient.contact_version != contact_version:
                    raise Expired("the code was sent to a contact that has changed since: ask for another")
            if not await transaction.register_session(bucket_id, session):
                return await transaction.revision()
            await transaction.record(
                "service:sharing", "bucket.session_registered", f"bucket:{bucket_id}", "done"
            )
            return await _sight_changed(transaction, [bucket])

    async def describe_cases(self, case_ids: Sequence[CaseId]) -> list[DescribedCase]:
        """What a share and its mail need of cases, in the order asked; unknown ones are left out."""
        if not 1 <= len(case_ids) <= MAX_CASES:
            raise Invalid(f"`case_ids` must name 1 to {MAX_CASES} cases", field="case_ids")
        async with self._database.statements() as statements:
            found = await statements.describe_cases(case_ids)
        return [found[case_id] for case_id in case_ids if case_id in found]


async def _must_share(
    transaction: Transaction, sender: CompiledUser, session: str, share: Share
) -> FacilityId:
    """The owner of the cases; raises unless the sender may share them all like this."""
    answer = await transaction.check_many(sender, share.case_ids, session=session)
    sightings = {
        seen.case_id: seen for seen in (answer.found if answer else ()) if seen and not seen.being_deleted
    }
    parent = None
    if share.parent_id is not None:
        parent = await _own_bucket(transaction, sender, session, share.parent_id)
    for case_id in share.case_ids:
        if case_id not in sightings or (parent and case_id not in parent[1].case_ids):
            raise no_case(case_id)
    facility_ids = {sighting.facility_id for sighting in sightings.values()}
    if len(facility_ids) > 1:
        raise Invalid("`case_ids` names cases of several facilities", field="case_ids")
    (facility_id,) = facility_ids
    if parent is not None:
        must_be_at(facility_id, parent[1])
        share.must_stay_within(*parent)
        return facility_id
    if not sender.holds(Permission.CREATE_SHARE, facility_id):
        raise lacks(Permission.CREATE_SHARE, at="the facility of the cases")
    # Without what a share of the same case carries beside: that was shown to them, not to be shown on.
    own = decide(sender, facility_id, (Path.PRIVILEGE,), transaction.now)
    by_privilege = all(Path.PRIVILEGE in seen.paths for seen in sightings.values())
    if not (by_privilege and own.images and own.reports):
        raise Denied(
            "to share a case you must see its images and reports by your own privilege", field="case_ids"
        )
    return facility_id


async def _must_extend(
    transaction: Transaction, actor: CompiledUser, session: str, terms: Terms, standing: Standing
) -> None:
    """Raises unless the actor could share the same now: by what it was shared on from, or by privilege."""
    now = transaction.now
    if not terms.case_ids:
        raise no_bucket(standing.bucket_id)
    recipients = await transaction.users_called([terms.recipient_id], [])
    for recipient in recipients:
        must_receive(recipient, actor)
    share = Share(
        tuple(terms.case_ids),
        tuple(Grant(standing.bucket_id, each.login, terms.two_factor) for each in recipients),
        standing.ends_at,
        terms.write_report,
        terms.allow_further_sharing,
        terms.parent_id,
    )
    way = replace(share, parent_id=None)  # by privilege
    if terms.parent_id is not None:
        parent = (await transaction.buckets([terms.parent_id])).get(terms.parent_id)
        if parent is None or parent.terms is None or not parent.standing.is_active(now):
            raise Conflict("the share that is shared on has ended, or is blocked")
        share.must_stay_within(parent.standing, parent.terms)
        with suppress(NotFound):
            await _own_bucket(transaction, actor, session, terms.parent_id)
            way = share
    must_be_at(await _must_share(transaction, actor, session, way), terms)
    if standing.ends_at is not None and standing.ends_at <= now:
        raise Invalid("`valid_till` has passed", field="valid_till")


def must_be_at(facility_id: FacilityId, terms: Terms) -> None:
    """Raises Conflict if a case moved after it was shared: who owned it shows it no longer (A17)."""
    if facility_id != terms.facility_id:
        raise Conflict("a case of the share has moved to another facility: the share can only be revoked")


async def _own_bucket(
    transaction: Transaction, user: CompiledUser, session: str, bucket_id: BucketId
) -> tuple[Standing, Terms]:
    """A bucket that gives the user sight now; raises NotFound for any other, whatever it lacks."""
    bucket = (await transaction.buckets([bucket_id])).get(bucket_id)
    if (
        bucket is None
        or bucket.terms is None
        or bucket.terms.recipient_id != user.id
        or not bucket.standing.is_active(transaction.now)
        or (bucket.terms.two_factor and not await transaction.is_registered(bucket_id, session))
    ):
        raise no_bucket(bucket_id, "parent_bucket_id")
    return bucket.standing, bucket.terms


async def _sight_changed(transaction: Transaction, buckets: Collection[Bucket]) -> int:
    case_ids = {case_id for bucket in buckets if bucket.terms for case_id in bucket.terms.case_ids}
    changed = await transaction.bump_cases(case_ids)
    await transaction.say(*(SightChanged(case_id, version) for case_id, version in changed))
    return await transaction.bump_revision()


def no_bucket(bucket_id: BucketId, field: str = "bucket_id") -> NotFound:
    """The answer for a bucket that does not exist or gives no sight to who asks."""
    return NotFound(f"no bucket `{bucket_id}`", field=field)
