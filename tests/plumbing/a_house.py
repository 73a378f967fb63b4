"""Every contract served in one process by a servicer that answers anything, for the tests of gRPC."""

import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc

from kernel.clock import MonotonicClock
from local.pki import Pki
from plumbing import minting, rpc, tls, tokens
from plumbing.tokenkeys import KeyFile
from wire.access.v1 import access_pb2, access_pb2_grpc, identity_pb2_grpc
from wire.audit.v1 import audit_pb2, audit_pb2_grpc
from wire.facts.v1 import facts_pb2_grpc
from wire.ingest.v1 import ingest_pb2, ingest_pb2_grpc
from wire.letters.v1 import letters_pb2_grpc
from wire.notify.v1 import notify_pb2_grpc
from wire.reporting.v1 import reporting_pb2_grpc
from wire.routing.v1 import routing_pb2, routing_pb2_grpc
from wire.sharing.v1 import sharing_pb2_grpc

GATEWAY_ID = UUID("0199c0de-0000-7000-8000-000000000001")
ACCESS = "wire.access.v1.AccessService"
GATEWAY = "wire.ingest.v1.GatewayService"
CONTRACTS: dict[str, Any] = {
    ACCESS: access_pb2_grpc.add_AccessServiceServicer_to_server,
    "wire.access.v1.IdentityService": identity_pb2_grpc.add_IdentityServiceServicer_to_server,
    GATEWAY: ingest_pb2_grpc.add_GatewayServiceServicer_to_server,
    "wire.ingest.v1.IngestService": ingest_pb2_grpc.add_IngestServiceServicer_to_server,
    "wire.routing.v1.RoutingService": routing_pb2_grpc.add_RoutingServiceServicer_to_server,
    "wire.reporting.v1.ReportingService": reporting_pb2_grpc.add_ReportingServiceServicer_to_server,
    "wire.sharing.v1.SharingService": sharing_pb2_grpc.add_SharingServiceServicer_to_server,
    "wire.notify.v1.NotifyService": notify_pb2_grpc.add_NotifyServiceServicer_to_server,
    "wire.audit.v1.AuditService": audit_pb2_grpc.add_AuditServiceServicer_to_server,
    "wire.facts.v1.FactsService": facts_pb2_grpc.add_FactsServiceServicer_to_server,
    "wire.letters.v1.DeadLettersService": letters_pb2_grpc.add_DeadLettersServiceServicer_to_server,
}
CHECK = f"/{ACCESS}/Check"

ANSWERS: dict[str, Any] = {
    "Check": access_pb2.CheckResponse,
    "CheckMany": access_pb2.CheckManyResponse,
    "DescribeFacility": routing_pb2.DescribeFacilityResponse,
    "DescribeStudy": ingest_pb2.DescribeStudyResponse,
    "BeginTransfer": ingest_pb2.BeginTransferResponse,
    "StreamStudy": ingest_pb2.StreamStudyResponse,
    "StreamInstance": ingest_pb2.StreamInstanceResponse,
    "VerifyAudit": audit_pb2.VerifyAuditResponse,
}


@dataclass
class Servicer:
    """Answers every method; remembers who called; does first what the test says."""

    callers: list[rpc.Caller] = field(default_factory=list)
    first: Callable[[Any], Any] = lambda _request: None
    answered: int = 0

    def __getattr__(self, method: str) -> Any:
        streams = method.startswith("Stream") or method == "VerifyAudit"
        return partial(self._stream if streams else self._answer, method)

    async def _answer(self, method: str, request: Any, _context: object) -> Any:
        self.callers.append(rpc.caller())
        doing = self.first(request)
        return (await doing if inspect.isawaitable(doing) else doing) or ANSWERS[method]()

    async def _stream(self, method: str, request: Any, context: object) -> AsyncIterator[Any]:
        yield ANSWERS[method]()
        yield await self._answer(method, request, context)
        self.answered += 1


@dataclass
class House:
    """One server of each contract in one process, and channels to them."""

    pki: Pki
    servicer: Servicer
    port: int
    gateway_port: int
    resources: AsyncExitStack

    def channel(self, peer: str = "bff", token: str | None = None, **more: Any) -> grpc.aio.Channel:
        channel = rpc.connect(
            f"127.0.0.1:{self.port}", "access", self.pki.tls(peer), token=lambda: token, **more
        )
        self.resources.push_async_callback(channel.close)
        return channel

    def access(self, peer: str = "bff", token: str | None = None, **more: Any) -> Any:
        return access_pb2_grpc.AccessServiceStub(self.channel(peer, token, **more))

    def raw(
        self, tls_files: rpc.TLSFiles, port: int | None = None, name: str = "access.readroom"
    ) -> grpc.aio.Channel:
        """A channel without anything of ours in it but the certificate."""
        channel = grpc.aio.secure_channel(
            f"127.0.0.1:{port or self.port}",
            tls.grpc_channel_credentials(tls_files),
            options=[("grpc.ssl_target_name_override", name), ("grpc.enable_http_proxy", 0)],
        )
        self.resources.push_async_callback(channel.close)
        return channel

    def identity(self, folder: Path, uri: str, authority: str = "service") -> rpc.TLSFiles:
        """A certificate of one of the authorities for any URI, its key, and that authority."""
        certificate, key = self.pki.authority(authority).issue(uri, ["x.readroom"], datetime.now(UTC))
        return written(folder, certificate, key, getattr(self.pki, f"{authority}_ca"))

    def token(self, audience: str = "access", **more: Any) -> str:
        given = {"login": "ada", "session": "s1", "now": datetime.now(UTC), **more}
        return minting.mint(self.pki.token_key.read_bytes(), audience=audience, **given)


def written(folder: Path, certificate: bytes, key: bytes, ca: Path) -> rpc.TLSFiles:
    (folder / "certificate.pem").write_bytes(certificate)
    (folder / "key.pem").write_bytes(key)
    return rpc.TLSFiles(folder / "certificate.pem", folder / "key.pem", ca)


def raising(error: Exception) -> Callable[[Any], Any]:
    def raise_it(_request: Any) -> None:
        raise error

    return raise_it


CHECK_NOTHING = access_pb2.CheckRequest()


async def images(house: House) -> list[Any]:
    stub = ingest_pb2_grpc.IngestServiceStub(house.channel("bff", house.token()))
    return [part async for part in stub.StreamInstance(ingest_pb2.StreamInstanceRequest())]


@asynccontextmanager
async def a_house(pki: Pki) -> AsyncIterator[House]:
    """Serves all contracts as `access`, and the gateways' contract to gateways, while the block runs."""
    clock = MonotonicClock()
    verifier = tokens.Verifier(KeyFile(pki.token_keys), clock)
    servicer = Servicer()
    server = rpc.Server("access", "127.0.0.1:0", pki.tls("access"), verifier)
    for contract, register in CONTRACTS.items():
        server.add(register, servicer, contract)
    gateways = rpc.Server("ingest", "127.0.0.1:0", pki.gateway_tls("ingest"), None)
    gateways.add(CONTRACTS[GATEWAY], servicer, GATEWAY)
    async with AsyncExitStack() as resources:
        port = await server.start()
        resources.push_async_callback(server.stop, 0.1)
        gateway_port = await gateways.start()
        resources.push_async_callback(gateways.stop, 0.1)
        yield House(pki, servicer, port, gateway_port, resources)
