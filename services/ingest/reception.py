"""What one association sends, from its first byte to its answer; synchronous, in the association's thread.

A data set is streamed into the pack of its study, made durable, and only then indexed; the index decides
new, duplicate or conflict, and only then it is answered (R1, R2). Whatever fails before leaves nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import BinaryIO, Protocol

from kernel.clock import Clock
from kernel.dicom import UID
from kernel.errors import Unavailable
from kernel.filing import Layout
from kernel.ids import PackId, StudyId
from services.ingest.domain import (
    ANSWERS,
    Instance,
    Label,
    Place,
    Refusal,
    RefusalKind,
    Refused,
    Revoked,
    Sender,
    StoredInstance,
    StoreStatus,
    Verdict,
)
from services.ingest.parent import Notes, Parent
from services.ingest.parts import Description

MAX_HEAD_BYTES = 256 * 1024
"""Held in memory of a data set whose UIDs have not come. Mostly they come within the first kilobytes; before
them there may be long sequences of references (PS3.3 C.7.6.16), which go to a file (P5)."""
Described = tuple[UID, UID, bytes]
"""Study, series and digest of a part."""

MAX_DESCRIBED = 16
"""Series and parts of one association whose last description is at hand, and not sent again."""
MAX_OPEN_PACKS = 16
"""Of one association: a queue entry is one study, a modality that mixes studies sends a few at a time."""


class Entry(Protocol):
    """An entry of a pack while it is being written; raises OSError."""

    def write(self, chunk: bytes | bytearray | memoryview) -> None: ...
    def written(self) -> Iterator[bytes]: ...
    def complete(self, label: Label) -> Place:
        """Ends the entry, and it is durable."""
        ...

    def end(self, label: Label) -> Place:
        """Ends the entry; `sync` makes it durable."""
        ...

    def sync(self) -> None: ...
    def keep(self, place: Place) -> None: ...
    def discard(self) -> None: ...


class Pack(Protocol):
    """A pack while this association writes it."""

    @property
    def pack_id(self) -> PackId: ...
    @property
    def is_empty(self) -> bool: ...
    def entry(self, instance: Instance) -> Entry: ...
    def close(self) -> None: ...


class PackDirectory(Protocol):
    """Where new packs come from."""

    def create(self, pack_id: PackId) -> Pack:
        """The file of a pack whose row is there; raises OSError."""
        ...

    def spool(self) -> BinaryIO:
        """A file without a name, which is gone when it is closed."""
        ...


class Index(Protocol):
    """The index, asked from the association's thread."""

    def receive(
        self,
        study_id: StudyId,
        sender: Sender,
        stored: StoredInstance,
        digest: bytes,
        now: datetime,
        sync: Callable[[], None],
    ) -> Verdict:
        """Indexes an instance of a known study and part, once `sync` has returned; raises Unavailable."""
        ...


class _OpenStudy:
    """A study this association is sending; `sender` is that of its transfer."""

    def __init__(self, sender: Sender, study_id: StudyId, pack: Pack) -> None:
        self.sender = sender
        self.study_id = study_id
        self.pack = pack


class Head:
    """The bytes of a data set until its UIDs are known: in memory, and beyond a limit in a file."""

    def __init__(self, packs: PackDirectory) -> None:
        self._packs = packs
        self._held = bytearray()
        self._file: BinaryIO | None = None

    def write(self, chunk: memoryview) -> None:
        """Takes the next bytes; raises OSError."""
        if self._file is None and len(self._held) + len(chunk) > MAX_HEAD_BYTES:
            self._file = self._packs.spool()
            self._file.write(self._held)
            self._held = bytearray()
        if self._file is None:
            self._held += chunk
        else:
            self._file.write(chunk)

    def pour(self, into: "Receipt | Unfiled") -> None:
        """Hands everything on, and is empty then; raises OSError."""
        if self._file is None:
            into.write(self._held)
        else:
            self._file.seek(0)
            while chunk := self._file.read(MAX_HEAD_BYTES):
                into.write(chunk)
        self.drop()

    def drop(self) -> None:
        """Nothing of it is wanted."""
        self._held = bytearray()
        if self._file is not None:
            with suppress(OSError):  # a full disk: what is still to be written is not wanted either
                self._file.close()
            self._file = None


