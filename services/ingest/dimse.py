"""DICOM over mutual TLS: who may associate, and what becomes of each C-STORE.

The association's thread feeds each data set to a walk that checks its structure and finds what is
indexed, to SHA-256, and to the pack of its study. Until the UIDs are known the bytes wait, a part of them in
memory; nothing else is held, however large the instance. No pixel is looked at (SEC-6).
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime

from kernel.clock import Clock
from kernel.dicom import INDEXED_ATTRIBUTES, UID, VALUES_PARTED_BY, Level, cut_value
from kernel.errors import (
    Denied,
    Exhausted,
    Invalid,
    NotFound,
    ReadroomError,
    Unavailable,
)
from kernel.filing import SOP_INSTANCE_UID, SPECIFIC_CHARACTER_SET, CannotBeFiled, Examination
from plumbing import dimse, log
from plumbing.dicomtext import CharacterSet
from plumbing.dimse import AssociationRequest, RefusedConnection, RefusedInstance, StoreCommand
from services.ingest.domain import (
    ANSWERS,
    Admission,
    Instance,
    Refusal,
    RefusalKind,
    Refused,
    Revoked,
    StoreStatus,
)
from services.ingest.parent import Parent
from services.ingest.parts import Description, whole_value
from services.ingest.reception import Index, PackDirectory, Receipt, Reception, Unfiled

# PS3.8 table 9-21 (result, source, reason).
REJECTIONS: Mapping[type[ReadroomError], tuple[int, int, int]] = {
    Denied: (1, 1, 3),  # permanent, calling AE title not recognized (A22)
    NotFound: (1, 1, 1),  # permanent, no reason given: the named transfer is not the gateway's
    Invalid: (1, 1, 1),
    Exhausted: (2, 3, 2),  # transient, local limit exceeded
    Unavailable: (2, 3, 1),  # transient, temporary congestion
}

_log = log.get()


class Sink:
    """One C-STORE: bytes in, a status out. A refused one is told once, by `dimse.Refused`."""

    def __init__(self, association: "Association", command: StoreCommand) -> None:
        self._association = association
        self._command = command
        self._examination = Examination(
            command.sop_class_uid,
            command.sop_instance_uid,
            command.transfer_syntax_uid,
            meanwhile=association.still_open,
        )
        self._digest = hashlib.sha256()
        self._head = association.reception.head()
        self._length = 0
        self._receipt: Receipt | None = None
        self._unfiled: Unfiled | None = None
        self._fault: CannotBeFiled | None = None

    def write(self, chunk: memoryview) -> None:
        """Takes the next bytes."""
        with self._answering():
            self._take(chunk)

    def finish(self) -> tuple[int, str]:
        """The data set is complete: status and comment for its response."""
        began = self._association.clock.now()
        try:
            with self._answering():
                status = self._complete()
                if ANSWERS[status].status:
                    raise Refused(status)
        except (dimse.Refused, dimse.Aborted):
            self.discard()
            raise
        ended = self._association.clock.now()
        self._association.finished(
            status,
            self._length,
            odd=bool(self._examination.notes),
            ended=ended,
            seconds=(ended - began).total_seconds(),
        )
        return ANSWERS[status].status, ANSWERS[status].comment

    def discard(self) -> None:
        """Nothing of it stays (R5)."""
        self._head.drop()
        receipt, self._receipt = self._receipt, None
        if receipt is not None:
            receipt.discard()
        unfiled, self._unfiled = self._unfiled, None
        if unfiled is not None:
            unfiled.discard()

    def _take(self, chunk: memoryview) -> None:
        self._length += len(chunk)
        self._digest.update(chunk)
        if self._fault is None:
            try:
                self._examination.feed(chunk)
            except CannotBeFiled as fault:
                self._set_aside(fault)
        if (into := self._unfiled or self._receipt) is not None:
            into.write(chunk)
            return
        self._head.write(chunk)
        if self._examination.has_identity:
            try:
                self._begin()
            except CannotBeFiled as fault:
                self._set_aside(fault)

    def _set_aside(self, fault: CannotBeFiled) -> None:
        """It cannot be filed, and a gateway has acknowledged it: what has come and what follows is kept."""
        self._fault = fault
        command = self._command
        announced = Instance(
            UID(command.sop_class_uid),
            UID(command.sop_instance_uid),
            self._examination.study_instance_uid or UID(""),
            UID(""),
            UID(command.transfer_syntax_uid),
        )
        self._unfiled = self._association.reception.set_aside(announced)
        receipt, self._receipt = self._receipt, None
        (receipt or self._head).pour(self._unfiled)

    def _begin(self) -> Receipt:
        instance = Instance(*self._examination.identify())
        self._receipt = receipt = self._association.reception.begin(instance)
        self._head.pour(receipt)
        return receipt

    def _complete(self) -> StoreStatus:
        values = self._examine()
        receipt, self._receipt = self._receipt or self._begin(), None
        return receipt.complete(
            self._digest.digest(), self._association.describe(values), self._examination.layout
        )

    def _examine(self) -> Mapping[int, bytes]:
        """What is indexed, of a whole data set. One that cannot be filed is kept, and refused."""
        try:
            if self._fault is None:
                values = self._examination.finish()
                if self._receipt is None:
                    self._examination.identify()
                return values
        except CannotBeFiled as fault:
            self._set_aside(fault)
        unfiled, self._unfiled = self._unfiled, None
        assert unfiled is not None
        assert self._fault is not None
        unfiled.keep(self._digest.digest(), StoreStatus(self._fault.fault))
        raise self._fault

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Turns what is raised into the answer to the peer, and lists it where the table says so."""
        try:
            yield
        except CannotBeFiled as unfit:
            status = StoreStatus(unfit.fault)
        except Refused as refused:
            status = refused.status
        except Revoked as revoked:
            raise dimse.Aborted from revoked
        except (OSError, Unavailable) as error:
            _log.warning("an instance cannot be stored", exc_info=error)
            status = StoreStatus.OUT_OF_RESOURCES
        else:
            return
        self._association.count(status)
        self._association.reception.refuse(self._command.sop_instance_uid, status)
        raise dimse.Refused(ANSWERS[status].status, ANSWERS[status].comment)


