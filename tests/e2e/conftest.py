"""The whole system with a scene set, shared by the tests that leave it standing."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
from rich.console import Console

from demo.cast import ADMIN
from demo.setting import set_the_scene
from demo.stage import Stage
from demo.world import World
from services.local import LocalSystem


@pytest.fixture(scope="session")
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


@pytest.fixture
async def world(scene: World) -> AsyncIterator[World]:
    """The same, with connections of this test."""
    async with AsyncExitStack() as resources:
        yield replace(scene, resources=resources, _connected={})
