"""Pixel data as frames (PS3.5 8, A.4)."""

import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from kernel.dataset import EXPLICIT_BIG
from kernel.errors import NotFound, Unavailable
from plumbing.dicomjson import pixel_data, to_json
from plumbing.responses import Piece
from services.ingest.sources import Source

MAX_FRAGMENTS = 1 << 18
"""Of encapsulated pixel data that are parted into frames: each takes about 100 bytes of memory."""
_WORD = 2
_ITEM = b"\xfe\xff\x00\xe0"


@dataclass(frozen=True, slots=True)
class Pixels:
    """The value of Pixel Data, and what is needed to part it into frames.

    Attributes:
        source: the value; of encapsulated pixel data, what of the data set is left.
        turned: words of 16 bits are in big endian order.
    """

    source: Source
    encapsulated: bool
    turned: bool
    count: int
    frame_bits: float

    def frames(self, numbers: Sequence[int]) -> list[list[Piece]]:
        """Each of these frames, from 1, in little endian. Raises NotFound where there is no such frame."""
        if not all(1 <= number <= self.count for number in numbers):
            raise NotFound(f"there is no such frame: the instance has {self.count}")
        if self.encapsulated:
            fragments = list(islice(_fragments(self.source), MAX_FRAGMENTS + 1))
            if len(fragments) > MAX_FRAGMENTS:
                raise Unavailable("the instance has too many fragments: fetch the whole instance")
            parted = _parted(self.source, self.count, fragments, numbers)
            return [[self.source.piece(each.offset, each.length) for each in frame] for frame in parted]
        size = self.frame_bytes
        return [[self._native((number - 1) * size, size)] for number in numbers]

    @property
    def frame_bytes(self) -> int:
        """Of one native frame; raises NotFound where nobody can say."""
        if self.frame_bits % 8 and self.count > 1:
            raise NotFound(
                "the frames of this instance begin inside a byte, and cannot be parted yet: fetch it whole"
            )
        size = int(self.frame_bits + 7) // 8
        if size <= 0:
            raise NotFound("the instance does not say how large its frames are")
        if size * self.count > self.source.length:
            raise NotFound("the pixel data are shorter than their frames")
        return size

    def _native(self, at: int, length: int) -> Piece:
        if not self.turned:
            return self.source.piece(at, length)
        first = at - at % _WORD
        words = bytearray(self.source.read(first, at + length + (at + length) % _WORD - first))
        whole = len(words) - len(words) % _WORD
        words[0:whole:2], words[1:whole:2] = words[1:whole:2], words[0:whole:2]
        return bytes(words[at - first : at - first + length])


def pixels_of(head: bytes, transfer_syntax_uid: str, data_set: Source) -> Pixels:
    """The pixel data of a data set whose head ends where their value begins, or later; raises NotFound."""
    found = pixel_data(head, transfer_syntax_uid)
    if found is None:
        raise NotFound("the instance has no pixel data")
    told = json.loads(to_json(head, transfer_syntax_uid, bulk=str))
    left = max(0, data_set.length - found.offset)  # behind it other instances stand in the pack
    length = left if found.length is None else min(found.length, left)
    source = data_set.part(data_set.length - left, length)
    return Pixels(
        source,
        found.length is None,
        transfer_syntax_uid == EXPLICIT_BIG and told.get("7FE00010", {}).get("vr") == "OW",
        max(1, _integer(told, "00280008", 1)),
        _integer(told, "00280010") * _integer(told, "00280011") * _integer(told, "00280100") * _samples(told),
    )


def _integer(told: Mapping[str, Any], tag: str, absent: int = 0) -> int:
    value = told.get(tag, {}).get("Value", [absent])[0]
    return value if isinstance(value, int) else absent


def _samples(told: Mapping[str, Any]) -> float:
    """Of a pixel as it is stored: of YBR_FULL_422 two pixels share their colour (PS3.3 C.7.6.3.1.2)."""
    photometric = told.get("00280004", {}).get("Value", [""])[0]
    return 2 if photometric == "YBR_FULL_422" else _integer(told, "00280002", 1)


@dataclass(frozen=True, slots=True)
class _Fragment:
    """Where the value of an item is."""

    offset: int
    length: int


def _fragments(source: Source) -> Iterator[_Fragment]:
    """The items of encapsulated pixel data, the first of which is the offset table (PS3.5 A.4)."""
    at, end = 0, source.length
    while end - at >= 8:
        head = source.read(at, 8)
        if head[:4] != _ITEM:
            return
        length = int.from_bytes(head[4:], "little")
        if length > end - at - 8:
            raise Unavailable("the fragments of the instance cannot be read")
        yield _Fragment(at + 8, length)
        at += 8 + length


def _parted(
    source: Source, count: int, items: Sequence[_Fragment], numbers: Sequence[int]
) -> list[Sequence[_Fragment]]:
    """The fragments of each of these frames, of so many (PS3.5 A.4).

    All of them if there is one frame, one each if there are as many, else as the offset table says. Raises
    NotFound where nobody can say.
    """
    table, fragments = items[:1], [each for each in items[1:] if each.length]
    if count == 1:
        return [fragments for _ in numbers]
    if len(fragments) == count:
        return [fragments[number - 1 : number] for number in numbers]
    if table and table[0].length == 4 * count:
        raw = source.read(table[0].offset, table[0].length)
        first = items[1].offset - 8
        starts = [first + int.from_bytes(raw[at : at + 4], "little") for at in range(0, len(raw), 4)]
        known = {each.offset - 8 for each in items[1:]}
        if known.issuperset(starts) and starts == sorted(set(starts)):
            places = [each.offset - 8 for each in fragments]
            bounds = [bisect_left(places, start) for start in starts] + [len(fragments)]
            return [fragments[bounds[number - 1] : bounds[number]] for number in numbers]
    raise NotFound(
        "nobody can say which fragments make a frame: the instance has no offset table, so fetch it whole"
    )
