"""The hospital side: who may send, and the way of an instance to the disk (A54)."""

import sqlite3
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

from gateway.disk import Disk
from gateway.folder import Folder, Incoming
from gateway.queue import Item
from gateway.refusals import Kind, Refusal, advice, way
from gateway.refusalstore import AuditRow
from gateway.settings import Modality
from gateway.store import Store
from gateway.studies import Searched, searched
from kernel.clock import Clock
from kernel.dicom import UID, AETitle
from kernel.filing import CannotBeFiled, Examination
from plumbing import log
from plumbing.dimse import (
    AssociationRequest,
    InstanceSink,
    Refused,
    RefusedConnection,
    RefusedInstance,
    Rejected,
    StoreCommand,
)
from plumbing.dimse.handler import CALLED_AE_TITLE_NOT_RECOGNIZED, CALLING_AE_TITLE_NOT_RECOGNIZED, End
from plumbing.dimse.items import shown

About = AssociationRequest | RefusedConnection

_log = log.get()

# PS3.4 B.2.3.
_SUCCESS = 0x0000
_OUT_OF_RESOURCES = 0xA700


class Told(NamedTuple):
    """What is told of an association."""

    kind: Kind
    cause: str
    uid: str
    reason: str
    times: int = 1


class Reception:
    """Judges who calls on one listener; a sender is known by certificate, or by AE title and address."""

    def __init__(
        self,
        listener: str,
        *,
        plain: bool,
        ae_titles: Collection[str],
        modalities: Collection[Modality],
        folder: Folder,
        disk: Disk,
        store: Store,
        arrived: Callable[[], None],
        clock: Clock,
    ) -> None:
        """`arrived` is called after each instance that is in the queue."""
        self.listener = listener
        self._plain = plain
        self._ae_titles = frozenset(ae_titles)
        self._known = {(modality.ae_title, modality.address) for modality in modalities}
        self._folder = folder
        self._disk = disk
        self._store = store
        self._arrived = arrived
        self._clock = clock

    def recognize(self, certificate_der: bytes | None, remote: str) -> None:
        """Lets everybody ask: who shows no certificate may be registered by title and address."""

    def associate(self, request: AssociationRequest) -> "Receiving":
        """Lets a known sender in that calls one of our titles."""
        if request.called_ae_title not in self._ae_titles:
            raise Rejected(
                *CALLED_AE_TITLE_NOT_RECOGNIZED, f"nobody here is called `{request.called_ae_title}`"
            )
        address = request.remote.rpartition(":")[0]
        if request.certificate_der is None and (request.calling_ae_title, address) not in self._known:
            raise Rejected(
                *CALLING_AE_TITLE_NOT_RECOGNIZED,
                f"`{request.calling_ae_title}` at `{address}` is not registered and shows no certificate",
            )
        if self._plain:
            self._store.audit(self._audited("association.plain", "done", "plain text by exception", request))
        receiving = Receiving(request, self)
        receiving.tell(
            Told(
                Kind.CONTEXT,
                "transfer syntax" if context.known_class else "class",
                shown(context.abstract_syntax_uid)[:64],
                "no transfer syntax that it offers is known"
                if context.known_class
                else "this kind of object is not taken",
            )
            for context in request.refused_contexts
        )
        return receiving

    def refused(self, refused: RefusedConnection) -> None:
        """Keeps who was sent away, and why."""
        kind = Kind(refused.kind)
        self.tell(
            [Told(kind, refused.cause, "", refused.reason)],
            refused,
            self._audited(f"{kind}.refused", "refused", refused.reason, refused),
        )

    def tell(self, told: Iterable[Told], about: About, audited: AuditRow | None = None) -> None:
        """Logs what was refused and keeps it; what cannot be kept is in the log."""
        refusals = []
        for each in told:
            refusals.append(
                Refusal(
                    each.kind,
                    each.cause,
                    self.listener,
                    about.remote.rpartition(":")[0],
                    about.calling_ae_title,
                    about.called_ae_title,
                    "" if each.kind is Kind.ODD else each.uid,  # one row for all that a device does alike
                    each.reason,
                    each.times,
                )
            )
            _log.warning(
                "kept though odd" if each.kind is Kind.ODD else "refused",
                kind=each.kind.value,
                cause=each.cause,
                reason=each.reason,
                uid=each.uid,
                times=each.times,
                remote=about.remote,
                listener=self.listener,
                calling_ae_title=about.calling_ae_title,
                called_ae_title=about.called_ae_title,
                advice=advice(each.kind, each.cause),
            )
        if not refusals and audited is None:
            return
        try:
            self._store.refuse(refusals, audited)
        except sqlite3.Error:
            _log.exception("what was refused could not be kept")

    def _audited(self, action: str, outcome: str, reason: str, about: About) -> AuditRow:
        return AuditRow(
            at=self._clock.now(),
            action=action,
            outcome=outcome,
            listener=self.listener,
            remote=about.remote,
            calling_ae_title=about.calling_ae_title,
            called_ae_title=about.called_ae_title,
            reason=reason,
        )

    def make_room(self) -> Incoming:
        """Room for an instance; raises OSError if there is none."""
        self._disk.must_have_room()
        return self._folder.receive()

    def keep(
        self, incoming: Incoming, item: Item, study_instance_uid: UID, title: str, about: Searched
    ) -> None:
        """Makes an instance durable, and puts it into the queue."""
        with self._folder.filing(item.sha256):
            incoming.keep()
            self._store.keep(item, study_instance_uid, AETitle(title), about)
        self._arrived()


