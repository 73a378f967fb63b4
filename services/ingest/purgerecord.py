"""The purge record: how far the deletion of a case has come (A60).

Whatever ends the process in between, the record goes on from where it was: at the next start, and by timer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum, StrEnum

from kernel.ids import CaseId, DeletionId, FacilityId, PackId, StudyId

NAME, ACCESS, ROUTING = "ingest", "access", "routing"
CONFIRM = (ACCESS, "notify", "reporting", ROUTING, "sharing")
"""The services that keep something of a case."""


class State(StrEnum):
    """How far a deletion has come."""

    ASKED = "asked"
    """Saved before access is asked, so that no deletion is forgotten."""
    BEGUN = "begun"
    """Access has hidden the case: its studies are purged here, and everybody is told."""
    CLOSED = "closed"
    """All others have confirmed, and no row and no file is left here."""


class Act(Enum):
    """What is done to a purge record."""

    BEGIN = "access has hidden the case"
    LAPSE = "access refused, or never heard of it"
    TELL = "everybody is told, and told again after a minute without all confirmations"
    CONFIRM = "a service keeps nothing of the case any more"
    CLOSE = "everybody has confirmed"
    REPEAT = "access has hidden the case once more: a service was restored from a backup, and held it again"


AFTER: Mapping[tuple[State, Act], State | None] = {
    (State.ASKED, Act.BEGIN): State.BEGUN,
    (State.ASKED, Act.LAPSE): None,
    (State.BEGUN, Act.TELL): State.BEGUN,
    (State.BEGUN, Act.CONFIRM): State.BEGUN,
    (State.BEGUN, Act.CLOSE): State.CLOSED,
    (State.BEGUN, Act.REPEAT): State.BEGUN,
    (State.CLOSED, Act.REPEAT): State.BEGUN,
}
"""The whole life of a purge record; None: it is gone. What is absent has no effect: it came before."""


@dataclass(frozen=True, slots=True)
class Begun:
    """What access answers once it has hidden the case."""

    study_ids: tuple[StudyId, ...]
    facility_id: FacilityId
    revision: str


@dataclass(frozen=True, slots=True)
class Deletion:
    """The purge record of a case.

    Attributes:
        facility_id: the owner; none while access has not answered.
        revision: of sight after the case was hidden.
        version: how often the deletion was told.
        confirmed: the services that keep nothing of the case any more.
        something_left: whether ingest itself still has rows or files of it.
    """

    deletion_id: DeletionId
    case_id: CaseId
    facility_id: FacilityId | None
    deleted_by: str
    asked_at: datetime
    begun_at: datetime | None = None
    closed_at: datetime | None = None
    revision: str = ""
    version: int = 0
    told_at: datetime | None = None
    confirmed: frozenset[str] = frozenset()
    something_left: bool = False

    @property
    def state(self) -> State:
        if self.closed_at is not None:
            return State.CLOSED
        return State.ASKED if self.begun_at is None else State.BEGUN

    @property
    def waiting_for(self) -> tuple[str, ...]:
        """Who has to do something yet; ingest itself while something is left here."""
        match self.state:
            case State.ASKED:
                return (ACCESS,)
            case State.BEGUN:
                others = (name for name in CONFIRM if name not in self.confirmed)
                return (*others, *([NAME] if self.something_left else ()))
            case State.CLOSED:
                return ()

    def lets(self, act: Act) -> bool:
        """Whether the act has an effect; it closes only what waits for nobody."""
        return (self.state, act) in AFTER and not (act is Act.CLOSE and self.waiting_for)

    def begun(self, begun: Begun, now: datetime) -> "Deletion":
        """The record once access has answered."""
        after = self._after(Act.BEGIN, now)
        return replace(after, facility_id=begun.facility_id, revision=begun.revision)

    def told(self, now: datetime) -> "Deletion":
        """The record with the next version, which the fact says."""
        return replace(self._after(Act.TELL, now), version=self.version + 1, told_at=now)

    def confirmed_by(self, service: str, now: datetime) -> "Deletion":
        """The record with one more confirmation."""
        return replace(self._after(Act.CONFIRM, now), confirmed=self.confirmed | {service})

    def closed(self, now: datetime) -> "Deletion":
        """The record at its end."""
        return self._after(Act.CLOSE, now)

    def repeated(self, revision: str, now: datetime) -> "Deletion":
        """The record that everybody has to confirm again. What ingest purged stays so."""
        return replace(self._after(Act.REPEAT, now), revision=revision, confirmed=frozenset())

    def _after(self, act: Act, now: datetime) -> "Deletion":
        state = AFTER[self.state, act]
        return replace(
            self,
            begun_at=self.begun_at or now,
            closed_at=now if state is State.CLOSED else None,
        )


@dataclass(frozen=True, slots=True)
class DoomedFile:
    """A file of a purged study: a pack, or a quarantined data set by its digest."""

    pack_id: PackId | None
    sha256: bytes | None
