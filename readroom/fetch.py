"""Fetches the images of a case: every instance is checked against its digest before it gets its name."""

import hashlib
import os
from collections.abc import AsyncIterable
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, Protocol

from kernel.dicom import UID, parse_uid
from readroom.client import Readroom
from readroom.errors import Incomplete
from wire.ingest.v1.ingest_pb2 import (
    InstanceHeader,
    StreamInstanceRequest,
    StreamInstanceResponse,
    StreamStudyRequest,
    StreamStudyResponse,
)

STREAM_LIMIT_S = 3000
"""How long a study may travel; a server refuses more than 3,600 s."""

# PS3.10 7.1: a preamble of 128 bytes, `DICM`, then (0002,0000) in 12 bytes, whose value, the last 4 of them,
# says how many bytes of file meta information follow before the data set begins.
_PREFIX = 128
_GROUP_LENGTH = 140
_META = 144


class Meter(Protocol):
    """Shows how far a fetch has come."""

    def expect(self, instances: int, length: int) -> None:
        """What will arrive."""

    def arrived(self, length: int) -> None:
        """Bytes have arrived."""

    def complete(self) -> None:
        """An instance is complete."""


async def fetch_case(readroom: Readroom, case_id: str, folder: Path, meter: Meter) -> list[Path]:
    """Writes every instance of a case into `folder`, for its owner alone, and answers their paths.

    Raises Incomplete if one is missing, comes twice, or is not what its header announced; what is written
    by then is whole.
    """
    stream = readroom.ingest.StreamStudy(StreamStudyRequest(case_id=case_id), timeout=STREAM_LIMIT_S)
    return await receive(stream, folder, meter)


async def fetch_instance(
    readroom: Readroom, case_id: str, sop_instance_uid: str, folder: Path, meter: Meter
) -> list[Path]:
    """The same for one instance."""
    request = StreamInstanceRequest(case_id=case_id, sop_instance_uid=sop_instance_uid)
    return await receive(readroom.ingest.StreamInstance(request, timeout=STREAM_LIMIT_S), folder, meter)


async def receive(
    stream: AsyncIterable[StreamStudyResponse] | AsyncIterable[StreamInstanceResponse],
    folder: Path,
    meter: Meter,
) -> list[Path]:
    """What both do with their stream."""
    with closing(_Reception(folder, meter)) as reception:
        async for message in stream:
            reception.take(message)
        return reception.complete()


class _Reception:
    """Takes the messages of a stream in turn; without a study header it carries one instance."""

    def __init__(self, folder: Path, meter: Meter) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._meter = meter
        self._expected = 1
        self._paths: list[Path] = []
        self._current: _Instance | None = None

    def take(self, message: StreamStudyResponse | StreamInstanceResponse) -> None:
        match message.WhichOneof("part"):
            case "study" if isinstance(message, StreamStudyResponse):
                self._expected = message.study.instance_count
                self._meter.expect(self._expected, message.study.length)
            case "header":
                self._begin(message.header)
            case "chunk":
                self._write(message.chunk)
        if self._current and self._current.is_complete:
            self._paths.append(self._current.keep())
            self._current = None
            self._meter.complete()

    def _begin(self, header: InstanceHeader) -> None:
        if self._current:
            raise Incomplete(f"instance `{self._current.uid}` ended early")
        self._current = _Instance(header, self._folder)
        if self._current.path in self._paths:
            raise Incomplete(f"instance `{self._current.uid}` came twice")

    def _write(self, chunk: bytes) -> None:
        if not self._current:
            raise Incomplete("bytes came that belong to no instance")
        self._current.write(chunk)
        self._meter.arrived(len(chunk))

    def complete(self) -> list[Path]:
        """The paths of all that was announced; raises Incomplete if that is more or less than arrived."""
        if self._current or len(self._paths) != self._expected:
            raise Incomplete(f"{len(self._paths)} of {self._expected} instances arrived")
        return self._paths

    def close(self) -> None:
        if self._current:
            self._current.discard()


class _Instance:
    """One instance on its way into a file; until it is whole and right, the file has another name."""

    def __init__(self, header: InstanceHeader, folder: Path) -> None:
        self.uid: UID = parse_uid(header.sop_instance_uid, "sop_instance_uid")  # a name without a slash
        self.path = folder / f"{self.uid}.dcm"
        self._draft = folder / f".{self.uid}.part"
        self._missing = header.length
        self._sha256 = header.sha256
        self._digest = hashlib.sha256()
        self._head = b""  # preamble and file meta information, until the data set begins
        self._dataset_begins: int | None = None
        self._draft.unlink(missing_ok=True)  # of a fetch that was cut off, and perhaps readable by others
        descriptor = os.open(self._draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file: BinaryIO = os.fdopen(descriptor, "wb")

    @property
    def is_complete(self) -> bool:
        return self._missing == 0

    def write(self, chunk: bytes) -> None:
        if len(chunk) > self._missing:
            raise Incomplete(f"instance `{self.uid}` is longer than announced")
        self._missing -= len(chunk)
        self._file.write(chunk)
        if self._dataset_begins is None:
            self._head += chunk
            self._find_dataset()
        else:
            self._digest.update(chunk)

    def _find_dataset(self) -> None:
        if len(self._head) < _META:
            return
        if self._head[_PREFIX : _PREFIX + 4] != b"DICM":
            raise Incomplete(f"instance `{self.uid}` is not a DICOM file")
        begins = _META + int.from_bytes(self._head[_GROUP_LENGTH:_META], "little")
        if len(self._head) >= begins:
            self._dataset_begins = begins
            self._digest.update(self._head[begins:])
            self._head = b""

    def keep(self) -> Path:
        self._file.close()
        if self._digest.hexdigest() != self._sha256:
            self.discard()
            raise Incomplete(f"instance `{self.uid}` has another digest than announced")
        self._draft.replace(self.path)
        return self.path

    def discard(self) -> None:
        self._file.close()
        self._draft.unlink(missing_ok=True)
