"""Timers act at once and again, whatever a part of the system does not answer."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from kernel.errors import Unavailable
from plumbing import answers, runtime, timers
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


@pytest.mark.parametrize("failure", [Unavailable("access does not answer"), ValueError("a bug")])
async def test_what_fails_ends_no_timer_is_counted_and_tried_again(failure: Exception) -> None:
    answered, act = acting([failure, 7])
    counter = timers.FAILURES.labels("acting.act")
    before = counter._value.get()
    async with running(timers.every(0.01, act)):
        await eventually(lambda: answered[:1] == [7])
    assert counter._value.get() == before + 1


async def test_each_act_has_its_turn_whatever_became_of_the_one_before() -> None:
    _, fails = acting([ValueError("a bug")] * 1000)
    answered, act = acting([1, 2])
    async with running(timers.every(0.01, fails, act)):
        await eventually(lambda: answered[:2] == [1, 2])


async def test_after_each_failure_in_a_row_a_timer_waits_twice_as_long() -> None:
    at: list[float] = []

    async def act() -> None:
        at.append(asyncio.get_running_loop().time())
        raise Unavailable("access does not answer")

    async with running(timers.every(0.4, act, retry_s=0.1)):
        await eventually(lambda: len(at) > 4)
    pauses = [round(after - before, 2) for before, after in itertools.pairwise(at)][:4]
    assert all(pause >= least for pause, least in zip(pauses, [0.1, 0.2, 0.4, 0.4], strict=True)), pauses


async def test_an_item_that_fails_keeps_none_of_the_others() -> None:
    done: list[int] = []

    async def act(item: int) -> None:
        if item % 2:
            raise ValueError(item)
        done.append(item)

    assert await timers.each("a task", range(100), act) == [*range(1, 100, 2)]
    assert done == [*range(0, 100, 2)]


async def test_who_does_not_answer_is_not_asked_for_every_item() -> None:
    asked: list[int] = []

    async def act(item: int) -> None:
        asked.append(item)
        raise Unavailable("access does not answer")

    assert await timers.each("a task", range(100), act) == [*range(100)]
    assert len(asked) == 20


async def test_who_answers_badly_is_asked_for_every_item() -> None:
    async def act(_item: int) -> None:
        asked.append(_item)
        raise answers.BadAnswer("`access` gave an answer that its contract does not allow")

    asked: list[int] = []
    await timers.each("a task", range(100), act)
    assert len(asked) == 100


async def test_a_batch_that_is_full_is_followed_by_another() -> None:
    answered, act = acting([5, 5, 4, 5])
    await timers.drain(5, act)
    assert answered == [5, 5, 4]


async def test_the_end_of_a_process_passes() -> None:
    with pytest.raises(SystemExit), timers.surviving("a task"):
        raise SystemExit(1)


async def test_a_timer_ends_though_a_library_swallows_its_cancellation() -> None:
    """As nats-py may before Python 3.12, with the answer that comes in the same moment."""
    acting_now = asyncio.Event()

    async def act() -> None:
        acting_now.set()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)

    for run in (timers.every(0.01, act), runtime.for_life("a timer", lambda: timers.every(0.01, act))):
        acting_now.clear()
        timer = asyncio.create_task(run)
        await acting_now.wait()
        timer.cancel()
        done, _ = await asyncio.wait([timer], timeout=5)
        assert done
        assert timer.exception() is None
