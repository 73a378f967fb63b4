"""gRPC servers that know who calls and what they may; `dialing.py` has the channels that carry it on.

A server wraps each method once, when it is added; what a call needs then is looked up in nothing but its
own closure. Every call: allow-list by the certificate's URI, user token where one is due, deadline, one
table from errors to statuses, one log line, one observation, one span.
"""

import asyncio
import inspect
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import aclosing
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc  # type: ignore[import-untyped]
from opentelemetry.trace import SpanKind
from prometheus_client import Histogram

from kernel.errors import Invalid, Unavailable
from plumbing import callers, log, status, telemetry, tls, tokens
from plumbing.callers import Acting, Allowed, Caller, Peer, caller
from plumbing.dialing import AUTHORIZATION, BEARER, COMMON_OPTIONS, MAX_RESPONSE_BYTES, MAX_STREAM_S, connect
from plumbing.tls import TLSFiles

__all__ = ["MAX_RESPONSE_BYTES", "Caller", "Server", "TLSFiles", "caller", "connect"]

MAX_REQUEST_BYTES = 1 << 20
# A deadline beyond these is refused: whoever waits longer than a minute has gone (streams carry studies).
MAX_UNARY_S = 60
CONNECTION_AGE_S = 300.0
"""After so long, more or less a tenth, a server asks who is connected to connect anew: they look the name up
again, and find processes that have started since. What is under way goes on, a stream for an hour at most."""

# gRPC sends a deadline with three or four digits, rounded up.
_ROUNDED_UP = 1.01

_SERVER_OPTIONS = [
    *COMMON_OPTIONS,
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    # A second process on the same port is an error, not a rival.
    ("grpc.so_reuseport", 0),
    ("grpc.server_handshake_timeout_ms", 5_000),
    ("grpc.max_connection_age_grace_ms", MAX_STREAM_S * 1000),
]
_log = log.get()

_Behavior = Callable[[Any, Any], Any]
_Handlers = dict[str, "grpc.RpcMethodHandler[Any, Any]"]


_Failure = tuple[grpc.StatusCode, str, tuple[tuple[str, str], ...]]
"""Status code, details and trailing metadata."""

_UNEXPECTED: _Failure = grpc.StatusCode.INTERNAL, "internal error", ()


class Server:
    """A gRPC server behind mutual TLS.

    Args:
        name: the service's own name, the audience of user tokens shown to it.
        listen: `host:port`.
        tls: its identity, and the CA of the peers it lets in.
        verifier: of user tokens; without one no method can be called for a user.
        connection_age_s: after which connections are asked to end.
    """

    def __init__(
        self,
        name: str,
        listen: str,
        tls: TLSFiles,
        verifier: tokens.Verifier | None,
        connection_age_s: float = CONNECTION_AGE_S,
    ) -> None:
        self._connection_age_ms = int(connection_age_s * 1000)
        self._name = name
        self._listen = listen
        self._tls = tls
        self._verifier = verifier
        self._handlers: _Handlers = {}
        self._services: list[str] = []
        self._health = health.aio.HealthServicer()
        self._server: grpc.aio.Server | None = None

    def add(
        self, register: Callable[[Any, grpc.aio.Server], None], servicer: object, service_full_name: str
    ) -> None:
        """Serves `servicer`; `register` is the generated `add_…Servicer_to_server`."""
        self._add(register, servicer, service_full_name, callers.allow_list(service_full_name))

    def _add(
        self,
        register: Callable[[Any, Any], None],
        servicer: object,
        service: str,
        allow_list: Mapping[str, Allowed],
    ) -> None:
        generated = _Recorder()
        register(servicer, generated)
        for method, allowed in allow_list.items():
            path = f"/{service}/{method}"
            self._handlers[path] = self._guarded(path, generated.handlers[method], allowed)
        self._services.append(service)

    async def start(self) -> int:
        """Begins to serve; answers the port. Raises Unavailable if it cannot listen."""
        self._add(
            health_pb2_grpc.add_HealthServicer_to_server,
            self._health,
            health.SERVICE_NAME,
            {method: Allowed(method, anybody=True) for method in ("Check", "Watch")},
        )
        self._add(
            reflection_pb2_grpc.add_ServerReflectionServicer_to_server,
            reflection.aio.ReflectionServicer([*self._services, reflection.SERVICE_NAME]),
            reflection.SERVICE_NAME,
            {method: Allowed(method, service=frozenset({"bff"})) for method in ("ServerReflectionInfo",)},
        )
        age = ("grpc.max_connection_age_ms", self._connection_age_ms)
        server = grpc.aio.server(handlers=[_Lookup(self._handlers)], options=[*_SERVER_OPTIONS, age])
        try:
            port = server.add_secure_port(self._listen, tls.grpc_server_credentials(self._tls))
        except RuntimeError as error:
            raise Unavailable(f"cannot listen on `{self._listen}`: taken, or not ours") from error
        await server.start()
        self._server = server
        return port

    async def stop(self, grace: float = 2.0) -> None:
        """Takes no more calls, and ends those that have not ended by themselves after `grace` seconds."""
        if self._server is not None:
            await self._health.enter_graceful_shutdown()
            await self._server.stop(grace)

    def _guarded(self, path: str, handler: Any, allowed: Allowed) -> "grpc.RpcMethodHandler[Any, Any]":
        """The generated handler, with its behavior behind everything that a call must pass."""
        shape = next(shape for shape in _SHAPES if getattr(handler, shape) is not None)
        behavior: _Behavior = getattr(handler, shape)
        if handler.response_streaming:
            behavior = _writing(behavior)
        guard = _Guard(path, allowed, self._name, self._verifier, shape.endswith("stream"))
        guarded: grpc.RpcMethodHandler[Any, Any] = handler._replace(**{shape: guard.around(behavior)})
        return guarded


