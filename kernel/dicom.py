"""DICOM words that everyone shares: what a UID, an AE title and an indexed attribute are."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

from kernel.errors import Invalid

UID = NewType("UID", str)
"""A unique identifier that matched `^[0-9.]{1,64}$` (PS3.5 9.1; SEC-4)."""

AETitle = NewType("AETitle", str)
"""An application entity title, trimmed (PS3.5 6.2, VR AE)."""

_UID = re.compile(r"[0-9.]{1,64}", re.ASCII)
# PS3.5 6.2: 16 bytes of the default repertoire without backslash and control characters.
_AE_TITLE = re.compile(r"[\x20-\x5b\x5d-\x7e]{1,16}", re.ASCII)


def parse_uid(text: str, field: str) -> UID:
    """The UID in `text`; raises Invalid, which names `field`, unless it matches `^[0-9.]{1,64}$` (SEC-4)."""
    if not is_uid(text):
        raise Invalid(f"`{field}` is not a UID: expected 1 to 64 digits and dots", field=field)
    return UID(text)


def is_uid(text: str) -> bool:
    """Whether `parse_uid` takes it."""
    return _UID.fullmatch(text) is not None


def parse_ae_title(text: str, field: str) -> AETitle:
    """The AE title in `text` without leading and trailing spaces.

    Raises Invalid, which names `field`, if nothing is left, if it is longer than 16 characters, or if it
    holds a backslash, a control or a non-ASCII character (PS3.5 6.2).
    """
    title = text.strip(" ")
    if not _AE_TITLE.fullmatch(title):
        raise Invalid(
            f"`{field}` is not an AE title: expected 1 to 16 printable ASCII characters without backslash",
            field=field,
        )
    return AETitle(title)


class Level(StrEnum):
    """The level of the information model at which an attribute is kept (PS3.3 A.1)."""

    STUDY = "study"
    SERIES = "series"


@dataclass(frozen=True, slots=True)
class IndexedAttribute:
    """An attribute that ingest keeps for the worklist and for routing.

    Attributes:
        keyword: keyword of PS3.6, as in `InstitutionName`.
        tag: group and element, as in `0x0008_0080`.
        vr: value representation; decides whether Specific Character Set applies (PS3.5 6.1.2).
        level: where it is kept.
        mapping: whether a hub may choose it as its mapping tag (RTE-5); then every distinct value in
            each series is kept.
        identity: whether it tells one patient from another.
    """

    keyword: str
    tag: int
    vr: str
    level: Level
    mapping: bool = False
    identity: bool = False


# Tags and value representations: PS3.6 chapter 6. Ordered by tag.
INDEXED_ATTRIBUTES: tuple[IndexedAttribute, ...] = (
    IndexedAttribute("StudyDate", 0x0008_0020, "DA", Level.STUDY),
    IndexedAttribute("StudyTime", 0x0008_0030, "TM", Level.STUDY),
    IndexedAttribute("AccessionNumber", 0x0008_0050, "SH", Level.STUDY, mapping=True),
    IndexedAttribute("Modality", 0x0008_0060, "CS", Level.SERIES),
    IndexedAttribute("Manufacturer", 0x0008_0070, "LO", Level.SERIES, mapping=True),
    IndexedAttribute("InstitutionName", 0x0008_0080, "LO", Level.SERIES, mapping=True),
    IndexedAttribute("InstitutionAddress", 0x0008_0081, "ST", Level.SERIES, mapping=True),
    IndexedAttribute("ReferringPhysicianName", 0x0008_0090, "PN", Level.STUDY, mapping=True),
    IndexedAttribute("TimezoneOffsetFromUTC", 0x0008_0201, "SH", Level.STUDY),
    IndexedAttribute("StationName", 0x0008_1010, "SH", Level.SERIES, mapping=True),
    IndexedAttribute("StudyDescription", 0x0008_1030, "LO", Level.STUDY, mapping=True),
    IndexedAttribute("SeriesDescription", 0x0008_103E, "LO", Level.SERIES),
    IndexedAttribute("InstitutionalDepartmentName", 0x0008_1040, "LO", Level.SERIES, mapping=True),
    IndexedAttribute("PhysiciansOfRecord", 0x0008_1048, "PN", Level.STUDY),
    IndexedAttribute("PerformingPhysicianName", 0x0008_1050, "PN", Level.SERIES, mapping=True),
    IndexedAttribute("OperatorsName", 0x0008_1070, "PN", Level.SERIES, mapping=True),
    IndexedAttribute("PatientName", 0x0010_0010, "PN", Level.STUDY, identity=True),
    IndexedAttribute("PatientID", 0x0010_0020, "LO", Level.STUDY, mapping=True, identity=True),
    IndexedAttribute("IssuerOfPatientID", 0x0010_0021, "LO", Level.STUDY, mapping=True, identity=True),
    IndexedAttribute("PatientBirthDate", 0x0010_0030, "DA", Level.STUDY, identity=True),
    IndexedAttribute("PatientSex", 0x0010_0040, "CS", Level.STUDY, identity=True),
    IndexedAttribute("PatientAge", 0x0010_1010, "AS", Level.STUDY),
    IndexedAttribute("BodyPartExamined", 0x0018_0015, "CS", Level.SERIES, mapping=True),
    IndexedAttribute("DeviceSerialNumber", 0x0018_1000, "LO", Level.SERIES, mapping=True),
    IndexedAttribute("ProtocolName", 0x0018_1030, "LO", Level.SERIES, mapping=True),
    IndexedAttribute("StudyID", 0x0020_0010, "SH", Level.STUDY, mapping=True),
    IndexedAttribute("SeriesNumber", 0x0020_0011, "IS", Level.SERIES),
    IndexedAttribute("RequestingPhysician", 0x0032_1032, "PN", Level.STUDY, mapping=True),
    IndexedAttribute("RequestingService", 0x0032_1033, "LO", Level.STUDY, mapping=True),
    IndexedAttribute("CurrentPatientLocation", 0x0038_0300, "LO", Level.STUDY, mapping=True),
    IndexedAttribute("PatientInstitutionResidence", 0x0038_0400, "LO", Level.STUDY),
)

MAPPING_TAGS: Mapping[str, str] = {a.keyword: a.vr for a in INDEXED_ATTRIBUTES if a.mapping}
"""The keywords that a hub may choose as its mapping tag (RTE-5), with their value representations."""

IDENTITY: frozenset[str] = frozenset(a.keyword for a in INDEXED_ATTRIBUTES if a.identity)
"""The keywords of the patient identity."""

MAX_CHARACTERS: Mapping[str, int] = {
    "AE": 16,
    "AS": 4,
    "CS": 16,
    "DA": 8,
    "DS": 16,
    "DT": 26,
    "IS": 12,
    "LO": 64,
    "PN": 64,  # a component group, of which there are three
    "SH": 16,
    "ST": 1024,
    "TM": 16,  # 14, and the colons of the form before 1993 that PS3.5 still lets a reader accept
    "UI": 64,
}
"""What one value holds at most, by value representation (PS3.5 table 6.2-1)."""

MAX_VALUE_CHARACTERS: Mapping[str, int] = {**MAX_CHARACTERS, "PN": 3 * MAX_CHARACTERS["PN"] + 2}
"""The same where a name is all its component groups and what parts them (PS3.5 6.2.1)."""

MAX_VALUES = 8
"""What the index keeps of a multi-valued element: `OperatorsName` lists a team, not a department."""

MAX_ATTRIBUTE_CHARACTERS = 1024
"""What the index keeps of an element, all its values together: VR ST, the longest, allows 1,024."""

VALUES_PARTED_BY = "\\"
"""Parts the values of an element (PS3.5 6.4)."""

_COMPONENT_GROUPS = 3  # PS3.5 6.2.1: alphabetic, ideographic, phonetic


def cut_value(text: str, vr: str) -> str:
    """Cut `text`, the decoded value of one element, to what its value representation allows.

    Backslashes part the values of every VR but ST, of which a backslash is a character (PS3.5 6.4).
    """
    values = [text] if vr == "ST" else text.split(VALUES_PARTED_BY)[:MAX_VALUES]
    return VALUES_PARTED_BY.join(_cut(value, vr) for value in values)[:MAX_ATTRIBUTE_CHARACTERS]


def _cut(value: str, vr: str) -> str:
    longest = MAX_CHARACTERS[vr]
    if vr == "PN":
        return "=".join(group[:longest] for group in value.split("=")[:_COMPONENT_GROUPS])
    return value[:longest]
