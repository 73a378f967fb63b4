"""The case index: what access keeps of a case, from three owners.

Routing says which facility owns a case and which parts of its studies belong to it; ingest says what was
received; reporting says how far it was read. Each snapshot carries its owner's version, and only what is
newer counts, so that order and repetition do not matter. Parts that are held, because they may show another
patient or belong elsewhere, are neither counted nor shown.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import IntEnum
from typing import Any
from uuid import UUID

from kernel.dicom import VALUES_PARTED_BY
from kernel.ids import CaseId, DeletionId, FacilityId, MoveId, StudyId
from services.access.derived import DERIVED
from services.access.domain import ConfirmedStudy
from services.access.late import LateImages, late_images
from services.access.patients import Patient
from services.access.reading import Projection
from services.access.received import (
    MAX_MODALITIES,
    Distinct,
    ReceivedPart,
    ReceivedStudy,
    StudyAttributes,
    cut_modality,
    first_values,
)
from services.access.search import Place
from services.access.status import Known, Status, study_status_id


class Priority(IntEnum):
    """How soon a case is to be read (A75)."""

    NORMAL = 0
    URGENT = 1
    STAT = 2


@dataclass(frozen=True, slots=True)
class Placement:
    """Routing's snapshot of a case.

    Attributes:
        another_patient_held: how many parts of its studies are held because they may show another patient.
        written_differently: what of the patient is written differently within it, by DICOM keyword.
        last_move_id: the last move that was made; not kept here.
    """

    case_id: CaseId
    facility_id: FacilityId
    study_instance_uid: str
    undistributed: bool
    studies: tuple[ConfirmedStudy, ...]
    placed_at: datetime
    version: int
    another_patient_held: int = 0
    written_differently: tuple[str, ...] = ()
    last_move_id: MoveId | None = None


@dataclass(frozen=True, slots=True)
class CaseSummary:
    """What the worklist shows of a case, over the parts that belong to it.

    Attributes:
        modalities_in_study: distinct and sorted, at most MAX_MODALITIES.
        modalities_left_out: how many more there are; where one part has too many, at least so many.
        another_patient_held: how many parts are held because they may show another patient.
        written_differently: what of the patient is written differently within it, by DICOM keyword.
        institution_names, body_parts: distinct and sorted; none where not all are known.
        calling_ae_title, gateway_id: of the gateway that sent its first instance (GWY-16).
        last_received_at: when its last instance was durable; None: not told.
    """

    attributes: StudyAttributes
    modalities_in_study: tuple[str, ...]
    series_count: int
    instance_count: int
    settled: bool
    modalities_left_out: int = 0
    another_patient_held: int = 0
    written_differently: tuple[str, ...] = ()
    institution_names: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    calling_ae_title: str = ""
    gateway_id: UUID | None = None
    last_received_at: datetime | None = None

    def __post_init__(self) -> None:
        """Bounds the modalities, also those that the version before has stored."""
        distinct = sorted({cut_modality(modality) for modality in self.modalities_in_study if modality})
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
        settled: whether each study had settled once. What comes later changes counts, no status (A55).
        is_derived: whether what is derived of its entry stands.
        filed_as: the patient of whose record its entry says that it is, if that stands.
    """

    placement: Placement
    received_at: datetime
    studies: tuple[ReceivedStudy, ...]
    settled: bool = False
    is_derived: bool = False
    filed_as: Patient | None = None

    @classmethod
    def first(cls, placement: Placement, studies: Iterable[ReceivedStudy]) -> "IndexedCase":
        """A case that was not known before."""
        case = cls(placement, placement.placed_at, ()).hear(None, studies)
        received_at = min((part.received_at for _, part in case.confirmed()), default=placement.placed_at)
        return replace(case, received_at=received_at)

    def hear(self, placement: Placement | None, studies: Iterable[ReceivedStudy]) -> "IndexedCase":
        """The case after snapshots were heard: of each owner the newest, of the placement's studies only."""
        if placement is None or placement.version <= self.placement.version:
            placement = self.placement
        newest = {study.id: study for study in self.studies}
        for told in studies:
            if told.id not in newest or told.is_newer(newest[told.id]):
                newest[told.id] = told
        placed = (newest.get(confirmed.study_id) for confirmed in placement.studies)
        known = tuple(study for study in placed if study)
        settled = self.settled or (bool(known) and all(study.settled for study in known))
        return replace(self, placement=placement, studies=known, settled=settled)

    def confirmed(self) -> Iterable[tuple[ReceivedStudy, ReceivedPart]]:
        """The parts that belong, each with its study, in order of receipt."""
        confirmed = {each.study_id: each for each in self.placement.studies}
        for study in sorted(self.studies, key=lambda study: (study.received_at, study.id)):
            belonging = frozenset(study.parts_of(confirmed[study.id]))
            for part in study.parts:
                if part.number in belonging:
                    yield study, part

    def summary(self) -> CaseSummary:
        """What the worklist shows."""
        confirmed = list(self.confirmed())
        named = dict.fromkeys((study.id, part.attribute_set) for study, part in confirmed)
        sets = {
            (study.id, number): attributes
            for study in self.studies
            for number, attributes in study.attribute_sets.items()
        }
        return CaseSummary(
            attributes=first_values(sets[each] for each in named if each in sets),
            modalities_in_study=tuple({modality for _, part in confirmed for modality in part.modalities}),
            series_count=len({(study.id, ordinal) for study, part in confirmed for ordinal in part.series}),
            instance_count=sum(part.instance_count for _, part in confirmed),
            settled=self.settled,
            modalities_left_out=max((part.modalities_left_out for _, part in confirmed), default=0),
            another_patient_held=self.placement.another_patient_held,
            written_differently=self.placement.written_differently,
            institution_names=Distinct.of(part.institution_names for _, part in confirmed).known,
            body_parts=Distinct.of(part.body_parts for _, part in confirmed).known,
            calling_ae_title=confirmed[0][0].calling_ae_title if confirmed else "",
            gateway_id=confirmed[0][0].gateway_id if confirmed else None,
            last_received_at=max(
                (part.last_received_at for _, part in confirmed if part.last_received_at), default=None
            ),
        )

    def entry(self) -> "Entry":
        """What the index writes of it."""
        summary = self.summary()
        return Entry(self, summary, Patient.of(summary.attributes, self.placement.facility_id))

    @property
    def derived(self) -> int:
        """What its entry says of how it was derived; less than DERIVED, it will be derived again."""
        return DERIVED if all(study.in_full for study in self.studies) else 0


