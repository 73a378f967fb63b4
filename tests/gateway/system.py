"""A gateway as a site runs it, a process of its own, and a Central server that keeps a ledger."""

import asyncio
import hashlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from uuid import uuid4

import gateway.__main__
from kernel.dicom import AETitle
from kernel.errors import Denied
from local.pki import Pki
from plumbing import rpc
from plumbing.authority import CertificateAuthority
from plumbing.callers import GATEWAY_URI
from plumbing.dimse import (
    Acceptor,
    AssociationRequest,
    Refused,
    RefusedConnection,
    RefusedInstance,
    StoreCommand,
)
from plumbing.files import write_private
from plumbing.tls import TLSFiles, server_contexts
from tests.forks import fork
from tests.ingest.system import DicomObject, Sender
from tests.ports import free_port
from wire.ingest.v1 import ingest_pb2, ingest_pb2_grpc

ROOT = Path(__file__).parents[2]
TITLE = AETitle("RIVERSIDE")
MODALITY = "CT1"


@dataclass(frozen=True)
class Entry:
    """One line of Central's ledger: an instance that came, and what was answered."""

    transfer_id: str | None
    calling_ae_title: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    sha256: str
    status: int


class CentralOfTheTest(ingest_pb2_grpc.GatewayServiceServicer):
    """The receive path and the contract of GatewayService, with a ledger behind them.

    `answers` decides the status of each store; `entries` holds every store that was answered.
    """

    def __init__(self, pki: Pki) -> None:
        self.pki = pki
        self.ports = {"dicom": free_port(), "gateways": free_port()}
        self.entries: list[Entry] = []
        self.begun: list[tuple[str, str, str, timedelta]] = []
        self.carries_many = True  # False: as Central server of the version before
        self.refuses: set[str] = set()  # studies
        self.ended: list[tuple[str, int]] = []
        self.told: list[ingest_pb2.HeartbeatRequest] = []
        self.ends: list[str] = []
        self.refusals: list[str] = []
        self.associations = 0
        self.open = 0
        self.most_open = 0
        self.answers: Callable[[Entry], int] = lambda entry: 0
        self.lock = threading.Lock()
        self._acceptor: Acceptor | None = None
        self._server: rpc.Server | None = None

    @property
    def running(self) -> bool:
        return self._server is not None

    async def start(self) -> None:
        tls = self.pki.gateway_tls("ingest")
        self._server = rpc.Server("ingest", self.address("gateways"), tls, None)
        self._server.add(
            ingest_pb2_grpc.add_GatewayServiceServicer_to_server, self, "wire.ingest.v1.GatewayService"
        )
        await self._server.start()
        self._acceptor = Acceptor(
            self.address("dicom"), contexts=server_contexts(tls), handler=self, called_ae_titles=["READROOM"]
        )
        self._acceptor.start()

    async def stop(self) -> None:
        if self._acceptor:
            await asyncio.to_thread(self._acceptor.stop)
        if self._server:
            await self._server.stop(0)
        self._acceptor = self._server = None

    def address(self, name: str) -> str:
        return f"127.0.0.1:{self.ports[name]}"

    def stored(self) -> dict[tuple[str, str], set[str]]:
        """What was acknowledged: digests by calling AE title and SOP Instance UID."""
        stored: dict[tuple[str, str], set[str]] = {}
        for entry in self.entries:
            if entry.status == 0:
                stored.setdefault((entry.calling_ae_title, entry.sop_instance_uid), set()).add(entry.sha256)
        return stored

    def digests(self) -> set[str]:
        return {entry.sha256 for entry in self.entries if entry.status == 0}

    async def Heartbeat(  # noqa: N802
        self, request: ingest_pb2.HeartbeatRequest, context: Any
    ) -> ingest_pb2.HeartbeatResponse:
        self.told.append(request)
        return ingest_pb2.HeartbeatResponse()

    async def RenewCertificate(  # noqa: N802
        self, request: ingest_pb2.RenewCertificateRequest, context: Any
    ) -> ingest_pb2.RenewCertificateResponse:
        raise Denied("nothing is to be renewed, of the test")

    async def BeginTransfer(  # noqa: N802
        self, request: ingest_pb2.BeginTransferRequest, context: Any
    ) -> ingest_pb2.BeginTransferResponse:
        told: list[Any] = [request, *request.further] if self.carries_many else [request]
        if any(each.study_instance_uid in self.refuses for each in told):
            raise Denied("refused, of the test")
        self.begun += [
            (each.transfer_id, each.study_instance_uid, each.calling_ae_title, each.age.ToTimedelta())
            for each in told
        ]
        return ingest_pb2.BeginTransferResponse(announced=len(told) if self.carries_many else 0)

    async def EndTransfer(  # noqa: N802
        self, request: ingest_pb2.EndTransferRequest, context: Any
    ) -> ingest_pb2.EndTransferResponse:
        self.ended += [(each.transfer_id, each.instances) for each in request.ended]
        return ingest_pb2.EndTransferResponse()

    def associate(self, request: AssociationRequest) -> "_Recording":
        with self.lock:
            self.associations += 1
            self.open += 1
            self.most_open = max(self.most_open, self.open)
        return _Recording(self, request)

    def recognize(self, certificate_der: bytes | None, remote: str) -> None:
        """Everybody may ask."""

    def refused(self, refused: RefusedConnection) -> None:
        self.refusals.append(refused.reason)


