"""The search box: one line of words, compiled to the same tree as a filter.

    line   := word*                                         all of them must hold
    word   := [prefix ":"] (phrase | text)                  letters and a colon are a prefix, or refused
    prefix := "name" | "id" | "ref" | "desc" | "mod" | "fac" | "date" | "status"
    phrase := '"' any* '"'                                  stays together, blanks and all

A word without a prefix is a date or part of one (`2026-11-21`, `20261121`, `2026-11`, `today`, `yesterday`,
`-3d`: since that day), a known modality, the beginning of a number (PatientID, AccessionNumber, StudyID), or
else a text that patient, description, referring physician or facility contain, without case and accents.
"""

import re
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from uuid import UUID

from kernel.errors import Invalid
from services.access.filter.fields import FIELD_BY_NAME, Field, Function, Operator
from services.access.filter.forms import plain
from services.access.filter.literals import FIRST_DAY, LAST_DAY, nearest
from services.access.filter.prefilter import NUMBERS
from services.access.filter.tree import (
    And,
    Bound,
    Choice,
    Constant,
    Day,
    Expression,
    Literal,
    Or,
    Predicate,
    Text,
)

MAX_CHARACTERS = 200
"""Of a line; nobody types more into a box."""
MAX_WORDS = 20

MODALITIES = frozenset((
    "AR", "ASMT", "AU", "BDUS", "BI", "BMD", "CR", "CT", "CTPROTOCOL", "DG", "DMS", "DOC", "DX", "ECG",
    "EEG", "EMG", "EOG", "EPS", "ES", "FID", "GM", "HC", "HD", "IO", "IOL", "IVOCT", "IVUS", "KER", "KO",
    "LEN", "LS", "MG", "MR", "M3D", "NM", "OAM", "OCT", "OP", "OPM", "OPT", "OPTBSV", "OPTENF", "OPV",
    "OSS", "OT", "PLAN", "POS", "PR", "PT", "PX", "REG", "RESP", "RF", "RG", "RTDOSE", "RTIMAGE",
    "RTINTENT", "RTPLAN", "RTRAD", "RTRECORD", "RTSEGANN", "RTSTRUCT", "RWV", "SEG", "SM", "SMR", "SR",
    "SRF", "STAIN", "TG", "US", "VA", "XA", "XAPROTOCOL", "XC",
))  # fmt: skip
"""Defined Terms of Modality (0008,0060), PS3.3 C.7.3.1.1.1, but for those that are words."""

_WORD = re.compile(r'(?:(?P<prefix>[A-Za-z]+):)?(?:"(?P<phrase>[^"]*)"?|(?P<text>[^\s"]\S*))')
_QUOTES = str.maketrans(dict.fromkeys("“”„‟″", '"'))
_DAY = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})", re.ASCII)
_MONTH = re.compile(r"(\d{4})-(\d{2})", re.ASCII)
_YEAR = re.compile(r"(\d{4})", re.ASCII)
_SINCE = re.compile(r"-(\d{1,4})([dw])", re.ASCII | re.IGNORECASE)
_DAYS = {"d": 1, "w": 7}
_CONTAINING = ("PatientName", "StudyDescription", "ReferringPhysicianName")
_IN_NO_VALUE = re.compile("[\0\ud800-\udfff]")


def searched(line: str, today: date, facilities: Mapping[UUID, str]) -> Expression | None:
    """What a line asks for, bound; None if it asks nothing. Raises Invalid.

    Args:
        today: where the reader is.
        facilities: names, by id, of those that the reader may know of.
    """
    if len(line) > MAX_CHARACTERS:
        raise _refused(f"is too long: expected at most {MAX_CHARACTERS} characters")
    if _IN_NO_VALUE.search(line):
        raise _refused("holds a character that no value has")
    box = _Box(today, facilities)
    terms = [box.word(found) for found in _WORD.finditer(line.translate(_QUOTES))]
    if len(terms) > MAX_WORDS:
        raise _refused(f"holds too many words: expected at most {MAX_WORDS}")
    if len(terms) > 1:
        return And(tuple(terms))
    return terms[0] if terms else None


