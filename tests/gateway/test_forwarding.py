"""What a modality sends arrives at Central server, once, whatever happens on the way."""

import asyncio
import os
import re
import socket
import threading
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from demo.dicom_files import CATALOGUE
from gateway.__main__ import main
from gateway.queue import DELETED
from kernel.release import VERSION
from local.pki import Pki
from plumbing.components import COMPONENTS
from tests.gateway.system import TITLE, CentralOfTheTest, Entry, Gateway, digest
from tests.ingest.builders import a_uid
from tests.ingest.objects import a_ct, with_other_bytes
from tests.ingest.system import DicomObject, sent_objects, store_object
from tests.wait import eventually


async def test_every_kind_of_object_arrives_byte_for_byte_in_its_own_transfer_syntax(
    gateway: Gateway, central: CentralOfTheTest
) -> None:
    gateway.start()
    objects = [DicomObject.of(sample.path) for sample in CATALOGUE]
    answers = await sent_objects(gateway.modality(), *objects)
    assert {answer.status for answer in answers} == {0}
    await eventually(lambda: len(central.digests()) == len(objects), within=20)
    assert {
        (entry.sop_instance_uid, entry.transfer_syntax_uid, entry.sha256) for entry in central.entries
    } == {(o.sop_instance_uid, o.transfer_syntax_uid, digest(o)) for o in objects}


async def test_a_study_is_one_transfer_announced_with_its_age_and_named_by_the_association(
    gateway: Gateway, central: CentralOfTheTest
) -> None:
    gateway.start()
    study = a_uid()
    sending = [a_ct(study=study) for _ in range(5)]
    await sent_objects(gateway.modality(), *sending)
    await eventually(lambda: len(central.digests()) == 5)
    await eventually(lambda: central.ends == ["released"])
    (begun,) = central.begun
    assert begun[1:3] == (study, TITLE)
    assert 0 <= begun[3].total_seconds() < 60
    assert {(entry.transfer_id, entry.calling_ae_title) for entry in central.entries} == {(begun[0], TITLE)}
    assert gateway.states() == ["done"]


async def test_forwarding_does_not_wait_for_the_studys_end(
    gateway: Gateway, central: CentralOfTheTest
) -> None:
    gateway.start()
    study = a_uid()
    first, second = a_ct(study=study), a_ct(study=study)
    contexts = [(first.sop_class_uid, first.transfer_syntax_uid)]
    with gateway.modality().association(contexts) as association:
        assert (await asyncio.to_thread(store_object, association, first)).status == 0
        await eventually(lambda: digest(first) in central.digests())
        # The modality's association is still open, Central's ends when the study is quiet.
        await eventually(lambda: central.ends == ["released"])
        assert (await asyncio.to_thread(store_object, association, second)).status == 0
        await eventually(lambda: digest(second) in central.digests())


async def test_what_is_sent_again_after_the_end_is_a_new_transfer(
    gateway: Gateway, central: CentralOfTheTest
) -> None:
    gateway.start()
    sending = a_ct()
    for number in (1, 2):
        await sent_objects(gateway.modality(), sending, sending)
        await eventually(lambda: len(central.ends) == number)  # noqa: B023 - awaited here
    assert len({transfer_id for transfer_id, *_ in central.begun}) == 2
    assert gateway.files()["objects"] == [digest(sending)]


async def test_other_bytes_under_one_uid_are_both_forwarded_and_central_decides(
    gateway: Gateway, central: CentralOfTheTest
) -> None:
    one = a_ct()
    other = with_other_bytes(one)
    known: dict[str, str] = {}
    central.answers = lambda e: 0 if known.setdefault(e.sop_instance_uid, e.sha256) == e.sha256 else 0xC123
    gateway.start()
    answers = await sent_objects(gateway.modality(), one, other)
    assert [answer.status for answer in answers] == [0, 0]
    await eventually(lambda: [entry.status for entry in central.entries] == [0, 0xC123])
    await eventually(lambda: gateway.states() == ["done", "failed"])


@pytest.mark.proves("GWY-20", part="one gateway serves several facilities, with the configuration it has")
async def test_the_title_that_a_modality_calls_is_the_one_a_study_goes_on_under(
    tmp_path: Path, pki: Pki, central: CentralOfTheTest
) -> None:
    gateway = Gateway(
        tmp_path / "gateway",
        pki,
        dicom_address=central.address("dicom"),
        gateway_address=central.address("gateways"),
        titles=("RIVERSIDE", "HARBOUR"),
    )
    gateway.start()
    try:
        sending = a_ct()
        for title in ("RIVERSIDE", "HARBOUR"):
            await sent_objects(gateway.modality(called=title), sending)
        await eventually(lambda: len(central.entries) == 2)
        assert set(central.stored()) == {(t, sending.sop_instance_uid) for t in ("RIVERSIDE", "HARBOUR")}
    finally:
        gateway.kill()


