"""Metrics for Prometheus, and traces that follow a request through gRPC, HTTP and JetStream.

A trace id always goes along, because it is the request id of the logs; spans are recorded and sent only
where an OTLP endpoint is configured. `inject` and `extract` carry them as W3C `traceparent`.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from random import getrandbits

import grpc
from aiohttp import web
from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import Histogram

from plumbing import remote

CALLS = Histogram(
    "readroom_rpc_seconds",
    "Calls served, by method and by the word they ended with",
    ["method", "word"],
    # From a cached answer to the longest deadline of a unary call.
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60),
)

# A process that ends waits no longer than this for a collector that is away.
_SEND_WITHIN_S = 1

_tracer: trace.Tracer | None = None
_propagator = TraceContextTextMapPropagator()


def configure(service: str, otlp_endpoint: str | None, ca: Path | None = None) -> Callable[[], None]:
    """Sets this process's tracing up; answers what sends the last spans and ends it.

    `ca` is of the collector's certificate, where the endpoint is `https://`.
    """
    global _tracer
    if otlp_endpoint is None:
        return lambda: None
    # A tenth of a second of each start without an endpoint.
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource({"service.name": service}), shutdown_on_exit=False)
    insecure = remote.context(otlp_endpoint, remote.COLLECTOR, ca) is None
    credentials = None if insecure or ca is None else grpc.ssl_channel_credentials(ca.read_bytes())
    exporter = OTLPSpanExporter(
        endpoint=otlp_endpoint, insecure=insecure, credentials=credentials, timeout=_SEND_WITHIN_S
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    _tracer = provider.get_tracer("readroom")
    return provider.shutdown


def span(
    name: str, kind: SpanKind = SpanKind.INTERNAL, parent: Context | None = None
) -> AbstractContextManager[Span]:
    """A span around the block; `parent` is what `extract` answered, else it is the current one.

    An exception marks the span with its kind alone: its message may quote what it choked on.
    """
    return _ids_only(parent) if _tracer is None else _recorded(_tracer, name, kind, parent)


@contextmanager
def _recorded(tracer: trace.Tracer, name: str, kind: SpanKind, parent: Context | None) -> Iterator[Span]:
    with tracer.start_as_current_span(
        name, parent, kind, record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield current
        except Exception as error:
            current.set_status(StatusCode.ERROR, type(error).__name__)
            raise


@contextmanager
def _ids_only(parent: Context | None) -> Iterator[Span]:
    """The parent's ids, or new ones: where nothing is recorded, they still tell what belongs together."""
    current = trace.get_current_span(parent)
    if not current.get_span_context().is_valid:
        new = SpanContext(getrandbits(128), getrandbits(64), is_remote=False)
        current = NonRecordingSpan(new)
    token = attach(trace.set_span_in_context(current, parent))
    try:
        yield current
    finally:
        detach(token)


def inject() -> dict[str, str]:
    """What carries the current span to another process, as headers; empty where there is none."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier


def extract(headers: Mapping[str, str]) -> Context:
    """The span that `inject` wrote into `headers`, as a parent."""
    return _propagator.extract(headers)


def request_id(of: Span) -> str:
    """The trace id of a span, 32 hexadecimal digits."""
    return f"{of.get_span_context().trace_id:032x}"


@web.middleware
async def http_spans(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """aiohttp: a span around each request, named after its route."""
    resource = request.match_info.route.resource
    name = f"{request.method} {resource.canonical if resource else 'unknown'}"
    with span(name, SpanKind.SERVER, extract(request.headers)):
        return await handler(request)
