"""What an instance tells, and the part of its study that it belongs to (decision 0016).

A part is everything received of a study under one patient identity and with one value of each mapping tag.
An instance is in one part for good, and what comes later changes no part but by adding to it: so whatever
was confirmed of a study stays as it was.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from kernel.dicom import MAPPING_TAGS, MAX_ATTRIBUTE_CHARACTERS, VALUES_PARTED_BY, cut_value
from kernel.errors import Invalid
from services.ingest.domain import Study

MOST: Mapping[str, int] = {
    "mapping_values": 8,
    "identities": 64,
    "attribute_sets": 64,
    "parts": 4_000,
    "series_in_parts": 65_536,
}
"""What is kept of a study, however it is made.

Values of a mapping tag and series, for the version before: two already hold the series (A19). Of more
patients than this nobody can tell anything, and of more parts one for each identity stands for the others:
with these a study has fewer than 4,096.
"""
DESCRIBED = 1
"""The state of the study-level attributes of `INDEXED_ATTRIBUTES`. Whoever adds one raises it, and makes an
index of the parts with a lower state, as migration 0013 does: then these are described again."""
PARTS_PAGE = 500
MAX_MODALITIES = 32
"""Of a part, or of a study as a whole, as they are told."""
MAX_DISTINCT = 32
"""Institutions, and body parts, of a part as they are told."""
INSTITUTION_NAME, BODY_PART_EXAMINED = "InstitutionName", "BodyPartExamined"
"""Mapping tags whose values are told whatever the tag of the facility is."""
MAX_SERIES_NAMED = 2_000
"""Series that a snapshot names, for what others keep for the version before: it could take no more."""
SEVERAL = ("…", "……")
"""The mapping values of a part that stands for others: they differ."""
_DIGEST_CHARACTERS = 16  # 64 bits tell over-long values apart


def whole_value(text: str, vr: str) -> str:
    """Return what is compared: a value that its VR allows, as it stands, or what stands for a longer one.

    A longer one must not match the rule of its beginning, and must not agree with another of the same
    beginning. It becomes one text, cut, that ends in a digest of the whole: no rule has it, and the part
    waits for a person (A19).
    """
    kept = cut_value(text, vr)
    if kept == text:
        return text
    one_text = kept.replace(VALUES_PARTED_BY, " ")[: MAX_ATTRIBUTE_CHARACTERS - _DIGEST_CHARACTERS - 1]
    return one_text + "…" + hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_CHARACTERS]


@dataclass(frozen=True, slots=True)
class Description:
    """What is indexed of an instance, decoded to Unicode, padding stripped, empty values left out.

    Attributes:
        study: study-level attributes by keyword.
        series: series-level attributes by keyword.
        mapping: values of mapping tags by keyword (RTE-5, A19).
        identity: the patient identity by keyword.
        digest: the same for all instances of one part of a study, and for no others.
    """

    study: Mapping[str, str]
    series: Mapping[str, str]
    mapping: Mapping[str, str]
    identity: Mapping[str, str] = field(default_factory=dict)
    digest: bytes = field(init=False)

    def __post_init__(self) -> None:
        told = json.dumps([dict(self.identity), dict(self.mapping)], sort_keys=True)
        object.__setattr__(self, "digest", hashlib.sha256(told.encode()).digest())


@dataclass(frozen=True, slots=True)
class Distinct:
    """The distinct values of an attribute in a part, sorted, and how many more there are."""

    values: tuple[str, ...] = ()
    left_out: int = 0

    @classmethod
    def of(cls, told: Iterable[str]) -> "Distinct":
        """What elements hold; each may have several values."""
        single = {value.strip() for each in told for value in each.split(VALUES_PARTED_BY)} - {""}
        return cls(tuple(sorted(single))[:MAX_DISTINCT], max(0, len(single) - MAX_DISTINCT))


NOT_KEPT = Distinct(left_out=1)
"""Of a part that stands for others: they differ, and nobody kept how."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a received study.

    Attributes:
        number: grows with the order of first receipt.
        identity: its number; 0: one that was not kept.
        mapping_values: of the mapping tag that was asked for; several: they differ.
        attribute_set: its number; 0: none was kept.
        modalities: of its series, sorted.
        series: ordinals of the series in which it has instances, sorted.
        received_at, last_received_at: when the first and the last of its instances were durable.
    """

    number: int
    identity: int
    mapping_values: tuple[str, ...]
    attribute_set: int
    modalities: tuple[str, ...]
    series: tuple[int, ...]
    instance_count: int
    received_at: datetime
    last_received_at: datetime
    institution_names: Distinct = Distinct()
    body_parts: Distinct = Distinct()


@dataclass(frozen=True, slots=True)
class StudyInParts:
    """A received study with a page of its parts.

    Attributes:
        study: without attributes and series.
        identities, attribute_sets: by number.
        more: whether parts follow.
        series_instance_uids: by ordinal; on the first page, and of at most MAX_SERIES_NAMED series.
    """

    study: Study
    identities: Mapping[int, Mapping[str, str]]
    attribute_sets: Mapping[int, Mapping[str, str]]
    parts: Sequence[Part]
    more: bool
    series_instance_uids: Sequence[str]


def parse_mapping_tag(keyword: str) -> str:
    """The keyword of a mapping tag, or none; raises Invalid."""
    if keyword and keyword not in MAPPING_TAGS:
        raise Invalid("`mapping_tag` is not a tag that a hub may choose", field="mapping_tag")
    return keyword
