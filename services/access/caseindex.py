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

from kernel.dicom import INDEXED_ATTRIBUTES, MAX_CHARACTERS, cut_value
from kernel.ids import CaseId, DeletionId, FacilityId, StudyId
from services.access.domain import ConfirmedStudy, ReadType, Side

MAX_MODALITIES = 32
"""What a case shows of its modalities; PS3.3 C.7.3.1.1.1 defines some 80 terms, and a study has a handful."""

KEYWORDS: Mapping[str, str] = {
    "patient_name": "PatientName",
    "patient_id": "PatientID",
    "patient_birth_date": "PatientBirthDate",
    "patient_sex": "PatientSex",
    "study_date": "StudyDate",
    "study_time": "StudyTime",
    "study_description": "StudyDescription",
    "accession_number": "AccessionNumber",
    "referring_physician_name": "ReferringPhysicianName",
}
"""The attributes of a study that the index keeps, by DICOM keyword (PS3.6)."""

# Each of them has one value (PS3.6); a name has three component groups and what parts them (PS3.5 6.2.1).
MAX_VALUE_CHARACTERS: Mapping[str, int] = {**MAX_CHARACTERS, "PN": 3 * MAX_CHARACTERS["PN"] + 2}

_VR_OF_KEYWORD = {attribute.keyword: attribute.vr for attribute in INDEXED_ATTRIBUTES}
_VR = {name: _VR_OF_KEYWORD[keyword] for name, keyword in KEYWORDS.items()}


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
    """What the index keeps of a series; a Modality (CS) is cut to what its value representation allows."""

    series_instance_uid: str
    modality: str
    instance_count: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "modality", _cut_modality(self.modality))


def _cut_modality(modality: str) -> str:
    return modality[: MAX_CHARACTERS["CS"]]


@dataclass(frozen=True, slots=True)
class StudyAttributes:
    """Study-level attributes as received; empty where absent.

    Each is cut to what one value of its value representation allows, whoever wrote it: a sender decides how
    long it is, and one that is too long would keep a whole page from everybody whose worklist it is on.
    """

    patient_name: str = ""
    patient_id: str = ""
    patient_birth_date: str = ""
    patient_sex: str = ""
    study_date: str = ""
    study_time: str = ""
    study_description: str = ""
    accession_number: str = ""
    referring_physician_name: str = ""

    def __post_init__(self) -> None:
        for name, vr in _VR.items():
            value = getattr(self, name)
            if len(value) > MAX_CHARACTERS[vr]:  # hardly ever
                object.__setattr__(self, name, cut_value(value, vr)[: MAX_VALUE_CHARACTERS[vr]])


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
    """What the worklist shows of a case, over the series that belong to it.

    Attributes:
        modalities_in_study: distinct and sorted, at most MAX_MODALITIES.
        modalities_left_out: how many more there are.
    """

    attributes: StudyAttributes
    modalities_in_study: tuple[str, ...]
    series_count: int
    instance_count: int
    settled: bool
    modalities_left_out: int = 0

    def __post_init__(self) -> None:
        """Bounds the modalities, also those that the version before has stored."""
        distinct = sorted({_cut_modality(modality) for modality in self.modalities_in_study if modality})
        left_out = self.modalities_left_out + max(0, len(distinct) - MAX_MODALITIES)
        object.__setattr__(self, "modalities_in_study", tuple(distinct[:MAX_MODALITIES]))
        object.__setattr__(self, "modalities_left_out", left_out)


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
            modalities_in_study=tuple(each.modality for each in series),
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
