"""The bytes of instances: from the volume of this process, or from the process that holds theirs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from kernel.database import Database
from kernel.errors import Exhausted, Invalid, NotFound, Unavailable
from kernel.ids import PackId, VolumeId
from services.ingest.domain import StoredInstance

if TYPE_CHECKING:
    from services.ingest.store import IngestTransaction

READ_AT_ONCE = 64
"""Instances that other processes may read here at a time; each holds two chunks in memory."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of an instance is read.

    Attributes:
        beginning: of the data set.
        first, length: a part of the Part 10 file; 0: all of it.
    """

    beginning: bool = False
    first: int = 0
    length: int = 0

    def within(self, stored: StoredInstance) -> bool:
        """Whether the instance has that part."""
        return 0 <= self.first and 0 <= self.length <= stored.place.file_length - self.first


WHOLE, BEGINNING = Wanted(), Wanted(beginning=True)


class Files(Protocol):
    """The bytes on the volume of this process; each method waits for the disk."""

    def read(self, stored: StoredInstance) -> Iterator[bytes]: ...
    def beginning(self, stored: StoredInstance) -> Iterator[bytes]: ...
    def missing(self, pack_id: PackId) -> None: ...


class Parts(Protocol):
    """Parts of instances on the volume of this process."""

    def read(self, stored: StoredInstance, first: int, length: int) -> Iterator[bytes]: ...


class Writer(Protocol):
    """Where this process writes."""

    @property
    def volume_id(self) -> VolumeId: ...


class Peer(Protocol):
    """Another process of ingest."""

    async def read_pack(self, stored: StoredInstance, wanted: Wanted) -> AsyncGenerator[bytes, None]:
        """What it has of an instance; raises what it says, Unavailable where it does not answer."""
        ...


Peers = Callable[[str], Awaitable[Peer]]
"""Answers the process at an address."""


class PackReading:
    """Reads instances, wherever they are. What is found missing or wrong is known as that from then on."""

    def __init__(
        self,
        database: Database[IngestTransaction],
        files: Files,
        parts: Parts,
        writer: Writer,
        peers: Peers,
    ) -> None:
        self._database = database
        self._files = files
        self._parts = parts
        self._writer = writer
        self._peers = peers
        self._reading = 0

    def read(self, stored: StoredInstance) -> AsyncGenerator[bytes, None]:
        """The Part 10 file in chunks; the last one comes only if the digest of the data set is right.

        Raises NotFound if the study was purged meanwhile; Unavailable if bytes are missing or wrong, or
        nobody holds their volume now.
        """
        return self._read(stored, WHOLE)

    def part(self, stored: StoredInstance, first: int, length: int) -> AsyncGenerator[bytes, None]:
        """A part of the Part 10 file, once the digest was found right. Raises as `read` does."""
        return self._read(stored, Wanted(first=first, length=length))

    def is_here(self, stored: StoredInstance) -> bool:
        """Whether it is on the volume of this process."""
        return stored.volume_id in (None, self._writer.volume_id)

    def beginning(self, stored: StoredInstance) -> AsyncGenerator[bytes, None]:
        """The beginning of the data set, in chunks; nothing says that it is whole. Raises as `read` does."""
        return self._read(stored, BEGINNING)

    async def read_pack(self, stored: StoredInstance, wanted: Wanted) -> AsyncGenerator[bytes, None]:
        """What is on the volume of this process, for another one.

        Raises Invalid if the instance has no such part, Exhausted if too much is read.
        """
        if not wanted.within(stored):
            raise Invalid("`first` and `length` must lie within the instance", field="length")
        if self._reading >= READ_AT_ONCE:
            raise Exhausted("too many instances are read here for others: ask again later")
        self._reading += 1
        try:
            async with aclosing(self._read_here(stored, wanted)) as chunks:
                async for chunk in chunks:
                    yield chunk
        finally:
            self._reading -= 1

    async def _read(self, stored: StoredInstance, wanted: Wanted) -> AsyncGenerator[bytes, None]:
        if stored.volume_id is None or self.is_here(stored):
            here = self._read_here(stored, wanted)
        else:
            here = self._read_elsewhere(stored, stored.volume_id, wanted)
        async with aclosing(here) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _read_elsewhere(
        self, stored: StoredInstance, volume_id: VolumeId, wanted: Wanted
    ) -> AsyncGenerator[bytes, None]:
        async with self._database.statements() as statements:
            address = await statements.holder_address(volume_id)
        if address is None:
            raise Unavailable("no process holds the volume of the instance now: try again later")
        try:
            asked = await (await self._peers(address)).read_pack(stored, wanted)
            async with aclosing(asked) as chunks:
                async for chunk in chunks:
                    yield chunk
        except Exhausted as error:
            raise Unavailable(error.sentence) from error

    async def _read_here(self, stored: StoredInstance, wanted: Wanted) -> AsyncGenerator[bytes, None]:
        if wanted.beginning:
            chunks = self._files.beginning(stored)
        elif wanted.length:
            chunks = self._parts.read(stored, wanted.first, wanted.length)
        else:
            chunks = self._files.read(stored)
        try:
            async with aclosing(_one_by_one(chunks) if wanted.beginning else _ahead(chunks)) as found:
                async for chunk in found:
                    yield chunk
        except NotFound:
            async with self._database.statements() as statements:
                if not await statements.pack_is_kept(stored.place.pack_id):
                    raise
                await statements.mark_damaged(stored)
            self._files.missing(stored.place.pack_id)
            raise Unavailable("the instance cannot be read") from None
        except Unavailable:
            async with self._database.statements() as statements:
                await statements.mark_damaged(stored)
            raise


async def _one_by_one(chunks: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
    """For who ends before the end: nothing is read that nobody asked for."""
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        yield chunk


async def _ahead(chunks: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The next chunk is read while the last is on its way."""
    ahead = asyncio.ensure_future(asyncio.to_thread(next, chunks, None))
    try:
        while (chunk := await ahead) is not None:
            ahead = asyncio.ensure_future(asyncio.to_thread(next, chunks, None))
            yield chunk
    finally:
        await asyncio.gather(ahead, return_exceptions=True)
