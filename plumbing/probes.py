"""HTTP for whoever operates a process, in plain text. Every process of ours serves the same paths.

`/livez` answers as long as the event loop turns, and asks nothing else: another start mends no process that
waits for PostgreSQL or NATS. `/startupz` answers 200 once everything is served. `/readyz` says of each part
that the process cannot work without whether it works. `/metrics` is for Prometheus.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from opentelemetry.trace import SpanKind
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Gauge, generate_latest

from kernel.errors import Unavailable
from kernel.release import VERSION
from plumbing import telemetry

Part = Callable[[], Awaitable[bool]]
"""Answers whether a part works. One that raises, or that takes longer than a probe waits, does not."""

RELEASE = Gauge("readroom_release", "Which version runs, by `version`: always 1", ["version"])
RELEASE.labels(VERSION).set(1)

_READY_WITHIN_S = 1.0
"""A probe that waits longer has failed."""


@web.middleware
async def http_spans(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """aiohttp: a span around each request, named after its route."""
    resource = request.match_info.route.resource
    name = f"{request.method} {resource.canonical if resource else 'unknown'}"
    with telemetry.span(name, SpanKind.SERVER, request.headers):
        return await handler(request)


class Probes:
    """What a process tells of itself. It is open before the process is built, and until its end.

    Attributes:
        registry: what `/metrics` shows.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.registry = registry
        self._ready: Mapping[str, Part] = {}
        self._beside: Mapping[str, Part] = {}
        self._started = False
        self._leaves = False

    def started(self, ready: Mapping[str, Part], beside: Mapping[str, Part]) -> None:
        """Everything is served from here on; see `Application` for `ready` and `beside`."""
        self._ready, self._beside, self._started = ready, beside, True

    def leaves(self) -> None:
        """The process has been told to end: whoever balances sends nobody new here."""
        self._leaves = True

    @asynccontextmanager
    async def served(self, listen: str) -> AsyncIterator[None]:
        """Serves them at this address. Raises Unavailable if it cannot be had."""
        app = web.Application(middlewares=[http_spans])
        app.add_routes(web.get(path, answer) for path, answer in self._paths().items())
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        host, _, port = listen.rpartition(":")
        try:
            await web.TCPSite(runner, host.strip("[]"), int(port)).start()
        except OSError as error:
            raise Unavailable(f"cannot listen on `{listen}`: taken, or not an address of ours") from error
        try:
            yield
        finally:
            await runner.cleanup()

    def _paths(self) -> Mapping[str, Callable[[web.Request], Awaitable[web.Response]]]:
        return {
            "/livez": self._livez,
            "/startupz": self._startupz,
            "/readyz": self._readyz,
            "/metrics": self._metrics,
            # As the version before named the first: charts and watchdogs of that version still ask for it.
            "/healthz": self._livez,
        }

    async def _livez(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _startupz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok") if self._started else web.Response(text="starting", status=503)

    async def _readyz(self, _request: web.Request) -> web.Response:
        parts: dict[str, Any] = await _ask(self._ready)
        if not self._started:
            parts["started"] = False
        if self._leaves:
            parts["stays"] = False
        status = 200 if all(parts.values()) else 503
        if self._beside:
            parts["beside"] = await _ask(self._beside)
        return web.json_response(parts, status=status)

    async def _metrics(self, _request: web.Request) -> web.Response:
        # In a thread: what a gateway counts stands in a file.
        body = await asyncio.to_thread(generate_latest, self.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _ask(parts: Mapping[str, Part]) -> dict[str, bool]:
    return dict(zip(parts, await asyncio.gather(*map(_answers, parts.values())), strict=True))


async def _answers(part: Part) -> bool:
    try:
        async with asyncio.timeout(_READY_WITHIN_S):
            return await part()
    except Exception:
        return False
