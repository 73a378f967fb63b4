"""Many who ask at once share an answer, and nobody is told what was so before they asked."""

import asyncio

import pytest

from web.together import Together


class Slow:
    """A look-up that ends when the test says so, and answers how many began."""

    def __init__(self) -> None:
        self.began = 0
        self.goes_on = asyncio.Event()

    async def __call__(self) -> int:
        self.began += 1
        number = self.began
        await self.goes_on.wait()
        if number == 3:
            raise LookupError
        return number


async def _until_waiting() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_comes_while_a_look_up_is_under_way_shares_the_next_one() -> None:
    together, slow = Together[int](), Slow()
    first = [asyncio.create_task(together.one("a", slow)) for _ in range(3)]
    await _until_waiting()
    later = [asyncio.create_task(together.one("a", slow)) for _ in range(100)]
    await _until_waiting()
    assert slow.began == 1, "a second one waits for the first"
    gone = later.pop(0)
    gone.cancel()
    slow.goes_on.set()

    assert await asyncio.gather(*first, *later) == [1] * 3 + [2] * 99
    failing = [asyncio.create_task(together.one("a", slow)) for _ in range(2)]
    for each in failing:
        with pytest.raises(LookupError):
            await each
    assert await together.one("a", slow) == 4
    assert not together._running
    assert not together._next


async def test_a_look_up_that_hangs_keeps_the_next_not_for_long() -> None:
    together, hangs, quick = Together[int](), Slow(), Slow()
    quick.goes_on.set()
    waiting = asyncio.create_task(together.one("a", hangs))
    await _until_waiting()
    async with asyncio.timeout(5):
        assert await together.one("a", quick) == 1
    hangs.goes_on.set()
    assert await waiting == 1
    assert not together._running


async def test_keys_do_not_wait_for_each_other() -> None:
    together, slow, quick = Together[int](), Slow(), Slow()
    quick.goes_on.set()
    waiting = asyncio.create_task(together.one("a", slow))
    await _until_waiting()
    assert await together.one("b", quick) == 1
    slow.goes_on.set()
    assert await waiting == 1