async def test_while_central_is_away_studies_are_kept_and_the_transfer_keeps_its_id(
    gateway: Gateway, central: CentralOfTheTest
) -> None:
    await central.stop()
    gateway.start()
    sending = [a_ct() for _ in range(4)]
    answers = await sent_objects(gateway.modality(), *sending)
    assert {answer.status for answer in answers} == {0}
    await eventually(lambda: gateway.log.read_text().count("a transfer was interrupted") > 8, within=20)
    await central.start()
    await eventually(lambda: central.digests() == {digest(each) for each in sending}, within=60)
    assert len({transfer_id for transfer_id, *_ in central.begun}) == 4
    assert len(central.entries) == 4


async def test_what_central_cannot_take_now_is_tried_again_under_the_same_transfer(
    gateway: Gateway, central: CentralOfTheTest
) -> None:
    tries: Counter[str] = Counter()

    def busy(entry: Entry) -> int:
        tries[entry.sop_instance_uid] += 1
        return (0xA700, 0x0110, 0)[min(tries[entry.sop_instance_uid], 3) - 1]

    central.answers = busy
    gateway.start()
    study = a_uid()
    sending = [a_ct(study=study) for _ in range(3)]
    await sent_objects(gateway.modality(), *sending)
    await eventually(lambda: central.digests() == {digest(each) for each in sending}, within=60)
    assert set(tries.values()) == {3}
    assert central.associations == 7  # it waited after each of six failures
    assert len({entry.transfer_id for entry in central.entries}) == 1


async def test_a_fixed_failure_is_final_for_that_instance_only_and_shown(
    gateway: Gateway, central: CentralOfTheTest
) -> None:
    study = a_uid()
    sending = [a_ct(study=study) for _ in range(4)]
    bad = sending[1]
    central.answers = lambda entry: 0xA900 if entry.sha256 == digest(bad) else 0
    gateway.start()
    await sent_objects(gateway.modality(), *sending)
    await eventually(lambda: len(central.entries) == 4)
    await eventually(lambda: central.ends == ["released"])
    assert Counter(entry.status for entry in central.entries) == {0: 3, 0xA900: 1}
    shown = gateway.status()
    assert bad.sop_instance_uid in shown
    assert "A900" in shown
    assert "of the test" in shown


async def test_no_more_studies_than_allowed_are_under_way_at_once(
    gateway: Gateway, central: CentralOfTheTest
) -> None:
    both = threading.Barrier(2)

    def meet(entry: Entry) -> int:
        both.wait(10)  # fails unless two studies are under way together
        return 0

    central.answers = meet
    gateway.start()
    await sent_objects(gateway.modality(), *[a_ct() for _ in range(4)])
    await eventually(lambda: len(central.entries) == 4, within=60)
    assert central.most_open == 2


async def test_an_association_that_central_aborts_goes_on_later(
    gateway: Gateway, central: CentralOfTheTest
) -> None:
    aborted = threading.Event()

    def abort_once(entry: Entry) -> int:
        if not aborted.is_set():
            aborted.set()
            assert central._acceptor
            central._acceptor.abort(lambda handler: True)
        return 0

    central.answers = abort_once
    gateway.start()
    study = a_uid()
    sending = [a_ct(study=study, pixels=os.urandom(200_000)) for _ in range(10)]
    await sent_objects(gateway.modality(), *sending)
    await eventually(lambda: central.digests() == {digest(each) for each in sending}, within=60)
    assert "aborted" in central.ends
    assert len({entry.transfer_id for entry in central.entries}) == 1


@pytest.mark.proves("GWY-2")
async def test_the_way_to_central_is_two_outgoing_connections_and_nothing_else(
    gateway: Gateway, central: CentralOfTheTest
) -> None:
    going = threading.Event()
    central.answers = lambda entry: 0 if going.wait(10) else 0xA700
    gateway.start()
    assert gateway.process
    await sent_objects(gateway.modality(), a_ct())
    await eventually(lambda: central.open == 1)
    sockets = gateway.sockets()
    going.set()
    of_the_site = set(gateway.ports.values())
    assert {local for local, _, listens in sockets if listens} == of_the_site
    outgoing = {remote for local, remote, listens in sockets if not listens and local not in of_the_site}
    assert outgoing == set(central.ports.values())


