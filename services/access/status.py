"""StudyStatusID: how far the reading of a case has come, in one word (A64).

A case has one status, the first line that holds:

    READ             a final report is issued, and the case was not reopened
    IN_TRANSMIT      its images have not settled, and there is no public report
    TRANSCRIBED      a transcriptionist's draft is newer than the last public report
    DICTATED         somebody else's is
    ASSIGNED         there is an assignee
    READ             another public report is issued, and the case was not reopened
    READY_TO_READ    always

A pre-read never counts. For the facility side drafts and assignees do not count either. DISREGARD and
FOR_COMPARISON are set by hand, and no verb sets them yet.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from kernel.reading import DraftState, Side


class Status(StrEnum):
    """StudyStatusID, as lists show it and filters ask for it."""

    READ = "READ"
    IN_TRANSMIT = "IN_TRANSMIT"
    TRANSCRIBED = "TRANSCRIBED"
    DICTATED = "DICTATED"
    ASSIGNED = "ASSIGNED"
    READY_TO_READ = "READY_TO_READ"


class ReadingState(StrEnum):
    """How far a case was read, by the reports that a side sees; a pre-read never counts (A33)."""

    UNREAD = "unread"
    PRELIMINARY = "preliminary"
    FINAL = "final"
    REOPENED = "reopened"


@dataclass(frozen=True, slots=True)
class Known:
    """What the status of a case depends on.

    Attributes:
        settled: whether every received study had settled once; what comes later changes no status (A55).
        draft: whose draft is newer than the last public report.
    """

    settled: bool
    state: ReadingState
    draft: DraftState = DraftState.NONE
    is_assigned: bool = False

    def to(self, side: Side) -> "Known":
        """What a side knows of it."""
        return self if side is Side.GROUP else replace(self, draft=DraftState.NONE, is_assigned=False)


LINES: Sequence[tuple[Status, Callable[[Known], bool]]] = (
    (Status.READ, lambda known: known.state is ReadingState.FINAL),
    (Status.IN_TRANSMIT, lambda known: not known.settled and known.state is ReadingState.UNREAD),
    (Status.TRANSCRIBED, lambda known: known.draft is DraftState.TRANSCRIBED),
    (Status.DICTATED, lambda known: known.draft is DraftState.DICTATED),
    (Status.ASSIGNED, lambda known: known.is_assigned),
    (Status.READ, lambda known: known.state is ReadingState.PRELIMINARY),
    (Status.READY_TO_READ, lambda known: True),
)
"""The table above."""


def study_status_id(known: Known) -> Status:
    """Return the status of the first line that holds."""
    return next(status for status, holds in LINES if holds(known))
