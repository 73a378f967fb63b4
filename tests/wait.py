"""Waiting for what will come true, with a deadline."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
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
