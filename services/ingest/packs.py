"""Packs: append-only files of the instances that one association sent of one study (packformat.py).

A directory of packs is a volume; its name stands in the file `volume`. Several processes may write there,
each its own packs (writers.py). What the index did not commit is cut off when the pack is sealed (R3, R5).
"""

import asyncio
import errno
import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from math import nan
from pathlib import Path
from typing import BinaryIO, cast

from prometheus_client import Counter, Gauge

from kernel.dataset import Octets
from kernel.errors import Conflict, Invalid, NotFound, Unavailable
from kernel.ids import NewId, PackId, VolumeId, parse_id
from plumbing import log
from services.ingest.domain import Instance, Label, Place, StoredInstance
from services.ingest.packformat import BLOCK, END_OF_ARCHIVE, HEADER_LENGTH, file_meta, header

CHUNK_BYTES = 512 * 1024
"""The largest chunk of StreamInstance."""
BEGINNING_CHUNK_BYTES = 16 * 1024
"""What is indexed mostly stands in the first kilobytes."""
MAX_BEGINNING_BYTES = 4 << 20
"""How far somebody looks for it, where long elements stand before it."""

EARLY_BYTES = 64 * 1024
"""Of less the disk need not begin early."""

VOLUME, EARLIER = "volume", "earlier"
"""The file that names a volume, and the word in it of one on which the version before wrote."""
LOCK_TRIES = 20

DISK_FREE = Gauge("readroom_ingest_disk_free_bytes", "What is free on the disk of the packs")
DISK_TOTAL = Gauge("readroom_ingest_disk_total_bytes", "The size of that disk")
DAMAGED = Counter(
    "readroom_ingest_damaged_packs", "Alert: reads or checks that found bytes of a pack missing or wrong"
)

_log = log.get()


class Entry:
    """An entry while it is being written. Nothing of it counts until the index has committed its place."""

    def __init__(self, pack: "OpenPack", instance: Instance) -> None:
        self._pack = pack
        self._prefix = file_meta(instance)
        self._data_set_length = 0
        self._offset = pack.end
        self._position = self._offset + HEADER_LENGTH

    def write(self, chunk: Octets) -> None:
        """Appends bytes of the data set; the disk begins with them at once, which halves the sync later."""
        begin = self._position
        if begin == self._offset + HEADER_LENGTH:
            self._write(self._prefix, chunk)
        else:
            self._write(chunk)
        if len(chunk) >= EARLY_BYTES:
            os.posix_fadvise(self._pack.descriptor, begin, len(chunk), os.POSIX_FADV_DONTNEED)
        self._data_set_length += len(chunk)

    def complete(self, label: Label) -> Place:
        """Ends the entry and makes it durable (R1)."""
        place = self.end(label)
        self.sync()
        return place

    def sync(self) -> None:
        """Makes what was written durable: `fdatasync`, and `fsync` of a new name."""
        self._pack.sync()

    def end(self, label: Label) -> Place:
        """Writes the header; `sync` makes the entry durable."""
        size = len(self._prefix) + self._data_set_length
        end = -(-self._position // BLOCK) * BLOCK
        if end != self._position:
            self._write(bytes(end - self._position))
        _write_all(self._pack.descriptor, header(label, size), self._offset)
        return Place(self._pack.pack_id, self._offset, len(self._prefix), self._data_set_length, end)

    def written(self) -> Iterator[bytes]:
        """The bytes of the data set so far; raises OSError."""
        begin = self._offset + HEADER_LENGTH + len(self._prefix)
        for at in range(begin, self._position, CHUNK_BYTES):
            yield os.pread(self._pack.descriptor, min(CHUNK_BYTES, self._position - at), at)

    def keep(self, place: Place) -> None:
        """The index has committed the place: the next entry follows it."""
        self._pack.end = place.end

    def discard(self) -> None:
        """Cuts the entry off again."""
        self._pack.cut()

    def _write(self, *chunks: Octets) -> None:
        size = sum(map(len, chunks))
        if os.pwritev(self._pack.descriptor, chunks, self._position) != size:
            # The disk may be full: it says so now.
            _write_all(self._pack.descriptor, b"".join(chunks), self._position)
        self._position += size


def _write_all(descriptor: int, data: Octets, position: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, position)
        view, position = view[written:], position + written


class OpenPack:
    """A pack while its association lives; one thread writes it."""

    def __init__(self, pack_id: PackId, path: Path) -> None:
        self.pack_id = pack_id
        self.end = 0
        self._folder: Path | None = path.parent
        self.descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)

    @property
    def is_empty(self) -> bool:
        """Whether no entry was kept."""
        return self.end == 0

    def entry(self, instance: Instance) -> Entry:
        """Begins the next entry."""
        return Entry(self, instance)

    def cut(self) -> None:
        """Cuts off what no kept entry covers."""
        os.ftruncate(self.descriptor, self.end)

    def sync(self) -> None:
        """What was written survives a power cut, and so does the file's name."""
        os.fdatasync(self.descriptor)
        if self._folder is not None:
            _sync_folder(self._folder)
            self._folder = None

    def close(self) -> None:
        """Ends writing; `Packs.seal` says where the pack ends."""
        os.close(self.descriptor)
        self.descriptor = -1  # never again, whoever gets the number


