"""One of two processes of ingest is killed or restarted: nothing acknowledged is lost, nothing deleted
stays."""

import asyncio
import random
import signal
import subprocess
import threading
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
from pydicom.uid import ExplicitVRLittleEndian

from services.ingest.writers import LEASE, RENEW_S
from tests.e2e.kills import dice
from tests.ingest.builders import a_uid
from tests.ingest.objects import CT, a_ct
from tests.ingest.system import DicomObject, EnrolledGateway, Ingest, Sender, sha256, store_object
from tests.ingest.test_deletion import delete
from tests.ingest.test_faults import a_process_of_its_own, all_sealed, listens
from tests.ingest.test_pods import settled
from tests.wait import eventually

SEALED_WITHIN_S = LEASE.total_seconds() + 3 * RENEW_S
"""What a killed process had open, on a machine that is busy."""


@dataclass
class Ledger:
    """What senders were answered: SHA-256 by SOP Instance UID of what was acknowledged, and what was not."""

    kept: dict[str, str] = field(default_factory=dict)
    failed: list[int | None] = field(default_factory=list)

    def note(self, sending: DicomObject, status: int | None) -> bool:
        if status == 0:
            self.kept[sending.sop_instance_uid] = sha256(sending.data)
        else:
            self.failed.append(status)
        return status == 0


def send(
    pods: list[Ingest],
    gateway: EnrolledGateway,
    objects: list[DicomObject],
    ledger: Ledger,
    at_once: int = 4,
) -> None:
    """Sends in associations of so many until all is acknowledged, to whichever process listens."""
    waiting, turn = list(objects), random.randrange(len(pods))
    deadline = time.monotonic() + 120
    while waiting and time.monotonic() < deadline:
        turn += 1
        pod = pods[turn % len(pods)]
        if not listens(pod.ports["dicom"]):
            time.sleep(0.01)
            continue
        with Sender.of(pod, gateway).association([(CT, ExplicitVRLittleEndian)]) as association:
            for _ in range(min(at_once, len(waiting))):
                if not association.is_established or not ledger.note(
                    waiting[0], store_object(association, waiting[0]).status
                ):
                    break
                waiting.pop(0)
    assert not waiting


@asynccontextmanager
async def served(pod: Ingest, **more: str) -> AsyncIterator["subprocess.Popen[bytes]"]:
    """A process of the pod, from when it listens; it stops when the context ends, if it lives."""
    with a_process_of_its_own(pod, **more) as process:
        await eventually(lambda: listens(pod.ports["dicom"]), within=60)
        yield process


@asynccontextmanager
async def killed(pod: Ingest) -> AsyncIterator["subprocess.Popen[bytes]"]:
    """The same, but it is killed."""
    async with served(pod) as process:
        try:
            yield process
        finally:
            process.kill()


async def let_the_lease_run_out(ingest: Ingest) -> None:
    """The time until then has passed for the writers of other processes."""
    await ingest.rows(
        "update writers set ends_at = now() where ended_at is null and address <> $1", ingest.address("grpc")
    )


async def whole(ingest: Ingest, kept: dict[str, str], *disks: Path) -> None:
    """Index and disks have what was acknowledged, once, and nothing else."""
    await eventually(lambda: all_sealed(ingest), within=SEALED_WITHIN_S)
    await eventually(lambda: settled(ingest))
    assert await ingest.stored() == kept
    assert await ingest.one("select count(*) from instances") == len(kept)
    studies = await ingest.one("select count(*) from studies")
    told = "select count(*) from outbox where subject = 'study.received.v1'"
    assert await ingest.one(told) >= studies

    async def as_rows_say() -> bool:
        rows = await ingest.rows("select pack_id, committed_end from packs where study_id is not null")
        found = {path.stem: path.stat().st_size for disk in disks for path in disk.glob("??/*.tar")}
        return found == {str(row["pack_id"]): row["committed_end"] + 1024 for row in rows}

    await eventually(as_rows_say, within=SEALED_WITHIN_S)


@pytest.mark.proves("R3", part="one of two processes is killed while it receives and while it deletes")
@pytest.mark.parametrize("disk", ["shared", pytest.param("own", marks=pytest.mark.drill)])
async def test_one_of_two_processes_is_killed_with_an_upload_and_a_deletion_under_way(
    ingest: Ingest, disk: str
) -> None:
    """The other one takes what is sent again and finishes what it may; on another disk the next start
    does."""
    gateway, doomed = await ingest.enrol(), a_uid()
    pod = ingest.another(ingest.packs if disk == "shared" else ingest.folder / "another disk")
    deleted, ledger = Ledger(), Ledger()
    study, series = a_uid(), a_uid()
    objects = [a_ct(study=study, series=series, pixels=bytes(20_000)) for _ in range(12)]

    def half() -> None:
        with Sender.of(pod, gateway).association([(CT, ExplicitVRLittleEndian)]) as association:
            for each in objects[:6]:
                ledger.note(each, store_object(association, each).status)
            process.kill()
            process.wait(10)
            ledger.note(objects[6], store_object(association, objects[6]).status)

    async with killed(pod) as process:
        await asyncio.to_thread(send, [pod], gateway, [a_ct(study=doomed)], deleted)
        await eventually(lambda: all_sealed(ingest))
        if disk == "shared":  # as if the process had been there first
            await ingest.rows(
                "update volumes set holder_id = (select writer_id from writers where address = $1)",
                pod.address("grpc"),
            )
        process.send_signal(signal.SIGSTOP)
        await delete(ingest, await a_case(ingest, doomed))
        await eventually(lambda: ingest.rows("select from doomed_files"))
        process.send_signal(signal.SIGCONT)
        await asyncio.to_thread(half)
    assert len(ledger.kept) >= 6
    await let_the_lease_run_out(ingest)
    await asyncio.to_thread(send, [ingest], gateway, objects, ledger)
    if disk == "shared":
        await whole(ingest, ledger.kept, ingest.packs)
    else:
        await eventually(lambda: settled(ingest))
        async with killed(pod):
            await whole(ingest, ledger.kept, ingest.packs, pod.packs)
    assert not await ingest.rows("select from doomed_files")


