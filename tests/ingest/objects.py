"""Small data sets written element by element, so that a test can spoil any byte of them."""

import struct
from collections.abc import Mapping
from dataclasses import replace

from tests.ingest.builders import a_uid
from tests.ingest.system import DicomObject

CT = "1.2.840.10008.5.1.4.1.1.2"


def element(tag: int, vr: str, value: bytes | str) -> bytes:
    """One element in explicit VR little endian."""
    raw = value.encode() if isinstance(value, str) else value
    if len(raw) % 2:
        raw += b"\0" if vr == "UI" else b" "
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    if vr in ("OB", "OW", "SQ", "UN", "UT"):
        return head + struct.pack("<HL", 0, len(raw)) + raw
    return head + struct.pack("<H", len(raw)) + raw


def a_ct(
    *,
    study: str | None = None,
    series: str | None = None,
    uid: str | None = None,
    pixels: bytes = b"\x01\x02" * 500,
    more: Mapping[int, tuple[str, bytes | str]] | None = None,
) -> DicomObject:
    """A CT of invented bytes; `more` adds elements or replaces them."""
    uid = uid or a_uid()
    elements: dict[int, tuple[str, bytes | str]] = {
        0x0008_0016: ("UI", CT),
        0x0008_0018: ("UI", uid),
        0x0008_0060: ("CS", "CT"),
        0x0010_0010: ("PN", "Vermeer^Ada"),
        0x0020_000D: ("UI", study or a_uid()),
        0x0020_000E: ("UI", series or a_uid()),
        0x7FE0_0010: ("OW", pixels),
        **(more or {}),
    }
    data = b"".join(element(tag, vr, value) for tag, (vr, value) in sorted(elements.items()))
    return DicomObject(data, CT, uid)


def with_other_bytes(original: DicomObject) -> DicomObject:
    """The same identity, another last pixel."""
    return replace(original, data=original.data[:-1] + bytes([original.data[-1] ^ 0xFF]))
