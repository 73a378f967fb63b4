"""The structure of a data set (PS3.5 7.1): raw bytes of a few elements, and whether it is whole.

Nothing is decoded. A walk goes from element header to element header, skips every value it is not asked
for by its length, and so knows at the end whether the last value, sequence or fragment was complete. It
holds one header or one wanted value at a time: chunks pass through it while they are being stored.

A defined length is trusted and skipped, at any level; only undefined lengths are opened, until their
delimiter. What the walk therefore cannot see: an error inside a skipped value, and the loss of whole
elements at the very end, which leaves a complete, shorter data set.

Devices write data sets that are not quite PS3.5. What DCMTK and Orthanc read all the same the walk reads too,
and notes (docs/decisions/0019-what-sites-send.md): odd value representations, delimiters with a length,
elements of another kind of set. Behind the elements that are `enough` to file it nothing is malformed any
more: the walk notes where it lost its way, and passes over the rest.
"""

import zlib
from collections.abc import Callable, Collection, Generator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from struct import Struct

from kernel.errors import Invalid

Octets = bytes | bytearray | memoryview

PIXEL_DATA = 0x7FE0_0010
"""The last element whose value anybody here may ask for (SEC-6)."""

PIXEL_GROUP = 0x7FE0
PIXELS = frozenset({0x7FE0_0008, 0x7FE0_0009, PIXEL_DATA})
"""Pixels as floats, as doubles, as integers or compressed (PS3.3 C.7.6.3, C.7.6.24)."""

MAX_VALUE_BYTES = 8 * 1024
"""What is kept of one wanted value: the longest indexed VR, ST, holds 1,024 characters of at most four bytes,
and some escape sequences (PS3.5 6.1.2.5, 6.2)."""

MAX_DEPTH = 64
"""Sequences of undefined length inside each other; report templates nest about a dozen (PS3.16)."""

MAX_ELEMENTS = 2_000_000
"""Headers that a walk reads of one data set: of elements, items, fragments and delimiters (SEC-5).

An enhanced multi-frame object whose functional groups have no defined lengths takes about 120 a frame, 15
groups with 60 elements (PS3.3 A.36): this is enough for 16,000 frames, or for two million fragments.
"""

FREE_ELEMENTS = 1 << 18
"""Headers that a deflated data set may have whatever its size: a report of 20,000 content items takes about
200,000. For each one beyond them eight bytes came over the wire, as for a data set that is not deflated."""

MAX_INFLATED_BYTES = 1 << 30
"""What a deflated data set may grow to: 1 GiB, above any structured report or segmentation seen (SEC-5)."""

MAX_INFLATION = 100
"""To how many times its bytes a data set may inflate, beyond `FREE_INFLATED_BYTES` (SEC-5)."""

FREE_INFLATED_BYTES = 8 << 20
"""What may inflate at any ratio: the empty pixels of a segmentation reach 1,000 to 1 and cost little."""

MAX_NOTES = 8
"""What is told of one data set; the same device errs the same way hundreds of times."""

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
# PS3.5 A.5, A.6 (JPIP referenced deflate) and A.4.14 (JPIP HTJ2K referenced deflate).
DEFLATED = frozenset({"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"})

# PS3.5 table 7.1-2: these have a 16-bit length; every other VR, also one yet to come, a 32-bit one.
SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())
_SEQUENCE_VRS = frozenset({b"SQ", b"UN"})  # UN of undefined length is a sequence (PS3.5 6.2.2)
_FRAGMENT_VRS = frozenset({b"OB", b"OW"})  # encapsulated pixel data (PS3.5 A.4)

UNDEFINED = 0xFFFF_FFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xE000, 0xE00D, 0xE0DD  # of group FFFE (PS3.5 7.5)
_CHUNK = 64 * 1024
_HEADER_BYTES = 8
# After the deflated bytes: a NULL that pads them (PS3.5 A.5), and the 8 bytes of RFC 1952 some writers add.
_MAX_TRAILER_BYTES = 9
_OTHER_GROUPS = (0x0000, 0x0002)  # commands (PS3.7 6.3.1) and file meta information (PS3.10 7.1)
_PADDING = (0x0000_0000, 0xFFFF_FFFF)  # what padding behind a data set looks like: no data set has these tags


