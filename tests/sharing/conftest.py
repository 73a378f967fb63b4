"""One access, one facility and its people for all tests of sharing; each test makes cases of its own."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio

from local.embedded import EmbeddedServers
from local.pki import Pki
from tests.access.service import Service, serve
from tests.databases import Databases
from tests.sharing.system import Sharing, System, World, a_world, running, use_cases


@pytest.fixture(scope="package")
def databases(clones: Databases) -> dict[str, str]:
    """Made before anything runs: PostgreSQL makes none while a client of the very loop is connecting."""
    return {
        "access": clones.make("access"),
        "use cases": clones.make("sharing"),
        "service": clones.make("sharing"),
    }


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def access(servers: EmbeddedServers, databases: dict[str, str], pki: Pki) -> AsyncIterator[Service]:
    async for started in serve(servers, databases["access"], pki):
        yield started


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def world(access: Service) -> World:
    return await a_world(access)


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def the_use_cases(databases: dict[str, str], world: World) -> AsyncIterator[Sharing]:
    async with use_cases(databases["use cases"], databases["access"], world) as sharing:
        yield sharing


@pytest.fixture
def sharing(the_use_cases: Sharing) -> Sharing:
    """The use cases, at the time of the machine."""
    the_use_cases.clock.ahead = timedelta()
    return the_use_cases


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def system(servers: EmbeddedServers, databases: dict[str, str], world: World) -> AsyncIterator[System]:
    async with running(servers, databases["service"], world) as started:
        yield started
