"""Told to stop, a gateway takes nobody new, ends what is under way, and leaves the rest for later."""

import asyncio
import os
import signal
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from local.pki import Pki
from tests.gateway.system import CentralOfTheTest, Entry, Gateway, digest
from tests.ingest.objects import a_ct
from tests.ingest.system import sent_objects, store_object
from tests.ports import free_port
from tests.wait import eventually

Makes = Callable[..., Gateway]


@pytest.fixture
def makes(tmp_path: Path, pki: Pki, central: CentralOfTheTest) -> Makes:
    def made(drain_s: float, more: str = "") -> Gateway:
        return Gateway(
            tmp_path / "gateway",
            pki,
            dicom_address=central.address("dicom"),
            gateway_address=central.address("gateways"),
            more=f"drain_s = {drain_s}\nparallel = 1\n{more}",
        )

    return made


def told_to_stop(gateway: Gateway) -> None:
    assert gateway.process
    assert gateway.process.pid
    os.kill(gateway.process.pid, signal.SIGTERM)


def is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError:
        return False


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_associations_of_modalities_go_on_to_their_release(
    makes: Makes, central: CentralOfTheTest
) -> None:
    port = free_port()
    gateway = makes(30, f'metrics = {{ listen = "127.0.0.1:{port}" }}')
    gateway.start()
    sending = [a_ct() for _ in range(3)]
    contexts = [(sending[0].sop_class_uid, sending[0].transfer_syntax_uid)]
    with gateway.modality().association(contexts) as association:
        assert (await asyncio.to_thread(store_object, association, sending[0])).status == 0
        assert is_ready(port)
        told_to_stop(gateway)
        await eventually(lambda: not is_ready(port))
        await eventually(lambda: not is_listening(gateway.ports["plain"]))
        for each in sending[1:]:
            assert (await asyncio.to_thread(store_object, association, each)).status == 0
    assert await asyncio.to_thread(gateway.stop) == 0
    gateway.start()
    await eventually(lambda: central.digests() == {digest(each) for each in sending}, within=30)
    assert len(central.entries) == 3
    gateway.kill()


async def test_a_transfer_under_way_ends_and_the_others_wait_for_the_next_start(
    makes: Makes, central: CentralOfTheTest
) -> None:
    answering, gateway = threading.Event(), makes(30)
    asked: list[Entry] = []

    def answer(entry: Entry) -> int:
        asked.append(entry)
        return 0 if answering.wait(20) else 0xA700

    central.answers = answer
    gateway.start()
    under_way, waiting = a_ct(), a_ct()
    await sent_objects(gateway.modality(), under_way)
    await eventually(lambda: len(asked) == 1)
    await sent_objects(gateway.modality(), waiting)
    told_to_stop(gateway)
    await eventually(lambda: not is_listening(gateway.ports["plain"]))
    answering.set()
    assert await asyncio.to_thread(gateway.stop) == 0
    # The other one too, if its turn came before the end.
    assert gateway.states() in (["done", "waiting"], ["done", "done"])
    assert set(central.ends) == {"released"}
    gateway.start()
    await eventually(lambda: central.digests() == {digest(under_way), digest(waiting)}, within=30)
    assert len(central.entries) == 2
    gateway.kill()


async def test_what_does_not_end_in_time_goes_on_under_the_same_transfer(
    makes: Makes, central: CentralOfTheTest
) -> None:
    stuck, gateway = threading.Event(), makes(0.1)
    asked: list[Entry] = []

    def answer(entry: Entry) -> int:
        asked.append(entry)
        if len(asked) == 1:
            stuck.wait(20)
        return 0

    central.answers = answer
    gateway.start()
    sending = a_ct()
    await sent_objects(gateway.modality(), sending)
    await eventually(lambda: len(asked) == 1)
    assert await asyncio.to_thread(gateway.stop) == 0
    stuck.set()
    assert gateway.states() == ["waiting"]
    gateway.start()
    await eventually(lambda: gateway.states() == ["done"], within=30)
    assert {entry.transfer_id for entry in asked} == {central.begun[0][0]}
    gateway.kill()