def _writing(behavior: _Behavior) -> _Behavior:
    """A behavior that writes each of its answers, in the form of one that has a single answer."""

    async def write(request: Any, context: Any) -> None:
        answers = behavior(request, context)
        if not inspect.isasyncgen(answers):
            await answers
            return
        async with aclosing(answers):
            async for answer in answers:
                await context.write(answer)

    return write


_SHAPES = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


class _Recorder:
    """Stands in for a server while generated code registers a servicer, and keeps what it is given."""

    def __init__(self) -> None:
        self.handlers: _Handlers = {}

    def add_generic_rpc_handlers(self, _handlers: object) -> None:
        """The same handlers in another wrapping."""

    def add_registered_method_handlers(self, _service: str, handlers: _Handlers) -> None:
        self.handlers.update(handlers)


class _Lookup(grpc.GenericRpcHandler):
    """Finds a method by its path; an unknown one is UNIMPLEMENTED."""

    def __init__(self, handlers: _Handlers) -> None:
        self._handlers = handlers

    def service(self, details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any] | None":
        return self._handlers.get(details.method)


class _Guard:
    """What every call of one method passes before and after its behavior."""

    def __init__(
        self,
        path: str,
        allowed: Allowed,
        own_name: str,
        verifier: tokens.Verifier | None,
        is_stream: bool,
    ) -> None:
        self._path = path
        self._allowed = allowed
        self._own_name = own_name
        self._verifier = verifier
        self._max_s = MAX_STREAM_S if is_stream else MAX_UNARY_S
        self._observed: dict[str, Histogram] = {}

    def around(self, behavior: _Behavior) -> _Behavior:
        """Serves calls: lets each in, and tells how it ended. Nothing unexpected shows in how one fails."""

        async def serve(request: Any, context: Any) -> Any:
            began = time.perf_counter()
            headers, repeated = _headers(context.invocation_metadata())
            peer = callers.peer_of(tuple(context.auth_context().get("peer_uri", ())))
            with (
                telemetry.span(self._path, SpanKind.SERVER, headers) as span,
                log.bound(method=self._path, peer=peer.name, request_id=span.request_id),
            ):
                try:
                    callers.current.set(self._admit(peer, headers, repeated, context.time_remaining()))
                    answer = await behavior(request, context)
                except asyncio.CancelledError:
                    self._tell(began, "Cancelled")
                    raise
                except grpc.aio.AbortError:
                    self._tell(began, "Aborted")
                    raise
                except Exception as error:
                    failure = self._failed(error, span, began)
                else:
                    self._tell(began, "ok")
                    return answer
            return await context.abort(*failure)

        return serve

    def _failed(self, error: Exception, span: telemetry.Span, began: float) -> _Failure:
        said = status.word(error)
        if said is None:
            word, field, failure = "Unexpected", None, _UNEXPECTED
            _log.exception("unexpected error")
        else:
            word, field, failure = type(said).__name__, said.field, status.to_status(said)
            if said is not error:
                _log.warning("a part does not answer", exc_info=error)
        span.fail(word)
        self._tell(began, word, field)
        return failure

    def _tell(self, began: float, word: str, field: str | None = None) -> None:
        """That a call ended with this word, and which field was at fault."""
        seconds = time.perf_counter() - began
        observed = self._observed.get(word)
        if observed is None:
            observed = self._observed[word] = telemetry.CALLS.labels(self._path, word)
        observed.observe(seconds)
        _log.info("served", word=word, field=field, ms=round(seconds * 1000, 2))

    def _admit(
        self, peer: Peer, headers: Mapping[str, Any], repeated: Collection[str], time_left_s: float | None
    ) -> Caller:
        if AUTHORIZATION in repeated:  # whichever counted, somebody on the way may take the other
            raise tokens.refused()
        bearer = headers.get(AUTHORIZATION)
        acting = self._allowed.acting(peer, has_token=bearer is not None)
        if acting is Acting.FOR_ITSELF:
            admitted = Caller(peer.name, gateway_id=peer.gateway_id)
        else:
            if self._verifier is None or bearer is None or not bearer.startswith(BEARER):
                raise tokens.refused()
            token = bearer[len(BEARER) :]
            claims = self._verifier.verify(token, (self._own_name, peer.name))
            admitted = Caller(peer.name, claims.login, claims.session, token)
        if time_left_s is None or time_left_s > self._max_s * _ROUNDED_UP:
            raise Invalid(f"the call needs a deadline of at most {self._max_s} s")
        return admitted


def _headers(metadata: Iterable[tuple[str, Any]]) -> tuple[dict[str, Any], set[str]]:
    """The headers that were sent once, and the names of those that were sent several times."""
    headers: dict[str, Any] = {}
    repeated: set[str] = set()
    for name, value in metadata:
        if name in headers:
            repeated.add(name)
        headers[name] = value
    for name in repeated:
        del headers[name]
    return headers, repeated