@pytest.mark.proves("GWY-3", part="to Central server only over TLS, with its certificate verified")
async def test_a_central_with_another_certificate_sees_no_image(
    tmp_path: Path, pki: Pki, central: CentralOfTheTest
) -> None:
    # The same names, vouched for by another authority.
    false = CentralOfTheTest(Pki.make(tmp_path / "impostor", COMPONENTS.values(), datetime.now(UTC)))
    await false.start()
    # The announcement goes to the true one, so that only the image's way is in question.
    gateway = Gateway(
        tmp_path / "gateway",
        pki,
        dicom_address=false.address("dicom"),
        gateway_address=central.address("gateways"),
    )
    gateway.start()
    try:
        await sent_objects(gateway.modality(), a_ct())
        await eventually(
            lambda: "is refused" in gateway.rows("select reason from transfers")[0][0], within=60
        )
        assert (false.entries, false.associations) == ([], 0)
        assert len(central.begun) >= 1
    finally:
        gateway.kill()
        await false.stop()


@pytest.mark.proves("GWY-3", part="no plain text to Central server")
async def test_a_central_that_speaks_plain_text_hears_nothing_but_a_tls_greeting(
    tmp_path: Path, pki: Pki, central: CentralOfTheTest
) -> None:
    heard: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def listen() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                heard.append(connection.recv(65536))
                connection.sendall(b"\x02\0\0\0\0\x04abcd")

    threading.Thread(target=listen, daemon=True).start()
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    gateway = Gateway(
        tmp_path / "gateway", pki, dicom_address=address, gateway_address=central.address("gateways")
    )
    gateway.start()
    try:
        sending = a_ct()
        await sent_objects(gateway.modality(), sending)
        await eventually(lambda: len(heard) >= 3, within=60)
        assert {greeting[:2] for greeting in heard} == {b"\x16\x03"}  # a TLS handshake record
        assert not [g for g in heard if TITLE.encode() in g or sending.sop_instance_uid.encode() in g]
    finally:
        gateway.kill()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@pytest.mark.proves("GWY-13", part="by command, to Central server")
async def test_a_study_deleted_in_the_cloud_is_refused_once_and_goes_again_when_it_is_exported(
    gateway: Gateway, central: CentralOfTheTest
) -> None:
    """The answer is final for the whole transfer (A26): what waits is not even sent. Several at once."""
    studies = sorted(a_uid() for _ in range(2))
    sending = [a_ct(study=study) for study in studies for _ in range(5)]
    old: set[str | None] = set()
    central.answers = lambda entry: DELETED if entry.transfer_id in old else 0
    await central.stop()
    gateway.start()
    await sent_objects(gateway.modality(), *sending)
    old |= {row[0] for row in gateway.rows("select id from transfers")}
    await central.start()
    await eventually(lambda: gateway.states() == ["failed", "failed"])
    assert [entry.status for entry in central.entries] == [DELETED, DELETED]
    shown = gateway.status()
    assert len(re.findall(r"failed +RIVERSIDE +\S+ +\S+ \S+ +0 +0 +5 +of the test", shown)) == 2
    assert shown.count("C113") == 10

    kept = gateway.acts("--kept")
    assert all(re.search(rf"{study} +RIVERSIDE +5 ", kept) for study in studies)
    answer = gateway.acts("--export", *studies)
    assert answer.splitlines() == [f"exporting {study} as RIVERSIDE: 5 instances" for study in studies]
    await eventually(lambda: gateway.states() == ["failed", "failed", "done", "done"])
    assert central.digests() == {digest(each) for each in sending}
    assert not old & {entry.transfer_id for entry in central.entries if entry.status == 0}


def test_an_export_of_what_is_not_kept_says_so(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    def exports(*studies: str) -> str:
        assert main(["--config", str(gateway.config), "--export", *studies]) == 1
        return capsys.readouterr().err

    assert "holds no gateway yet" in exports("1.2.3")
    gateway.start()
    assert exports("1.2.3") == "gateway: this gateway keeps no study `1.2.3`\n"
    for hostile in ("", "../../etc", "1.2'; drop table items; --", "1" * 65):
        assert "`export`" in exports("1.2.3", hostile)


@pytest.mark.proves("GWY-15", part="the gateway reports its version")
async def test_a_gateway_tells_how_it_is_as_soon_as_it_runs(
    gateway: Gateway, central: CentralOfTheTest
) -> None:
    gateway.start()
    (told,) = await eventually(lambda: central.told)
    assert (told.software_version, told.waiting_studies) == (VERSION, 0)
    assert not told.HasField("oldest_waits")
