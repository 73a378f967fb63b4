"""A process for test_runtime.py, which does what its one argument says."""

import asyncio
import os
import sys
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from kernel.clock import Clock
from kernel.errors import Unavailable
from kernel.ids import NewId
from plumbing import rpc, runtime
from plumbing.config import ServiceSettings
from tests.wait import eventually


class Settings(ServiceSettings):
    prefix = "READROOM_TEST_"


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def ends() -> None:
    await asyncio.sleep(0)


async def fails_with_a_word() -> None:
    raise Unavailable("the bus does not answer")


async def fails_unexpectedly() -> None:
    raise KeyError("DOE^JOHN")


async def runs() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        say("task cancelled")


TASKS = {task.__name__: task for task in (ends, fails_with_a_word, fails_unexpectedly, runs)}


async def build(
    scenario: str, settings: Settings, clock: Clock, new_id: NewId, resources: AsyncExitStack
) -> runtime.Application:
    say(f"time {clock.now().isoformat()}")
    if scenario == "hangs_in_build":
        say("building")
        await asyncio.Event().wait()
    if scenario == "builds_until_asked":
        say("building")
        await eventually(Path(os.environ["READROOM_TEST_GO_ON"]).exists)
    if scenario == "fails_in_build":
        raise RuntimeError("DOE^JOHN")

    async def close() -> None:
        say("resource closed")
        if scenario == "resource_hangs":
            await asyncio.Event().wait()

    async def drain(seconds: float) -> None:
        say(f"drains for {seconds:g} s")
        if scenario == "drains":
            await asyncio.sleep(seconds)
        if scenario == "drain_fails":
            raise KeyError("DOE^JOHN")

    async def answers() -> bool:
        if scenario == "never_ready":
            await asyncio.Event().wait()
        if scenario == "ready_fails":
            raise Unavailable("the database does not answer")
        return True

    async def bus() -> bool:
        return scenario != "bus_away"

    resources.push_async_callback(close)
    return runtime.Application(
        servers=[rpc.Server("access", settings.listen, settings.tls, None)],
        tasks={"relay": TASKS.get(scenario, runs)},
        ready={"database": answers},
        beside={"bus": bus} if scenario == "bus_away" else {},
        drains=[drain],
    )


def main(arguments: list[str]) -> int:
    return runtime.run("access", Settings, partial(build, arguments[0]), os.environ)
