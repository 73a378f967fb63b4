"""gRPC: who is let in, what he may call, for whom, and how errors travel."""

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import grpc
import pytest
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc  # type: ignore[import-untyped]

from kernel import errors
from kernel.clock import MonotonicClock
from plumbing import rpc, status, tls, tokens
from plumbing.callers import STRANGER, Acting, Allowed, Peer, peer_of
from plumbing.pki import GATEWAY_URI, SERVICE_URI, CertificateAuthority, Pki
from tests.wait import eventually
from wire.access.v1 import access_pb2, access_pb2_grpc
from wire.ingest.v1 import ingest_pb2, ingest_pb2_grpc
from wire.routing.v1 import routing_pb2, routing_pb2_grpc

STUDY_ID = "0199c0de-0000-7000-8000-000000000002"
GATEWAY_ID = UUID("0199c0de-0000-7000-8000-000000000001")
ACCESS = "wire.access.v1.AccessService"
GATEWAY = "wire.ingest.v1.GatewayService"
CONTRACTS: dict[str, Any] = {
    ACCESS: access_pb2_grpc.add_AccessServiceServicer_to_server,
    GATEWAY: ingest_pb2_grpc.add_GatewayServiceServicer_to_server,
    "wire.ingest.v1.IngestService": ingest_pb2_grpc.add_IngestServiceServicer_to_server,
    "wire.routing.v1.RoutingService": routing_pb2_grpc.add_RoutingServiceServicer_to_server,
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
}


@dataclass
class Servicer:
    """Answers every method; remembers who called; does first what the test says."""

    callers: list[rpc.Caller] = field(default_factory=list)
    first: Callable[[Any], Any] = lambda _request: None
    answered: int = 0

    def __getattr__(self, method: str) -> Any:
        return partial(self._stream if method.startswith("Stream") else self._answer, method)

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
        return tokens.mint(self.pki.token_key.read_bytes(), audience=audience, **given)


def written(folder: Path, certificate: bytes, key: bytes, ca: Path) -> rpc.TLSFiles:
    (folder / "certificate.pem").write_bytes(certificate)
    (folder / "key.pem").write_bytes(key)
    return rpc.TLSFiles(folder / "certificate.pem", folder / "key.pem", ca)


@pytest.fixture
async def house(pki: Pki) -> AsyncIterator[House]:
    clock = MonotonicClock()
    verifier = tokens.Verifier(pki.token_public_key.read_bytes(), clock)
    servicer = Servicer()
    server = rpc.Server("access", "127.0.0.1:0", pki.tls("access"), verifier, clock)
    for contract, register in CONTRACTS.items():
        server.add(register, servicer, contract)
    gateways = rpc.Server("ingest", "127.0.0.1:0", pki.gateway_tls("ingest"), None, clock)
    gateways.add(CONTRACTS[GATEWAY], servicer, GATEWAY)
    async with AsyncExitStack() as resources:
        port = await server.start()
        resources.push_async_callback(server.stop, 0.1)
        gateway_port = await gateways.start()
        resources.push_async_callback(gateways.stop, 0.1)
        yield House(pki, servicer, port, gateway_port, resources)


def raising(error: Exception) -> Callable[[Any], Any]:
    def raise_it(_request: Any) -> None:
        raise error

    return raise_it


CHECK_NOTHING = access_pb2.CheckRequest()


# Who is let in at all


@pytest.mark.proves("SEC-14")
async def test_a_known_peer_with_a_users_token_is_served_and_the_servicer_knows_both(house: House) -> None:
    token = house.token()
    await house.access("bff", token).Check(CHECK_NOTHING)
    assert house.servicer.callers == [rpc.Caller("bff", "ada", "s1", token)]


