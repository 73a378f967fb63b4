"""One process: settings, the application, its servers and tasks, until SIGTERM or until something ends.

Beside them HTTP for whoever operates it: `/metrics`, `/healthz` (the loop turns), `/readyz` (what the process
cannot work without answers: its database, for one).
"""

import asyncio
import gc
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

from aiohttp import web
from opentelemetry.trace import SpanKind
from prometheus_client import CONTENT_TYPE_LATEST, Counter, generate_latest

from kernel.clock import Clock
from kernel.errors import ReadroomError, Unavailable
from kernel.ids import UUID7, NewId
from plumbing import config, log, rpc, telemetry, timers
from plumbing.clocks import clock_of

S = TypeVar("S", bound=config.ProcessSettings)

# After the drain the process is gone in 5 s: calls have this long to end, then tasks, then resources.
_CALLS_END_WITHIN_S = 2.0
_TASKS_END_WITHIN_S = 1.0
_RESOURCES_END_WITHIN_S = 1.5
# A probe that waits longer has failed.
_READY_WITHIN_S = 1.0

CORRECTIONS = Counter("readroom_clock_corrections", "Alert when it grows: how often the clock was set back")

# A task that failed starts again after this long; each time it fails soon again, after twice as long.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0

_log = log.get()


@dataclass(frozen=True, slots=True)
class Application:
    """What a process consists of.

    Attributes:
        servers: started in this order.
        tasks: what runs beside them for as long as the process lives; see `for_life`.
        ready: by the part's name, what answers whether it works; only what the process cannot work without.
            What it can wait for, as bus and cache, is a metric and an alert instead: a balancer would end all
            services at once because the bus is away.
        drains: asked when the process is told to stop, before anything else ends: each takes nobody new, and
            waits at most so many seconds until those who are served have ended.
    """

    servers: Sequence[rpc.Server]
    tasks: Mapping[str, Callable[[], Coroutine[Any, Any, None]]] = field(default_factory=dict)
    ready: Mapping[str, Callable[[], Awaitable[bool]]] = field(default_factory=dict)
    drains: Sequence[Callable[[float], Awaitable[None]]] = ()


def run(
    name: str,
    settings_type: type[S],
    build: Callable[[S, Clock, NewId, AsyncExitStack], Awaitable[Application]],
    environ: Mapping[str, str],
) -> int:
    """Runs the process `name` and answers its exit code.

    `build` constructs everything and registers what must be closed with the stack it is given.
    0 after SIGTERM or SIGINT; 1 if something ended by itself, with the reason in one line on stderr.
    """
    log.configure(name)
    try:
        asyncio.run(_serve(name, config.load(settings_type, environ), build))
    except ReadroomError as error:
        reason = error.sentence
    except Exception:
        _log.exception("unexpected error")
        reason = "unexpected error, see the log"
    else:
        return 0
    sys.stderr.write(f"{name}: {reason}\n")
    return 1


async def _serve(
    name: str,
    settings: S,
    build: Callable[[S, Clock, NewId, AsyncExitStack], Awaitable[Application]],
) -> None:
    """Serves until a signal; raises what else ended it."""
    work = asyncio.create_task(_work(name, settings, build))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, _cancel_once, work)
    with suppress(asyncio.CancelledError):
        await work


def _cancel_once(work: asyncio.Task[None]) -> None:
    if not work.cancelling():
        work.cancel()


async def _work(
    name: str,
    settings: S,
    build: Callable[[S, Clock, NewId, AsyncExitStack], Awaitable[Application]],
) -> None:
    clock = clock_of(settings.clock_offset_file, _tell_correction)
    resources = AsyncExitStack()
    servers: list[rpc.Server] = []
    tasks: list[asyncio.Task[None]] = []
    drains: Sequence[Callable[[float], Awaitable[None]]] = ()
    ready: dict[str, Callable[[], Awaitable[bool]]] = {}
    try:
        resources.callback(telemetry.configure(name, settings.otlp_endpoint, settings.servers_ca))
        application = await build(settings, clock, UUID7(clock), resources)
        for server in application.servers:
            servers.append(server)
            await server.start()
        ready.update(application.ready)
        await resources.enter_async_context(_probes(settings.http_listen, ready))
        drains = application.drains
        tasks += [
            asyncio.create_task(for_life(part, start), name=part) for part, start in application.tasks.items()
        ]
        gc.freeze()  # what was made until here lives as long as the process: no collection looks at it again
        _log.info("serving", address=settings.listen)
        never = asyncio.get_running_loop().create_future()
        ended, _ = await asyncio.wait([never, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()
    finally:
        ready["stays"] = _does_not_stay
        await asyncio.gather(*(_drain(each, settings.drain_s) for each in drains))
        await asyncio.gather(*(server.stop(_CALLS_END_WITHIN_S) for server in servers))
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_TASKS_END_WITHIN_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(_RESOURCES_END_WITHIN_S):
                await resources.aclose()


async def _does_not_stay() -> bool:
    """Whoever balances sends nobody new here."""
    return False


async def _drain(drain: Callable[[float], Awaitable[None]], seconds: float) -> None:
    with timers.surviving("drain"):
        await drain(seconds)


async def for_life(part: str, start: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs what may not end while the process lives: what fails is told, and started again after a pause.

    So no fault in one task takes the others along, and nothing that a peer says ends the process. What still
    ends it: a task that returns, because nobody knows what to do without it (raises Unavailable, which names
    it); what Python raises to end a process; and whatever fails before the process serves.
    """
    pause_s = _FIRST_PAUSE_S
    while not timers.cancelled():
        began = time.monotonic()
        with timers.surviving(part) as attempt:
            await start()
        if not (attempt.failed or timers.cancelled()):
            raise Unavailable(
                f"the task `{part}` has ended although this process needs it: start the process again"
            )
        if time.monotonic() - began > _LONGEST_PAUSE_S:
            pause_s = _FIRST_PAUSE_S
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _tell_correction(lead: timedelta) -> None:
    CORRECTIONS.inc()
    _log.error("the clock was set back: what was written ahead of time keeps its instants", by=lead)


@web.middleware
async def http_spans(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """aiohttp: a span around each request, named after its route."""
    resource = request.match_info.route.resource
    name = f"{request.method} {resource.canonical if resource else 'unknown'}"
    with telemetry.span(name, SpanKind.SERVER, request.headers):
        return await handler(request)


@asynccontextmanager
async def _probes(listen: str, ready: Mapping[str, Callable[[], Awaitable[bool]]]) -> AsyncIterator[None]:
    async def healthz(_request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def readyz(_request: web.Request) -> web.Response:
        answers = await asyncio.gather(*map(_answers, ready.values()))
        parts = dict(zip(ready, answers, strict=True))
        return web.json_response(parts, status=200 if all(answers) else 503)

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application(middlewares=[http_spans])
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
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


async def _answers(ask: Callable[[], Awaitable[bool]]) -> bool:
    try:
        async with asyncio.timeout(_READY_WITHIN_S):
            return await ask()
    except Exception:
        return False
