"""Traces: one trace id from the first caller to the last, through gRPC, HTTP and what headers carry."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from kernel.errors import Invalid
from local.pki import Pki
from plumbing import probes, rpc, telemetry
from tests.wait import Stopwatch, eventually


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """The spans that ended."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry, "_tracer", provider.get_tracer("test"))
    yield exporter
    provider.shutdown()


def named(spans: InMemorySpanExporter, name: str, kind: SpanKind) -> ReadableSpan:
    (span,) = [span for span in spans.get_finished_spans() if (span.name, span.kind) == (name, kind)]
    return span


def ids(span: ReadableSpan) -> tuple[int, int]:
    context = span.get_span_context()
    assert context is not None
    return context.trace_id, context.span_id


def is_child(child: ReadableSpan, parent: ReadableSpan) -> bool:
    return child.parent is not None and (child.parent.trace_id, child.parent.span_id) == ids(parent)


@pytest.fixture
async def channel(pki: Pki) -> AsyncIterator[Any]:
    server = rpc.Server("access", "127.0.0.1:0", pki.tls("access"), None)
    port = await server.start()
    async with rpc.connect(f"127.0.0.1:{port}", "access", pki.tls("bff")) as connected:
        yield connected
    await server.stop(0)


async def test_a_trace_goes_on_through_grpc(recorded: InMemorySpanExporter, channel: Any) -> None:
    with telemetry.span("open case"):
        await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    method = "/grpc.health.v1.Health/Check"
    root = named(recorded, "open case", SpanKind.INTERNAL)
    client = named(recorded, method, SpanKind.CLIENT)
    server = named(recorded, method, SpanKind.SERVER)
    assert is_child(client, root)
    assert is_child(server, client)


async def test_a_trace_goes_on_through_a_stream(recorded: InMemorySpanExporter, channel: Any) -> None:
    with telemetry.span("fetch images"):
        answers = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        await anext(answers)
    await answers.aclose()
    await channel.close()
    root = named(recorded, "fetch images", SpanKind.INTERNAL)

    watched = await eventually(
        lambda: [span for span in recorded.get_finished_spans() if span.kind is SpanKind.SERVER]
    )
    assert is_child(watched[0], root)


async def test_a_trace_goes_on_through_http(recorded: InMemorySpanExporter) -> None:
    seen: list[str] = []

    async def study(_request: web.Request) -> web.Response:
        seen.append(f"{trace.get_current_span().get_span_context().trace_id:032x}")
        return web.Response()

    app = web.Application(middlewares=[probes.http_spans])
    app.router.add_get("/studies/{study}", study)
    async with TestClient(TestServer(app)) as client:
        with telemetry.span("page"):
            await client.get("/studies/1.2.3", headers=telemetry.inject())
            await client.get("/nothing/DOE")
    page = named(recorded, "page", SpanKind.INTERNAL)
    server = named(recorded, "GET /studies/{study}", SpanKind.SERVER)
    assert is_child(server, page)
    assert seen == [f"{ids(page)[0]:032x}"]
    assert named(recorded, "GET unknown", SpanKind.SERVER)


def test_a_trace_goes_on_through_headers_kept_for_later(recorded: InMemorySpanExporter) -> None:
    with telemetry.span("say"):
        kept = telemetry.inject()
    with telemetry.span("hear", SpanKind.CONSUMER, kept):
        pass
    assert is_child(named(recorded, "hear", SpanKind.CONSUMER), named(recorded, "say", SpanKind.INTERNAL))


def test_a_failure_in_a_span_is_marked_and_not_quoted(recorded: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="DOE"), telemetry.span("open case"):
        raise ValueError("DOE^JOHN")
    span = named(recorded, "open case", SpanKind.INTERNAL)
    assert not span.status.is_ok
    assert "DOE" not in span.to_json()


async def test_a_call_that_fails_marks_its_span_with_the_word(
    recorded: InMemorySpanExporter, channel: Any
) -> None:
    with pytest.raises(Invalid):
        await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=61)
    span = named(recorded, "/grpc.health.v1.Health/Check", SpanKind.SERVER)
    assert (span.status.is_ok, span.status.description) == (False, "Invalid")


@pytest.mark.parametrize("headers", [{}, {"traceparent": "x"}, {"traceparent": "00-0-0-01"}])
def test_headers_without_a_trace_begin_one(recorded: InMemorySpanExporter, headers: dict[str, str]) -> None:
    with telemetry.span("hear", headers=headers) as span:
        assert int(span.request_id, 16)
    assert named(recorded, "hear", SpanKind.INTERNAL).parent is None


async def test_without_a_collector_the_trace_id_alone_goes_on(channel: Any) -> None:
    assert telemetry._tracer is None
    with telemetry.span("open case") as outer:
        with telemetry.span("inner", headers=telemetry.inject()) as inner:
            assert inner.request_id == outer.request_id
        with telemetry.span("inner") as inner:
            assert inner.request_id == outer.request_id
    with telemetry.span("open case") as another:
        assert another.request_id not in (outer.request_id, "0" * 32)


def test_a_collector_that_is_away_does_not_keep_a_process_from_ending(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(telemetry, "_tracer", None)
    shutdown = telemetry.configure("access", "http://127.0.0.1:1")
    with telemetry.span("open case"):
        pass
    watch = Stopwatch()
    shutdown()
    assert watch.seconds() < 2
