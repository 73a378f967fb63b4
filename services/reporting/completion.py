"""Why a report is not completed, and what becomes of its text.

Before a final report was issued, and after the case was reopened, every read type may follow (A35):

    after a final report    preliminary -    final - (an addendum)    other issued    pre-read -

A completion is refused for the first of these reasons, and the text is kept (A3):

    why                                      the text is kept                         their lock
    they do not see the case                 for them alone, if they held the lock    ends
    their level is below DRAFT               for them alone, if they held the lock    ends
    their level is below REPORT              as a draft                               ends
    they do not hold the lock                as a draft                               -
    the case has no confirmed image          as a draft                               stays
    the read type is not theirs or active    as a draft                               stays
    the order of types                       as a draft                               stays
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from kernel.errors import Conflict, Denied, Expired, ReadroomError
from kernel.reading import PrivilegeLevel, ReadType
from services.reporting.domain import Reading
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


class Keep(Enum):
    """What becomes of a text that was not signed."""

    DRAFT = "your text was kept as a draft"
    FOR_AUTHOR = "your text was kept, for you alone to see"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a report is not completed, and what becomes of its text and of the lock; None: it is not kept."""

    error: ReadroomError
    keep: Keep | None
    ends_lock: bool = False


def refusal(
    reading: Reading,
    read_type: ReadType,
    login: str,
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
    was_his = not_locked is None
    for_author = Keep.FOR_AUTHOR if was_his else None
    lapsed = Expired if before.completes(read_type, active) else Denied
    if sight.being_deleted or not (sight.allowed or was_his):
        return Refusal(no_case(), None)
    if not sight.allowed:
        return _refused(lapsed, "you no longer see the case", for_author, ends_lock=True)
    if sight.level < PrivilegeLevel.REPORT:
        keep = Keep.DRAFT if sight.level >= PrivilegeLevel.DRAFT else for_author
        return _refused(
            lapsed, "you need the level `REPORT` at the facility of the case", keep, ends_lock=was_his
        )
    if not_locked is not None:
        return _refused(Conflict, not_locked.sentence, Keep.DRAFT)
    if sight.instance_count == 0:
        return _refused(Conflict, NO_IMAGES, Keep.DRAFT)
    if not sight.completes(read_type, active):
        why = f"`{read_type}` is not among your read types at the facility of the case, or not active there"
        return _refused(lapsed, why, Keep.DRAFT, field="read_type")
    if reading.is_final and (why_not := AFTER_FINAL[read_type]):
        return _refused(Conflict, why_not, Keep.DRAFT, field="read_type")
    return None


def _refused(
    word: type[ReadroomError],
    why: str,
    keep: Keep | None,
    *,
    ends_lock: bool = False,
    field: str | None = None,
) -> Refusal:
    sentence = f"the report is not completed: {why}" + (f"; {keep.value}" if keep else "")
    return Refusal(word(sentence, field=field), keep, ends_lock)
