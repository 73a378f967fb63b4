"""Power cuts in the middle of an upload: what was acknowledged is there afterwards (R1).

Everything lives on a file system in an image file behind a loop device. A power cut is a copy of the image
while the system writes: what the file system has not yet given to the device is not in it, exactly as on a
disk that lost its power. SIGKILL proves nothing of the kind, for the kernel keeps what a dead process wrote.
"""

import asyncio
import filecmp
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import asyncpg
import pytest
from rich.console import Console

from demo import comparing
from demo.cast import ADMIN, CENTRAL, VOS
from demo.dicom_files import SyntheticCT, digest
from demo.modality import Called, PynetdicomModality, Refused
from demo.setting import set_the_scene
from demo.stage import Stage
from demo.world import World
from local.embedded import EmbeddedServers
from local.processes import until
from local.system import LocalSystem
from readroom.fetch import fetch_case
from services.ingest.packformat import HEADER_LENGTH
from tests.e2e.kills import dice
from tests.e2e.silent import Silent
from tests.wait import eventually

ROUNDS = int(os.environ.get("READROOM_POWER_CUTS", "5")) // 20 or 1
CUTS = min(int(os.environ.get("READROOM_POWER_CUTS", "5")), 20)
"""Of one upload. After each, PostgreSQL starts alone and index and packs are compared; once, all starts."""
IMAGE_BYTES = 576 << 20
"""Databases, packs, and the reserves that the two gateways of the demo keep."""
SLICES = 200

pytestmark = [
    pytest.mark.drill,
    pytest.mark.skipif(os.geteuid() != 0, reason="loop devices need root"),
    pytest.mark.skipif(not shutil.which("mkfs.ext4"), reason="mkfs.ext4 is not installed (make debian)"),
]


@pytest.fixture
def disk() -> Iterator[Path]:
    """Where the image is mounted: PostgreSQL's account must pass the folders above its data."""
    folder = Path(tempfile.mkdtemp(prefix="readroom-disk-"))
    folder.chmod(0o711)
    yield folder
    folder.rmdir()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An empty file system in a file."""
    path = tmp_path / "image"
    with path.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    subprocess.run(["mkfs.ext4", "-q", "-F", path], check=True)
    return path


@contextmanager
def mounted(image: Path, where: Path) -> Iterator[None]:
    """The image as a file system; mounting replays its journal, as after a power cut."""
    subprocess.run(["mount", "-o", "loop", image, where], check=True)
    try:
        yield
    finally:
        # A PostgreSQL that was killed leaves processes that end by themselves, a little later.
        assert until(lambda: subprocess.run(["umount", where], check=False).returncode == 0, 10.0)


def cut_power(system: LocalSystem, image: Path, copy: Path) -> None:
    """Copies the device's content while everything stands still; writeback may still run, so look twice."""
    stopped = [*_family(system.service_pid("ingest")), *_family(system.servers.postgres.pid)]
    stopped += [*_family(system.servers.nats.pid), *_family(system.service_pid("routing"))]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        for _ in range(10):
            subprocess.run(["cp", "--sparse=always", image, copy], check=True)
            if filecmp.cmp(image, copy, shallow=False):
                return
        raise AssertionError("the image did not stand still")
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


