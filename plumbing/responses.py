"""What is asked and answered over HTTP, as values: statuses, entity tags, ranges, compression (RFC 9110).

A body is a list of bytes, of extents of files and of bytes that come from elsewhere meanwhile, so its length
is known before the first byte: ranges, HEAD and 304 are the same for every answer. edge.py sends them.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from kernel.errors import (
    Conflict,
    Denied,
    Exhausted,
    Expired,
    Invalid,
    NotFound,
    ReadroomError,
    Unauthenticated,
    Unavailable,
    code_of,
)
from plumbing.callers import Peer

STATUSES: dict[type[ReadroomError], int] = {
    Invalid: 400,
    NotFound: 404,
    Denied: 403,
    Unauthenticated: 401,
    Conflict: 409,
    Expired: 410,
    Exhausted: 429,
    Unavailable: 503,
}
"""The status of each word (RFC 9110 15)."""

MAX_RANGE_DIGITS = 18
"""Of a position in a range: no body is longer."""
RETRY_AFTER_S = 2
_GZIP_FROM_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Extent:
    """Bytes of an open file."""

    file: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Flow:
    """Bytes that come from elsewhere while they are sent.

    Attributes:
        open: answers a run of them, by offset and length, in chunks.
    """

    open: Callable[[int, int], AbstractContextManager[Iterator[bytes]]]
    offset: int
    length: int


Piece = bytes | memoryview | Extent | Flow


def part(piece: Piece, first: int, last: int) -> Piece:
    """What lies between two positions of it."""
    if isinstance(piece, bytes | memoryview):
        return piece[first:last]
    return replace(piece, offset=piece.offset + first, length=last - first)


def length_of(piece: Piece) -> int:
    return len(piece) if isinstance(piece, bytes | memoryview) else piece.length


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked.

    Attributes:
        path: as it came, percent-encoded, without query.
        headers: by their names in lower case; of several with one name the values, joined by commas.
        abort: ends the connection at once; from any thread.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    peer: Peer
    abort: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Response:
    """What is answered.

    Attributes:
        tag: an entity tag of exactly these bytes (RFC 9110 8.8.3), without quotes; empty: there is none.
        compressible: whether gzip makes it shorter; only of a body without extents.
    """

    status: int
    content_type: str = ""
    body: Sequence[Piece] = ()
    headers: Sequence[tuple[str, str]] = ()
    tag: str = ""
    compressible: bool = False

    @property
    def length(self) -> int:
        return sum(map(length_of, self.body))


def problem(error: ReadroomError) -> Response:
    """The answer that says why not."""
    status = code_of(error, STATUSES)
    headers = [("Retry-After", str(RETRY_AFTER_S))] if status in (429, 503) else []
    return Response(status, "text/plain; charset=utf-8", [f"{error.sentence}\n".encode()], headers)


def negotiated(asked: Request, response: Response) -> Response:
    """The same answer as a 304, a range of it, or compressed."""
    if response.status != 200:
        return response
    if response.compressible:
        response = replace(response, headers=[*response.headers, ("Vary", "Accept-Encoding")])
        if _takes_gzip(asked.headers.get("accept-encoding", "")) and response.length >= _GZIP_FROM_BYTES:
            packer = zlib.compressobj(1, wbits=31)
            packed = [packer.compress(each) for each in response.body if isinstance(each, bytes)]
            headers = [*response.headers, ("Content-Encoding", "gzip")]
            tag = f"{response.tag}-gzip" if response.tag else ""
            response = replace(response, body=[*packed, packer.flush()], headers=headers, tag=tag)
    if response.tag and _names(asked.headers.get("if-none-match", ""), response.tag):
        return replace(response, status=304, body=(), content_type="")
    if response.tag and not response.compressible:
        response = replace(response, headers=[*response.headers, ("Accept-Ranges", "bytes")])
        return _ranged(asked, response)
    return response


def _takes_gzip(accepted: str) -> bool:
    for each in accepted.lower().split(","):
        coding, _, quality = each.partition(";")
        if coding.strip() in ("gzip", "*"):
            return quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def _names(field_value: str, tag: str) -> bool:
    tags = [each.strip().removeprefix("W/") for each in field_value.split(",")]
    return "*" in tags or f'"{tag}"' in tags


def _ranged(asked: Request, response: Response) -> Response:
    """One range of bytes (RFC 9110 14); several, or another unit, are answered whole."""
    wanted = asked.headers.get("range", "")
    condition = asked.headers.get("if-range", "")
    if not wanted.startswith("bytes=") or (condition and condition != f'"{response.tag}"'):
        return response
    first, dash, last = wanted.removeprefix("bytes=").strip().partition("-")
    length = response.length
    numbers = [each for each in (first, last) if each]
    if not dash or not numbers or not all(each.isascii() and each.isdigit() for each in numbers):
        return response
    if any(len(each) > MAX_RANGE_DIGITS for each in numbers):
        return response
    start = int(first) if first else max(0, length - int(last))
    end = min(length, int(last) + 1) if first and last else length
    if start >= length or end <= start:
        headers = [*response.headers, ("Content-Range", f"bytes */{length}")]
        return replace(response, status=416, body=(), headers=headers, content_type="")
    headers = [*response.headers, ("Content-Range", f"bytes {start}-{end - 1}/{length}")]
    return replace(response, status=206, body=list(_slice(response.body, start, end)), headers=headers)


def _slice(body: Sequence[Piece], start: int, end: int) -> Iterator[Piece]:
    at = 0
    for piece in body:
        length = length_of(piece)
        first, last = max(start - at, 0), min(end - at, length)
        if first < last:
            yield part(piece, first, last)
        at += length
