"""What those who receive ask this process: who may send, where to, what became of it; how threads ask."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from prometheus_client import Counter, Gauge, Histogram

from kernel.dicom import UID
from kernel.errors import Unavailable
from kernel.ids import PackId, StudyId
from plumbing import dimse
from services.ingest.contacts import Contact
from services.ingest.domain import Refusal, RefusalKind, Sender, StoredInstance, Verdict
from services.ingest.gateways import Gateways
from services.ingest.parent import Notes
from services.ingest.parts import Description
from services.ingest.usecases import Studies
from services.ingest.worker import ADMIT_S, IDENTIFY_S, INDEX_S, REFUSE_S

R = TypeVar("R")
INSTANCES = Counter("readroom_ingest_instances", "C-STOREs answered, by what they were answered", ["status"])
BYTES = Counter("readroom_ingest_bytes", "Bytes of stored data sets")
ODD = Counter("readroom_ingest_odd_data_sets", "Data sets that were stored though they are not quite DICOM")
STORE_SECONDS = Histogram(
    "readroom_ingest_store_seconds",
    "From the last byte of a data set to its answer",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
ASSOCIATIONS = Gauge("readroom_ingest_associations", "Open associations")
CONTEXTS_REFUSED = Counter(
    "readroom_ingest_contexts_refused",
    "Presentation contexts that were not accepted, by SOP class",
    ["sop_class_uid"],
)
REFUSED = Counter("readroom_ingest_refusals", "Associations refused, by kind", ["kind"])


class Office:
    """What those who receive ask, as `Parent`: coroutines on the event loop, `note` in any thread."""

    def __init__(self, gateways: Gateways, studies: Studies) -> None:
        self._gateways = gateways
        self._studies = studies
        self._classes = dimse.FewNames()

    async def recognize(self, certificate_sha256: str) -> None:
        await self._gateways.recognize(certificate_sha256)

    async def admit(
        self,
        certificate_sha256: str,
        calling_ae_title: str,
        transfer_id: str | None,
        remote_address: str,
        refused_classes: Sequence[str],
    ) -> Sender:
        sender = await self._gateways.admit(certificate_sha256, calling_ae_title, transfer_id, remote_address)
        for uid in refused_classes:
            CONTEXTS_REFUSED.labels(self._classes.named(uid)).inc()
        ASSOCIATIONS.inc()
        return sender

    async def open_study(self, sender: Sender, study_instance_uid: UID) -> tuple[Sender, StudyId, PackId]:
        return await self._studies.open_study(sender, study_instance_uid)

    async def open_pack(self) -> PackId:
        return await self._studies.open_pack()

    async def receive(
        self,
        study_id: StudyId,
        sender: Sender,
        stored: StoredInstance,
        description: Description,
        described: bool,
    ) -> tuple[Verdict, StudyId]:
        return await self._studies.receive(study_id, sender, stored, description, described=described)

    async def keep_unfiled(self, sender: Sender, stored: StoredInstance, reason: str) -> bool:
        return await self._studies.keep_unfiled(sender, stored, reason)

    async def refuse(self, refusal: Refusal) -> None:
        if (listing := self.refusal(refusal)) is not None:
            await listing

    def refusal(self, refusal: Refusal) -> Coroutine[Any, Any, None] | None:
        """The same, for a thread: None if the refusal is only counted."""
        if refusal.kind is not RefusalKind.INSTANCE:
            REFUSED.labels(refusal.kind).inc()
        return self._gateways.refuse(refusal)

    def release(self, pack_id: PackId, study_id: StudyId | None) -> None:
        self._studies.release(pack_id, study_id)

    def note(self, notes: Notes) -> None:
        for status, number in notes.answered.items():
            INSTANCES.labels(status.value).inc(number)
        if notes.stored_bytes:
            BYTES.inc(notes.stored_bytes)
        if notes.odd:
            ODD.inc(notes.odd)
        for seconds in notes.seconds:
            STORE_SECONDS.observe(seconds)
        for study_id in notes.changed:
            self._studies.changed(study_id)
        for gateway_id, stored_at in notes.stored_at.items():
            self._gateways.contacts.note(gateway_id, Contact(heard_at=stored_at, stored_at=stored_at))

    def ended(self) -> None:
        """An association that was admitted has ended."""
        ASSOCIATIONS.dec()


class EventLoopBridge:
    """The way from an association's thread to the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def wait(self, coroutine: Coroutine[Any, Any, R], seconds: float) -> R:
        """What the coroutine answers; raises Unavailable if it takes longer."""
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError as error:  # the loop is closed
            coroutine.close()
            raise Unavailable("the service is stopping") from error
        try:
            return future.result(seconds)
        except TimeoutError as error:
            future.cancel()
            raise Unavailable("no answer in time") from error

    def call(self, function: Callable[..., None], *arguments: object) -> None:
        """Runs the function there, some time."""
        self._loop.call_soon_threadsafe(function, *arguments)


class InProcess:
    """The parent of threads of this process."""

    def __init__(self, office: Office, loop: EventLoopBridge) -> None:
        self._office = office
        self._loop = loop

    def recognize(self, certificate_sha256: str) -> None:
        self._loop.wait(self._office.recognize(certificate_sha256), ADMIT_S)

    def admit(
        self,
        certificate_sha256: str,
        calling_ae_title: str,
        transfer_id: str | None,
        remote_address: str,
        refused_classes: Sequence[str],
    ) -> Sender:
        admitting = self._office.admit(
            certificate_sha256, calling_ae_title, transfer_id, remote_address, refused_classes
        )
        return self._loop.wait(admitting, ADMIT_S)

    def open_study(self, sender: Sender, study_instance_uid: UID) -> tuple[Sender, StudyId, PackId]:
        return self._loop.wait(self._office.open_study(sender, study_instance_uid), IDENTIFY_S)

    def open_pack(self) -> PackId:
        return self._loop.wait(self._office.open_pack(), IDENTIFY_S)

    def receive(
        self,
        study_id: StudyId,
        sender: Sender,
        stored: StoredInstance,
        description: Description,
        described: bool,
    ) -> tuple[Verdict, StudyId]:
        receiving = self._office.receive(study_id, sender, stored, description, described)
        return self._loop.wait(receiving, INDEX_S)

    def keep_unfiled(self, sender: Sender, stored: StoredInstance, reason: str) -> bool:
        return self._loop.wait(self._office.keep_unfiled(sender, stored, reason), INDEX_S)

    def refuse(self, refusal: Refusal) -> None:
        if (listing := self._office.refusal(refusal)) is not None:
            self._loop.wait(listing, REFUSE_S)

    def release(self, pack_id: PackId, study_id: StudyId | None) -> None:
        self._loop.call(self._office.release, pack_id, study_id)

    def note(self, notes: Notes) -> None:
        self._office.note(notes)

    def ended(self, remote_address: str) -> None:
        self._office.ended()
