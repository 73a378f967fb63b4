"""Metrics for Prometheus, and traces that follow a request through gRPC, HTTP and JetStream.

Spans always exist, because their trace id is the request id of the logs; they are recorded and sent only
where an OTLP endpoint is configured. `inject` and `extract` carry them as W3C `traceparent`.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager

from aiohttp import web
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from opentelemetry.trace import Span, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import Histogram

CALLS = Histogram(
    "readroom_rpc_seconds",
    "Calls served, by method and by the word they ended with",
    ["method", "word"],
    # From a cached answer to the longest deadline of a unary call.
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60),
)

_tracer = trace.get_tracer("readroom")
_propagator = TraceContextTextMapPropagator()


def configure(service: str, otlp_endpoint: str | None) -> Callable[[], None]:
    """Sets this process's tracing up; answers what sends the last spans and ends it."""
    provider = TracerProvider(
        sampler=ALWAYS_ON if otlp_endpoint else ALWAYS_OFF,
        resource=Resource({"service.name": service}),
        shutdown_on_exit=False,
    )
    if otlp_endpoint:
        insecure = not otlp_endpoint.startswith("https://")
        exporter = OTLPSpanExporter(endpoint=otlp_endpoint, insecure=insecure, timeout=2)
        provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return provider.shutdown


@contextmanager
def span(name: str, kind: SpanKind = SpanKind.INTERNAL, parent: Context | None = None) -> Iterator[Span]:
    """A span around the block; `parent` is what `extract` answered, else it is the current one."""
    with _tracer.start_as_current_span(name, context=parent, kind=kind, record_exception=False) as current:
        yield current


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
