"""Buckets: what a share shows to a recipient (A40), as far as sight needs it.

    (none)          GrantBuckets   →  open
    open or closed  ChangeBuckets  →  open or closed, with no later end; the newest version counts
    open or closed  ExtendBucket   →  open or closed, with any end, if the actor could share the same now
    (none)          ChangeBuckets  →  told of without terms, and never granted any more

Sharing keeps shares and their history, and when it closes a bucket tells of each that came from it too: here
is no tree. Which buckets give sight now, `active.py` says.

Refusals name the field of the share as its sender knows it: sharing passes them on.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum, auto
from functools import partial

from kernel.errors import Conflict, Denied, Invalid, NotFound, ReadroomError
from kernel.ids import BucketId, CaseId, FacilityId, UserId
from kernel.reading import PrivilegeLevel
from services.access.acts import must_create_share
from services.access.domain import (
    ROLES,
    CompiledUser,
    Path,
    Sighting,
    User,
    no_case,
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

    def no_longer_than(self, other: "Standing") -> "Standing":
        """The same, with the end of the other if that is earlier."""
        return replace(self, ends_at=other.ends_at) if ends_later(self.ends_at, other.ends_at) else self


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
            raise Invalid(f"name 1 to {MAX_CASES} cases (`case_ids`)", field="case_ids")
        if not 1 <= len(self.grants) <= MAX_BUCKETS:
            raise Invalid(f"name 1 to {MAX_BUCKETS} people (`recipients`)", field="recipients")
        if len({grant.bucket_id for grant in self.grants}) < len(self.grants):
            raise Invalid("`bucket_id` occurs twice", field="bucket_id")
        if len({grant.recipient_login.lower() for grant in self.grants}) < len(self.grants):
            raise Invalid("somebody is named twice (`recipients`)", field="recipients")

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
        for exceeds, refusal in _EXCEEDS:
            if exceeds(self, parent, terms):
                raise refusal()


_EXCEEDS: Sequence[tuple[Callable[[Share, Standing, Terms], bool], Callable[[], ReadroomError]]] = [
    (
        lambda share, parent, terms: not terms.allow_further_sharing,
        partial(
            Denied, "whoever shared this with you did not allow you to share it on", field="parent_bucket_id"
        ),
    ),
    (
        lambda share, parent, terms: ends_later(share.ends_at, parent.ends_at),
        partial(Invalid, "`valid_till` lies after the end of what was shared with you", field="valid_till"),
    ),
    (
        lambda share, parent, terms: share.write_report and not terms.write_report,
        partial(Invalid, "`rights` exceeds what was shared with you: read the report", field="rights"),
    ),
    (
        lambda share, parent, terms: terms.two_factor and not all(each.two_factor for each in share.grants),
        partial(
            Invalid, "`two_factor` must be chosen: you were asked for a code yourself", field="two_factor"
        ),
    ),
]
"""How a share may exceed the bucket that it is shared on from."""


def ends_later(one: datetime | None, other: datetime | None) -> bool:
    """Whether one end lies after another; None is never."""
    return other is not None and (one is None or one > other)


class Act(Enum):
    """What sharing does with a bucket."""

    GRANT = auto()
    EXTEND = auto()
    CHANGE = auto()


class Known(Enum):
    """What is said of a bucket beside what is stored of it."""

    NOTHING = "it is not known"
    SAME = "the same is stored"
    LESS = "an older version is stored"
    OTHER = "this version or a newer one is stored, with something else"


class Then(Enum):
    """What an act makes of a bucket."""

    OPENS = "it is stored as granted"
    STAYS = "it stays as it is; the act is answered again"
    SET = "it stands as is said"
    SHORTENED = "it stands as is said, with no later end"


ACTS: Mapping[tuple[Act, Known], Then | Callable[[], ReadroomError]] = {
    (Act.GRANT, Known.NOTHING): Then.OPENS,
    (Act.GRANT, Known.SAME): Then.STAYS,
    (Act.GRANT, Known.OTHER): partial(
        Conflict, "a bucket with this id was granted or closed before", field="bucket_id"
    ),
    (Act.EXTEND, Known.SAME): Then.STAYS,
    (Act.EXTEND, Known.LESS): Then.SET,
    (Act.EXTEND, Known.OTHER): partial(
        Conflict, "the share was changed meanwhile: try again", field="bucket_id"
    ),
    (Act.CHANGE, Known.NOTHING): Then.SHORTENED,
    (Act.CHANGE, Known.SAME): Then.STAYS,
    (Act.CHANGE, Known.LESS): Then.SHORTENED,
    (Act.CHANGE, Known.OTHER): Then.STAYS,
}
"""What becomes of a bucket. What is granted has one version only; what is extended is known."""


def then(act: Act, known: Known) -> Then:
    """What an act makes of a bucket; raises what forbids it."""
    outcome = ACTS[act, known]
    if not isinstance(outcome, Then):
        raise outcome()
    return outcome


def known_grant(stored: Collection[Bucket], granted: Collection[Bucket]) -> Known:
    """What is stored of buckets that are to be granted together."""
    if not stored:
        return Known.NOTHING
    return Known.SAME if list(stored) == list(granted) else Known.OTHER


def known_standing(stored: Bucket | None, told: Standing) -> Known:
    """What is stored of a bucket of which sharing says how it stands."""
    if stored is None:
        return Known.NOTHING
    if stored.standing == told:
        return Known.SAME
    return Known.LESS if stored.standing.version < told.version else Known.OTHER


def changed(stored: Mapping[BucketId, Bucket], told: Collection[Standing]) -> dict[BucketId, Standing]:
    """How buckets stand after all that sharing says of them; without those of which nothing is newer."""
    newer: dict[BucketId, Standing] = {}
    for standing in sorted(told, key=lambda each: each.version):
        bucket = stored.get(standing.bucket_id)
        if then(Act.CHANGE, known_standing(bucket, standing)) is Then.SHORTENED:
            before = newer.get(standing.bucket_id, bucket.standing if bucket else standing)
            newer[standing.bucket_id] = standing.no_longer_than(before)
    return newer


def must_receive(recipient: User | None, sender: CompiledUser) -> None:
    """Raises Invalid unless somebody can be shared with; who is unknown, inactive or blind is the same."""
    if recipient is None or not recipient.active or ROLES[recipient.role].ceiling < PrivilegeLevel.VIEW:
        raise Invalid(
            "you cannot share with one of the `recipients`: there is no such active user, or their role "
            "may not see studies",
            field="recipients",
        )
    if recipient.id == sender.id:
        raise Invalid("you cannot share with yourself (`recipients`)", field="recipients")


def must_share(
    sender: CompiledUser,
    share: Share,
    sightings: Mapping[CaseId, Sighting],
    parent: Bucket | None,
    now: datetime,
) -> FacilityId:
    """The owner of the cases; raises unless the sender may share them all like this.

    Args:
        sightings: of those of the cases that they see.
        parent: what it is shared on from, if that gives them sight.
    """
    within = parent.terms if parent else None
    for case_id in share.case_ids:
        if case_id not in sightings or (within and case_id not in within.case_ids):
            raise no_case(case_id)
    facility_ids = {sighting.facility_id for sighting in sightings.values()}
    if len(facility_ids) > 1:
        raise Invalid("all cases of a share must be at one facility (`case_ids`)", field="case_ids")
    (facility_id,) = facility_ids
    if parent and within:
        must_be_at(facility_id, within)
        share.must_stay_within(parent.standing, within)
        return facility_id
    by_privilege = all(Path.PRIVILEGE in seen.paths for seen in sightings.values())
    must_create_share(sender, facility_id, now, seen=by_privilege)
    return facility_id


def must_end_later_than(now: datetime, ends_at: datetime | None) -> None:
    """Raises Invalid for what would have ended already."""
    if ends_at is not None and ends_at <= now:
        raise Invalid("the last day, `valid_till`, has passed", field="valid_till")


def must_be_granted(bucket: Bucket | None, bucket_id: BucketId) -> Terms:
    """The terms of a bucket; raises NotFound for one that was never granted."""
    if bucket is None or bucket.terms is None:
        raise no_bucket(bucket_id)
    return bucket.terms


def must_be_at(facility_id: FacilityId, terms: Terms) -> None:
    """Raises Conflict if a case moved after it was shared: who owned it shows it no longer (A17)."""
    if facility_id != terms.facility_id:
        raise Conflict("a case of the share has moved to another facility: the share can only be revoked")


def no_bucket(bucket_id: BucketId, field: str = "bucket_id") -> NotFound:
    """The answer for a bucket that does not exist or gives no sight to who asks."""
    return NotFound(f"there is no part of a share with the id `{bucket_id}`", field=field)
