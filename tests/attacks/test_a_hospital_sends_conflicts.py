"""A hospital sends other bytes under UIDs that are stored, as large as it likes (A27).

Position: a gateway certificate of one hospital.
"""

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ingest.builders import a_uid
from tests.ingest.objects import a_ct
from tests.ingest.system import DicomObject, Ingest, Sender, sent_objects, sha256
from tests.ingest.test_deletion import a_case, delete, only_left
from tests.wait import eventually

CONFLICT = 0xC111
LARGE = 24 << 20


def a_conflict(study: str, uid: str, size: int = 3000) -> DicomObject:
    """Another large instance under one UID each time."""
    return a_ct(study=study, uid=uid, pixels=os.urandom(size))


@contextmanager
def a_slow_folder(folder: Path, seconds: float) -> Iterator[None]:
    """Whatever this process opens in `folder` takes so long, as on a disk that is in trouble."""
    command = ["strace", "-f", "-p", str(os.getpid()), "-P", str(folder), "-o", os.devnull]
    delay = f"inject=openat:delay_exit={int(seconds * 1e6)}"
    strace = subprocess.Popen([*command, "-e", "trace=openat", "-e", delay], stderr=subprocess.PIPE)
    assert strace.stderr is not None
    try:
        assert b"attached" in strace.stderr.readline()
        yield
    finally:
        strace.terminate()
        strace.wait(10)
        strace.stderr.close()


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed (make debian)")
@pytest.mark.proves("A27", part="the answer does not wait for the bytes to be kept")
async def test_a_large_conflict_is_refused_for_good_however_slow_the_quarantine_folder_is(
    ingest: Ingest,
) -> None:
    sender = Sender.of(ingest, await ingest.enrol())
    study, uid = a_uid(), a_uid()
    assert [each.status for each in await sent_objects(sender, a_ct(study=study, uid=uid))] == [0]
    large = a_conflict(study, uid, LARGE)
    with a_slow_folder(ingest.packs / "quarantine", 6.0):
        began = time.monotonic()
        (answer,) = await sent_objects(sender, large)
    assert answer.status == CONFLICT
    assert time.monotonic() - began < 5
    kept = await ingest.quarantine()
    assert set(kept) == {sha256(large.data)}
    assert kept[sha256(large.data)].endswith(large.data)


@pytest.mark.proves("A27", part="what is kept is counted and goes with its study")
async def test_no_refused_byte_is_uncounted_and_none_outlives_its_study(ingest: Ingest) -> None:
    """Several associations at once, and a stop in the middle: every byte on the disk has its row."""
    ingest.environ["READROOM_INGEST_QUARANTINE_INSTANCES"] = "5"
    await ingest.stop()
    await ingest.start()
    gateway = await ingest.enrol()
    sender, study = Sender.of(ingest, gateway), a_uid()
    stored = [a_ct(study=study) for _ in range(3)]
    await sent_objects(sender, *stored)

    async def attack() -> set[int | None]:
        sending = [a_conflict(study, each.sop_instance_uid) for each in stored]
        return {each.status for each in await sent_objects(sender, *sending, a_ct(study=study))}

    answers = await asyncio.gather(*(attack() for _ in range(4)))
    assert set().union(*answers) == {CONFLICT, 0}
    await ingest.stop()
    await ingest.start()
    rows = await ingest.rows("select pack_id, committed_end from packs where study_id is not null")
    ends = {f"{row['pack_id']}.tar": row["committed_end"] + 1024 for row in rows}
    assert {path.name: path.stat().st_size for path in ingest.pack_files()} == ends
    kept = await ingest.quarantine()
    assert len(kept) == 5
    for digest, file in kept.items():
        assert sha256(file[144 + int.from_bytes(file[140:144], "little") :]) == digest
    assert len(await ingest.stored()) == 3 + 4

    await delete(ingest, await a_case(ingest, study))
    await eventually(lambda: only_left(ingest))
