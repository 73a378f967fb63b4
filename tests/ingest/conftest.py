"""A running ingest for each test that asks."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from local.embedded import EmbeddedServers
from local.pki import Pki
from tests.ingest.system import Ingest


@pytest.fixture
async def ingest(
    servers: EmbeddedServers, fresh_database: Callable[[str], str], pki: Pki, tmp_path: Path
) -> AsyncIterator[Ingest]:
    running = Ingest(servers, fresh_database("ingest"), pki, tmp_path)
    await running.start()
    try:
        yield running
    finally:
        await running.stop()
