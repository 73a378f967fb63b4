"""DICOM JSON: as pydicom writes it, but where PS3.18 F says otherwise."""

import json
import warnings
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, Sequence, dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from plumbing.dicomjson import Memo, pixel_data, to_json, value_at

EXPLICIT, IMPLICIT, BIG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
FILES = sorted((Path(pydicom.__file__).parent / "data" / "test_files").rglob("*.dcm"))
IGNORED = {"00083002", "00080005", "FFFCFFFC"}  # added, rewritten, padding


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """What of two JSON objects is not the same, but for what is written differently on purpose."""
    for tag in sorted({*ours, *theirs} - IGNORED):
        if tag.endswith("0000"):
            continue
        mine, other = ours.get(tag), theirs.get(tag)
        if mine is None or other is None:
            yield f"{path}{tag} {mine} {other}"
        elif mine["vr"] != other["vr"]:
            yield f"{path}{tag} {mine['vr']} {other['vr']}"
        elif mine["vr"] == "SQ":
            items, others = mine.get("Value", []), other.get("Value", [])
            if len(items) != len(others):
                yield f"{path}{tag} has {len(items)} and {len(others)} items"
            for number, pair in enumerate(zip(items, others, strict=False)):
                yield from differences(*pair, f"{path}{tag}/{number}/")
        elif "BulkDataURI" not in mine and _plain(mine) != _plain(other):
            yield f"{path}{tag} {mine} {other}"


def _plain(element: Mapping[str, Any]) -> object:
    """A value as both mean it: an empty one among several, blanks around it, carets behind a name."""
    values = [_stripped(each) for each in element.get("Value", [])]
    return element.get("InlineBinary") or (values if any(each is not None for each in values) else None)


def _stripped(value: Any) -> Any:
    if isinstance(value, str):
        return value.strip(" \0") or None
    if isinstance(value, dict):
        groups = {group: text.strip(" ").rstrip("^ ") for group, text in value.items()}
        return {group: text for group, text in groups.items() if text} or None
    return value


def read(path: Path) -> tuple[Dataset, bytes, str] | None:
    """A data set of pydicom's, its bytes, and its transfer syntax; None: it is no Part 10 file."""
    raw = path.read_bytes()
    if raw[128:132] != b"DICM":
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        told = dcmread(path)
    syntax = str(told.file_meta.get("TransferSyntaxUID", ""))
    length = told.file_meta.get("FileMetaInformationGroupLength")
    if not syntax or length is None or syntax == DeflatedExplicitVRLittleEndian:
        return None
    return told, raw[144 + length :], syntax


OTHERWISE = {
    "badVR.dcm": "a number that is none is the string it is (F.2.3)",
    "rtplan_truncated.dcm": "a sequence that is not whole is left out",
    "SC_rgb_jpeg.dcm": "pixel data are OB or OW",
}


@pytest.mark.filterwarnings("ignore")
def test_it_is_what_pydicom_writes() -> None:
    compared = 0
    for path in FILES:
        if (found := read(path)) is None or path.name in OTHERWISE:
            continue
        told, data, syntax = found
        ours = json.loads(to_json(data, syntax, bulk=str))
        theirs = told.to_json_dict(1 << 30, lambda _: "", suppress_invalid_tags=True)
        lost = {tag for tag in ours if tag not in theirs and told.get_item(tag) is not None}
        found_otherwise = [each for each in differences(ours, theirs) if each[:8] not in lost]
        assert not found_otherwise, path.name
        compared += 1
    assert compared > 60


TEXT = st.text("ABC xyz0123äöü", max_size=12)
VALUES: dict[str, tuple[int, st.SearchStrategy[Any]]] = {
    "AE": (0x0008_0054, st.text("AB 1", max_size=8)),
    "AT": (0x0028_0009, st.lists(st.integers(0x0008_0000, 0x7FE0_0000), max_size=3)),
    "CS": (0x0008_0008, st.lists(st.text("AB_1", max_size=6), max_size=3)),
    "DS": (0x0018_0050, st.lists(st.integers(-9999, 9999).map(str), max_size=3)),
    "FD": (0x0018_9073, st.lists(st.floats(width=64), max_size=3)),
    "FL": (0x0018_605A, st.lists(st.floats(width=32), max_size=3)),
    "IS": (0x0020_0013, st.integers(-(2**31), 2**31 - 1).map(str)),
    "LO": (0x0008_1030, TEXT),
    "LT": (0x0010_4000, TEXT.map(lambda text: f"{text}\r\n\\{text}")),
    "OB": (0x0028_1201, st.binary(max_size=40).map(lambda value: value + value)),
    "OF": (0x0066_0016, st.binary(max_size=10).map(lambda value: value * 4)),
    "PN": (0x0010_0010, st.lists(TEXT, min_size=1, max_size=3).map("=".join)),
    "SL": (0x0018_6020, st.integers(-(2**31), 2**31 - 1)),
    "SS": (0x0018_9219, st.integers(-(2**15), 2**15 - 1)),
    "SV": (0x0072_0082, st.lists(st.integers(-(2**63), 2**63 - 1), max_size=2)),
    "UI": (0x0020_000D, st.lists(st.sampled_from(["1.2.3", "2.25.77", ""]), max_size=3)),
    "UL": (0x0018_6016, st.integers(0, 2**32 - 1)),
    "UR": (0x0008_010E, st.just("https://example.org/a?b=c")),
    "US": (0x0028_0010, st.integers(0, 2**16 - 1)),
    "UV": (0x0008_040C, st.integers(0, 2**64 - 1)),
}


