"""How far a case is read: what reporting says of it, to whom it is assigned, and what follows for filters.

Of a reading there are two projections, of which a user is answered one (A59).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from kernel.ids import CaseId
from kernel.reading import DraftState, ReadType, Side
from services.access.status import Known, ReadingState, Status, study_status_id


@dataclass(frozen=True, slots=True)
class Lock:
    """The exclusive right to report a case, while it lives.

    Attributes:
        since: when its holder took it; None if nobody knows.
    """

    holder_login: str
    holder_name: str
    ends_at: datetime
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class AtLock:
    """How the reading stood when its lock began."""

    state: ReadingState
    draft: DraftState
    read_types: frozenset[ReadType]


@dataclass(frozen=True, slots=True)
class Projection:
    """The reading of a case as one side sees it.

    Attributes:
        read_types: those of the reports.
        reported_at: when the last of them was signed.
        instance_count: how many instances the case had at the last signature that counts for the side; None
            if nobody knows.
        draft: whose draft is newer than the last public report; the facility is told of none.
        waits_since: since when it waits to be read again: its reopening, else the last public report if that
            is not final; None while it is unread or final, and if nobody knows.
    """

    state: ReadingState = ReadingState.UNREAD
    lock: Lock | None = None
    read_types: frozenset[ReadType] = frozenset()
    reported_at: datetime | None = None
    instance_count: int | None = None
    draft: DraftState = DraftState.NONE
    waits_since: datetime | None = None


NOT_READ = Projection()


@dataclass(frozen=True, slots=True)
class Signed:
    """Of a report, who signed it as what and when."""

    read_type: ReadType
    author_login: str
    completed_at: datetime


@dataclass(frozen=True, slots=True)
class Reading:
    """Reporting's snapshot of the reading of a case, by side.

    Attributes:
        drafted: whether anybody keeps an unsigned text.
        at_lock: how the group's projection stood when the lock began; None without a lock, and where
            reporting does not know.
        signed: every report; none from a reporting of the version before.
    """

    case_id: CaseId
    projections: Mapping[Side, Projection]
    version: int
    drafted: bool = False
    at_lock: AtLock | None = None
    signed: tuple[Signed, ...] = ()


@dataclass(frozen=True, slots=True)
class Followed:
    """What of the entry of a case follows its reading and its assignment, as filters ask for it (A59, A64).

    Attributes:
        reported_types: as the filter language writes them, sorted.
        locked_by: login of who holds the lock until `locked_until`; empty without one.
        status_at_lock, reported_types_at_lock: as the group knew them when the lock began: so they count for
            its holder. Who assigns the case meanwhile, and images that settle, count as they are now.
    """

    status_group: Status
    status_facility: Status
    reported_types_group: tuple[str, ...]
    reported_types_facility: tuple[str, ...]
    locked_by: str = ""
    locked_until: datetime | None = None
    status_at_lock: Status | None = None
    reported_types_at_lock: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Assignment:
    """Who is to read a case, by login, and since when."""

    assignee_login: str
    at: datetime

    def is_ended_by(self, signed: Iterable[Signed]) -> bool:
        """Whether the assignee has pre-read the case since: then it is for the next reader (A33)."""
        return any(
            each.read_type is ReadType.PRE_READ
            and each.author_login == self.assignee_login
            and each.completed_at > self.at
            for each in signed
        )


@dataclass(frozen=True, slots=True)
class KeptReading:
    """What is kept of a case that its status depends on.

    Attributes:
        projections: by side; of a side of which nothing was heard there is none.
        at_lock: as in Reading.
    """

    settled: bool
    assignment: Assignment | None
    projections: Mapping[Side, Projection]
    at_lock: AtLock | None = None

    def followed(self) -> Followed:
        """What follows from it."""
        group, facility = (self.projections.get(side, NOT_READ) for side in (Side.GROUP, Side.FACILITY))
        followed = Followed(
            self._status(Side.GROUP, group),
            self._status(Side.FACILITY, facility),
            _words(group.read_types),
            _words(facility.read_types),
        )
        if group.lock is None:
            return followed
        stood = self.at_lock or group  # as it is now where reporting does not know
        return replace(
            followed,
            locked_by=group.lock.holder_login,
            locked_until=group.lock.ends_at,
            status_at_lock=self._status(Side.GROUP, stood),
            reported_types_at_lock=_words(stood.read_types),
        )

    def _status(self, side: Side, stood: Projection | AtLock) -> Status:
        known = Known(self.settled, stood.state, stood.draft, self.assignment is not None)
        return study_status_id(known.to(side))


def _words(read_types: Iterable[ReadType]) -> tuple[str, ...]:
    return tuple(sorted(read_type.name for read_type in read_types))