def describe(values: Mapping[int, bytes]) -> Description:
    """Decode what is indexed: Unicode cut to its VR, without padding, control characters, empty values."""
    character_set = CharacterSet.of(values.get(SPECIFIC_CHARACTER_SET, b""))
    kept: dict[Level, dict[str, str]] = {Level.STUDY: {}, Level.SERIES: {}}
    mapping: dict[str, str] = {}
    identity: dict[str, str] = {}
    for attribute in INDEXED_ATTRIBUTES:
        raw = values.get(attribute.tag)
        if not raw:
            continue
        whole = character_set.decode(raw, attribute.vr)
        text = cut_value(whole, attribute.vr)
        if text.strip(VALUES_PARTED_BY):
            kept[attribute.level][attribute.keyword] = text
        says_something = bool(whole.strip(VALUES_PARTED_BY))
        if attribute.mapping and says_something:
            mapping[attribute.keyword] = whole_value(whole, attribute.vr)
        if attribute.identity and says_something:
            identity[attribute.keyword] = whole_value(whole, attribute.vr)
    return Description(kept[Level.STUDY], kept[Level.SERIES], mapping, identity)


class Association:
    """An association that was accepted."""

    def __init__(
        self,
        reception: Reception,
        clock: Clock,
        still_open: Callable[[], None] = lambda: None,
    ) -> None:
        self.reception = reception
        self.still_open = still_open
        self.clock = clock
        self._raw: Mapping[int, bytes] = {}
        self._description = Description({}, {}, {})
        self._counts: dict[str, int] = {}
        self._bytes = 0

    @property
    def admission(self) -> Admission:
        """What it was admitted by."""
        return self.reception.sender.admission

    def store(self, command: StoreCommand) -> Sink:
        """Begins a C-STORE."""
        return Sink(self, command)

    def refused(self, refused: RefusedInstance) -> None:
        """The log tells of it; what the sink refuses is listed there."""
        _log.info("an instance was refused", cause=refused.cause, reason=refused.reason)

    def ended(self, how: str) -> None:
        """Released, aborted or lost: every instance acknowledged stays (R5)."""
        sender = self.reception.sender
        self.reception.end()
        self.reception.parent.ended(sender.remote_address)
        _log.info(
            "association ended",
            how=how,
            gateway=str(sender.gateway_id),
            calling_ae_title=sender.calling_ae_title,
            transfer=str(sender.transfer_id),
            bytes=self._bytes,
            **self._counts,
        )

    def describe(self, values: Mapping[int, bytes]) -> Description:
        """The description; instances of one series have the same, so the last one is kept at hand."""
        raw = {tag: value for tag, value in values.items() if tag != SOP_INSTANCE_UID}
        if raw != self._raw:
            self._raw, self._description = raw, describe(values)
        return self._description

    def count(self, status: StoreStatus) -> None:
        """Notes a failure that was answered."""
        self._count(status.name.lower())
        self.reception.notes.answered[status] = 1
        self.reception.tell()

    def finished(
        self, status: StoreStatus, length: int, *, odd: bool, ended: datetime, seconds: float
    ) -> None:
        """Notes an instance of so many bytes that was answered with success."""
        reception = self.reception
        notes = reception.notes
        notes.answered[status] = 1
        notes.seconds.append(seconds)
        self._count(status.name.lower())
        if status is StoreStatus.STORED:
            self._bytes += length
            notes.stored_bytes = length
            notes.stored_at[reception.sender.gateway_id] = ended
        if odd:  # the gateway says how
            notes.odd = 1
            self._count("odd")
        reception.tell()

    def _count(self, key: str) -> None:
        self._counts[key] = self._counts.get(key, 0) + 1


