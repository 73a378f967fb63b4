"""All of ingest in the test's process, an access that speaks the contract, senders over mutual TLS."""

import asyncio
import hashlib
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydicom import dcmread
from pydicom.uid import UID, ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import UserIdentityNegotiation

from demo.dicom_files import dataset_bytes
from kernel.clock import MonotonicClock
from kernel.errors import NotFound, ReadroomError, Unavailable, lacks
from kernel.ids import UUID7, FacilityId
from local.embedded import EmbeddedServers
from local.pki import Pki
from local.processes import until
from plumbing import minting, rpc, tokens
from plumbing.config import load
from plumbing.files import write_private
from plumbing.runtime import Application
from plumbing.tls import TLSFiles
from plumbing.tokenkeys import KeyFile
from services.ingest import main
from services.ingest.packformat import HEADER_LENGTH
from tests.auditing import audit_settings
from tests.ports import free_port
from wire.access.v1 import access_pb2, access_pb2_grpc
from wire.ingest.v1 import ingest_pb2 as pb
from wire.ingest.v1 import ingest_pb2_grpc
from wire.routing.v1 import routing_pb2, routing_pb2_grpc

ADMIN, READER = "admin", "reader"
PATIENT_S = 10.0
"""How long a test waits for an answer: the machine may be busy with other things."""
RIVERSIDE = FacilityId(UUID("01900000-0000-7000-8000-0000000000a1"))
HARBOUR = FacilityId(UUID("01900000-0000-7000-8000-0000000000a2"))


class AccessOfTheTest(access_pb2_grpc.AccessServiceServicer):
    """Speaks access's contract: `administered` facilities by login, `decisions` by case.

    Who `sees_cases` sees those of all facilities by privilege; who is `permitted` holds that everywhere.
    ListCases answers `lists`, one after another.
    """

    def __init__(self) -> None:
        self.facilities = {RIVERSIDE, HARBOUR}
        self.administered: dict[str, set[FacilityId]] = {ADMIN: {RIVERSIDE, HARBOUR}}
        self.everywhere = {ADMIN}
        self.known: dict[str, set[str]] = {}
        self.sees_cases: set[str] = set()
        self.permitted: set[tuple[str, str]] = set()
        self.decisions: dict[tuple[str, str], access_pb2.Decision] = {}
        self.cases: dict[str, list[str]] = {}
        self.begun: dict[str, access_pb2.BeginDeleteResponse] = {}
        self.failing: list[ReadroomError] = []
        self.answers_get_lost = False
        self.asked_again: list[tuple[str, str]] = []
        self.lists: list[access_pb2.ListCasesResponse] = []
        self.asked_lists: list[tuple[str, int, int]] = []
        self.related: dict[tuple[str, str], list[access_pb2.Case]] = {}
        self.silent_about: set[str] = set()

    async def CheckPermission(  # noqa: N802
        self, request: access_pb2.CheckPermissionRequest, context: Any
    ) -> access_pb2.CheckPermissionResponse:
        login = rpc.caller().login or ""
        if not request.facility_id:
            facilities = map(str, self.administered.get(login, set()))
            return access_pb2.CheckPermissionResponse(
                allowed=login in self.everywhere, facility_ids=facilities
            )
        allowed = UUID(request.facility_id) in self.administered.get(login, set())
        known = allowed or login in self.known.get(request.facility_id, ())
        if UUID(request.facility_id) not in self.facilities or not known:
            raise NotFound(
                f"there is no facility `{request.facility_id}` at which you hold anything",
                field="facility_id",
            )
        return access_pb2.CheckPermissionResponse(
            allowed=allowed or (login, request.permission) in self.permitted,
            sees_cases=login in self.sees_cases,
        )

    async def Check(self, request: access_pb2.CheckRequest, context: Any) -> access_pb2.CheckResponse:  # noqa: N802
        decision = self.decisions.get((rpc.caller().login or "", request.case_id))
        return access_pb2.CheckResponse(decision=decision or access_pb2.Decision())

    async def ListCases(  # noqa: N802
        self, request: access_pb2.ListCasesRequest, context: Any
    ) -> access_pb2.ListCasesResponse:
        self.asked_lists.append((request.where, request.skip, request.page_size))
        return self.lists.pop(0) if self.lists else access_pb2.ListCasesResponse()

    async def ListRelatedCases(  # noqa: N802
        self, request: access_pb2.ListRelatedCasesRequest, context: Any
    ) -> access_pb2.ListRelatedCasesResponse:
        asked = rpc.caller().login or "", request.case_id
        if asked not in self.decisions:
            raise NotFound("no such case")
        return access_pb2.ListRelatedCasesResponse(cases=self.related.get(asked, ()))

    async def CheckAgain(  # noqa: N802
        self, request: access_pb2.CheckAgainRequest, context: Any
    ) -> access_pb2.CheckAgainResponse:
        assert rpc.caller().login is None
        self.asked_again.append((request.login, request.session))
        if request.case_id in self.silent_about:
            raise Unavailable("away")
        decision = self.decisions.get((request.login, request.case_id))
        shown = decision is not None and decision.allowed and decision.images
        return access_pb2.CheckAgainResponse(studies=decision.studies if decision and shown else ())

    async def BeginDelete(  # noqa: N802
        self, request: access_pb2.BeginDeleteRequest, context: Any
    ) -> access_pb2.BeginDeleteResponse:
        """ADMIN may delete what is in `cases`, at RIVERSIDE. Ingest itself is told again."""
        if self.failing:
            raise self.failing.pop(0)
        login = rpc.caller().login
        if request.deletion_id not in self.begun or login not in (None, ADMIN):
            if login is None or request.case_id not in self.cases:
                raise NotFound(f"there is no case `{request.case_id}`, or you do not see it", field="case_id")
            if login != ADMIN:
                raise lacks("study.delete", at="the facility of the case")
            self.begun[request.deletion_id] = access_pb2.BeginDeleteResponse(
                study_ids=self.cases.pop(request.case_id), facility_id=str(RIVERSIDE), revision="7"
            )
        if self.answers_get_lost:
            raise Unavailable("lost")
        return self.begun[request.deletion_id]


