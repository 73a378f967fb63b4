"""Processes that receive images: what they know, what becomes of one that dies, who ends an association."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian

from local.embedded import EmbeddedServers
from local.pki import Pki
from services.ingest.office import INSTANCES
from services.ingest.workers import WORKERS_LOST, WORKERS_STILL
from tests.ingest.builders import a_uid
from tests.ingest.objects import CT, a_ct
from tests.ingest.system import ADMIN, Ingest, Sender, sent_objects, sha256, store_object
from tests.ingest.test_faults import all_sealed, every_row_has_its_bytes, on_disk, workers_of
from tests.wait import eventually
from wire.ingest.v1 import ingest_pb2 as pb

CONTEXTS = [(CT, ExplicitVRLittleEndian)]


@pytest.fixture
async def ingest(
    servers: EmbeddedServers, fresh_database: Callable[[str], str], pki: Pki, tmp_path: Path
) -> AsyncIterator[Ingest]:
    running = Ingest(servers, fresh_database("ingest"), pki, tmp_path)
    running.environ["READROOM_INGEST_RECEIVE_WORKERS"] = "2"
    running.environ["READROOM_INGEST_MAX_ASSOCIATIONS_PER_GATEWAY"] = "2"
    await running.start()
    try:
        yield running
    finally:
        await running.stop()


def workers(known: frozenset[int] = frozenset()) -> list[int]:
    """The workers of the ingest of this process."""
    named = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in workers_of(os.getpid())}
    return [pid for pid, line in named.items() if b"services.ingest.worker" in line and pid not in known]


async def test_images_come_in_over_several_processes_that_count_as_one(ingest: Ingest) -> None:
    """Places of a gateway are places at all of them, and so is what is counted."""
    gateway = await ingest.enrol()
    study, series = a_uid(), a_uid()
    objects = [a_ct(study=study, series=series) for _ in range(6)]
    before = INSTANCES.labels("stored")._value.get()

    def send() -> list[int | None]:
        first, second, third = (Sender.of(ingest, gateway) for _ in range(3))
        with first.association(CONTEXTS) as one, second.association(CONTEXTS) as two:
            statuses = [store_object(each, objects.pop()).status for each in (one, two, one, two)]
            with third.association(CONTEXTS):
                assert third.rejections == [(2, 3, 2)]
        with third.association(CONTEXTS) as again:
            return [*statuses, *(store_object(again, each).status for each in objects)]

    kept = {each.sop_instance_uid: sha256(each.data) for each in objects}
    assert await asyncio.to_thread(send) == [0] * 6
    assert await ingest.stored() == kept
    await eventually(lambda: INSTANCES.labels("stored")._value.get() == before + 6)
    await eventually(lambda: all_sealed(ingest))
    assert await ingest.one("select count(*) from packs") == 3
    assert await ingest.one("select max(version) from studies") > 1


@pytest.mark.proves("R3", part="a process that receives")
async def test_a_worker_that_is_killed_ends_its_associations_only_and_loses_nothing(ingest: Ingest) -> None:
    gateway = await ingest.enrol()
    old, lost = frozenset(workers()), WORKERS_LOST._value.get()
    study, series = a_uid(), a_uid()
    objects = [a_ct(study=study, series=series, pixels=os.urandom(50_000)) for _ in range(5)]

    def send() -> list[int | None]:
        first, second = (Sender.of(ingest, gateway) for _ in range(2))
        with first.association(CONTEXTS) as one, second.association(CONTEXTS) as two:
            statuses = [store_object(each, objects[at]).status for at, each in enumerate((one, two))]
            os.kill(serving(ingest, one), signal.SIGKILL)
            return [*statuses, store_object(one, objects[2]).status, store_object(two, objects[3]).status]

    assert await asyncio.to_thread(send) == [0, 0, None, 0]
    assert WORKERS_LOST._value.get() == lost + 1
    await eventually(lambda: len(workers(old)) == 1)
    (again,) = await sent_objects(Sender.of(ingest, gateway), objects[4])
    assert again.status == 0
    await eventually(lambda: all_sealed(ingest))
    assert await every_row_has_its_bytes(ingest) == 4
    ends = await ingest.rows("select committed_end from packs where committed_end > 0")
    await eventually(lambda: on_disk(ingest) <= sum(row["committed_end"] + 1024 for row in ends) + 100)


def descriptors(pid: int) -> list[str]:
    return [str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()]


def serving(ingest: Ingest, association: object) -> int:
    """The worker that serves an association: both it and this process hold the connection."""
    port = association.dul.socket.socket.getsockname()[1]  # type: ignore[attr-defined]
    peers = Path("/proc/net/tcp").read_text().splitlines()[1:]
    ours = f"0100007F:{ingest.ports['dicom']:04X} 0100007F:{port:04X}"
    (inode,) = [line.split()[9] for line in peers if ours in " ".join(line.split())]
    (found,) = [pid for pid in workers() if f"socket:[{inode}]" in descriptors(pid)]
    return found


@pytest.mark.proves("SEC-2", part="a worker that does not answer")
async def test_a_revoked_gateway_is_cut_off_even_where_its_worker_stands_still(ingest: Ingest) -> None:
    gateway = await ingest.enrol()
    associated, revoked, ended = (asyncio.Event() for _ in range(3))
    loop = asyncio.get_running_loop()
    stopped: list[int] = []

    def send() -> None:
        with Sender.of(ingest, gateway).association(CONTEXTS) as association:
            assert store_object(association, a_ct()).status == 0
            stopped.append(serving(ingest, association))
            os.kill(stopped[0], signal.SIGSTOP)
            loop.call_soon_threadsafe(associated.set)
            asyncio.run_coroutine_threadsafe(revoked.wait(), loop).result(10)
            assert store_object(association, a_ct()).status is None
            loop.call_soon_threadsafe(ended.set)

    sending = asyncio.create_task(asyncio.to_thread(send))
    try:
        await asyncio.wait_for(associated.wait(), 20)
        await ingest.acting(ADMIN).RevokeGateway(pb.RevokeGatewayRequest(gateway_id=gateway.gateway_id))
        revoked.set()
        async with asyncio.timeout(5):
            await ended.wait()
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        revoked.set()
        await sending


@pytest.mark.proves("R8", part="a process that receives and stands still")
async def test_a_worker_that_stands_still_gets_nothing_and_is_replaced(
    ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.ingest.workers.STILL_S", 1.0)
    monkeypatch.setattr("services.ingest.workers.GIVEN_UP_S", 8.0)
    gateway = await ingest.enrol()
    old, stands_still = frozenset(workers()), WORKERS_STILL._value.get
    ready, kept = ingest.application.ready["listener"], a_ct()
    sender = Sender.of(ingest, gateway)

    def send() -> int:
        """One stored image, and its worker stands still while the association is open."""
        with sender.association(CONTEXTS) as association:
            assert store_object(association, kept).status == 0
            still = serving(ingest, association)
            os.kill(still, signal.SIGSTOP)
            asyncio.run_coroutine_threadsafe(found_out(), loop).result(20)
            assert store_object(association, a_ct()).status is None
            return still

    async def found_out() -> None:
        await eventually(lambda: stands_still() == 1)
        assert await ready()
        for _ in range(3):
            (stored,) = await sent_objects(sender, a_ct())
            assert stored.status == 0

    loop = asyncio.get_running_loop()
    still = await asyncio.to_thread(send)
    await eventually(lambda: len(workers(old)) == 1 and still not in workers())
    await eventually(lambda: stands_still() == 0)
    await eventually(lambda: all_sealed(ingest))
    assert await every_row_has_its_bytes(ingest) == 4


async def test_ingest_is_not_ready_while_every_worker_stands_still(
    ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.ingest.workers.STILL_S", 1.0)
    ready, stopped = ingest.application.ready["listener"], workers()
    assert await ready()
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:

        async def nobody_receives() -> bool:
            return not await ready()

        await eventually(nobody_receives)
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    await eventually(ready)


async def test_a_worker_ends_with_the_process_that_started_it_and_knows_little_of_it(ingest: Ingest) -> None:
    """No gRPC, no pool of the service, no key but the one that the listener shows."""
    asked = [sys.executable, "-c", "import sys, services.ingest.worker; print(*sys.modules)"]
    loaded = (await asyncio.to_thread(subprocess.check_output, asked, text=True)).split()
    assert not {"grpc", "asyncpg", "nats", "aiohttp", "plumbing.db", "plumbing.rpc"}.intersection(loaded)
    old = workers()
    assert len(old) == 2
    await ingest.stop()
    assert not set(old).intersection(workers_of(os.getpid()))
