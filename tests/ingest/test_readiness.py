"""What ingest needs to be ready: PostgreSQL, its DICOM listener and the disk of the packs; nothing else."""

import asyncio
import shutil

from plumbing.dimse import Acceptor
from tests.ingest.system import Ingest


async def ready(ingest: Ingest) -> dict[str, bool]:
    return {part: await answers() for part, answers in ingest.application.ready.items()}


async def test_ingest_is_ready_while_it_can_receive(ingest: Ingest) -> None:
    ingest.servers.nats.freeze()
    ingest.servers.valkey.freeze()
    try:
        assert await ready(ingest) == {"database": True, "listener": True, "disk": True, "dicomweb": True}
    finally:
        ingest.servers.nats.thaw()
        ingest.servers.valkey.thaw()


async def test_ingest_is_not_ready_without_its_disk(ingest: Ingest) -> None:
    shutil.move(ingest.packs, ingest.packs.with_name("elsewhere"))
    try:
        assert await ready(ingest) == {"database": True, "listener": True, "disk": False, "dicomweb": True}
    finally:
        shutil.move(ingest.packs.with_name("elsewhere"), ingest.packs)
    assert (await ready(ingest))["disk"]


async def test_ingest_is_not_ready_without_its_listener(ingest: Ingest) -> None:
    accepts = ingest.application.ready["listener"]
    assert await accepts()
    acceptor = getattr(accepts, "__self__", None)
    assert isinstance(acceptor, Acceptor)
    await asyncio.to_thread(acceptor.stop)
    assert await ready(ingest) == {"database": True, "listener": False, "disk": True, "dicomweb": True}
