"""Timers act at once and again, whatever a part of the system does not answer."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from kernel.errors import Unavailable
from plumbing import timers
from tests.wait import eventually


@asynccontextmanager
async def running(timer: Awaitable[None]) -> AsyncIterator[asyncio.Future[None]]:
    task = asyncio.ensure_future(timer)
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, ValueError):
            await task


def acting(outcomes: list[Exception | int]) -> tuple[list[int], Callable[[], Awaitable[int]]]:
    """An act that fails or answers in this order, then answers 0; and what it has answered."""
    answered: list[int] = []

    async def act() -> int:
        outcome = outcomes.pop(0) if outcomes else 0
        if isinstance(outcome, Exception):
            raise outcome
        answered.append(outcome)
        return outcome

    return answered, act


async def test_it_acts_at_once_and_then_every_interval() -> None:
    answered, act = acting([1])
    async with running(timers.every(3600, act)):
        await eventually(lambda: answered == [1])
    answered, act = acting([1, 2, 3])
    async with running(timers.every(0.01, act)):
        await eventually(lambda: answered[:3] == [1, 2, 3])


async def test_what_does_not_answer_is_asked_again() -> None:
    answered, act = acting([Unavailable("access does not answer"), 7])
    async with running(timers.heal(act, 0.01)):
        await eventually(lambda: answered[:1] == [7])


async def test_an_error_of_ours_ends_the_timer_and_with_it_the_process() -> None:
    _, act = acting([ValueError("a bug")])
    async with running(timers.every(0.01, act)) as task:
        with pytest.raises(ValueError, match="a bug"):
            await task
