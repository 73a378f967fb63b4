"""What receiving asks of the process that started it, and what it tells it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from kernel.dicom import UID
from kernel.ids import GatewayId, PackId, StudyId
from services.ingest.domain import Refusal, Sender, StoredInstance, StoreStatus, Verdict
from services.ingest.parts import Description


@dataclass(slots=True)
class Notes:
    """What the threads that receive tell of what they did, for metrics and facts.

    Attributes:
        answered: C-STOREs by what they were answered.
        stored_bytes: of data sets.
        odd: data sets that were stored though they are not quite DICOM.
        seconds: from the last byte of each data set to its answer.
        changed: studies that have further instances.
        stored_at: when the last instance of a gateway was stored.
    """

    answered: dict[StoreStatus, int] = field(default_factory=dict)
    stored_bytes: int = 0
    odd: int = 0
    seconds: list[float] = field(default_factory=list)
    changed: set[StudyId] = field(default_factory=set)
    stored_at: dict[GatewayId, datetime] = field(default_factory=dict)

    def add(self, other: "Notes") -> None:
        """Notes the same as another."""
        for status, number in other.answered.items():
            self.answered[status] = self.answered.get(status, 0) + number
        self.stored_bytes += other.stored_bytes
        self.odd += other.odd
        self.seconds += other.seconds
        self.changed |= other.changed
        self.stored_at |= other.stored_at


class Parent(Protocol):
    """What an association asks for as a whole, or for each study; never for each instance.

    It is answered on the event loop of the process that accepted it, from whatever thread or process it asks.
    Each method that answers raises Unavailable where that takes too long (R8).
    """

    def recognize(self, certificate_sha256: str) -> None:
        """Lets the certificate of a live gateway ask; raises Denied or Exhausted (SEC-2)."""
        ...

    def admit(
        self,
        certificate_sha256: str,
        calling_ae_title: str,
        transfer_id: str | None,
        remote_address: str,
        refused_classes: Sequence[str],
    ) -> Sender:
        """Who sends; raises Denied, NotFound or Invalid. `refused_classes` are told for metrics."""
        ...

    def open_study(self, sender: Sender, study_instance_uid: UID) -> tuple[Sender, StudyId, PackId]:
        """Its sender, the study, and a pack for it, as `Studies.open_study`; raises Refused."""
        ...

    def open_pack(self) -> PackId:
        """A pack of no study."""
        ...

    def receive(
        self,
        study_id: StudyId,
        sender: Sender,
        stored: StoredInstance,
        description: Description,
        described: bool,
    ) -> tuple[Verdict, StudyId]:
        """What the index makes of durable bytes, as `Studies.receive`."""
        ...

    def keep_unfiled(self, sender: Sender, stored: StoredInstance, reason: str) -> bool:
        """Whether durable bytes that cannot be filed are kept."""
        ...

    def refuse(self, refusal: Refusal) -> None:
        """Lists and audits a refusal."""
        ...

    def release(self, pack_id: PackId, study_id: StudyId | None) -> None:
        """Nothing more goes into the pack."""
        ...

    def note(self, notes: Notes) -> None:
        """Tells what was done; it is not waited for."""
        ...

    def ended(self, remote_address: str) -> None:
        """The admitted association has ended."""
        ...
