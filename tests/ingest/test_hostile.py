"""What is refused, and that nothing of it stays."""

import asyncio
import socket
import ssl
import struct
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE

from kernel.errors import Conflict, Denied, Invalid, NotFound
from local.pki import Pki
from plumbing.authority import CertificateAuthority
from plumbing.tls import TLSFiles
from services.ingest.domain import ANSWERS, StoreStatus
from tests.ingest.objects import CT, a_ct
from tests.ingest.system import (
    ADMIN,
    HARBOUR,
    RIVERSIDE,
    DicomObject,
    EnrolledGateway,
    Ingest,
    Sender,
    client_context,
    sent_objects,
    sha256,
    signing_request,
    store_object,
)
from tests.wait import eventually
from wire.ingest.v1 import ingest_pb2 as pb

CALLING_AE_TITLE_NOT_RECOGNIZED = (1, 1, 3)


def identity(authority: CertificateAuthority, folder: Path, name: str, ca: Path) -> TLSFiles:
    """A certificate that ingest never enrolled."""
    certificate, key = authority.issue(f"spiffe://readroom/gateway/{name}", [], datetime.now(UTC))
    files = TLSFiles(folder / f"{name}.pem", folder / f"{name}.key", ca)
    files.certificate.write_bytes(certificate)
    files.key.write_bytes(key)
    return files


async def rejection(sender: Sender) -> list[tuple[int, int, int]]:
    def associate() -> None:
        with sender.association([(CT, ExplicitVRLittleEndian)]) as association:
            assert not association.is_established

    await asyncio.to_thread(associate)
    return sender.rejections


async def refusals(ingest: Ingest) -> list[tuple[str, str]]:
    rows = await ingest.rows("select kind, reason from refusals order by refusal_id")
    return [(row["kind"], row["reason"]) for row in rows]


async def nothing_is_stored(ingest: Ingest) -> None:
    assert await ingest.stored() == {}
    await eventually(lambda: ingest.pack_files() == [])


# Who may associate


@pytest.mark.proves("SEC-2", part="certificate, calling AE title and facility belong together")
async def test_a_foreign_ae_title_is_rejected_listed_and_audited(ingest: Ingest) -> None:
    first, second = await ingest.enrol("FIRST"), await ingest.enrol("SECOND", HARBOUR)
    assert await rejection(Sender.of(ingest, first, title="SECOND")) == [CALLING_AE_TITLE_NOT_RECOGNIZED]
    (row,) = await eventually(lambda: ingest.rows("select * from refusals"))
    assert (row["kind"], row["calling_ae_title"]) == ("association", "SECOND")
    assert row["reason"] == "the calling AE title is not one of the gateway's"
    assert str(row["gateway_id"]) == first.gateway_id
    assert row["certificate_sha256"]
    (audited,) = await ingest.rows("select * from audit_rows where action = 'association.refused'")
    assert (audited["actor"], audited["outcome"]) == (f"gateway:{first.gateway_id}", "refused")
    listed = await ingest.acting(ADMIN).ListRefusals(pb.ListRefusalsRequest())
    assert [(r.kind, r.gateway_id) for r in listed.refusals] == [
        (pb.Refusal.KIND_ASSOCIATION, first.gateway_id)
    ]
    assert second.gateway_id != first.gateway_id
    await nothing_is_stored(ingest)


@pytest.mark.proves("SEC-2", part="a trusted certificate that was never enrolled")
async def test_a_certificate_that_was_never_enrolled_is_rejected(ingest: Ingest, pki: Pki) -> None:
    await ingest.enrol("RIVERSIDE")
    unknown = identity(pki.authority("gateway"), ingest.folder, "unknown", pki.gateway_ca)
    sender = Sender(ingest.ports["dicom"], "RIVERSIDE", unknown)
    assert await rejection(sender) == [CALLING_AE_TITLE_NOT_RECOGNIZED]
    await eventually(lambda: refusals(ingest))
    assert await refusals(ingest) == [("association", "the certificate belongs to no gateway")]