class NewPacks:
    """A directory in which packs are made; whoever opened it has prepared it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def create(self, pack_id: PackId) -> OpenPack:
        """The empty file of a new pack; raises OSError."""
        return OpenPack(pack_id, self._path(pack_id))

    def spool(self) -> BinaryIO:
        """A file without a name, on the disk of the packs: gone when it is closed, or the process ends."""
        return cast("BinaryIO", tempfile.TemporaryFile(dir=self._directory))

    def _path(self, pack_id: PackId) -> Path:
        # The last two digits of a UUIDv7 are random: the folders fill evenly.
        name = str(pack_id)
        return self._directory / name[-2:] / f"{name}.tar"


class Packs(NewPacks):
    """A directory of packs, and of quarantined files.

    Attributes:
        volume_id: the name of the volume.
        is_earlier: whether the version before wrote there.
        is_alone: whether no other process had it open when this one opened it. The lock by which it knows
            spares a
            wait and guards nothing: who may write what is a matter of rows.
    """

    def __init__(self, directory: Path, new_id: NewId) -> None:
        """Opens a directory, and makes what is missing there; raises OSError.

        Raises Conflict while a process of the version before runs there, which wants it for itself.
        """
        super().__init__(directory)
        self._quarantine = directory / "quarantine"
        self._trial: asyncio.Future[bool] | None = None
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock, self.is_alone = _lock(directory)
        self.volume_id, self.is_earlier = _volume(directory, new_id)
        # All folders at once, durable before the first pack: 256, so that none grows long.
        for folder in (self._quarantine, *(directory / f"{number:02x}" for number in range(256))):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sync_folder(directory)
        _sync_folder(directory.parent)
        DISK_FREE.set_function(partial(_room, directory, "f_bavail"))
        DISK_TOTAL.set_function(partial(_room, directory, "f_blocks"))

    def close(self) -> None:
        """Gives the directory up."""
        os.close(self._lock)

    async def ready(self) -> bool:
        """Whether the disk takes bytes and keeps them. While it does not answer, it is not asked again."""
        if self._trial is None or self._trial.done():
            self._trial = asyncio.ensure_future(asyncio.to_thread(self._try_disk))
        return await asyncio.shield(self._trial)

    def _try_disk(self) -> bool:
        try:
            with self.spool() as file:
                file.write(bytes(BLOCK))
                file.flush()
                os.fdatasync(file.fileno())
        except OSError as error:
            _log.warning("the disk of the packs is not ready", cause=os.strerror(error.errno or 0))
            return False
        return True

    def list(self) -> list[PackId]:
        """Every pack of the directory; a file of another name is not ours."""
        found = []
        for path in self._directory.glob("[0-9a-f][0-9a-f]/*.tar"):
            with suppress(Invalid):
                found.append(PackId(parse_id(path.stem, "pack")))
        return found

    def seal(self, pack_id: PackId, committed_end: int) -> None:
        """Ends a pack where the index says; an empty one is unlinked. Missing bytes raise the alert."""
        path = self._path(pack_id)
        if committed_end == 0:
            path.unlink(missing_ok=True)
            return
        length = path.stat().st_size if path.exists() else 0
        if length < committed_end:
            DAMAGED.inc()
            _log.error("a pack is shorter than the index says", pack=str(pack_id))
        elif length != committed_end + len(END_OF_ARCHIVE):
            with path.open("r+b", buffering=0) as file:
                file.truncate(committed_end)
                # A tar reads without them too: a full disk is no reason to stop.
                with suppress(OSError):
                    _write_all(file.fileno(), END_OF_ARCHIVE, committed_end)

    def read(self, stored: StoredInstance) -> Iterator[bytes]:
        """The Part 10 file in chunks. The last one comes only if the data set's SHA-256 is right.

        Raises Unavailable if the pack is short, or does not hold what the index says; NotFound if it is gone.
        """
        with self.alarmed(stored):
            yield from self._read(stored)

    @contextmanager
    def alarmed(self, stored: StoredInstance) -> Iterator[None]:
        """Says in words what went wrong with reading."""
        try:
            yield
        except FileNotFoundError as error:
            raise NotFound("the pack is no longer there") from error
        except OSError as error:
            DAMAGED.inc()
            _log.error("an instance cannot be read", pack=str(stored.place.pack_id), exc_info=error)
            raise Unavailable("the instance cannot be read") from error

    def beginning(self, stored: StoredInstance) -> Iterator[bytes]:
        """The beginning of the data set, in chunks, up to MAX_BEGINNING_BYTES; nothing says that it is whole.

        Raises Unavailable if the pack is short, NotFound if it is gone.
        """
        place = stored.place
        start = place.offset + HEADER_LENGTH + place.prefix_length
        length = min(place.data_set_length, MAX_BEGINNING_BYTES)
        with self.alarmed(stored), self._path(place.pack_id).open("rb", buffering=0) as file:
            for at in range(0, length, BEGINNING_CHUNK_BYTES):
                wanted = min(BEGINNING_CHUNK_BYTES, length - at)
                chunk = os.pread(file.fileno(), wanted, start + at)
                if len(chunk) != wanted:
                    raise OSError(errno.EIO, "the pack is too short")
                yield chunk

    def damaged(self, stored: StoredInstance) -> None:
        """A pack holds other bytes than those of the instance: raises the alert."""
        DAMAGED.inc()
        _log.error("a pack holds other bytes than the index says", pack=str(stored.place.pack_id))

    @contextmanager
    def opened(self, stored: StoredInstance) -> Iterator[BinaryIO]:
        """The file of its pack, to read from; raises NotFound if it is gone, Unavailable if not read."""
        with self.alarmed(stored):
            file = self._path(stored.place.pack_id).open("rb", buffering=0)
        with file:
            yield cast("BinaryIO", file)

    def missing(self, pack_id: PackId) -> None:
        """A pack is gone that should be there: raises the alert."""
        DAMAGED.inc()
        _log.error("a pack is missing", pack=str(pack_id))

    def _read(self, stored: StoredInstance) -> Iterator[bytes]:
        place = stored.place
        start = place.offset + HEADER_LENGTH
        digest = hashlib.sha256()
        with self._path(place.pack_id).open("rb", buffering=0) as file:
            for at in range(0, place.file_length, CHUNK_BYTES):
                length = min(CHUNK_BYTES, place.file_length - at)
                chunk = os.pread(file.fileno(), length, start + at)
                digest.update(memoryview(chunk)[max(0, place.prefix_length - at) :])
                if len(chunk) != length:
                    raise OSError(errno.EIO, "the pack is too short")
                if at + length == place.file_length and digest.digest() != stored.sha256:
                    raise OSError(errno.EIO, "the pack holds other bytes")
                yield chunk

    def quarantined(self) -> set[bytes]:
        """The digests that have a file in the quarantine folder, as before packs kept them.

        What a crash left unfinished goes.
        """
        for path in self._quarantine.glob("*.partial"):
            path.unlink()
        return {bytes.fromhex(path.stem) for path in self._quarantine.glob("*.dcm")}

    def release(self, sha256: bytes) -> None:
        """Removes a file from the quarantine."""
        (self._quarantine / f"{sha256.hex()}.dcm").unlink(missing_ok=True)


def _room(directory: Path, blocks: str) -> float:
    """Bytes of the disk, by a field of `statvfs`; not a number while it does not answer."""
    try:
        disk = os.statvfs(directory)
    except OSError:
        return nan
    return float(getattr(disk, blocks) * disk.f_frsize)


def _lock(directory: Path) -> tuple[int, bool]:
    """The descriptor that holds the lock of a directory, shared; whether nobody else held it."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    is_alone = False
    for wait_s in (0.05,) * LOCK_TRIES + (0.0,):
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_alone = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            is_alone = False
            time.sleep(wait_s)  # another one that starts holds it alone for a moment
        else:
            return descriptor, is_alone
    os.close(descriptor)
    raise Conflict(
        f"a process of the version before has the pack directory `{directory}` open: stop it first"
    )


def _volume(directory: Path, new_id: NewId) -> tuple[VolumeId, bool]:
    """The name of the volume, and whether the version before wrote there; both stand in a file, made once.

    Raises OSError.
    """
    path = directory / VOLUME
    if not path.exists():
        is_earlier = any(directory.glob("[0-9a-f][0-9a-f]"))
        made = directory / f"{VOLUME}.{new_id()}"
        with made.open("x") as file:
            file.write(f"{new_id()}{f' {EARLIER}' if is_earlier else ''}\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # another process was first
            os.link(made, path)
        made.unlink()
        _sync_folder(directory)
    name, *words = path.read_text().split()
    return VolumeId(parse_id(name, "volume")), EARLIER in words


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
