"""One answer for all who ask the same at once.

A browser asks for many images at the same time, and each time it is asked whose session that is. Whoever asks
shares a look-up that begins after they came, never one that is under way: what ended before they came has
ended for them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

V = TypeVar("V")

_WAITS_S = 0.2
"""For the look-up that is under way: one that hangs keeps the next no longer."""


class Together(Generic[V]):
    """Of a key one look-up is under way, and one waits for it."""

    def __init__(self) -> None:
        self._running: dict[Hashable, asyncio.Task[V]] = {}
        self._next: dict[Hashable, asyncio.Task[V]] = {}

    async def one(self, key: Hashable, look_up: Callable[[], Awaitable[V]]) -> V:
        """What `look_up` answers, or that of somebody else who asked for this key; raises what it raises."""
        task = self._next.get(key)
        if task is None:
            task = self._next[key] = asyncio.create_task(self._after(key, self._running.get(key), look_up))
            task.add_done_callback(_is_seen)
        return await asyncio.shield(task)  # who goes away takes the answer from nobody

    async def _after(
        self, key: Hashable, running: asyncio.Task[V] | None, look_up: Callable[[], Awaitable[V]]
    ) -> V:
        if running is not None:
            await asyncio.wait([running], timeout=_WAITS_S)
        task = self._running[key] = self._next.pop(key)
        try:
            return await look_up()
        finally:
            if self._running.get(key) is task:
                del self._running[key]


def _is_seen(task: "asyncio.Task[V]") -> None:
    if not task.cancelled():
        task.exception()  # else it is reported where everybody who asked has gone
