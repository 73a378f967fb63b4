"""What ingest decides: what is refused, what a C-STORE is answered, and how a study is described.

A study is received as instances. Each instance is new, a duplicate (same bytes: success without effect)
or a conflict (other bytes under its UID: refused for good). What is served never changes (R4, A27).
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from kernel.dicom import UID, AETitle
from kernel.filing import STATUS, UNKNOWN_LAYOUT, Fault, Layout
from kernel.ids import FacilityId, GatewayId, PackId, StudyId, TransferId, VolumeId

MAX_REASON_CHARACTERS = 200
"""Of a refusal in the list; the reason is a sentence of ours, or what a TLS library says."""
MAX_TRANSFER_AGE = timedelta(days=90)
"""What an older queue entry counts as: a gateway keeps for weeks what it could not send, and no longer."""


class RefusalKind(StrEnum):
    """What was refused."""

    HANDSHAKE = "handshake"
    ASSOCIATION = "association"
    INSTANCE = "instance"


@dataclass(frozen=True, slots=True)
class Refusal:
    """An association or an instance that was not accepted, and why (A22, A62). No patient data.

    Attributes:
        cause: the same for all that are refused for the same; nothing that a sender chose. Not listed.
        suppressed: how many it stands for that were not listed; 0: for itself.
    """

    kind: RefusalKind
    reason: str
    remote_address: str
    certificate_sha256: str = ""
    calling_ae_title: str = ""
    gateway_id: GatewayId | None = None
    sop_instance_uid: str = ""
    status: int = 0
    cause: str = ""
    suppressed: int = 0

    @property
    def sentence(self) -> str:
        """The reason as it is listed."""
        return f"{self.reason} ({self.suppressed} more in a minute)" if self.suppressed else self.reason


@dataclass(frozen=True, slots=True)
class RecordedRefusal:
    """A refusal in the list."""

    refusal_id: UUID
    refused_at: datetime
    refusal: Refusal


@dataclass(frozen=True, slots=True)
class Announcer:
    """The owner of a certificate that announces studies."""

    gateway_id: GatewayId
    certificate_sha256: str
    remote_address: str


@dataclass(frozen=True, slots=True)
class Admission:
    """What an association was admitted by; it ends when no live gateway has the title for the facility."""

    gateway_id: GatewayId
    ae_title: AETitle
    facility_id: FacilityId


@dataclass(frozen=True, slots=True)
class Sender:
    """Who an association was accepted from: certificate, calling AE title and facility belong together.

    Attributes:
        transfer_id: the transfer that the association named, else a new one: the association itself. Of the
            sender of a study, its own.
        transfer_study_instance_uid: what a named transfer carries; None for the association itself.
        begun_at: when the transfer began, by PostgreSQL's clock (A26): another process may have been told.
        ahead: how far PostgreSQL's clock was ahead of this process's when the association was admitted.
    """

    gateway_id: GatewayId
    certificate_sha256: str
    calling_ae_title: AETitle
    receiving_facility_id: FacilityId
    transfer_id: TransferId
    transfer_study_instance_uid: UID | None
    begun_at: datetime
    remote_address: str
    ahead: timedelta = timedelta()

    @property
    def admission(self) -> Admission:
        return Admission(self.gateway_id, self.calling_ae_title, self.receiving_facility_id)

    def began(self, now: datetime) -> datetime:
        """Return when the transfer began at the latest, as far as deletions are concerned; `now` is this
        process's.

        A clock was set back since a transfer that begins later than now: nobody can tell its age.
        """
        now += self.ahead
        return self.begun_at if self.begun_at <= now else now - MAX_TRANSFER_AGE


class StoreStatus(StrEnum):
    """What a C-STORE is answered."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    REPAIRED = "repaired"
    """The bytes of a stored instance were missing or damaged, and are whole again."""
    OUT_OF_RESOURCES = "out of resources"
    DATA_SET_MISMATCH = Fault.DATA_SET_MISMATCH.value
    MALFORMED = Fault.MALFORMED.value
    TRUNCATED = Fault.TRUNCATED.value
    UNINDEXABLE = Fault.UNINDEXABLE.value
    EXCESSIVE = Fault.EXCESSIVE.value
    CONFLICT = "conflict"
    OTHER_STUDY = "other study"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Answer:
    """A row of the table of C-STORE responses.

    Attributes:
        status: (0000,0900) Status.
        comment: (0000,0902) Error Comment, at most 64 characters (VR LO).
        recorded: whether the refusal is listed and audited; shortages of ours are alerts instead.
    """

    status: int
    comment: str = ""
    recorded: bool = True


