"""Channels to processes that come and go: one for each address; of too many the one used longest ago ends."""

from collections.abc import Callable

import grpc

KEPT = 32


class Channels:
    """Of one process."""

    def __init__(self, connect: Callable[[str], grpc.aio.Channel]) -> None:
        """`connect` answers a channel to an address, `host:port`."""
        self._connect = connect
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def to(self, address: str) -> grpc.aio.Channel:
        """The channel to an address."""
        channel = self._channels.pop(address, None) or self._connect(address)
        self._channels[address] = channel  # last in, least recently used first out
        if len(self._channels) > KEPT:
            await self._channels.pop(next(iter(self._channels))).close()
        return channel

    async def close(self) -> None:
        """Ends every channel."""
        while self._channels:
            await self._channels.popitem()[1].close()