class RoutingOfTheTest(routing_pb2_grpc.RoutingServiceServicer):
    """Speaks routing's contract: the StudyIds that it has `purged`, by case, and the parts that it holds."""

    def __init__(self) -> None:
        self.purged: dict[str, list[str]] = {}
        self.undecided: dict[str, list[tuple[str, int]]] = {}
        self.waiting: set[tuple[str, int]] = set()
        self.mapping_tags: dict[str, str] = {}
        self.is_away = False
        self.asked_in_vain = 0

    async def DescribePurge(  # noqa: N802
        self, request: routing_pb2.DescribePurgeRequest, context: Any
    ) -> routing_pb2.DescribePurgeResponse:
        if self.is_away:
            self.asked_in_vain += 1
            raise Unavailable("routing is away")
        if request.case_id not in self.purged:
            raise NotFound("routing has purged no such case", field="case_id")
        return routing_pb2.DescribePurgeResponse(study_ids=self.purged[request.case_id])

    async def DescribeFacility(  # noqa: N802
        self, request: routing_pb2.DescribeFacilityRequest, context: Any
    ) -> routing_pb2.DescribeFacilityResponse:
        if request.facility_id not in self.mapping_tags:
            raise NotFound("there is no such facility", field="facility_id")
        tag = self.mapping_tags[request.facility_id]
        return routing_pb2.DescribeFacilityResponse(facility=routing_pb2.Facility(mapping_tag=tag))

    async def ListUndecided(  # noqa: N802
        self, request: routing_pb2.ListUndecidedRequest, context: Any
    ) -> routing_pb2.ListUndecidedResponse:
        named = self.undecided.get(request.case_id, [])
        parts = [routing_pb2.ListUndecidedResponse.Part(study_id=study, part=part) for study, part in named]
        return routing_pb2.ListUndecidedResponse(parts=parts, count=len(parts))

    async def CheckHeld(  # noqa: N802
        self, request: routing_pb2.CheckHeldRequest, context: Any
    ) -> routing_pb2.CheckHeldResponse:
        parts = [each for each in request.parts if (each.study_id, each.part) in self.waiting]
        return routing_pb2.CheckHeldResponse(parts=parts)


