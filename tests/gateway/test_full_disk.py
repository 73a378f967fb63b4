"""A gateway whose disk is full: it receives no more, and gives away what it has (R6)."""

import contextlib
import os
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.pki import Pki
from tests.gateway.system import CentralOfTheTest, Gateway, digest
from tests.ingest.objects import a_ct
from tests.ingest.system import sent_objects
from tests.ports import free_port
from tests.wait import eventually


@pytest.fixture
def metrics_port() -> int:
    return free_port()


@pytest.fixture
def gateway(tmp_path: Path, pki: Pki, central: CentralOfTheTest, metrics_port: int) -> Iterator[Gateway]:
    """Its spool is a file system of 8 MiB, of which 1 is the reserve."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system takes root")
    made = Gateway(
        tmp_path / "gateway",
        pki,
        dicom_address=central.address("dicom"),
        gateway_address=central.address("gateways"),
        more="reserve_mb = 1\nretention = { keep_days = 30, keep_at_least_days = 0 }\n"
        f'metrics = {{ listen = "127.0.0.1:{metrics_port}" }}',
    )
    (made.folder / "spool").symlink_to(folder)
    try:
        yield made
    finally:
        made.kill()
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Takes what is left of the disk, as somebody else would."""
    path = folder / "spool" / "of-somebody-else"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    assert os.statvfs(path).f_bavail == 0
    return path


def metrics(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}


@pytest.mark.proves("R6", part="at the gateway")
async def test_on_a_full_disk_what_was_acknowledged_is_forwarded_and_room_comes_back(
    gateway: Gateway, central: CentralOfTheTest, metrics_port: int
) -> None:
    await central.stop()
    gateway.start()
    sending = [a_ct(pixels=bytes([number]) * 500_000) for number in range(20)]
    answers = await sent_objects(gateway.modality(), *sending)
    kept = {digest(o) for o, answer in zip(sending, answers, strict=True) if answer.status == 0}
    assert {answer.status for answer in answers} == {0, 0xA700}
    assert len(kept) >= 5
    somebody_elses = fill(gateway.folder)
    assert metrics(metrics_port)["readroom_gateway_disk_full"] == 1
    assert re.search(r"warning: the disk of \S+spool is full", gateway.status())

    await central.start()
    await eventually(lambda: central.digests() == kept, within=20)
    # All is acknowledged: it may leave, the reserve is made whole, and receiving goes on.
    somebody_elses.unlink()
    await eventually(lambda: metrics(metrics_port)["readroom_gateway_disk_full"] == 0, within=20)
    late = a_ct(pixels=b"late")
    (answer,) = await sent_objects(gateway.modality(), late)
    assert answer.status == 0
    await eventually(lambda: digest(late) in central.digests(), within=10)
    shown = metrics(metrics_port)
    assert shown["readroom_gateway_reserve_bytes"] == 2**20
    assert 0 < shown["readroom_gateway_disk_free_bytes"] < shown["readroom_gateway_disk_total_bytes"]


async def test_it_starts_on_a_full_disk_and_goes_on(gateway: Gateway, central: CentralOfTheTest) -> None:
    await central.stop()
    gateway.start()
    sending = [a_ct(pixels=bytes([number]) * 100_000) for number in range(5)]
    answers = await sent_objects(gateway.modality(), *sending)
    assert {answer.status for answer in answers} == {0}
    gateway.kill()
    fill(gateway.folder)
    gateway.start()
    await central.start()
    await eventually(lambda: central.digests() == {digest(each) for each in sending}, within=20)
    (answer,) = await sent_objects(gateway.modality(), a_ct())
    assert answer.status == 0xA700
    assert "the disk is full" in gateway.log.read_text()
