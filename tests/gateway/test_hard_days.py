"""Two gateways through days on which everything goes wrong: full disks, wrong clocks, kills, no Central.

A clock that is set while a gateway is down shows only in the times that it stored: they are moved, each time
to another side of the present.
"""

import asyncio
import os
import random
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.pki import Pki
from tests.gateway.system import CentralOfTheTest, Gateway, digest
from tests.gateway.test_full_disk import fill
from tests.gateway.test_kills import send_what_it_takes
from tests.ingest.builders import a_uid
from tests.ingest.objects import a_ct
from tests.ingest.system import DicomObject
from tests.wait import eventually

DAY_S = 24 * 3600
CLOCK_STEPS_DAYS = (-1_800, -91, -1, 0, 1, 300)
ROUNDS = 14
INSTANCES = 60
DISK = "24m"
WITHIN_S = 60.0


class HardDays:
    """A gateway on a small disk, the instances that its modality still has to send, and what it was told."""

    def __init__(self, gateway: Gateway, chance: random.Random) -> None:
        self.gateway = gateway
        self.chance = chance
        self.somebody_elses: Path | None = None
        studies = [a_uid() for _ in range(4)]
        self.left = [a_ct(study=chance.choice(studies), pixels=os.urandom(150_000)) for _ in range(INSTANCES)]
        self.every = {digest(each) for each in self.left}
        self.acknowledged: set[str] = set()

    def set_clock(self, days: int) -> None:
        """As if the clock had been set by so many days while the gateway was down."""
        spool = self.gateway.folder / "spool" / "gateway.db"
        connection = sqlite3.connect(spool, isolation_level=None)
        try:
            connection.execute("update transfers set created_at = created_at - ?", (days * DAY_S,))
            connection.execute("update items set received_at = received_at - ?", (days * DAY_S,))
        finally:
            connection.close()

    def free(self) -> None:
        if self.somebody_elses:
            self.somebody_elses.unlink()
            self.somebody_elses = None

    async def live(self, rounds: int) -> None:
        """Receives, and in each round is killed, with whatever else happens to it."""
        for _ in range(rounds):
            self.gateway.start()
            before = len(self.acknowledged)
            sending = asyncio.create_task(self._send())
            enough = before + self.chance.randint(1, 8)
            await eventually(lambda: len(self.acknowledged) >= enough or sending.done(), within=WITHIN_S)  # noqa: B023
            if self.chance.random() < 0.4 and not self.somebody_elses:
                self.somebody_elses = fill(self.gateway.folder)
            self.gateway.kill()
            await sending
            self._note()
            if self.somebody_elses is None:  # on a full disk this test could write no row either
                self.set_clock(self.chance.choice(CLOCK_STEPS_DAYS))
            elif self.chance.random() < 0.6:
                self.free()

    async def recover(self) -> None:
        """The disk has room, the gateway runs: the modality sends again until all is acknowledged."""
        self.free()
        self.gateway.start()
        while self.left:
            await self._send()
            self._note()

    async def _send(self) -> None:
        if self.left:
            sending: list[DicomObject] = list(self.left)
            await asyncio.to_thread(send_what_it_takes, self.gateway, sending, self.acknowledged)

    def _note(self) -> None:
        self.left = [each for each in self.left if digest(each) not in self.acknowledged]


@pytest.fixture
def gateways(tmp_path: Path, pki: Pki, central: CentralOfTheTest) -> Iterator[list[Gateway]]:
    made, disks = [], []
    for number in range(2):
        disk = tmp_path / f"disk{number}"
        disk.mkdir()
        mounting = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", str(disk)]
        if subprocess.run(mounting, capture_output=True, check=False).returncode:
            pytest.skip("mounting a small file system takes root")
        disks.append(disk)
        gateway = Gateway(
            tmp_path / f"gateway{number}",
            pki,
            dicom_address=central.address("dicom"),
            gateway_address=central.address("gateways"),
            more="reserve_mb = 1\nretention = { keep_days = 30, keep_at_least_days = 0 }",
        )
        (gateway.folder / "spool").symlink_to(disk)
        made.append(gateway)
    try:
        yield made
    finally:
        for gateway, disk in zip(made, disks, strict=True):
            gateway.kill()
            subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.drill
@pytest.mark.proves("R6", part="at the gateway")
@pytest.mark.parametrize("seed", [8, 9, 10])
async def test_two_gateways_lose_and_double_nothing_whatever_the_days_bring(
    gateways: list[Gateway], central: CentralOfTheTest, seed: int
) -> None:
    chance = random.Random(seed)
    days = [HardDays(gateway, random.Random(chance.random())) for gateway in gateways]
    living = asyncio.gather(*(each.live(ROUNDS) for each in days))
    while not living.done():
        await asyncio.wait({living}, timeout=chance.uniform(1, 4))
        if central.running:
            await central.stop()
        else:
            await central.start()
    await living
    if not central.running:
        await central.start()
    await asyncio.gather(*(each.recover() for each in days))

    every = set().union(*(each.every for each in days))
    assert every == set().union(*(each.acknowledged for each in days))
    await eventually(lambda: central.digests() == every, within=WITHIN_S)
    assert {len(digests) for digests in central.stored().values()} == {1}
    ages = [age.total_seconds() for _, _, _, age in central.begun]
    assert all(0 <= age <= 90 * DAY_S for age in ages)
    for each in days:
        await eventually(lambda: set(each.gateway.states()) == {"done"}, within=WITHIN_S)  # noqa: B023
