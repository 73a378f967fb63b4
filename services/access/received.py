"""What was received of a study: its parts, of which routing says which belong to a case.

A part is what was received under one patient identity and with one value of each mapping tag; an instance is
in one part for good (`protos/wire/ingest/v1/ingest.proto`). The version before knew series only: then each
series is a part whose number is its ordinal.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from kernel.dicom import (
    INDEXED_ATTRIBUTES,
    MAX_ATTRIBUTE_CHARACTERS,
    MAX_CHARACTERS,
    MAX_VALUE_CHARACTERS,
    cut_value,
)
from kernel.ids import StudyId
from services.access.domain import ConfirmedStudy

FIRST_PART = 1_000_001
"""The first number of a part; what lies below is the ordinal of a series that the version before received."""

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
    "dicom_study_id": "StudyID",
    "issuer_of_patient_id": "IssuerOfPatientID",
    "patient_age": "PatientAge",
    "patient_institution_residence": "PatientInstitutionResidence",
    "requesting_physician": "RequestingPhysician",
    "timezone_offset_from_utc": "TimezoneOffsetFromUTC",
    "physicians_of_record": "PhysiciansOfRecord",
}
"""The attributes of a study that the index keeps, by DICOM keyword (PS3.6)."""

_VR_OF_KEYWORD = {attribute.keyword: attribute.vr for attribute in INDEXED_ATTRIBUTES}
_VR = {name: _VR_OF_KEYWORD[keyword] for name, keyword in KEYWORDS.items()}
_LONGEST = {name: MAX_VALUE_CHARACTERS[vr] for name, vr in _VR.items()} | {
    "physicians_of_record": MAX_ATTRIBUTE_CHARACTERS
}


@dataclass(frozen=True, slots=True)
class StudyAttributes:
    """Study-level attributes as received; empty where absent.

    Each is cut to what one value of its value representation allows, whoever wrote it: a sender decides how
    long it is, and one that is too long would keep a whole page from everybody whose worklist it is on.
    Of `physicians_of_record` there are several values, which backslashes part.
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
    dicom_study_id: str = ""
    issuer_of_patient_id: str = ""
    patient_age: str = ""
    patient_institution_residence: str = ""
    requesting_physician: str = ""
    timezone_offset_from_utc: str = ""
    physicians_of_record: str = ""

    def __post_init__(self) -> None:
        for name, vr in _VR.items():
            value = getattr(self, name)
            if len(value) > MAX_CHARACTERS[vr]:  # hardly ever
                object.__setattr__(self, name, cut_value(value, vr)[: _LONGEST[name]])


def first_values(told: Iterable[StudyAttributes]) -> StudyAttributes:
    """Of each attribute the first value that is not empty."""
    values: dict[str, str] = {}
    for attributes in told:
        for name in StudyAttributes.__slots__:
            values[name] = values.get(name) or getattr(attributes, name)
    return StudyAttributes(**values)


LISTED = (
    "patient_name",
    "patient_id",
    "patient_birth_date",
    "patient_sex",
    "study_date",
    "study_time",
    "study_description",
    "accession_number",
    "referring_physician_name",
)
"""The attributes that lists of cases show."""


def cut_modality(modality: str) -> str:
    """A Modality (CS), cut to what its value representation allows."""
    return modality[: MAX_CHARACTERS["CS"]]


def cut_name(value: str) -> str:
    """An institution (LO) or body part (CS), cut to a bound that is above what ingest tells of one."""
    return value[: MAX_VALUE_CHARACTERS["PN"]]


@dataclass(frozen=True, slots=True)
class Distinct:
    """The distinct values of an attribute in a part, at most MAX_MODALITIES, and how many more there are."""

    values: tuple[str, ...] = ()
    left_out: int = 0

    @classmethod
    def of(cls, told: Iterable["Distinct"]) -> "Distinct":
        """Those of several parts together."""
        told = tuple(told)
        distinct = sorted({value for each in told for value in each.values if value})
        left_out = max((each.left_out for each in told), default=0) + max(0, len(distinct) - MAX_MODALITIES)
        return cls(tuple(distinct[:MAX_MODALITIES]), left_out)

    @property
    def known(self) -> tuple[str, ...]:
        """All values; none where some were left out, for then nobody can say what is not among them."""
        return () if self.left_out else self.values