@pytest.mark.proves("GWY-1", part="a stranger's certificate, plain text")
async def test_strangers_and_plain_text_do_not_get_as_far_as_an_association(ingest: Ingest) -> None:
    """A22: an untrusted certificate ends in a TLS alert."""
    await ingest.enrol("RIVERSIDE")
    ca = CertificateAuthority.create("stranger", datetime.now(UTC))
    stranger = identity(ca, ingest.folder, "stranger", ingest.pki.gateway_ca)

    def knock() -> bool:
        """Whether the handshake ends in an alert; in TLS 1.3 the client learns of it when it reads."""
        with socket.create_connection(("127.0.0.1", ingest.ports["dicom"])) as plain:
            try:
                secured = client_context(stranger).wrap_socket(plain, server_hostname="localhost")
                return secured.recv(1) == b""
            except (ssl.SSLError, ConnectionError):
                return True

    assert await asyncio.to_thread(knock)
    plain = Sender(ingest.ports["dicom"], "RIVERSIDE", None)
    assert await rejection(plain) == []
    said = await eventually(lambda: two_refusals(ingest))
    assert {kind for kind, _ in said} == {"handshake"}
    assert any("plain text" in reason for _, reason in said)
    audited = await ingest.rows("select outcome from audit_rows where action = 'handshake.refused'")
    assert [row["outcome"] for row in audited] == ["refused"] * 2


async def two_refusals(ingest: Ingest) -> list[tuple[str, str]]:
    found = await refusals(ingest)
    return found if len(found) >= 2 else []


@pytest.mark.proves("SEC-2", part="a revoked gateway's open associations end within 5 s")
async def test_a_revoked_gateways_open_associations_are_aborted_and_it_comes_back_no_more(
    ingest: Ingest,
) -> None:
    gateway, other = await ingest.enrol("REVOKED"), await ingest.enrol("LIVE")
    stored, late = a_ct(), a_ct()
    revoked_at = 0.0
    loop = asyncio.get_running_loop()
    acting = ingest.acting(ADMIN)

    async def end_it() -> None:
        await acting.RevokeGateway(pb.RevokeGatewayRequest(gateway_id=gateway.gateway_id))

    def revoke() -> None:
        nonlocal revoked_at
        asyncio.run_coroutine_threadsafe(end_it(), loop).result(5)
        revoked_at = time.monotonic()

    def send() -> float:
        contexts = [(CT, ExplicitVRLittleEndian)]
        with (
            Sender.of(ingest, other).association(contexts) as unconcerned,
            Sender.of(ingest, gateway).association(contexts) as association,
        ):
            assert store_object(association, stored).status == 0
            revoke()
            while association.is_established and time.monotonic() < revoked_at + 6:
                time.sleep(0.01)
            ended_after = time.monotonic() - revoked_at
            assert store_object(unconcerned, a_ct()).status == 0
            return ended_after

    assert await asyncio.to_thread(send) < 5
    assert await rejection(Sender.of(ingest, gateway)) == [CALLING_AE_TITLE_NOT_RECOGNIZED]
    await eventually(lambda: refusals(ingest))
    assert await refusals(ingest) == [("association", "the gateway is revoked")]
    assert stored.sop_instance_uid in await ingest.stored()
    assert late.sop_instance_uid not in await ingest.stored()
    with pytest.raises(Denied):
        await ingest.gateway_service(gateway).BeginTransfer(
            pb.BeginTransferRequest(
                transfer_id=str(gateway.gateway_id), study_instance_uid="1.2", calling_ae_title="REVOKED"
            )
        )
    # Its title is free, its certificate is not.
    again = await ingest.enrol("REVOKED")
    assert again.gateway_id != gateway.gateway_id


async def test_a_transfer_of_another_gateway_is_rejected(ingest: Ingest) -> None:
    first, second = await ingest.enrol("FIRST"), await ingest.enrol("SECOND")
    transfer_id = "01900000-0000-7000-8000-000000000001"
    await ingest.gateway_service(first).BeginTransfer(
        pb.BeginTransferRequest(transfer_id=transfer_id, study_instance_uid="1.2.3", calling_ae_title="FIRST")
    )
    for named in (transfer_id, "01900000-0000-7000-8000-00000000dead", "../../etc"):
        assert await rejection(Sender.of(ingest, second, transfer_id=named)) == [(1, 1, 1)]
    with pytest.raises(Conflict):
        await ingest.gateway_service(second).BeginTransfer(
            pb.BeginTransferRequest(
                transfer_id=transfer_id, study_instance_uid="1.2.3", calling_ae_title="SECOND"
            )
        )


