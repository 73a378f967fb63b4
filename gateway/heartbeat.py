"""Tells Central server once a minute how this gateway is, also where it has nothing to send."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from gateway.store import Store
from kernel.errors import ReadroomError
from kernel.release import VERSION
from plumbing import log

INTERVAL_S = 60.0

Tell = Callable[[str, int, timedelta | None], Awaitable[None]]
"""Tells software version, transfers that are not at an end, and how long the oldest of them has waited."""

_log = log.get()


class Heartbeat:
    """One for the life of the process."""

    def __init__(self, store: Store, tell: Tell, *, interval_s: float = INTERVAL_S) -> None:
        self._store = store
        self._tell = tell
        self._interval_s = interval_s
        self._difficulty = ""

    async def run(self) -> None:
        """Tells until it is cancelled; what fails is told in the log once."""
        while True:
            difficulty = ""
            try:
                count, oldest = await asyncio.to_thread(self._store.open_transfers)
                await self._tell(VERSION, count, oldest)
            except ReadroomError as error:
                difficulty = error.sentence
            except Exception as error:
                difficulty = type(error).__name__
            if difficulty and difficulty != self._difficulty:
                _log.warning("cannot tell Central server how this gateway is", cause=difficulty)
            self._difficulty = difficulty
            await asyncio.sleep(self._interval_s)
