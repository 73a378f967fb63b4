"""Which of a placed study belongs to its case, and what of it waits for a person."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from kernel.dicom import UID
from kernel.ids import CaseId, FacilityId, StudyId
from services.routing.domain import UNDISTRIBUTED, PlacedStudy, Reason, Study


class HeldKind(StrEnum):
    """What waits for a person."""

    UNDISTRIBUTED = "undistributed"
    STUDY = "study"
    SERIES = "series"


class HeldReason(StrEnum):
    """Why it waits."""

    NO_VALUE = "no_value"
    NO_RULE = "no_rule"
    AMBIGUOUS = "ambiguous"
    RETURNED = "returned"
    SECOND_STUDY = "second_study"
    UNKNOWN_FACILITY = "unknown_facility"
    OTHER_VALUE = "other_value"
    SEVERAL_VALUES = "several_values"
    LATE_VALUE = "late_value"


HELD_SENTENCES: dict[HeldReason, str] = {
    HeldReason.NO_VALUE: "the study settled without a value of the mapping tag",
    HeldReason.NO_RULE: "no endpoint rule of the hub has the mapping value",
    HeldReason.AMBIGUOUS: "the mapping value matches rules of different endpoints",
    HeldReason.RETURNED: "a person moved the case back to its hub",
    HeldReason.SECOND_STUDY: "the study already has a case there: this copy came another way",
    HeldReason.UNKNOWN_FACILITY: "the receiving facility is not known",
    HeldReason.OTHER_VALUE: "the mapping value of the series is not the one that decided for its study",
    HeldReason.SEVERAL_VALUES: "the series has several mapping values",
    HeldReason.LATE_VALUE: "the series has a mapping value, and its study was distributed without one",
}
"""What a person reads; the mapping value itself may be patient data and is never part of it."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """One thing of a study that waits for a person; with a series it is that series."""

    kind: HeldKind
    reason: HeldReason
    series_instance_uid: UID | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """Something that waits for a person, as it is listed."""

    id: UUID
    kind: HeldKind
    reason: HeldReason
    case_id: CaseId | None
    study_id: StudyId
    series_instance_uid: UID | None
    facility_id: FacilityId
    held_at: datetime


@dataclass(frozen=True, slots=True)
class Agreement:
    """Which series of a placed study belong to its case, and by which value."""

    mapping_value: str | None
    study: PlacedStudy
    waiting: tuple[Waiting, ...]


def agree(study: Study, mapping_tag: str | None, decided_by: str | None, reason: Reason) -> Agreement:
    """Parts the series of a placed study into those that agree with its case and those that are held.

    Every series is in exactly one part. `decided_by` is the deciding value known so far; a case that
    nobody has distributed yet may still find one.
    """
    if mapping_tag is None:
        return Agreement(None, PlacedStudy(study.id, all_series=True), ())
    value = decided_by
    waiting = []
    if reason in UNDISTRIBUTED:
        value = value or study.first_value(mapping_tag)
        waiting.append(Waiting(HeldKind.UNDISTRIBUTED, HeldReason(reason.value)))
    agreeing = []
    for series in study.series:
        values = series.values_of(mapping_tag)
        if values <= {value}:
            agreeing.append(series.series_instance_uid)
            continue
        if len(values) > 1:
            why = HeldReason.SEVERAL_VALUES
        else:
            why = HeldReason.OTHER_VALUE if value else HeldReason.LATE_VALUE
        waiting.append(Waiting(HeldKind.SERIES, why, series.series_instance_uid))
    placed = PlacedStudy(study.id, all_series=False, series_instance_uids=tuple(agreeing))
    return Agreement(value, placed, tuple(waiting))
