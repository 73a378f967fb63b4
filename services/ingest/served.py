"""Stored instances as viewers want them: the whole file, the head, its JSON, frames.

One `project` makes head and JSON, so that instance, metadata and search results cannot differ. Nothing of an
instance goes out before its digest was found right once since the process started, on a file that has not
changed since (R6).
"""

import zlib
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeVar

from kernel.dataset import DEFLATED
from kernel.errors import NotFound, Unavailable
from plumbing.dicomjson import Memo, to_json, value_at
from plumbing.responses import Piece
from services.ingest.allowance import Budget
from services.ingest.domain import StoredInstance
from services.ingest.frames import Pixels, pixels_of
from services.ingest.images import no_images
from services.ingest.packreading import PackReading
from services.ingest.packs import Packs
from services.ingest.sources import Elsewhere, InMemory, Source, Verified, part10

MAX_HEAD_BYTES = 256 << 20
"""Of a data set without pixel data, as a document is, or before it."""
MAX_INFLATED_BYTES = 128 << 20
"""Of a deflated data set: a segmentation with a mask of a thousand slices takes 32 MiB."""
MAX_MEMO = 4096
"""Fragments of JSON that a request remembers; each takes some kilobytes at most."""
CHUNK_S = 30.0
"""For the next bytes of an instance on the volume of another process, which first reads it whole."""
_STEP = 1 << 20

T = TypeVar("T")


class Loop(Protocol):
    """The way from a connection's thread to the event loop."""

    def wait(self, coroutine: Coroutine[Any, Any, T], seconds: float) -> T: ...
    def call(self, function: Callable[..., None], *arguments: object) -> None: ...


@dataclass(frozen=True, slots=True)
class Bytes:
    """Instances, wherever they are: here in the packs, or with another process."""

    packs: Packs
    verified: Verified
    reading: PackReading
    loop: Loop

    def elsewhere(self, stored: StoredInstance) -> Elsewhere | None:
        """The Part 10 file on the volume of another process; None: it is here."""
        if self.reading.is_here(stored):
            return None
        return Elsewhere(partial(self._part, stored), 0, stored.place.file_length)

    @contextmanager
    def _part(self, stored: StoredInstance, first: int, length: int) -> Iterator[Iterator[bytes]]:
        if not length:
            yield iter(())
            return
        told = self.reading.part(stored, first, length)

        async def next_chunk() -> bytes | None:
            return await anext(told, None)

        async def end() -> None:
            await told.aclose()

        def chunks() -> Iterator[bytes]:
            while (chunk := self.loop.wait(next_chunk(), CHUNK_S)) is not None:
                yield chunk

        try:
            yield chunks()
        except NotFound as error:
            raise no_images() from error  # purged meanwhile
        finally:
            with suppress(RuntimeError):  # what took too long is being ended already
                self.loop.wait(end(), CHUNK_S)


