"""Why a report is not completed, and what becomes of its text.

Before a final report was issued, and after the case was reopened, every read type may follow (A35):

    after a final report    preliminary -    final - (an addendum)    other issued    pre-read -

A completion is refused for the first of these reasons, and the text is kept (A3):

    why                                      the text is kept                         their lock
    they do not see the case                 for them alone, if they held the lock    ends
    their level is below DRAFT               for them alone, if they held the lock    ends
    their level is below REPORT              as a draft                               ends
    they do not hold the lock                as a draft                               -
    their draft was saved by another page    beside the draft                         stays
    the case has no confirmed image          as a draft                               stays
    the read type is not theirs or active    as a draft                               stays
    the order of types                       as a draft                               stays
    the case has no room for it              as a draft                               stays

A draft is refused for the first two of them, and for those of lock and draft: then it is kept beside their
draft. No refused text replaces another draft of its author: unless it was made from that draft, it is kept
beside it, for its author alone. The refusal says what became of text and lock.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from kernel.errors import Conflict, Denied, Exhausted, Expired, ReadroomError
from kernel.ids import ReportId
from kernel.reading import PrivilegeLevel, ReadType
from services.reporting.domain import Draft, Reading, Report
from services.reporting.sight import Sight, no_case

AFTER_FINAL: Mapping[ReadType, str | None] = {
    ReadType.PRELIMINARY: "a final report was issued: a preliminary one needs the case reopened",
    ReadType.FINAL: "a final report was issued: add an addendum to it, or reopen the case",
    ReadType.OTHER: None,
    # Nobody at the facility would learn what it found after the official report.
    ReadType.PRE_READ: "a final report was issued: a pre-read comes before it",
}
"""What keeps a read type from being completed after a final report."""


NO_IMAGES = (
    "no image of the case is confirmed yet; wait until images arrive, or look at `readroom held list` for "
    "images that wait for a decision"
)


CHANGED_ELSEWHERE = "your draft was saved by another page or session since this text was made from it"


class Keep(Enum):
    """What becomes of a text that was refused."""

    DRAFT = "your text was kept as a draft"
    BESIDE = "your text was kept beside your draft, for you alone to see"
    FOR_AUTHOR = "your text was kept, for you alone to see"


@dataclass(frozen=True, slots=True)
class Own:
    """A text that somebody sends, and what of theirs is kept already.

    Attributes:
        made_from: the version of their draft that they had before them; 0: there was none; None: not told.
        draft: their draft, which they and perhaps others see.
        kept: what was kept for them alone when drafting was no longer theirs.
    """

    text: str
    made_from: int | None = None
    draft: Draft | None = None
    kept: Draft | None = None

    @property
    def is_stale(self) -> bool:
        """Whether the draft is not the one from which the text was made."""
        return self.made_from is not None and self.made_from != (self.draft.version if self.draft else 0)

    def placed(self, keep: Keep) -> Keep:
        """Where the text is kept so that it replaces nothing that it was not made from."""
        there = {Keep.DRAFT: self.draft, Keep.FOR_AUTHOR: self.kept}.get(keep)
        if there is None or there.text == self.text or self.made_from == there.version:
            return keep
        return Keep.BESIDE


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a text is refused, and what becomes of it and of the lock; None: it is not kept."""

    error: ReadroomError
    keep: Keep | None
    ends_lock: bool = False


def _lapsed(level: str) -> str:
    """Why somebody may no longer do what they could when they began."""
    return f"your privilege to {level} at the facility of the case has ended"


def refusal(
    reading: Reading,
    read_type: ReadType,
    own: Own,
    not_locked: Conflict | None,
    *,
    before: Sight,
    sight: Sight,
    active: frozenset[ReadType],
) -> Refusal | None:
    """Why a report may not be completed, the first reason of the table; None if it may.

    Args:
        not_locked: why the lock does not allow it.
        before: what access decided when the call came.
        sight: what it decided now, immediately before the commit.
        active: read types active at the owning facility.
    """
    refuse = _Refusing("the report is not completed", own, not_locked is None)
    lapsed = Expired if before.completes(read_type, active) else Denied
    if out_of_sight := refuse.out_of_sight(sight, lapsed):
        return out_of_sight
    if sight.level < PrivilegeLevel.REPORT:
        keep = Keep.DRAFT if sight.level >= PrivilegeLevel.DRAFT else refuse.for_author
        why = (
            _lapsed("report")
            if lapsed is Expired
            else "you need the level `report` at the facility of the case"
        )
        return refuse.because(lapsed, why, keep, ends_lock=refuse.was_theirs)
    if not_locked is not None:
        return refuse.because(Conflict, not_locked.sentence, Keep.DRAFT)
    if own.is_stale:
        return refuse.because(Conflict, CHANGED_ELSEWHERE, Keep.BESIDE)
    if sight.instance_count == 0:
        return refuse.because(Conflict, NO_IMAGES, Keep.DRAFT)
    if not sight.completes(read_type, active):
        why = f"`{read_type}` is not among your read types at the facility of the case, or not active there"
        return refuse.because(lapsed, why, Keep.DRAFT, field="read_type")
    if reading.is_final and (why_not := AFTER_FINAL[read_type]):
        return refuse.because(Conflict, why_not, Keep.DRAFT, field="read_type")
    return None


