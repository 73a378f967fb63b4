"""Whether two received identities may be one patient.

    patient ID, issuer, birth date   both given and different: another patient
    sex                              the same; `O` (other) says as little as nothing
    name, with one patient ID        another patient if not a word of the two names is the same
    name, without                    another patient unless family and given name are the same

Workstations rewrite names, so names are compared as words: without case, accents and order. What is given on
one side only contradicts nothing. What agrees and is written differently is told, so that a person can look.
"""

import re
import unicodedata
from dataclasses import dataclass, fields

_LEAST_ACCENT = 10
"""Unicode combining classes from here on are accents and optional vowel points. The smaller ones, such as the
voicing marks of kana, make another letter."""
_OF_WORDS = "LMN"
"""Unicode categories of what words are made of: letters, marks and numbers."""
_APOSTROPHES = str.maketrans("", "", "'`\u00b4\u02bc\u2018\u2019")
_DIGITS = re.compile(r"\D")
_OTHER_SEX = "o"


@dataclass(frozen=True, slots=True)
class Identity:
    """A patient's identity as received, decoded; empty is absent (PS3.3 C.2.2)."""

    patient_id: str = ""
    issuer_of_patient_id: str = ""
    patient_name: str = ""
    patient_birth_date: str = ""
    patient_sex: str = ""

    def filled_from(self, other: "Identity") -> "Identity":
        """This identity, with what it does not say taken from another."""
        pairs = ((each.name, getattr(self, each.name), getattr(other, each.name)) for each in fields(self))
        return Identity(*(mine if _says(name, mine) else theirs for name, mine, theirs in pairs))


KEYWORDS = {
    "patient_id": "PatientID",
    "issuer_of_patient_id": "IssuerOfPatientID",
    "patient_name": "PatientName",
    "patient_birth_date": "PatientBirthDate",
    "patient_sex": "PatientSex",
}
"""The DICOM keyword of each attribute, by which people are told what differs."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How two identities compare, by DICOM keyword; the values themselves are never part of it.

    Attributes:
        differs: what makes them two patients; empty: they may be one.
        written_differently: what agrees and is not the same text.
    """

    differs: tuple[str, ...] = ()
    written_differently: tuple[str, ...] = ()

    @property
    def may_be_one_patient(self) -> bool:
        return not self.differs


def compare(one: Identity, other: Identity) -> Comparison:
    """Compare two identities; which comes first does not matter."""
    same_id = bool(one.patient_id.strip()) and one.patient_id.strip() == other.patient_id.strip()
    differs, written_differently = [], []
    for name, keyword in KEYWORDS.items():
        mine, theirs = getattr(one, name).strip(), getattr(other, name).strip()
        if mine == theirs or not _says(name, mine) or not _says(name, theirs):
            continue
        if _agree(name, mine, theirs, same_id=same_id):
            written_differently.append(keyword)
        else:
            differs.append(keyword)
    return Comparison(tuple(differs), tuple(written_differently))


def is_same_patient(one: Identity, other: Identity) -> bool:
    """Whether two identities that have the same ID of the same issuer are surely one patient.

    What only one of them says is no agreement here. With one birth date a word of the names must be the same,
    as in `compare`: people marry. Where neither has a birth date, family and given name must be.
    """
    for name in ("patient_name", "patient_birth_date"):
        if _says(name, getattr(one, name)) != _says(name, getattr(other, name)):
            return False
    names = one.patient_name.strip(), other.patient_name.strip()
    if not _says("patient_birth_date", one.patient_birth_date):
        return names[0] == names[1] or (_says("patient_name", names[0]) and _same_name(*names))
    return compare(one, other).may_be_one_patient


def _says(name: str, value: str) -> bool:
    """Whether the value says anything about who the patient is."""
    match name:
        case "patient_name":
            return bool(_words(value))
        case "patient_sex":
            return value.strip().casefold() not in {"", _OTHER_SEX}
        case _:
            return bool(value.strip())


def _agree(name: str, mine: str, theirs: str, *, same_id: bool) -> bool:
    match name:
        case "patient_name":
            return bool(_words(mine) & _words(theirs)) if same_id else _same_name(mine, theirs)
        case "patient_birth_date":  # `1970.01.31` is how DICOM wrote `19700131` before 1993
            return _DIGITS.sub("", mine) == _DIGITS.sub("", theirs) != ""
        case "patient_sex":
            return mine.casefold() == theirs.casefold()
        case _:
            return False


def _same_name(one: str, other: str) -> bool:
    """Whether family and given name are the same.

    A name has up to three component groups: alphabetic, ideographic, phonetic (PS3.5 6.2.1). Each that both
    have must be the same. If they have none in common, one group must be the same as one of the other.
    """
    mine, theirs = _groups(one), _groups(other)
    if both := mine.keys() & theirs.keys():
        return all(_same_group(mine[number], theirs[number]) for number in both)
    return any(_same_group(each, another) for each in mine.values() for another in theirs.values())


def _same_group(one: str, other: str) -> bool:
    """Middle names, titles and the order of the words do not count.

    A name in one piece may hold a middle name: then its words must have the family and given name of the
    other, and nothing that the other lacks.
    """
    mine, theirs = _family_and_given(one), _family_and_given(other)
    if mine and theirs:
        return mine == theirs
    parted, in_one_piece = (one, other) if mine else (other, one)
    needed = mine or theirs or _words(parted)
    return needed <= _words(in_one_piece) <= _words(parted)


def _family_and_given(group: str) -> frozenset[str] | None:
    """Their words; None where the name is in one piece, so that nobody can say which is which."""
    family, _, rest = group.partition("^")
    given = _words(rest.partition("^")[0])
    family_words = _words(family)
    return family_words | given if family_words and given else None


def _groups(name: str) -> dict[int, str]:
    return {number: group for number, group in enumerate(name.split("=")) if _words(group)}


def _words(text: str) -> frozenset[str]:
    """The words of a name in their plain form: without case, accents, apostrophes and punctuation."""
    decomposed = unicodedata.normalize("NFKD", text.translate(_APOSTROPHES)).casefold()
    letters = (
        each if unicodedata.category(each)[0] in _OF_WORDS else " "
        for each in decomposed
        if unicodedata.combining(each) < _LEAST_ACCENT
    )
    return frozenset(unicodedata.normalize("NFC", "".join(letters)).split())
