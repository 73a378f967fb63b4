"""gRPC: how calls end, how errors travel, and what is too long or too large."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import asyncpg
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from prometheus_client import REGISTRY

from kernel import errors
from kernel.clock import MonotonicClock
from local.pki import Pki
from plumbing import answers, log, rpc, status, telemetry, tokens
from plumbing.tokenkeys import KeyFile
from tests.plumbing.a_house import (
    ACCESS,
    CHECK,
    CHECK_NOTHING,
    House,
    a_house,
    images,
    raising,
)
from tests.wait import eventually
from wire.access.v1 import access_pb2, access_pb2_grpc
from wire.ingest.v1 import ingest_pb2, ingest_pb2_grpc


@pytest.fixture
async def house(pki: Pki) -> AsyncIterator[House]:
    async with a_house(pki) as served:
        yield served


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
    words = {word for word in errors.ReadroomError.__subclasses__() if word.__module__ == errors.__name__}
    assert set(status.CODES) == words
    assert len(set(status.CODES.values())) == len(words)


async def test_what_nobody_expected_says_nothing_about_itself(
    house: House,
) -> None:
    house.servicer.first = raising(KeyError("DOE^JOHN"))
    raw: Any = house.raw(house.pki.tls("bff")).unary_unary(CHECK)
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await raw(b"", timeout=5, metadata=[("authorization", f"Bearer {house.token()}")])
    assert failure.value.code() is grpc.StatusCode.INTERNAL
    assert failure.value.details() == "internal error"
    for asked in (house.access(token=house.token()).Check(CHECK_NOTHING), images(house)):
        with pytest.raises(answers.BadAnswer, match=r"^`access` gave an answer .*\(INTERNAL\)"):
            await asked


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


@pytest.mark.parametrize(
    ("first", "told"),
    [
        (lambda _request: None, {"word": "ok", "field": None}),
        (raising(errors.Invalid("no", field="case_id")), {"word": "Invalid", "field": "case_id"}),
        (raising(ConnectionResetError("DOE^JOHN")), {"word": "Unavailable", "field": None}),
        (raising(KeyError("DOE^JOHN")), {"word": "Unexpected", "field": None}),
    ],
)
async def test_each_call_makes_one_line_and_one_observation(
    house: House, monkeypatch: pytest.MonkeyPatch, first: Any, told: dict[str, Any]
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(log._output, "line", lines.append)
    labels = {"method": CHECK, "word": told["word"]}
    before = REGISTRY.get_sample_value("readroom_rpc_seconds_count", labels) or 0
    house.servicer.first = first
    with telemetry.span("page") as page, suppress(errors.ReadroomError):
        await house.access(token=house.token()).Check(CHECK_NOTHING)
    served = await eventually(lambda: [line for line in lines if '"served"' in line])
    [line] = map(json.loads, served)
    assert {key: line[key] for key in told} == told
    assert (line["method"], line["peer"], line["request_id"]) == (CHECK, "bff", page.request_id)
    assert REGISTRY.get_sample_value("readroom_rpc_seconds_count", labels) == before + 1
    assert "DOE" not in "".join(lines)


async def test_what_one_call_binds_is_not_told_of_the_next(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(log._output, "line", lines.append)
    bff, ingest = house.access(token=house.token()), house.access("ingest", house.token())
    both = [bff.Check(CHECK_NOTHING), ingest.CheckMany(access_pb2.CheckManyRequest())]
    await asyncio.gather(*both)
    await images(house)
    served = [json.loads(line) for line in lines]
    assert sorted((line["peer"], line["method"].rpartition("/")[2]) for line in served) == [
        ("bff", "Check"),
        ("bff", "StreamInstance"),
        ("ingest", "CheckMany"),
    ]
    assert len({line["request_id"] for line in served}) == 3


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
    def server(port: int) -> rpc.Server:
        made = rpc.Server("access", f"127.0.0.1:{port}", pki.tls("access"), None)
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


@pytest.mark.proves("OPS-17", part="clients balance")
async def test_calls_go_round_the_processes_behind_a_name_and_past_one_that_ends(
    house: House, pki: Pki
) -> None:
    async with a_house(pki) as other:
        addresses = ",".join(f"127.0.0.1:{each.port}" for each in (house, other))
        token = house.token()
        async with rpc.connect(f"ipv4:{addresses}", "access", pki.tls("bff"), token=lambda: token) as channel:
            stub = access_pb2_grpc.AccessServiceStub(channel)

            async def both_are_asked() -> bool:
                await stub.Check(CHECK_NOTHING)
                return bool(house.servicer.callers and other.servicer.callers)

            await eventually(both_are_asked, within=5)
            before = len(house.servicer.callers)
            for _ in range(10):
                await stub.Check(CHECK_NOTHING)
            assert len(house.servicer.callers) == before + 5
            await house.resources.aclose()
            for _ in range(10):
                await stub.Check(CHECK_NOTHING)


@pytest.mark.proves("OPS-17", part="a maximum connection age")
async def test_a_connection_ends_after_a_while_and_no_call_with_it(house: House, pki: Pki) -> None:
    class Peers:
        def __init__(self) -> None:
            self.seen: set[str] = set()

        def __getattr__(self, _method: str) -> Any:
            async def answer(_request: Any, context: Any) -> access_pb2.CheckResponse:
                self.seen.add(context.peer())
                return access_pb2.CheckResponse()

            return answer

    peers = Peers()
    verifier = tokens.Verifier(KeyFile(pki.token_keys), MonotonicClock())
    server = rpc.Server("access", "127.0.0.1:0", pki.tls("access"), verifier, connection_age_s=0.1)
    server.add(access_pb2_grpc.add_AccessServiceServicer_to_server, peers, ACCESS)
    port, token = await server.start(), house.token()
    async with rpc.connect(f"127.0.0.1:{port}", "access", pki.tls("bff"), token=lambda: token) as channel:
        stub = access_pb2_grpc.AccessServiceStub(channel)

        async def has_connected_again() -> bool:
            await stub.Check(CHECK_NOTHING)
            return len(peers.seen) >= 3

        await eventually(has_connected_again)
    await server.stop(0)


async def test_an_address_that_is_taken_is_a_clear_sentence(house: House, pki: Pki) -> None:
    rival = rpc.Server("access", f"127.0.0.1:{house.port}", pki.tls("access"), None)
    with pytest.raises(errors.Unavailable, match=f"cannot listen on `127.0.0.1:{house.port}`"):
        await rival.start()
