"""What viewers send, spoilt: each answers the bytes that had an outcome nobody expects, or none."""

import json
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from urllib.parse import quote

from kernel.errors import Invalid, NotFound
from plumbing.callers import STRANGER
from plumbing.dicomjson import to_json
from plumbing.responses import Request, Response, negotiated
from services.access.filter.grammar import parse as parse_filter
from services.ingest import dicomweb, matching, media, studylist
from tests.ingest.objects import a_ct

ACCEPT = (
    b'multipart/related; type="application/octet-stream"; transfer-syntax=*;q=0.5, '
    b"application/dicom+json, image/jpeg;q=0.1, */*;q=0"
)
QUERY = (
    b"PatientName=*a?%25_%27*&StudyDate=20260101-20260228&StudyTime=0800-&ModalitiesInStudy=MR,CT&00100020=1%5C2"
    b"&StudyInstanceUID=1.2%5C1.3,1.4&limit=10&offset=5&includefield=all&fuzzymatching=true&accept=*/*"
)
PATH = b"/cases/01234567-89ab-cdef-0123-456789abcdef/studies/1.2/series/1.3/instances/1.4/frames/1,2"
RANGE = b"bytes=10-19, 30-"
BODY = b"".join(bytes([n]) * 10 for n in range(10))
SYNTAXES = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
LEVELS = (matching.STUDIES, matching.SERIES, matching.INSTANCES)

Spoil = Callable[[bytes, random.Random], bytes]


def accepts(spoil: Spoil, chance: random.Random) -> bytes:
    """Accept: what is chosen is offered."""
    text = spoil(ACCEPT, chance)
    offers = media.of_frames(
        chance.choice((media.EXPLICIT_LITTLE, *media.COMPRESSED)), alone=chance.random() < 0.5
    )
    try:
        choice = media.choose(media.ranges(text.decode("latin-1")), offers)
        return b"" if choice is None or choice in offers else text
    except Exception:
        return text


def queries(spoil: Spoil, chance: random.Random) -> bytes:
    """Query strings: a search, a filter that access can read, and rows that match; or Invalid."""
    text = spoil(QUERY, chance)
    try:
        with suppress(Invalid):
            query = matching.parse(matching.parameters(text.decode("latin-1")), chance.choice(LEVELS))
            list(filter(query.matches, _rows()))
        with suppress(Invalid):
            query = matching.parse(matching.parameters(text.decode("latin-1")), matching.STUDIES)
            if (where := studylist.where(query.keys)).isprintable() and where:
                _read_by_access(where)
        return b""
    except Exception:
        return text


def _read_by_access(where: str) -> None:
    try:
        parse_filter(where, is_of_group=False)
    except Invalid as error:
        raise AssertionError(where) from error


def _rows() -> Iterator[matching.Row]:
    yield {
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Vermeer^Ada"}]},
        "00080020": {"vr": "DA", "Value": [None]},
    }
    yield {"00080061": {"vr": "CS"}, "00080030": {"vr": "TM", "Value": ["0815"]}, "0020000D": {"vr": "UI"}}


def paths(spoil: Spoil, chance: random.Random) -> bytes:
    """Paths: a resource or none."""
    text = spoil(PATH, chance)
    try:
        with suppress(NotFound):
            dicomweb.parse(quote(text, safe="/%,"))
        return b""
    except Exception:
        return text


def ranges(spoil: Spoil, chance: random.Random) -> bytes:
    """Range and conditions: the whole, a part of exactly the bytes it says, or nothing."""
    text = spoil(RANGE, chance)
    headers = {
        "range": text.decode("latin-1"),
        chance.choice(("if-range", "if-none-match")): chance.choice(('"x"', "x")),
    }
    response = Response(200, "application/dicom", [BODY[:33], BODY[33:]], tag="x")
    try:
        answer = negotiated(Request("GET", "/", "", headers, STRANGER, lambda: None), response)
        body = b"".join(bytes(each) for each in answer.body if isinstance(each, bytes | memoryview))
        told = dict(answer.headers).get("Content-Range", "")
        match answer.status:
            case 200:
                right = body == BODY
            case 206:
                first, last = told.removeprefix("bytes ").partition("/")[0].split("-")
                right = body == BODY[int(first) : int(last) + 1] != b""
            case _:
                right = answer.status in (304, 416) and not body
        return b"" if right else text
    except Exception:
        return text


def heads(spoil: Spoil, chance: random.Random) -> bytes:
    """Data sets as JSON: whatever they are, it is an object."""
    data = spoil(a_ct(uid="1.2.3").data, chance)
    try:
        json.loads(to_json(data, chance.choice(SYNTAXES), bulk=str))
        return b""
    except Exception:
        return data


TARGETS = (accepts, queries, paths, ranges, heads)
