"""Random cases, as their owners would tell them, and the rows of the index that they make.

A case is a plain dict: DICOM attributes under their keyword as received, and the rest under a plain word.
"""

import dataclasses
from collections.abc import Mapping
from datetime import UTC, timedelta
from random import Random
from typing import Any, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from services.access.derived import DERIVED, derive
from tests.clocks import NOON

Case: TypeAlias = Mapping[str, Any]

NOW = NOON
BERLIN = ZoneInfo("Europe/Berlin")

# Case, accents, padding, signs of patterns, and letters of which a collation and Python think differently.
WORDS = (
    "CT HEAD", "CT head", "ct Head", "Research", "RESEARCH 2", "O'Neil", "a%b", "a_b", "a\\b", "axb", "100%",
    "Schädel", "SCHÄDEL", "Schadel", "Straße", "STRASSE", "strasse", "ẞ", "İnan", "inan", "INAN", "ınan",
    "Å", "A\u030a", "\u212b", "A", "a", "é", "e\u0301", "E", "ΟΔΟΣ", "οδος", "οδοσ", "Οδός",
    "がく", "か\u3099く", "かく", "ｶﾞｸ", "ﬁne", "fine", "FINE", "Z", "z", "~", "ÿ", "𝔘x", "Ux",
    "山田", "\u0301", "x=y", "b^", "b",
)  # fmt: skip
NAMES = (
    "Roe^Jane", "ROE^JANE", "roe^jane", "Roe", "Doe^John", "Müller^Änne", "MULLER^ANNE", "Muller^Anne",
    "Yamada^Tarou=山田^太郎=やまだ^たろう", "YAMADA^TAROU=山田^太郎", "=山田^太郎", "==やまだ",
    "a=b", "O'Neil^A", "İnan^Çağ", "Inan^Cag", "ınan", "Straße=ß", "Σ^ΟΔΟΣ", "Å^B", "A\u030a^B",
    "é", "^A", "A^^B",
)  # fmt: skip
PADDING = ("", "", "", " ", "  ", "^", "^^ ")
SEXES = ("", "M", "F", "O", "F ")
TITLES = ("", "CT1", "MR1", "ct1")
UIDS = tuple(f"1.2.{n}" for n in range(12))
MODALITIES = ("CT", "PT", "MR", "US", "ct", "OT")
STATUSES = (
    "DISREGARD", "FOR_COMPARISON", "READ", "IN_TRANSMIT", "TRANSCRIBED", "DICTATED", "ASSIGNED",
    "READY_TO_READ",
)  # fmt: skip
REPORTED = ("PRELIMINARY", "FINAL", "OTHER", "PRE_READ")
PRIORITIES = ("NORMAL", "URGENT", "STAT")
DATES = (
    "", "20261101", "20261031", "20261029", "20261028", "20260131", "20240229", "20081101", "20081031",
    "20081102", "20070301", "20040229", "19700101", "20991231", "20261102", "20261027 ",
    "20261301", "2026-11-01", "2026110", "unknown", "00010101",
)  # fmt: skip
TIMES = ("", "10", "1015", "101530", "101530.5", "23:59:59", "235960", "2460", "10 15", "000000", "120000")
AGES = (
    "",
    "018Y",
    "017Y",
    "216M",
    "215M",
    "003W",
    "021D",
    "030D",
    "031D",
    "000D",
    "18Y",
    "018y",
    "018",
    "099Y ",
)
OFFSETS = ("", "", "", "+0000", "+0545", "-0500", "-0000", "bad")

USERS = {f"user{n}": UUID(int=n + 1) for n in range(3)}
FACILITIES = tuple(UUID(int=100 + n) for n in range(3))


