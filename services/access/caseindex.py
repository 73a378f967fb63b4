"""The case index: what access keeps of a case, from two owners.

Routing says which facility owns a case and which series belong to it; ingest says what was received. Each
snapshot carries its owner's version, and only what is newer counts, so that order and repetition do not
matter. Series that do not belong to the case are neither counted nor shown.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from kernel.ids import CaseId, FacilityId, StudyId
from services.access.domain import ConfirmedStudy

# StudyStatusID by whether every received study has settled (A55).
STUDY_STATUS_ID = {False: "IN_TRANSMIT", True: "READY_TO_READ"}


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
class CaseSummary:
    """What the worklist shows of a case, over the series that belong to it."""

    attributes: StudyAttributes
    modalities_in_study: tuple[str, ...]
    series_count: int
    instance_count: int
    study_status_id: str


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
            study_status_id=STUDY_STATUS_ID[bool(self.studies) and all(s.settled for s in self.studies)],
        )


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a list of cases, newest first: after this case."""

    received_at: datetime
    case_id: CaseId


@dataclass(frozen=True, slots=True)
class ListedCase:
    """A case as a worklist shows it."""

    case_id: CaseId
    facility_id: FacilityId
    facility_name: str
    received_at: datetime
    study_instance_uid: str
    undistributed: bool
    summary: CaseSummary