@pytest.mark.proves("SEC-3", part="silent sockets")
async def test_twenty_silent_sockets_delay_nobody(ingest: Ingest) -> None:
    gateway = await ingest.enrol()
    silent = [socket.create_connection(("127.0.0.1", ingest.ports["dicom"])) for _ in range(20)]
    try:
        began = time.monotonic()

        def associate() -> float:
            with Sender.of(ingest, gateway).association([(CT, ExplicitVRLittleEndian)]) as association:
                assert association.is_established
                return time.monotonic() - began

        assert await asyncio.to_thread(associate) < 1
    finally:
        for each in silent:
            each.close()


@pytest.mark.proves("SEC-3", part="association rate of a gateway")
async def test_a_gateway_that_comes_too_often_is_told_to_come_later(ingest: Ingest) -> None:
    ingest.environ["READROOM_INGEST_ASSOCIATIONS_PER_MINUTE"] = "3"
    await ingest.stop()
    await ingest.start()
    gateway = await ingest.enrol()
    sender = Sender.of(ingest, gateway)

    def knock() -> list[bool]:
        came = []
        for _ in range(8):  # more than two windows' worth, should the minute turn
            with sender.association([(CT, ExplicitVRLittleEndian)]) as association:
                came.append(association.is_established)
        return came

    came = await asyncio.to_thread(knock)
    assert came[:3] == [True] * 3
    assert False in came
    assert set(sender.rejections) == {(2, 3, 2)}


async def test_a_scanner_does_not_fill_the_list_of_refusals(ingest: Ingest) -> None:
    ingest.environ["READROOM_INGEST_REFUSALS_PER_MINUTE"] = "5"
    ingest.environ["READROOM_INGEST_CACHE_URL"] = f"{ingest.servers.cache_url}/1"  # not where others count
    await ingest.stop()
    await ingest.start()

    def knock(_: int) -> None:
        with socket.create_connection(("127.0.0.1", ingest.ports["dicom"])) as knocking:
            knocking.sendall(b"GET / HTTP/1.0\r\n\r\n")
            knocking.settimeout(5)
            with suppress(ConnectionError):
                knocking.recv(1)

    with ThreadPoolExecutor(10) as knockers:  # each is left waiting for a while
        await asyncio.to_thread(list, knockers.map(knock, range(20)))
    # Half of it at most, should the minute turn and the cache be slow at once.
    assert 5 <= len(await refusals(ingest)) <= 10


# What is no instance

ELEMENT_TOO_LONG = struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, 0x7FFF_FFFE) + bytes(100)
OPEN_SEQUENCE = struct.pack("<HH2sHL", 0x0040, 0x0275, b"SQ", 0, 0xFFFF_FFFF)


def spoilt(change: Callable[[bytes], bytes]) -> DicomObject:
    whole = a_ct()
    return DicomObject(change(whole.data), whole.sop_class_uid, whole.sop_instance_uid)


def deflate(data: bytes) -> bytes:
    packed = zlib.compressobj(wbits=-15)
    return packed.compress(data) + packed.flush()


def deflated(change: Callable[[bytes], bytes]) -> DicomObject:
    whole = a_ct()
    return DicomObject(
        change(deflate(whole.data)),
        whole.sop_class_uid,
        whole.sop_instance_uid,
        DeflatedExplicitVRLittleEndian,
    )


