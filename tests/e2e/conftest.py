"""The whole system with a scene set, shared by the tests that leave it standing."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack

import pytest
from rich.console import Console

from demo.cast import ADMIN, ENDPOINT, MOOR, OUTSIDE
from demo.reading import let_them_read
from demo.setting import create_user, set_the_scene
from demo.stage import Stage
from demo.world import World
from local.system import LocalSystem


@pytest.fixture(scope="package")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The system of the demo's first step: three facilities, a rule, two gateways, five people."""
    system = LocalSystem(tmp_path_factory.mktemp("journey") / "data", first_admin=ADMIN, durable=False)
    system.start()

    async def set_up() -> World:
        async with AsyncExitStack() as resources:
            world = World(Stage(Console(quiet=True)), system, resources)
            await set_the_scene(world)
            return world

    try:
        yield asyncio.run(set_up())
    finally:
        system.stop()


@pytest.fixture(scope="package")
def readers(scene: World) -> None:
    """Pre-read is active at Maple Street, Vos and Marsh may complete there, and Okafor may view."""
    asyncio.run(_in_the(scene, let_them_read))


@pytest.fixture(scope="package")
def outside(scene: World) -> None:
    """Physicians of other houses, and who administers shares and deletes at Maple Street."""

    async def set_up(world: World) -> None:
        for person in (*OUTSIDE, MOOR):
            await create_user(world, person)
        await world.permit(MOOR, "study.delete", ENDPOINT)

    asyncio.run(_in_the(scene, set_up))


async def _in_the(scene: World, set_up: Callable[[World], Awaitable[None]]) -> None:
    async with AsyncExitStack() as resources:
        await set_up(scene.elsewhere(resources))


@pytest.fixture
async def world(scene: World) -> AsyncIterator[World]:
    """The same, with connections of this test."""
    async with AsyncExitStack() as resources:
        yield scene.elsewhere(resources)
