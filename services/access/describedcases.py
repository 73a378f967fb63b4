"""What sharing and notify are told of a case: of the patient the initials alone (SHR-11)."""

import unicodedata
from dataclasses import dataclass
from typing import Any

from kernel.ids import CaseId, FacilityId


@dataclass(frozen=True, slots=True)
class DescribedCase:
    """What a share and its mail need of a case."""

    case_id: CaseId
    facility_id: FacilityId
    facility_name: str
    time_zone: str
    patient_initials: str
    study_description: str
    study_date: str

    @classmethod
    def of(cls, patient_name: str, **others: Any) -> "DescribedCase":
        """A case as it is told, of what is indexed."""
        return cls(patient_initials=initials(patient_name), **others)


def initials(patient_name: str) -> str:
    """The initials of a Patient's Name (PS3.5 6.2.1): of its alphabetic group, given names first.

    Only letters that have capitals: in other scripts one character may be a whole name.
    """
    alphabetic = patient_name.partition("=")[0]
    family, given, middle, *_ = [*alphabetic.split("^"), "", ""]
    return "".join(map(_initial, (given, middle, family)))


def _initial(component: str) -> str:
    letters = (c for c in unicodedata.normalize("NFC", component) if c.isalpha() and c.upper() != c.lower())
    first = next(letters, "")
    return f"{first.upper()[:1]}." if first else ""