HOSTILE: dict[str, tuple[StoreStatus, Callable[[], DicomObject]]] = {
    "cut in the pixels": (StoreStatus.TRUNCATED, lambda: spoilt(lambda data: data[:-10])),
    "cut in a header": (StoreStatus.TRUNCATED, lambda: spoilt(lambda data: data[:-1005])),
    "an absurd length": (StoreStatus.TRUNCATED, lambda: spoilt(lambda data: data + ELEMENT_TOO_LONG)),
    "an open sequence": (StoreStatus.TRUNCATED, lambda: spoilt(lambda data: data + OPEN_SEQUENCE)),
    "noise": (StoreStatus.TRUNCATED, lambda: spoilt(lambda data: bytes(range(256)) * 16)),
    "a deflated one cut": (StoreStatus.TRUNCATED, lambda: deflated(lambda data: data[:-20])),
    "a deflated one spoilt": (StoreStatus.MALFORMED, lambda: deflated(lambda data: b"\xff" * 500)),
    "a deflated one of 8 million elements": (
        StoreStatus.EXCESSIVE,
        lambda: deflated(lambda _: deflate(struct.pack("<HH2sH", 0x0009, 0x0010, b"LO", 0) * (8 << 20))),
    ),
    "the wrong transfer syntax": (
        StoreStatus.TRUNCATED,
        lambda: DicomObject(*vars_of(a_ct()), ImplicitVRLittleEndian),
    ),
    "another SOP class than the command": (
        StoreStatus.DATA_SET_MISMATCH,
        lambda: a_ct(more={0x0008_0016: ("UI", "1.2.840.10008.5.1.4.1.1.4")}),
    ),
    "another instance than the command": (
        StoreStatus.DATA_SET_MISMATCH,
        lambda: a_ct(more={0x0008_0018: ("UI", "1.2.3.4")}),
    ),
    "no study": (StoreStatus.UNINDEXABLE, lambda: a_ct(more={0x0020_000D: ("UI", "")})),
    "a study that is a path": (
        StoreStatus.UNINDEXABLE,
        lambda: a_ct(more={0x0020_000D: ("UI", "../../../etc/passwd")}),
    ),
    "a series that is a path": (
        StoreStatus.UNINDEXABLE,
        lambda: a_ct(more={0x0020_000E: ("UI", "/etc/passwd")}),
    ),
    "a study with a control character": (
        StoreStatus.UNINDEXABLE,
        lambda: a_ct(more={0x0020_000D: ("UI", "1.2\n3")}),
    ),
}


def vars_of(sending: DicomObject) -> tuple[bytes, str, str]:
    return sending.data, sending.sop_class_uid, sending.sop_instance_uid


@pytest.mark.proves("SEC-4", part="UIDs before any use")
async def test_what_is_no_instance_is_refused_and_kept_apart_and_the_association_lives_on(
    ingest: Ingest,
) -> None:
    gateway = await ingest.enrol()
    names, expected, hostile = zip(
        *((name, status, make()) for name, (status, make) in HOSTILE.items()), strict=True
    )
    good = [a_ct() for _ in hostile]
    mixed = [each for pair in zip(hostile, good, strict=True) for each in pair]
    answers = await sent_objects(Sender.of(ingest, gateway), *mixed)
    got = dict(zip(names, [(a.status, a.comment) for a in answers[::2]], strict=True))
    assert got == {
        name: (ANSWERS[status].status, ANSWERS[status].comment)
        for name, status in zip(names, expected, strict=True)
    }
    assert {a.status for a in answers[1::2]} == {0}
    assert await ingest.stored() == {each.sop_instance_uid: sha256(each.data) for each in good}
    assert await ingest.one("select count(*) from refusals where kind = 'instance'") == len(hostile)
    assert await ingest.one("select count(*) from studies") == len(good)
    kept = await ingest.quarantine()
    assert kept.keys() == {sha256(each.data) for each in hostile}
    await eventually(lambda: len(ingest.pack_files()) == len(good) + len(kept))


async def test_a_uid_with_slashes_in_the_command_is_refused(ingest: Ingest) -> None:
    """pynetdicom refuses to send one, so the command set is written by hand."""
    gateway = await ingest.enrol()
    uid = "1.2/../../3"
    whole = a_ct(more={0x0008_0018: ("UI", uid)})

    def send() -> tuple[int, int]:
        with Sender.of(ingest, gateway).association([(CT, ExplicitVRLittleEndian)]) as association:
            status = store_by_hand(association, whole.data, uid)
            return status, store_object(association, a_ct()).status or 0

    assert await asyncio.to_thread(send) == (0x0117, 0)
    assert len(await ingest.stored()) == 1


