"""Metrics for Prometheus, and traces that follow a request through gRPC, HTTP and JetStream.

A trace id always goes along, because it is the request id of the logs; spans are recorded and sent only
where an OTLP endpoint is configured. Headers carry it as W3C `traceparent`: `inject` writes them, and `span`
goes on from them. Without an endpoint a span costs next to nothing: it hands on the headers that came.
"""

import re
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from pathlib import Path
from random import getrandbits
from types import MappingProxyType, TracebackType
from typing import Protocol

import grpc
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode
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

_PARENT, _STATE = "traceparent", "tracestate"
# W3C Trace Context 3.2: version 00, and neither id may be all zeros.
_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_MAX_STATE_CHARACTERS = 512

_tracer: trace.Tracer | None = None
_propagator = TraceContextTextMapPropagator()


class Span(Protocol):
    """A part of a request, for as long as the block lasts; calls made and facts said within are its children.

    Attributes:
        request_id: the trace id, 32 hexadecimal digits.
    """

    request_id: str

    def __enter__(self) -> "Span": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...

    def fail(self, word: str) -> None:
        """Marks the span with the word for what failed. An exception that leaves the block does it by itself,
        with its kind alone: its message may quote what it choked on."""
        ...


def span(name: str, kind: SpanKind = SpanKind.INTERNAL, headers: Mapping[str, str] | None = None) -> Span:
    """A span around the block. It goes on from the `headers` that came with a request, which begin a trace if
    they carry none; without headers from the current span."""
    return _Carried(headers) if _tracer is None else _Recorded(_tracer, name, kind, headers)


def inject() -> dict[str, str]:
    """What carries the current span to another process, as headers; empty where there is none."""
    if _tracer is None:
        return dict(_carried.get())
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier


_carried: ContextVar[Mapping[str, str]] = ContextVar("carried", default=MappingProxyType({}))


class _Carried:
    """The ids that came, or new ones: where nothing is recorded, they still tell what belongs together."""

    __slots__ = ("_before", "_headers", "request_id")

    def __init__(self, headers: Mapping[str, str] | None) -> None:
        came = _carried.get() if headers is None else headers
        parent = came.get(_PARENT)
        found = _TRACEPARENT.fullmatch(parent) if parent else None
        if parent and found:
            self.request_id = found[1]
            self._headers = {_PARENT: parent}
            state = came.get(_STATE)
            if state and len(state) <= _MAX_STATE_CHARACTERS:
                self._headers[_STATE] = state
        else:
            self.request_id = f"{getrandbits(128):032x}"
            self._headers = {_PARENT: f"00-{self.request_id}-{getrandbits(64):016x}-00"}

    def __enter__(self) -> "_Carried":
        self._before: Token[Mapping[str, str]] = _carried.set(self._headers)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        _carried.reset(self._before)

    def fail(self, word: str) -> None:
        """Nobody records it."""


class _Recorded:
    """A span that is sent to the collector."""

    def __init__(
        self, tracer: trace.Tracer, name: str, kind: SpanKind, headers: Mapping[str, str] | None
    ) -> None:
        parent = None if headers is None else _propagator.extract(headers)
        self._current = tracer.start_span(name, parent, kind)
        self.request_id = f"{self._current.get_span_context().trace_id:032x}"
        self._within = trace.use_span(
            self._current, end_on_exit=True, record_exception=False, set_status_on_exception=False
        )

    def __enter__(self) -> "_Recorded":
        self._within.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            self.fail(type(error).__name__)
        self._within.__exit__(kind, error, at)

    def fail(self, word: str) -> None:
        self._current.set_status(StatusCode.ERROR, word)


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
