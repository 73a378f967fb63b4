"""QIDO-RS of studies from the lists of access: a search as a filter, a case as a row (PS3.18 10.6)."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kernel.errors import Invalid
from kernel.ids import CaseId
from services.ingest.matching import Row

MAX_WILDCARDS = 5
MAX_LISTED = 50
"""As filters have them."""


@dataclass(frozen=True, slots=True)
class ListedCase:
    """What a list says of a case; the texts are as received, empty where there is none."""

    case_id: CaseId
    study_instance_uid: str
    study_date: str = ""
    study_time: str = ""
    accession_number: str = ""
    modalities: tuple[str, ...] = ()
    referring_physician_name: str = ""
    patient_name: str = ""
    patient_id: str = ""
    patient_birth_date: str = ""
    patient_sex: str = ""
    study_description: str = ""
    series_count: int = 0
    instance_count: int = 0

    @property
    def location(self) -> str:
        """Where the study is retrieved, relative to the server."""
        return f"/cases/{self.case_id}/studies/{self.study_instance_uid}"


def where(keys: Mapping[str, str]) -> str:
    """The filter that shows the cases whose studies match, keys by tag; empty: all. Raises Invalid."""
    return " and ".join(_CLAUSES[tag](value) for tag, value in sorted(keys.items()))


def of_study(study_instance_uid: str) -> str:
    """The filter that shows the cases of one study."""
    return f"StudyInstanceUID = '{study_instance_uid}'"


def row(case: ListedCase) -> Row:
    """The row of a case, with all that is known of it."""
    return {
        "00080005": _row("CS", "ISO_IR 192"),
        "00080020": _row("DA", case.study_date),
        "00080030": _row("TM", case.study_time),
        "00080050": _row("SH", case.accession_number),
        "00080056": _row("CS", "ONLINE"),
        "00080061": _row("CS", *case.modalities),
        "00080090": _name(case.referring_physician_name),
        "00081030": _row("LO", case.study_description),
        "00081190": _row("UR", case.location),
        "00100010": _name(case.patient_name),
        "00100020": _row("LO", case.patient_id),
        "00100030": _row("DA", case.patient_birth_date),
        "00100040": _row("CS", case.patient_sex),
        "0020000D": _row("UI", case.study_instance_uid),
        "00200010": _row("SH", ""),  # no list has Study ID
        "00201206": _row("IS", case.series_count),
        "00201208": _row("IS", case.instance_count),
    }


def _row(vr: str, *values: str | int) -> Row:
    told = [each for each in values if each != ""]
    return {"vr": vr, "Value": told} if told else {"vr": vr}


def _name(text: str) -> Row:
    groups = zip(("Alphabetic", "Ideographic", "Phonetic"), text.split("="), strict=False)
    named = {group: name for group, name in groups if name}
    return {"vr": "PN", "Value": [named]} if named else {"vr": "PN"}


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _text(field: str) -> Callable[[str], str]:
    def clause(value: str) -> str:
        if not {"*", "?"} & set(value):
            return f"plain({field}) = {_quoted(value)}"
        value = re.sub(r"\*+", "*", value)
        if value.count("*") + value.count("?") > MAX_WILDCARDS:
            raise Invalid(f"`{field}` takes at most {MAX_WILDCARDS} of `*` and `?`", field=field)
        pattern = "".join(_PATTERN.get(character, character) for character in value)
        return f"plain({field}) like {_quoted(pattern)}"

    return clause


_PATTERN = {"*": "%", "?": "_", "%": r"\%", "_": r"\_", "\\": r"\\"}


def _listed(field: str) -> Callable[[str], str]:
    def clause(value: str) -> str:
        values = list(dict.fromkeys(each.strip() for each in re.split(r"[,\\]", value) if each.strip()))
        if not 0 < len(values) <= MAX_LISTED:
            raise Invalid(f"`{field}` takes 1 to {MAX_LISTED} values", field=field)
        return f"{field} in ({', '.join(map(_quoted, values))})"

    return clause


def _ranged(field: str) -> Callable[[str], str]:
    def clause(value: str) -> str:
        first, dash, last = value.partition("-")
        if not dash:
            return f"{field} = {_quoted(first)}"
        bounds = [f"{field} >= {_quoted(first)}"] * bool(first) + [f"{field} <= {_quoted(last)}"] * bool(last)
        return " and ".join(bounds)

    return clause


_CLAUSES: Mapping[str, Callable[[str], str]] = {
    "00080020": _ranged("StudyDate"),
    "00080030": _ranged("StudyTime"),
    "00080050": _text("AccessionNumber"),
    "00080061": _listed("ModalitiesInStudy"),
    "00080090": _text("ReferringPhysicianName"),
    "00081030": _text("StudyDescription"),
    "00100010": _text("PatientName"),
    "00100020": _text("PatientID"),
    "0020000D": _listed("StudyInstanceUID"),
    "00200010": _text("StudyID"),
}