def store_by_hand(association: Any, data: bytes, uid: str) -> int:
    request = C_STORE()
    request.MessageID = 3
    request.AffectedSOPClassUID = CT
    request.AffectedSOPInstanceUID = "1.2.3"
    request.Priority = 2
    request.DataSet = BytesIO(data)
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    message.command_set.AffectedSOPInstanceUID = uid
    length = sum(_encoded_length(e) for e in message.command_set if e.tag.element)
    message.command_set.CommandGroupLength = length
    association._reactor_checkpoint.clear()
    for pdv in message.encode_msg(association.accepted_contexts[0].context_id, 16382):
        association.dul.send_pdu(pdv)
    _, response = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    return int(response.Status)


def _encoded_length(told: Any) -> int:
    value = told.value
    if isinstance(value, str):
        return 8 + len(value) + len(value) % 2
    return 10 if told.VR == "US" else 12


async def test_classes_that_are_not_stored_are_not_negotiated(ingest: Ingest) -> None:
    gateway = await ingest.enrol()

    def offer() -> list[str]:
        contexts = [(CT, ExplicitVRLittleEndian), ("1.2.840.10008.5.1.4.38.1", ExplicitVRLittleEndian)]
        with Sender.of(ingest, gateway).association(contexts) as association:
            return [str(c.abstract_syntax) for c in association.accepted_contexts]

    assert await asyncio.to_thread(offer) == [CT]


async def test_an_instance_above_the_limit_is_refused(ingest: Ingest) -> None:
    ingest.environ["READROOM_INGEST_MAX_INSTANCE_BYTES"] = "200000"
    await ingest.stop()
    await ingest.start()
    gateway = await ingest.enrol()
    answers = await sent_objects(Sender.of(ingest, gateway), a_ct(pixels=bytes(300_000)), a_ct())
    assert answers[0].status is not None
    assert answers[0].status >> 12 == 0xC
    assert answers[1].status == 0
    await eventually(lambda: len(ingest.pack_files()) == 1)
    assert len(await ingest.stored()) == 1


# Who may administer


async def enrol_as(
    ingest: Ingest, login: str, title: str, facility: object, request_pem: str | None = None, name: str = "x"
) -> pb.EnrolGatewayResponse:
    return await ingest.acting(login).EnrolGateway(
        pb.EnrolGatewayRequest(
            name=name,
            ae_titles=[pb.AETitleBinding(ae_title=title, facility_id=str(facility))],
            certificate_request_pem=request_pem or signing_request()[0].decode(),
        )
    )


async def test_enrolment_says_which_field_is_wrong(ingest: Ingest) -> None:
    await ingest.enrol("TAKEN")
    with pytest.raises(Conflict) as conflict:
        await enrol_as(ingest, ADMIN, "TAKEN", RIVERSIDE)
    assert conflict.value.field == "ae_titles.ae_title"
    assert "`TAKEN`" in conflict.value.sentence
    with pytest.raises(NotFound) as missing:
        await enrol_as(ingest, ADMIN, "NEW", "01900000-0000-7000-8000-00000000dead")
    assert missing.value.field == "ae_titles.facility_id"
    with pytest.raises(Invalid) as bad_request:
        await enrol_as(ingest, ADMIN, "NEW", RIVERSIDE, "-----BEGIN NOTHING-----")
    assert bad_request.value.field == "certificate_request_pem"
    with pytest.raises(Invalid) as bad_id:
        await enrol_as(ingest, ADMIN, "NEW", "x/../y")
    assert bad_id.value.field == "ae_titles.facility_id"
    assert await ingest.one("select count(*) from gateways") == 1


