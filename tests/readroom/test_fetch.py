"""Fetching: what arrives is checked before it gets its name, and the wire never names a path."""

import hashlib
import os
import stat
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from demo.dicom_files import CATALOGUE, Sample, digest
from kernel.errors import Invalid
from readroom.errors import Incomplete
from readroom.fetch import receive
from wire.ingest.v1.ingest_pb2 import InstanceHeader, StreamStudyResponse, StudyHeader


class Counter:
    """A meter that adds up."""

    def __init__(self) -> None:
        self.expected = (0, 0)
        self.bytes = 0
        self.instances = 0

    def expect(self, instances: int, length: int) -> None:
        self.expected = (instances, length)

    def arrived(self, length: int) -> None:
        self.bytes += length

    def complete(self) -> None:
        self.instances += 1


Message = StreamStudyResponse


def announced(*samples: Sample) -> Message:
    return Message(
        study=StudyHeader(instance_count=len(samples), length=sum(s.path.stat().st_size for s in samples))
    )


def header(number: int, sample: Sample, **changed: object) -> Message:
    fields = {
        "sop_instance_uid": f"1.2.{number}",
        "length": sample.path.stat().st_size,
        "sha256": digest(sample.path),
    } | changed
    return Message(header=InstanceHeader(**fields))  # type: ignore[arg-type]


def chunks(sample: Sample, size: int = 4096) -> list[Message]:
    content = sample.path.read_bytes()
    return [Message(chunk=content[i : i + size]) for i in range(0, len(content), size)]


async def stream(messages: Iterable[Message]) -> AsyncIterator[Message]:
    for message in messages:
        yield message


def files_in(folder: Path) -> dict[str, str]:
    """Name and digest of every file below `folder`."""
    return {path.name: digest(path) for path in folder.rglob("*") if path.is_file()}


CT, MR = CATALOGUE[0], CATALOGUE[1]


async def test_images_are_for_who_fetched_them_alone(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    messages = [announced(CT), header(1, CT), *chunks(CT)]
    umask = os.umask(0o022)
    try:
        await receive(stream(messages), folder, Counter())
        (image,) = folder.iterdir()
        assert [stat.S_IMODE(each.stat().st_mode) for each in (folder, image)] == [0o700, 0o600]
        left_behind = folder / ".1.2.1.part"
        left_behind.write_bytes(b"begun by the version before")
        await receive(stream(messages), folder, Counter())
    finally:
        os.umask(umask)
    assert [stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()] == [0o600]


@pytest.mark.parametrize("size", [7, 143, 144, 400_000])
async def test_every_instance_gets_its_file_whatever_the_chunks(tmp_path: Path, size: int) -> None:
    meter = Counter()

    paths = await receive(
        stream([announced(CT, MR), header(1, CT), *chunks(CT, size), header(2, MR), *chunks(MR, size)]),
        tmp_path / "new",
        meter,
    )

    assert [path.name for path in paths] == ["1.2.1.dcm", "1.2.2.dcm"]
    assert [path.read_bytes() for path in paths] == [CT.path.read_bytes(), MR.path.read_bytes()]
    assert (meter.instances, meter.bytes) == meter.expected


WRONG: dict[str, list[Message]] = {
    "an instance is missing": [announced(CT, MR), header(1, CT), *chunks(CT)],
    "an instance ends early": [announced(CT), header(1, CT), *chunks(CT)[:-1]],
    "the next begins too early": [
        announced(CT, MR),
        header(1, CT),
        *chunks(CT)[:-1],
        header(2, MR),
        *chunks(MR),
    ],
    "an instance is too long": [announced(CT), header(1, CT), *chunks(CT), *chunks(CT)],
    "a chunk is too long": [announced(CT), header(1, CT, length=100), *chunks(CT)],
    "an instance comes twice": [announced(CT, CT), header(1, CT), *chunks(CT), header(1, CT), *chunks(CT)],
    "the bytes are others": [announced(CT), header(1, CT, sha256=digest(MR.path)), *chunks(CT)],
    "it is no DICOM file": [
        announced(CT),
        header(1, CT, length=1000, sha256=hashlib.sha256(bytes(1000)).hexdigest()),
        Message(chunk=bytes(1000)),
    ],
    "nothing comes": [],
    "an instance is empty": [announced(CT), header(1, CT, length=0)],
}


@pytest.mark.parametrize("case", WRONG)
async def test_what_is_not_as_announced_gets_no_name(tmp_path: Path, case: str) -> None:
    with pytest.raises(Incomplete):
        await receive(stream(WRONG[case]), tmp_path, Counter())

    assert files_in(tmp_path) in ({}, {"1.2.1.dcm": digest(CT.path)})


@pytest.mark.proves("SEC-4", part="on the command line")
@pytest.mark.parametrize("uid", ["../escaped", "/etc/passwd", "1.2/3", "", "1.2\x00", "1" * 65, "CON"])
async def test_a_name_of_the_wire_that_is_no_uid_reaches_no_path(tmp_path: Path, uid: str) -> None:
    folder = tmp_path / "inner"

    with pytest.raises(Invalid):
        await receive(
            stream([announced(CT), header(1, CT, sop_instance_uid=uid), *chunks(CT)]), folder, Counter()
        )

    assert files_in(tmp_path) == {}
