"""What each side sees of a reading in the lists (A59)."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from kernel.reading import PUBLIC_READ_TYPES, ReadType
from services.reporting.domain import Lock, Reading, most


class State(StrEnum):
    """How far reading has come."""

    UNREAD = "unread"
    PRELIMINARY = "preliminary"
    FINAL = "final"
    REOPENED = "reopened"


@dataclass(frozen=True, slots=True)
class Projection:
    """The state of reading as one side sees it; whether the lock lives, its reader's clock tells.

    `instance_count`: how many instances the case had at the last signature that counts; what it has beyond
    are images since the report. None if nobody knows, or there is no report.
    """

    state: State
    lock: Lock | None
    read_types: tuple[ReadType, ...]
    reported_at: datetime | None
    instance_count: int | None = None


def project(reading: Reading, shown: frozenset[ReadType]) -> Projection:
    """The projection for a side to which these read types are shown.

    A pre-read counts on neither side for the state: after it the case is as unread (A33). Where it is not
    shown it leaves nothing but its lock, and drafts are in no projection at all. Images are counted since the
    last public report: who pre-reads a reopened case answers for nothing that the final report has not seen.
    Before there is a public report they are counted since the last pre-read, for whom it is shown.
    """
    issued = [each for each in reading.issued if each.read_type in shown]
    types = {each.read_type for each in issued}
    if ReadType.FINAL in types:
        state = State.REOPENED if reading.reopened else State.FINAL
    else:
        state = State.PRELIMINARY if types & PUBLIC_READ_TYPES else State.UNREAD
    return Projection(
        state,
        reading.lock,
        tuple(each for each in ReadType if each in types),
        max((each.completed_at for each in issued), default=None),
        most(
            *(
                each.instance_count
                for each in issued
                if each.read_type in PUBLIC_READ_TYPES or not types & PUBLIC_READ_TYPES
            )
        ),
    )
