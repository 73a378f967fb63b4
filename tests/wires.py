"""A wire between two of our processes that a test can cut: what is behind it is as good as restarting."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

_CHUNK = 1 << 16


class Wire:
    """Carries connections to `port`, until it is cut; and again once it is mended."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self._to = port
        self._is_cut = False
        self._writers: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Ends every connection, and lets none begin."""
        self._is_cut = True
        for each in self._writers:
            each.transport.abort()

    def mend(self) -> None:
        self._is_cut = False

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        if self._is_cut:
            writer.transport.abort()
            return
        with suppress(OSError):
            back, there = await asyncio.open_connection("127.0.0.1", self._to)
            ends = {writer, there}
            self._writers |= ends
            await asyncio.gather(self._copy(reader, there), self._copy(back, writer))
            self._writers -= ends

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while chunk := await reader.read(_CHUNK):
                writer.write(chunk)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def wire(port: int, listen: int = 0) -> AsyncIterator[Wire]:
    """A wire to a port of this machine; it has a port of its own, or the one that `listen` says."""
    made = Wire(port)
    async with await asyncio.start_server(made.carry, "127.0.0.1", listen) as server:
        made.port = server.sockets[0].getsockname()[1]
        yield made
        made.cut()
