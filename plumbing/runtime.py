"""One process: settings, the application, its servers and tasks, until SIGTERM or until something ends.

Beside them its probes (`probes.py`), which are open from before it is built until its end.
"""

import asyncio
import gc
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

from prometheus_client import Counter

from kernel.clock import Clock
from kernel.errors import ReadroomError, Unavailable
from kernel.ids import UUID7, NewId
from plumbing import config, log, rpc, telemetry, timers
from plumbing.clocks import clock_of
from plumbing.probes import Part, Probes

S = TypeVar("S", bound=config.ProcessSettings)

# After the drain the process is gone in 5 s: calls have so long to end at least, then tasks, then resources.
_CALLS_END_WITHIN_S = 2.0
_TASKS_END_WITHIN_S = 1.0
_RESOURCES_END_WITHIN_S = 1.5

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
        beside: the same of what it can wait for. `/readyz` says it, and its status does not depend on it.
        drains: asked when the process is told to stop, before anything else ends: each takes nobody new, and
            waits at most so many seconds until those who are served have ended.
    """

    servers: Sequence[rpc.Server]
    tasks: Mapping[str, Callable[[], Coroutine[Any, Any, None]]] = field(default_factory=dict)
    ready: Mapping[str, Part] = field(default_factory=dict)
    beside: Mapping[str, Part] = field(default_factory=dict)
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
    probes = Probes()
    try:
        resources.callback(telemetry.configure(name, settings.otlp_endpoint, settings.servers_ca))
        await resources.enter_async_context(probes.served(settings.http_listen))
        application = await build(settings, clock, UUID7(clock), resources)
        for server in application.servers:
            servers.append(server)
            await server.start()
        drains = application.drains
        tasks += [
            asyncio.create_task(for_life(part, start), name=part) for part, start in application.tasks.items()
        ]
        probes.started(application.ready, application.beside)
        gc.freeze()  # what was made until here lives as long as the process: no collection looks at it again
        _log.info("serving", address=settings.listen)
        never = asyncio.get_running_loop().create_future()
        ended, _ = await asyncio.wait([never, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()
    finally:
        probes.leaves()
        told_at = time.monotonic()
        await asyncio.gather(*(_drain(each, settings.drain_s) for each in drains))
        # What the drain has left, so that a stream of images ends too.
        calls_s = max(_CALLS_END_WITHIN_S, settings.drain_s - (time.monotonic() - told_at))
        await asyncio.gather(*(server.stop(calls_s) for server in servers))
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_TASKS_END_WITHIN_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(_RESOURCES_END_WITHIN_S):
                await resources.aclose()


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
