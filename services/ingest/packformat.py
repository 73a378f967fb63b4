"""The form of a pack and of an entry of it.

A pack is an uncompressed tar (POSIX pax). `tar -tvf`, `tar -xf` and Python's tarfile read it, also while
it is being written. Each entry is one DICOM Part 10 file, laid out so that all but its header can be
written while the instance arrives:

    512  pax header block      written last, when length and SHA-256 are known
    1024 pax records           READROOM.study, .receiving_facility, .gateway, .calling_ae_title, .transfer,
                               .received_at, .sha256 (of the data set as received); .quarantined if the
                               entry was refused, then without .study if it cannot be filed; `size`
                               above 8 GiB
    512  ustar header block    the file's name is its SHA-256, never text from outside (SEC-4)
    128  preamble, zeroed; "DICM"; file meta information; the data set as it was received
         zeros up to the next multiple of 512
"""

from datetime import datetime
from struct import Struct, pack

from plumbing.dimse.negotiation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from services.ingest.domain import Instance, Label

BLOCK = 512
RECORDS_LENGTH = 2 * BLOCK
HEADER_LENGTH = BLOCK + RECORDS_LENGTH + BLOCK
END_OF_ARCHIVE = bytes(2 * BLOCK)
MAX_USTAR_SIZE = 8**11 - 1
"""Eleven octal digits; above it the pax record `size` speaks."""
_USTAR = Struct("100s24s24s8sc100x8s247x")
"""Name; mode and owners; size and time; sum; kind; magic and version."""
_OWNERS = b"0000600\x000000000\x000000000\x00"
_SUM = 148
"""Where the sum stands."""


def file_meta(instance: Instance) -> bytes:
    """Preamble, magic and file meta information of a Part 10 file (PS3.10 7.1), preamble zeroed (SEC-7)."""
    elements = b"".join(
        (
            pack("<HH2sHL", 0x0002, 0x0001, b"OB", 0, 2) + b"\x00\x01",
            _text(0x0002, b"UI", instance.sop_class_uid),
            _text(0x0003, b"UI", instance.sop_instance_uid),
            _text(0x0010, b"UI", instance.transfer_syntax_uid),
            _text(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
            _text(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME),
        )
    )
    return bytes(128) + b"DICM" + pack("<HH2sHL", 0x0002, 0x0000, b"UL", 4, len(elements)) + elements


def _text(element: int, vr: bytes, text: str) -> bytes:
    value = text.encode("ascii")
    if len(value) % 2:
        value += b"\x00" if vr == b"UI" else b" "
    return pack("<HH2sH", 0x0002, element, vr, len(value)) + value


def _records(label: Label, size: int) -> bytes:
    """The pax records, filled up to their fixed length with a comment."""
    told = {
        "READROOM.receiving_facility": str(label.sender.receiving_facility_id),
        "READROOM.gateway": str(label.sender.gateway_id),
        "READROOM.calling_ae_title": label.sender.calling_ae_title,
        "READROOM.transfer": str(label.sender.transfer_id),
        "READROOM.received_at": label.received_at.isoformat(timespec="microseconds"),
        "READROOM.sha256": label.sha256.hex(),
    }
    if label.study_id is not None:
        told["READROOM.study"] = str(label.study_id)
    if label.quarantined:
        told["READROOM.quarantined"] = "yes"
    if size > MAX_USTAR_SIZE:
        told["size"] = str(size)
    records = b"".join(_record(key, value) for key, value in told.items())
    # A record's length counts its own digits: three here, whatever is left of 1,024.
    return records + _record("comment", "-" * (RECORDS_LENGTH - len(records) - len("123 comment=\n")))


def _record(key: str, value: str) -> bytes:
    tail = f" {key}={value}\n".encode()
    length = len(tail) + 2
    while len(str(length)) + len(tail) != length:
        length = len(str(length)) + len(tail)
    return str(length).encode() + tail


def _block(name: str, size: int, kind: bytes, modified_at: datetime) -> bytes:
    """One ustar header block: numbers are octal digits; the sum counts its own field as blanks."""
    length = size if size <= MAX_USTAR_SIZE else 0
    numbers = b"%011o\0%011o\0" % (length, int(modified_at.timestamp()))
    block = _USTAR.pack(name.encode("ascii"), _OWNERS, numbers, b" " * 8, kind, b"ustar\x0000")
    return b"%s%06o\0 %s" % (block[:_SUM], sum(block), block[_SUM + 8 :])


def header(label: Label, size: int) -> bytes:
    """The header of an entry: always HEADER_LENGTH bytes."""
    name = label.sha256.hex()
    return (
        _block(f"PaxHeaders/{name}", RECORDS_LENGTH, b"x", label.received_at)
        + _records(label, size)
        + _block(f"{name}.dcm", size, b"0", label.received_at)
    )
