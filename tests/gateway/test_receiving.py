"""The hospital side: who may send, what is kept, what is refused."""

import asyncio
import os
import resource
import ssl
import stat
import struct
import subprocess

import pytest
from pydicom.data import get_testdata_file

from demo.dicom_files import sample
from plumbing.dimse.negotiation import write_proposal
from tests.gateway.system import MODALITY, TITLE, CentralOfTheTest, Gateway, digest
from tests.ingest.objects import CT, a_ct, element
from tests.ingest.system import DicomObject, sent_objects
from tests.peers import installed
from tests.plumbing.dimse.peers import ByHand, rejection
from tests.wait import eventually


async def test_a_modality_with_a_certificate_of_the_hospital_sends_over_tls(
    gateway: Gateway, central: CentralOfTheTest
) -> None:
    gateway.start()
    sending = a_ct()
    (answer,) = await sent_objects(gateway.modality("ANY", plain=False), sending)
    assert answer.status == 0
    await eventually(lambda: central.digests() == {digest(sending)})


async def test_a_registered_modality_needs_no_certificate(gateway: Gateway) -> None:
    gateway.start()
    assert await asyncio.to_thread(_over_tls_without_certificate, gateway, MODALITY) == 0x02  # accepted
    assert await asyncio.to_thread(_over_tls_without_certificate, gateway, "OTHER") == 0x03  # rejected