class Receiving:
    """One association of a modality; what it sends goes on under the title that it called."""

    def __init__(self, request: AssociationRequest, reception: Reception) -> None:
        self.request = request
        self.reception = reception
        self._odd: dict[str, Told] = {}
        self._detail = ""

    def store(self, command: StoreCommand) -> InstanceSink:
        """Makes room for an instance."""
        try:
            incoming = self.reception.make_room()
        except OSError as error:
            raise _no_room(error) from None
        return Instance(command, self, incoming)

    def unfit(self, unfit: CannotBeFiled) -> None:
        """Why the instance that is refused next cannot be filed."""
        self._detail = unfit.detail

    def refused(self, refused: RefusedInstance) -> None:
        """Keeps what was refused, and why."""
        reason = f"{refused.reason}: {self._detail}" if self._detail else refused.reason
        self._detail = ""
        self.tell([Told(Kind.INSTANCE, refused.cause, refused.sop_instance_uid, reason)])

    def odd(self, sop_instance_uid: UID, notes: Sequence[str]) -> None:
        """Tells at once in which way what was stored is odd, and at the end how often it was so again."""
        for cause, note in {way(note): note for note in reversed(notes)}.items():
            reason = f"{note}; the last time in {sop_instance_uid}"
            before = self._odd.get(cause)
            times = before.times + 1 if before else 0
            self._odd[cause] = Told(Kind.ODD, cause, sop_instance_uid, reason, times)
            if before is None:
                self.tell([self._odd[cause]._replace(times=1)])

    def tell(self, told: Iterable[Told]) -> None:
        """Tells something of this association."""
        self.reception.tell(told, self.request)

    def ended(self, how: End) -> None:
        """Tells what is left to tell; nothing else hangs on an association: what was acknowledged stays."""
        self.tell(told for told in self._odd.values() if told.times)


class Instance:
    """One data set on its way to disk and queue."""

    def __init__(self, command: StoreCommand, receiving: Receiving, incoming: Incoming) -> None:
        self._receiving = receiving
        self._incoming = incoming
        self._examination = Examination(
            command.sop_class_uid,
            command.sop_instance_uid,
            command.transfer_syntax_uid,
            meanwhile=receiving.request.still_open,
        )

    def write(self, chunk: memoryview) -> None:
        """To the file, and past the eyes of the examination."""
        try:
            self._examination.feed(chunk)
            self._incoming.write(chunk)
        except CannotBeFiled as unfit:
            self._receiving.unfit(unfit)
            raise Refused(unfit.status, unfit.comment) from None
        except OSError as error:
            raise _no_room(error) from None

    def finish(self) -> tuple[int, str]:
        """Answers success only when file, name and row are durable, and Central server can file it."""
        receiving = self._receiving
        try:
            values = self._examination.finish()
            identity = self._examination.identify()
            item = Item(
                sop_instance_uid=identity.sop_instance_uid,
                sha256=self._incoming.sha256,
                sop_class_uid=identity.sop_class_uid,
                transfer_syntax_uid=identity.transfer_syntax_uid,
                size_bytes=self._incoming.size_bytes,
            )
            receiving.reception.keep(
                self._incoming,
                item,
                identity.study_instance_uid,
                receiving.request.called_ae_title,
                searched(values),
            )
        except CannotBeFiled as unfit:
            self.discard()
            receiving.unfit(unfit)
            return unfit.status, unfit.comment
        except (OSError, sqlite3.Error) as error:
            self.discard()
            raise _no_room(error) from None
        receiving.odd(identity.sop_instance_uid, self._examination.notes)
        return _SUCCESS, ""

    def discard(self) -> None:
        """Nothing of it stays."""
        self._incoming.discard()


def _no_room(error: Exception) -> Refused:
    _log.warning("an instance could not be kept", cause=str(error))
    return Refused(_OUT_OF_RESOURCES, "it cannot be kept now, send it again later")
