"""A balancer ends no service because of what is only waited for."""

import asyncio
import urllib.request
from urllib.error import HTTPError

import pytest

from demo.world import World
from services import SERVICES
from tests.wait import eventually


def status(address: str) -> int:
    try:
        with urllib.request.urlopen(f"http://{address}/readyz", timeout=5) as answer:
            return int(answer.status)
    except HTTPError as error:
        return error.code


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
            assert (name, 200) == (name, await asyncio.to_thread(status, address))
            assert await asyncio.to_thread(metric, address, "readroom_bus_up") == 0
    finally:
        for server in away:
            await asyncio.to_thread(server.start)
    assert set(world.endpoints.http) == set(SERVICES)

    def all_back() -> bool:
        return all(metric(address, "readroom_bus_up") == 1 for address in world.endpoints.http.values())

    await eventually(all_back)
