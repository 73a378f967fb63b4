"""A data set is walked by its lengths: values as they stand, and every cut is noticed."""

import os
import struct
import tracemalloc
import zlib
from collections.abc import Collection, Iterator
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataelem import RawDataElement
from pydicom.filereader import _read_file_meta_info, read_preamble

from kernel.dataset import (
    FREE_ELEMENTS,
    MAX_DEPTH,
    MAX_ELEMENTS,
    MAX_VALUE_BYTES,
    PIXEL_DATA,
    DataSetWalk,
    Elements,
    Excessive,
    Malformed,
)

IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED, JPEG = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.50"
UNDEFINED = 0xFFFF_FFFF
DATA = Path(pydicom.__file__).parent / "data"

NOT_WHOLE = {
    "MR_truncated.dcm": "ends inside an element",
    "rtplan_truncated.dcm": "ends inside an element",
}
"""Objects of the wheel that are broken, and how."""

IMPLICIT_UNDER_JPEG = "SC_rgb_jpeg.dcm"
"""PS3.5 A.4 forbids it; pydicom guesses what it is, as the walk does."""


def read_elements(data: bytes | bytearray, transfer_syntax_uid: str, wanted: Collection[int]) -> Elements:
    """The wanted top-level elements of a whole data set; raises Malformed."""
    walk = DataSetWalk(transfer_syntax_uid, wanted)
    walk.feed(data)
    return walk.finish()


def part_10_files() -> Iterator[Path]:
    for path in sorted(DATA.rglob("*")):
        is_part_10 = path.is_file() and path.read_bytes()[128:132] == b"DICM"
        # One object names no transfer syntax: nobody can send it.
        if is_part_10 and path.name != "meta_missing_tsyntax.dcm":
            yield path


FILES = list(part_10_files())
WHOLE = [path for path in FILES if path.name not in NOT_WHOLE]


def data_set(path: Path) -> tuple[bytes, str]:
    """The data set's bytes and transfer syntax."""
    with path.open("rb") as stream:
        read_preamble(stream, False)
        meta = _read_file_meta_info(stream)
        return stream.read(), meta.TransferSyntaxUID


def raw_values(path: Path) -> dict[int, bytes]:
    """Top-level values up to the pixels as pydicom reads them, before it converts any."""
    found = {}
    for tag, value in pydicom.dcmread(path)._dict.items():
        if tag < PIXEL_DATA and isinstance(value, RawDataElement) and value.length != UNDEFINED:
            found[int(tag)] = value.value or b""
    return found


def test_the_wheel_is_there() -> None:
    assert len(FILES) > 150


@pytest.mark.filterwarnings("ignore:Expected explicit VR")
@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(DATA)))
def test_values_are_pydicoms(path: Path) -> None:
    data, transfer_syntax_uid = data_set(path)
    expected = raw_values(path)
    wanted = [*expected, 0x0009_0001]
    if path.name in NOT_WHOLE:
        with pytest.raises(Malformed, match=NOT_WHOLE[path.name]):
            read_elements(data, transfer_syntax_uid, wanted)
        return
    found = read_elements(data, transfer_syntax_uid, wanted)
    assert {tag: value for tag, value in found.values.items() if tag in expected} == {
        tag: value[:MAX_VALUE_BYTES] for tag, value in expected.items()
    }


@pytest.mark.parametrize("path", WHOLE, ids=lambda path: str(path.relative_to(DATA)))
def test_a_cut_is_noticed_unless_a_shorter_data_set_is_whole(path: Path) -> None:
    data, transfer_syntax_uid = data_set(path)
    ends = element_ends(data, transfer_syntax_uid)
    stride = max(1, len(data) // 400)
    near_ends = {end + around for end in list(ends)[:100] for around in (-1, 0, 1)}
    for length in sorted({*range(0, len(data), stride), *near_ends}):
        if not 0 <= length < len(data):
            continue
        walk = DataSetWalk(transfer_syntax_uid, [], enough=[])
        try:
            walk.feed(data[:length])
            walk.finish()
        except Malformed:
            assert length not in ends
        else:
            assert length in ends


def element_ends(data: bytes, transfer_syntax_uid: str) -> set[int]:
    """Where a top-level element ends, found by pydicom: a cut there leaves a shorter data set."""
    if transfer_syntax_uid == DEFLATED:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        inflater.decompress(data)
        # Only the trailer may be missing.
        return set(range(len(data) - len(inflater.unused_data), len(data)))
    stream = BytesIO(data)
    elements = pydicom.filereader.data_element_generator(
        stream, transfer_syntax_uid == IMPLICIT, transfer_syntax_uid != BIG
    )
    return {stream.tell() for _ in elements}


def element(tag: int, vr: str, value: bytes, *, length: int | None = None, order: str = "<") -> bytes:
    head = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF) + vr.encode("latin-1")
    size = len(value) if length is None else length
    if vr in ("OB", "OW", "SQ", "UN", "UT", "OV", "XX"):
        return head + struct.pack(order + "HL", 0, size) + value
    return head + struct.pack(order + "H", size) + value


