"""Every edge of the running system, tried from outside: encryption, identity, paths."""

import asyncio
import re
import signal
import socket
import ssl
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import asyncpg
import pytest
from pydicom import dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association

from demo import strangers
from demo.cast import ADMIN, CENTRAL, MODALITY, NORTHGATE, STANDARD
from demo.dicom_files import SyntheticCT, dataset_bytes
from demo.gateways import RunningGateway
from demo.modality import PynetdicomModality
from demo.world import World
from plumbing.dimse.requestor import Requestor
from plumbing.tls import TLSFiles, client_context
from readroom.enrol import HospitalSide, enrol_gateway
from tests.plumbing.test_tls import NOT_SPOKEN, SPOKEN
from tests.wait import eventually
from wire.ingest.v1.ingest_pb2 import ListRefusalsRequest, Refusal, RevokeGatewayRequest

WITHIN_S = 5.0


def listeners(world: World) -> dict[str, tuple[str, TLSFiles]]:
    """Every listener of the system that speaks TLS, and an identity that it lets in."""
    endpoints = world.endpoints
    caller = TLSFiles(endpoints.caller_certificate, endpoints.caller_key, endpoints.service_ca)
    gateway = world.gateways[CENTRAL.name]
    return {
        **{f"gRPC of {name}": (address, caller) for name, address in endpoints.services.items()},
        "gRPC for gateways": (endpoints.gateways, gateway.identity),
        "DICOM of ingest": (endpoints.dicom, gateway.identity),
        "DICOM of a gateway": (f"{gateway.called.host}:{gateway.called.port}", gateway.identity),
    }


def handshake(address: str, identity: TLSFiles, version: ssl.TLSVersion, suites: str) -> str | None:
    """The version agreed upon with a client that speaks this version and these suites only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.set_ciphers(suites)
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(identity.certificate, identity.key)
    context.load_verify_locations(identity.ca)
    with (
        socket.create_connection(_host_and_port(address), WITHIN_S) as plain,
        context.wrap_socket(plain) as secured,
    ):
        return secured.version()


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


@pytest.mark.proves("SEC-1")
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_every_listener_speaks_authenticated_encryption_of_tls_1_2_and_1_3_only(world: World) -> None:
    for name, (address, identity) in listeners(world).items():
        for version, suites in (spoken.values for spoken in SPOKEN):
            assert await asyncio.to_thread(handshake, address, identity, version, suites), name  # type: ignore[arg-type]
        for version, suites in (refused.values for refused in NOT_SPOKEN):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await asyncio.to_thread(handshake, address, identity, version, suites)  # type: ignore[arg-type]


def answer_to_plain_text(address: str, said: bytes) -> bytes:
    """What a listener answers to somebody who does not encrypt, until it hangs up."""
    with socket.create_connection(_host_and_port(address), WITHIN_S) as plain:
        plain.sendall(said)
        answered = b""
        try:
            while chunk := plain.recv(4096):
                answered += chunk
        except ConnectionError:
            pass
        return answered


HTTP_2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)
ASSOCIATE_RQ = b"\x01\x00\x00\x00\x00\x44" + bytes(68)
TLS_HANDSHAKE, TLS_ALERT = 0x16, 0x15


@contextmanager
def listening() -> Iterator[tuple[str, list[bytes]]]:
    """Somebody who takes what a gateway sends first, and answers nothing."""
    heard: list[bytes] = []
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def listen() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    heard.append(connection.recv(4096))

        task = asyncio.get_running_loop().run_in_executor(None, listen)
        yield f"127.0.0.1:{server.getsockname()[1]}", heard
        server.shutdown(socket.SHUT_RDWR)
    assert task


@pytest.mark.proves("GWY-3")
async def test_nothing_goes_to_or_from_a_gateway_in_plain_text(world: World, tmp_path: Path) -> None:
    """Images and commands: to Central's two listeners, to the gateway's own, and what a gateway sends."""
    for name, (address, _) in listeners(world).items():
        for said in (HTTP_2, ASSOCIATE_RQ):
            answered = await asyncio.to_thread(answer_to_plain_text, address, said)
            assert not answered or answered[0] == TLS_ALERT, name

    with listening() as (commands, commands_heard), listening() as (images, images_heard):
        enrolled = await enrol(world, "LISTENED", tmp_path / "gateway")
        file = enrolled.folder / "gateway.toml"
        file.write_text(
            file.read_text()
            .replace(world.endpoints.gateways, commands)
            .replace(world.endpoints.dicom, images)
        )
        start = RunningGateway.start
        gateway = await asyncio.to_thread(
            start, world.system, "listened", "LISTENED", enrolled.folder, enrolled.port
        )
        try:
            paths = SyntheticCT(slices=1, size=32, name="listened").write(tmp_path / "study")
            await asyncio.to_thread(PynetdicomModality(MODALITY).send, paths, gateway.called, lambda: None)
            await eventually(lambda: commands_heard, within=20.0)
        finally:
            await asyncio.to_thread(gateway.process.end, signal.SIGTERM, WITHIN_S)
            world.system.servers.processes.forget(gateway.process)
    assert {TLS_HANDSHAKE} == {heard[0] for heard in commands_heard + images_heard}


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A gateway of this test: its folder, identity and id; it runs only if somebody starts it."""

    folder: Path
    port: int
    gateway_id: str
    identity: TLSFiles