class _Recording:
    def __init__(self, central: CentralOfTheTest, request: AssociationRequest) -> None:
        self.central = central
        self.request = request

    def store(self, command: StoreCommand) -> "_Ledger":
        return _Ledger(self, command)

    def refused(self, refused: RefusedInstance) -> None:
        """The ledger has it."""

    def ended(self, how: str) -> None:
        with self.central.lock:
            self.central.open -= 1
            self.central.ends.append(how)


class _Ledger:
    def __init__(self, association: _Recording, command: StoreCommand) -> None:
        self._association = association
        self._command = command
        self._digest = hashlib.sha256()

    def write(self, chunk: memoryview) -> None:
        self._digest.update(chunk)

    def finish(self) -> tuple[int, str]:
        central, request = self._association.central, self._association.request
        entry = Entry(
            request.transfer_id,
            request.calling_ae_title,
            self._command.sop_instance_uid,
            self._command.transfer_syntax_uid,
            self._digest.hexdigest(),
            0,
        )
        status = central.answers(entry)
        if status < 0:
            raise Refused(-status, "of the test")
        with central.lock:
            central.entries.append(replace(entry, status=status))
        return status, "of the test" if status else ""

    def discard(self) -> None:
        pass


class Gateway:
    """The process `python -m gateway`, its folder and its modalities."""

    def __init__(
        self,
        folder: Path,
        pki: Pki,
        *,
        dicom_address: str,
        gateway_address: str,
        identity: TLSFiles | None = None,
        titles: tuple[str, ...] = (TITLE,),
        more: str = "",
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.ports = {"tls": free_port(), "plain": free_port()}
        self.hospital = CertificateAuthority.create("hospital CA", datetime.now(UTC))
        certificate, key = self.hospital.issue(
            "urn:gateway", ["localhost"], datetime.now(UTC), addresses=["127.0.0.1"]
        )
        (folder / "hospital-ca.pem").write_bytes(self.hospital.certificate_pem)
        (folder / "listener.pem").write_bytes(certificate)
        write_private(folder / "listener.key", key)
        files = identity or an_identity(folder, pki)
        self.config = folder / "gateway.toml"
        self.config.write_text(
            f"""
            certificate = "{files.certificate}"
            key = "{files.key}"
            ca = "{files.ca}"
            ae_titles = [{", ".join(f'"{title}"' for title in titles)}]
            spool = "spool"
            retry_s = 0.05
            retry_at_most_s = 0.3
            {more}
            [central]
            dicom_address = "{dicom_address}"
            gateway_address = "{gateway_address}"
            ae_title = "READROOM"
            [listener]
            listen = "127.0.0.1:{self.ports["tls"]}"
            certificate = "listener.pem"
            key = "listener.key"
            ca = "hospital-ca.pem"
            [plain_listener]
            listen = "127.0.0.1:{self.ports["plain"]}"
            [[modalities]]
            ae_title = "{MODALITY}"
            address = "127.0.0.1"
            """
        )
        self.log = folder / "gateway.log"
        self.process: BaseProcess | None = None

    cwd = ROOT

    def command(self) -> list[str]:
        return [sys.executable, "-m", "gateway", "--config", str(self.config)]

    def start(self) -> None:
        self.process = fork(gateway.__main__.main, self.command()[3:], self.log, self.log)
        self.wait_until_up()

    def wait_until_up(self) -> None:
        assert self.process is not None
        for port in self.ports.values():
            while True:
                with socket.socket() as probe:
                    probe.settimeout(1)
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert self.process.is_alive(), self.log.read_text()[-2000:]
                time.sleep(0.01)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        return self._end(signal.SIGTERM)

    def _end(self, number: int) -> int:
        process, self.process = self.process, None
        if process is None:
            return 0
        if process.pid and process.is_alive():
            os.kill(process.pid, number)
        process.join(20)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise AssertionError(f"the gateway did not end within 20 s of signal {number}")
        return process.exitcode

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Straight from its database."""
        connection = sqlite3.connect(f"file:{self.folder}/spool/gateway.db?mode=ro", uri=True)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    def states(self) -> list[str]:
        """Of its transfers, oldest first."""
        return [row[0] for row in self.rows("select state from transfers order by created_at")]

    def sockets(self) -> set[tuple[int, int, bool]]:
        """Local port, remote port and whether it listens, of every TCP socket of the process."""
        assert self.process is not None
        process = Path(f"/proc/{self.process.pid}")
        inodes = {str(link.readlink()) for link in (process / "fd").iterdir()}
        found: set[tuple[int, int, bool]] = set()
        for table in ("tcp", "tcp6"):
            for line in (process / "net" / table).read_text().splitlines()[1:]:
                _, local, remote, state, *_, inode = line.split()[:10]
                if f"socket:[{inode}]" in inodes:
                    here, there = (int(address.rpartition(":")[2], 16) for address in (local, remote))
                    found.add((here, there, state == "0A"))
        return found

    def status(self) -> str:
        """What `--status` prints."""
        return self.acts("--status")

    def acts(self, *options: str) -> str:
        """As `says`, in this process: quicker."""
        with redirect_stdout(StringIO()) as said:
            assert gateway.__main__.main([*self.command()[3:], *options]) == 0
        return said.getvalue()

    def says(self, *options: str) -> str:
        """What the command prints; takes a moment."""
        answer = subprocess.run(
            [*self.command(), *options],
            cwd=self.cwd,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return answer.stdout

    def modality(self, title: str = MODALITY, called: str = TITLE, *, plain: bool = True) -> Sender:
        """Who sends; over TLS it shows a certificate of the hospital."""
        if plain:
            return Sender(self.ports["plain"], title, None, called)
        certificate, key = self.hospital.issue(f"urn:{title}", ["localhost"], datetime.now(UTC))
        stem = self.folder / f"modality-{uuid4()}"
        stem.with_suffix(".pem").write_bytes(certificate)
        stem.with_suffix(".key").write_bytes(key)
        ca = self.folder / "hospital-ca.pem"
        tls = TLSFiles(stem.with_suffix(".pem"), stem.with_suffix(".key"), ca)
        return Sender(self.ports["tls"], title, tls, called)

    def files(self) -> dict[str, list[str]]:
        """Names in the spool's folders."""
        spool = self.folder / "spool"
        return {
            "objects": sorted(path.name for path in spool.glob("objects/??/*")),
            "incoming": sorted(path.name for path in spool.glob("incoming/*")),
        }


def an_identity(folder: Path, pki: Pki, at: datetime | None = None) -> TLSFiles:
    """A gateway's certificate as enrolment would sign it, now or at another time."""
    uri = GATEWAY_URI.format(gateway_id=uuid4())
    certificate, key = pki.authority("gateway").issue(uri, [], at or datetime.now(UTC))
    (folder / "identity.pem").write_bytes(certificate)
    write_private(folder / "identity.key", key)
    return TLSFiles(folder / "identity.pem", folder / "identity.key", pki.gateway_ca)


def digest(sending: DicomObject) -> str:
    return hashlib.sha256(sending.data).hexdigest()
