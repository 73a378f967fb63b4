"""Who may write what about a case.

One person at a time holds the lock of a case, in one of their login sessions, for a lease that they renew;
it ends by the clock (A37). How the lock stands to who acts, and what the act makes of it; what is not in the
table is refused:

    it is                    lock     take over  renew    unlock  save draft  complete  break
    free                     a lease  a lease    -        -       -           -         -
    their own                a lease  a lease    a lease  ends    stays       ends      ends
    in another session       -        a lease    -        -       -           -         ends
    another's                -        -          -        -       -           -         ends, with notice
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import Enum, StrEnum

from kernel.errors import Conflict, Exhausted, Invalid, NotFound
from kernel.ids import CaseId, ReportId, UserId
from kernel.reading import PUBLIC_READ_TYPES, DraftState, ReadType
from services.reporting.sight import LateImages, Person, Sight, no_case

MAX_TEXT_CHARACTERS = 200_000
"""About 80 printed pages; in UTF-8 it stays below the 1 MiB of a request."""

MAX_CASE_BYTES = 3 << 20
"""What is written about one case: one answer carries it, with room to spare below the 4 MiB of a message."""

MAX_CASE_REPORTS = 200


def no_report() -> NotFound:
    """The answer for a report that does not exist or that the caller does not see."""
    return NotFound("there is no such report, or you do not see it", field="report_id")


_LINE_ENDS = re.compile("\r\n|[\r\f\v\x85\u2028\u2029]")
_BYTE_ORDER_MARK = "\ufeff"


def checked_text(text: str) -> str:
    """The text as it is kept, without a byte order mark, and with a line feed wherever a line or a page ends.

    Raises Invalid for a text of the wrong length, and for any other control character but a tab.
    """
    text = _LINE_ENDS.sub("\n", text.removeprefix(_BYTE_ORDER_MARK))
    if not 1 <= len(text) <= MAX_TEXT_CHARACTERS or text.isspace():
        raise Invalid(
            f"`text` must have 1 to {MAX_TEXT_CHARACTERS} characters, and not only blanks",
            field="text",
        )
    for number, line in enumerate(text.split("\n"), 1):
        for character in line:
            if unicodedata.category(character) == "Cc" and character != "\t":
                raise Invalid(
                    f"`text` contains the control character U+{ord(character):04X} in line {number}: "
                    "remove it",
                    field="text",
                )
    return text


# Unsigned texts


def draft_state(are_transcribed: Iterable[bool]) -> DraftState:
    """Return what the drafts come to that wait, of each whether a transcriptionist wrote it."""
    known = set(are_transcribed)
    if True in known:
        return DraftState.TRANSCRIBED
    return DraftState.DICTATED if known else DraftState.NONE


# The lock


@dataclass(frozen=True, slots=True)
class Stood:
    """How a reading stood at an instant, as far as it decides on which worklist the case is."""

    read_types: frozenset[ReadType]
    reopened: bool
    draft: DraftState


@dataclass(frozen=True, slots=True)
class Lock:
    """The exclusive right to report a case, until `ends_at`.

    Attributes:
        at_start: how the reading stood when the lock began.
        since: when that was; each is None if the version before has written it.
        session: the login session in which it is held; None, as the version before wrote it: in all of them.
    """

    holder: Person
    ends_at: datetime
    at_start: Stood | None = None
    since: datetime | None = None
    session: str | None = None


@dataclass(frozen=True, slots=True)
class BrokenLock:
    """What a holder is told whose lock was broken."""

    by_name: str
    at: datetime


class Hold(Enum):
    """How the lock of a case stands to who acts."""

    FREE = "nobody holds it, or its end has come"
    OWN = "they hold it"
    ELSEWHERE = "they hold it in another login session"
    TAKEN = "somebody else holds it"


class Act(StrEnum):
    """What touches the lock."""

    LOCK = "lock"
    TAKE_OVER = "take over"
    RENEW = "renew"
    UNLOCK = "unlock"
    SAVE_DRAFT = "save draft"
    COMPLETE = "complete"
    BREAK = "break"


class Then(Enum):
    """What an act makes of the lock."""

    LEASE = "who acts has it for a lease from now"
    STAYS = "it stays as it is"
    ENDS = "nobody has it"


LOCKING: Mapping[tuple[Hold, Act], Then] = {
    (Hold.FREE, Act.LOCK): Then.LEASE,
    (Hold.FREE, Act.TAKE_OVER): Then.LEASE,
    (Hold.OWN, Act.LOCK): Then.LEASE,
    (Hold.OWN, Act.TAKE_OVER): Then.LEASE,
    (Hold.OWN, Act.RENEW): Then.LEASE,
    (Hold.OWN, Act.UNLOCK): Then.ENDS,
    (Hold.OWN, Act.SAVE_DRAFT): Then.STAYS,
    (Hold.OWN, Act.COMPLETE): Then.ENDS,
    (Hold.OWN, Act.BREAK): Then.ENDS,
    (Hold.ELSEWHERE, Act.TAKE_OVER): Then.LEASE,
    (Hold.ELSEWHERE, Act.BREAK): Then.ENDS,
    (Hold.TAKEN, Act.BREAK): Then.ENDS,
}
"""The table above; what is not in it is illegal."""


@dataclass(frozen=True, slots=True)
class Issued:
    """What of the reports of one read type the reading depends on.

    Attributes:
        completed_at: when the last of them was signed.
        instance_count: the most instances that the case had when one of them, or an addendum to it, was
            signed; None if nobody knows.
    """

    read_type: ReadType
    completed_at: datetime
    instance_count: int | None = None

    def signed_on(self, instance_count: int | None) -> "Issued":
        """The same after another signature, when the case had so many instances."""
        return replace(self, instance_count=most(self.instance_count, instance_count))


def most(*counts: int | None) -> int | None:
    """Return the largest of those that are known."""
    return max((count for count in counts if count is not None), default=None)


@dataclass(frozen=True, slots=True)
class Reading:
    """How far the reading of a case has come. A lock whose end has come may still stand in it.

    Attributes:
        version: grows with each change of this.
        reopened: whether the case may be read again although a final report was issued.
        reopened_at: since when; None if the version before has reopened it.
        issued: of each read type what was issued.
        drafted: whether anybody keeps an unsigned text, for whomever to see and however old.
        draft: whose unsigned text waits to be signed; None if the version before has written since.
    """

    case_id: CaseId
    version: int = 0
    lock: Lock | None = None
    reopened: bool = False
    issued: tuple[Issued, ...] = field(default=())
    drafted: bool = False
    draft: DraftState | None = DraftState.NONE
    reopened_at: datetime | None = None

    def hold(self, login: str, session: str, now: datetime) -> Hold:
        """How the lock stands to a user in a session at an instant; its end is no longer part of it (R11)."""
        if self.lock is None or now >= self.lock.ends_at:
            return Hold.FREE
        if self.lock.holder.login != login:
            return Hold.TAKEN
        return Hold.OWN if self.lock.session in (None, session) else Hold.ELSEWHERE

    def after(
        self,
        act: Act,
        actor: Person,
        session: str,
        now: datetime,
        lease: timedelta,
        broken: BrokenLock | None = None,
    ) -> "Reading":
        """The reading with what the act makes of the lock; raises Conflict if that is illegal.

        `broken` tells that a lock of the actor was broken, and they did not lock the case again.
        """
        hold = self.hold(actor.login, session, now)
        match LOCKING.get((hold, act)):
            case Then.LEASE:
                if self.lock and hold is not Hold.FREE:
                    lock = replace(self.lock, holder=actor, ends_at=now + lease, session=session)
                    return replace(self, lock=lock)
                return replace(self, lock=Lock(actor, now + lease, self.stands, now, session))
            case Then.ENDS:
                return replace(self, lock=None)
            case Then.STAYS:
                return self
        raise Conflict(self._why_not(act, actor.login, hold, broken))

    def _why_not(self, act: Act, login: str, hold: Hold, broken: BrokenLock | None) -> str:
        if act is Act.BREAK:
            return "nobody holds the lock of this case"
        if hold is Hold.ELSEWHERE:
            return (
                "you hold the lock of this case in another session of yours: take it over to go on here, "
                "or go on there"
            )
        if act in (Act.LOCK, Act.TAKE_OVER) and self.lock:
            return f"the case is locked by `{self.lock.holder.name}` until {_instant(self.lock.ends_at)}"
        if broken:
            return f"your lock was broken by `{broken.by_name}` at {_instant(broken.at)}"
        if self.lock and self.lock.holder.login == login:
            return f"your lock ended at {_instant(self.lock.ends_at)}"
        return "you do not hold the lock of this case"

    @property
    def stands(self) -> Stood | None:
        """How it stands now; None if nobody knows."""
        if self.draft is None:
            return None
        return Stood(frozenset(each.read_type for each in self.issued), self.reopened, self.draft)

    @property
    def public_at(self) -> datetime | None:
        """When the last public report was signed; a draft that is older waits no more."""
        return max(
            (each.completed_at for each in self.issued if each.read_type in PUBLIC_READ_TYPES), default=None
        )

    @property
    def waits_since(self) -> datetime | None:
        """Since when the case waits to be read again: its reopening, else a public report that is not final.

        None before the first public report, while a final one stands, and if nobody knows. A reopening of
        before the final report was written by this version, and followed by one of the version before.
        """
        final_at = max((i.completed_at for i in self.issued if i.read_type is ReadType.FINAL), default=None)
        if final_at is None:
            return self.public_at
        is_known = self.reopened and self.reopened_at is not None and self.reopened_at >= final_at
        return self.reopened_at if is_known else None

    @property
    def is_final(self) -> bool:
        """Whether a final report was issued, and the case not reopened since."""
        return not self.reopened and any(each.read_type is ReadType.FINAL for each in self.issued)

    def issue(self, read_type: ReadType, now: datetime, instance_count: int | None = None) -> "Reading":
        """The reading with one more report; a final one closes a reopened case."""
        before = next((each for each in self.issued if each.read_type is read_type), Issued(read_type, now))
        others = (each for each in self.issued if each.read_type is not read_type)
        return replace(
            self,
            issued=(*others, replace(before.signed_on(instance_count), completed_at=now)),
            reopened=self.reopened and read_type is not ReadType.FINAL,
        )

    def add(self, read_type: ReadType, instance_count: int | None) -> "Reading":
        """The reading with an addendum to a report of the type: who signs it has the images there are."""
        issued = tuple(
            each.signed_on(instance_count) if each.read_type is read_type else each for each in self.issued
        )
        return replace(self, issued=issued)

    def reopen(self, now: datetime) -> "Reading":
        if not self.is_final:
            raise Conflict("the case has no final report, so it is open already")
        return replace(self, reopened=True, reopened_at=now)


def _instant(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


# What is written


@dataclass(frozen=True, slots=True)
class Draft:
    """An unsigned text, which its author always sees.

    Attributes:
        author_only: what a refused completion left when drafting was no longer theirs; nobody else sees it.
        transcribed: whether a transcriptionist wrote it.
        beside: whether it was refused while its author had another draft, which it did not replace.
    """

    case_id: CaseId
    author: Person
    text: str
    saved_at: datetime
    author_only: bool = False
    transcribed: bool = False
    beside: bool = False

    @property
    def version(self) -> int:
        """Another with each save, and never one of before: the instant of saving, in microseconds."""
        return (self.saved_at - EPOCH) // timedelta(microseconds=1)


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def saved_after(draft: Draft | None, now: datetime) -> datetime:
    """When a text is saved in place of the draft: now, and later than the draft, whatever the clock says."""
    return max(now, draft.saved_at + timedelta(microseconds=1)) if draft else now


@dataclass(frozen=True, slots=True)
class Addendum:
    """A signed addition to a report."""

    author: Person
    text: str
    added_at: datetime
    revision: str


@dataclass(frozen=True, slots=True)
class Report:
    """A signed text.

    Attributes:
        revision: of sight, on which it was decided.
        instance_count: how many instances the case had, as access said in that decision; None if it did not.
        author_id: None if access did not tell.
    """

    id: ReportId
    case_id: CaseId
    read_type: ReadType
    author: Person
    text: str
    completed_at: datetime
    revision: str
    addenda: tuple[Addendum, ...] = ()
    instance_count: int | None = None
    author_id: UserId | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """What a user may see of what is written about a case.

    Attributes:
        elsewhere: whether the user holds the lock in another login session.
    """

    reports: tuple[Report, ...]
    drafts: tuple[Draft, ...]
    lock: Lock | None
    late: LateImages | None = None
    elsewhere: bool = False


def visible(
    reading: Reading,
    reports: Iterable[Report],
    drafts: Iterable[Draft],
    hold: Hold,
    sight: Sight,
) -> Written:
    """What the user may see, of the reports that are shown to them and the drafts that are theirs or shown.

    Without sight of the case that is the text that was kept for them alone, if there is one.
    """
    if not sight.allowed:
        kept = tuple(each for each in drafts if each.author_only and not sight.being_deleted)
        if not kept:
            raise no_case()
        return Written((), kept, None)
    lock = None if hold is Hold.FREE else reading.lock
    return Written(tuple(reports), tuple(drafts), lock, sight.late, hold is Hold.ELSEWHERE)


def check_room(text: str, bytes_written: int, reports_written: int = 0) -> None:
    """Raises Exhausted if a case has no room for one more text."""
    if bytes_written + len(text.encode()) > MAX_CASE_BYTES:
        raise Exhausted(f"what is written about a case is at most {MAX_CASE_BYTES >> 20} MiB", field="text")
    if reports_written >= MAX_CASE_REPORTS:
        raise Exhausted(f"a case has at most {MAX_CASE_REPORTS} reports")