@pytest.mark.proves("R1", part=f"{CUTS * ROUNDS} power cuts, storing through DICOM")
@pytest.mark.parametrize("number", range(ROUNDS))
async def test_what_was_acknowledged_survives_a_power_cut(
    disk: Path, image: Path, tmp_path: Path, number: int
) -> None:
    study = SyntheticCT(slices=SLICES, size=512, name=f"power-{number}", institution_name="MS44")
    paths = await asyncio.to_thread(study.write, tmp_path / "study")
    acknowledged: list[Path] = []
    cuts: list[tuple[Path, list[Path]]] = []
    chance = dice()

    with mounted(image, disk):
        system = LocalSystem(disk / "data", first_admin=ADMIN)
        await asyncio.to_thread(system.start)
        try:
            assert system.servers.postgres.home.is_relative_to(disk)
            async with AsyncExitStack() as resources:
                world = World(Stage(Console(quiet=True)), system, resources)
                await set_the_scene(world)
                host, _, port = world.endpoints.dicom.rpartition(":")
                ingest = Called(host, int(port), "READROOM", world.gateways[CENTRAL.name].identity)
                # Straight to ingest: the gateway is not what is tried here.
                sending = asyncio.create_task(asyncio.to_thread(_send, paths, ingest, acknowledged))
                for each in range(1, CUTS + 1):
                    due = each * SLICES // (CUTS + 1)
                    await eventually(lambda due=due: len(acknowledged) >= due, within=60.0)  # type: ignore[misc]
                    await asyncio.sleep(chance.uniform(0, 0.03))  # anywhere between two answers
                    kept = list(acknowledged)  # before the power fails, not after
                    copy = tmp_path / f"cut-{each}"
                    await asyncio.to_thread(cut_power, system, image, copy)
                    cuts.append((copy, kept))
                await asyncio.wait_for(sending, 60.0)
        finally:
            await asyncio.to_thread(system.stop)

    assert CUTS == len(cuts)
    whole = chance.randrange(CUTS)
    for each, (copy, kept) in enumerate(cuts):
        with mounted(copy, disk):
            data = disk / "data"
            await asyncio.to_thread(_the_packs_hold_what_the_index_says, data, kept)
            if each == whole:
                await _everything_is_served(data, study, kept, tmp_path / f"{copy.name}-fetched")
        copy.unlink()
    print(f"{CUTS} cuts, {[len(kept) for _, kept in cuts]} instances acknowledged before them")


def _send(paths: list[Path], ingest: Called, acknowledged: list[Path]) -> None:
    sender = PynetdicomModality(CENTRAL.ae_title)
    while len(acknowledged) < len(paths):
        left = paths[len(acknowledged) :]
        coming = iter(left)
        try:
            sender.send(left, ingest, lambda coming=coming: acknowledged.append(next(coming)))  # type: ignore[misc]
        except (Refused, OSError, RuntimeError):
            continue  # it stood still for too long


def _the_packs_hold_what_the_index_says(data: Path, kept: list[Path]) -> None:
    """Starts PostgreSQL alone: each instance of its index has its bytes, each acknowledged one is in it."""
    servers = EmbeddedServers(data, ["ingest"])
    servers.open()
    try:
        servers.postgres.start()
        instances = asyncio.run(_instances(servers.database_url("ingest")))
    finally:
        servers.stop()
    for row in instances:
        pack = str(row["pack_id"])
        with (data / "packs" / pack[-2:] / f"{pack}.tar").open("rb") as file:
            file.seek(row["entry_offset"] + HEADER_LENGTH + row["prefix_length"])
            assert hashlib.sha256(file.read(row["data_set_length"])).digest() == row["sha256"]
    assert set(map(digest, kept)) <= {row["sha256"].hex() for row in instances}


async def _instances(database: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(database)
    try:
        return await connection.fetch("select * from instances")
    finally:
        await connection.close()


async def _everything_is_served(data: Path, study: SyntheticCT, kept: list[Path], folder: Path) -> None:
    """Starts the system on what the power cut left; every acknowledged slice is served as it was sent."""
    system = LocalSystem(data)
    await asyncio.to_thread(system.start)
    try:
        async with AsyncExitStack() as resources:
            world = World(Stage(Console(quiet=True)), system, resources)

            async def at_least_what_was_acknowledged() -> str | None:
                case = await world.case(VOS.login, study.study_instance_uid)
                return case.case_id if case and case.instance_count >= len(kept) else None

            case_id = await eventually(at_least_what_was_acknowledged, within=30.0)
            assert case_id
            fetched = await fetch_case(await world.acting_as(VOS.login), case_id, folder, Silent())
        originals, copies = comparing.by_uid(kept), comparing.by_uid(fetched)
        assert originals.keys() <= copies.keys()
        assert all(comparing.same_bytes(originals[uid], copies[uid]) for uid in originals)
    finally:
        await asyncio.to_thread(system.stop)
