"""SIGKILL at any point: what was acknowledged to the modality reaches Central server, as one instance."""

import asyncio
import os
import random

import pytest

from tests.gateway.system import TITLE, CentralOfTheTest, Entry, Gateway, digest
from tests.ingest.builders import a_uid
from tests.ingest.objects import a_ct
from tests.ingest.system import DicomObject, store_object
from tests.wait import eventually


def send_what_it_takes(gateway: Gateway, sending: list[DicomObject], acknowledged: set[str]) -> None:
    """One association; notes each acknowledged digest at once, ends when the gateway does."""
    contexts = [(sending[0].sop_class_uid, sending[0].transfer_syntax_uid)]
    with gateway.modality().association(contexts) as association:
        for each in sending:
            answer = store_object(association, each)
            if answer.status == 0:
                acknowledged.add(digest(each))
            if answer.status is None:
                return


@pytest.mark.proves("R3", part="the gateway")
@pytest.mark.parametrize(
    "seed", [0, pytest.param(1, marks=pytest.mark.drill), pytest.param(2, marks=pytest.mark.drill)]
)
async def test_killed_while_it_receives_and_sends_it_loses_and_doubles_nothing(
    gateway: Gateway, central: CentralOfTheTest, seed: int
) -> None:
    chance = random.Random(seed)
    studies = [a_uid() for _ in range(4)]
    left = [a_ct(study=studies[number % 4], pixels=os.urandom(60_000)) for number in range(120)]
    every = {digest(each) for each in left}
    acknowledged: set[str] = set()
    gateway.start()
    kills = 0
    while left:
        before = len(acknowledged)
        sending = asyncio.create_task(asyncio.to_thread(send_what_it_takes, gateway, left, acknowledged))
        enough = before + chance.randint(1, 30)
        try:
            await eventually(lambda: len(acknowledged) >= enough or sending.done(), within=20)  # noqa: B023
        finally:
            gateway.kill()
            kills += 1
            await sending
        left = [each for each in left if digest(each) not in acknowledged]
        gateway.start()
    assert kills >= 4
    await eventually(lambda: central.digests() >= acknowledged, within=30)
    # Acknowledged to the modality or not: nothing else came, and each UID has one content.
    assert central.digests() == every
    assert {len(digests) for digests in central.stored().values()} == {1}
    await eventually(lambda: gateway.files()["incoming"] == [])
    assert set(gateway.files()["objects"]) == every


async def test_killed_in_the_middle_of_sending_it_goes_on_under_the_same_transfer(
    gateway: Gateway, central: CentralOfTheTest
) -> None:
    study = a_uid()
    sending = [a_ct(study=study) for _ in range(6)]
    acknowledged: set[str] = set()
    asked: list[Entry] = []
    answering = 3

    def stop_at(entry: Entry) -> int:
        asked.append(entry)
        return 0 if len(asked) <= answering else 0xA700

    central.answers = stop_at
    gateway.start()
    await asyncio.to_thread(send_what_it_takes, gateway, sending, acknowledged)
    await eventually(lambda: len(asked) > answering)
    gateway.kill()
    central.answers = lambda entry: 0
    gateway.start()
    await eventually(lambda: central.digests() == {digest(each) for each in sending}, within=60)
    assert {entry.transfer_id for entry in central.entries} == {central.begun[0][0]}
    assert {title for title, _ in central.stored()} == {TITLE}
    # Only the answer that was on its way when the process died may have been asked for twice.
    stored = [entry.sha256 for entry in central.entries if entry.status == 0]
    assert len(stored) <= len(sending) + 1


async def test_what_a_killed_process_left_half_received_is_cleaned_up(gateway: Gateway) -> None:
    gateway.start()
    incoming = gateway.folder / "spool" / "incoming" / "half"
    orphan = gateway.folder / "spool" / "objects" / "ab" / ("ab" * 32)
    gateway.kill()
    incoming.write_bytes(b"half")
    orphan.write_bytes(b"never in the queue")
    gateway.start()
    assert gateway.files()["incoming"] == []
    await eventually(lambda: gateway.files()["objects"] == [])