class Receipt:
    """One instance on its way into a pack."""

    def __init__(self, reception: "Reception", instance: Instance, study: _OpenStudy) -> None:
        self._reception = reception
        self._instance = instance
        self._study = study
        self._entry = study.pack.entry(instance)

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Takes the next bytes of the data set; raises OSError."""
        self._entry.write(chunk)

    def pour(self, unfiled: "Unfiled") -> None:
        """It cannot be filed: hands on what has come, and leaves nothing of it here; raises OSError."""
        for chunk in self._entry.written():
            unfiled.write(chunk)
        self._entry.discard()

    def discard(self) -> None:
        """It did not arrive whole, or is refused: nothing of it is left (R5)."""
        self._entry.discard()

    def complete(self, sha256: bytes, description: Description, layout: Layout) -> StoreStatus:
        """Makes it durable and indexes it; what is answered. The last call, whatever it raises."""
        try:
            return self._complete(sha256, description, layout)
        except Exception as error:
            # Whether the bytes are durable, or the index row is committed, is not known: the pack takes
            # no more, and is cut where the index says once it can say so.
            self._reception.release(self._instance.study_instance_uid)
            if isinstance(error, OSError | Unavailable):
                raise Refused(StoreStatus.OUT_OF_RESOURCES) from error
            raise

    def _complete(self, sha256: bytes, description: Description, layout: Layout) -> StoreStatus:
        reception, study, instance = self._reception, self._study, self._instance
        what = instance.study_instance_uid, instance.series_instance_uid, description.digest
        label = Label(study.study_id, study.sender, reception.clock.now(), sha256)
        verdict, live_id, stored = self._index(
            label, description, layout, described=reception.described(what) == description
        )
        if verdict is Verdict.OTHER_STUDY_ID and study.pack.is_empty:
            # Another association was first: the same entry under the StudyId that is live.
            study.study_id = live_id
            label = Label(live_id, study.sender, label.received_at, sha256)
            verdict, live_id, stored = self._index(label, description, layout)
        match verdict:
            case Verdict.FIRST | Verdict.NEW:
                self._entry.keep(stored.place)
                reception.describe(what, description)
                return StoreStatus.STORED
            case Verdict.REPAIRED:
                self._entry.keep(stored.place)
                return StoreStatus.REPAIRED
            case Verdict.DUPLICATE:
                self._entry.discard()
                return StoreStatus.DUPLICATE
            case Verdict.CONFLICT:
                self._entry.discard()
                return StoreStatus.CONFLICT
            case Verdict.QUARANTINED:
                self._keep_refused(label, stored.place)
                return StoreStatus.CONFLICT
            case Verdict.DELETED:
                self._entry.discard()
                reception.release(instance.study_instance_uid)
                return StoreStatus.DELETED
            case Verdict.REVOKED:
                raise Revoked
            case _:
                raise Unavailable("the study is live under another id, or was purged")

    def _keep_refused(self, label: Label, place: Place) -> None:
        """The pack ends with the refused bytes; what comes next of the study goes into another.

        The mark in the header is for whoever rebuilds the index from packs. The answer does not wait for it.
        """
        self._entry.keep(place)
        with suppress(OSError):
            self._entry.complete(replace(label, quarantined=True))
        self._reception.release(self._instance.study_instance_uid)

    def _index(
        self, label: Label, description: Description, layout: Layout, *, described: bool = False
    ) -> tuple[Verdict, StudyId, StoredInstance]:
        """Makes the entry durable, and then known; what the index makes of it."""
        reception, sender, study_id = self._reception, self._study.sender, label.study_id
        assert study_id is not None
        stored = StoredInstance(self._instance, label.sha256, self._entry.end(label), layout)
        if described and not self._study.pack.is_empty:
            # It decides during the sync. With any other answer nothing was indexed, and the parent decides.
            verdict = reception.index.receive(
                study_id, sender, stored, description.digest, label.received_at, self._entry.sync
            )
            if verdict is Verdict.NEW:
                reception.notes.changed.add(study_id)
            if verdict in (Verdict.NEW, Verdict.DUPLICATE, Verdict.REPAIRED):
                return verdict, study_id, stored
        else:
            self._entry.sync()
        verdict, live_id = reception.parent.receive(study_id, sender, stored, description, described)
        return verdict, live_id, stored


class Unfiled:
    """An instance that cannot be filed, on its way into a pack of its own, for a person to look at (A27)."""

    def __init__(self, reception: "Reception", announced: Instance, pack: Pack) -> None:
        self._reception = reception
        self._announced = announced
        self._pack = pack
        self._entry = pack.entry(announced)

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Takes the next bytes of the data set; raises OSError."""
        self._entry.write(chunk)

    def discard(self) -> None:
        """It did not arrive whole: nothing of it is left (R5)."""
        self._entry.discard()
        self._end()

    def keep(self, sha256: bytes, status: StoreStatus) -> None:
        """Makes it durable and keeps it, if the gateway's share has room. The last call of all."""
        reception = self._reception
        try:
            label = Label(None, reception.sender, reception.clock.now(), sha256, quarantined=True)
            stored = StoredInstance(self._announced, sha256, self._entry.complete(label))
            if reception.keep_unfiled(stored, ANSWERS[status].comment):
                self._entry.keep(stored.place)
            else:
                self._entry.discard()
        finally:
            self._end()

    def _end(self) -> None:
        self._pack.close()
        self._reception.release_pack(self._pack.pack_id)


