"""Questions of several senders at once become one."""

import asyncio
from collections.abc import Collection

import pytest

from kernel.errors import Unavailable
from services.notify.clients import Joined


class Owner:
    """Answers what it was asked, when a test lets it."""

    def __init__(self) -> None:
        self.asked: list[set[str]] = []
        self.answering = asyncio.Event()
        self.away = False

    async def describe(self, keys: Collection[str]) -> dict[str, str]:
        self.asked.append(set(keys))
        await self.answering.wait()
        if self.away:
            raise Unavailable("`access` does not answer")
        return {key: key.upper() for key in keys}


async def some_ask(joined: "Joined[str, dict[str, str]]", *keys: str) -> list[asyncio.Task[dict[str, str]]]:
    """Each key asked by somebody else."""
    asking = [asyncio.create_task(joined.ask([key])) for key in keys]
    for _ in range(3):
        await asyncio.sleep(0)
    return asking


async def test_who_asks_while_a_question_is_under_way_shares_the_next_one() -> None:
    owner = Owner()
    joined = Joined(owner.describe, 100)

    first = await some_ask(joined, "a")
    others = await some_ask(joined, "b", "a", "c")
    owner.answering.set()

    assert [{"a": "A"}] == await asyncio.gather(*first)
    assert ["B", "A", "C"] == [
        answer[key] for key, answer in zip("bac", await asyncio.gather(*others), strict=True)
    ]
    assert [{"a"}, {"a", "b", "c"}] == owner.asked


async def test_no_question_is_longer_than_its_owner_answers() -> None:
    owner = Owner()
    joined = Joined(owner.describe, 2)

    asking = [*await some_ask(joined, "a"), *await some_ask(joined, "b", "c", "d", "e", "f")]
    owner.answering.set()

    assert list("ABCDEF") == [
        answer[key] for key, answer in zip("abcdef", await asyncio.gather(*asking), strict=True)
    ]
    assert [{"a"}, {"b", "c"}, {"d", "e"}, {"f"}] == owner.asked


async def test_who_gives_up_takes_the_answer_from_nobody() -> None:
    owner = Owner()
    joined = Joined(owner.describe, 100)

    impatient, other = await some_ask(joined, "a", "b")
    impatient.cancel()
    owner.answering.set()

    assert "B" == (await other)["b"]


async def test_a_question_without_answer_fails_for_all_who_asked_it_and_the_next_is_asked_anew() -> None:
    owner = Owner()
    owner.away = True
    owner.answering.set()
    joined = Joined(owner.describe, 100)

    for asking in await some_ask(joined, "a", "b"):
        with pytest.raises(Unavailable):
            await asking
    owner.away = False

    assert {"a": "A"} == await joined.ask(["a"])
