"""Forty invented studies of many kinds: what a list looks like on a working day."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    MRImageStorage,
    UltrasoundImageStorage,
)

from demo.cast import CENTRAL, ENDPOINT, NORTHGATE, RULE_TEXT, STANDARD, Site
from demo.dicom_files import SyntheticCT, written_as

CASES = 40

_KINDS: tuple[tuple[str, UID, int, tuple[str, ...]], ...] = (
    ("CT", CTImageStorage, 6, ("CT chest with contrast", "CT head", "CT abdomen and pelvis", "CT sinuses")),
    ("MR", MRImageStorage, 5, ("MR knee left", "MR brain", "MR lumbar spine", "MR shoulder right")),
    (
        "CR",
        ComputedRadiographyImageStorage,
        2,
        ("Chest PA and lateral", "Hand right", "Pelvis AP", "Wrist left"),
    ),
    (
        "US",
        UltrasoundImageStorage,
        3,
        ("Ultrasound abdomen", "Ultrasound thyroid", "Doppler carotid arteries"),
    ),
    ("MG", DigitalMammographyXRayImageStorageForPresentation, 4, ("Mammography, both sides",)),
)
"""Modality, kind of object, images, and what the study may be called."""

_FAMILIES = """Ahmadi Bakker Cohen Dubois Eriksen Fischer García Haddad Ilves Jansen Kowalska Laurent Müller
Nakamura Öztürk O'Brien Petrov Quist Rossi Schröder Takács Uzun Verhoeven Wójcik Yildiz Zeman"""
_WOMEN = "Amira Beatrix Chloé Daria Elin Fatima Greta Hilde Ingrid Jana Klára Lotte"
_MEN = "Arjan Bilal Cem Daan Emil Finn Gustav Hugo Imre Joris Karel Luca"
_REFERRING = ("Okafor^Ben^^Dr", "Keller^Mina^^Dr", "Brandt^Lena^^Dr", "Mulder^Joost^^Dr")


@dataclass(frozen=True, slots=True)
class Invented:
    """One study.

    Attributes:
        number: from 1, the oldest.
        site: whose gateway it comes to.
        facility: whose case it becomes.
        images: how many there are.
    """

    number: int
    site: Site
    facility: str
    images: int
    elements: dict[str, str]

    @property
    def study(self) -> SyntheticCT:
        return SyntheticCT(slices=self.images, size=128, name=f"invented-{self.number}")

    def write(self, folder: Path) -> list[Path]:
        """Writes its images into `folder`; answers their paths."""
        return [written_as(path, path, **self.elements) for path in self.study.write(folder)]


def studies(now: datetime) -> Iterator[Invented]:
    """The forty, the same ones at each start, made within the three days before `now`; the oldest first.

    Each fifth is a second study of a patient who was here before, so that cases have priors.
    """
    random = Random(44)
    patients: list[dict[str, str]] = []
    for number in range(1, CASES + 1):
        modality, sop_class, images, descriptions = _KINDS[number % len(_KINDS)]
        again = number % 5 == 0
        patient = random.choice(patients) if again else _patient(random, number)
        patients.append(patient)
        made_at = now - timedelta(minutes=(CASES - number) * 95 + random.randrange(60))
        at_endpoint = number % 3 != 0
        yield Invented(
            number,
            CENTRAL if at_endpoint else NORTHGATE,
            ENDPOINT if at_endpoint else STANDARD,
            images,
            {
                **patient,
                "SOPClassUID": str(sop_class),
                "Modality": modality,
                "StudyDescription": random.choice(descriptions),
                "SeriesDescription": modality,
                "ReferringPhysicianName": random.choice(_REFERRING),
                "InstitutionName": RULE_TEXT if at_endpoint else STANDARD,
                "AccessionNumber": f"A{made_at:%y%m}-{number:04}",
                "StudyDate": f"{made_at:%Y%m%d}",
                "StudyTime": f"{made_at:%H%M%S}",
            },
        )


def _patient(random: Random, number: int) -> dict[str, str]:
    sex = random.choice("FM")
    given = random.choice((_WOMEN if sex == "F" else _MEN).split())
    born = datetime(1936, 1, 1, tzinfo=UTC) + timedelta(days=random.randrange(85 * 365))
    return {
        "PatientName": f"{random.choice(_FAMILIES.split())}^{given}",
        "PatientID": f"{random.randrange(10**6):06}-{number:02}",
        "PatientBirthDate": f"{born:%Y%m%d}",
        "PatientSex": sex,
    }
