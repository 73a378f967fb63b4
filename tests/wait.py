"""Waiting for what will come true, with a deadline."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar, overload

T = TypeVar("T")

POLL_S = 0.01


@overload
async def eventually(condition: Callable[[], Awaitable[T]], within: float = 20.0) -> T: ...
@overload
async def eventually(condition: Callable[[], T], within: float = 20.0) -> T: ...


async def eventually(condition: Callable[[], Any], within: float = 20.0) -> Any:
    """The first true answer of `condition`, plain or async; an assertion that names it if none comes in time.

    An AssertionError of the condition counts as "not yet", and is shown if it stays.
    """
    deadline = time.monotonic() + within
    while True:
        failure: AssertionError | None = None
        answer: Any = None
        try:
            value = condition()
            answer = await value if inspect.isawaitable(value) else value
        except AssertionError as not_yet:
            failure = not_yet
        if answer:
            return answer
        if time.monotonic() > deadline:
            what = getattr(condition, "__name__", repr(condition))
            raise AssertionError(f"`{what}` did not come true within {within} s: {answer!r}") from failure
        await asyncio.sleep(POLL_S)


class Stopwatch:
    """Measures what a row promises in seconds, as a machine would take that has nothing else to do.

    Linux tells how long this thread ran, and how long it was ready and had to wait for a processor. Where it
    waited as long as it ran, everything takes twice as long.
    """

    def __init__(self) -> None:
        self._began_at = time.monotonic()
        self._ran_s, self._waited_s = _scheduled()

    def seconds(self) -> float:
        """Since the beginning."""
        ran_s, waited_s = _scheduled()
        ran_s, waited_s = ran_s - self._ran_s, waited_s - self._waited_s
        slower = 1 + waited_s / ran_s if ran_s > 0 else 1.0
        return (time.monotonic() - self._began_at) / slower


def _scheduled() -> tuple[float, float]:
    """Seconds that this thread has run and that it has waited for a processor; 0 where nobody counts."""
    try:
        ran, waited, _ = Path("/proc/thread-self/schedstat").read_text().split()
    except (OSError, ValueError):
        return 0.0, 0.0
    return int(ran) / 1e9, int(waited) / 1e9