ANSWERS: Mapping[StoreStatus, Answer] = {
    # PS3.7 C.1.1: success.
    StoreStatus.STORED: Answer(0x0000, recorded=False),
    StoreStatus.DUPLICATE: Answer(0x0000, recorded=False),
    StoreStatus.REPAIRED: Answer(0x0000, recorded=False),
    # PS3.4 table B.2-1: refused, out of resources (A7xx). The only family worth sending again unchanged.
    StoreStatus.OUT_OF_RESOURCES: Answer(0xA700, "cannot be stored now: send again later", recorded=False),
    # What the gateway refuses as well, before it acknowledges.
    StoreStatus.DATA_SET_MISMATCH: Answer(*STATUS[Fault.DATA_SET_MISMATCH]),
    StoreStatus.MALFORMED: Answer(*STATUS[Fault.MALFORMED]),
    StoreStatus.TRUNCATED: Answer(*STATUS[Fault.TRUNCATED]),
    StoreStatus.UNINDEXABLE: Answer(*STATUS[Fault.UNINDEXABLE]),
    StoreStatus.EXCESSIVE: Answer(*STATUS[Fault.EXCESSIVE]),
    # PS3.4 table B.2-1: error, cannot understand (Cxxx); the last three digits are ours.
    StoreStatus.CONFLICT: Answer(0xC111, "other bytes under a stored UID: delete in the cloud first"),
    StoreStatus.OTHER_STUDY: Answer(0xC112, "not of the study of an announced transfer"),
    StoreStatus.DELETED: Answer(0xC113, "deleted in the cloud: export the study again"),
}


class Revoked(Exception):
    """The sender's gateway was revoked while it sent: nothing more is answered, and the association ends."""


class Refused(Exception):
    """An instance is answered with a failure; raised where it is found, caught where it is answered."""

    def __init__(self, status: StoreStatus) -> None:
        super().__init__(status.value)
        self.status = status


@dataclass(frozen=True, slots=True)
class Instance:
    """The identity of an instance, as command and data set agree on it."""

    sop_class_uid: UID
    sop_instance_uid: UID
    study_instance_uid: UID
    series_instance_uid: UID
    transfer_syntax_uid: UID


@dataclass(frozen=True, slots=True)
class Place:
    """Where the bytes are: an entry of a pack.

    Attributes:
        offset: of the entry's first header block.
        prefix_length: bytes of preamble, magic and file meta before the data set.
        data_set_length: bytes of the data set.
        end: offset of the entry behind it.
    """

    pack_id: PackId
    offset: int
    prefix_length: int
    data_set_length: int
    end: int

    @property
    def file_length(self) -> int:
        """Length of the Part 10 file."""
        return self.prefix_length + self.data_set_length


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """An instance of the index, with the place of its bytes.

    Attributes:
        volume_id: of the pack; none while it is being written.
    """

    instance: Instance
    sha256: bytes
    place: Place
    layout: Layout = UNKNOWN_LAYOUT
    volume_id: VolumeId | None = None


@dataclass(frozen=True, slots=True)
class Label:
    """What a pack's entry says of its file, beside the file itself.

    Attributes:
        study_id: none where nobody can say of which study it is.
        quarantined: it was refused, and its bytes are kept.
    """

    study_id: StudyId | None
    sender: Sender
    received_at: datetime
    sha256: bytes
    quarantined: bool = False


class Verdict(StrEnum):
    """What the index made of an instance whose bytes are durable."""

    FIRST = "first"
    """New, and the first of its study."""
    NEW = "new"
    DUPLICATE = "duplicate"
    REPAIRED = "repaired"
    """A duplicate whose stored bytes are missing or damaged: these are kept in their place."""
    CONFLICT = "conflict"
    QUARANTINED = "quarantined"
    """A conflict, and its bytes are kept where they are: in the pack, which ends with them (A27)."""
    ABSENT = "absent"
    """No such study yet, and it was not to be created."""
    OTHER_STUDY_ID = "other"
    """The study is live under another StudyId than the entry says: write the entry's header anew."""
    DELETED = "deleted"
    """The study was deleted after the transfer had begun (A26)."""
    PURGED = "purged"
    """The study was purged, and the transfer is newer: what comes next has to be identified anew."""
    UNDESCRIBED = "undescribed"
    """The index knows no such part of the study: the description has to come along."""
    REVOKED = "revoked"
    """The gateway is not live any more: nothing was indexed (SEC-2)."""