def item(tag: int, length: int = 0) -> bytes:
    return struct.pack("<HHL", 0xFFFE, tag & 0xFFFF, length)


NAME = element(0x0010_0010, "PN", b"A^B ")
STUDY_ID = element(0x0020_0010, "SH", b"1 ")
ITEM, ITEM_END, SEQUENCE_END = 0xFFFE_E000, 0xFFFE_E00D, 0xFFFE_E0DD


def nested(depth: int) -> bytes:
    opening = element(0x0040_A730, "SQ", b"", length=UNDEFINED) + item(ITEM, UNDEFINED)
    return opening * depth + NAME + (item(ITEM_END) + item(SEQUENCE_END)) * depth


def test_a_sequence_hides_its_elements() -> None:
    data = element(0x0008_1140, "SQ", item(ITEM, len(NAME)) + NAME) + nested(3) + STUDY_ID
    assert read_elements(data, EXPLICIT, [0x0010_0010, 0x0020_0010]).values == {0x0020_0010: b"1 "}


def test_fragments_are_passed_over_to_their_end() -> None:
    pixels = (
        element(PIXEL_DATA, "OB", b"", length=UNDEFINED)
        + item(ITEM)
        + item(ITEM, 6)
        + b"\xfe\xff\xdd\xe0\0\0"
    )
    found = read_elements(NAME + pixels + item(SEQUENCE_END), JPEG, [0x0010_0010])
    assert found.pixel_data_offset == len(NAME)
    with pytest.raises(Malformed, match="ends inside"):
        read_elements(NAME + pixels, JPEG, [])


@pytest.mark.parametrize(
    ("transfer_syntax_uid", "pixels", "header"),
    [
        (EXPLICIT, 0x7FE0_0010, 12),
        (EXPLICIT, 0x7FE0_0008, 12),
        (DEFLATED, 0x7FE0_0009, 12),
    ],
)
def test_the_head_ends_before_the_group_of_the_pixels_and_they_begin_behind_their_header(
    transfer_syntax_uid: str, pixels: int, header: int
) -> None:
    """In the inflated data set; what says where the frames are is not of the head, however long it is."""
    offsets = element(0x7FE0_0001, "OV", bytes(80))
    data = NAME + offsets + element(pixels, "OW", bytes(4))
    whole = deflate(data) if transfer_syntax_uid == DEFLATED else data
    found = read_elements(whole, transfer_syntax_uid, ())
    assert (found.head_length, found.pixel_offset) == (len(NAME), len(NAME) + len(offsets) + header)
    # Without pixels all is head.
    found = read_elements(NAME, EXPLICIT, ())
    assert (found.head_length, found.pixel_offset) == (len(NAME), None)


def test_un_of_undefined_length_holds_implicit_elements() -> None:
    implicit = struct.pack("<HHL", 0x0010, 0x0010, 4) + b"A^B "
    unknown = element(0x0009_1001, "UN", b"", length=UNDEFINED) + item(ITEM, UNDEFINED)
    data = unknown + implicit + item(ITEM_END) + item(SEQUENCE_END) + NAME
    assert read_elements(data, EXPLICIT, [0x0010_0010]).values == {0x0010_0010: b"A^B "}


