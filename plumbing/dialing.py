"""gRPC channels: long-lived, with token, trace and deadline on every call, and words for what fails.

Who only calls imports this and nothing of a server: the command line starts in a fraction of a second.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import grpc
from opentelemetry.trace import SpanKind

from plumbing import answers, callers, held, status, telemetry, tls
from plumbing.renewed import Renewed
from plumbing.tls import TLSFiles

MAX_RESPONSE_BYTES = 4 << 20
MAX_STREAM_S = 3600
"""How long a stream may last, because it carries studies. A deadline beyond is refused."""

AUTHORIZATION, BEARER = "authorization", "Bearer "

COMMON_OPTIONS = [
    # A peer that vanished without a word is noticed after 25 s.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]
"""Of servers and channels."""

_OPTIONS = [
    *COMMON_OPTIONS,
    ("grpc.max_receive_message_length", MAX_RESPONSE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # A name may stand for several processes: each call goes to the next.
    ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
    ("grpc.service_config_disable_resolution", 1),
    # Never through a proxy that the environment names.
    ("grpc.enable_http_proxy", 0),
]


def connect(
    address: str,
    server_name: str,
    tls_files: TLSFiles,
    *,
    deadline_s: float = 3.0,
    token: Callable[[], str | None] | None = None,
) -> grpc.aio.Channel:
    """A long-lived channel to the service `server_name`, which must show the certificate of that name.

    Errors come back as the words they left as; a service that does not answer is Unavailable. A unary
    call has `deadline_s` unless it says otherwise with `timeout`, a stream has MAX_STREAM_S.

    Args:
        address: `host:port`; a host with several addresses is several processes, and calls go round.
        server_name: as in its certificate's DNS name `<server_name>.readroom`.
        tls_files: who calls.
        deadline_s: for unary calls.
        token: answers the user token for each call; by default that of the call being served, if any.
    """

    def dial(credentials: grpc.ChannelCredentials) -> grpc.aio.Channel:
        options = [*_OPTIONS, ("grpc.ssl_target_name_override", f"{server_name}.readroom")]
        return grpc.aio.secure_channel(address, credentials, options=options)

    lasting = _Lasting(tls.renewed(tls_files, tls.grpc_channel_credentials), dial)
    return cast("grpc.aio.Channel", _Channel(lasting, server_name, deadline_s, token or _forwarded))


def _forwarded() -> str | None:
    serving = callers.current.get(None)
    return serving.token if serving else None


class _Lasting:
    """A channel that is dialled anew when its credentials change; calls under way end on the one before."""

    def __init__(
        self,
        credentials: Renewed[grpc.ChannelCredentials],
        dial: Callable[[grpc.ChannelCredentials], grpc.aio.Channel],
    ) -> None:
        self._credentials = credentials
        self._dial = dial
        self._dialled_with = credentials()
        self._channel = dial(self._dialled_with)
        self._before: dict[asyncio.Task[None], grpc.aio.Channel] = {}

    def __call__(self) -> grpc.aio.Channel:
        """The channel for the next call."""
        now = self._credentials()
        if now is not self._dialled_with:
            before, self._channel, self._dialled_with = self._channel, self._dial(now), now
            ending = asyncio.create_task(before.close(MAX_STREAM_S))
            self._before[ending] = before
            ending.add_done_callback(lambda task: self._before.pop(task, None))
        return self._channel

    async def close(self) -> None:
        """Ends all of them."""
        for ending in self._before:
            ending.cancel()
        await asyncio.gather(*(each.close() for each in (self._channel, *self._before.values())))


class _Channel:
    """A grpc.aio channel whose calls carry token and trace, have deadlines, and fail with words."""

    def __init__(
        self, lasting: _Lasting, server_name: str, deadline_s: float, token: Callable[[], str | None]
    ) -> None:
        self._lasting = lasting
        self._server_name = server_name
        self._deadline_s = deadline_s
        self._token = token

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lasting(), name)

    async def __aenter__(self) -> "_Channel":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, _grace: float | None = None) -> None:
        await self._lasting.close()

    def _bound(self, shape: str, *codec: Any, **more: Any) -> Callable[[], Callable[..., Any]]:
        """What makes calls of one method, on the channel that counts now."""
        made: tuple[grpc.aio.Channel, Callable[..., Any]] | None = None

        def bound() -> Callable[..., Any]:
            nonlocal made
            channel = self._lasting()
            if made is None or made[0] is not channel:
                made = channel, getattr(channel, shape)(*codec, **more)
            return made[1]

        return bound

    def unary_unary(self, method: str, *codec: Any, **more: Any) -> Callable[..., Awaitable[Any]]:
        bound = self._bound("unary_unary", method, *codec, **more)

        async def call(request: Any, *, timeout: float | None = None) -> Any:
            held.refuse_to_wait(method)
            with telemetry.span(method, SpanKind.CLIENT):
                try:
                    answer = await bound()(
                        request, timeout=timeout or self._deadline_s, metadata=self._headers()
                    )
                except grpc.aio.AioRpcError as error:
                    raise status.from_status(error, self._server_name) from error
                return self._decoded(answer)

        return call

    def unary_stream(self, method: str, *codec: Any, **more: Any) -> Callable[..., AsyncIterator[Any]]:
        bound = self._bound("unary_stream", method, *codec, **more)

        async def call(request: Any, *, timeout: float | None = None) -> AsyncIterator[Any]:
            held.refuse_to_wait(method)
            parts = bound()(request, timeout=timeout or MAX_STREAM_S, metadata=self._headers())
            try:
                async for part in parts:
                    yield self._decoded(part)
            except grpc.aio.AioRpcError as error:
                raise status.from_status(error, self._server_name) from error
            finally:
                parts.cancel()

        return call

    def _decoded(self, answer: Any) -> Any:
        """The answer; gRPC hands over None for bytes that are no message of its type."""
        if answer is None:
            raise answers.unexpected(self._server_name, "undecodable")
        return answer

    def _headers(self) -> tuple[tuple[str, str], ...]:
        token = self._token()
        trace = tuple(telemetry.inject().items())
        return (*trace, (AUTHORIZATION, f"{BEARER}{token}")) if token else trace