@dataclass(frozen=True, slots=True)
class MappingValue:
    """A distinct value of a mapping tag in a series, and where in the study's order it was first seen."""

    keyword: str
    value: str
    ordinal: int


@dataclass(frozen=True, slots=True)
class Series:
    """A series of a received study."""

    series_instance_uid: UID
    attributes: Mapping[str, str]
    instance_count: int
    mapping_values: tuple[MappingValue, ...]


@dataclass(frozen=True, slots=True)
class Study:
    """What one facility's gateway sent under one Study Instance UID."""

    study_id: StudyId
    version: int
    study_instance_uid: UID
    receiving_facility_id: FacilityId
    gateway_id: GatewayId
    calling_ae_title: AETitle
    received_at: datetime
    settled: bool
    attributes: Mapping[str, str]
    series: tuple[Series, ...]


PartName = tuple[StudyId, int]
"""A part of a study by its number; 0: the study as a whole."""


@dataclass(frozen=True, slots=True)
class Sight:
    """How somebody sees a case."""

    facility_id: FacilityId
    by_privilege: bool


@dataclass(frozen=True, slots=True)
class Filed:
    """Where an instance is filed."""

    study_id: StudyId
    series_instance_uid: str
    part: int


@dataclass(frozen=True, slots=True)
class Named:
    """What of a case is asked for: all of it, or a study, a series, an instance by its UID."""

    study_instance_uid: str | None = None
    series_instance_uid: str | None = None
    sop_instance_uid: str | None = None


EVERYTHING = Named()


@dataclass(frozen=True, slots=True)
class Seen:
    """An instance that somebody may see.

    Attributes:
        members: instances that it stands for: itself, or those of its series that are filed with it.
    """

    filed: Filed
    stored: StoredInstance
    members: int = 1


@dataclass(frozen=True, slots=True)
class ConfirmedStudy:
    """A study of a case with what of it belongs to the case.

    Attributes:
        parts: numbers of the parts that belong; none: `series` says what belongs.
        series: the series that belong, as the version before says it; none: all.
    """

    study_id: StudyId
    series: frozenset[str] | None = None
    parts: frozenset[int] | None = None

    def has(self, filed: Filed) -> bool:
        """Whether what is filed there belongs to the case."""
        if filed.study_id != self.study_id:
            return False
        if self.parts is not None:
            return filed.part in self.parts
        return self.series is None or filed.series_instance_uid in self.series


def still_served(served: Iterable[Filed], now: Collection[ConfirmedStudy]) -> bool:
    """Whether all that is being served still belongs to the case."""
    return all(any(study.has(filed) for study in now) for filed in served)


@dataclass(frozen=True, slots=True)
class Limits:
    """What ingest holds itself to; settings, with defaults that suit most sites.

    Attributes:
        settle_after: quiet after the last release before a study is called settled (A55), where the facility
            has no length of its own.
        quarantine_instances: refused instances kept per gateway (A27).
        quarantine_bytes: bytes of them kept per gateway.
        refusals_kept: rows of the list of refusals for each kind; the oldest go first.
        refusals_kept_for: their age.
        associations_per_minute: of one gateway (SEC-3).
        transfers_per_minute: announced by one gateway; it forwards some 150 small studies a second at most.
        transfers_kept: of one gateway, the newest; a hospital makes as many in months.
        refusals_per_minute: listed of one certificate, or address without one, for each cause; beyond it
            they are only counted.
    """

    settle_after: timedelta = timedelta(seconds=5)
    quarantine_instances: int = 1_000
    quarantine_bytes: int = 4 * 2**30
    refusals_kept: int = 100_000
    refusals_kept_for: timedelta = timedelta(days=90)
    associations_per_minute: int = 600
    transfers_per_minute: int = 12_000
    transfers_kept: int = 100_000
    refusals_per_minute: int = 30
