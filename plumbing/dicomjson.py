"""A data set as DICOM JSON (PS3.18 F), made from its bytes.

An element that repeats from instance to instance is made once: the memo of a series maps its raw bytes to its
fragment of JSON. So an instance costs its few elements that are new.

What devices write and PS3.5 does not allow is told as far as it can be told: a number that is none as the
string it is (F.2.3), bytes that are no text as U+FFFD. Where the structure is lost the object ends.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from struct import Struct

from pydicom.datadict import dictionary_VR, private_dictionary_VR

from kernel.dataset import (
    EXPLICIT_BIG,
    IMPLICIT_LITTLE,
    MAX_DEPTH,
    MAX_ELEMENTS,
    PIXEL_DATA,
    SHORT_VRS,
    UNDEFINED,
    Malformed,
    stands_for_a_vr,
)
from plumbing.dicomjsonvalues import TEXTS, number, parts, quote, string, unpacked
from plumbing.dicomtext import CharacterSet

Memo = dict[tuple[object, ...], str]
"""Fragments that a series has made so far; whoever keeps it bounds it by dropping it."""

MAX_INLINE_BYTES = 1024
"""Of a value of bytes. Longer ones are bulk data (F.2.7)."""
MAX_TEXT_BYTES = 64 << 10
"""Of a value of text or numbers. Longer ones are bulk data."""
MAX_MEMO_BYTES = 4 << 10
"""Of an element that a memo keeps."""

_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFE_E000, 0xFFFE_E00D, 0xFFFE_E0DD
_CHARACTER_SET, _SOP_INSTANCE_UID = 0x0008_0005, 0x0008_0018
_AVAILABLE_TRANSFER_SYNTAX = 0x0008_3002
_PIXEL_REPRESENTATION = 0x0028_0103
_WAVEFORM_DATA = 0x5400_1010
_TRAILING_PADDING = 0xFFFC_FFFC
_VRS = SHORT_VRS | frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_BYTES = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_FRAGMENT_VRS = frozenset({b"OB", b"OW"})
_AMBIGUOUS = {"OB or OW": "OW", "US or OW": "OW", "US or SS or OW": "OW"}
"""What implicit VR leaves open, as PS3.5 A.1 decides it; `US or SS` follows the pixel representation."""

_IMPLICIT_HEADER = Struct("<HHL")


@dataclass(slots=True)
class _Scope:
    """What the elements of a data set or an item depend on."""

    characters: CharacterSet
    signed: bool
    creators: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Element:
    tag: int
    vr: str
    raw: memoryview  # header and value
    value: memoryview
    implicit: bool
    start: int  # of the value
    length: int  # as the header tells it


def to_json(
    head: bytes | memoryview,
    transfer_syntax_uid: str,
    *,
    bulk: Callable[[str], str],
    memo: Memo | None = None,
) -> str:
    """One data set as a JSON object (PS3.18 F.2), in the order of tags.

    File meta information, group lengths and padding are left out; Available Transfer Syntax UID is added,
    and Specific Character Set says UTF-8 (F.2). Pixel Data, long values and waveforms are a BulkDataURI.

    Args:
        head: the data set without file meta information; it may end where the value of Pixel Data begins.
        transfer_syntax_uid: of what is stored, not deflated.
        bulk: the URI of a value by its path, as in `00420011` or `00081115/0/00420011`.
        memo: of the series.
    """
    return _Encoder(transfer_syntax_uid, bulk, memo).encode(memoryview(head))


def value_at(head: bytes | memoryview, transfer_syntax_uid: str, path: str) -> bytes | None:
    """The value that `to_json` calls bulk data at this path, in little endian order; None: there is none."""
    finder = _Finder(transfer_syntax_uid, path)
    finder.encode(memoryview(head))
    return finder.found


@dataclass(frozen=True, slots=True)
class PixelData:
    """Where the value of Pixel Data begins in a data set, and its length; None: it is encapsulated."""

    offset: int
    length: int | None


def pixel_data(head: bytes | memoryview, transfer_syntax_uid: str) -> PixelData | None:
    """Pixel Data of a data set that ends where its value begins, or later; None: there is none."""
    encoder = _Encoder(transfer_syntax_uid, str, None)
    for element in encoder.elements(memoryview(head)):
        if element.tag == PIXEL_DATA:
            return PixelData(element.start, None if element.length == UNDEFINED else element.length)
    return None


class _Encoder:
    def __init__(self, transfer_syntax_uid: str, bulk: Callable[[str], str], memo: Memo | None) -> None:
        self._syntax = transfer_syntax_uid
        self._implicit = transfer_syntax_uid == IMPLICIT_LITTLE
        self._order = ">" if transfer_syntax_uid == EXPLICIT_BIG else "<"
        self._explicit_header = Struct(self._order + "HH2sH")
        self._item_header = Struct(self._order + "HHL")
        self._length = Struct(self._order + "L")
        self._bulk = bulk
        self._memo: Memo = {} if memo is None else memo
        self._left = MAX_ELEMENTS

    def encode(self, data: memoryview) -> str:
        fragments = {_AVAILABLE_TRANSFER_SYNTAX: f'"00083002":{{"vr":"UI","Value":[{quote(self._syntax)}]}}'}
        self._collect(fragments, data, self._implicit, _Scope(CharacterSet.of(b""), signed=False), "")
        return _object(fragments)

    def elements(self, data: memoryview) -> Iterator[_Element]:
        """Those of the data set itself, up to where its structure is lost."""
        with suppress(Malformed):
            yield from self._elements(data, self._implicit, _Scope(CharacterSet.of(b""), signed=False))

    def _collect(
        self, fragments: dict[int, str], data: memoryview, implicit: bool, scope: _Scope, path: str
    ) -> None:
        """The fragments of a data set or an item; those before the place where its structure is lost."""
        with suppress(Malformed):
            for element in self._elements(data, implicit, scope):
                if _is_told(element.tag):
                    fragments[element.tag] = self._fragment(element, scope, path)

    def _fragment(self, element: _Element, scope: _Scope, path: str) -> str:
        tag = element.tag
        if tag == _CHARACTER_SET:
            scope.characters = CharacterSet.of(bytes(element.value))
            return '"00080005":{"vr":"CS","Value":["ISO_IR 192"]}'
        if tag == _PIXEL_REPRESENTATION:
            scope.signed = 1 in element.value[:2].tobytes()
        if tag >> 16 & 1 and 0x10 <= (tag & 0xFFFF) <= 0xFF:
            scope.creators[tag] = _text(element.value, "LO", scope).strip(" \0")
        keep = not path and len(element.raw) <= MAX_MEMO_BYTES
        key = (bytes(element.raw), element.vr, scope.characters) if keep else ()
        if keep and (known := self._memo.get(key)) is not None:
            return known
        own_path = f"{path}{tag:08X}"
        if element.vr == "SQ":
            made = self._sequence(element, scope, own_path)
        else:
            made = self._value(element, scope, own_path)
        fragment = f'"{tag:08X}":{{"vr":"{element.vr}"{made}}}'
        if keep and "BulkDataURI" not in made:
            self._memo[key] = fragment
        return fragment

    def _sequence(self, element: _Element, scope: _Scope, path: str) -> str:
        if path.count("/") > 2 * MAX_DEPTH:
            return ""
        items = []
        for place, (item, implicit) in enumerate(self._items(element)):
            fragments: dict[int, str] = {}
            inner = _Scope(scope.characters, scope.signed)
            self._collect(fragments, item, implicit, inner, f"{path}/{place}/")
            items.append(_object(fragments))
        return f',"Value":[{",".join(items)}]' if items else ""

    def _value(self, element: _Element, scope: _Scope, path: str) -> str:
        vr, value = element.vr, element.value
        is_bulk = len(value) > (MAX_INLINE_BYTES if vr in _BYTES else MAX_TEXT_BYTES)
        if element.tag in (PIXEL_DATA, _WAVEFORM_DATA) or is_bulk:
            return f',"BulkDataURI":{quote(self._bulk_data(element, path))}'
        if not value:
            return ""
        if vr in _BYTES:
            return f',"InlineBinary":"{b64encode(self._little(value, vr)).decode()}"'
        if vr in _NUMBERS:
            order = "<" if element.implicit else self._order
            values = [number(each) for each in unpacked(value, order + _NUMBERS[vr])]
        elif vr == "AT":
            order = "<" if element.implicit else self._order
            pairs = unpacked(value, order + "H")
            tags = zip(pairs[::2], pairs[1::2], strict=False)
            values = [f'"{group:04X}{number:04X}"' for group, number in tags]
        else:
            values = [TEXTS.get(vr, string)(each) for each in parts(_text(value, vr, scope), vr)]
        if all(each == "null" for each in values):
            return ""
        return f',"Value":[{",".join(values)}]'

    def _bulk_data(self, element: _Element, path: str) -> str:
        return self._bulk(path)

    def _little(self, value: memoryview, vr: str) -> bytes:
        """The bytes of a value in the order of explicit little endian (F.2.7)."""
        width = _WIDTHS.get(vr, 1)
        if self._order == "<" or width == 1 or len(value) % width:
            return bytes(value)
        turned = bytearray(len(value))
        for at in range(width):
            turned[at::width] = value[width - 1 - at :: width]
        return bytes(turned)

    # The structure

    def _elements(self, data: memoryview, implicit: bool, scope: _Scope) -> Iterator[_Element]:
        at, end = 0, len(data)
        while end - at >= 8:
            began = at
            self._left -= 1
            if self._left < 0:
                raise Malformed("the data set has too many elements")
            tag, vr, length, start = self._header(data, at, implicit)
            if tag == PIXEL_DATA:
                name = vr.decode() if vr in (b"OB", b"OW") else "OB" if vr else "OW"
                yield _Element(tag, name, data[began:start], data[:0], implicit, start, length)
                return
            in_implicit = implicit or vr == b"UN"
            name = _vr(tag, vr, in_implicit, scope)
            if length == UNDEFINED:
                fragments = not in_implicit and vr in _FRAGMENT_VRS
                at = self._end_of_undefined(data, start, in_implicit, fragments)
                name = name if fragments else "SQ"
            else:
                at = start + length
            if at > end:
                raise Malformed("the data set ends inside an element")
            yield _Element(tag, name, data[began:at], data[start:at], in_implicit, start, length)

    def _header(self, data: memoryview, at: int, implicit: bool) -> tuple[int, bytes, int, int]:
        """Tag, VR, length, and where the value begins. Raises Malformed where it does not fit."""
        if implicit:
            group, number, length = _IMPLICIT_HEADER.unpack_from(data, at)
            return group << 16 | number, b"", length, at + 8
        group, number, vr, length = self._explicit_header.unpack_from(data, at)
        tag = group << 16 | number
        if group == 0xFFFE:
            return tag, b"", self._item_header.unpack_from(data, at)[2], at + 8
        if vr in SHORT_VRS:
            return tag, vr, length, at + 8
        if vr.isalpha() and vr.isupper():
            if len(data) - at < 12:
                raise Malformed("the data set ends inside an element")
            return tag, vr, self._length.unpack_from(data, at + 8)[0], at + 12
        if stands_for_a_vr(vr):
            return tag, b"", length, at + 8
        return tag, b"UN", self._item_header.unpack_from(data, at)[2], at + 8

    def _end_of_undefined(self, data: memoryview, at: int, implicit: bool, fragments: bool) -> int:
        """Where a value of undefined length ends, its delimiter included."""
        depth = [False]  # whether an item is open, at each level
        header = _IMPLICIT_HEADER if implicit else self._item_header
        while len(data) - at >= 8:
            if not depth[-1]:
                group, number, length = header.unpack_from(data, at)
                tag = group << 16 | number
                at += 8
                if tag == _SEQUENCE_END:
                    depth.pop()
                    if not depth:
                        return at
                elif tag != _ITEM:
                    raise Malformed("something else stands where an item belongs")
                elif length != UNDEFINED:
                    at += length
                elif fragments:
                    raise Malformed("a fragment has no length")
                else:
                    depth[-1] = True
                continue
            tag, vr, length, at = self._header(data, at, implicit)
            if tag == _ITEM_END:
                depth[-1] = False
            elif length != UNDEFINED:
                at += length
            elif len(depth) > MAX_DEPTH:
                raise Malformed("sequences are nested too deep")
            elif vr == b"UN" and not implicit:
                at = self._end_of_undefined(data, at, True, False)
            else:
                depth.append(False)
        raise Malformed("the data set ends inside a sequence")

    def _items(self, element: _Element) -> Iterator[tuple[memoryview, bool]]:
        data, at, implicit = element.value, 0, element.implicit
        header = _IMPLICIT_HEADER if implicit else self._item_header
        while len(data) - at >= 8:
            group, number, length = header.unpack_from(data, at)
            at += 8
            if group << 16 | number != _ITEM:
                return
            if length != UNDEFINED:
                yield data[at : at + length], implicit
                at += length
                continue
            end = at
            while len(data) - end >= 8:
                tag, vr, length, after = self._header(data, end, implicit)
                if tag == _ITEM_END:
                    break
                if length == UNDEFINED:
                    in_implicit = implicit or vr == b"UN"
                    end = self._end_of_undefined(data, after, in_implicit, False)
                else:
                    end = after + length
            yield data[at:end], implicit
            at = end + 8


class _Finder(_Encoder):
    def __init__(self, transfer_syntax_uid: str, path: str) -> None:
        super().__init__(transfer_syntax_uid, str, None)
        self._wanted = path
        self.found: bytes | None = None

    def _bulk_data(self, element: _Element, path: str) -> str:
        if path == self._wanted and element.tag != PIXEL_DATA:
            self.found = self._little(element.value, element.vr)
        return ""


def _is_told(tag: int) -> bool:
    group = tag >> 16
    return group not in (0x0000, 0x0002, 0xFFFE) and tag & 0xFFFF != 0 and tag != _TRAILING_PADDING


def _object(fragments: Mapping[int, str]) -> str:
    return "{" + ",".join(fragments[tag] for tag in sorted(fragments)) + "}"


# Value representations


@lru_cache(maxsize=16384)
def _known_vr(tag: int) -> str:
    if tag >> 16 & 1:
        return "LO" if 0x10 <= (tag & 0xFFFF) <= 0xFF else ""
    try:
        return dictionary_VR(tag)
    except KeyError:
        return ""


@lru_cache(maxsize=16384)
def _known_private_vr(tag: int, creator: str) -> str:
    try:
        return private_dictionary_VR(tag, creator)
    except KeyError:
        return ""


def _vr(tag: int, written: bytes, implicit: bool, scope: _Scope) -> str:
    """The VR as written; where none is, or UN, that of the dictionary (PS3.5 6.2.2)."""
    if not implicit and written in _VRS:
        return written.decode()
    known = _known_vr(tag)
    if not known and tag >> 16 & 1:
        creator = scope.creators.get(tag & 0xFFFF_0000 | (tag >> 8 & 0xFF))
        known = _known_private_vr(tag, creator) if creator else ""
    if known == "US or SS":
        return "SS" if scope.signed else "US"
    return _AMBIGUOUS.get(known, known) or "UN"


_NUMBERS = {"FL": "f", "FD": "d", "SL": "l", "SS": "h", "SV": "q", "UL": "L", "US": "H", "UV": "Q"}
_WIDTHS = {"OW": 2, "OL": 4, "OF": 4, "OD": 8, "OV": 8}


def _text(value: memoryview, vr: str, scope: _Scope) -> str:
    return scope.characters.text(bytes(value).rstrip(b"\0"), vr)