@dataclass(frozen=True, slots=True)
class ReceivedPart:
    """What the index keeps of a part.

    Attributes:
        number: grows with the order of first receipt.
        attribute_set: which of the study's; 0: none was kept.
        modalities: distinct, at most MAX_MODALITIES, each as `cut_modality` leaves it.
        modalities_left_out: how many more there are.
        series: ordinals of the series in which it has instances.
        last_received_at: when its last instance was durable; None: not told.
    """

    number: int
    attribute_set: int
    modalities: tuple[str, ...]
    modalities_left_out: int
    series: tuple[int, ...]
    instance_count: int
    received_at: datetime
    last_received_at: datetime | None = None
    institution_names: Distinct = Distinct()
    body_parts: Distinct = Distinct()


@dataclass(frozen=True, slots=True)
class ReceivedStudy:
    """Ingest's snapshot of a received study.

    Attributes:
        attribute_sets: by number.
        parts: in order of first receipt.
        series_instance_uids: by ordinal, the first with ordinal 1; empty where there are too many to be told.
        by_parts: whether ingest told parts; else each series was made one.
        calling_ae_title, gateway_id: of the gateway of its first instance (GWY-16).
        in_full: whether ingest told all that filters ask for; the version before did not.
    """

    id: StudyId
    received_at: datetime
    settled: bool
    attribute_sets: Mapping[int, StudyAttributes]
    parts: tuple[ReceivedPart, ...]
    version: int
    series_instance_uids: tuple[str, ...] = ()
    by_parts: bool = True
    calling_ae_title: str = ""
    gateway_id: UUID | None = None
    in_full: bool = False

    def is_newer(self, than: "ReceivedStudy") -> bool:
        """Whether it tells more than another snapshot of the study: parts tell more than series."""
        told = self.version, self.by_parts, self.in_full
        return told > (than.version, than.by_parts, than.in_full)

    def parts_of(self, confirmed: ConfirmedStudy) -> tuple[int, ...]:
        """The numbers of the parts that belong to the case.

        Where routing told series only, those are parts that the version before received: whether a later one
        shows the same patient, nobody has decided yet.
        """
        if confirmed.parts is not None:
            return confirmed.parts
        named = confirmed.series_instance_uids
        uids = dict(enumerate(self.series_instance_uids, start=1))
        return tuple(
            part.number
            for part in self.parts
            if part.number < FIRST_PART and (named is None or uids.get(part.number) in named)
        )


@dataclass(frozen=True, slots=True)
class ReceivedSeries:
    """What the version before told of a series."""

    series_instance_uid: str
    modality: str
    instance_count: int


@dataclass(frozen=True, slots=True)
class StudyOfSeries:
    """The snapshot of the version before, told or stored. Its series are in order of first receipt."""

    id: StudyId
    received_at: datetime
    settled: bool
    attributes: StudyAttributes
    series: tuple[ReceivedSeries, ...]
    version: int

    def in_parts(self) -> ReceivedStudy:
        """The same with each series as a part."""
        return ReceivedStudy(
            id=self.id,
            received_at=self.received_at,
            settled=self.settled,
            attribute_sets={1: self.attributes},
            parts=tuple(
                ReceivedPart(
                    number=ordinal,
                    attribute_set=1,
                    modalities=(cut_modality(series.modality),) if series.modality else (),
                    modalities_left_out=0,
                    series=(ordinal,),
                    instance_count=series.instance_count,
                    received_at=self.received_at,
                )
                for ordinal, series in enumerate(self.series, start=1)
            ),
            version=self.version,
            series_instance_uids=tuple(series.series_instance_uid for series in self.series),
            by_parts=False,
        )