async def a_case(ingest: Ingest, study: str) -> str:
    """The study as a case that may be deleted."""
    case_id = str(uuid4())
    ingest.access.cases[case_id] = [
        str(await ingest.one("select study_id from studies where study_instance_uid = $1", study))
    ]
    return case_id


@pytest.mark.proves("GWY-22", part="a process of ingest is stopped under four senders, and no instance fails")
async def test_while_one_of_two_processes_is_stopped_four_senders_go_on_without_a_failure(
    ingest: Ingest,
) -> None:
    gateway, ledger = await ingest.enrol(), Ledger()
    pod = ingest.another(ingest.packs)
    loads = [[a_ct(study=study) for _ in range(16)] for study in (a_uid() for _ in range(4))]
    async with served(pod, drain_s="60") as process:
        sending = [
            asyncio.create_task(asyncio.to_thread(send, [ingest, pod], gateway, each, ledger))
            for each in loads
        ]
        await eventually(lambda: len(ledger.kept) > 12)
        process.send_signal(signal.SIGTERM)
        await asyncio.gather(*sending)
        assert await asyncio.to_thread(process.wait, 60) == 0
    assert ledger.failed == []
    await whole(
        ingest, {each.sop_instance_uid: sha256(each.data) for load in loads for each in load}, ingest.packs
    )


@pytest.mark.drill
@pytest.mark.proves("GWY-22", part="a rolling restart under four senders, beside one without drain")
@pytest.mark.parametrize("drain_s", [60, 0])
async def test_a_rolling_restart_under_four_senders(ingest: Ingest, drain_s: int) -> None:
    """No instance fails; without the time to drain some do, and come again."""
    gateway, ledger, stopped = await ingest.enrol(), Ledger(), threading.Event()
    pods = [ingest.another(ingest.packs), ingest.another(ingest.folder / "another disk")]
    kept: list[DicomObject] = []

    def sender() -> None:
        while not stopped.is_set():
            study = a_uid()
            load = [a_ct(study=study, pixels=bytes(100_000)) for _ in range(16)]
            send(pods, gateway, load, ledger, at_once=16)
            kept.extend(load)

    async with AsyncExitStack() as processes:

        async def started(pod: Ingest) -> "subprocess.Popen[bytes]":
            return await processes.enter_async_context(served(pod, drain_s=str(drain_s)))

        running = [await started(pod) for pod in pods]
        sending = [asyncio.create_task(asyncio.to_thread(sender)) for _ in range(4)]
        for _ in range(3):
            for at, pod in enumerate(pods):
                enough = len(ledger.kept) + 20
                await eventually(partial(goes_on, ledger, enough), within=60)
                running[at].send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(running[at].wait, 90) == 0
                running[at] = await started(pod)
        stopped.set()
        await asyncio.gather(*sending)
        print(f"acknowledged: {len(ledger.kept)}, failed: {len(ledger.failed)}, drain_s: {drain_s}")
        assert bool(ledger.failed) is (drain_s == 0)
        sent = {each.sop_instance_uid: sha256(each.data) for each in kept}
        await whole(ingest, sent, *(pod.packs for pod in pods))


def goes_on(ledger: Ledger, enough: int) -> bool:
    """Whether so much is acknowledged by now."""
    return len(ledger.kept) > enough


@pytest.mark.drill
@pytest.mark.proves("R3", part="one of two processes is killed again and again")
@pytest.mark.parametrize("disk", ["shared", "own"])
async def test_one_of_two_processes_is_killed_again_and_again(ingest: Ingest, disk: str) -> None:
    """While two senders send and studies are deleted; leases run out by the clock."""
    gateway, ledger, stopped, chance = await ingest.enrol(), Ledger(), threading.Event(), dice()
    pod = ingest.another(ingest.packs if disk == "shared" else ingest.folder / "another disk")
    whole_studies: list[tuple[str, list[DicomObject]]] = []

    def sender() -> None:
        while not stopped.is_set():
            study = a_uid()
            load = [a_ct(study=study, pixels=bytes(50_000)) for _ in range(6)]
            send([ingest, pod], gateway, load, ledger)
            whole_studies.append((study, load))

    sending = [asyncio.create_task(asyncio.to_thread(sender)) for _ in range(2)]
    deleted: set[str] = set()
    for _ in range(20):
        async with killed(pod):
            await asyncio.sleep(chance.uniform(0.1, 1.5))
            if whole_studies:
                study, load = whole_studies.pop(chance.randrange(len(whole_studies)))
                deleted |= {each.sop_instance_uid for each in load}
                await delete(ingest, await a_case(ingest, study))
                await asyncio.sleep(chance.uniform(0.0, 0.5))
    stopped.set()
    await asyncio.gather(*sending)
    kept = {uid: digest for uid, digest in ledger.kept.items() if uid not in deleted}
    print(
        f"kills: 20, acknowledged: {len(ledger.kept)}, failed: {len(ledger.failed)}, deleted: {len(deleted)}"
    )
    if disk == "shared":
        await whole(ingest, kept, ingest.packs)
    else:
        async with killed(pod):
            await whole(ingest, kept, ingest.packs, pod.packs)
    assert not await ingest.rows("select from doomed_files")
