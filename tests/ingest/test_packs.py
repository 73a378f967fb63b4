"""Packs are tars of DICOM files, and hold exactly what was kept."""

import fcntl
import hashlib
import io
import os
import subprocess
import tarfile
from pathlib import Path
from uuid import UUID, uuid4

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian

from demo.dicom_files import sample
from kernel.dicom import UID
from kernel.errors import Conflict, NotFound, Unavailable
from kernel.ids import PackId
from plumbing.dimse.negotiation import IMPLEMENTATION_CLASS_UID
from services.ingest.domain import Instance, Place, StoredInstance
from services.ingest.packformat import END_OF_ARCHIVE, HEADER_LENGTH, header
from services.ingest.packs import OpenPack, Packs
from tests.ingest.builders import a_gateway, a_label, a_sender, an_instance


@pytest.fixture
def packs(tmp_path: Path) -> Packs:
    return Packs(tmp_path / "packs", uuid4)


def path_of(packs: Packs, pack_id: PackId) -> Path:
    return packs._path(pack_id)


def keep(pack: OpenPack, data: bytes, instance: Instance | None = None) -> StoredInstance:
    instance = instance or an_instance()
    entry = pack.entry(instance)
    for at in range(0, len(data), 1000):
        entry.write(memoryview(data)[at : at + 1000])
    place = entry.complete(a_label(data))
    entry.keep(place)
    return StoredInstance(instance, hashlib.sha256(data).digest(), place)


def read(packs: Packs, stored: StoredInstance) -> bytes:
    return b"".join(packs.read(stored))