async def test_only_administrators_of_every_facility_enrol_and_revoke(ingest: Ingest) -> None:
    ingest.access.administered["half"] = {HARBOUR}
    gateway = await ingest.enrol("BOTH", RIVERSIDE, HARBOUR)
    own = await enrol_as(ingest, "half", "HARBOUR", HARBOUR)
    with pytest.raises(NotFound):  # nothing is held there: as if it were absent
        await enrol_as(ingest, "half", "NEW", RIVERSIDE)
    with pytest.raises(NotFound):
        await ingest.acting("half").RevokeGateway(pb.RevokeGatewayRequest(gateway_id=gateway.gateway_id))
    with pytest.raises(Denied):
        await ingest.acting("nobody").ListGateways(pb.ListGatewaysRequest())
    with pytest.raises(Denied):
        await ingest.acting("nobody").ListRefusals(pb.ListRefusalsRequest())
    listed = await ingest.acting("half").ListGateways(pb.ListGatewaysRequest())
    assert [g.gateway_id for g in listed.gateways] == [own.gateway.gateway_id]
    refused = await ingest.rows("select actor, action from audit_rows where outcome = 'refused' order by id")
    assert [tuple(row) for row in refused] == [("half", "gateway.enrolled"), ("half", "gateway.revoked")]


async def test_gateways_are_listed_newest_first_in_pages(ingest: Ingest) -> None:
    enrolled = [(await ingest.enrol(f"SITE{n}")).gateway_id for n in range(5)]
    seen: list[str] = []
    token = ""
    while True:
        page = await ingest.acting(ADMIN).ListGateways(pb.ListGatewaysRequest(page_size=2, page_token=token))
        seen += [g.gateway_id for g in page.gateways]
        token = page.next_page_token
        if not token:
            break
    assert seen == enrolled[::-1]
    for bad in (pb.ListGatewaysRequest(page_token="x"), pb.ListGatewaysRequest(page_size=501)):
        with pytest.raises(Invalid):
            await ingest.acting(ADMIN).ListGateways(bad)


async def test_the_certificate_names_the_gateway_and_nothing_else(ingest: Ingest) -> None:
    gateway = await ingest.enrol()
    certificate = x509.load_pem_x509_certificate(gateway.tls.certificate.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [
        f"spiffe://readroom/gateway/{gateway.gateway_id}"
    ]
    assert names.get_values_for_type(x509.DNSName) == []
    assert await ingest.one("select subject from outbox") == "gateway.changed.v1"


async def test_only_gateways_call_the_gateway_listener(ingest: Ingest) -> None:
    gateway = await ingest.enrol()
    request = pb.BeginTransferRequest(
        transfer_id=gateway.gateway_id, study_instance_uid="1.2", calling_ae_title="RIVERSIDE"
    )
    listener_of_ingest = EnrolledGateway("", "RIVERSIDE", ingest.pki.gateway_tls("ingest"))
    with pytest.raises(Denied):
        await ingest.gateway_service(listener_of_ingest).BeginTransfer(request)
    for field, bad in {
        "transfer_id": {"transfer_id": "x"},
        "study_instance_uid": {"study_instance_uid": "1/2"},
        "calling_ae_title": {"calling_ae_title": "\\"},
    }.items():
        spoilt_request = pb.BeginTransferRequest()
        spoilt_request.CopyFrom(request)
        for key, value in bad.items():
            setattr(spoilt_request, key, value)
        with pytest.raises(Invalid) as raised:
            await ingest.gateway_service(gateway).BeginTransfer(spoilt_request)
        assert raised.value.field == field
    foreign = pb.BeginTransferRequest()
    foreign.CopyFrom(request)
    foreign.calling_ae_title = "OTHER"
    with pytest.raises(Denied):
        await ingest.gateway_service(gateway).BeginTransfer(foreign)


async def test_the_log_and_the_facts_hold_nothing_of_the_patient(
    ingest: Ingest, capfd: pytest.CaptureFixture[str]
) -> None:
    gateway = await ingest.enrol()
    secret = {0x0010_0010: ("PN", "Zyxwvut^Qwerty"), 0x0010_0020: ("LO", "PATIENT4711")}
    stored = a_ct(more=dict(secret))
    truncated = a_ct(more=dict(secret))
    truncated = DicomObject(truncated.data[:-3], truncated.sop_class_uid, truncated.sop_instance_uid)
    await sent_objects(Sender.of(ingest, gateway), stored, truncated)
    await eventually(lambda: ingest.rows("select from studies where settled_at is not null"))
    said = "".join(capfd.readouterr())
    for table in ("outbox", "audit_rows", "refusals"):
        said += str([tuple(row) for row in await ingest.rows(f"select * from {table}")])
    for word in ("Zyxwvut", "Qwerty", "PATIENT4711"):
        assert word not in said
