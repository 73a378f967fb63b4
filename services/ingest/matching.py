"""QIDO-RS inside a case: what of it matches (PS3.18 8.3.4, 10.6).

A key that nobody supports is ignored with a warning; a value that cannot be is refused. Neither shows more
than the case.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache
from itertools import islice
from typing import Any
from urllib.parse import parse_qsl

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

from kernel.errors import Invalid
from services.ingest.domain import Seen, StoredInstance

DEFAULT_LIMIT, MAX_LIMIT, MAX_OFFSET = 100, 1000, 10_000
MAX_QUERY_CHARACTERS = 8192
MAX_KEYS = 32
MAX_PATTERN_CHARACTERS = 256
"""Of a text that is looked for: a person name has at most three groups of 64 (PS3.5 6.2)."""

_STUDY_UID, _SERIES_UID, _INSTANCE_UID = "0020000D", "0020000E", "00080018"
_PATIENT_ID = "00100020"
_MODALITY, _MODALITIES = "00080060", "00080061"
_SERIES_COUNT, _STUDY_INSTANCES, _SERIES_INSTANCES = "00201206", "00201208", "00201209"
_RETRIEVE_URL, _AVAILABILITY = "00081190", "00080056"
_COUNTED = {_SERIES_COUNT, _STUDY_INSTANCES, _SERIES_INSTANCES, _RETRIEVE_URL, _AVAILABILITY}
_DATES = re.compile(r"(\d{8})?(-)?(\d{8})?", re.ASCII)
_TIMES = re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?", re.ASCII)
FIRST_YEAR = 1000
"""As filters know days."""
_UIDS = re.compile(r"[0-9.]{1,64}")
_RANGED = frozenset({"DA", "TM", "DT"})

Row = dict[str, Any]
"""A data set in the DICOM JSON model."""

_FUZZY = "The fuzzymatching parameter is not supported. Only literal matching has been performed."


@dataclass(frozen=True, slots=True)
class Level:
    """What is searched for.

    Attributes:
        depth: how many UIDs name one of it.
        answered: tags that each row has, where the instances have them (PS3.18 10.6.3).
        keys: tags that may be matched (PS3.18 10.6.1.2).
    """

    depth: int
    answered: tuple[str, ...]
    keys: frozenset[str]


_STUDY_KEYS = ("00080020", "00080030", "00080050", "00080090", "00100010", "00100020", "00200010", "00081030")
_STUDY = ("00080005", *_STUDY_KEYS, _MODALITIES, "00100030", "00100040", "00080201", _STUDY_UID)
_SERIES_KEYS = (_MODALITY, "00200011", "00400244", "00400245", "0008103E")
_SERIES = (*_SERIES_KEYS, _SERIES_UID, "00080021", "00080031", "00400275")
_INSTANCE_KEYS = ("00080016", "00200013")
_INSTANCE = (*_INSTANCE_KEYS, _INSTANCE_UID, "00280008", "00280010", "00280011", "00280100", "00083002")
STUDIES = Level(1, _STUDY, frozenset((*_STUDY_KEYS, _MODALITIES, _STUDY_UID)))
SERIES = Level(2, ("00080005", *_SERIES, _STUDY_UID), STUDIES.keys | {*_SERIES_KEYS, _SERIES_UID})
INSTANCES = Level(
    3,
    ("00080005", *_INSTANCE, _STUDY_UID, _SERIES_UID, _MODALITY),
    SERIES.keys | {*_INSTANCE_KEYS, _INSTANCE_UID},
)


@dataclass(frozen=True, slots=True)
class Query:
    """What a search asks.

    Attributes:
        keys: values by tag, empty ones left out: they match everything.
        fields: further tags of each row; None: all.
    """

    keys: Mapping[str, str]
    fields: frozenset[str] | None
    limit: int
    offset: int
    warnings: Sequence[tuple[str, str]]

    def matches(self, row: Mapping[str, Any]) -> bool:
        """Whether a row has what is asked for."""
        return all(_matches(row, tag, value) for tag, value in self.keys.items())

    def of_patient(self, own: Row) -> "Query":
        """The same of cases that are of one patient with the study `own`, whatever their Patient ID."""
        if _PATIENT_ID not in self.keys or not _matches(own, _PATIENT_ID, self.keys[_PATIENT_ID]):
            return self
        return replace(self, keys={tag: value for tag, value in self.keys.items() if tag != _PATIENT_ID})


def _warning(text: str) -> tuple[str, str]:
    return "Warning", f'299 readroom "{text}"'


MORE = _warning("There are additional results that can be requested.")
"""How many is not counted (a deviation from PS3.18 8.3.4.4.1: the conformance statement tells it)."""


def parameters(query: str) -> dict[str, list[str]]:
    """The parameters of a query, in their order; raises Invalid where there are too many."""
    if len(query) > MAX_QUERY_CHARACTERS:
        raise Invalid("the query is too long")
    found: dict[str, list[str]] = {}
    try:
        for name, value in parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_KEYS):
            found.setdefault(name, []).append(value)
    except ValueError as error:
        raise Invalid(f"the query has more than {MAX_KEYS} parameters") from error
    return found


def parse(query: Mapping[str, Sequence[str]], level: Level) -> Query:
    """The search at a level that parameters ask for; raises Invalid."""
    given = dict(query)
    fields = [each for value in given.pop("includefield", []) for each in value.split(",") if each]
    limit = min(_number(given, "limit", DEFAULT_LIMIT, MAX_LIMIT), MAX_LIMIT)
    offset = _number(given, "offset", 0, MAX_OFFSET)
    if offset > MAX_OFFSET:
        raise Invalid(f"`offset` is at most {MAX_OFFSET}: narrow the query", field="offset")
    warnings = []
    if given.pop("fuzzymatching", ["false"])[-1] == "true":
        warnings.append(_FUZZY)
    keys: dict[str, str] = {}
    unknown = []
    for name, values in given.items():
        tag = _tag(name)
        if tag is None or tag not in level.keys:
            unknown.append(name)
            continue
        if len(values) > 1 or tag in keys:
            raise Invalid(f"`{name[:64]}` is given twice", field=name[:64])
        if values[0] and values[0] != "*":
            keys[tag] = _checked(tag, values[0])
    if unknown:
        warnings.append("Some query parameters are not supported and have been ignored.")
    told = [tag for each in fields if (tag := _tag(each)) is not None]
    return Query(
        keys,
        None if "all" in fields else frozenset(told),
        limit,
        offset,
        [_warning(each) for each in warnings],
    )


@dataclass(frozen=True, slots=True)
class Page:
    """What a search finds, as JSON; `is_cut`: there is more behind it."""

    rows: Sequence[str]
    is_cut: bool


def page(level: Level, query: Query, matched: Iterator[Row]) -> Page:
    """Of the rows that match, in their order, those after `offset` and up to `limit`.

    No more rows are made than that takes: a case may have tens of thousands of instances.
    """
    rows = [told(level, query, row) for row in islice(matched, query.offset, query.offset + query.limit)]
    return Page(rows, is_cut=len(rows) == query.limit and next(matched, None) is not None)


def told(level: Level, query: Query, row: Row) -> str:
    """What is answered of a row, as JSON."""
    fields = None if query.fields is None else {*level.answered, *query.fields, *_COUNTED}
    return json.dumps({tag: row[tag] for tag in sorted(row) if fields is None or tag in fields})


def rows(
    level: Level, found: Sequence[tuple[Sequence[Seen], str]], project: Callable[[StoredInstance], str]
) -> Iterator[Row]:
    """What each is, and where it is retrieved, as a row; `project` makes the JSON of an instance."""
    for members, location in found:
        row: Row = json.loads(project(members[0].stored))
        count = sum(each.members for each in members)
        series: dict[str, StoredInstance] = {}
        for each in members:
            series.setdefault(each.stored.instance.series_instance_uid, each.stored)
        if level is STUDIES:
            modalities = {_first(json.loads(project(each)), _MODALITY) for each in series.values()}
            row[_MODALITIES] = _cs(*sorted(each for each in modalities if each))
            row[_SERIES_COUNT] = {"vr": "IS", "Value": [len(series)]}
            row[_STUDY_INSTANCES] = {"vr": "IS", "Value": [count]}
        elif level is SERIES:
            row[_SERIES_INSTANCES] = {"vr": "IS", "Value": [count]}
        row[_RETRIEVE_URL] = {"vr": "UR", "Value": [location]}
        row[_AVAILABILITY] = _cs("ONLINE")
        yield row


def _cs(*values: str) -> dict[str, Any]:
    return {"vr": "CS", "Value": list(values)} if values else {"vr": "CS"}


def _number(given: dict[str, Sequence[str]], name: str, absent: int, most: int) -> int:
    values = given.pop(name, [])
    if not values:
        return absent
    if len(values) > 1 or not (values[0].isascii() and values[0].isdigit()) or len(values[0]) > 9:
        raise Invalid(f"`{name}` is a number from 0 to {most}", field=name)
    return int(values[0])


def _tag(name: str) -> str | None:
    """The tag of a keyword, or of eight hexadecimal digits."""
    if re.fullmatch(r"[0-9A-Fa-f]{8}", name):
        return name.upper()
    tag = tag_for_keyword(name)
    return None if tag is None else f"{tag:08X}"


def _checked(tag: str, value: str) -> str:
    vr = dictionary_VR(int(tag, 16))
    wrong = False
    if vr == "UI":
        wrong = not all(_UIDS.fullmatch(each) for each in _listed(value))
    elif vr == "DA":
        days = [each for each in value.split("-") if each]
        wrong = not (_DATES.fullmatch(value) and days and all(map(_is_day, days)))
    elif vr == "TM":
        times = [each for each in value.split("-") if each]
        wrong = value.count("-") > 1 or not times or not all(map(_TIMES.fullmatch, times))
    else:
        wrong = tag != _MODALITIES and len(value) > MAX_PATTERN_CHARACTERS
    if wrong:
        name = keyword_for_tag(int(tag, 16))
        raise Invalid(f"`{name}` cannot be `{value[:64]}`", field=name)
    return value


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).year >= FIRST_YEAR
    except ValueError:
        return False


def _listed(value: str) -> list[str]:
    return [each.strip() for each in re.split(r"[,\\]", value)]


def _first(row: Mapping[str, Any], tag: str) -> str:
    values = row.get(tag, {}).get("Value", [])
    return str(values[0]) if values else ""


def _matches(row: Mapping[str, Any], tag: str, wanted: str) -> bool:
    element = row.get(tag, {})
    vr = element.get("vr", "")
    values = [_plain(each) for each in element.get("Value", [])]
    if vr == "UI" or tag == _MODALITIES:
        return not set(values).isdisjoint(_listed(wanted))
    if vr in _RANGED and "-" in wanted:
        first, _, last = wanted.partition("-")
        return any(
            (not first or first <= each) and (not last or each[: len(last)] <= last) for each in values
        )
    pattern = _pattern(wanted)
    return any(pattern.fullmatch(each) for each in values)


@lru_cache(maxsize=64)
def _pattern(wanted: str) -> re.Pattern[str]:
    """A text with `*` and `?`, in time that grows with the product of the lengths at most.

    Each piece between two `*` stands at the first place where it fits, for good: a later one could not help
    the next.
    """
    first, *others = ("".join("." if c == "?" else re.escape(c) for c in each) for each in wanted.split("*"))
    if others:
        *between, last = others
        first += "".join(f"(?>.*?{piece})" for piece in between if piece) + f".*{last}"
    return re.compile(first, re.IGNORECASE | re.DOTALL)


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return str(value.get("Alphabetic", ""))
    return "" if value is None else str(value)
