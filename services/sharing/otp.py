"""One-time codes: how one is made, when one is right, and how many may be sent (SEC-9, SEC-10, A41).

A code is six digits that live in a text message and nowhere else. What is kept of it is a digest under the
pepper, which binds it to one bucket and one login session.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum

from kernel.errors import Invalid
from kernel.ids import BucketId

LIFE = timedelta(minutes=10)
"""How long a code can be used: until, not including, this instant after it was made."""

MAX_WRONG_CODES = 5
"""In succession; the last of them blocks the bucket (SHR-9, A41)."""

JUDGED_WITHIN = timedelta(seconds=60)
"""A try that was counted has been judged after this time, or its judging failed: no call lasts longer."""

LIMITS = (
    (1, timedelta(seconds=30)),
    (3, timedelta(minutes=10)),
    (6, timedelta(days=1)),
)
"""So many texts in any such time, for each bucket and for each number (SEC-10)."""

REMEMBERED = max(within for _, within in LIMITS)
"""How far back a limit looks."""
FORGOTTEN_AT_ONCE = 5_000
"""Texts of one statement: more than are sent between two."""

MIN_PEPPER_CHARACTERS = 32

_NO_DIGEST = bytes(32)
_CODE = re.compile(r"[0-9]{6}")

RandBelow = Callable[[int], int]
"""A number from 0 to below the argument, each as likely as any other: `secrets.randbelow`."""


def new_code(rand_below: RandBelow) -> str:
    """Six digits; each of the million is as likely as any other."""
    return f"{rand_below(10**6):06}"


def checked_code(text: str) -> str:
    """Raises Invalid for what cannot be a code: it is no try."""
    if not _CODE.fullmatch(text):
        raise Invalid("a code has six digits (`code`)", field="code")
    return text


class Verdict(Enum):
    """What comparing said of a try."""

    RIGHT = "right"
    EXPIRED = "expired"
    """Otherwise right: it does not count (A41)."""
    OUTDATED = "outdated"
    """Right, but sent to a contact that has changed since: it does not count either."""
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Code:
    """What is kept of the last code that was sent for a bucket to one login session, until it is used.

    Attributes:
        contact_version: access's version of the contact that it was sent to; it counts for no other.
        lapsed: whether its end was seen to have come: it stays so, wherever the clock goes (R11).
    """

    bucket_id: BucketId
    session: str
    otp_digest: bytes = field(repr=False)
    created_at: datetime
    contact_version: int
    lapsed: bool = False

    @property
    def expires_at(self) -> datetime:
        return self.created_at + LIFE

    def has_expired(self, now: datetime) -> bool:
        """Also while the clock stands before the code was made: nobody knows by how much it is behind."""
        return self.lapsed or not self.created_at <= now < self.expires_at


@dataclass(frozen=True, slots=True)
class Redeemed:
    """A login session in which a code was redeemed, and the version of the contact that it was sent to."""

    bucket_id: BucketId
    session: str
    contact_version: int


class Pepper:
    """The secret without which a stored digest tells nothing, not even to who tries all codes."""

    def __init__(self, secret: str) -> None:
        if len(secret) < MIN_PEPPER_CHARACTERS:
            raise Invalid(f"the pepper is too short: expected at least {MIN_PEPPER_CHARACTERS} characters")
        self._key = secret.encode()

    def of_code(self, bucket_id: BucketId, session: str, code: str) -> bytes:
        """The id is of 16 bytes and the code of six, so no two triples make the same message."""
        return self._digest(b"code", bucket_id.bytes + session.encode() + code.encode())

    def of_number(self, mobile_number: str) -> bytes:
        """The digest under which texts to a number are counted; the number itself is kept nowhere."""
        return self._digest(b"number", mobile_number.encode())

    def judge(self, code: Code | None, redeemed: Redeemed, guess: str, now: datetime) -> Verdict:
        """What `guess` is. Takes as long whatever it is, and whether there is a code or not (SEC-9)."""
        kept = _NO_DIGEST if code is None else code.otp_digest
        matches = hmac.compare_digest(kept, self.of_code(redeemed.bucket_id, redeemed.session, guess))
        if code is None or not matches:
            return Verdict.WRONG
        if code.contact_version != redeemed.contact_version:
            return Verdict.OUTDATED
        return Verdict.EXPIRED if code.has_expired(now) else Verdict.RIGHT

    def _digest(self, what_for: bytes, message: bytes) -> bytes:
        return hmac.digest(self._key, what_for + b"\0" + message, hashlib.sha256)


@dataclass(frozen=True, slots=True)
class Tries:
    """The tries at a bucket since the last success, in whatever sessions and for whatever codes (A41).

    Each is counted before it is judged, and no sixth is counted. So at no time, in whatever order they are
    judged and whatever fails in between, have more than five been judged without a success.

        a try comes      counted + 1, if it is below five; else it is refused unjudged
        judged wrong     wrong + 1; the fifth blocks the bucket
        judged expired   counted - 1; outdated alike
        judged right     wrong = 0; of those counted, the ones that are being judged remain
        not judged       wrong + 1, once JUDGED_WITHIN has passed
        unblocked        both 0

    Attributes:
        counted: all of them, also those that are being judged, and those whose judging failed.
        wrong: those that were judged wrong.
        last_at: when the last one was counted.
    """

    counted: int = 0
    wrong: int = 0
    last_at: datetime | None = None

    @property
    def block(self) -> bool:
        """Whether the fifth in succession was wrong (SHR-9)."""
        return self.wrong >= MAX_WRONG_CODES

    @property
    def is_room(self) -> bool:
        """Whether another one may be counted."""
        return self.counted < MAX_WRONG_CODES

    def count(self, now: datetime) -> "Tries":
        """One more, if there is room."""
        return replace(self, counted=self.counted + 1, last_at=now)

    def after(self, verdict: Verdict) -> "Tries":
        """Once one that was counted is judged, be it after it was given up."""
        match verdict:
            case Verdict.WRONG:
                return replace(self, wrong=min(self.wrong + 1, self.counted))
            case Verdict.EXPIRED | Verdict.OUTDATED:
                return self.uncounted()
            case Verdict.RIGHT:
                return replace(self, counted=max(self.counted - self.wrong - 1, 0), wrong=0)

    def uncounted(self) -> "Tries":
        """Without one that does not count after all."""
        counted = max(self.counted - 1, 0)
        return replace(self, counted=counted, wrong=min(self.wrong, counted))

    def settled(self, now: datetime) -> "Tries":
        """With those wrong whose judging failed: a failure gives nobody a free try."""
        if self.last_at is None or now < self.last_at + JUDGED_WITHIN:
            return self
        return replace(self, wrong=self.counted)


def next_text_at(sent: Sequence[datetime], now: datetime) -> datetime | None:
    """When the next text may be sent, None for now, given when earlier ones were.

    A text from a time that the clock has not reached yet counts like one of this moment.
    """
    latest = sorted(sent, reverse=True)
    room_at = [
        latest[most - 1] + within
        for most, within in LIMITS
        if len(latest) >= most and latest[most - 1] + within > now
    ]
    return max(room_at, default=None)
