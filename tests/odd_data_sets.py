"""Data sets that are not quite PS3.5, as devices write them, and a sender that sends any bytes."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from plumbing.dimse.negotiation import write_proposal
from tests.ingest.objects import CT, a_ct, element
from tests.plumbing.dimse.peers import ByHand

EXPLICIT, JPEG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.50"
UNDEFINED = 0xFFFF_FFFF
ITEM, ITEM_END, SEQUENCE_END = 0xE000, 0xE00D, 0xE0DD


def delimiter(number: int, length: int = 0) -> bytes:
    """An item, or the end of one or of a sequence."""
    return struct.pack("<HHL", 0xFFFE, number, length)


def undefined(tag: int, vr: str, content: bytes) -> bytes:
    """An element of undefined length."""
    return struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, vr.encode(), 0, UNDEFINED) + content


def short(vr: bytes, value: bytes = b"abcd", group: int = 0x0029) -> bytes:
    """A private element with two bytes in the place of its VR, and a length of 16 bits."""
    return struct.pack("<HH2sH", group, 0x1001, vr, len(value)) + value


def without_vr(group: int = 0x0029, length: int = 4) -> bytes:
    """A private element as in implicit VR."""
    return struct.pack("<HHL", group, 0x1001, length) + b"x" * length


def sequence(content: bytes) -> bytes:
    return undefined(0x0040_0275, "SQ", content)


@dataclass(frozen=True, slots=True)
class Odd:
    """A CT with other bytes in front of it, before its patient, before its pixels or behind it.

    Attributes:
        notes: what the walk notes.
    """

    notes: tuple[str, ...]
    front: bytes = b""
    early: bytes = b""
    late: bytes = b""
    behind: bytes = b""
    transfer_syntax_uid: str = EXPLICIT
    pixels: bool = True
    uid: str = ""
    more: Mapping[int, tuple[str, str]] | None = None

    def made(self) -> tuple[str, bytes]:
        """SOP Instance UID and data set."""
        whole = a_ct(pixels=bytes(32), more=self.more)
        patient = whole.data.index(struct.pack("<HH", 0x0010, 0x0010))
        pixels = whole.data.index(struct.pack("<HH2s", 0x7FE0, 0x0010, b"OW"))
        data = self.front + whole.data[:patient] + self.early + whole.data[patient:pixels] + self.late
        return whole.sop_instance_uid, data + whole.data[pixels:] * self.pixels + self.behind


_NO_VR = ("(0029,1001) has no value representation",)
_NO_VR_EARLY = ("(0009,1001) has no value representation",)
_PADDED = ("padding follows the last element",)
_IN_FRONT = element(0x0002_0010, "UI", EXPLICIT)
_SERIES = 0x0020_000E

TAKEN: Mapping[str, Odd] = {
    "2 zeros behind": Odd(_PADDED, behind=bytes(2)),
    "8 zeros behind": Odd(_PADDED, behind=bytes(8)),
    "12 zeros behind": Odd(_PADDED, behind=bytes(12)),
    "512 zeros behind": Odd(_PADDED, behind=bytes(512)),
    "8 FF behind": Odd(_PADDED, behind=b"\xff" * 8),
    "VR ??": Odd(_NO_VR, late=short(b"??")),
    "VR ??, empty": Odd(_NO_VR, late=short(b"??", b"")),
    "VR ?? before the patient": Odd(_NO_VR_EARLY, early=short(b"??", group=0x0009)),
    "VR ?? in an item": Odd(
        _NO_VR,
        late=sequence(
            delimiter(ITEM, UNDEFINED) + short(b"??") + delimiter(ITEM_END) + delimiter(SEQUENCE_END)
        ),
    ),
    "VR of two NULs": Odd(_NO_VR, late=short(b"\0\0")),
    "VR of two blanks": Odd(_NO_VR, late=short(b"  ")),
    "VR in lower case": Odd(_NO_VR, late=short(b"pn")),
    "no VR": Odd(_NO_VR, late=without_vr()),
    "no VR before the patient": Odd(_NO_VR_EARLY, early=without_vr(0x0009)),
    "the end of a sequence with length FFFFFFFF": Odd(
        ("the end of a sequence has a length",),
        late=sequence(delimiter(ITEM) + delimiter(SEQUENCE_END, UNDEFINED)),
    ),
    "the end of an item with length 8": Odd(
        ("the end of an item has a length",),
        late=sequence(delimiter(ITEM, UNDEFINED) + delimiter(ITEM_END, 8) + delimiter(SEQUENCE_END)),
    ),
    "the end of an item outside": Odd(
        ("the end of an item stands outside of sequences",), late=delimiter(ITEM_END)
    ),
    "the end of JPEG fragments with length FFFFFFFF": Odd(
        ("the end of a sequence has a length",),
        pixels=False,
        transfer_syntax_uid=JPEG,
        behind=undefined(
            0x7FE0_0010,
            "OB",
            delimiter(ITEM) + delimiter(ITEM, 4) + b"\xff\xd8\xff\xd9" + delimiter(SEQUENCE_END, UNDEFINED),
        ),
    ),
    "file meta information in front": Odd(("(0002,0010) is no element of a data set",), front=_IN_FRONT),
    "file meta information inside": Odd(("(0002,0010) is no element of a data set",), late=_IN_FRONT),
    "a command element in front": Odd(
        ("(0000,0100) is no element of a data set",), front=element(0x0000_0100, "US", b"\1\0")
    ),
    "a series UID that begins with a blank": Odd((), more={_SERIES: ("UI", " 1.2.3")}),
}  # fmt: skip
"""What DCMTK 3.6.7 and Orthanc 1.10.1 store."""


def store(
    port: int,
    made: tuple[str, bytes],
    transfer_syntax_uid: str = EXPLICIT,
    *,
    sop_class: str = CT,
    calling: str = "CT1",
    called: str = "READROOM",
) -> int | None:
    """Sends an instance by C-STORE, a CT unless told otherwise.

    Answers the status; None if the receiver ends the association instead.
    """
    uid, data = made
    peer = ByHand(port, associate=False)
    try:
        peer.socket.sendall(write_proposal(calling, called, [(sop_class, transfer_syntax_uid)], None))
        assert peer.pdu()[0] == 0x02
        peer.command(0x0001, instance=uid, sop_class=sop_class).fragment(data, command=False)
        kind, body = peer.pdu()
        if kind != 0x04:
            return None
        at = body.index(struct.pack("<HHL", 0, 0x0900, 2))
        return int(struct.unpack_from("<H", body, at + 8)[0])
    finally:
        peer.close()