HOSTILE = {
    "nothing": (EXPLICIT, b"", "empty"),
    "half a header": (EXPLICIT, NAME + b"\x10\x00\x20", "ends inside an element"),
    "a length beyond the end": (EXPLICIT, element(0x0010_0020, "LO", b"x", length=0xFFFE), "ends inside"),
    "an absurd length": (EXPLICIT, element(0x0010_0020, "UT", b"x", length=0xFFFF_FFFE), "ends inside"),
    "an absurd implicit length": (
        IMPLICIT,
        struct.pack("<HHL", 0x10, 0x20, 0xFFFF_FFFE) + b"x",
        "ends inside",
    ),
    "no delimiter": (EXPLICIT, element(0x0040_A730, "SQ", b"", length=UNDEFINED), "inside a sequence"),
    "an open item": (
        EXPLICIT,
        element(0x0040_A730, "SQ", b"", length=UNDEFINED) + item(ITEM, UNDEFINED) + NAME,
        "inside a sequence",
    ),
    "a stray end": (EXPLICIT, NAME + item(SEQUENCE_END), "stands where an element belongs"),
    "an element between items": (
        EXPLICIT,
        element(0x0040_A730, "SQ", b"", length=UNDEFINED) + NAME,
        "stands where an item belongs",
    ),
    "a fragment without length": (
        JPEG,
        element(PIXEL_DATA, "OB", b"", length=UNDEFINED) + item(ITEM, UNDEFINED),
        "a fragment has no length",
    ),
    "text without length": (EXPLICIT, element(0x0010_4000, "UT", b"", length=UNDEFINED), "has no length"),
    "too deep": (EXPLICIT, nested(MAX_DEPTH + 1), "deep"),
    "far too deep": (EXPLICIT, nested(50_000), "deep"),
    "a whole file": (EXPLICIT, bytes(128) + b"DICM" + NAME, "ends inside"),
    "a whole implicit file": (IMPLICIT, bytes(128) + b"DICM" + NAME, "ends inside"),
    "two study UIDs": (
        EXPLICIT,
        element(0x0020_000D, "UI", b"1.2\0") + element(0x0020_000D, "UI", b"1.3\0"),
        "occurs twice with different values",
    ),
    "not deflated": (DEFLATED, b"\xff\xff\xff\xff", "cannot be inflated"),
    "half deflated": (DEFLATED, zlib.compress(NAME, wbits=-15)[:-2], "ends too early"),
    "more after deflated": (DEFLATED, zlib.compress(NAME, wbits=-15) + bytes(10), "followed by other bytes"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_whole_data_set_is_told(name: str) -> None:
    transfer_syntax_uid, data, sentence = HOSTILE[name]
    with pytest.raises(Malformed, match=sentence):
        read_elements(data, transfer_syntax_uid, [0x0010_0010, 0x0010_0020, 0x0020_000D])


def test_the_deepest_allowed_nesting_passes() -> None:
    assert read_elements(nested(MAX_DEPTH), EXPLICIT, []).length == len(nested(MAX_DEPTH))


def test_an_odd_length_is_passed_over_as_it_stands() -> None:
    data = element(0x0010_0010, "PN", b"A^B") + STUDY_ID
    assert read_elements(data, EXPLICIT, [0x0020_0010]).values == {0x0020_0010: b"1 "}


def test_an_unknown_value_representation_has_a_long_length() -> None:
    data = element(0x0010_0010, "XX", b"12345678") + STUDY_ID
    assert read_elements(data, EXPLICIT, [0x0020_0010]).values == {0x0020_0010: b"1 "}


def test_the_same_value_twice_is_one_value() -> None:
    assert read_elements(NAME + NAME, EXPLICIT, [0x0010_0010]).values == {0x0010_0010: b"A^B "}


@pytest.mark.proves("SEC-5", part="inflated output")
def test_a_deflate_bomb_ends_at_the_limit() -> None:
    compressor = zlib.compressobj(9, wbits=-15)
    bomb = compressor.compress(element(PIXEL_DATA, "OW", b"", length=1 << 30)[:12])
    bomb += b"".join(compressor.compress(bytes(1 << 20)) for _ in range(256)) + compressor.flush()
    walk = DataSetWalk(DEFLATED, [])
    tracemalloc.start()
    with pytest.raises(Excessive, match="inflates to more than 100 times its bytes"):
        walk.feed(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20


def deflate(data: bytes) -> bytes:
    packed = zlib.compressobj(9, wbits=-15)
    return packed.compress(data) + packed.flush()


def feed_as_it_comes(walk: DataSetWalk, data: bytes) -> None:
    """In pieces of the longest P-DATA."""
    for at in range(0, len(data), 128 * 1024):
        walk.feed(memoryview(data)[at : at + 128 * 1024])


SMALLEST = element(0x0009_0010, "LO", b"")
EMPTY_FRAGMENTS = element(PIXEL_DATA, "OB", b"", length=UNDEFINED) + item(ITEM) * (MAX_ELEMENTS + 20_000)
COSTLY = {
    "elements of eight bytes": (EXPLICIT, SMALLEST * (MAX_ELEMENTS + 20_000), MAX_ELEMENTS),
    "fragments of no bytes": (JPEG, EMPTY_FRAGMENTS, MAX_ELEMENTS),
    # 98 kB that inflate to 64 MiB: seconds for who counts to the end.
    "deflated elements": (DEFLATED, deflate(SMALLEST * (8 << 20)), FREE_ELEMENTS + 12_500),
    "deflated elements, just below the ratio": (
        DEFLATED,
        deflate(b"".join(SMALLEST * 400 + element(0x0011_0010, "LO", os.urandom(34)) for _ in range(1500))),
        FREE_ELEMENTS + 12_500,
    ),
}


@pytest.mark.proves("SEC-5", part="the work a data set costs")
@pytest.mark.parametrize("name", COSTLY)
def test_a_data_set_that_costs_more_than_it_may_ends_at_the_budget(name: str) -> None:
    """Counted in headers, of which the machine walks about two million a second, whatever else it does."""
    transfer_syntax_uid, data, budget = COSTLY[name]
    walk = DataSetWalk(transfer_syntax_uid, [])
    with pytest.raises(Excessive):
        feed_as_it_comes(walk, data)
    assert walk.elements <= budget + 128 * 1024 // 8  # it ends with the chunk


def test_headers_cut_by_their_chunks_are_counted_too() -> None:
    long = element(0x0009_0010, "UT", b"")
    data = long * 30_000
    walk = DataSetWalk(EXPLICIT, [])
    for at in range(-2, len(data), 12 * 1000):  # every chunk ends behind the tenth byte of a header
        walk.feed(data[max(0, at) : at + 12 * 1000])
        assert walk.elements >= at // 12


@pytest.mark.proves("SEC-5", part="the largest legal data sets pass")
@pytest.mark.parametrize("deflated", [False, True], ids=["as it is", "deflated"])
def test_the_largest_multi_frame_objects_pass(deflated: bool) -> None:
    """15 functional groups a frame without defined lengths, 60 elements in them, and its pixels."""
    group = element(0x0018_9114, "SQ", b"", length=UNDEFINED) + item(ITEM, UNDEFINED)
    group += element(0x0018_9082, "FD", bytes(8)) * 4 + item(ITEM_END) + item(SEQUENCE_END)
    frames = 2_000 if deflated else 16_000
    data = element(0x5200_9230, "SQ", b"", length=UNDEFINED)
    data += (item(ITEM, UNDEFINED) + group * 15 + item(ITEM_END)) * frames + item(SEQUENCE_END)
    data += element(PIXEL_DATA, "OW", os.urandom(64 * 64) * (frames // 16))
    walk = DataSetWalk(DEFLATED if deflated else EXPLICIT, [])
    sent = deflate(data) if deflated else data
    feed_as_it_comes(walk, sent)
    assert walk.finish().length == len(data)
    assert walk.elements == 3 + frames * (2 + 15 * 8)


def test_what_inflates_looks_up_between_its_chunks() -> None:
    looks = 0

    def look() -> None:
        nonlocal looks
        looks += 1
        if looks == 10:
            raise TimeoutError

    walk = DataSetWalk(DEFLATED, [], meanwhile=look)
    with pytest.raises(TimeoutError):
        walk.feed(deflate(element(PIXEL_DATA, "OW", bytes(4 << 20))))


@pytest.mark.proves("SEC-6", part="the walk keeps no pixel")
def test_pixels_pass_through_without_being_kept() -> None:
    walk = DataSetWalk(EXPLICIT, [0x0010_0010])
    chunk = bytes(1 << 20)
    walk.feed(NAME + element(PIXEL_DATA, "OW", b"", length=len(chunk) * 64))
    tracemalloc.start()
    for _ in range(64):
        walk.feed(memoryview(chunk))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert walk.finish().length == len(NAME) + 12 + len(chunk) * 64
    assert peak < 64 * 1024


def test_a_long_value_is_kept_up_to_the_limit() -> None:
    data = element(0x0010_4000, "UT", os.urandom(MAX_VALUE_BYTES * 3)) + NAME
    found = read_elements(data, EXPLICIT, [0x0010_4000, 0x0010_0010])
    assert found.values == {0x0010_4000: data[12 : 12 + MAX_VALUE_BYTES], 0x0010_0010: b"A^B "}


@given(
    st.sampled_from([p for p in FILES if p.name not in NOT_WHOLE and p.stat().st_size < 40_000]), st.data()
)
def test_chunks_change_nothing(path: Path, data: st.DataObject) -> None:
    content, transfer_syntax_uid = data_set(path)
    wanted = list(raw_values(path))
    cuts = data.draw(st.lists(st.integers(0, len(content)), max_size=30).map(sorted))
    walk = DataSetWalk(transfer_syntax_uid, wanted)
    for start, stop in pairwise([0, *cuts, len(content)]):
        walk.feed(memoryview(content)[start:stop])
    assert walk.finish() == read_elements(content, transfer_syntax_uid, wanted)


@given(st.binary(max_size=300), st.sampled_from([IMPLICIT, EXPLICIT, BIG, DEFLATED, JPEG]))
def test_any_bytes_are_a_data_set_or_malformed(content: bytes, transfer_syntax_uid: str) -> None:
    try:
        found = read_elements(content, transfer_syntax_uid, [0x0010_0010])
    except Malformed:
        return
    assert found.length > 0


@given(st.data())
def test_any_damage_is_noticed_or_leaves_a_data_set(data: st.DataObject) -> None:
    content = bytearray(NAME + nested(2) + STUDY_ID + element(PIXEL_DATA, "OW", bytes(20)))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = read_elements(content, EXPLICIT, [0x0010_0010, 0x0020_0010])
    except Malformed:
        return
    assert found.length == len(content)