class Malformed(Invalid):
    """It is no data set in its transfer syntax, or not a whole one."""


class Excessive(Malformed):
    """To walk it would cost more than any data set is worth."""


class Ambiguous(Malformed):
    """A wanted element has two values, and nobody can say which is right."""


@dataclass(frozen=True, slots=True)
class Elements:
    """What was asked for.

    Attributes:
        values: raw values by tag, as in `0x0008_0018`; absent elements are absent. Of a value longer than
            `MAX_VALUE_BYTES` the first bytes.
        pixel_data_offset: where (7FE0,0010) begins, in the inflated data set; None if there is none.
        length: bytes of the inflated data set.
        head_length: bytes before the first element of group 7FE0 (PS3.6), which holds the
            pixel data and what says where its frames are; all of them where there is none. None if the walk
            lost its way before.
        pixel_offset: where the value of the pixel data begins, be it (7FE0,0008), (7FE0,0009) or
            (7FE0,0010); None if
            there is none.
        notes: how it is not quite PS3.5, a sentence each; no values.
    """

    values: dict[int, bytes] = field(default_factory=dict)
    pixel_data_offset: int | None = None
    length: int = 0
    notes: tuple[str, ...] = ()
    head_length: int | None = None
    pixel_offset: int | None = None


class DataSetWalk:
    """Walks a data set whose bytes arrive in chunks."""

    def __init__(
        self,
        transfer_syntax_uid: str,
        wanted: Collection[int],
        *,
        enough: Collection[int] | None = None,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare to walk.

        Args:
            enough: wanted elements behind which nothing is malformed any more; None if it always is.
            meanwhile: called between steps of a few milliseconds; what it raises ends `feed`.
        """
        self._wanted = frozenset(wanted)
        self._enough = None if enough is None else frozenset(enough)
        self._lost = False  # the rest is passed over
        self._notes: dict[str, None] = {}
        self._implicit = transfer_syntax_uid == IMPLICIT_LITTLE
        self._order = ">" if transfer_syntax_uid == EXPLICIT_BIG else "<"
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS) if transfer_syntax_uid in DEFLATED else None
        self._meanwhile = meanwhile
        self._fed = 0  # bytes that came, deflated as they may be
        self._inflated = 0
        self._elements = 0
        self._values: dict[int, bytes] = {}
        self._pixel_data_offset: int | None = None
        self._head_length: int | None = None
        self._pixel_offset: int | None = None
        self._taken = 0  # bytes, inflated
        self._length = 0  # of them those walked or skipped before the carried ones
        self._carry = bytearray()  # the beginning of a header or of a wanted value
        self._need = 0  # bytes the walk waits for
        self._skip = 0  # bytes of an unwanted value that are still to come
        self._at_top = True
        self._reached = 0
        self._steps = self._walk()
        next(self._steps)

    @property
    def values(self) -> Mapping[int, bytes]:
        """The wanted values found so far, by tag."""
        return self._values

    @property
    def reached(self) -> int:
        """The tag of the top-level element that it came to last; they ascend (PS3.5 7.1)."""
        return self._reached

    @property
    def notes(self) -> tuple[str, ...]:
        """How it is not quite PS3.5, as far as it has come."""
        return tuple(self._notes)

    @property
    def elements(self) -> int:
        """Headers read so far: what the walk has cost."""
        return self._elements

    def feed(self, chunk: Octets) -> None:
        """Takes the next bytes; `chunk` is not kept. Raises Malformed as soon as that is known."""
        self._fed += len(chunk)
        if self._inflater is None:
            self._advance(memoryview(chunk))
        else:
            self._inflate(self._inflater, chunk)

    def finish(self) -> Elements:
        """What was found; raises Malformed if the data set is empty or ends too early."""
        if self._inflater is not None and not self._inflater.eof:
            raise Malformed("the deflated data set ends too early")
        if self._at_top and self._has_enough and _is_padding(self._carry):
            self._note("padding follows the last element")
            self._lost = True
        if not self._lost:
            if self._skip or self._carry:
                raise Malformed("the data set ends inside an element")
            if not self._at_top:
                raise Malformed("the data set ends inside a sequence or a list of fragments")
            if not self._taken:
                raise Malformed("the data set is empty")
        head_length = self._head_length
        if head_length is None and not self._lost:
            head_length = self._taken
        return Elements(
            self._values, self._pixel_data_offset, self._taken, self.notes, head_length, self._pixel_offset
        )

    @property
    def _has_enough(self) -> bool:
        return self._enough is not None and self._values.keys() >= self._enough

    def _note(self, sentence: str) -> None:
        if len(self._notes) < MAX_NOTES:
            self._notes[sentence] = None

    def _inflate(self, inflater: "zlib._Decompress", chunk: Octets) -> None:
        rest: Octets = chunk
        while True:
            self._meanwhile()
            try:
                inflated = inflater.decompress(rest, _CHUNK)
            except zlib.error as error:
                raise Malformed("the data set cannot be inflated") from error
            self._inflated += len(inflated)
            if self._inflated > MAX_INFLATED_BYTES:
                raise Excessive(f"the data set inflates to more than {MAX_INFLATED_BYTES} bytes")
            if self._inflated > FREE_INFLATED_BYTES + MAX_INFLATION * self._fed:
                raise Excessive(f"the data set inflates to more than {MAX_INFLATION} times its bytes")
            self._advance(memoryview(inflated))
            rest = inflater.unconsumed_tail
            if inflater.eof or (not rest and len(inflated) < _CHUNK):
                break
        if len(inflater.unused_data) > _MAX_TRAILER_BYTES:
            if not self._has_enough:
                raise Malformed("the deflated data set is followed by other bytes")
            self._note("the deflated data set is followed by other bytes")

    def _advance(self, chunk: memoryview) -> None:
        self._taken += len(chunk)
        try:
            self._step(chunk)
        except (Excessive, Ambiguous):
            raise
        except Malformed as fault:
            if not self._has_enough:
                raise
            self._note(fault.sentence)
            self._lost, self._skip, self._carry = True, 0, bytearray()

    def _step(self, chunk: memoryview) -> None:
        if self._lost:
            return
        if self._skip:
            skipped = min(self._skip, len(chunk))
            self._skip -= skipped
            self._length += skipped
            chunk = chunk[skipped:]
        if not chunk:
            return
        if self._carry:
            self._carry += chunk
            if len(self._carry) < self._need:
                return
            chunk, self._carry = memoryview(self._carry), bytearray()
        elif len(chunk) < self._need:
            self._carry += chunk
            return
        at, self._need = self._steps.send(chunk)
        if self._elements > min(MAX_ELEMENTS, FREE_ELEMENTS + self._fed // _HEADER_BYTES):
            raise Excessive("the data set has more elements than a data set of its bytes may have")
        self._skip = max(0, at - len(chunk))
        self._length += min(at, len(chunk))
        self._carry += chunk[at:]

    def _walk(self) -> Generator[tuple[int, int], memoryview, None]:
        """Yields where it stands in the bytes it was sent and how many from there on it needs.

        A position beyond the end asks to skip that far.
        """
        explicit_header = Struct(self._order + "HH2sH")
        implicit_header = Struct(self._order + "HHL")
        long_length = Struct(self._order + "L")
        wanted, values = self._wanted, self._values

        inside, implicit = _Inside.DATA_SET, self._implicit
        opened: list[tuple[_Inside, bool]] = []
        data = yield 0, 8
        at, end = 0, len(data)
        while True:
            if end - at < 8:
                data = yield at, 8
                at, end = 0, len(data)
                continue  # a skip may have ended anywhere in the new bytes
            self._elements += 1

            # Between items stands nothing but items and the end of their sequence (PS3.5 7.5.2, A.4).
            if inside is not _Inside.DATA_SET:
                group, element, length = implicit_header.unpack_from(data, at)
                if group == 0xFFFE and element == _ITEM:
                    if length != UNDEFINED:
                        at += 8 + length
                        continue
                    if inside is _Inside.FRAGMENTS:
                        raise Malformed("a fragment has no length")
                    opened.append((inside, implicit))
                    inside = _Inside.DATA_SET
                elif group == 0xFFFE and element == _SEQUENCE_END:
                    if length:
                        self._note("the end of a sequence has a length")
                    inside, implicit = opened.pop()
                    self._at_top = not opened
                else:
                    raise Malformed(f"({group:04x},{element:04x}) stands where an item belongs")
                at += 8
                continue

            vr, start = b"", 8
            if implicit:
                group, element, length = implicit_header.unpack_from(data, at)
            else:
                group, element, vr, length = explicit_header.unpack_from(data, at)
            if group == 0xFFFE:
                length = implicit_header.unpack_from(data, at)[2]
                if element != _ITEM_END:
                    raise Malformed(f"({group:04x},{element:04x}) stands where an element belongs")
                if length:
                    self._note("the end of an item has a length")
                if opened:
                    inside, implicit = opened.pop()
                else:
                    self._note("the end of an item stands outside of sequences")
                at += 8
                continue
            tag = group << 16 | element
            if tag in _PADDING and not opened and self._has_enough:
                raise Malformed("padding follows the last element")
            if not implicit and vr not in SHORT_VRS:
                if vr.isalpha() and vr.isupper():
                    if end - at < 12:
                        data = yield at, 12
                        at, end = 0, len(data)
                    length = long_length.unpack_from(data, at + 8)[0]
                    start = 12
                else:
                    self._note(f"({group:04x},{element:04x}) has no value representation")
                    if not stands_for_a_vr(vr):
                        length = implicit_header.unpack_from(data, at)[2]
                        vr = b"UN"

            if not opened:
                self._reached = tag
                if group in _OTHER_GROUPS:
                    self._note(f"({group:04x},{element:04x}) is no element of a data set")
                if tag == PIXEL_DATA and self._pixel_data_offset is None:
                    self._pixel_data_offset = self._length + at
                if group == PIXEL_GROUP:
                    if self._head_length is None:
                        self._head_length = self._length + at
                    if tag in PIXELS and self._pixel_offset is None:
                        self._pixel_offset = self._length + at + start
                if tag in wanted and length != UNDEFINED:
                    kept = start + min(length, MAX_VALUE_BYTES)
                    if end - at < kept:
                        data = yield at, kept
                        at, end = 0, len(data)
                    value = bytes(data[at + start : at + kept])
                    if values.setdefault(tag, value) != value:
                        raise Ambiguous(f"({group:04x},{element:04x}) occurs twice with different values")

            if length != UNDEFINED:
                at += start + length
                continue
            if len(opened) >= 2 * MAX_DEPTH:  # a sequence and its item
                raise Excessive(f"sequences are nested more than {MAX_DEPTH} deep")
            opened.append((inside, implicit))
            self._at_top = False
            if implicit or vr in _SEQUENCE_VRS:
                inside, implicit = _Inside.SEQUENCE, implicit or vr == b"UN"
            elif vr in _FRAGMENT_VRS:
                inside = _Inside.FRAGMENTS
            else:
                raise Malformed(f"({group:04x},{element:04x}) has no length")
            at += start


def _is_padding(rest: bytearray) -> bool:
    """Whether zeros, too few for a header, stand behind the last element; half a header is no padding.

    An odd number of them may be the first half of a group's number.
    """
    return len(rest) in (2, 4, 6) and not any(rest)


def stands_for_a_vr(vr: bytes) -> bool:
    """Whether two bytes that are no VR stand for one, with a length of 16 bits behind, as in DCMTK.

    `??`, blanks, two NULs do. Other bytes are the beginning of a length of 32 bits: there is no VR at all.
    """
    return vr == b"\0\0" or all(0x20 <= byte < 0x7F for byte in vr)


class _Inside(Enum):
    """Where the walk stands."""

    DATA_SET = "among elements"
    SEQUENCE = "among items"
    FRAGMENTS = "among fragments of encapsulated pixel data"
