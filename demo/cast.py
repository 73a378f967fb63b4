"""Who and what the story is about. All names are invented."""

from dataclasses import dataclass, field

from demo.dicom_files import SyntheticCT
from wire.access.v1.access_pb2 import (
    LANGUAGE_DE,
    LANGUAGE_NL,
    LANGUAGE_UNSPECIFIED,
    LEVEL_REPORT,
    LEVEL_VIEW,
    ROLE_FACILITY_MANAGER,
    ROLE_OPERATOR,
    ROLE_RADIOLOGIST,
    ROLE_RADIOLOGY_SUPPORT,
    ROLE_REFERRING_PHYSICIAN,
    ROLE_TRANSCRIPTIONIST,
    Language,
    Level,
    Role,
)
from wire.routing.v1.routing_pb2 import (
    TRANSMISSION_MODEL_ENDPOINT,
    TRANSMISSION_MODEL_HUB,
    TRANSMISSION_MODEL_STANDARD,
    Facility,
)

ADMIN = "admin"

HUB, ENDPOINT, STANDARD = "Lakeland Network", "Maple Street 44", "Northgate Clinic"

TIME_ZONE = "Europe/Amsterdam"

FACILITIES = (
    Facility(name=HUB, model=TRANSMISSION_MODEL_HUB, mapping_tag="InstitutionName", time_zone=TIME_ZONE),
    Facility(name=ENDPOINT, model=TRANSMISSION_MODEL_ENDPOINT, time_zone=TIME_ZONE),
    Facility(name=STANDARD, model=TRANSMISSION_MODEL_STANDARD, time_zone=TIME_ZONE),
)

RULE_TEXT = "MS44"


@dataclass(frozen=True, slots=True)
class Person:
    """A user, and the level they begin with at each facility.

    Attributes:
        home: the facility they belong to.
        email, mobile_number, language: how they are reached.
    """

    login: str
    name: str
    role: "Role.ValueType"
    levels: dict[str, "Level.ValueType"] = field(default_factory=dict)
    home: str = ""
    email: str = ""
    mobile_number: str = ""
    language: "Language.ValueType" = LANGUAGE_UNSPECIFIED


VOS = Person("vos", "Dr Eva Vos", ROLE_RADIOLOGIST, {ENDPOINT: LEVEL_REPORT})
HULL = Person("hull", "Hanna Hull", ROLE_RADIOLOGY_SUPPORT, {HUB: LEVEL_VIEW})
ADEYEMI = Person("adeyemi", "Dr Tayo Adeyemi", ROLE_RADIOLOGIST, {STANDARD: LEVEL_REPORT})
LIND = Person("lind", "Noor Lind", ROLE_TRANSCRIPTIONIST)
OKAFOR = Person("okafor", "Dr Ben Okafor", ROLE_REFERRING_PHYSICIAN)

PEOPLE = (VOS, HULL, ADEYEMI, LIND, OKAFOR)

MARSH = Person("marsh", "Dr Iris Marsh", ROLE_RADIOLOGIST, {ENDPOINT: LEVEL_REPORT})
CARE = Person("care", "Sam Care", ROLE_OPERATOR)

READERS = (MARSH, CARE)
"""Who joins when the study is read: a second radiologist, and the support of the installation."""

BRANDT = Person(
    "brandt",
    "Dr Lena Brandt",
    ROLE_REFERRING_PHYSICIAN,
    email="brandt@kreisklinik.example",
    mobile_number="+4915123456789",
    language=LANGUAGE_DE,
)
MULDER = Person(
    "mulder",
    "Dr Joost Mulder",
    ROLE_REFERRING_PHYSICIAN,
    email="mulder@huisarts.example",
    mobile_number="+31612345678",
    language=LANGUAGE_NL,
)

OUTSIDE = (BRANDT, MULDER)
"""Physicians of other houses, with whom the study is shared."""

MOOR = Person("moor", "Pat Moor", ROLE_FACILITY_MANAGER, {ENDPOINT: LEVEL_VIEW}, home=ENDPOINT)

CT = SyntheticCT(institution_name=RULE_TEXT)
"""The study of 300 slices that the rule sends to Maple Street 44."""


@dataclass(frozen=True, slots=True)
class Site:
    """A gateway and the facility of its AE title."""

    name: str
    ae_title: str
    facility: str


CENTRAL = Site("central", "LAKELAND", HUB)
NORTHGATE = Site("northgate", "NORTHGATE", STANDARD)

MODALITY = "MODALITY"
"""AE title of the modality that both gateways know."""

SITES = (CENTRAL, NORTHGATE)