class Reading:
    """What one request reads; at its end it closes its files and gives its memory back."""

    def __init__(self, stored: Bytes, budget: Budget) -> None:
        self._bytes = stored
        self._budget = budget
        self._resources = ExitStack()
        self._files: dict[Any, Any] = {}
        self._memo: Memo = {}

    def __enter__(self) -> "Reading":
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def keep(self, count: int) -> None:
        """So many bytes are in memory until the answer has gone; raises Unavailable if there are none."""
        self._keep(count, self._resources)

    def _keep(self, count: int, until: ExitStack) -> None:
        until.enter_context(self._budget.held(count))

    def object(self, stored: StoredInstance) -> Piece:
        """The Part 10 file."""
        file = self._file(stored)
        if isinstance(file, Elsewhere) and stored.place.pack_id not in self._files:
            file.read(0, 1)  # so that whatever stands in the way is known before anything is answered
            self._files[stored.place.pack_id] = None
        return file.piece(0, stored.place.file_length)

    def project(self, stored: StoredInstance, bulk: str) -> str:
        """The JSON of one instance (PS3.18 F.2); `bulk` begins the URI of each value that is bulk data."""
        syntax = stored.instance.transfer_syntax_uid
        if len(self._memo) > MAX_MEMO:
            self._memo.clear()
        with self._head(stored) as head:
            return to_json(head, syntax, bulk=lambda path: f"{bulk}{path}", memo=self._memo)

    def bulk_data(self, stored: StoredInstance, path: str) -> bytes | None:
        """The value at a path of a BulkDataURI, in little endian; None: there is none."""
        with self._head(stored) as head:
            found = value_at(head, stored.instance.transfer_syntax_uid, path)
        if found is not None:
            self.keep(len(found))
        return found

    def frames(self, stored: StoredInstance, numbers: Sequence[int]) -> list[list[Piece]]:
        """Each of these frames, from 1. Raises NotFound where there is no such frame."""
        pixels = self._pixels(stored)
        if pixels.turned:
            self.keep(len(numbers) * pixels.frame_bytes)
        if pixels.encapsulated and isinstance(pixels.source, Elsewhere):
            self.keep(pixels.source.length)  # its fragments would be asked for one by one
            pixels = replace(pixels, source=InMemory(pixels.source.read(0, pixels.source.length)))
        return pixels.frames(numbers)

    def frame_count(self, stored: StoredInstance) -> int:
        """How many frames its pixel data have."""
        return self._pixels(stored).count

    def _file(self, stored: StoredInstance) -> Source:
        """The Part 10 file, whose digest is right."""
        if (elsewhere := self._bytes.elsewhere(stored)) is not None:
            return elsewhere
        pack_id = stored.place.pack_id
        if (file := self._files.get(pack_id)) is None:
            try:
                file = self._resources.enter_context(self._bytes.packs.opened(stored))
            except NotFound as error:
                raise Unavailable("the images are on a volume that is away: try again later") from error
            self._files[pack_id] = file
        self._bytes.verified.check(self._bytes.packs, stored, file.fileno())
        return part10(stored, file)

    def _data_set(self, stored: StoredInstance, until: ExitStack, end: int | None = None) -> Source:
        """The data set, up to `end` if only that is wanted; inflated if it is deflated."""
        place = stored.place
        here = self._file(stored).part(place.prefix_length, place.data_set_length)
        if stored.instance.transfer_syntax_uid not in DEFLATED:
            return here
        return InMemory(self._inflated(here, end, until))

    def _inflated(self, source: Source, end: int | None, until: ExitStack) -> bytes:
        most = MAX_INFLATED_BYTES if end is None else end
        if most > MAX_INFLATED_BYTES:
            raise _too_large()
        inflater, made = zlib.decompressobj(-zlib.MAX_WBITS), bytearray()
        for at in range(0, source.length, _STEP):
            waiting = source.read(at, min(_STEP, source.length - at))
            while (waiting or inflater.unconsumed_tail) and not inflater.eof and len(made) < most:
                self._keep(_STEP, until)
                made += inflater.decompress(waiting, min(_STEP, most - len(made)))
                waiting = inflater.unconsumed_tail
        if end is None and not inflater.eof and len(made) >= most:
            raise _too_large()
        return bytes(made)

    @contextmanager
    def _head(self, stored: StoredInstance) -> Iterator[bytes]:
        """The data set up to its pixel data."""
        length = stored.layout.pixel_offset
        if length is None and stored.instance.transfer_syntax_uid not in DEFLATED:
            length = min(stored.place.data_set_length, MAX_HEAD_BYTES)
        if length is not None and length > MAX_HEAD_BYTES:
            raise _too_large()
        with ExitStack() as until:
            data_set = self._data_set(stored, until, length)
            length = data_set.length if length is None else length
            self._keep(2 * length, until)  # what is made of it takes as much again
            yield data_set.read(0, length)

    def _pixels(self, stored: StoredInstance) -> Pixels:
        syntax = stored.instance.transfer_syntax_uid
        with self._head(stored) as head:
            return pixels_of(head, syntax, self._data_set(stored, self._resources))


def _too_large() -> Unavailable:
    return Unavailable("the instance is too large to be described: fetch it whole")
