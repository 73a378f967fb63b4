"""What each side sees of a reading in the lists (A59)."""

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from kernel.ids import UserId
from kernel.reading import PUBLIC_READ_TYPES, DraftState, ReadType
from services.reporting.domain import Lock, Reading, Stood, most


class State(StrEnum):
    """How far reading has come."""

    UNREAD = "unread"
    PRELIMINARY = "preliminary"
    FINAL = "final"
    REOPENED = "reopened"


@dataclass(frozen=True, slots=True)
class AtLock:
    """How the reading stood when its lock began."""

    state: State
    draft: DraftState
    read_types: tuple[ReadType, ...]


@dataclass(frozen=True, slots=True)
class Signed:
    """Of a report, who signed it as what and when. `author_id`: None if access did not tell."""

    read_type: ReadType
    author_login: str
    author_id: UserId | None
    completed_at: datetime


@dataclass(frozen=True, slots=True)
class Projection:
    """The state of reading as one side sees it; whether the lock lives, its reader's clock tells.

    Attributes:
        instance_count: how many instances the case had at the last signature that counts; what it has beyond
            are images since the report. None if nobody knows, or there is no report.
        draft: whose unsigned text waits; of the group alone, as a pre-read is.
        at_lock: how it stood when the lock began, for the group; None without a lock, or if nobody knows.
        reports: those that the side sees, oldest first.
        waits_since: since when the case waits to be read again.
    """

    state: State
    lock: Lock | None
    read_types: tuple[ReadType, ...]
    reported_at: datetime | None
    instance_count: int | None = None
    draft: DraftState = DraftState.NONE
    at_lock: AtLock | None = None
    reports: tuple[Signed, ...] = ()
    waits_since: datetime | None = None


def project(reading: Reading, shown: frozenset[ReadType], signed: Sequence[Signed] = ()) -> Projection:
    """The projection for a side to which these read types are shown.

    A pre-read counts on neither side for the state: after it the case is as unread (A33). Where it is not
    shown it leaves nothing but its lock, and nothing of any draft is told there. Images are counted since the
    last public report: who pre-reads a reopened case answers for nothing that the final report has not seen.
    Before there is a public report they are counted since the last pre-read, for whom it is shown.
    """
    issued = [each for each in reading.issued if each.read_type in shown]
    types = {each.read_type for each in issued}
    is_group = ReadType.PRE_READ in shown
    stood = reading.lock.at_start if reading.lock and is_group else None
    return Projection(
        _state(types, reading.reopened),
        reading.lock and replace(reading.lock, at_start=None),
        _in_order(types),
        max((each.completed_at for each in issued), default=None),
        most(
            *(
                each.instance_count
                for each in issued
                if each.read_type in PUBLIC_READ_TYPES or not types & PUBLIC_READ_TYPES
            )
        ),
        (reading.draft or DraftState.NONE) if is_group else DraftState.NONE,
        _at_lock(stood) if stood else None,
        tuple(each for each in signed if each.read_type in shown),
        reading.waits_since,
    )


def _at_lock(stood: Stood) -> AtLock:
    return AtLock(_state(stood.read_types, stood.reopened), stood.draft, _in_order(stood.read_types))


def _state(types: Set[ReadType], reopened: bool) -> State:
    if ReadType.FINAL in types:
        return State.REOPENED if reopened else State.FINAL
    return State.PRELIMINARY if types & PUBLIC_READ_TYPES else State.UNREAD


def _in_order(types: Set[ReadType]) -> tuple[ReadType, ...]:
    return tuple(each for each in ReadType if each in types)