@dataclass(frozen=True, slots=True)
class Entry:
    """What the index writes of a case."""

    case: IndexedCase
    summary: CaseSummary
    patient: Patient | None

    @property
    def case_id(self) -> CaseId:
        return self.case.placement.case_id

    @property
    def is_filed(self) -> bool:
        """Whether the entry says of whom it is, as it is now."""
        return self.case.is_derived and self.case.filed_as == self.patient

    def columns(self) -> dict[str, Any]:
        """What is as its owners told it, by column."""
        placement, summary = self.case.placement, self.summary
        attributes = {name: getattr(summary.attributes, name) for name in StudyAttributes.__slots__}
        physicians = summary.attributes.physicians_of_record.split(VALUES_PARTED_BY)
        return {
            "facility_id": placement.facility_id,
            "study_instance_uid": placement.study_instance_uid,
            "undistributed": placement.undistributed,
            "placed_at": placement.placed_at,
            "placement_version": placement.version,
            "parts_version": placement.version,
            **attributes,
            "physicians_of_record": tuple(filter(None, map(str.strip, physicians))),
            "modalities_in_study": summary.modalities_in_study,
            "modalities_left_out": summary.modalities_left_out,
            "series_count": summary.series_count,
            "instance_count": summary.instance_count,
            "settled": summary.settled,
            "another_patient_held": summary.another_patient_held,
            "written_differently": summary.written_differently,
            "institution_names": summary.institution_names,
            "body_parts": summary.body_parts,
            "calling_ae_title": summary.calling_ae_title,
            "gateway_id": summary.gateway_id,
            "last_received_at": summary.last_received_at,
        }


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
class ListedCase:
    """A case as a worklist shows it to one side.

    Attributes:
        images_since: since when access knows of images that its report has not seen.
        assignee_login: of who is to read it; shown to the group only (A59).
        place: in the list that was asked for.
    """

    case_id: CaseId
    facility_id: FacilityId
    facility_name: str
    received_at: datetime
    study_instance_uid: str
    undistributed: bool
    summary: CaseSummary
    reading: Projection
    images_since: datetime | None = None
    assignee_login: str | None = None
    priority: Priority = Priority.NORMAL
    place: Place | None = None

    @property
    def late(self) -> LateImages | None:
        """The images since the report."""
        return late_images(self.summary.instance_count, self.reading.instance_count, self.images_since)

    @property
    def study_status_id(self) -> Status:
        """From what the side is shown of it."""
        reading = self.reading
        return study_status_id(
            Known(self.summary.settled, reading.state, reading.draft, self.assignee_login is not None)
        )

    def at(self, now: datetime) -> "ListedCase":
        """The case as it is at an instant: a lock that has ended is none."""
        lock = self.reading.lock
        if lock is None or now < lock.ends_at:
            return self
        return replace(self, reading=replace(self.reading, lock=None))
