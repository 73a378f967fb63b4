"""What was received of a study: its parts, of which routing says which belong to a case.

A part is what was received under one patient identity and with one value of each mapping tag; an instance is
in one part for good (`protos/wire/ingest/v1/ingest.proto`). The version before knew series only: then each
series is a part whose number is its ordinal.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from kernel.dicom import INDEXED_ATTRIBUTES, MAX_CHARACTERS, MAX_VALUE_CHARACTERS, cut_value
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
}
"""The attributes of a study that the index keeps, by DICOM keyword (PS3.6)."""

_VR_OF_KEYWORD = {attribute.keyword: attribute.vr for attribute in INDEXED_ATTRIBUTES}
_VR = {name: _VR_OF_KEYWORD[keyword] for name, keyword in KEYWORDS.items()}


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


def first_values(told: Iterable[StudyAttributes]) -> StudyAttributes:
    """Of each attribute the first value that is not empty."""
    values: dict[str, str] = {}
    for attributes in told:
        for name in StudyAttributes.__slots__:
            values[name] = values.get(name) or getattr(attributes, name)
    return StudyAttributes(**values)


def cut_modality(modality: str) -> str:
    """A Modality (CS), cut to what its value representation allows."""
    return modality[: MAX_CHARACTERS["CS"]]


@dataclass(frozen=True, slots=True)
class ReceivedPart:
    """What the index keeps of a part.

    Attributes:
        number: grows with the order of first receipt.
        attribute_set: which of the study's; 0: none was kept.
        modalities: distinct, at most MAX_MODALITIES, each as `cut_modality` leaves it.
        modalities_left_out: how many more there are.
        series: ordinals of the series in which it has instances.
    """

    number: int
    attribute_set: int
    modalities: tuple[str, ...]
    modalities_left_out: int
    series: tuple[int, ...]
    instance_count: int
    received_at: datetime


@dataclass(frozen=True, slots=True)
class ReceivedStudy:
    """Ingest's snapshot of a received study.

    Attributes:
        attribute_sets: by number.
        parts: in order of first receipt.
        series_instance_uids: by ordinal, the first with ordinal 1; empty where there are too many to be told.
        by_parts: whether ingest told parts; else each series was made one.
    """

    id: StudyId
    received_at: datetime
    settled: bool
    attribute_sets: Mapping[int, StudyAttributes]
    parts: tuple[ReceivedPart, ...]
    version: int
    series_instance_uids: tuple[str, ...] = ()
    by_parts: bool = True

    def is_newer(self, than: "ReceivedStudy") -> bool:
        """Whether it tells more than another snapshot of the study: parts tell more than series."""
        return (self.version, self.by_parts) > (than.version, than.by_parts)

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
