"""The hospital side: who may send, and the way of an instance to the disk (A54)."""

import sqlite3
from collections.abc import Callable, Collection

from gateway.disk import Disk
from gateway.folder import Folder, Incoming
from gateway.queue import Item
from gateway.settings import Modality
from gateway.store import AuditRow, Store
from kernel.clock import Clock
from kernel.dataset import DataSetWalk
from kernel.dicom import UID, AETitle, parse_uid
from kernel.errors import Invalid
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

_SOP_CLASS_UID, _SOP_INSTANCE_UID, _STUDY_INSTANCE_UID = 0x0008_0016, 0x0008_0018, 0x0020_000D

# PS3.4 B.2.3.
_SUCCESS = 0x0000
_OUT_OF_RESOURCES = 0xA700
_DOES_NOT_MATCH_SOP_CLASS = 0xA900
_CANNOT_UNDERSTAND = 0xC000


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
        self._command = command
        self._ae_title = AETitle(request.called_ae_title)
        self._folder = folder
        self._incoming = incoming
        self._store = store
        self._arrived = arrived
        self._walk = DataSetWalk(
            command.transfer_syntax_uid,
            (_SOP_CLASS_UID, _SOP_INSTANCE_UID, _STUDY_INSTANCE_UID),
            meanwhile=request.still_open,
        )

    def write(self, chunk: memoryview) -> None:
        """To the file, and past the eyes of the walk."""
        try:
            self._walk.feed(chunk)
            self._incoming.write(chunk)
        except Invalid as error:
            raise Refused(_CANNOT_UNDERSTAND, error.sentence) from None
        except OSError as error:
            raise _no_room(error) from None

    def finish(self) -> tuple[int, str]:
        """Answers success only when file, name and row are durable."""
        try:
            study_instance_uid = self._study_instance_uid()
            item = Item(
                sop_instance_uid=UID(self._command.sop_instance_uid),
                sha256=self._incoming.sha256,
                sop_class_uid=UID(self._command.sop_class_uid),
                transfer_syntax_uid=UID(self._command.transfer_syntax_uid),
                size_bytes=self._incoming.size_bytes,
            )
            with self._folder.filing(item.sha256):
                self._incoming.keep()
                self._store.keep(item, study_instance_uid, self._ae_title)
        except Invalid as error:
            self.discard()
            return _CANNOT_UNDERSTAND, error.sentence
        except Refused:
            self.discard()
            raise
        except (OSError, sqlite3.Error) as error:
            self.discard()
            raise _no_room(error) from None
        self._arrived()
        return _SUCCESS, ""

    def discard(self) -> None:
        """Nothing of it stays."""
        self._incoming.discard()

    def _study_instance_uid(self) -> UID:
        """Raises Invalid for a data set that is not whole, Refused for one that is not what was announced."""
        values = {
            tag: value.rstrip(b"\0 ").decode("latin-1") for tag, value in self._walk.finish().values.items()
        }
        if values.get(_SOP_CLASS_UID) != self._command.sop_class_uid:
            raise Refused(_DOES_NOT_MATCH_SOP_CLASS, "SOP Class UID is not the command's")
        if values.get(_SOP_INSTANCE_UID) != self._command.sop_instance_uid:
            raise Refused(_DOES_NOT_MATCH_SOP_CLASS, "SOP Instance UID is not the command's")
        return parse_uid(values.get(_STUDY_INSTANCE_UID, ""), "Study Instance UID")


def _no_room(error: Exception) -> Refused:
    _log.warning("an instance could not be kept", cause=str(error))
    return Refused(_OUT_OF_RESOURCES, "it cannot be kept now, send it again later")
