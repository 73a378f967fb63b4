"""What a technician sees: what was refused, what waits, what is kept; by command, log, metrics and probes."""

import asyncio
import json
import os
import re
import socket
import sqlite3
import struct
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.__main__ import main
from gateway.logfile import LogFile
from gateway.refusals import Kind, advice
from local.pki import Pki
from plumbing.dimse.negotiation import write_proposal
from tests.gateway.system import MODALITY, TITLE, CentralOfTheTest, Gateway
from tests.ingest.builders import a_uid
from tests.ingest.objects import CT, a_ct, element
from tests.ingest.system import DicomObject, sent_objects
from tests.odd_data_sets import TAKEN, short, store
from tests.plumbing.dimse.peers import ByHand, checked_by_a_balancer, rejection
from tests.ports import free_port
from tests.wait import eventually

FIND = "1.2.840.10008.5.1.4.1.2.2.1"


@pytest.fixture
def watched(tmp_path: Path, pki: Pki, central: CentralOfTheTest) -> Iterator[Gateway]:
    """A gateway with metrics and a log file."""
    running = Gateway(
        tmp_path / "gateway",
        pki,
        dicom_address=central.address("dicom"),
        gateway_address=central.address("gateways"),
        more=f'metrics = {{listen = "127.0.0.1:{free_port()}"}}\nlog = {{file = "told.log"}}',
    )
    try:
        yield running
    finally:
        running.kill()


