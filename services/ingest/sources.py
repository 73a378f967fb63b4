"""Where the bytes of an instance are: in a file of this machine, in memory, or with another process."""

import errno
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import BinaryIO, Protocol

from plumbing.responses import Extent, Flow, Piece
from services.ingest.domain import StoredInstance
from services.ingest.packformat import HEADER_LENGTH
from services.ingest.packs import CHUNK_BYTES, Packs

_CHUNK = 1 << 20
_REMEMBERED = 200_000


class Source(Protocol):
    """A run of bytes; positions count from its beginning."""

    @property
    def length(self) -> int: ...

    def read(self, at: int, length: int) -> bytes:
        """Fewer only where it ends."""
        ...

    def piece(self, at: int, length: int) -> Piece:
        """The same, to be sent; it lies within."""
        ...

    def part(self, at: int, length: int) -> "Source":
        """What begins there, and is so long."""
        ...


@dataclass(frozen=True, slots=True)
class InFile:
    """Bytes of an open file."""

    file: int
    start: int
    length: int

    def read(self, at: int, length: int) -> bytes:
        return b"".join(read(self.file, self.start + at, min(length, self.length - at)))

    def piece(self, at: int, length: int) -> Piece:
        return Extent(self.file, self.start + at, length)

    def part(self, at: int, length: int) -> "InFile":
        return InFile(self.file, self.start + at, length)


@dataclass(frozen=True, slots=True)
class InMemory:
    """Bytes that had to be made, as inflated ones."""

    data: bytes | memoryview

    @property
    def length(self) -> int:
        return len(self.data)

    def read(self, at: int, length: int) -> bytes:
        return bytes(self.data[at : at + length])

    def piece(self, at: int, length: int) -> Piece:
        return memoryview(self.data)[at : at + length]

    def part(self, at: int, length: int) -> "InMemory":
        return InMemory(memoryview(self.data)[at : at + length])


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Bytes on the volume of another process; `open` as `Flow` has it."""

    open: Callable[[int, int], AbstractContextManager[Iterator[bytes]]]
    start: int
    length: int

    def read(self, at: int, length: int) -> bytes:
        with self.open(self.start + at, min(length, self.length - at)) as chunks:
            return b"".join(chunks)

    def piece(self, at: int, length: int) -> Piece:
        return Flow(self.open, self.start + at, length)

    def part(self, at: int, length: int) -> "Elsewhere":
        return replace(self, start=self.start + at, length=length)


class Verified:
    """The instances whose digest was found right since this process started, each with the file it is in."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], None] = {}
        self._lock = threading.Lock()

    def check(self, packs: Packs, stored: StoredInstance, file: int) -> None:
        """Reads an instance whole, the first time; raises Unavailable if its bytes are not those received."""
        place, state = stored.place, os.fstat(file)
        key = (place.pack_id, place.offset, stored.sha256, state.st_dev, state.st_ino)
        if key in self._known:
            return
        digest = hashlib.sha256()
        at = place.offset + HEADER_LENGTH + place.prefix_length
        with packs.alarmed(stored):
            for chunk in read(file, at, place.data_set_length):
                digest.update(chunk)
            if digest.digest() != stored.sha256:
                raise OSError(errno.EIO, "the pack holds other bytes")
        with self._lock:
            self._known[key] = None
            if len(self._known) > _REMEMBERED:
                del self._known[next(iter(self._known))]


class Here:
    """Parts of instances on the volume of this process."""

    def __init__(self, packs: Packs, verified: Verified) -> None:
        self._packs = packs
        self._verified = verified

    def read(self, stored: StoredInstance, first: int, length: int) -> Iterator[bytes]:
        """Bytes of the Part 10 file, once its digest was found right; raises as `Packs.read` does."""
        with self._packs.opened(stored) as file:
            self._verified.check(self._packs, stored, file.fileno())
            whole = part10(stored, file)
            for at in range(first, first + length, CHUNK_BYTES):
                with self._packs.alarmed(stored):
                    chunk = whole.read(at, min(CHUNK_BYTES, first + length - at))
                yield chunk


def part10(stored: StoredInstance, file: BinaryIO) -> InFile:
    """The Part 10 file of an instance in its pack."""
    return InFile(file.fileno(), stored.place.offset + HEADER_LENGTH, stored.place.file_length)


def read(file: int, at: int, length: int) -> Iterator[bytes]:
    """Bytes of a file in chunks; raises OSError where it is too short."""
    while length > 0:
        chunk = os.pread(file, min(length, _CHUNK), at)
        if not chunk:
            raise OSError(errno.EIO, "the pack is too short")
        yield chunk
        at, length = at + len(chunk), length - len(chunk)
