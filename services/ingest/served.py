"""Stored instances as viewers want them: the whole file, the head, its JSON, frames.

One `project` makes head and JSON, so that instance, metadata and search results cannot differ. Nothing of an
instance goes out before its digest was found right once since the process started, on a file that has not
changed since (R6).
"""

import errno
import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import Any

from kernel.dataset import DEFLATED, EXPLICIT_BIG
from kernel.errors import NotFound, Unavailable
from plumbing.dicomjson import Memo, pixel_data, to_json, value_at
from plumbing.edge import Extent
from services.ingest.domain import StoredInstance
from services.ingest.packs import HEADER_LENGTH, Packs

MAX_HEAD_BYTES = 256 << 20
"""Of a data set without pixel data, as a document is, or before it."""
MAX_FRAGMENTS = 1 << 18
"""Of encapsulated pixel data that are parted into frames: each takes about 100 bytes of memory."""
_CHUNK = 1 << 20
_REMEMBERED = 200_000
_ITEM = b"\xfe\xff\x00\xe0"
_PIXEL_TAGS = (b"\xe0\x7f\x10\x00", b"\xe0\x7f\x08\x00", b"\xe0\x7f\x09\x00")


class Verified:
    """The instances whose digest was found right, each with the file it was read from."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], None] = {}
        self._lock = threading.Lock()

    def __contains__(self, key: tuple[object, ...]) -> bool:
        return key in self._known

    def add(self, key: tuple[object, ...]) -> None:
        with self._lock:
            self._known[key] = None
            if len(self._known) > _REMEMBERED:
                del self._known[next(iter(self._known))]


@dataclass(frozen=True, slots=True)
class Pixels:
    """Where pixel data are in an open file, and what is needed to part them into frames."""

    file: int
    start: int
    length: int  # of native pixel data
    encapsulated: bool
    frames: int
    frame_bits: float


class Reading:
    """What one request reads; closes its files at the end."""

    def __init__(self, packs: Packs, verified: Verified) -> None:
        self._packs = packs
        self._verified = verified
        self._resources = ExitStack()
        self._files: dict[Any, int] = {}
        self._memo: Memo = {}

    def __enter__(self) -> "Reading":
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def object(self, stored: StoredInstance) -> Extent:
        """The Part 10 file."""
        file = self._file(stored)
        return Extent(file, stored.place.offset + HEADER_LENGTH, stored.place.file_length)

    def project(self, stored: StoredInstance, bulk: str) -> str:
        """The JSON of one instance (PS3.18 F.2); `bulk` begins the URI of each value that is bulk data."""
        syntax = stored.instance.transfer_syntax_uid
        return to_json(self._head(stored), syntax, bulk=lambda path: f"{bulk}{path}", memo=self._memo)

    def bulk_data(self, stored: StoredInstance, path: str) -> bytes | None:
        """The value at a path of a BulkDataURI, in little endian; None: there is none."""
        return value_at(self._head(stored), stored.instance.transfer_syntax_uid, path)

    def frames(self, stored: StoredInstance, numbers: Sequence[int]) -> list[list[Extent]]:
        """Where the bytes of each frame are, from 1. Raises NotFound where there is no such frame."""
        pixels = self._pixels(stored)
        if not all(1 <= number <= pixels.frames for number in numbers):
            raise NotFound(f"there is no such frame: the instance has {pixels.frames}")
        if not pixels.encapsulated:
            if pixels.frame_bits % 8 and pixels.frames > 1:
                raise NotFound("frames that begin inside a byte cannot be parted yet")
            size = int(pixels.frame_bits + 7) // 8
            if size <= 0:
                raise NotFound("the instance does not say how large its frames are")
            if size * pixels.frames > pixels.length:
                raise NotFound("the pixel data are shorter than their frames")
            return [[Extent(pixels.file, pixels.start + (number - 1) * size, size)] for number in numbers]
        fragments = list(islice(_fragments(pixels), MAX_FRAGMENTS + 1))
        if len(fragments) > MAX_FRAGMENTS:
            raise Unavailable("the instance has too many fragments: fetch the whole instance")
        parted = _parted(pixels, fragments)
        return [parted[number - 1] for number in numbers]

    def frame_count(self, stored: StoredInstance) -> int:
        """How many frames its pixel data have."""
        return self._pixels(stored).frames

    # The file

    def _file(self, stored: StoredInstance) -> int:
        pack_id = stored.place.pack_id
        if (file := self._files.get(pack_id)) is None:
            try:
                file = self._resources.enter_context(self._packs.opened(stored)).fileno()
            except NotFound as error:
                raise Unavailable("the images are on a volume that is away: try again later") from error
            self._files[pack_id] = file
        self._verify(stored, file)
        return file

    def _verify(self, stored: StoredInstance, file: int) -> None:
        place, state = stored.place, os.fstat(file)
        key = (place.pack_id, place.offset, stored.sha256, state.st_dev, state.st_ino)
        if key in self._verified:
            return
        digest = hashlib.sha256()
        at = place.offset + HEADER_LENGTH + place.prefix_length
        with self._packs.alarmed(stored):
            for chunk in _read(file, at, place.data_set_length):
                digest.update(chunk)
            if digest.digest() != stored.sha256:
                raise OSError(errno.EIO, "the pack holds other bytes")
        self._verified.add(key)

    def _head(self, stored: StoredInstance) -> bytes:
        """The data set up to its pixel data."""
        if stored.instance.transfer_syntax_uid in DEFLATED:
            raise Unavailable("deflated instances cannot be shown yet: fetch the whole instance")
        length = stored.layout.pixel_offset or stored.place.data_set_length
        if stored.layout.pixel_offset is None:
            length = min(length, MAX_HEAD_BYTES)
        if length > MAX_HEAD_BYTES:
            raise Unavailable("the instance is too large to be described")
        file = self._file(stored)
        at = stored.place.offset + HEADER_LENGTH + stored.place.prefix_length
        return b"".join(_read(file, at, length))

    def _pixels(self, stored: StoredInstance) -> Pixels:
        syntax = stored.instance.transfer_syntax_uid
        if syntax in DEFLATED or syntax == EXPLICIT_BIG:
            raise Unavailable("frames of this transfer syntax cannot be served yet: fetch the whole instance")
        head = self._head(stored)
        found = pixel_data(head, syntax)
        if found is None:
            raise NotFound("the instance has no pixel data")
        told = json.loads(to_json(head, syntax, bulk=str))
        place = stored.place
        left = max(0, place.data_set_length - found.offset)  # behind it other instances stand in the pack
        return Pixels(
            self._file(stored),
            place.offset + HEADER_LENGTH + place.prefix_length + found.offset,
            left if found.length is None else min(found.length, left),
            found.length is None,
            max(1, _integer(told, "00280008", 1)),
            _integer(told, "00280010")
            * _integer(told, "00280011")
            * _integer(told, "00280100")
            * _samples(told),
        )


def _integer(told: Mapping[str, Any], tag: str, absent: int = 0) -> int:
    value = told.get(tag, {}).get("Value", [absent])[0]
    return value if isinstance(value, int) else absent


def _samples(told: Mapping[str, Any]) -> float:
    """Of a pixel as it is stored: of YBR_FULL_422 two pixels share their colour (PS3.3 C.7.6.3.1.2)."""
    photometric = told.get("00280004", {}).get("Value", [""])[0]
    return 2 if photometric == "YBR_FULL_422" else _integer(told, "00280002", 1)


def _fragments(pixels: Pixels) -> Iterator[Extent]:
    """The items of encapsulated pixel data, the first of which is the offset table (PS3.5 A.4)."""
    at, end = pixels.start, pixels.start + pixels.length
    while end - at >= 8:
        head = os.pread(pixels.file, 8, at)
        if head[:4] != _ITEM:
            return
        length = int.from_bytes(head[4:], "little")
        if length > end - at - 8:
            raise Unavailable("the fragments of the instance cannot be read")
        yield Extent(pixels.file, at + 8, length)
        at += 8 + length


def _parted(pixels: Pixels, items: Sequence[Extent]) -> list[list[Extent]]:
    """Each frame as its fragments (PS3.5 A.4).

    All of them if there is one frame, one each if there are as many, else as the offset table says. Raises
    NotFound where nobody can say.
    """
    table, fragments = items[:1], [each for each in items[1:] if each.length]
    if pixels.frames == 1:
        return [fragments]
    if len(fragments) == pixels.frames:
        return [[each] for each in fragments]
    if table and table[0].length == 4 * pixels.frames:
        raw = os.pread(table[0].file, table[0].length, table[0].offset)
        first = items[1].offset - 8
        starts = [first + int.from_bytes(raw[at : at + 4], "little") for at in range(0, len(raw), 4)]
        known = {each.offset - 8 for each in items[1:]}
        if known.issuperset(starts) and starts == sorted(set(starts)):
            ends = [*starts[1:], items[-1].offset + 1]
            return [
                [each for each in fragments if start <= each.offset - 8 < end]
                for start, end in zip(starts, ends, strict=True)
            ]
    raise NotFound("nobody can say which fragments make a frame: the instance has no offset table")


def _read(file: int, at: int, length: int) -> Iterator[bytes]:
    """In chunks; raises OSError where the file is too short."""
    while length:
        chunk = os.pread(file, min(length, _CHUNK), at)
        if not chunk:
            raise OSError(errno.EIO, "the pack is too short")
        yield chunk
        at, length = at + len(chunk), length - len(chunk)
