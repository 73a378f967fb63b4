"""What sharing decides: how a bucket may stand, which share one is shared on from, and what is not there."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum, StrEnum

from kernel.errors import Conflict, Expired, NotFound, ReadroomError, Unavailable
from kernel.ids import BucketId, CaseId, FacilityId, ShareId, UserId
from kernel.language import Language
from services.sharing.otp import MAX_WRONG_CODES
from services.sharing.validity import is_earlier

# How a bucket stands


class State(StrEnum):
    """How a bucket stands. Only an active one gives sight."""

    PENDING = "pending"
    ACTIVE = "active"
    BLOCKED = "blocked"
    EXPIRED = "expired"
    REVOKED = "revoked"


class Act(Enum):
    """What is done to a bucket."""

    GRANT = "grant"
    BLOCK = "block"
    UNBLOCK = "unblock"
    SHORTEN = "shorten"
    LENGTHEN = "lengthen"
    EXPIRE = "expire"
    REVOKE = "revoke"


NEXT: dict[tuple[State, Act], State] = {
    (State.PENDING, Act.GRANT): State.ACTIVE,
    (State.PENDING, Act.SHORTEN): State.PENDING,
    (State.PENDING, Act.REVOKE): State.REVOKED,
    (State.ACTIVE, Act.BLOCK): State.BLOCKED,
    (State.ACTIVE, Act.SHORTEN): State.ACTIVE,
    (State.ACTIVE, Act.LENGTHEN): State.ACTIVE,
    (State.ACTIVE, Act.REVOKE): State.REVOKED,
    (State.BLOCKED, Act.UNBLOCK): State.ACTIVE,
    (State.BLOCKED, Act.SHORTEN): State.BLOCKED,
    (State.BLOCKED, Act.LENGTHEN): State.BLOCKED,
    (State.BLOCKED, Act.REVOKE): State.REVOKED,
    (State.EXPIRED, Act.LENGTHEN): State.ACTIVE,  # a renewal; one that was blocked is blocked again
    (State.EXPIRED, Act.EXPIRE): State.EXPIRED,
    (State.EXPIRED, Act.REVOKE): State.REVOKED,
    (State.REVOKED, Act.REVOKE): State.REVOKED,
}
"""What becomes of a bucket as it stands at that instant; what is not in it is refused."""

REFUSALS: dict[State, ReadroomError] = {
    State.PENDING: Conflict("the share is still being made"),
    State.ACTIVE: Conflict("the share is not blocked"),
    State.BLOCKED: Conflict("the share is blocked"),
    State.EXPIRED: Expired("the share has expired"),
    State.REVOKED: Conflict("the share has been revoked"),
}


def _refusal(stands: State) -> ReadroomError:
    error = REFUSALS[stands]
    return type(error)(error.sentence)


@dataclass(frozen=True, slots=True)
class Bucket:
    """One share's part for one recipient (A40).

    Attributes:
        version: grows with every change of how it stands or when it ends.
        accepted_version: the version that access last accepted; while it is behind, access is told again.
        wrong_codes: in succession.
        lengthening_since: when a later end was begun under this version; until access has granted it, or it
            is given up, everything else is as it was.
    """

    id: BucketId
    share_id: ShareId
    recipient_login: str
    recipient_user_id: UserId
    two_factor: bool
    send_mail: bool
    ends_at: datetime | None
    state: State = State.PENDING
    version: int = 1
    accepted_version: int = 0
    wrong_codes: int = 0
    opened_at: datetime | None = None
    lengthening_since: datetime | None = None

    def has_ended(self, now: datetime) -> bool:
        """Whether its last day has passed, recorded or not (R11)."""
        return self.ends_at is not None and self.ends_at <= now

    def stands(self, now: datetime) -> State:
        """How it stands at this instant: what has ended has expired, although nobody has recorded it yet."""
        if self.state in (State.ACTIVE, State.BLOCKED) and self.has_ended(now):
            return State.EXPIRED
        return self.state

    def after(self, act: Act, now: datetime) -> "Bucket":
        """The bucket after an act, as its next version; raises what forbids it. A later end that was begun is
        given up by it."""
        state, wrong_codes = self._state_after(act, now), 0 if act is Act.UNBLOCK else self.wrong_codes
        return replace(self.given_up(), state=state, wrong_codes=wrong_codes)

    def _state_after(self, act: Act, now: datetime) -> State:
        stands = self.stands(now)
        state = NEXT.get((stands, act))
        if state is None:
            raise _refusal(stands)
        is_used_up = act is not Act.UNBLOCK and self.wrong_codes >= MAX_WRONG_CODES
        return State.BLOCKED if state is State.ACTIVE and is_used_up else state

    def granted(self) -> "Bucket":
        """The bucket that access has granted as it was saved; a change made meanwhile is told next."""
        if self.state is not State.PENDING:
            raise _refusal(self.state)
        return replace(self, state=NEXT[self.state, Act.GRANT], accepted_version=1)

    def is_shortened_by(self, ends_at: datetime | None, now: datetime) -> bool:
        """Whether that end is earlier, and brings back nothing that has ended: it needs no grant."""
        return (self.stands(now), Act.SHORTEN) in NEXT and is_earlier(ends_at, self.ends_at)

    def shortened(self, ends_at: datetime | None, now: datetime) -> "Bucket":
        """The bucket with an earlier end."""
        return replace(self.after(Act.SHORTEN, now), ends_at=ends_at)

    def lengthening(self, now: datetime) -> "Bucket":
        """The bucket as its next version, before access is asked for a later end: else it is as it was."""
        self._state_after(Act.LENGTHEN, now)
        if self.accepted_version < self.version and self.lengthening_since is None:
            raise Unavailable("an earlier change of the share has not taken effect yet: try again")
        return replace(self, version=self.version + 1, lengthening_since=now)

    def lengthened(self, ends_at: datetime | None, now: datetime) -> "Bucket":
        """The bucket with the later end that access has granted under this version."""
        return replace(
            self,
            state=self._state_after(Act.LENGTHEN, now),
            ends_at=ends_at,
            accepted_version=self.version,
            lengthening_since=None,
        )

    def given_up(self) -> "Bucket":
        """The bucket without the later end that was begun, as its next version: access may have it."""
        return replace(self, version=self.version + 1, lengthening_since=None)

    @property
    def change(self) -> "Change":
        """What access is told of it."""
        ended = self.state in (State.EXPIRED, State.REVOKED)
        return Change(self.id, self.version, self.state is State.ACTIVE, self.ends_at, ended)


@dataclass(frozen=True, slots=True)
class Change:
    """How a bucket stands, as access is told."""

    bucket_id: BucketId
    version: int
    open: bool
    ends_at: datetime | None
    ended: bool = False


# What others know


class Rights(StrEnum):
    """What a recipient may do; images alone are not offered (SHR-12, SHR-13)."""

    READ_REPORT = "read_report"
    WRITE_REPORT = "write_report"


@dataclass(frozen=True, slots=True)
class User:
    """A user, as access describes them.

    Attributes:
        contact_version: grows when the e-mail address or the mobile number changes.
    """

    id: UserId
    login: str
    name: str
    active: bool
    language: Language
    email: str = ""
    mobile_number: str = ""
    contact_version: int = 1


@dataclass(frozen=True, slots=True)
class ActiveUser:
    """Who acts, once access has answered that they are an active user: nobody else receives anything.

    Made by `usecases.active_user` alone.
    """

    login: str
    mobile_number: str
    language: Language
    contact_version: int


@dataclass(frozen=True, slots=True)
class Sight:
    """Whether the acting user sees a case, and whether by a privilege."""

    allowed: bool
    by_privilege: bool
    facility_id: FacilityId | None


@dataclass(frozen=True, slots=True)
class Owner:
    """Which facility a case is at now."""

    facility_id: FacilityId
    time_zone: str


@dataclass(frozen=True, slots=True)
class Prospect:
    """What access says of a share before it is saved.

    Attributes:
        sights: of the cases, in the order asked; the rest is told only of cases that are all seen.
        may_share: whether the acting user holds `share.create` at the facility of the cases.
        owners: of the cases that there are.
        users: those that there are, by login.
    """

    sights: Sequence[Sight]
    may_share: bool
    owners: Mapping[CaseId, Owner]
    users: Mapping[str, User]


# Shares


@dataclass(frozen=True, slots=True)
class Share:
    """One share action.

    Attributes:
        parent_bucket_id: the bucket of the sender that it shares on.
        case_ids: in the order in which they were named.
        buckets: in the order of the recipients.
    """

    id: ShareId
    sender_login: str
    sender_user_id: UserId
    sender_name: str
    facility_id: FacilityId
    time_zone: str
    reason: str
    message: str
    language: Language
    urgent: bool
    rights: Rights
    allow_further_sharing: bool
    parent_bucket_id: BucketId | None
    shared_at: datetime
    case_ids: tuple[CaseId, ...]
    buckets: tuple[Bucket, ...]

    def bucket(self, bucket_id: BucketId) -> Bucket:
        return next(each for each in self.buckets if each.id == bucket_id)


@dataclass(frozen=True, slots=True)
class Received:
    """A bucket with its share, as the recipient may be shown it in one login session.

    Attributes:
        code_needed: whether a one-time code is still needed in this login session (A57).
    """

    share: Share
    bucket: Bucket
    code_needed: bool

    @property
    def blocked(self) -> bool:
        return self.bucket.state is State.BLOCKED

    @property
    def withheld(self) -> bool:
        """Whether cases and message, which may tell of the patient, are not shown now."""
        return self.code_needed or self.blocked or not self.share.case_ids

    def with_cases(self, seen: Collection[CaseId]) -> "Received":
        """The same with those of its cases alone."""
        kept = tuple(case_id for case_id in self.share.case_ids if case_id in seen)
        return replace(self, share=replace(self.share, case_ids=kept))


MAX_PARENTS = 1_000
"""Buckets of one recipient with the same cases that are looked at, the newest: nobody has as many."""


def most_allowing(candidates: Iterable[tuple[Bucket, Rights]]) -> Bucket | None:
    """Which of a recipient's buckets is shared on: one without codes, then with more rights, then for longer.

    Of those that allow the same, the oldest.
    """
    best = min(candidates, key=_allows_less, default=None)
    return best[0] if best else None


def _allows_less(candidate: tuple[Bucket, Rights]) -> tuple[bool, bool, float, BucketId]:
    bucket, rights = candidate
    ends_at_s = bucket.ends_at.timestamp() if bucket.ends_at else math.inf
    return bucket.two_factor, rights is not Rights.WRITE_REPORT, -ends_at_s, bucket.id


CASES_FACILITY = "the facility of the cases"
"""Where a permission counts that somebody lacks."""


# What is not there


def no_case() -> NotFound:
    """The same for an absent case and one that the user does not see."""
    return NotFound("there is no such case, or you do not see it", field="case_ids")


def no_share() -> NotFound:
    return NotFound("there is no such share, or you do not see it")


def no_bucket() -> NotFound:
    return NotFound("there is no such share, or you do not see it", field="bucket_id")


def no_link() -> NotFound:
    """The same for a link that is unknown, somebody else's, revoked or expired (A56)."""
    return NotFound("this link is not valid, or not for you: open the newest mail that you got", field="link")
