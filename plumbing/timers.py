"""Timers: what a service does when it starts, and then again and again.

Nothing that fails ends a timer. A word waits for its cause to go away. Any other exception is a fault of ours
or an answer that nobody expected: the log tells where it came from. Both are counted, and tried again later.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from prometheus_client import Counter

from kernel.errors import ReadroomError
from plumbing import log
from plumbing.answers import nobody_answers

RETRY_S = 30
"""How soon a timer tries again after a failure; after each further one it waits twice as long."""

_TOLD_OF_EACH = 10
"""Failures that one round tells one by one. The others it only counts: thousands may fail alike."""

FAILURES = Counter("readroom_timer_failures", "What a timer could not do and tries again, by task", ["task"])

_AWAY_AFTER = 20
"""Items in a row for which somebody does not answer: then the others wait for the next round.

Each question costs up to its deadline. Thousands of them would keep what else the timer does for hours.
"""

_log = log.get()
Item = TypeVar("Item")


@dataclass(slots=True)
class Attempt:
    """What was tried, and why it failed, if it did."""

    error: Exception | None = None

    @property
    def failed(self) -> bool:
        return self.error is not None


@contextmanager
def surviving(task: str, *, quiet: bool = False, **about: object) -> Iterator[Attempt]:
    """Whatever fails within is counted, and told unless `quiet`; the loop around it goes on.

    Only what ends a process on purpose passes: a cancellation, and other exceptions that are no `Exception`.

    Args:
        about: ids, to find what failed.
    """
    attempt = Attempt()
    try:
        yield attempt
    except Exception as error:
        attempt.error = error
        FAILURES.labels(task).inc()
        if quiet:
            return
        if isinstance(error, ReadroomError):
            _log.warning("a timer has to wait", task=task, cause=error.sentence, **about)
        else:
            _log.exception("a timer failed unexpectedly", task=task, **about)


def cancelled() -> bool:
    """Whether this task was asked to end. Every endless loop asks over which NATS may stand.

    Before Python 3.12 `asyncio.wait_for`, with which nats-py waits, swallows a cancellation that comes
    together with the answer.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def every(interval_s: float, *acts: Callable[[], Awaitable[object]], retry_s: float = RETRY_S) -> None:
    """Acts now and every `interval_s`, until it is cancelled.

    Each act has its turn, whatever became of the one before it. After a failure the next round comes sooner:
    after `retry_s`, then after twice as long, and so on up to `interval_s`.
    """
    failures = 0
    while not cancelled():
        failed = False
        for act in acts:
            with surviving(_name(act)) as attempt:
                await act()
            failed |= attempt.failed
        failures = failures + 1 if failed else 0
        pause_s = retry_s * 2.0 ** min(failures - 1, 16) if failed else interval_s
        await asyncio.sleep(min(interval_s, pause_s))


async def each(task: str, items: Iterable[Item], act: Callable[[Item], Awaitable[object]]) -> list[Item]:
    """Acts for each item, whatever became of the one before it; answers those that it could not do."""
    failed: list[Item] = []
    unanswered = 0
    for item in items:
        if unanswered >= _AWAY_AFTER:
            failed.append(item)
            continue
        with surviving(task, quiet=len(failed) >= _TOLD_OF_EACH, item=item) as attempt:
            await act(item)
        unanswered = unanswered + 1 if nobody_answers(attempt.error) else 0
        if attempt.failed:
            failed.append(item)
    if len(failed) > _TOLD_OF_EACH:
        _log.warning("a timer failed more often than it tells one by one", task=task, count=len(failed))
    return failed


async def drain(batch: int, act: Callable[[], Awaitable[int]]) -> None:
    """Acts until it finds less than a batch."""
    while await act() >= batch:
        pass


def _name(act: Callable[..., Any]) -> str:
    """What the code calls it, as in `Reminders.plan`; of what `drain` repeats, the name of that."""
    if isinstance(act, partial):
        return _name(act.args[-1] if act.func is drain else act.func)
    return getattr(act, "__qualname__", type(act).__name__).replace(".<locals>", "")
