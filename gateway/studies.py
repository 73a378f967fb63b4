"""What a person searches kept studies by, and whether a study is what they look for."""

import unicodedata
from collections.abc import Mapping
from datetime import date
from typing import NamedTuple

from kernel.dicom import INDEXED_ATTRIBUTES, cut_value
from kernel.filing import SPECIFIC_CHARACTER_SET
from plumbing.dicomtext import CharacterSet

_TAGS = {attribute.keyword: (attribute.tag, attribute.vr) for attribute in INDEXED_ATTRIBUTES}


class Searched(NamedTuple):
    """As text, empty where a study does not say; the date as eight digits."""

    patient_name: str = ""
    patient_id: str = ""
    accession_number: str = ""
    study_date: str = ""


_KEYWORDS = ("PatientName", "PatientID", "AccessionNumber", "StudyDate")


def searched(values: Mapping[int, bytes]) -> Searched:
    """What the raw values of an instance say."""
    character_set = CharacterSet.of(values.get(SPECIFIC_CHARACTER_SET, b""))
    found = []
    for tag, vr in (_TAGS[keyword] for keyword in _KEYWORDS):
        found.append(cut_value(character_set.decode(values.get(tag, b""), vr), vr))
    return Searched(*found)


class Search(NamedTuple):
    """What a person looks for; what is None does not count.

    Attributes:
        patient: words of the name, in any order and case, with or without accents; beginnings are enough.
        patient_id, accession_number: the beginning, in any case.
        since, until: days of the study, both included.
    """

    patient: str | None = None
    patient_id: str | None = None
    accession_number: str | None = None
    since: date | None = None
    until: date | None = None

    def finds(self, study: Searched) -> bool:
        """Whether the study is one of those looked for."""
        names = _words(study.patient_name)
        day = study.study_date
        return (
            all(any(name.startswith(word) for name in names) for word in _words(self.patient or ""))
            and study.patient_id.casefold().startswith((self.patient_id or "").casefold())
            and study.accession_number.casefold().startswith((self.accession_number or "").casefold())
            and (self.since is None or day >= f"{self.since:%Y%m%d}")
            and (self.until is None or (bool(day) and day <= f"{self.until:%Y%m%d}"))
        )


def _words(name: str) -> list[str]:
    """The words of a name, plain: without case and accents."""
    decomposed = unicodedata.normalize("NFKD", name).casefold()
    plain = "".join(c if c.isalnum() else " " for c in decomposed if not unicodedata.combining(c))
    return plain.split()