def asks(gateway: Gateway, path: str) -> tuple[int, str]:
    """What the gateway's own page answers."""
    found = re.search(r'metrics = {listen = "([^"]+)"', gateway.config.read_text())
    assert found
    try:
        with urllib.request.urlopen(f"http://{found[1]}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def status(gateway: Gateway, *more: str) -> Any:
    return json.loads(gateway.acts("--status", "--json", *more))


@pytest.mark.proves("BEY-7", part="what a gateway refuses is in its status, log and metrics")
async def test_whatever_is_refused_is_told_with_what_to_do(watched: Gateway) -> None:
    await asyncio.to_thread(watched.start)
    whole = a_ct()
    await asyncio.to_thread(_refused_in_every_way, watched, whole)
    await eventually(lambda: status(watched)["refused_instances"]["total"] == 3)

    shown = status(watched)
    (class_refused,) = shown["refused_contexts"]["rows"]
    assert (class_refused["uid"], class_refused["calling"], class_refused["cause"]) == (
        FIND,
        MODALITY,
        "class",
    )
    by_cause = {row["cause"]: row for row in shown["refused_instances"]["rows"]}
    assert by_cause.keys() == {"C002", "0117", "cut off"}
    assert by_cause["C002"]["uid"] == whole.sop_instance_uid
    assert by_cause["C002"]["called"] == TITLE
    assert by_cause["C002"]["remote"] == "127.0.0.1"
    assert {
        (row["cause"], row["calling"], row["called"]) for row in shown["refused_associations"]["rows"]
    } == {
        ("no title", r"R\xf6ntgen", TITLE),
        ("rejected 1,1,7", MODALITY, "NOBODY"),
        ("violation", MODALITY, TITLE),
    }
    (odd,) = shown["odd_instances"]["rows"]
    assert odd["cause"] == "has no value representation"
    assert "(0029,1001)" in odd["reason"]
    assert by_cause["C002"]["reason"] == "the data set is truncated: the data set ends inside an element"
    for table in ("refused_contexts", "refused_instances", "refused_associations", "odd_instances"):
        for row in shown[table]["rows"]:
            assert row["what_to_do"]
            assert row["last_at"].startswith("20")

    text = watched.status()
    for part in (whole.sop_instance_uid, "the data set is truncated", FIND, r"R\xf6ntgen"):
        assert part in text
    log = (watched.folder / "told.log").read_text()
    told = [json.loads(line) for line in log.splitlines()]
    assert any(
        line.get("uid") == whole.sop_instance_uid and line["cause"] == "C002" and line["advice"]
        for line in told
    )
    metrics = asks(watched, "/metrics")[1]
    for line in (
        'readroom_gateway_refusals_total{cause="C002",kind="instance"} 1.0',
        'readroom_gateway_refusals_total{cause="class",kind="context"} 1.0',
        'readroom_gateway_refusals_total{cause="rejected 1,1,7",kind="association"} 1.0',
        f'readroom_gateway_contexts_refused{{sop_class_uid="{FIND}"}} 1.0',
    ):
        assert line in metrics


@pytest.mark.proves("OPS-5", part="checks of balancers are no refusals of a gateway")
async def test_the_checks_of_a_balancer_are_no_refusals(gateway: Gateway) -> None:
    gateway.start()
    for listener in ("tls", "plain"):
        await asyncio.to_thread(checked_by_a_balancer, gateway.ports[listener])
    for listener in ("tls", "plain"):  # each accepts in turn, so whoever checked has been served
        await asyncio.to_thread(_says_nonsense, gateway.ports[listener])
    for table, cause in (("refused_handshakes", "plain text"), ("refused_associations", "no request")):
        rows = await eventually(partial(refused, gateway, table))
        assert [(row["cause"], row["times"]) for row in rows] == [(cause, 1)]


def refused(gateway: Gateway, table: str) -> Any:
    return status(gateway)[table]["rows"]


def _says_nonsense(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 5) as peer:
        peer.sendall(b"GET / HTTP/1.1\r\n\r\n")
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(4096):
            pass


def _refused_in_every_way(gateway: Gateway, whole: DicomObject) -> None:
    port = gateway.ports["plain"]
    rejection(port, calling=MODALITY, called="NOBODY")
    stranger = ByHand(port, associate=False)
    request = write_proposal("R.ntgen", TITLE, [(CT, "1.2.840.10008.1.2.1")], None)
    stranger.socket.sendall(request.replace(b"R.ntgen", b"R\xf6ntgen"))
    assert stranger.pdu()[0] == 0x03
    stranger.close()
    assert store(port, (whole.sop_instance_uid, whole.data[:-10]), called=TITLE) == 0xC002
    assert store(port, TAKEN["VR ??"].made(), called=TITLE) == 0
    sender = ByHand(port, associate=False)
    sender.socket.sendall(
        write_proposal(MODALITY, TITLE, [(CT, "1.2.840.10008.1.2.1"), (FIND, "1.2.840.10008.1.2")], None)
    )
    assert sender.pdu()[0] == 0x02
    sender.command(0x0001, instance="1.2/3").fragment(b"x", command=False)
    assert sender.status() == 0x0117
    sender.command(0x0001).fragment(b"x", command=False, last=False)
    sender.command(0x0001)  # within a data set
    assert sender.aborted() == (2, 5)


async def test_a_site_may_keep_vendors_own_classes_out_and_sees_which(
    tmp_path: Path, pki: Pki, central: CentralOfTheTest
) -> None:
    strict = Gateway(
        tmp_path / "gateway",
        pki,
        dicom_address=central.address("dicom"),
        gateway_address=central.address("gateways"),
        more="private_classes = false",
    )
    await asyncio.to_thread(strict.start)
    raw = "1.3.12.2.1107.5.9.1"
    try:
        peer = ByHand(strict.ports["plain"], associate=False)
        peer.socket.sendall(write_proposal(MODALITY, TITLE, [(raw, "1.2.840.10008.1.2.1")], None))
        assert peer.pdu()[0] == 0x02
        peer.command(0x0001, sop_class=raw).fragment(b"x", command=False)
        assert peer.status() == 0x0122
        peer.close()
        (row,) = status(strict)["refused_contexts"]["rows"]
        assert (row["uid"], row["times"]) == (raw, 1)
    finally:
        strict.kill()


async def test_a_device_that_errs_in_each_instance_is_one_row_that_counts(gateway: Gateway) -> None:
    await asyncio.to_thread(gateway.start)
    odd = short(b"??")
    sending = []
    for _ in range(5):
        whole = a_ct()
        at = whole.data.index(struct.pack("<HH2s", 0x7FE0, 0x0010, b"OW"))
        sending.append(replace(whole, data=whole.data[:at] + odd + odd + whole.data[at:]))
    assert {answer.status for answer in await sent_objects(gateway.modality(), *sending)} == {0}
    await eventually(lambda: status(gateway)["odd_instances"]["total"] == 5)
    (row,) = status(gateway)["odd_instances"]["rows"]
    assert (row["times"], row["calling"]) == (5, MODALITY)
    assert sending[-1].sop_instance_uid in row["reason"]


async def test_of_an_element_with_two_values_the_gateway_names_it(gateway: Gateway) -> None:
    await asyncio.to_thread(gateway.start)
    whole = a_ct()
    twice = replace(whole, data=element(0x0010_0010, "PN", "Other^Name") + whole.data)
    (answer,) = await sent_objects(gateway.modality(), twice)
    assert answer.status == 0xC001
    await eventually(lambda: status(gateway)["refused_instances"]["total"] == 1)
    (row,) = status(gateway)["refused_instances"]["rows"]
    assert row["reason"] == "the data set is malformed: (0010,0010) occurs twice with different values"
    assert "Other" not in gateway.status() + gateway.log.read_text()


async def test_the_status_counts_what_it_does_not_show(gateway: Gateway, central: CentralOfTheTest) -> None:
    await central.stop()
    gateway.start()
    await sent_objects(gateway.modality(), *[a_ct() for _ in range(25)])
    assert "transfers: 25 (20 shown; --all shows more)" in gateway.status()
    await eventually(lambda: any(row["reason"] for row in status(gateway)["transfers"]["rows"]))
    shown = status(gateway, "--all")
    assert (shown["transfers"]["total"], len(shown["transfers"]["rows"])) == (25, 25)
    assert shown["instances_by_outcome"] == {"waiting": 25, "acknowledged": 0, "refused": 0}
    assert shown["transfers_by_state"]["waiting"] + shown["transfers_by_state"]["sending"] == 25
    assert 0 < shown["oldest_waits_s"] < 600
    assert shown["disk"]["free_bytes"] > 0
    tried = [row for row in shown["transfers"]["rows"] if row["reason"] and row["state"] == "waiting"]
    assert tried
    assert all(0 <= row["next_try_s"] <= 30 for row in tried)


async def test_the_status_says_when_and_why_central_server_refused(
    gateway: Gateway, central: CentralOfTheTest
) -> None:
    central.answers = lambda entry: 0xC003
    gateway.start()
    sending = a_ct()
    await sent_objects(gateway.modality(), sending)
    await eventually(lambda: gateway.states() == ["failed"])
    (row,) = status(gateway)["refused_by_central_server"]["rows"]
    assert (row["instance"], row["status"], row["reason"]) == (
        sending.sop_instance_uid,
        "C003",
        "of the test",
    )
    assert row["at"].startswith("20")
    assert "--export" in row["what_to_do"]


async def test_the_gateway_says_whether_it_works(watched: Gateway) -> None:
    await asyncio.to_thread(watched.start)
    await eventually(lambda: _answers(watched))
    for path in ("/livez", "/startupz", "/healthz"):
        assert asks(watched, path) == (200, "ok")
    code, parts = asks(watched, "/readyz")
    assert (code, json.loads(parts)) == (200, {"listener": True, "database": True, "disk": True})
    (watched.folder / "spool" / "reserve").write_bytes(b"")
    code, parts = asks(watched, "/readyz")
    assert code == 503 or json.loads(parts)["disk"]  # the reserve may be whole again
    assert asks(watched, "/elsewhere")[0] == 404


def _answers(gateway: Gateway) -> bool:
    try:
        return asks(gateway, "/startupz")[0] == 200
    except OSError:
        return False


KEPT = (
    ("Vermeer^Ada", "P-100", "A-1", "20260102"),
    ("Müller^Änne", "P-200", "B-2", "2026.02.03"),
    ("García López^José", "q-300", "", ""),
)


@pytest.mark.proves("GWY-13", part="a study to export is found by patient, ID, accession number and date")
@pytest.mark.parametrize("from_before", [False, True], ids=["of this version", "of the version before"])
async def test_kept_studies_are_found_by_their_patient(gateway: Gateway, from_before: bool) -> None:
    gateway.start()
    studies = [a_uid() for _ in KEPT]
    for study, (name, patient_id, accession, day) in zip(studies, KEPT, strict=True):
        more = {0x0008_0005: ("CS", "ISO_IR 192"), 0x0010_0010: ("PN", name), 0x0010_0020: ("LO", patient_id)}
        more |= {0x0008_0020: ("DA", day), 0x0008_0050: ("SH", accession)}
        (answer,) = await sent_objects(gateway.modality(), a_ct(study=study, more=more))
        assert answer.status == 0
    await eventually(lambda: gateway.states() == ["done"] * 3)
    gateway.stop()
    if from_before:
        _as_the_version_before_left_it(gateway)
        await asyncio.to_thread(gateway.start)

    def found(*options: str) -> list[int]:
        rows = json.loads(gateway.acts("--kept", "--json", *options))["kept"]["rows"]
        return sorted(studies.index(row["study"]) for row in rows)

    assert found() == [0, 1, 2]
    assert found("--patient", "vermeer") == [0]
    assert found("--patient", "anne MUL") == [1]
    assert found("--patient", "jose garcia") == [2]
    assert found("--id", "p-") == [0, 1]
    assert found("--id", "P-200") == [1]
    assert found("--accession", "a-1") == [0]
    assert found("--date", "2026-02-03") == [1]
    assert found("--date", "2026-01-01..2026-12-31") == [0, 1]
    assert found("--patient", "vermeer", "--date", "2026-02-03") == []
    assert "Müller^Änne" in gateway.acts("--kept", "--id", "P-200")
    assert "Müller" not in gateway.status()


def _as_the_version_before_left_it(gateway: Gateway) -> None:
    with closing(sqlite3.connect(gateway.folder / "spool" / "gateway.db")) as database:
        for table in ("refusals", "refusal_totals", "studies"):
            database.execute(f"drop table {table}")
        database.execute("pragma user_version = 2")
        database.execute(
            "insert into audit_rows (at, action, outcome, listener, remote, calling_ae_title,"
            " called_ae_title, reason) select x, 'association.refused', 'refused', 'l', '10.1.2.3:' || x,"
            " 'CT1', 'WRONG', 'nobody here is called so' from (select 4001 as x union all select 4002)"
        )
        database.commit()


async def test_what_the_version_before_refused_is_still_shown(gateway: Gateway) -> None:
    gateway.start()
    gateway.stop()
    _as_the_version_before_left_it(gateway)
    (row,) = status(gateway)["refused_associations"]["rows"]
    assert (row["remote"], row["called"], row["times"]) == ("10.1.2.3", "WRONG", 2)


def test_a_full_log_file_makes_way_and_old_ones_go(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "gateway.log", max_bytes=100, kept=2)
    for number in range(50):
        log.write(f"line {number:02} of the log")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["gateway.log", "gateway.log.1", "gateway.log.2"]
    assert all(path.stat().st_size <= 100 for path in tmp_path.iterdir())
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.iterdir())
    assert "line 49" in (tmp_path / "gateway.log").read_text()


def test_there_is_advice_for_every_kind() -> None:
    assert all(advice(kind, "what nobody has seen") for kind in Kind)


@pytest.mark.parametrize("options", [("--json",), ("--patient", "Vermeer"), ("--status", "--id", "7")])
def test_an_option_without_what_it_belongs_to_starts_no_gateway(
    options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--config", "gateway.toml", *options])
    assert (2, True) == (ended.value.code, "go with `--" in capsys.readouterr().err)


def test_a_status_that_nobody_reads_to_its_end_ends_without_a_word(gateway: Gateway) -> None:
    gateway.start()
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = subprocess.run(
            [*gateway.command(), "--status"],
            cwd=gateway.cwd,
            stdout=writer,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writer)
    assert (ended.returncode, ended.stderr) == (1, b"")
