"""What a notice is, when a reminder is due, and what may stand in a mail. No I/O, no clock."""

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum

from kernel.delivery import Delivery, Event, State, Undelivered
from kernel.errors import Invalid
from kernel.ids import BucketId, CaseId, FacilityId, NoticeId, UserId
from kernel.language import Language
from kernel.mailboxes import Mailbox, mailbox


class Message(StrEnum):
    """Which mail; the folder of its templates."""

    SHARE_CREATED = "share_created"
    PRIVILEGE_EXPIRING = "privilege_expiring"
    PRIVILEGE_EXPIRING_OFFICE = "privilege_expiring_office"


@dataclass(frozen=True, slots=True)
class AboutBucket:
    """A share's part for one recipient."""

    bucket_id: BucketId
    facility_id: FacilityId

    @property
    def intent(self) -> str:
        return f"bucket:{self.bucket_id}"


@dataclass(frozen=True, slots=True)
class AboutPrivilege:
    """The end of a privilege, so many days before it comes."""

    user_id: UserId
    facility_id: FacilityId
    expires_at: datetime
    days: int

    @property
    def intent(self) -> str:
        return f"privilege:{self.user_id}:{self.facility_id}:{self.expires_at:%Y-%m-%dT%H:%M}:{self.days}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice(Delivery):
    """One message to one person: that it is to be told, not what."""

    id: NoticeId
    message: Message
    about: AboutBucket | AboutPrivilege
    asked_at: datetime


NOT_AGAIN: Mapping[State, str] = {
    State.WAITING: "the mail waits for its next attempt: nothing needs to be resent",
    State.SENT: "the mail server has taken the mail: it is not sent twice",
    State.CANCELLED: (
        "the mail was cancelled: {reason}; a reminder comes anew when its user can be reached and the "
        "privilege still stands, a mail about a share when it is shared again"
    ),
}
"""What is said to who wants a notice sent again that is not dead, and of which it is known what became."""


def why_not_again(notice: Notice) -> str:
    """Why the notice is not sent again, and what can be done instead."""
    return NOT_AGAIN[notice.state].format(reason=notice.last_error)


KEPT_FOR = timedelta(days=90)
"""How long a settled notice can be looked up; no fact comes again after so long."""

FORGOTTEN_AT_ONCE = 5_000
"""Notices of one statement: a fraction of what it may take."""

# Reminders

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Expiring:
    """A privilege that will expire.

    Attributes:
        last_days: the step that was reminded of last; None: none yet.
    """

    user_id: UserId
    facility_id: FacilityId
    expires_at: datetime
    last_days: int | None = None


def due_step(expiring: Expiring, steps: Collection[int], now: datetime) -> int | None:
    """The step to be reminded of now (A51): the nearest that has come, unless it or a nearer one was already.

    So steps that had passed before the privilege was saved, or while nobody looked, are not made up for, and
    a clock that was set back repeats nothing (R11). After the end nothing is due.
    """
    left = expiring.expires_at - now
    if left <= timedelta():
        return None
    come = [days for days in steps if left <= days * DAY]
    if not come or (expiring.last_days is not None and expiring.last_days <= min(come)):
        return None
    return min(come)


# What the owners say


@dataclass(frozen=True, slots=True)
class Person:
    """A user as far as they are written to or of."""

    id: UserId
    version: int
    name: str
    active: bool
    email: str
    language: Language
    is_operator: bool = False


@dataclass(frozen=True, slots=True)
class Privilege:
    """A privilege that ends."""

    user_id: UserId
    facility_id: FacilityId
    facility_name: str
    expires_on: date
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Users:
    """A snapshot of users and their privileges that end."""

    people: Mapping[UserId, Person] = field(default_factory=dict)
    privileges: Sequence[Privilege] = ()


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket as its mail needs it."""

    id: BucketId
    facility_id: FacilityId
    sender_id: UserId
    recipient_id: UserId
    case_ids: tuple[CaseId, ...]
    mail_due: bool
    urgent: bool
    message: str
    language: Language
    link: str
    ends_at: datetime | None


@dataclass(frozen=True, slots=True)
class Exam:
    """All that a mail tells of a case (A52)."""

    initials: str
    description: str
    study_date: date | None


# Mails


@dataclass(frozen=True, slots=True)
class Letter:
    """A rendered mail.

    Attributes:
        reference: the same at each attempt; its Message-ID is made of it.
    """

    to: str
    subject: str
    text: str
    html: str
    reference: str
    language: Language
    urgent: bool = False


MAX_LINE_CHARACTERS = 200
"""Longer names and descriptions say nothing more."""

MAX_TEXT_CHARACTERS = 2_000

# Overrides and isolates of the direction of text make a line say something else than it does; U+061C, U+200E
# and U+200F only mark letters, and stay.
_DIRECTION = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)])


def one_line(text: str) -> str:
    """A name or description as one line that cannot begin a header, hide or reorder anything (SEC-12)."""
    return _shortened(" ".join(_printable(text, keep="").split()), MAX_LINE_CHARACTERS)


def lines(text: str) -> Sequence[str]:
    """A message as its lines."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _shortened(_printable(text, keep="\n").strip(), MAX_TEXT_CHARACTERS).split("\n")


def _printable(text: str, keep: str) -> str:
    return "".join(
        each if each in keep or unicodedata.category(each) not in ("Cc", "Cs", "Zl", "Zp") else " "
        for each in text.translate(_DIRECTION)
    )


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def study_date(text: str) -> date | None:
    """A DICOM date (PS3.5 6.2), or None for what is none: then the mail says nothing of it."""
    if re.fullmatch("[0-9]{8}", text) is None:
        return None
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return None


def addressed(address: str) -> Mailbox:
    """The mailbox of an address; raises Undelivered for what is none."""
    try:
        return mailbox(address)
    except ValueError as error:
        raise Undelivered(Event.REFUSED, "the address is not one that mail can be sent to") from error


# Text messages

_CODE = re.compile("[0-9]{6}")


def checked_code(code: str) -> str:
    """Raises Invalid for what is no one-time code."""
    if _CODE.fullmatch(code) is None:
        raise Invalid("`code` is not six digits", field="code")
    return code


class Breaker:
    """Stops asking a part that has failed several times in succession, until a while has passed.

    Then it is asked once; its next failure or success decides.
    """

    LIMIT = 5
    PAUSE = timedelta(seconds=30)

    def __init__(self) -> None:
        self._failures = 0
        self._open_until: datetime | None = None

    def lets(self, now: datetime) -> bool:
        """Whether the part may be asked now; after a pause the first who asks may, and the others wait on."""
        if self._open_until is None:
            return True
        if timedelta() < self._open_until - now <= self.PAUSE:  # more than that: the clock was set back
            return False
        self._open_until = now + self.PAUSE
        return True

    def succeeded(self) -> None:
        self._failures = 0
        self._open_until = None

    def failed(self, now: datetime) -> None:
        self._failures += 1
        if self._failures >= self.LIMIT:
            self._open_until = now + self.PAUSE
