"""Values of ingest's domain, with everything a test does not care about filled in."""

import hashlib
import itertools
from datetime import UTC, datetime
from uuid import UUID, uuid4

from kernel.dicom import UID, AETitle
from kernel.ids import FacilityId, GatewayId, PackId, StudyId, TransferId
from services.ingest.domain import Instance, Label, Place, Sender, StoredInstance
from services.ingest.gateway import AETitleBinding, Gateway
from services.ingest.parts import Description

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
FACILITY = FacilityId(UUID("01900000-0000-7000-8000-00000000fac1"))
NOTHING = Description({}, {}, {})
_numbers = itertools.count(1)


def a_uid() -> UID:
    return UID(f"1.2.840.99999.{next(_numbers)}")


def a_gateway(*titles: str, facility_id: FacilityId = FACILITY) -> Gateway:
    gateway_id = GatewayId(uuid4())
    return Gateway(
        gateway_id,
        f"Gateway {gateway_id}",
        tuple(AETitleBinding(AETitle(title), facility_id) for title in titles or ("RIVERSIDE",)),
        hashlib.sha256(gateway_id.bytes).hexdigest(),
        NOW,
    )


def a_sender(gateway: Gateway, *, begun_at: datetime = NOW) -> Sender:
    binding = gateway.bindings[0]
    return Sender(
        gateway.gateway_id,
        gateway.certificate_sha256,
        binding.ae_title,
        binding.facility_id,
        TransferId(uuid4()),
        None,
        begun_at,
        "127.0.0.1:50000",
    )


def an_instance(*, study: UID | None = None, series: UID | None = None, uid: UID | None = None) -> Instance:
    return Instance(
        UID("1.2.840.10008.5.1.4.1.1.2"),
        uid or a_uid(),
        study or a_uid(),
        series or a_uid(),
        UID("1.2.840.10008.1.2.1"),
    )


def stored(instance: Instance, *, data: bytes = b"data", pack_id: PackId, offset: int = 0) -> StoredInstance:
    place = Place(pack_id, offset, 350, len(data), offset + 4096)
    return StoredInstance(instance, hashlib.sha256(data).digest(), place)


def a_label(data: bytes, sender: Sender | None = None) -> Label:
    return Label(StudyId(uuid4()), sender or a_sender(a_gateway()), NOW, hashlib.sha256(data).digest())