@dataclass
class EnrolledGateway:
    """What a gateway has after its enrolment."""

    gateway_id: str
    title: str
    tls: TLSFiles


@dataclass
class Sent:
    """What became of one C-STORE."""

    status: int | None
    comment: str = ""


class Ingest:
    """A running ingest and what a test needs around it."""

    def __init__(self, servers: EmbeddedServers, database_url: str, pki: Pki, folder: Path) -> None:
        self.servers = servers
        self.database_url = database_url
        self.pki = pki
        self.folder = folder
        self.access = AccessOfTheTest()  # type: ignore[abstract]  # ingest asks few of its verbs
        self.routing = RoutingOfTheTest()  # type: ignore[abstract]  # ingest asks one of its verbs
        self.clock = MonotonicClock()
        self.ports = {
            name: free_port()
            for name in ("grpc", "http", "dicom", "dicomweb", "gateways", "access", "routing")
        }
        self.environ: dict[str, str] = {}
        self.packs = folder / "packs"
        self.is_first = True
        self._running: AsyncExitStack | None = None
        self._stubs: dict[tuple[str, str], ingest_pb2_grpc.IngestServiceAsyncStub] = {}
        self.application = Application(servers=[])

    def another(self, packs: Path) -> "Ingest":
        """A second process of this ingest, on a volume of its own or on the same one; not started."""
        made = Ingest(self.servers, self.database_url, self.pki, self.folder)
        made.access, made.routing, made.clock, made.environ = (
            self.access,
            self.routing,
            self.clock,
            self.environ,
        )
        made.ports |= {name: self.ports[name] for name in ("access", "routing")}
        made.packs, made.is_first = packs, False
        return made

    def told(self) -> dict[str, str]:
        """The settings by field."""
        identity, gateways = self.pki.tls("ingest"), self.pki.gateway_tls("ingest")
        fields: dict[str, object] = {
            "listen": self.address("grpc"),
            "http_listen": self.address("http"),
            "database_url": self.database_url,
            "nats_url": self.servers.nats_url,
            "cache_url": self.servers.cache_url,
            "tls_certificate": identity.certificate,
            "tls_key": identity.key,
            "tls_ca": identity.ca,
            "token_keys": self.pki.token_keys,
            **audit_settings(self.servers.data_dir),
            "access_address": self.address("access"),
            "routing_address": self.address("routing"),
            "pack_directory": self.packs,
            "dicom_listen": self.address("dicom"),
            "dicomweb_listen": self.address("dicomweb"),
            "gateway_listen": self.address("gateways"),
            "gateway_certificate": gateways.certificate,
            "gateway_key": gateways.key,
            "gateway_ca": gateways.ca,
            "gateway_ca_key": self.pki.gateway_ca_key,
            "settle_after_s": "0.5",
            "receive_workers": "0",  # a start takes a fifth of a second of processor time
            "refusals_per_minute": "100000",  # tests share an address
        }
        return {name: str(value) for name, value in fields.items()}

    def settings(self) -> main.Settings:
        environ = {f"READROOM_INGEST_{name.upper()}": value for name, value in self.told().items()}
        return load(main.Settings, environ | self.environ)

    def address(self, name: str) -> str:
        return f"127.0.0.1:{self.ports[name]}"

    async def start(self) -> None:
        resources = AsyncExitStack()
        verifier = tokens.Verifier(KeyFile(self.pki.token_keys), self.clock)
        access = rpc.Server("access", self.address("access"), self.pki.tls("access"), verifier)
        access.add(
            access_pb2_grpc.add_AccessServiceServicer_to_server, self.access, "wire.access.v1.AccessService"
        )
        routing = rpc.Server("routing", self.address("routing"), self.pki.tls("routing"), verifier)
        routing.add(
            routing_pb2_grpc.add_RoutingServiceServicer_to_server,
            self.routing,
            "wire.routing.v1.RoutingService",
        )
        for server in (access, routing) if self.is_first else ():
            await server.start()
            resources.push_async_callback(server.stop, 0)
        self.application = application = await main.build(
            self.settings(), self.clock, UUID7(self.clock), resources
        )
        for server in application.servers:
            await server.start()
            resources.push_async_callback(server.stop, 0)
        for task in application.tasks.values():
            running = asyncio.create_task(task())
            resources.push_async_callback(end, running)
        self._running = resources

    async def stop(self) -> None:
        self._stubs.clear()
        if self._running is not None:
            running, self._running = self._running, None
            await running.aclose()

    # As a user, a service, a gateway

    def token(self, login: str) -> str:
        return minting.mint(
            self.pki.token_key.read_bytes(),
            login=login,
            session=str(uuid4()),
            audience="ingest",
            now=datetime.now(UTC),
        )

    def acting(self, login: str) -> "ingest_pb2_grpc.IngestServiceAsyncStub":
        """The service as the command line calls it."""
        return self._stub("bff", login)

    def service(self, name: str) -> "ingest_pb2_grpc.IngestServiceAsyncStub":
        return self._stub(name, "")

    def _stub(self, peer: str, login: str) -> "ingest_pb2_grpc.IngestServiceAsyncStub":
        """One for each caller and start: a channel to a server that has ended waits before it tries again."""
        if (peer, login) not in self._stubs:
            channel = rpc.connect(
                self.address("grpc"),
                "ingest",
                self.pki.tls(peer),
                deadline_s=PATIENT_S,
                token=lambda: self.token(login) if login else None,
            )
            self._stubs[peer, login] = ingest_pb2_grpc.IngestServiceStub(channel)
        return self._stubs[peer, login]

    def gateway_service(self, gateway: EnrolledGateway) -> Any:
        channel = rpc.connect(self.address("gateways"), "ingest", gateway.tls, deadline_s=PATIENT_S)
        return ingest_pb2_grpc.GatewayServiceStub(channel)

    async def enrol(self, title: str = "RIVERSIDE", *facilities: FacilityId) -> EnrolledGateway:
        """A gateway with one title, or with one for each facility: TITLE, TITLE2 …"""
        request, key = signing_request()
        titles = [f"{title}{number or ''}" for number in range(len(facilities or (RIVERSIDE,)))]
        answer = await self.acting(ADMIN).EnrolGateway(
            pb.EnrolGatewayRequest(
                name=title,
                ae_titles=[
                    pb.AETitleBinding(ae_title=each, facility_id=str(facility))
                    for each, facility in zip(titles, facilities or (RIVERSIDE,), strict=True)
                ],
                certificate_request_pem=request.decode(),
            )
        )
        return EnrolledGateway(answer.gateway.gateway_id, title, self.keep_identity(answer, key))

    def keep_identity(self, answer: pb.EnrolGatewayResponse, key: bytes) -> TLSFiles:
        stem = self.folder / answer.gateway.gateway_id
        files = TLSFiles(stem.with_suffix(".pem"), stem.with_suffix(".key"), stem.with_suffix(".ca"))
        files.certificate.write_text(answer.certificate_pem)
        write_private(files.key, key)
        files.ca.write_text(answer.ca_pem)
        return files

    # What is stored

    async def rows(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.database_url)
        try:
            return list(await connection.fetch(sql, *arguments))
        finally:
            await connection.close()

    async def one(self, sql: str, *arguments: object) -> Any:
        (row,) = await self.rows(sql, *arguments)
        return row[0]

    async def quarantine(self) -> dict[str, bytes]:
        """The Part 10 files that are kept in the quarantine, by SHA-256 of their data set."""
        rows = await self.rows("select * from quarantined")
        return {row["sha256"].hex(): quarantined_file(self.packs, row) for row in rows}

    def pack_files(self) -> list[Path]:
        return sorted(self.packs.glob("??/*.tar"))

    async def stored(self) -> dict[str, str]:
        """SHA-256 of the data set by SOP Instance UID, as the index has it."""
        rows = await self.rows("select sop_instance_uid, sha256 from instances")
        return {row["sop_instance_uid"]: row["sha256"].hex() for row in rows}