class _Box:
    """What each word asks for."""

    def __init__(self, today: date, facilities: Mapping[UUID, str]) -> None:
        self._today = today
        self._facilities = facilities
        self._by_prefix: Mapping[str, Callable[[str], Expression]] = {
            "name": lambda text: _contains("PatientName", text),
            "id": _begins,
            "ref": lambda text: _contains("ReferringPhysicianName", text),
            "desc": lambda text: _contains("StudyDescription", text),
            "mod": lambda text: _is("ModalitiesInStudy", Text(text.upper())),
            "fac": lambda text: self._facility(text) or Constant(False),
            "date": self._date,
            "status": _status,
        }

    def word(self, found: re.Match[str]) -> Expression:
        """word := [prefix ":"] (phrase | text)"""
        prefix, phrase = found["prefix"] or "", found["phrase"]
        text = phrase if phrase is not None else found["text"]
        ask = self._by_prefix.get(prefix.lower())
        if ask is None and prefix:
            raise self._no_prefix(prefix, found[0])
        if not plain(text).strip():
            raise _refused(f"has nothing to look for in `{found[0]}`")
        if ask is not None:
            return ask(text)
        return self._anywhere(text) if phrase is not None else self._plain_word(text)

    def _no_prefix(self, prefix: str, word: str) -> Invalid:
        near = nearest(prefix, tuple(self._by_prefix))
        return _refused(
            f"knows no word `{prefix}:`: "
            + (f"the nearest is `{near}:`, and all are " if near else "expected one of ")
            + " ".join(f"{each}:" for each in self._by_prefix)
            + f'; to look for such a text itself, quote it, as in `"{word.replace(chr(34), "")}"`'
        )

    def _plain_word(self, text: str) -> Expression:
        days = self._days(text)
        if days:
            return _between(*days)
        if text.upper() in MODALITIES:
            return _is("ModalitiesInStudy", Text(text.upper()))
        return _begins(text) if text.isascii() and text.isdigit() else self._anywhere(text)

    def _anywhere(self, text: str) -> Expression:
        asked = [_contains(keyword, text) for keyword in _CONTAINING]
        facility = self._facility(text)
        return Or((*asked, facility) if facility else tuple(asked))

    def _facility(self, text: str) -> Expression | None:
        wanted = plain(text)
        ids = sorted(each for each, name in self._facilities.items() if wanted in plain(name))
        return Predicate(_field("Facility"), Operator.IN, tuple(map(Bound, ids))) if ids else None

    def _date(self, text: str) -> Expression:
        days = self._days(text) or _whole(_YEAR.fullmatch(text))
        if days is None:
            expected = "`2026-11-21`, `2026-11`, `2026`, `today`, `yesterday` or `-3d`"
            raise _refused(f"knows no date `{text}`: expected {expected}")
        return _between(*days)

    def _days(self, text: str) -> tuple[date, date] | None:
        """The first and the last day that a word means; None if it is no date."""
        yesterday = self._today - timedelta(days=1)
        named = {"today": (self._today, self._today), "yesterday": (yesterday, yesterday)}
        if text.lower() in named:
            return named[text.lower()]
        if since := _SINCE.fullmatch(text):
            return self._today - timedelta(days=int(since[1]) * _DAYS[since[2].lower()]), LAST_DAY
        return _whole(_DAY.fullmatch(text)) or _whole(_MONTH.fullmatch(text))


def _status(text: str) -> Expression:
    known = _field("StudyStatusID").choices or {}
    if text.upper() not in known:
        raise _refused(f"knows no status `{text}`: expected one of {' '.join(known)}")
    return _is("StudyStatusID", Choice(text.upper()))


def _whole(found: re.Match[str] | None) -> tuple[date, date] | None:
    """The days of a day, month or year; None if there is no such one."""
    if found is None:
        return None
    year, month, day, *_ = (*map(int, found.groups()), 0, 0)
    try:
        first = date(year, month or 1, day or 1)
    except ValueError:
        return None
    if not FIRST_DAY <= first <= LAST_DAY:
        return None
    if day:
        return first, first
    following = date(year, month + 1, 1) if 0 < month < 12 else date(min(year + 1, 9999), 1, 1)
    return first, min(following - timedelta(days=1), LAST_DAY)


def _field(keyword: str) -> Field:
    return FIELD_BY_NAME[keyword.casefold()]


def _is(keyword: str, literal: Literal) -> Predicate:
    return Predicate(_field(keyword), Operator.EQ, (literal,))


def _between(first: date, last: date) -> Predicate:
    if first == last:
        return _is("StudyDate", Day(first))
    if last == LAST_DAY:
        return Predicate(_field("StudyDate"), Operator.GE, (Day(first),))
    return Predicate(_field("StudyDate"), Operator.BETWEEN, (Day(first), Day(last)))


def _begins(text: str) -> Expression:
    return Or(tuple(Predicate(_field(each), Operator.STARTSWITH, (Text(text),)) for each in NUMBERS))


def _contains(keyword: str, text: str) -> Predicate:
    return Predicate(_field(keyword), Operator.CONTAINS, (Text(text),), Function.PLAIN)


def _refused(problem: str) -> Invalid:
    return Invalid(f"`search` {problem}", field="search")