class Listener:
    """Decides who may associate; what plumbing's acceptor asks and tells."""

    def __init__(self, parent: Parent, packs: PackDirectory, index: Index, clock: Clock) -> None:
        self._parent = parent
        self._packs = packs
        self._index = index
        self._clock = clock

    def recognize(self, certificate_der: bytes | None, remote: str) -> None:
        """Lets the certificate of a live gateway ask, or raises Rejected (SEC-2)."""
        with _rejecting():
            self._parent.recognize(_digest(certificate_der))

    def associate(self, request: AssociationRequest) -> Association:
        """Admits the association, or raises Rejected (SEC-2)."""
        with _rejecting():
            sender = self._parent.admit(
                _digest(request.certificate_der),
                request.calling_ae_title,
                request.transfer_id,
                request.remote,
                [context.abstract_syntax_uid for context in request.refused_contexts],
            )
        reception = Reception(sender, self._parent, self._packs, self._index, self._clock)
        return Association(reception, self._clock, request.still_open)

    def refused(self, refused: RefusedConnection) -> None:
        """A connection came to nothing: it is listed and audited."""
        refusal = Refusal(
            RefusalKind(refused.kind),
            refused.reason,
            refused.remote,
            _digest(refused.certificate_der) if refused.certificate_der else "",
            refused.calling_ae_title,
            cause=refused.cause,
        )
        try:
            self._parent.refuse(refusal)
        except Unavailable:
            _log.warning("a refusal cannot be listed", kind=refused.kind, remote=refused.remote)


@contextmanager
def _rejecting() -> Iterator[None]:
    try:
        yield
    except ReadroomError as error:
        raise dimse.Rejected(*REJECTIONS[type(error)], error.sentence) from error


def _digest(certificate_der: bytes | None) -> str:
    return hashlib.sha256(certificate_der or b"").hexdigest()