def quarantined_file(packs: Path, row: Any) -> bytes:
    """The Part 10 file of a row of the quarantine, from the pack it lies in."""
    name = str(row["pack_id"])
    content = (packs / name[-2:] / f"{name}.tar").read_bytes()
    start = row["entry_offset"] + HEADER_LENGTH
    return content[start : start + row["file_length"]]


def signing_request() -> tuple[bytes, bytes]:
    """A request for a certificate, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return request.public_bytes(Encoding.PEM), private


async def end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def client_context(tls: TLSFiles) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(tls.ca))
    context.load_cert_chain(tls.certificate, tls.key)
    return context


@dataclass
class Sender:
    """A gateway's DICOM side: sends files as they stand, over mutual TLS."""

    port: int
    title: str
    tls: TLSFiles | None
    called: str = "READROOM"
    transfer_id: str | None = None
    rejections: list[tuple[int, int, int]] = field(default_factory=list)

    @classmethod
    def of(cls, ingest: Ingest, gateway: EnrolledGateway, **more: Any) -> "Sender":
        return cls(ingest.ports["dicom"], more.pop("title", gateway.title), gateway.tls, **more)

    @contextmanager
    def association(self, contexts: Sequence[tuple[str, str]]) -> Iterator[Association]:
        """An association with one presentation context for each SOP class and transfer syntax."""
        ae = AE(ae_title=self.title)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
        for abstract_syntax, transfer_syntax in dict.fromkeys(contexts):
            ae.add_requested_context(abstract_syntax, transfer_syntax)
        negotiation: list[Any] = []
        if self.transfer_id is not None:
            identity = UserIdentityNegotiation()
            identity.user_identity_type = 1
            identity.primary_field = self.transfer_id.encode()
            negotiation.append(identity)
        association = ae.associate(
            "127.0.0.1",
            self.port,
            ae_title=self.called,
            ext_neg=negotiation,
            tls_args=(client_context(self.tls), "localhost") if self.tls else None,
        )
        try:
            if association.is_rejected:
                primitive: Any = association.acceptor.primitive
                self.rejections.append((primitive.result, primitive.result_source, primitive.diagnostic))
            yield association
        finally:
            if association.is_established:
                association.release()

    def store(self, *paths: Path) -> list[Sent]:
        """Sends each file's data set byte by byte as it stands."""
        return self.store_objects(*map(DicomObject.of, paths))

    def store_objects(self, *objects: "DicomObject") -> list[Sent]:
        with self.association([(o.sop_class_uid, o.transfer_syntax_uid) for o in objects]) as association:
            return [store_object(association, each) for each in objects]