@st.composite
def data_sets(draw: st.DrawFn, depth: int = 2) -> Dataset:
    made = Dataset()
    for vr in draw(st.lists(st.sampled_from(sorted(VALUES)), unique=True, max_size=6)):
        tag, values = VALUES[vr]
        made.add_new(tag, vr, draw(values))
    if depth and draw(st.booleans()):
        items = draw(st.lists(data_sets(depth=depth - 1), max_size=3))
        made.add_new(0x0008_1115, "SQ", Sequence(items))
        made[0x0008_1115].is_undefined_length = draw(st.booleans())
        for item in items:
            item.is_undefined_length_sequence_item = draw(st.booleans())
    return made


def written(made: Dataset, *, implicit: bool, big: bool = False) -> bytes:
    file = DicomBytesIO()
    file.is_implicit_VR, file.is_little_endian = implicit, not big
    write_dataset(file, made)
    return file.getvalue()


def strictly(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=30)
@given(made=data_sets(), syntax=st.sampled_from([EXPLICIT, IMPLICIT, BIG]))
def test_of_every_value_representation_it_is_what_was_written(made: Dataset, syntax: str) -> None:
    made.SpecificCharacterSet = "ISO_IR 192"
    raw = written(made, implicit=syntax == IMPLICIT, big=syntax == BIG)
    memo: Memo = {}
    once = to_json(raw, syntax, bulk=str, memo=memo)
    assert to_json(raw, syntax, bulk=str, memo=memo) == once
    assert list(json.loads(once)) == sorted(json.loads(once))
    read_again = dcmread_raw(raw, syntax)
    ours, theirs = strictly(once), json.loads(read_again.to_json(1 << 30, lambda _: ""))
    ignored = ("SV", "UV", "OF") if syntax == BIG else ("SV", "UV")  # F.2.3, F.2.7: pydicom does neither
    found = differences(_finite(ours), _finite(theirs))
    assert not [each for each in found if not any(f"'{vr}'" in each for vr in ignored)]


def dcmread_raw(raw: bytes, syntax: str) -> Dataset:
    made = Dataset()
    made.file_meta = pydicom.dataset.FileMetaDataset()
    made.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    made.file_meta.MediaStorageSOPClassUID = made.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.UID(
        "1.2"
    )
    head = BytesIO()
    pydicom.dcmwrite(head, made, enforce_file_format=True)
    return dcmread(BytesIO(head.getvalue() + raw))


def _finite(told: Any) -> Any:
    """NaN and infinities as F.2.3 writes them, which pydicom does not."""
    if isinstance(told, dict):
        return {name: _finite(value) for name, value in told.items()}
    if isinstance(told, list):
        return [_finite(value) for value in told]
    if isinstance(told, float) and told != told:
        return "NaN"
    if isinstance(told, float) and told in (float("inf"), float("-inf")):
        return "Infinity" if told > 0 else "-Infinity"
    return told


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=25)
@given(made=data_sets(), syntax=st.sampled_from([EXPLICIT, IMPLICIT, BIG]), data=st.data())
def test_whatever_the_bytes_are_it_is_json(made: Dataset, syntax: str, data: st.DataObject) -> None:
    raw = bytearray(written(made, implicit=syntax == IMPLICIT, big=syntax == BIG))
    for _ in range(data.draw(st.integers(0, 4))):
        if raw:
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(raw[: data.draw(st.integers(0, len(raw)))])
    strictly(to_json(cut, syntax, bulk=str))
    pixel_data(cut, syntax)


def test_what_is_long_is_bulk_data_and_is_found_again() -> None:
    made, item = Dataset(), Dataset()
    item.add_new(0x0042_0011, "OB", b"%PDF" * 1000)
    made.add_new(0x0008_1115, "SQ", Sequence([Dataset(), item]))
    made.add_new(0x5400_1010, "OW", b"\1\2" * 8)
    made.add_new(0x7FE0_0010, "OW", b"\3\4" * 5000)
    for syntax in (EXPLICIT, IMPLICIT, BIG):
        raw = written(made, implicit=syntax == IMPLICIT, big=syntax == BIG)
        told = strictly(to_json(raw, syntax, bulk=lambda path: f"bulk/{path}"))
        assert told["00081115"]["Value"][1]["00420011"]["BulkDataURI"] == "bulk/00081115/1/00420011"
        assert told["7FE00010"]["BulkDataURI"] == "bulk/7FE00010"
        assert value_at(raw, syntax, "00081115/1/00420011") == b"%PDF" * 1000
        assert value_at(raw, syntax, "00081115/0/00420011") is None
        turned = syntax == BIG  # F.2.7
        assert value_at(raw, syntax, "54001010") == (b"\2\1" if turned else b"\1\2") * 8
        found = pixel_data(raw, syntax)
        assert found is not None
        assert found.length == 10_000
        assert raw[found.offset :] == bytes(made.PixelData)