async def refused_before_any_call(channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await access_pb2_grpc.AccessServiceStub(channel).Check(CHECK_NOTHING, timeout=2)
    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.proves("SEC-14")
async def test_a_certificate_of_another_authority_is_refused(house: House, tmp_path: Path) -> None:
    stranger = CertificateAuthority.create("stranger", datetime.now(UTC))
    certificate, key = stranger.issue(SERVICE_URI.format(name="bff"), ["bff.readroom"], datetime.now(UTC))
    await refused_before_any_call(house.raw(written(tmp_path, certificate, key, house.pki.service_ca)))
    assert house.servicer.callers == []


@pytest.mark.proves("SEC-14")
async def test_a_gateway_certificate_is_refused_by_the_service_listener(house: House, tmp_path: Path) -> None:
    gateway = house.identity(tmp_path, GATEWAY_URI.format(gateway_id=GATEWAY_ID), "gateway")
    await refused_before_any_call(
        house.raw(rpc.TLSFiles(gateway.certificate, gateway.key, house.pki.service_ca))
    )


async def test_a_service_certificate_is_refused_by_the_gateway_listener(house: House) -> None:
    bff = house.pki.tls("bff")
    files = rpc.TLSFiles(bff.certificate, bff.key, house.pki.gateway_ca)
    await refused_before_any_call(house.raw(files, house.gateway_port, "ingest.readroom"))


@pytest.mark.proves("SEC-14")
async def test_a_client_without_certificate_is_refused(house: House) -> None:
    async with grpc.aio.secure_channel(
        f"127.0.0.1:{house.port}",
        grpc.ssl_channel_credentials(house.pki.service_ca.read_bytes()),
        options=[("grpc.ssl_target_name_override", "access.readroom")],
    ) as channel:
        await refused_before_any_call(channel)


@pytest.mark.proves("SEC-14")
async def test_plain_text_is_refused(house: House) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{house.port}") as channel:
        await refused_before_any_call(channel)


async def test_a_client_refuses_a_server_that_is_another_service(house: House) -> None:
    channel = rpc.connect(f"127.0.0.1:{house.port}", "routing", house.pki.tls("bff"))
    house.resources.push_async_callback(channel.close)
    with pytest.raises(errors.Unavailable, match="`routing` does not answer"):
        await routing_pb2_grpc.RoutingServiceStub(channel).ListHeld(routing_pb2.ListHeldRequest())


# Which methods he may call


@pytest.mark.proves("SEC-14")
async def test_a_service_may_not_call_what_its_name_is_not_listed_for(house: House) -> None:
    request = routing_pb2.DescribeFacilityRequest()
    describe = routing_pb2_grpc.RoutingServiceStub(house.channel("access")).DescribeFacility
    await describe(request)
    assert house.servicer.callers == [rpc.Caller("access")]
    for peer in ("bff", "ingest", "routing"):
        stub = routing_pb2_grpc.RoutingServiceStub(house.channel(peer, house.token()))
        with pytest.raises(errors.Denied) as refusal:
            await stub.DescribeFacility(request)
        assert refusal.value.sentence == f"`{peer}` may not call `DescribeFacility`"
    assert len(house.servicer.callers) == 1


async def test_a_token_is_not_read_where_a_service_calls_for_itself(house: House) -> None:
    stub = routing_pb2_grpc.RoutingServiceStub(house.channel("access", "no token at all"))
    await stub.DescribeFacility(routing_pb2.DescribeFacilityRequest())
    assert house.servicer.callers == [rpc.Caller("access")]


async def test_a_gateway_calls_its_methods_on_its_listener_and_nothing_else(
    house: House, tmp_path: Path
) -> None:
    gateway = house.identity(tmp_path, GATEWAY_URI.format(gateway_id=GATEWAY_ID), "gateway")
    channel = rpc.connect(f"127.0.0.1:{house.gateway_port}", "ingest", gateway)
    house.resources.push_async_callback(channel.close)
    await ingest_pb2_grpc.GatewayServiceStub(channel).BeginTransfer(ingest_pb2.BeginTransferRequest())
    assert house.servicer.callers == [rpc.Caller(f"gateway:{GATEWAY_ID}", gateway_id=GATEWAY_ID)]
    with pytest.raises(grpc.aio.AioRpcError) as absent:
        await ingest_pb2_grpc.IngestServiceStub(channel).DescribeStudy(ingest_pb2.DescribeStudyRequest())
    assert absent.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_the_listeners_own_certificate_is_no_gateway(house: House) -> None:
    channel = rpc.connect(f"127.0.0.1:{house.gateway_port}", "ingest", house.pki.gateway_tls("ingest"))
    house.resources.push_async_callback(channel.close)
    with pytest.raises(errors.Denied, match="`ingest` may not call `BeginTransfer`"):
        await ingest_pb2_grpc.GatewayServiceStub(channel).BeginTransfer(ingest_pb2.BeginTransferRequest())


async def test_a_certificate_that_names_no_peer_calls_nothing_but_health(
    house: House, tmp_path: Path
) -> None:
    stranger = house.identity(tmp_path, "spiffe://elsewhere/service/bff")
    channel = rpc.connect(f"127.0.0.1:{house.port}", "access", stranger, token=house.token)
    house.resources.push_async_callback(channel.close)
    with pytest.raises(errors.Denied):
        await access_pb2_grpc.AccessServiceStub(channel).Check(CHECK_NOTHING)
    answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize(
    ("uris", "peer"),
    [
        (["spiffe://readroom/service/access"], Peer("access")),
        ([GATEWAY_URI.format(gateway_id=GATEWAY_ID)], Peer(f"gateway:{GATEWAY_ID}", GATEWAY_ID)),
        ([], STRANGER),
        (["spiffe://readroom/service/access", "spiffe://readroom/service/bff"], STRANGER),
        (["spiffe://readroom/service/"], STRANGER),
        (["spiffe://readroom/service/access/"], STRANGER),
        (["spiffe://readroom/service/access\n"], STRANGER),
        (["spiffe://readroom/service/gateway:x"], STRANGER),
        (["SPIFFE://readroom/service/access"], STRANGER),
        (["spiffe://readroom.example/service/access"], STRANGER),
        (["spiffe://readroom/gateway/../service/access"], STRANGER),
        (["spiffe://readroom/gateway/" + "0" * 32], STRANGER),
    ],
)
def test_a_peer_is_exactly_what_the_one_uri_of_its_certificate_says(uris: list[str], peer: Peer) -> None:
    assert peer_of(tuple(uri.encode() for uri in uris)) == peer


def test_where_a_peer_may_call_for_both_the_token_says_for_whom() -> None:
    both = Allowed("Verb", user=frozenset({"sharing"}), service=frozenset({"sharing"}))
    assert both.acting(Peer("sharing"), has_token=True) is Acting.FOR_A_USER
    assert both.acting(Peer("sharing"), has_token=False) is Acting.FOR_ITSELF


def test_a_method_without_the_option_is_open_to_nobody() -> None:
    for peer in (Peer("bff"), Peer("access"), Peer(f"gateway:{GATEWAY_ID}", GATEWAY_ID), STRANGER):
        with pytest.raises(errors.Denied):
            Allowed("Verb").acting(peer, has_token=True)


async def test_an_unknown_method_is_unimplemented(house: House) -> None:
    drop_all: Any = house.channel().unary_unary(f"/{ACCESS}/DropAll")
    with pytest.raises(grpc.aio.AioRpcError) as absent:
        await drop_all(b"")
    assert absent.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_reflection_answers_the_bff_and_nobody_else(house: House) -> None:
    async def services(peer: str) -> list[str]:
        ask = reflection_pb2_grpc.ServerReflectionStub(house.raw(house.pki.tls(peer))).ServerReflectionInfo
        question = reflection_pb2.ServerReflectionRequest(list_services="")
        async for answer in ask(iter([question]), timeout=5):
            return [service.name for service in answer.list_services_response.service]
        return []

    assert ACCESS in await services("bff")
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await services("routing")
    assert refusal.value.code() is grpc.StatusCode.PERMISSION_DENIED


CHECKS = {f"{ACCESS}/{verb}" for verb in ("Check", "CheckMany", "CheckPermission")}
VERSIONED = {"wire.ingest.v1.IngestService/DescribeStudy", "wire.ingest.v1.IngestService/ListVersions"}
CALLS = {
    "ingest": CHECKS,
    "routing": CHECKS | VERSIONED,
    "access": VERSIONED
    | {
        f"wire.routing.v1.RoutingService/{verb}"
        for verb in ("DescribeFacility", "DescribePlacement", "ListVersions")
    },
}
"""Which service calls what of another: ARCHITECTURE.md, "Calls at request time, and no others"."""


@pytest.mark.proves("SEC-14")
@pytest.mark.parametrize("peer", ["ingest", "routing", "access", "bff"])
async def test_each_peer_may_call_exactly_what_the_architecture_says(house: House, peer: str) -> None:
    house.servicer.first = raising(errors.Conflict("reached"))
    channel = house.channel(peer, house.token())
    reached, methods = set(), set()
    for contract in CONTRACTS:
        for method in descriptor_pool.Default().FindServiceByName(contract).methods:
            methods.add(f"{contract}/{method.name}")
            call: Any = (channel.unary_stream if method.server_streaming else channel.unary_unary)(
                f"/{contract}/{method.name}"
            )
            try:
                answer = call(b"")
                _ = [part async for part in answer] if method.server_streaming else await answer
            except errors.Denied:
                pass
            except errors.Conflict:
                reached.add(f"{contract}/{method.name}")
    between_services = VERSIONED | CALLS["access"]
    of_people = {method for method in methods if not method.endswith("/BeginTransfer")} - between_services
    assert reached == (of_people if peer == "bff" else CALLS[peer])


# For whom he calls


@pytest.mark.proves("SEC-14")
async def test_whoever_shows_no_valid_token_gets_one_answer(house: House) -> None:
    now = datetime.now(UTC)
    for token in (
        None,
        "",
        "x",
        house.token("ingest"),
        house.token(now=now - timedelta(seconds=61)),
        house.token(now=now + timedelta(seconds=30)),
        house.token(lifetime_s=61),
    ):
        with pytest.raises(errors.Unauthenticated) as refusal:
            await house.access("bff", token).Check(CHECK_NOTHING)
        assert refusal.value.sentence == "a valid user token is required"
    assert house.servicer.callers == []


@pytest.mark.proves("SEC-14")
async def test_a_token_for_the_peer_that_forwards_it_is_accepted_from_that_peer_only(house: House) -> None:
    await house.access("ingest", house.token("ingest")).Check(CHECK_NOTHING)
    with pytest.raises(errors.Unauthenticated):
        await house.access("routing", house.token("ingest")).Check(CHECK_NOTHING)


async def test_a_service_forwards_the_token_of_the_call_it_serves(house: House) -> None:
    forwarding = rpc.connect(f"127.0.0.1:{house.port}", "access", house.pki.tls("ingest"))
    house.resources.push_async_callback(forwarding.close)

    async def check_many_while_serving_check(request: Any) -> None:
        if isinstance(request, access_pb2.CheckRequest):
            stub = access_pb2_grpc.AccessServiceStub(forwarding)
            await stub.CheckMany(access_pb2.CheckManyRequest())

    house.servicer.first = check_many_while_serving_check
    await house.access("bff", house.token()).Check(CHECK_NOTHING)
    assert [(caller.peer, caller.login) for caller in house.servicer.callers] == [
        ("bff", "ada"),
        ("ingest", "ada"),
    ]
    with pytest.raises(errors.Unauthenticated):  # outside a call there is no token to forward
        await access_pb2_grpc.AccessServiceStub(forwarding).Check(CHECK_NOTHING)


# How it ends


@pytest.mark.parametrize("word", status.CODES)
@pytest.mark.parametrize("at_fault", [None, "rule.text"])
async def test_every_word_comes_back_with_its_sentence_and_field(
    house: House, word: type[errors.ReadroomError], at_fault: str | None
) -> None:
    house.servicer.first = raising(word("the text `Müller` is taken", field=at_fault))
    with pytest.raises(errors.ReadroomError) as unary:
        await house.access(token=house.token()).Check(CHECK_NOTHING)
    with pytest.raises(errors.ReadroomError) as stream:
        await images(house)
    for said in (unary.value, stream.value):
        assert type(said) is word
        assert (said.sentence, said.field) == ("the text `Müller` is taken", at_fault)


def test_every_word_has_a_code_of_its_own() -> None:
    words = {word for word in vars(errors).values() if isinstance(word, type)} - {errors.ReadroomError}
    assert set(status.CODES) == words
    assert len(set(status.CODES.values())) == len(words)


async def test_what_nobody_expected_says_nothing_about_itself(
    house: House,
) -> None:
    house.servicer.first = raising(KeyError("DOE^JOHN"))
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await house.access(token=house.token()).Check(CHECK_NOTHING)
    assert failure.value.code() is grpc.StatusCode.INTERNAL
    assert failure.value.details() == "internal error"
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await images(house)
    assert failure.value.details() == "internal error"


@pytest.mark.parametrize(
    "error", [TimeoutError(), ConnectionResetError(), asyncpg.ConnectionDoesNotExistError()]
)
async def test_a_part_that_does_not_answer_is_unavailable(house: House, error: Exception) -> None:
    house.servicer.first = raising(error)
    with pytest.raises(errors.Unavailable, match=r"^a part of the system does not answer$"):
        await house.access(token=house.token()).Check(CHECK_NOTHING)


async def test_a_sentence_that_is_too_long_for_a_header_is_cut(house: House) -> None:
    house.servicer.first = raising(errors.Invalid("ü" * 20_000))
    with pytest.raises(errors.Invalid, match=r"^ü{1000}$"):
        await house.access(token=house.token()).Check(CHECK_NOTHING)


async def images(house: House) -> list[Any]:
    stub = ingest_pb2_grpc.IngestServiceStub(house.channel("bff", house.token()))
    return [part async for part in stub.StreamInstance(ingest_pb2.StreamInstanceRequest())]


async def test_a_stream_arrives_whole(house: House) -> None:
    assert len(await images(house)) == 2
    assert house.servicer.callers[0].login == "ada"


async def test_a_stream_that_its_reader_leaves_is_cancelled_at_the_server(house: House) -> None:
    cancelled = asyncio.Event()

    async def wait_for_cancellation(_request: Any) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    house.servicer.first = wait_for_cancellation
    stub = ingest_pb2_grpc.IngestServiceStub(house.channel("bff", house.token()))
    parts: Any = stub.StreamInstance(ingest_pb2.StreamInstanceRequest())
    await anext(parts)
    await parts.aclose()
    await asyncio.wait_for(cancelled.wait(), 2)
    assert house.servicer.answered == 0


# Limits


@pytest.mark.proves("SEC-14")
@pytest.mark.parametrize("timeout", [None, 61, 3600])
async def test_a_call_without_a_sensible_deadline_is_refused(house: House, timeout: float | None) -> None:
    check: Any = house.raw(house.pki.tls("bff")).unary_unary(CHECK)
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await check(b"", timeout=timeout, metadata=[("authorization", f"Bearer {house.token()}")])
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.value.details() == "the call needs a deadline of at most 60 s"


@pytest.mark.parametrize("deadline_s", [0.9999, 3, 9.999, 59.99, rpc.MAX_UNARY_S])
async def test_a_deadline_up_to_the_limit_is_accepted_however_it_is_rounded(
    house: House, deadline_s: float
) -> None:
    access = house.access(token=house.token(), deadline_s=deadline_s)
    for _ in range(20):
        await access.Check(CHECK_NOTHING)


async def test_a_stream_may_take_an_hour(house: House) -> None:
    for _ in range(20):
        await images(house)


async def test_a_call_that_passes_its_deadline_is_unavailable_and_stops_at_the_server(house: House) -> None:
    cancelled = asyncio.Event()

    async def wait_for_cancellation(_request: Any) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    house.servicer.first = wait_for_cancellation
    began = time.monotonic()
    with pytest.raises(errors.Unavailable, match="`access` does not answer"):
        await house.access(token=house.token(), deadline_s=0.2).Check(CHECK_NOTHING)
    assert time.monotonic() - began < 3
    await asyncio.wait_for(cancelled.wait(), 2)


async def test_a_request_of_more_than_a_mebibyte_is_refused(house: House) -> None:
    large = access_pb2.CheckRequest(case_id="x" * (rpc.MAX_REQUEST_BYTES + 1))
    with pytest.raises(errors.Exhausted, match="too large"):
        await house.access(token=house.token()).Check(large)
    raw: Any = house.raw(house.pki.tls("bff")).unary_unary(CHECK)
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await raw(large.SerializeToString(), timeout=5)
    assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert house.servicer.callers == []


async def test_an_answer_of_more_than_four_mebibytes_is_refused(house: House) -> None:
    house.servicer.first = lambda _request: access_pb2.CheckResponse(
        decision=access_pb2.Decision(facility_id="x" * (rpc.MAX_RESPONSE_BYTES + 1))
    )
    with pytest.raises(errors.Exhausted, match="too large"):
        await house.access(token=house.token()).Check(CHECK_NOTHING)


async def test_a_channel_finds_its_server_again_within_a_second_or_two(house: House, pki: Pki) -> None:
    clock = MonotonicClock()

    def server(port: int) -> rpc.Server:
        made = rpc.Server("access", f"127.0.0.1:{port}", pki.tls("access"), None, clock)
        made.add(access_pb2_grpc.add_AccessServiceServicer_to_server, house.servicer, ACCESS)
        return made

    first = server(0)
    port = await first.start()
    async with rpc.connect(f"127.0.0.1:{port}", "access", pki.tls("bff")) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        await stub.Check(health_pb2.HealthCheckRequest())
        await first.stop(0)
        with pytest.raises(errors.Unavailable, match="`access` does not answer"):
            await stub.Check(health_pb2.HealthCheckRequest())
        second = server(port)
        await second.start()

        async def answers() -> bool:
            try:
                return bool(await stub.Check(health_pb2.HealthCheckRequest()))
            except errors.Unavailable:
                return False

        await eventually(answers, within=3)
        await second.stop(0)


async def test_an_address_that_is_taken_is_a_clear_sentence(house: House, pki: Pki) -> None:
    rival = rpc.Server("access", f"127.0.0.1:{house.port}", pki.tls("access"), None, MonotonicClock())
    with pytest.raises(errors.Unavailable, match=f"cannot listen on `127.0.0.1:{house.port}`"):
        await rival.start()