@dataclass(frozen=True)
class DicomObject:
    """The bytes of a data set and what the command says of them."""

    data: bytes
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str = ExplicitVRLittleEndian

    @classmethod
    def of(cls, path: Path) -> "DicomObject":
        told = dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID", "SOPInstanceUID"])
        return cls(
            dataset_bytes(path), told.SOPClassUID, told.SOPInstanceUID, told.file_meta.TransferSyntaxUID
        )


def store_object(association: Association, sending: DicomObject) -> Sent:
    """One C-STORE; no status if the association does not live, or dies of it."""
    if not association.is_established:
        return Sent(None)
    context_id = next(
        c.context_id or 0
        for c in association.accepted_contexts
        if c.abstract_syntax == sending.sop_class_uid and c.transfer_syntax[0] == sending.transfer_syntax_uid
    )
    request = C_STORE()
    request.MessageID = 7
    request.AffectedSOPClassUID = UID(sending.sop_class_uid)
    request.AffectedSOPInstanceUID = UID(sending.sop_instance_uid)
    request.Priority = 2
    request.DataSet = BytesIO(sending.data)
    association._reactor_checkpoint.clear()
    while not association._is_paused:  # else its reactor takes the answer
        time.sleep(0.001)
    try:
        association.dimse.send_msg(request, context_id)
        _, message = association.dimse.get_msg(block=True)
    finally:
        association._reactor_checkpoint.set()
        until(lambda: not association._is_paused, 0.5)  # else the next pause believes this one
    if message is None:
        return Sent(None)
    response: Any = message
    return Sent(int(response.Status), str(response.ErrorComment or ""))


async def sent(sender: Sender, *paths: Path) -> list[Sent]:
    return await asyncio.to_thread(sender.store, *paths)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def sent_objects(sender: Sender, *objects: DicomObject) -> list[Sent]:
    return await asyncio.to_thread(sender.store_objects, *objects)