async def test_dcmtk_sends_over_tls_as_the_walkthrough_says(
    gateway: Gateway, central: CentralOfTheTest
) -> None:
    storescu = installed("storescu")
    gateway.start()
    image = get_testdata_file("CT_small.dcm")
    trusted = str(gateway.folder / "hospital-ca.pem")
    who = ("-aet", MODALITY, "-aec", TITLE)
    sent = await asyncio.to_thread(
        subprocess.run,
        [storescu, *who, "+tla", "+cf", trusted, "127.0.0.1", str(gateway.ports["tls"]), str(image)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert sent.returncode == 0, sent.stdout + sent.stderr
    await eventually(lambda: len(central.digests()) == 1)


def _over_tls_without_certificate(gateway: Gateway, title: str) -> int:
    """The kind of PDU that answers the request."""
    context = ssl.create_default_context(cafile=str(gateway.folder / "hospital-ca.pem"))
    peer = ByHand(gateway.ports["tls"], associate=False)
    peer.socket = context.wrap_socket(peer.socket, server_hostname="localhost")
    peer.socket.sendall(write_proposal(title, TITLE, [(CT, "1.2.840.10008.1.2.1")], None))
    kind, _ = peer.pdu()
    peer.close()
    return kind


@pytest.mark.proves("GWY-3", part="the hospital leg is TLS but for registered modalities, shown and audited")
async def test_plain_text_is_for_registered_modalities_and_shown_as_an_exception(gateway: Gateway) -> None:
    gateway.start()
    assert rejection(gateway.ports["plain"], calling=MODALITY, called="NOBODY") == (1, 1, 7)
    assert rejection(gateway.ports["plain"], calling="STRANGER", called=TITLE) == (1, 1, 3)
    # Plain text where TLS is spoken: no answer at all.
    peer = ByHand(gateway.ports["tls"], associate=False)
    peer.socket.sendall(write_proposal(MODALITY, TITLE, [(CT, "1.2.840.10008.1.2.1")], None))
    peer.socket.settimeout(5)
    assert peer.pdu() == (0, b"")
    (answer,) = await sent_objects(gateway.modality(), a_ct())
    assert answer.status == 0

    shown = gateway.says("--status")
    assert f"warning: modalities on 127.0.0.1:{gateway.ports['plain']} send without TLS" in shown
    assert "nobody here is called `NOBODY`" in shown
    assert "`STRANGER` at `127.0.0.1` is not registered" in shown
    assert "plain text on a TLS listener" in shown
    assert "associations in plain text, by exception: 1" in shown
    assert "serving plain text by exception" in gateway.log.read_text()


REFUSED: dict[str, tuple[DicomObject, int]] = {}
_whole = a_ct()
for _name, _data, _status in (
    ("cut in the pixels", _whole.data[:-100], 0xC002),
    ("cut in a header", _whole.data[:3], 0xC002),
    ("an absurd length", _whole.data + struct.pack("<HH2sHL", 0x7FE1, 0x10, b"OB", 0, 1 << 31), 0xC002),
    ("noise", bytes(range(256)) * 20, 0xC002),
    ("an item in front", struct.pack("<HHL", 0xFFFE, 0xE000, 0) + _whole.data, 0xC001),
    ("no study", a_ct(study="x/../y", uid=_whole.sop_instance_uid).data, 0xC003),
    ("no series", a_ct(series="", uid=_whole.sop_instance_uid, more={0x0020_000E: ("UI", "")}).data, 0xC003),
    ("a long series", a_ct(series="1." + "3" * 68, uid=_whole.sop_instance_uid).data, 0xC003),
    ("two patients", element(0x0010_0010, "PN", "Other^Name") + _whole.data, 0xC001),
    ("another instance", a_ct().data, 0xA900),
    (
        "another class",
        a_ct(uid=_whole.sop_instance_uid, more={0x0008_0016: ("UI", "1.2.3")}).data,
        0xA900,
    ),
):
    REFUSED[_name] = (DicomObject(_data, CT, _whole.sop_instance_uid), _status)


async def test_what_central_server_could_not_file_is_refused_and_nothing_of_it_stays(
    gateway: Gateway,
) -> None:
    gateway.start()
    for name, (sending, status) in REFUSED.items():
        (answer,) = await sent_objects(gateway.modality(), sending)
        assert answer.status == status, name
    assert gateway.files() == {"objects": [], "incoming": []}
    (answer,) = await sent_objects(gateway.modality(), _whole)
    assert answer.status == 0


@pytest.mark.proves("SEC-4", part="the gateway's files are named by digests")
async def test_files_are_named_by_digest_and_uids_with_slashes_are_refused(gateway: Gateway) -> None:
    gateway.start()
    peer = ByHand(gateway.ports["plain"], calling=MODALITY, called=TITLE)
    for uid in ("../../../tmp/evil", "1.2/3"):
        peer.command(0x0001, instance=uid)
        peer.fragment(element(0x0008_0018, "UI", uid), command=False)
        assert peer.status() == 0x0117
    peer.close()
    sending = DicomObject.of(sample("CT").path)
    await sent_objects(gateway.modality(), sending)
    assert gateway.files() == {"objects": [digest(sending)], "incoming": []}


async def test_an_instance_that_was_cut_off_leaves_nothing(gateway: Gateway) -> None:
    gateway.start()
    peer = ByHand(gateway.ports["plain"], calling=MODALITY, called=TITLE)
    peer.command(0x0001)
    peer.fragment(_whole.data[:500], command=False, last=False)
    await eventually(lambda: len(gateway.files()["incoming"]) == 1)
    peer.close()
    await eventually(lambda: gateway.files() == {"objects": [], "incoming": []})


async def test_a_disk_that_takes_no_more_answers_out_of_resources_and_recovers(
    gateway: Gateway, central: CentralOfTheTest
) -> None:
    gateway.start()
    assert gateway.process
    pid = gateway.process.pid or 0
    # No file of the process may grow beyond this: the kernel's own way to refuse a write.
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    large, small = a_ct(pixels=bytes(400_000)), a_ct()
    (answer,) = await sent_objects(gateway.modality(), large)
    assert answer.status == 0xA700
    (answer,) = await sent_objects(gateway.modality(), small)
    assert answer.status == 0
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    (answer,) = await sent_objects(gateway.modality(), large)
    assert answer.status == 0
    await eventually(lambda: central.digests() == {digest(large), digest(small)})
    assert gateway.files()["incoming"] == []


async def test_a_second_gateway_on_the_same_folder_refuses_to_start(gateway: Gateway) -> None:
    gateway.start()
    second = await asyncio.create_subprocess_exec(
        *[str(part) for part in gateway.command()],
        cwd=gateway.cwd,
        stderr=asyncio.subprocess.PIPE,
    )
    _, told = await asyncio.wait_for(second.communicate(), 30)
    assert second.returncode == 1
    assert b"another gateway works on" in told


async def test_it_ends_when_asked(gateway: Gateway) -> None:
    gateway.start()
    peer = ByHand(gateway.ports["plain"], calling=MODALITY, called=TITLE)
    assert gateway.stop() == 0
    assert peer.aborted() == (2, 0)


async def test_nobody_else_on_the_machine_reads_what_a_gateway_keeps(
    gateway: Gateway, central: CentralOfTheTest
) -> None:
    spool = gateway.folder / "spool"
    umask = os.umask(0o022)
    try:
        spool.mkdir()
        gateway.start()
        await sent_objects(gateway.modality(), a_ct())
    finally:
        os.umask(umask)
    assert stat.S_IMODE(spool.stat().st_mode) == 0o700
    open_to_others = [path for path in spool.rglob("*") if path.stat().st_mode & 0o077]
    assert [] == open_to_others
