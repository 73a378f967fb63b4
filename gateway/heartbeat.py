"""Tells Central server once a minute how this gateway is, also where it has nothing to send."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from gateway.store import Store
from kernel.errors import ReadroomError
from kernel.release import VERSION
from plumbing import log

INTERVAL_S = 60.0
AGAIN_S = 10.0
"""After a failure: a gateway that is not heard is shown as silent, and what it should renew must not wait."""

Tell = Callable[[str, int, timedelta | None], Awaitable[bool]]
"""Tells software version, transfers that are not at an end, and how long the oldest of them has waited.

Answers whether the certificate should be renewed."""

_log = log.get()


class Heartbeat:
    """One for the life of the process."""

    def __init__(
        self,
        store: Store,
        tell: Tell,
        renew: Callable[[], Awaitable[None]],
        wrong: Callable[[], str],
        *,
        interval_s: float = INTERVAL_S,
        again_s: float = AGAIN_S,
    ) -> None:
        """`renew` renews the certificate; `wrong` says what is wrong with it, empty while it is well."""
        self._store = store
        self._tell = tell
        self._renew = renew
        self._wrong = wrong
        self._complaint = ""
        self._interval_s = interval_s
        self._again_s = again_s
        self._difficulty = ""

    async def run(self) -> None:
        """Tells until it is cancelled; what fails is told in the log once."""
        while True:
            difficulty = ""
            try:
                count, oldest = await asyncio.to_thread(self._store.open_transfers)
                if await self._tell(VERSION, count, oldest):
                    await self._renew()
            except ReadroomError as error:
                difficulty = error.sentence
            except Exception as error:
                difficulty = type(error).__name__
            if difficulty and difficulty != self._difficulty:
                _log.warning("cannot tell Central server how this gateway is", cause=difficulty)
            self._difficulty = difficulty
            complaint = self._wrong()
            if complaint and complaint != self._complaint:
                _log.error(complaint)
            self._complaint = complaint
            await asyncio.sleep(self._again_s if difficulty else self._interval_s)
