"""Cut lines, frozen servers, full disks: an acknowledged instance stays, the others leave nothing."""

import asyncio
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian

from services.ingest.packformat import HEADER_LENGTH
from tests.ingest.builders import a_uid
from tests.ingest.objects import CT, a_ct
from tests.ingest.system import DicomObject, Ingest, Sender, sent_objects, sha256, store_object
from tests.wait import eventually

OUT_OF_RESOURCES = 0xA700


async def every_row_has_its_bytes(ingest: Ingest) -> int:
    """Every instance of the index is where the index says, with the SHA-256 it says."""
    rows = await ingest.rows("select * from instances")
    for row in rows:
        pack = str(row["pack_id"])
        content = (ingest.packs / pack[-2:] / f"{pack}.tar").read_bytes()
        start = row["entry_offset"] + HEADER_LENGTH + row["prefix_length"]
        data_set = content[start : start + row["data_set_length"]]
        assert hashlib.sha256(data_set).digest() == row["sha256"]
    return len(rows)


@contextmanager
def a_line_that_breaks(port: int, after_bytes: int) -> Iterator[int]:
    """A TCP proxy that ends the connection once it has passed on so many bytes; answers its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        try:
            sender, _ = listener.accept()
        except OSError:
            return
        receiver = socket.create_connection(("127.0.0.1", port))
        back = threading.Thread(target=pass_on, args=(receiver, sender, None), daemon=True)
        back.start()
        pass_on(sender, receiver, after_bytes)
        for each in (sender, receiver):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def pass_on(source: socket.socket, sink: socket.socket, limit: int | None) -> None:
        passed = 0
        try:
            while limit is None or passed < limit:
                data = source.recv(4096 if limit is None else min(4096, limit - passed))
                if not data:
                    return
                sink.sendall(data)
                passed += len(data)
        except OSError:
            return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.close()
        thread.join(5)


@pytest.mark.proves("R5")
async def test_an_instance_cut_off_anywhere_leaves_nothing_and_those_before_it_stay(ingest: Ingest) -> None:
    """Cut every 64 KiB, beginning in the TLS handshake."""
    gateway = await ingest.enrol()
    total = 700_000
    kept: dict[str, str] = {}
    for cut in range(1024, total, 64 * 1024):
        before, large = a_ct(), a_ct(pixels=os.urandom(total))

        with a_line_that_breaks(ingest.ports["dicom"], cut) as port:
            answers = await sent_objects(Sender(port, gateway.title, gateway.tls), before, large)
        statuses = [each.status for each in answers]
        assert statuses[1] is None
        if statuses[0] == 0:
            kept[before.sop_instance_uid] = sha256(before.data)
    assert len(kept) >= 9
    await eventually(lambda: all_sealed(ingest))
    assert await ingest.stored() == kept
    assert await every_row_has_its_bytes(ingest) == len(kept)
    rows = await ingest.rows("select committed_end from packs where study_id is not null")
    await eventually(lambda: on_disk(ingest) == sum(row["committed_end"] + 1024 for row in rows))


def on_disk(ingest: Ingest) -> int:
    return sum(path.stat().st_size for path in ingest.packs.rglob("*.*") if path.is_file())


async def all_sealed(ingest: Ingest) -> bool:
    return not await ingest.rows("select from packs where sealed_at is null")


@pytest.mark.proves("R4", part="a commit nobody saw the end of")
async def test_while_postgresql_is_frozen_a_store_is_refused_within_5_s_and_the_association_lives_on(
    ingest: Ingest,
) -> None:
    gateway = await ingest.enrol()
    study, series = a_uid(), a_uid()
    objects = [a_ct(study=study, series=series) for _ in range(4)]
    postgres = ingest.servers.postgres

    def send() -> tuple[list[int | None], list[float]]:
        statuses, seconds = [], []
        with Sender.of(ingest, gateway).association([(CT, ExplicitVRLittleEndian)]) as association:

            def store(each: DicomObject) -> None:
                began = time.monotonic()
                statuses.append(store_object(association, each).status)
                seconds.append(time.monotonic() - began)

            store(objects[0])
            postgres.freeze()
            try:
                store(objects[1])
                store(objects[2])
            finally:
                postgres.thaw()
            deadline = time.monotonic() + 30
            for each in objects[1:]:
                store(each)
                while statuses[-1] == OUT_OF_RESOURCES and time.monotonic() < deadline:
                    store(each)
        return statuses, seconds

    statuses, seconds = await asyncio.to_thread(send)
    assert statuses[:3] == [0, OUT_OF_RESOURCES, OUT_OF_RESOURCES]
    assert max(seconds) < 5
    assert statuses[-1] == 0
    await eventually(lambda: all_sealed(ingest), within=10)
    assert await ingest.stored() == {each.sop_instance_uid: sha256(each.data) for each in objects}
    assert await every_row_has_its_bytes(ingest) == 4
    assert await ingest.one("select count(*) from studies") == 1


async def test_while_postgresql_is_away_nobody_new_is_admitted_and_it_comes_back_by_itself(
    ingest: Ingest,
) -> None:
    gateway = await ingest.enrol()
    sender = Sender.of(ingest, gateway)
    postgres = ingest.servers.postgres
    postgres.freeze()
    try:

        def knock() -> None:
            with sender.association([(CT, ExplicitVRLittleEndian)]) as association:
                assert not association.is_established

        await asyncio.to_thread(knock)
    finally:
        postgres.thaw()
    assert sender.rejections == [(2, 3, 1)]

    async def stores() -> bool:
        return (await sent_objects(sender, a_ct()))[0].status == 0

    await eventually(stores, within=30)


@pytest.mark.proves("R1", part="NATS is not asked")
async def test_while_nats_is_away_stores_go_on_and_facts_wait(ingest: Ingest) -> None:
    gateway = await ingest.enrol()
    unpublished = "select count(*) from outbox where published_at is null"

    async def published() -> bool:
        return not await ingest.one(unpublished)

    await eventually(published, within=10)
    nats = ingest.servers.nats
    nats.freeze()
    try:
        objects = [a_ct() for _ in range(20)]
        answers = await sent_objects(Sender.of(ingest, gateway), *objects)
        assert {a.status for a in answers} == {0}
        assert await ingest.one(unpublished) >= 20
    finally:
        nats.thaw()
    await eventually(published, within=20)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
@pytest.mark.proves("R6", part="the disk of the packs")
async def test_a_full_disk_is_answered_a700_and_recovers_alone(ingest: Ingest) -> None:
    await ingest.stop()
    shutil.rmtree(ingest.packs, ignore_errors=True)
    ingest.packs.mkdir()
    if problem := run("mount", "-t", "tmpfs", "-o", "size=64m", "none", ingest.packs):
        pytest.skip(f"no file system can be mounted here: {problem}")
    try:
        await ingest.start()
        gateway = await ingest.enrol()
        filler = ingest.packs / "filler"
        filler.write_bytes(bytes(40 << 20))
        study, series = a_uid(), a_uid()
        objects = [a_ct(study=study, series=series, pixels=os.urandom(4 << 20)) for _ in range(10)]

        def send() -> tuple[list[int | None], list[int | None]]:
            with Sender.of(ingest, gateway).association([(CT, ExplicitVRLittleEndian)]) as association:
                while_full = [store_object(association, each).status for each in objects]
                filler.unlink()
                return while_full, [store_object(association, each).status for each in objects]

        while_full, afterwards = await asyncio.to_thread(send)
        assert set(while_full) == {0, OUT_OF_RESOURCES}
        assert afterwards == [0] * 10
        assert await every_row_has_its_bytes(ingest) == 10
        await ingest.stop()
    finally:
        await ingest.stop()
        assert run("umount", ingest.packs) == ""


def run(*command: str | Path) -> str:
    """What the command complains of."""
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stderr or str(done.returncode) if done.returncode else ""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.proves("R2")
@pytest.mark.proves("R1", part="the order of sync, commit and answer")
@pytest.mark.parametrize("before", [0, 1])
async def test_pack_and_index_are_durable_before_the_answer(
    ingest: Ingest, tmp_path: Path, before: int
) -> None:
    """The first of a pack, which the parent indexes; and another one, which the worker indexes while it is
    synced, and commits later."""
    gateway = await ingest.enrol()
    await ingest.stop()
    trace = tmp_path / "trace"
    with a_process_of_its_own(ingest, receive_workers="1") as process:
        await eventually(lambda: listens(ingest.ports["dicom"]), within=60)
        tracer = a_tracer([process.pid, *workers_of(process.pid)], trace)
        assert tracer.stderr is not None
        for _ in range(2):
            assert b"attached" in await asyncio.to_thread(tracer.stderr.readline)
        study, series = a_uid(), a_uid()
        objects = [a_ct(study=study, series=series, pixels=os.urandom(300_000)) for _ in range(before + 1)]
        answers = await sent_objects(Sender.of(ingest, gateway), *objects)
        assert {answer.status for answer in answers} == {0}
        tracer.send_signal(signal.SIGINT)
        tracer.wait(10)

    calls = [line.split(None, 1)[1] for line in trace.read_text().splitlines()]
    database = database_socket(ingest)

    def first(pattern: str, after: int) -> int:
        return min(at for at in places(pattern) if at > after)

    def places(pattern: str) -> list[int]:
        return [at for at, call in enumerate(calls) if re.match(pattern, call)]

    pack = r"\(\d+<[^>]*\.tar>"
    synced = places(rf"fdatasync{pack}")[before]
    written = [at for at in places(rf"pwrite(64|v){pack}") if at < synced]
    folder_synced = synced if before else first(r"fsync\(\d+<[^>]*/packs/[0-9a-f]{2}>", synced)
    # The statement of the index, or its commit, goes out behind both, and its answer comes.
    asked = first(rf"(sendto|sendmsg|write)\(\d+<{database}", folder_synced)
    told = first(rf"(recvfrom|recvmsg|read)\(\d+<{database}", asked)
    to_sender = rf"(write|sendto|sendmsg)\(\d+<TCP:\[127\.0\.0\.1:{ingest.ports['dicom']}->"
    answered = first(to_sender, written[-1])
    assert written[-1] < synced <= folder_synced < asked < told < answered
    assert not [at for at in places(rf"pwrite(64|v){pack}") if synced < at < answered]


@pytest.mark.parametrize("drain_s", [30, 0])
async def test_a_process_that_is_told_to_stop_lets_an_association_go_on_to_its_release(
    ingest: Ingest, drain_s: int
) -> None:
    """And without the time for it, it does not: the sender has to come again."""
    gateway = await ingest.enrol()
    await ingest.stop()
    study, series = a_uid(), a_uid()
    objects = [a_ct(study=study, series=series) for _ in range(6)]

    def send(process: "subprocess.Popen[bytes]") -> list[int | None]:
        with Sender.of(ingest, gateway).association([(CT, ExplicitVRLittleEndian)]) as association:
            statuses = [store_object(association, objects[0]).status]
            process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + 10
            while listens(ingest.ports["dicom"]) and time.monotonic() < deadline:
                time.sleep(0.01)
            if not drain_s:
                process.wait(10)
            statuses += [
                store_object(association, each).status if association.is_established else None
                for each in objects[1:]
            ]
        return statuses

    with a_process_of_its_own(ingest, drain_s=str(drain_s), receive_workers="2") as process:
        await eventually(lambda: listens(ingest.ports["dicom"]), within=60)
        statuses = await asyncio.to_thread(send, process)
        assert statuses == ([0] * 6 if drain_s else [0] + [None] * 5)
        assert await asyncio.to_thread(process.wait, 10) == 0
    assert await every_row_has_its_bytes(ingest) == statuses.count(0)


def workers_of(pid: int) -> list[int]:
    """The processes that receive images for an ingest."""
    children = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in children for child in path.read_text().split()]


def a_tracer(pids: list[int], trace: Path) -> "subprocess.Popen[bytes]":
    calls = "fsync,fdatasync,pwrite64,pwritev,write,sendto,sendmsg,recvfrom,recvmsg,read"
    command = [
        "strace",
        "-f",
        "-yy",
        "-s",
        "0",
        "-o",
        str(trace),
        "-p",
        ",".join(map(str, pids)),
        "-e",
        f"trace={calls}",
    ]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


@contextmanager
def a_process_of_its_own(ingest: Ingest, **more: str) -> Iterator["subprocess.Popen[bytes]"]:
    """The command a pod runs."""
    settings = {**ingest.told(), **more}
    told = {f"READROOM_INGEST_{name.upper()}": value for name, value in settings.items()}
    process = subprocess.Popen([sys.executable, "-m", "services", "ingest"], env={**os.environ, **told})
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def database_socket(ingest: Ingest) -> str:
    """How strace shows a connection to PostgreSQL."""
    if "host=" in ingest.database_url:
        return "UNIX"
    (port,) = re.findall(r":(\d+)/", ingest.database_url)
    return rf"TCP:\[[^\]]*->127\.0\.0\.1:{port}\]"
