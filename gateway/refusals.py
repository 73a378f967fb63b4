"""What a gateway refuses, or keeps though it is odd: kinds, causes, and what a person can do. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Kind(StrEnum):
    """What came to nothing. Each kind has rows of its own: none pushes another out."""

    HANDSHAKE = "handshake"
    ASSOCIATION = "association"
    CONTEXT = "context"
    INSTANCE = "instance"
    ODD = "odd"
    """An instance that was kept as it came, though it is not quite DICOM."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One thing that was refused, or kept though it is odd.

    Attributes:
        cause: the same for all that are refused for the same: an answer, never what a device chose.
        remote: the device's address, without its port.
        calling_ae_title, called_ae_title: as they came.
        uid: of the instance, or of the SOP class of a context; empty for the others.
        reason: one sentence.
        times: how often since it was told last.
    """

    kind: Kind
    cause: str
    listener: str
    remote: str
    calling_ae_title: str
    called_ae_title: str
    uid: str
    reason: str
    times: int = 1


@dataclass(frozen=True, slots=True)
class Refused:
    """What was refused for the same cause to the same device, and for an instance with the same UID."""

    refusal: Refusal
    times: int
    first_at: datetime
    last_at: datetime

    @property
    def advice(self) -> str:
        """What to do."""
        return advice(self.refusal.kind, self.refusal.cause)


_TAG = re.compile(r"^\([0-9a-f]{4},[0-9a-f]{4}\) ", re.ASCII)
_VENDOR = "send it again; if it is refused again, tell the device's vendor the UID and the reason"
_ADVICE: Mapping[tuple[Kind, str], str] = {
    (Kind.HANDSHAKE, "plain text"): "switch TLS on at the device, or let it send to the plain listener",
    (Kind.HANDSHAKE, "failed"): "give the device the authority that signs this gateway's certificate",
    (Kind.ASSOCIATION, "rejected 1,1,3"): "add AE title and address of the device under [[modalities]]",
    (Kind.ASSOCIATION, "rejected 1,1,7"): "let the device call an AE title of this gateway (`ae_titles`)",
    (
        Kind.ASSOCIATION,
        "no title",
    ): "give the device a title of 1 to 16 letters and digits, and ours to call",
    (Kind.ASSOCIATION, "rejected 2,3,2"): "let fewer devices send at once, or close idle associations",
    (Kind.ASSOCIATION, "late"): "see whether the line is slow, and what calls without asking",
    (Kind.CONTEXT, "class"): "let the device send another kind of object, or tell its vendor",
    (Kind.CONTEXT, "transfer syntax"): "let the device send in Explicit VR Little Endian",
    (Kind.INSTANCE, "A700"): "make room on the disk of the spool; then let the device send again",
    (Kind.INSTANCE, "C000"): "it is too large: let the device send it in parts",
    (Kind.INSTANCE, "cut off"): "see whether the device sent it again; if not, look at the line",
}
_OTHERWISE: Mapping[Kind, str] = {
    Kind.HANDSHAKE: "see what calls from this address",
    Kind.ASSOCIATION: "tell the device's vendor the reason",
    Kind.CONTEXT: "tell the device's vendor the reason",
    Kind.INSTANCE: _VENDOR,
    Kind.ODD: "nothing: it is kept as it came; the device's vendor may mend it",
}


def way(note: str) -> str:
    """In which way an instance is odd: the note, without its tag."""
    return _TAG.sub("", note)


def advice(kind: Kind, cause: str) -> str:
    """What a person at the site can do about it."""
    return _ADVICE.get((kind, cause), _OTHERWISE[kind])


_AFTER_CENTRAL: Mapping[int, str] = {
    0x0122: "let Central server take this kind of object, then `--export STUDY`",
    0xC111: "delete the study in the cloud, then `--export STUDY`",
    0xC113: "it was deleted in the cloud: `--export STUDY` sends it as a new study",
}


def advice_after_central(status: int) -> str:
    """What a person can do about an instance that Central server refused for good."""
    return _AFTER_CENTRAL.get(status, "mend the cause, then `--export STUDY`")
