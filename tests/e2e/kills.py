"""SIGKILL of whatever runs, and who goes on all the same."""

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
from rich.console import Console

from demo.cast import ADMIN, CENTRAL, MODALITY, Person
from demo.gateways import RunningGateway
from demo.modality import PynetdicomModality, Refused
from demo.setting import set_the_scene
from demo.stage import Stage
from demo.world import World
from kernel.errors import Unavailable
from local.system import LocalSystem
from tests.wait import eventually
from wire.access.v1.access_pb2 import LANGUAGE_DE, ROLE_REFERRING_PHYSICIAN

T = TypeVar("T")

SEED = "READROOM_SEED"
"""The environment may name the seed of a drill that failed; without it, each run has another."""


@asynccontextmanager
async def alone(tmp_path: Path, settings: Mapping[str, str] | None = None) -> AsyncIterator[World]:
    """A system of its own: three facilities, a rule, two gateways, five people."""
    system = LocalSystem(tmp_path / "data", first_admin=ADMIN, durable=False, settings=settings)
    await asyncio.to_thread(system.start)
    try:
        async with AsyncExitStack() as resources:
            world = World(Stage(Console(quiet=True)), system, resources)
            await set_the_scene(world)
            yield world
    finally:
        await asyncio.to_thread(system.stop)


def dice() -> random.Random:
    """Chance, told by its seed."""
    seed = int(os.environ.get(SEED) or random.randrange(10**6))
    print(f"{SEED}={seed}")
    return random.Random(seed)


def order(victims: Sequence[str], times: int, chance: random.Random) -> list[str]:
    """Each victim so many times, in random order."""
    drawn = [*victims] * times
    chance.shuffle(drawn)
    return drawn


def kill(world: World, victim: str) -> None:
    """SIGKILL, and a new start."""
    if victim == "gateway":
        gateway = world.gateways[CENTRAL.name]
        gateway.process.end(signal.SIGKILL, within_s=5.0)
        folder = world.folder / "gateways" / CENTRAL.name
        world.gateways[CENTRAL.name] = RunningGateway.start(
            world.system, CENTRAL.name, CENTRAL.ae_title, folder, gateway.called.port
        )
    elif victim == "worker":  # one of the processes that receive; ingest itself starts another
        pid = world.system.service_pid("ingest")
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        with suppress(ProcessLookupError):  # it has just ended, or none has started again yet
            for worker in children[:1]:
                os.kill(int(worker), signal.SIGKILL)
    elif victim in world.system.names:
        world.system.kill_service(victim)
        world.system.start_service(victim)
    else:
        server = getattr(world.system.servers, victim)
        server.kill()
        server.start()


class Ledger:
    """What the gateway has acknowledged to the modality, and what is still to be sent.

    It gives up after `within_s` seconds: where a test has failed, the thread that sends ends all the same.
    """

    def __init__(self, paths: list[Path], within_s: float = 60.0) -> None:
        self.left = list(paths)
        self.acknowledged = 0
        self._deadline = time.monotonic() + within_s

    def send(self, world: World) -> None:
        """Sends what is left, again and again, until all of it is acknowledged."""
        while self.left:
            assert time.monotonic() < self._deadline, f"{len(self.left)} instances wait too long"
            called = world.gateways[CENTRAL.name].called
            try:
                PynetdicomModality(MODALITY).send(list(self.left), called, self.acknowledge)
            except (Refused, OSError, RuntimeError):
                continue  # the gateway is away, or said that it cannot store: a modality tries again

    def acknowledge(self) -> None:
        self.left.pop(0)
        self.acknowledged += 1


async def once_all_are_back(asking: Callable[[], Awaitable[T]], within: float = 60.0) -> T:
    """What is answered as soon as nobody is away any more, whom a kill has cut off a moment ago."""
    answers: list[T] = []

    async def answered() -> bool:
        try:
            answers.append(await asking())
        except Unavailable as error:
            raise AssertionError from error
        return True

    await eventually(answered, within=within)
    return answers[-1]


async def query(world: World, service: str, statement: str, *values: object) -> list[Any]:
    """What a statement answers on a service's database."""
    connection = await asyncpg.connect(world.system.servers.database_url(service))
    try:
        return list(await connection.fetch(statement, *values))
    finally:
        await connection.close()


def _strangers() -> Iterator[Person]:
    """Physicians without end, each with a number of their own."""
    for number in count(1):
        login = f"doctor-{number}"
        yield Person(
            login,
            f"Dr {number}",
            ROLE_REFERRING_PHYSICIAN,
            email=f"{login}@praxis.example",
            mobile_number=f"+31612{number:06}",
            language=LANGUAGE_DE,
        )


strangers = _strangers()
