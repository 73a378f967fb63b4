"""A gateway and a Central server for each test that asks."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from local.pki import Pki
from tests.gateway.system import CentralOfTheTest, Gateway
from tests.ingest.conftest import ingest

__all__ = ["ingest"]


@pytest.fixture
async def central(pki: Pki) -> AsyncIterator[CentralOfTheTest]:
    running = CentralOfTheTest(pki)
    await running.start()
    try:
        yield running
    finally:
        await running.stop()


@pytest.fixture
def gateway(tmp_path: Path, pki: Pki, central: CentralOfTheTest) -> Iterator[Gateway]:
    """Not yet started. Whatever a test does to it, forwarding meets nothing that nobody thought of."""
    running = Gateway(
        tmp_path / "gateway",
        pki,
        dicom_address=central.address("dicom"),
        gateway_address=central.address("gateways"),
    )
    try:
        yield running
    finally:
        running.kill()
    assert "failed unexpectedly" not in (running.log.read_text() if running.log.exists() else "")
