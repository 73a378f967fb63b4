"""What the receive path asks of who uses it, and what it tells."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from kernel.dicom import is_uid
from plumbing.dimse.negotiation import Context
from plumbing.places import Room

Refusal = Literal["handshake", "association"]
End = Literal["released", "aborted", "lost"]


@dataclass(frozen=True, slots=True)
class Limits(Room):
    """How much of this process one listener may take (SEC-3, SEC-5).

    An association of a known peer that finds no place is rejected as a local limit (2,3,2).

    Attributes:
        handshake_s: from the first byte of TCP to the last of the association request.
        idle_s: between two messages. Ultrasound keeps an association open for a whole examination.
        stalled_s: within a message, and for the peer to take an answer; below the 60 s of R5.
        max_data_set_bytes: a longer data set is read to its end and refused.
    """

    handshake_s: float = 10.0
    idle_s: float = 600.0
    stalled_s: float = 30.0
    max_data_set_bytes: int = 8 << 30


class Aborted(Exception):
    """The association is being aborted. A handler may raise it too: then nothing more is answered."""


def _open() -> None:
    """Nobody aborts it."""


@dataclass(frozen=True, slots=True)
class AssociationRequest:
    """Who asks. Both titles are AE titles by `kernel.dicom.parse_ae_title`.

    Attributes:
        certificate_der: the peer's certificate, already verified; None on a plain listener.
        remote: `address:port`.
        transfer_id: primary field of User Identity type 1 (PS3.7 D.3.3.7), as it came: at most 256
            characters, not yet an id.
        still_open: raises Aborted once the association is being aborted; work that takes long calls it.
        refused_contexts: what it proposed and does not get; the UIDs are as they came.
    """

    calling_ae_title: str
    called_ae_title: str
    certificate_der: bytes | None
    remote: str
    transfer_id: str | None = None
    still_open: Callable[[], None] = field(default=_open, compare=False, repr=False)
    refused_contexts: Sequence[Context] = ()


@dataclass(frozen=True, slots=True)
class RefusedConnection:
    """A connection that came to nothing.

    Attributes:
        kind: how far it came.
        cause: the same for all that are refused for the same; nothing that a peer chose.
        reason: one sentence.
        remote: `address:port`.
        certificate_der: the peer's, verified; None if it showed none.
        calling_ae_title, called_ae_title: as they were read; empty if they were not, or are none.
    """

    kind: Refusal
    cause: str
    reason: str
    remote: str
    certificate_der: bytes | None = None
    calling_ae_title: str = ""
    called_ae_title: str = ""


@dataclass(frozen=True, slots=True)
class StoreCommand:
    """One C-STORE request whose data set follows. UIDs matched `^[0-9.]{1,64}$` (SEC-4)."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    message_id: int


class FewNames:
    """Labels for a metric out of UIDs that peers choose: the first 200, and one label for all others."""

    OTHERS = "other"
    _MOST = 200

    def __init__(self) -> None:
        self._names: set[str] = set()

    def named(self, uid: str) -> str:
        """The UID itself, or the label of the others."""
        if uid not in self._names and (len(self._names) >= self._MOST or not is_uid(uid)):
            return self.OTHERS
        self._names.add(uid)
        return uid


@dataclass(frozen=True, slots=True)
class RefusedInstance:
    """A C-STORE that came to nothing.

    Attributes:
        cause: the status as four hexadecimal digits; `cut off` where the association ended too early.
        reason: one sentence; the comment of the answer, if there was one.
        sop_class_uid, sop_instance_uid: as the command named them, at most 64 characters; not yet UIDs.
    """

    cause: str
    reason: str
    sop_class_uid: str
    sop_instance_uid: str


class Rejected(Exception):
    """Rejects an association: result, source, reason (PS3.8 9.3.4).

    `cause` as in `RefusedConnection`; the three numbers unless it is given.
    """

    def __init__(self, result: int, source: int, reason: int, sentence: str, cause: str = "") -> None:
        super().__init__(sentence)
        self.result, self.source, self.reason, self.sentence = result, source, reason, sentence
        self.cause = cause or f"rejected {result},{source},{reason}"


CALLING_AE_TITLE_NOT_RECOGNIZED = (1, 1, 3)
CALLED_AE_TITLE_NOT_RECOGNIZED = (1, 1, 7)
LOCAL_LIMIT_EXCEEDED = (2, 3, 2)


class Refused(Exception):
    """Refuses an instance: a C-STORE status (PS3.4 B.2.3, PS3.7 9.1.1.1.9) and its comment (VR LO)."""

    def __init__(self, status: int, comment: str) -> None:
        super().__init__(comment)
        self.status, self.comment = status, comment


class InstanceSink(Protocol):
    """Takes one data set. Exactly one of `finish` and `discard` is called, once, as the last call.

    `write` and `finish` may raise Refused or Aborted; `discard` follows a `write` that raised, never a
    `finish`. Any other exception is answered as a processing failure (0x0110).
    """

    def write(self, chunk: memoryview) -> None:
        """The next bytes; they are overwritten after it returns."""
        ...

    def finish(self) -> tuple[int, str]:
        """The data set is complete. Status and comment of the answer, which is sent after this returns."""
        ...

    def discard(self) -> None:
        """It will never be complete, or is not wanted."""
        ...


class AssociationHandler(Protocol):
    """One association; called from its thread only."""

    def store(self, command: StoreCommand) -> InstanceSink:
        """A data set will follow. May raise Refused: the data set is then read and dropped."""
        ...

    def refused(self, refused: RefusedInstance) -> None:
        """An instance was answered with a failure, whoever refused it, or was cut off."""
        ...

    def ended(self, how: End) -> None:
        """The last call."""
        ...


class AcceptorHandler(Protocol):
    """One listener; called from many threads."""

    def recognize(self, certificate_der: bytes | None, remote: str) -> None:
        """Lets a peer ask, or raises Rejected: nothing of what it asks has been decoded yet."""
        ...

    def associate(self, request: AssociationRequest) -> AssociationHandler:
        """Accepts, or raises Rejected."""
        ...

    def refused(self, refused: RefusedConnection) -> None:
        """A connection came to nothing, or broke the protocol later."""
        ...
