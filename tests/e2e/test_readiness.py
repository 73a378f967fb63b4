"""Services outlive the bus: a balancer ends none of them while it is away, and what it lost is made again."""

import asyncio
import json
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import nats
import pytest
from nats.js.errors import NotFoundError

from demo.cast import CENTRAL, VOS
from demo.world import World
from kernel.events import HEARS
from plumbing.components import PROCESSES, SERVICES
from plumbing.stream import STREAM
from tests.e2e.test_journey import seen, send, small
from tests.wait import eventually


def status(address: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"http://{address}/readyz", timeout=5) as answer:
            return answer.status, json.load(answer)
    except HTTPError as error:
        return error.code, json.load(error)


def metric(address: str, name: str) -> float:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
        (line,) = [line for line in answer.read().decode().splitlines() if line.startswith(f"{name} ")]
    return float(line.split()[1])


@pytest.mark.proves("R7", part="readiness")
async def test_every_service_is_ready_while_bus_and_cache_are_away(world: World) -> None:
    away = (world.system.servers.nats, world.system.servers.valkey)
    for server in away:
        await asyncio.to_thread(server.stop)
    try:
        for name, address in world.endpoints.http.items():
            code, parts = await asyncio.to_thread(status, address)
            assert (name, 200) == (name, code)
            if name in SERVICES:
                assert parts["beside"] == {"bus": False}
                assert await asyncio.to_thread(metric, address, "readroom_bus_up") == 0
    finally:
        for server in away:
            await asyncio.to_thread(server.start)
    assert set(world.endpoints.http) == set(PROCESSES)

    def all_back() -> bool:
        return all(metric(world.endpoints.http[name], "readroom_bus_up") == 1 for name in SERVICES)

    await eventually(all_back)


@pytest.mark.proves("R10", part="a laptop's launcher makes the stream again")
async def test_a_stream_that_is_gone_is_made_again_and_a_study_finds_its_way(
    world: World, tmp_path: Path
) -> None:
    client = await nats.connect(world.system.servers.nats_url)
    await client.jetstream().delete_stream(STREAM)

    async def made_again() -> bool:
        with suppress(NotFoundError):
            consumers = await client.jetstream().consumers_info(STREAM)
            return {each.name for each in consumers} == set(HEARS)
        return False

    await eventually(made_again, within=60)
    await client.close()
    study = small("after the stream", "MS44")
    await send(world, CENTRAL, study, tmp_path)
    await seen(world, VOS.login, study)
