"""Association negotiation (PS3.8 9.3.2, 9.3.3; PS3.7 D.3): what is asked, what is accepted.

pynetdicom writes the A-ASSOCIATE PDUs; items.py reads them. Role selection and asynchronous operations are
not answered, which means the defaults: the peer is the only requestor, one operation at a time (PS3.7
D.3.3.3, D.3.3.4).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom import uid as registry
from pydicom.uid import UID
from pynetdicom import ALL_TRANSFER_SYNTAXES
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_items import (
    AbstractSyntaxSubItem,
    ApplicationContextItem,
    ImplementationClassUIDSubItem,
    ImplementationVersionNameSubItem,
    MaximumLengthSubItem,
    PresentationContextItemAC,
    PresentationContextItemRQ,
    TransferSyntaxSubItem,
    UserIdentitySubItemAC,
    UserIdentitySubItemRQ,
    UserInformationItem,
)
from pynetdicom.presentation import StoragePresentationContexts

from kernel.dicom import is_uid
from plumbing.dimse.items import Request
from plumbing.dimse.pdus import MAX_PDU_LENGTH

IMPLEMENTATION_CLASS_UID = "2.25.283018493187209127646411276512307218593"
IMPLEMENTATION_VERSION_NAME = "READROOM"

VERIFICATION = "1.2.840.10008.1.1"
_IMPLICIT_LITTLE = "1.2.840.10008.1.2"
_EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
_DICOM_ROOT = "1.2.840.10008."
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"

_STORAGE = "1.2.840.10008.5.1.4.1.1."
# Of the structured reports and the waveforms on trial, all retired (PS3.6 A).
_TRIAL = {f"{_STORAGE}{end}" for end in ("88.1", "88.2", "88.3", "88.4", "9.1")}

# Protocols and inventories among the storage classes (PS3.4 GG.3).
_NON_PATIENT_OBJECTS = ("1.2.840.10008.5.1.4.1.1.200.", "1.2.840.10008.5.1.4.1.1.201.")

# PS3.8 9.3.3.2: result of one presentation context.
_ACCEPTED, _ABSTRACT_SYNTAX, _TRANSFER_SYNTAXES = 0, 3, 4


def _storage_classes() -> frozenset[str]:
    """Composite storage SOP classes of PS3.4 B.5 and the retired ones, which old modalities still send.

    Not those of non-patient objects (PS3.4 GG): a hanging protocol belongs to no study.
    """
    current = {str(context.abstract_syntax) for context in StoragePresentationContexts}
    named = {
        str(uid)
        for uid in vars(registry).values()
        if isinstance(uid, UID) and "Storage" in uid.name and uid.startswith(_STORAGE)
    }
    return frozenset(uid for uid in current | named | _TRIAL if not uid.startswith(_NON_PATIENT_OBJECTS))


STORAGE_CLASSES = _storage_classes()
_SERVED = STORAGE_CLASSES | {VERIFICATION}

# Encapsulated without compression, and the retired processes of JPEG (PS3.6 A).
_UNLISTED = {
    "1.2.840.10008.1.2.1.98",
    *(f"1.2.840.10008.1.2.4.{process}" for process in (*range(52, 57), *range(58, 67))),
}

TRANSFER_SYNTAXES = frozenset(
    str(uid)
    for uid in (*ALL_TRANSFER_SYNTAXES, *_UNLISTED)
    # PS3.5 10 and A. Not a data set: MIME and XML (1.2.6), real-time video (1.2.7), Papyrus (1.20).
    if not uid.startswith(("1.2.840.10008.1.2.6.", "1.2.840.10008.1.2.7.", "1.2.840.10008.1.20"))
)


@dataclass(frozen=True, slots=True)
class Context:
    """A presentation context as answered; `transfer_syntax_uid` is what its data sets come in."""

    context_id: int
    abstract_syntax_uid: str
    transfer_syntax_uid: str
    result: int

    @property
    def accepted(self) -> bool:
        return self.result == _ACCEPTED

    @property
    def known_class(self) -> bool:
        """Whether the class is served, so that it was the transfer syntaxes that were not."""
        return self.result != _ABSTRACT_SYNTAX


def answer(request: Request, *, private_classes: bool = True) -> Sequence[Context]:
    """The contexts of a request, each accepted or rejected; `private_classes` as in `Acceptor`."""
    return [
        _answer(
            context.context_id,
            context.abstract_syntax_uid,
            context.transfer_syntax_uids,
            served=context.abstract_syntax_uid in _SERVED
            or (private_classes and is_private_class(context.abstract_syntax_uid)),
        )
        for context in request.contexts
    ]


def is_private_class(uid: str) -> bool:
    """Whether a SOP class is one of a vendor's own: a UID, and none of DICOM's (PS3.5 9.2)."""
    return is_uid(uid) and not f"{uid}.".startswith(_DICOM_ROOT)


def _answer(context_id: int, abstract_syntax: str, proposed: Sequence[str], *, served: bool) -> Context:
    """Accepts the first transfer syntax we know: the sender's own order is the best guess at how it keeps it.

    One exception: of the uncompressed pair, the explicit one, which keeps the VRs of private elements.
    """
    known = [uid for uid in proposed if uid in TRANSFER_SYNTAXES]
    if not served:
        return Context(context_id, abstract_syntax, _IMPLICIT_LITTLE, _ABSTRACT_SYNTAX)
    if not known:
        return Context(context_id, abstract_syntax, _IMPLICIT_LITTLE, _TRANSFER_SYNTAXES)
    chosen = known[0]
    if chosen == _IMPLICIT_LITTLE and _EXPLICIT_LITTLE in known:
        chosen = _EXPLICIT_LITTLE
    return Context(context_id, abstract_syntax, chosen, _ACCEPTED)


def write_acceptance(request: Request, answered: Sequence[Context]) -> bytes:
    """The A-ASSOCIATE-AC PDU that answers `request`."""
    contexts = []
    for context in answered:
        item = PresentationContextItemAC()
        item.presentation_context_id = context.context_id
        item.result_reason = context.result
        item.transfer_syntax_sub_item = [_syntax(context.transfer_syntax_uid)]
        contexts.append(item)
    information = _information()
    if request.identity is not None and request.identity_wants_answer:
        identity = UserIdentitySubItemAC()
        identity.server_response = b""  # types 1 and 2 answer with an empty field (PS3.7 D.3.3.7.2)
        information.user_data.append(identity)
    acceptance = A_ASSOCIATE_AC()
    acceptance.reserved_aet = request.titles.called
    acceptance.reserved_aec = request.titles.calling
    acceptance.variable_items = [_application(), *contexts, information]
    return acceptance.encode()


def write_proposal(
    calling_ae_title: str, called_ae_title: str, proposed: Sequence[tuple[str, str]], identity: str | None
) -> bytes:
    """The A-ASSOCIATE-RQ PDU that proposes each (abstract syntax, transfer syntax) as a context of its own.

    The contexts have the ids 1, 3, 5 …; `identity` goes into User Identity type 1.
    """
    contexts = []
    for index, (abstract_syntax, transfer_syntax) in enumerate(proposed):
        abstract = AbstractSyntaxSubItem()
        abstract.abstract_syntax_name = abstract_syntax
        item = PresentationContextItemRQ()
        item.presentation_context_id = 2 * index + 1
        item.abstract_transfer_syntax_sub_items = [abstract, _syntax(transfer_syntax)]
        contexts.append(item)
    information = _information()
    if identity is not None:
        user = UserIdentitySubItemRQ()
        user.user_identity_type = 1
        user.positive_response_requested = 0
        user.primary_field = identity.encode()
        information.user_data.append(user)
    request = A_ASSOCIATE_RQ()
    request.calling_ae_title = calling_ae_title
    request.called_ae_title = called_ae_title
    request.variable_items = [_application(), *contexts, information]
    return request.encode()


def _application() -> ApplicationContextItem:
    item = ApplicationContextItem()
    item.application_context_name = APPLICATION_CONTEXT
    return item


def _syntax(transfer_syntax_uid: str) -> TransferSyntaxSubItem:
    item = TransferSyntaxSubItem()
    item.transfer_syntax_name = transfer_syntax_uid
    return item


def _information() -> UserInformationItem:
    length = MaximumLengthSubItem()
    length.maximum_length_received = MAX_PDU_LENGTH
    implementation = ImplementationClassUIDSubItem()
    implementation.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    version = ImplementationVersionNameSubItem()
    version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    item = UserInformationItem()
    item.user_data = [length, implementation, version]
    return item
