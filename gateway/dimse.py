"""The hospital side: who may send, and the way of an instance to the disk (A54)."""

import sqlite3
from collections.abc import Callable, Collection

from gateway.disk import Disk
from gateway.folder import Folder, Incoming
from gateway.queue import Item
from gateway.settings import Modality
from gateway.store import AuditRow, Store
from kernel.clock import Clock
from kernel.dicom import AETitle
from kernel.filing import CannotBeFiled, Examination
from plumbing import log
from plumbing.dimse import (
    AssociationRequest,
    InstanceSink,
    Refused,
    RefusedConnection,
    Rejected,
    StoreCommand,
)
from plumbing.dimse.handler import CALLED_AE_TITLE_NOT_RECOGNIZED, CALLING_AE_TITLE_NOT_RECOGNIZED, End

_log = log.get()

# PS3.4 B.2.3.
_SUCCESS = 0x0000
_OUT_OF_RESOURCES = 0xA700


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
        self._listener = listener
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
            self._audit("association.plain", "done", "plain text by exception", request)
        return Receiving(request, self._folder, self._disk, self._store, self._arrived)

    def refused(self, refused: RefusedConnection) -> None:
        """Keeps who was sent away, and why."""
        _log.warning(
            "a sender was refused",
            kind=refused.kind,
            reason=refused.reason,
            remote=refused.remote,
            listener=self._listener,
        )
        self._audit(f"{refused.kind}.refused", "refused", refused.reason, refused)

    def _audit(
        self, action: str, outcome: str, reason: str, about: AssociationRequest | RefusedConnection
    ) -> None:
        self._store.audit(
            AuditRow(
                at=self._clock.now(),
                action=action,
                outcome=outcome,
                listener=self._listener,
                remote=about.remote,
                calling_ae_title=about.calling_ae_title,
                called_ae_title=about.called_ae_title,
                reason=reason,
            )
        )


class Receiving:
    """One association of a modality; what it sends goes on under the title that it called."""

    def __init__(
        self,
        request: AssociationRequest,
        folder: Folder,
        disk: Disk,
        store: Store,
        arrived: Callable[[], None],
    ) -> None:
        self._request = request
        self._folder = folder
        self._disk = disk
        self._store = store
        self._arrived = arrived

    def store(self, command: StoreCommand) -> InstanceSink:
        """Makes room for an instance."""
        try:
            self._disk.must_have_room()
            incoming = self._folder.receive()
        except OSError as error:
            raise _no_room(error) from None
        return Instance(command, self._request, self._folder, incoming, self._store, self._arrived)

    def ended(self, how: End) -> None:
        """Nothing hangs on an association: what was acknowledged stays."""


class Instance:
    """One data set on its way to disk and queue."""

    def __init__(
        self,
        command: StoreCommand,
        request: AssociationRequest,
        folder: Folder,
        incoming: Incoming,
        store: Store,
        arrived: Callable[[], None],
    ) -> None:
        self._ae_title = AETitle(request.called_ae_title)
        self._folder = folder
        self._incoming = incoming
        self._store = store
        self._arrived = arrived
        self._examination = Examination(
            command.sop_class_uid,
            command.sop_instance_uid,
            command.transfer_syntax_uid,
            meanwhile=request.still_open,
        )

    def write(self, chunk: memoryview) -> None:
        """To the file, and past the eyes of the examination."""
        try:
            self._examination.feed(chunk)
            self._incoming.write(chunk)
        except CannotBeFiled as unfit:
            raise Refused(unfit.status, unfit.comment) from None
        except OSError as error:
            raise _no_room(error) from None

    def finish(self) -> tuple[int, str]:
        """Answers success only when file, name and row are durable, and Central server can file it."""
        try:
            self._examination.finish()
            identity = self._examination.identify()
            item = Item(
                sop_instance_uid=identity.sop_instance_uid,
                sha256=self._incoming.sha256,
                sop_class_uid=identity.sop_class_uid,
                transfer_syntax_uid=identity.transfer_syntax_uid,
                size_bytes=self._incoming.size_bytes,
            )
            with self._folder.filing(item.sha256):
                self._incoming.keep()
                self._store.keep(item, identity.study_instance_uid, self._ae_title)
        except CannotBeFiled as unfit:
            self.discard()
            return unfit.status, unfit.comment
        except (OSError, sqlite3.Error) as error:
            self.discard()
            raise _no_room(error) from None
        self._arrived()
        return _SUCCESS, ""

    def discard(self) -> None:
        """Nothing of it stays."""
        self._incoming.discard()


def _no_room(error: Exception) -> Refused:
    _log.warning("an instance could not be kept", cause=str(error))
    return Refused(_OUT_OF_RESOURCES, "it cannot be kept now, send it again later")
