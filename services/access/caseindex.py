"""The case index: what access keeps of a case, from three owners.

Routing says which facility owns a case and which series belong to it; ingest says what was received;
reporting says how far it was read. Each snapshot carries its owner's version, and only what is newer counts,
so that order and repetition do not matter. Series that do not belong to the case are neither counted nor
shown. Of the reading there are two projections, of which a user is answered one (A59).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from kernel.ids import CaseId, DeletionId, FacilityId, StudyId
from services.access.domain import ConfirmedStudy, ReadType, Side


class ReadingState(StrEnum):
    """How far a case was read, as one side sees it; a pre-read never counts (A33)."""

    UNREAD = "unread"
    PRELIMINARY = "preliminary"
    FINAL = "final"
    REOPENED = "reopened"


# StudyStatusID by whether every received study has settled, and the state of the reading (A55). What was
# reported stays so when more images come.
STUDY_STATUS_ID: Mapping[tuple[bool, ReadingState], str] = {
    (False, ReadingState.UNREAD): "IN_TRANSMIT",
    (True, ReadingState.UNREAD): "READY_TO_READ",
    (False, ReadingState.PRELIMINARY): "PRELIMINARY",
    (True, ReadingState.PRELIMINARY): "PRELIMINARY",
    (False, ReadingState.FINAL): "FINAL",
    (True, ReadingState.FINAL): "FINAL",
    (False, ReadingState.REOPENED): "IN_TRANSMIT",
    (True, ReadingState.REOPENED): "READY_TO_READ",
}


@dataclass(frozen=True, slots=True)
class Placement:
    """Routing's snapshot of a case."""

    case_id: CaseId
    facility_id: FacilityId
    study_instance_uid: str
    undistributed: bool
    studies: tuple[ConfirmedStudy, ...]
    placed_at: datetime
    version: int


@dataclass(frozen=True, slots=True)
class ReceivedSeries:
    """What the index keeps of a series."""

    series_instance_uid: str
    modality: str
    instance_count: int


@dataclass(frozen=True, slots=True)
class StudyAttributes:
    """Study-level attributes as received; empty where absent."""

    patient_name: str = ""
    patient_id: str = ""
    patient_birth_date: str = ""
    patient_sex: str = ""
    study_date: str = ""
    study_time: str = ""
    study_description: str = ""
    accession_number: str = ""
    referring_physician_name: str = ""


@dataclass(frozen=True, slots=True)
class ReceivedStudy:
    """Ingest's snapshot of a received study."""

    id: StudyId
    received_at: datetime
    settled: bool
    attributes: StudyAttributes
    series: tuple[ReceivedSeries, ...]
    version: int


@dataclass(frozen=True, slots=True)
class Lock:
    """The exclusive right to report a case, while it lives."""

    holder_login: str
    holder_name: str
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class Projection:
    """The reading of a case as one side sees it.

    Attributes:
        read_types: those of the reports.
        reported_at: when the last of them was signed.
    """

    state: ReadingState = ReadingState.UNREAD
    lock: Lock | None = None
    read_types: frozenset[ReadType] = frozenset()
    reported_at: datetime | None = None


NOT_READ = Projection()


@dataclass(frozen=True, slots=True)
class Reading:
    """Reporting's snapshot of the reading of a case, by side."""

    case_id: CaseId
    projections: Mapping[Side, Projection]
    version: int


@dataclass(frozen=True, slots=True)
class CaseSummary:
    """What the worklist shows of a case, over the series that belong to it."""

    attributes: StudyAttributes
    modalities_in_study: tuple[str, ...]
    series_count: int
    instance_count: int
    settled: bool


@dataclass(frozen=True, slots=True)
class IndexedCase:
    """A case as far as its owners' snapshots were heard.

    Attributes:
        received_at: when its first instance was received, as known when the case was first indexed; never
            changes, because lists are sorted by it.
        studies: the received studies of the placement whose snapshots are known.
    """

    placement: Placement
    received_at: datetime
    studies: tuple[ReceivedStudy, ...]

    @classmethod
    def first(cls, placement: Placement, studies: Iterable[ReceivedStudy]) -> "IndexedCase":
        """A case that was not known before."""
        known = tuple(studies)
        received_at = min((study.received_at for study in known), default=placement.placed_at)
        return cls(placement, received_at, ()).hear(placement, known)

    def hear(self, placement: Placement | None, studies: Iterable[ReceivedStudy]) -> "IndexedCase":
        """The case after snapshots were heard: of each owner the newest, of the placement's studies only."""
        if placement is None or placement.version <= self.placement.version:
            placement = self.placement
        newest = {study.id: study for study in self.studies}
        for study in studies:
            if study.id not in newest or study.version > newest[study.id].version:
                newest[study.id] = study
        placed = (newest.get(confirmed.study_id) for confirmed in placement.studies)
        return replace(self, placement=placement, studies=tuple(study for study in placed if study))

    def summary(self) -> CaseSummary:
        """What the worklist shows."""
        confirmed = {study.study_id: study.series_instance_uids for study in self.placement.studies}
        series = [
            series
            for study in self.studies
            for series in study.series
            if (uids := confirmed[study.id]) is None or series.series_instance_uid in uids
        ]
        earliest = min(self.studies, key=lambda study: study.received_at, default=None)
        return CaseSummary(
            attributes=StudyAttributes() if earliest is None else earliest.attributes,
            modalities_in_study=tuple(sorted({s.modality for s in series if s.modality})),
            series_count=len(series),
            instance_count=sum(s.instance_count for s in series),
            settled=bool(self.studies) and all(study.settled for study in self.studies),
        )


@dataclass(frozen=True, slots=True)
class Deletion:
    """A deletion that has begun.

    Attributes:
        id: minted by ingest, which may ask again under it.
        facility_id: the owner of the case.
        study_ids: the studies of the case, as far as access knew them.
    """

    id: DeletionId
    case_id: CaseId
    facility_id: FacilityId
    study_ids: tuple[StudyId, ...]


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a list of cases, newest first: after this case."""

    received_at: datetime
    case_id: CaseId


@dataclass(frozen=True, slots=True)
class ListedCase:
    """A case as a worklist shows it to one side."""

    case_id: CaseId
    facility_id: FacilityId
    facility_name: str
    received_at: datetime
    study_instance_uid: str
    undistributed: bool
    summary: CaseSummary
    reading: Projection

    @property
    def study_status_id(self) -> str:
        return STUDY_STATUS_ID[self.summary.settled, self.reading.state]

    def at(self, now: datetime) -> "ListedCase":
        """The case as it is at an instant: a lock that has ended is none."""
        lock = self.reading.lock
        if lock is None or now < lock.ends_at:
            return self
        return replace(self, reading=replace(self.reading, lock=None))