def draw_case(random: Random) -> Case:
    """A case of which anything may be absent, padded, malformed or not described yet."""
    pick = random.choice

    def word() -> str:
        return pick(("", " ", pick(WORDS), pick(WORDS), f"{pick(WORDS)} {pick(WORDS)}{pick(PADDING)}"))

    def name() -> str:
        return pick(("", "^", pick(NAMES), pick(NAMES) + pick(PADDING), pick(NAMES)))

    def some(draw: Any) -> list[Any]:
        return [draw() for _ in range(pick((0, 0, 1, 1, 2, 3)))]

    def reported() -> list[str]:
        return random.sample(REPORTED, pick((0, 0, 1, 2)))

    lock = pick((None, (pick(tuple(USERS)), NOW + timedelta(minutes=pick((-5, 0, 1, 5))))))
    return {
        "PatientName": name(),
        "ReferringPhysicianName": name(),
        "RequestingPhysician": name(),
        "PhysiciansOfRecord": some(name),
        "PatientID": word(),
        "AccessionNumber": word(),
        "StudyID": word(),
        "PatientSex": pick(SEXES),
        "PatientInstitutionResidence": word(),
        "InstitutionName": some(word),
        "StudyDescription": word(),
        "BodyPartExamined": some(word),
        "StudyInstanceUID": pick(UIDS),
        "Modality": some(lambda: pick(MODALITIES)),
        "StudyDate": pick(DATES),
        "StudyTime": pick(TIMES),
        "PatientBirthDate": pick(DATES),
        "PatientAge": pick(AGES),
        "TimezoneOffsetFromUTC": pick(OFFSETS),
        "CallingAETitle": pick(TITLES),
        "zone of facility": pick((UTC, BERLIN, ZoneInfo("America/New_York"))),
        "created": NOW - pick(SINCE),
        "received": pick((None, NOW - pick(SINCE))),
        "instances": pick((0, 1, 2, 1199, 1200, 1201)),
        "series": pick((0, 1, 2, 3)),
        "facility": pick(FACILITIES),
        "assignee": pick((None, *USERS.values())),
        "priority": pick(PRIORITIES),
        "lock": lock,
        "status": {"group": pick((None, *STATUSES)), "facility": pick((None, *STATUSES))},
        "status at lock": pick((None, *STATUSES)),
        "reported": {"group": reported(), "facility": reported()},
        "reported at lock": reported(),
        "described": random.random() < 0.9,
    }


SINCE = tuple(
    timedelta(**each)
    for each in (
        {"days": 3}, {"days": 3, "microseconds": 1}, {"days": 2}, {"hours": 5}, {"days": 21}, {"days": 400},
        {"hours": -1}, {"days": -2}, {"days": 0}, {"days": 7}, {"days": 31},
    )
)  # fmt: skip

TEXT_COLUMNS = {
    "patient_id": "PatientID",
    "accession_number": "AccessionNumber",
    "dicom_study_id": "StudyID",
    "patient_sex": "PatientSex",
    "patient_institution_residence": "PatientInstitutionResidence",
    "institution_names": "InstitutionName",
    "study_description": "StudyDescription",
    "body_parts": "BodyPartExamined",
    "study_instance_uid": "StudyInstanceUID",
    "modalities_in_study": "Modality",
    "calling_ae_title": "CallingAETitle",
}
NAME_COLUMNS = {
    "patient_name": "PatientName",
    "referring_physician_name": "ReferringPhysicianName",
    "requesting_physician": "RequestingPhysician",
    "physicians_of_record": "PhysiciansOfRecord",
}
RECEIVED_COLUMNS = {
    "patient_birth_date": "PatientBirthDate",
    "study_date": "StudyDate",
    "study_time": "StudyTime",
    "patient_age": "PatientAge",
    "timezone_offset_from_utc": "TimezoneOffsetFromUTC",
}


def row(case: Case) -> dict[str, Any]:
    """The row of the index."""
    received = {
        column: case[keyword] for column, keyword in (TEXT_COLUMNS | NAME_COLUMNS | RECEIVED_COLUMNS).items()
    }
    holder, until = case["lock"] or ("", None)
    return {
        **received,
        "facility_id": case["facility"],
        "received_at": case["created"],
        "last_received_at": case["received"],
        "instance_count": case["instances"],
        "series_count": case["series"],
        "assignee_id": case["assignee"],
        "priority": PRIORITIES.index(case["priority"]),
        "status_group": case["status"]["group"],
        "status_facility": case["status"]["facility"],
        "status_at_lock": case["status at lock"],
        "reported_types_group": case["reported"]["group"],
        "reported_types_facility": case["reported"]["facility"],
        "reported_types_at_lock": case["reported at lock"],
        "locked_by": holder,
        "locked_until": until,
        **(_derived(case, received) if case["described"] else {"derived": 0}),
    }


def _derived(case: Case, received: Mapping[str, Any]) -> dict[str, Any]:
    derived = dataclasses.asdict(derive(received, case["zone of facility"]))
    if forms := derived["text_forms"]:
        derived["text_forms"] = msgspec.json.encode(forms).decode()
    return {**derived, "derived": DERIVED}
