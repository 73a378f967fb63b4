"""gRPC: who is let in, which methods they may call, and for whom."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc  # type: ignore[import-untyped]

from kernel import errors
from local.pki import Pki
from plumbing import rpc
from plumbing.authority import CertificateAuthority
from plumbing.callers import GATEWAY_URI, SERVICE_URI, STRANGER, Acting, Allowed, Peer, peer_of
from tests.plumbing.a_house import (
    ACCESS,
    CHECK_NOTHING,
    CONTRACTS,
    GATEWAY_ID,
    House,
    a_house,
    raising,
    written,
)
from wire.access.v1 import access_pb2, access_pb2_grpc
from wire.ingest.v1 import ingest_pb2, ingest_pb2_grpc
from wire.routing.v1 import routing_pb2, routing_pb2_grpc


@pytest.fixture
async def house(pki: Pki) -> AsyncIterator[House]:
    async with a_house(pki) as served:
        yield served


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


# Which methods they may call


@pytest.mark.proves("SEC-14")
async def test_a_service_may_not_call_what_its_name_is_not_listed_for(house: House) -> None:
    request = routing_pb2.DescribeFacilityRequest()
    describe = routing_pb2_grpc.RoutingServiceStub(house.channel("access")).DescribeFacility
    await describe(request)
    assert house.servicer.callers == [rpc.Caller("access")]
    for peer in ("bff", "notify", "routing"):
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
    with pytest.raises(errors.Unavailable, match="UNIMPLEMENTED"):
        await ingest_pb2_grpc.IngestServiceStub(channel).DescribeStudy(ingest_pb2.DescribeStudyRequest())


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
    with pytest.raises(errors.Unavailable, match="UNIMPLEMENTED"):
        await drop_all(b"")


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


def methods(service: str, *names: str) -> set[str]:
    return {f"wire.{service}.v1.{service.capitalize()}Service/{name}" for name in names}


CHECKS = methods("access", "Check", "CheckMany", "CheckPermission")
FACTS = methods("facts", "ListFacts")
OF_PEOPLE_TOO = methods("access", "ListCases", "ListRelatedCases")
"""What people ask by the pages, and a service too that serves something of it."""

CALLS = {
    "ingest": CHECKS
    | methods("access", "BeginDelete", "ListCases", "CheckAgain")
    | OF_PEOPLE_TOO
    | methods("routing", "DescribeFacility", "CheckHeld", "DescribePurge", "ListUndecided")
    | methods("ingest", "ReadPack"),
    "routing": CHECKS
    | FACTS
    | methods("access", "BeginMove")
    | methods("ingest", "DescribeStudy", "ListVersions", "DescribeDeletion"),
    "access": FACTS
    | methods("ingest", "DescribeStudy", "ListVersions", "DescribeDeletion")
    | methods("routing", "DescribeFacility", "DescribePlacement", "EndMove", "ListVersions")
    | methods("reporting", "DescribeReading", "ListVersions"),
    # The version before asks DescribeCases whether a case is live: it may go with the next version.
    "reporting": CHECKS | methods("access", "CheckDeletion", "DescribeCases"),
    "sharing": CHECKS
    | methods("access", "CheckDeletion", "ExtendBucket", "PrepareGrant")
    | methods("access", "GrantBuckets", "ChangeBuckets", "RegisterSession", "DescribeUsers", "DescribeCases")
    | methods("notify", "CheckNumbers", "SendText"),
    "notify": CHECKS
    | FACTS
    | methods("access", "DescribeUsers", "DescribeCases", "ListVersions")
    | methods("sharing", "DescribeBucket"),
}
"""Which service calls what of another: "Calls at request time, and no others"."""

OF_GATEWAYS = {
    f"wire.ingest.v1.GatewayService/{name}"
    for name in ("BeginTransfer", "EndTransfer", "Heartbeat", "RenewCertificate")
}


@pytest.mark.proves("SEC-14")
@pytest.mark.parametrize("peer", [*CALLS, "bff"])
async def test_each_peer_may_call_exactly_what_the_architecture_says(house: House, peer: str) -> None:
    house.servicer.first = raising(errors.Conflict("reached"))
    channel = house.channel(peer, house.token())
    reached, every = set(), set()
    for contract in CONTRACTS:
        for method in descriptor_pool.Default().FindServiceByName(contract).methods:
            every.add(f"{contract}/{method.name}")
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
    of_people = every - OF_GATEWAYS - (set().union(*CALLS.values()) - CHECKS - OF_PEOPLE_TOO)
    assert reached == (of_people if peer == "bff" else CALLS[peer])


# For whom they call


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


@pytest.mark.proves("SEC-14")
@pytest.mark.parametrize("other", ["valid", "expired", "nobody's", "empty"])
@pytest.mark.parametrize("first", [True, False])
async def test_two_authorizations_are_refused_whichever_comes_first(
    house: House, other: str, *, first: bool
) -> None:
    """One part on the way may have judged the one, and we would act for the other."""
    at = datetime.now(UTC) - timedelta(hours=1)
    others = {
        "valid": f"Bearer {house.token(login='mallory')}",
        "expired": f"Bearer {house.token(now=at)}",
        "nobody's": "Basic YTpi",
        "empty": "",
    }
    both = [("authorization", f"Bearer {house.token()}"), ("authorization", others[other])]
    check: Any = house.raw(house.pki.tls("bff")).unary_unary(f"/{ACCESS}/Check")

    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await check(b"", timeout=5, metadata=both if first else both[::-1])

    assert refusal.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert house.servicer.callers == []


async def test_two_authorizations_are_refused_where_a_service_calls_for_itself(house: House) -> None:
    check: Any = house.raw(house.pki.tls("notify")).unary_unary(f"/{ACCESS}/DescribeUsers")
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await check(b"", timeout=5, metadata=[("authorization", "Bearer x"), ("authorization", "Bearer y")])
    assert refusal.value.code() is grpc.StatusCode.UNAUTHENTICATED