async def enrol(world: World, ae_title: str, folder: Path) -> Enrolled:
    port = world.system.servers.kept.port(f"gateway_{ae_title.lower()}")
    hospital = HospitalSide(f"127.0.0.1:{port}", modalities=[(MODALITY, "127.0.0.1")])
    titles = [(ae_title, world.facility_ids[STANDARD])]
    gateway = await enrol_gateway(await world.acting_as(ADMIN), ae_title, titles, folder, hospital)
    identity = TLSFiles(folder / "gateway.pem", folder / "gateway.key", folder / "ca.pem")
    return Enrolled(folder, port, gateway.gateway_id, identity)


def associate(world: World, identity: TLSFiles, ae_title: str) -> Association:
    """Straight to ingest, with this certificate under this AE title."""
    ae = AE(ae_title)
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    host, port = _host_and_port(world.endpoints.dicom)
    return ae.associate(host, port, ae_title="READROOM", tls_args=(client_context(identity), "localhost"))


async def refusals(world: World) -> list[Refusal]:
    admin = await world.acting_as(ADMIN)
    return list((await admin.ingest.ListRefusals(ListRefusalsRequest(page_size=500))).refusals)


@pytest.mark.proves("SEC-2")
async def test_certificate_title_and_facility_belong_together_until_the_gateway_is_revoked(
    world: World, tmp_path: Path
) -> None:
    gateway = await enrol(world, "REVOKED", tmp_path / "gateway")
    stranger = strangers.strangers_identity(tmp_path / "stranger", world.endpoints.gateway_ca)

    assert await asyncio.to_thread(strangers.tls_alert, world.endpoints.dicom, stranger)
    foreign = await asyncio.to_thread(
        strangers.rejection, world.endpoints.dicom, gateway.identity, NORTHGATE.ae_title
    )
    assert "1,1,3" == foreign

    async def listed() -> bool:
        return any(
            (r.kind, r.gateway_id, r.calling_ae_title)
            == (Refusal.KIND_ASSOCIATION, gateway.gateway_id, NORTHGATE.ae_title)
            for r in await refusals(world)
        )

    await eventually(listed)
    assert await audited(world, "association.refused", f"gateway:{gateway.gateway_id}")

    association = await asyncio.to_thread(associate, world, gateway.identity, "REVOKED")
    assert association.is_established
    admin = await world.acting_as(ADMIN)
    await admin.ingest.RevokeGateway(RevokeGatewayRequest(gateway_id=gateway.gateway_id))
    await eventually(lambda: not association.is_established, within=WITHIN_S)

    again = await asyncio.to_thread(strangers.rejection, world.endpoints.dicom, gateway.identity, "REVOKED")
    assert "1,1,3" == again


async def audited(world: World, action: str, actor: str) -> int:
    connection = await asyncpg.connect(world.system.servers.database_url("ingest"))
    try:
        statement = "select count(*) from audit_rows where action = $1 and actor = $2"
        return int(await connection.fetchval(statement, action, actor))
    finally:
        await connection.close()


@pytest.mark.proves("SEC-4")
@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
async def test_no_text_from_outside_becomes_a_path(world: World, tmp_path: Path, keyword: str) -> None:
    """A UID that would climb out is refused, and every file has a name of ours.

    A gateway has no use for Series Instance UIDs: it forwards the object, and Central refuses it for good.
    """
    gateway = world.gateways[CENTRAL.name]
    path = SyntheticCT(slices=1, size=32, name=f"slash {keyword}").write(tmp_path / "study")[0]
    uid = str(dcmread(path)[keyword].value)
    hostile = ("../" * 22)[: len(uid)]
    data_set = dataset_bytes(path).replace(uid.encode(), hostile.encode())
    told = hostile if keyword == "SOPInstanceUID" else str(dcmread(path).SOPInstanceUID)
    at_the_gateway = f"{gateway.called.host}:{gateway.called.port}"
    for address in {world.endpoints.dicom, *([at_the_gateway] if keyword != "SeriesInstanceUID" else [])}:
        title = CENTRAL.ae_title if address == world.endpoints.dicom else MODALITY
        status = await asyncio.to_thread(store, address, gateway, title, told, data_set)
        assert status, "0x0000 would say that it is stored"
        assert status >> 12 != 0xB, "a warning would say so, too (PS3.7 annex C)"

    names = [path.name for path in world.system.data_dir.rglob("*") if path.is_file()]
    assert [] == [name for name in names if ".." in name or uid in name]
    packs = [path for path in (world.system.data_dir / "packs").rglob("*") if path.is_file()]
    assert all(re.fullmatch(r"[0-9a-f-]{36}\.tar|volume", path.name) for path in packs), packs
    for pack in (path for path in packs if path.suffix == ".tar"):
        with tarfile.open(pack) as tar:
            assert all(re.fullmatch(r"[0-9a-f]{64}\.dcm", member.name) for member in tar)
    objects = world.folder.glob("gateways/*/spool/objects/**/*")
    assert all(re.fullmatch(r"[0-9a-f]+(\.\w+)?", path.name) for path in objects)


def store(address: str, gateway: RunningGateway, title: str, sop_instance_uid: str, data_set: bytes) -> int:
    """The status of one C-STORE with this UID in its command."""
    context = client_context(gateway.identity)
    context.check_hostname = False  # a gateway's certificate names the gateway, not its host
    association = Requestor.associate(
        address,
        context=context,
        server_name="localhost",
        calling_ae_title=title,
        called_ae_title="READROOM" if title == CENTRAL.ae_title else CENTRAL.ae_title,
        proposed=[(CTImageStorage, ExplicitVRLittleEndian)],
    )
    try:
        sent = BytesIO(data_set)
        return association.store(CTImageStorage, sop_instance_uid, ExplicitVRLittleEndian, sent)[0]
    finally:
        association.release()