class Reception:
    """What one association sends."""

    def __init__(
        self,
        sender: Sender,
        parent: Parent,
        packs: PackDirectory,
        index: Index,
        clock: Clock,
    ) -> None:
        self.sender = sender
        self.clock = clock
        self.parent = parent
        self.index = index
        self.notes = Notes()
        self._packs = packs
        self._open: dict[UID, _OpenStudy] = {}
        self._described: dict[Described, Description] = {}

    def head(self) -> Head:
        """Where a data set waits for its UIDs."""
        return Head(self._packs)

    def described(self, what: Described) -> Description | None:
        """What the index knows of a series and part by this association, if it is at hand."""
        return self._described.get(what)

    def describe(self, what: Described, description: Description) -> None:
        """The index knows the description now."""
        self._described.pop(what, None)
        if len(self._described) >= MAX_DESCRIBED:
            del self._described[next(iter(self._described))]
        self._described[what] = description

    def begin(self, instance: Instance) -> Receipt:
        """Opens the pack of the instance's study; raises Refused, OSError or Unavailable."""
        uid = instance.study_instance_uid
        study = self._open.pop(uid, None)
        if study is None:
            if len(self._open) >= MAX_OPEN_PACKS:
                self.release(next(iter(self._open)))
            sender, study_id, pack_id = self.parent.open_study(self.sender, uid)
            study = _OpenStudy(sender, study_id, self._create(pack_id))
        self._open[uid] = study  # last in, least recently used first out
        return Receipt(self, instance, study)

    def set_aside(self, announced: Instance) -> Unfiled:
        """Opens a pack for an instance that cannot be filed; raises OSError or Unavailable."""
        return Unfiled(self, announced, self._create(self.parent.open_pack()))

    def _create(self, pack_id: PackId) -> Pack:
        try:
            return self._packs.create(pack_id)
        except OSError:
            self.release_pack(pack_id)
            raise

    def keep_unfiled(self, stored: StoredInstance, reason: str) -> bool:
        """Whether durable bytes are kept that cannot be filed."""
        return self.parent.keep_unfiled(self.sender, stored, reason)

    def release_pack(self, pack_id: PackId) -> None:
        """Nothing more goes into a pack of no study."""
        self.parent.release(pack_id, None)

    def refuse(self, sop_instance_uid: str, status: StoreStatus) -> None:
        """Lists and audits a refused instance, where the table says so and the database answers."""
        answer = ANSWERS[status]
        if not answer.recorded:
            return
        sender = self.sender
        refusal = Refusal(
            RefusalKind.INSTANCE,
            answer.comment,
            sender.remote_address,
            sender.certificate_sha256,
            sender.calling_ae_title,
            sender.gateway_id,
            sop_instance_uid,
            answer.status,
            f"{answer.status:04X}",
        )
        with suppress(Unavailable):
            self.parent.refuse(refusal)

    def tell(self) -> None:
        """Tells what was noted."""
        notes, self.notes = self.notes, Notes()
        self.parent.note(notes)

    def release(self, study_instance_uid: UID) -> None:
        """No more instances go into the study's pack."""
        study = self._open.pop(study_instance_uid)
        self._described = {
            what: known for what, known in self._described.items() if what[0] != study_instance_uid
        }
        study.pack.close()
        self.parent.release(study.pack.pack_id, study.study_id)

    def end(self) -> None:
        """The association has ended."""
        for study_instance_uid in list(self._open):
            self.release(study_instance_uid)