def no_room(own: Own, full: Exhausted) -> Refusal:
    """The refusal of a report that nothing else is against; who holds the lock keeps the text as a draft."""
    refuse = _Refusing("the report is not completed", own, was_theirs=True)
    return refuse.because(Exhausted, full.sentence, Keep.DRAFT, field="text")


def draft_refusal(own: Own, not_locked: Conflict | None, sight: Sight) -> Refusal | None:
    """Why a draft may not be saved; None if it may. Who never might draft keeps nothing.

    Args:
        not_locked: why the lock does not allow it.
        sight: what access decided when the call came.
    """
    refuse = _Refusing("the draft is not saved", own, not_locked is None)
    lapsed = Expired if refuse.was_theirs else Denied
    if out_of_sight := refuse.out_of_sight(sight, lapsed):
        return out_of_sight
    if sight.level < PrivilegeLevel.DRAFT:
        why = (
            _lapsed("draft")
            if lapsed is Expired
            else "you need the level `draft` at the facility of the case"
        )
        return refuse.because(lapsed, why, refuse.for_author, ends_lock=refuse.was_theirs)
    if not_locked is not None:
        return refuse.because(Conflict, not_locked.sentence, Keep.BESIDE)
    if own.is_stale:
        return refuse.because(Conflict, CHANGED_ELSEWHERE, Keep.BESIDE)
    return None


@dataclass(frozen=True, slots=True)
class _Refusing:
    """What is refused. `was_theirs`: they hold the lock."""

    what: str
    own: Own
    was_theirs: bool

    @property
    def for_author(self) -> Keep | None:
        return Keep.FOR_AUTHOR if self.was_theirs else None

    def out_of_sight(self, sight: Sight, lapsed: type[ReadroomError]) -> Refusal | None:
        """The refusal for who does not see the case, or sees it no longer."""
        if sight.being_deleted or not (sight.allowed or self.was_theirs):
            return Refusal(no_case(), None)
        if not sight.allowed:
            return self.because(lapsed, "you no longer see the case", self.for_author, ends_lock=True)
        return None

    def because(
        self,
        word: type[ReadroomError],
        why: str,
        keep: Keep | None,
        *,
        ends_lock: bool = False,
        field: str | None = None,
    ) -> Refusal:
        placed = self.own.placed(keep) if keep else None
        became = [self.what + f": {why}"]
        if placed:
            became.append(placed.value)
        if self.was_theirs:
            became.append("your lock has ended" if ends_lock else "you still hold the lock")
        return Refusal(word("; ".join(became), field=field), placed, ends_lock)


@dataclass(frozen=True, slots=True)
class May:
    """What a user may do with the reading of a case now, told before they begin to write.

    Attributes:
        completes: the read types that they may complete, in their order.
        completes_nothing: why there are none; empty if there are some.
        adds_to: the reports to which they may add.
    """

    drafts: bool
    completes: tuple[ReadType, ...]
    completes_nothing: str
    adds_to: frozenset[ReportId]
    reopens: bool


def may(
    reading: Reading, reports: Iterable[Report], login: str, sight: Sight, active: frozenset[ReadType]
) -> May:
    """What the user may do, whoever holds the lock, if nothing changes.

    Args:
        reports: those that they are shown.
        active: read types active at the owning facility.
    """
    theirs = [each for each in ReadType if sight.completes(each, active)]
    open_ = tuple(each for each in theirs if not (reading.is_final and AFTER_FINAL[each]))
    return May(
        drafts=sight.level >= PrivilegeLevel.DRAFT,
        completes=open_,
        completes_nothing="" if open_ else _why_nothing(sight, theirs),
        adds_to=frozenset(
            each.id
            for each in reports
            if sight.may_complete(each.read_type, active, of_their_own=each.author.login == login)
        ),
        reopens=reading.is_final and sight.may_complete(ReadType.FINAL, active),
    )


def _why_nothing(sight: Sight, theirs: Sequence[ReadType]) -> str:
    if theirs:
        return "a final report was issued: add an addendum to it, or reopen the case"
    if sight.level < PrivilegeLevel.DRAFT:
        return "you may read here and not write"
    if sight.only_drafts:
        return "your role writes drafts and completes no report: a radiologist signs"
    if sight.level < PrivilegeLevel.REPORT:
        return (
            "you may write drafts here; to complete you need the level `report` at the facility of the case"
        )
    return "no read type that is active at the facility of the case is among yours there"
