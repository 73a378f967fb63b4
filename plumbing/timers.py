"""Timers: what a service does when it starts, and then again and again."""

import asyncio
from collections.abc import Awaitable, Callable

from kernel.errors import ReadroomError
from plumbing import log

HEAL_INTERVAL_S = 3600
"""How long a lost fact stays lost."""

RETRY_S = 30
"""How soon a timer tries again when a part of the system does not answer."""

_log = log.get()


async def every(interval_s: float, act: Callable[[], Awaitable[object]]) -> None:
    """Acts now and every `interval_s`; sooner again after an act that somebody has not answered."""
    while True:
        pause_s = interval_s
        try:
            await act()
        except ReadroomError as error:
            pause_s = min(interval_s, RETRY_S)
            task = asyncio.current_task()
            _log.warning("a timer has to wait", task=task and task.get_name(), cause=error.sentence)
        await asyncio.sleep(pause_s)


async def heal(catch_up: Callable[[], Awaitable[int]], interval_s: float = HEAL_INTERVAL_S) -> None:
    """Has a service catch up with the owners whose facts it hears; `catch_up` answers how much there was."""

    async def act() -> None:
        if healed := await catch_up():
            _log.info("facts healed", count=healed)

    await every(interval_s, act)