def test_a_pack_reads_as_a_tar_of_dicom_files_while_it_is_open_and_when_it_is_sealed(packs: Packs) -> None:
    ct = pydicom.dcmread(sample("CT").path)
    data = data_set_bytes(sample("CT").path)
    instance = Instance(
        UID(ct.SOPClassUID),
        UID(ct.SOPInstanceUID),
        UID(ct.StudyInstanceUID),
        UID(ct.SeriesInstanceUID),
        UID(ExplicitVRLittleEndian),
    )
    pack = packs.create(PackId(uuid4()))
    first, second = keep(pack, data, instance), keep(pack, b"\x08\x00\x05\x00CS\x02\x00A ")

    def check() -> None:
        with tarfile.open(path_of(packs, pack.pack_id)) as tar:
            members = tar.getmembers()
            assert [m.name for m in members] == [f"{s.sha256.hex()}.dcm" for s in (first, second)]
            file = tar.extractfile(members[0])
            assert file is not None
            content = file.read()
        assert content == read(packs, first)
        stored = pydicom.dcmread(io.BytesIO(content))
        assert stored == ct
        assert stored.file_meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
        assert stored.preamble == bytes(128)
        assert content.endswith(data)
        listed = subprocess.run(
            ["tar", "--warning=no-unknown-keyword", "-tvf", path_of(packs, pack.pack_id)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert listed.stderr == ""
        assert first.sha256.hex() in listed.stdout

    check()
    pack.close()
    packs.seal(pack.pack_id, second.place.end)
    check()
    assert path_of(packs, pack.pack_id).read_bytes().endswith(END_OF_ARCHIVE)


def data_set_bytes(path: Path) -> bytes:
    """What follows the file meta information."""
    content = path.read_bytes()
    length = int.from_bytes(content[140:144], "little")
    return content[144 + length :]


def test_each_entry_says_where_its_file_comes_from(packs: Packs) -> None:
    sender = a_sender(a_gateway("RIVERSIDE"))
    pack = packs.create(PackId(uuid4()))
    label = a_label(b"some", sender)
    entry = pack.entry(an_instance())
    entry.write(b"some")
    entry.keep(entry.complete(label))
    with tarfile.open(path_of(packs, pack.pack_id)) as tar:
        (member,) = tar.getmembers()
    told = {
        k.removeprefix("READROOM."): v for k, v in member.pax_headers.items() if k.startswith("READROOM.")
    }
    assert told == {
        "study": str(label.study_id),
        "receiving_facility": str(sender.receiving_facility_id),
        "gateway": str(sender.gateway_id),
        "calling_ae_title": "RIVERSIDE",
        "transfer": str(sender.transfer_id),
        "received_at": "2026-11-20T12:00:00.000000+00:00",
        "sha256": hashlib.sha256(b"some").hexdigest(),
    }


def test_an_entry_above_8_gib_states_its_size_in_the_pax_header(tmp_path: Path) -> None:
    size = 9 * 2**30
    path = tmp_path / "large.tar"
    with path.open("wb") as file:
        file.write(header(a_label(b"x"), size))
        file.truncate(HEADER_LENGTH + size)
        file.seek(HEADER_LENGTH + size)
        file.write(header(a_label(b"y"), 0))
    with tarfile.open(path) as tar:
        assert [m.size for m in tar.getmembers()] == [size, 0]
    listed = subprocess.run(["tar", "-tvf", path], capture_output=True, text=True, check=True)
    assert str(size) in listed.stdout


@pytest.mark.proves("SEC-4", part="names of packs and of their entries")
def test_names_come_from_our_ids_and_digests_only(packs: Packs) -> None:
    pack = packs.create(PackId(uuid4()))
    keep(pack, b"some")
    (path,) = path_of(packs, pack.pack_id).parent.iterdir()
    assert UUID(path.stem) == pack.pack_id
    assert path.parent.name == path.stem[-2:]


def test_a_discarded_entry_leaves_nothing(packs: Packs) -> None:
    pack = packs.create(PackId(uuid4()))
    first = keep(pack, b"first")
    entry = pack.entry(an_instance())
    entry.write(bytes(100_000))
    entry.discard()
    assert path_of(packs, pack.pack_id).stat().st_size == first.place.end
    second = keep(pack, b"second")
    assert second.place.offset == first.place.end
    assert read(packs, first).endswith(b"first")
    assert read(packs, second).endswith(b"second")


@pytest.mark.proves("R3", part="a pack ends where the index says")
@pytest.mark.proves("R5", part="uncommitted bytes go when a pack is sealed")
def test_sealing_cuts_off_what_was_not_committed(packs: Packs) -> None:
    pack = packs.create(PackId(uuid4()))
    first = keep(pack, b"first")
    keep(pack, b"never committed")
    pack.close()
    packs.seal(pack.pack_id, first.place.end)
    packs.seal(pack.pack_id, first.place.end)
    path = path_of(packs, pack.pack_id)
    assert path.stat().st_size == first.place.end + len(END_OF_ARCHIVE)
    assert read(packs, first).endswith(b"first")


def test_sealing_unlinks_a_pack_in_which_nothing_was_committed(packs: Packs) -> None:
    pack = packs.create(PackId(uuid4()))
    keep(pack, b"never committed")
    pack.close()
    packs.seal(pack.pack_id, 0)
    assert not path_of(packs, pack.pack_id).exists()
    assert packs.list() == []


def test_a_short_pack_is_never_made_longer(packs: Packs) -> None:
    pack = packs.create(PackId(uuid4()))
    first = keep(pack, b"first")
    path = path_of(packs, pack.pack_id)
    os.truncate(path, first.place.end - 1)
    packs.seal(pack.pack_id, first.place.end)
    assert path.stat().st_size == first.place.end - 1


@pytest.mark.parametrize("damage", ["missing", "short", "other bytes", "wrong offset"])
def test_a_damaged_pack_never_gives_wrong_bytes(packs: Packs, damage: str) -> None:
    pack = packs.create(PackId(uuid4()))
    data = bytes(range(256)) * 4096
    stored = keep(pack, data)
    path = path_of(packs, pack.pack_id)
    match damage:
        case "missing":
            path.unlink()
        case "short":
            os.truncate(path, stored.place.end - 600)
        case "other bytes":
            with path.open("r+b") as file:
                file.seek(HEADER_LENGTH + 100_000)
                file.write(b"XX")
        case "wrong offset":
            at = stored.place
            moved = Place(at.pack_id, at.offset + 512, at.prefix_length, at.data_set_length - 1024, at.end)
            stored = StoredInstance(stored.instance, stored.sha256, moved)
    got = b""
    with pytest.raises(NotFound if damage == "missing" else Unavailable):  # noqa: PT012 what came before matters
        for chunk in packs.read(stored):
            got += chunk
    assert len(got) < stored.place.file_length


def test_several_processes_open_a_volume_and_the_first_knows_that_it_is_alone(tmp_path: Path) -> None:
    first, second = (Packs(tmp_path / "packs", uuid4) for _ in range(2))
    assert (first.is_alone, second.is_alone) == (True, False)
    assert first.volume_id == second.volume_id
    assert not first.is_earlier
    first.close()
    second.close()
    third = Packs(tmp_path / "packs", uuid4)
    assert third.is_alone
    assert third.volume_id == first.volume_id
    third.close()


def test_a_directory_that_the_version_before_has_open_is_refused_and_then_known_as_its_own(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "packs"
    (folder / "00").mkdir(parents=True)
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(Conflict):
        Packs(folder, uuid4)
    os.close(descriptor)
    for _ in range(2):
        packs = Packs(folder, uuid4)
        assert packs.is_earlier
        packs.close()


def test_a_file_that_the_quarantine_kept_before_packs_did_can_go(packs: Packs, tmp_path: Path) -> None:
    sha256, folder = b"\1" * 32, tmp_path / "packs/quarantine"
    (folder / f"{sha256.hex()}.dcm").write_bytes(b"refused")
    (folder / "half.partial").write_bytes(b"")
    assert packs.quarantined() == {sha256}
    assert [path.stem for path in folder.iterdir()] == [sha256.hex()]
    packs.release(sha256)
    assert packs.quarantined() == set()
