"""Healing: what cannot be healed keeps nothing else from it, and no owner keeps us asking for ever."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from uuid import UUID

import pytest

from kernel.errors import Unavailable
from kernel.healing import Kind, Versions
from plumbing.healing import heal

IDS = [UUID(int=number) for number in range(1, 6)]


def owner(pages: Sequence[Versions | Exception]) -> Callable[[UUID | None], Awaitable[Versions]]:
    """Answers these pages in this order, and then an empty one."""
    left = list(pages)

    async def versions(_after: UUID | None) -> Versions:
        page = left.pop(0) if left else []
        if isinstance(page, Exception):
            raise page
        return page

    return versions


async def all_of_them(told: Mapping[UUID, int]) -> Collection[UUID]:
    return list(told)


def a_kind(name: str, pages: Sequence[Versions | Exception], *poison: UUID) -> tuple[Kind, list[UUID]]:
    caught_up: list[UUID] = []

    async def catch_up(id_: UUID) -> bool:
        if id_ in poison:
            raise KeyError(id_)
        caught_up.append(id_)
        return True

    return Kind(name, owner(pages), all_of_them, catch_up), caught_up


async def test_one_that_cannot_be_healed_keeps_no_other() -> None:
    kind, caught_up = a_kind("cases", [[(id_, 1) for id_ in IDS[:3]], [(id_, 1) for id_ in IDS[3:]]], IDS[1])
    with pytest.raises(Unavailable, match=r"^1 could not be healed"):
        await heal([kind])
    assert caught_up == [IDS[0], *IDS[2:]]


@pytest.mark.parametrize("failure", [Unavailable("routing does not answer"), ValueError("not a UUID")])
async def test_a_page_that_fails_keeps_no_other_kind(failure: Exception) -> None:
    cases, _ = a_kind("cases", [failure])
    studies, caught_up = a_kind("studies", [[(IDS[0], 1)]])
    with pytest.raises(Unavailable, match=r"^1 could not be healed"):
        await heal([cases, studies])
    assert caught_up == IDS[:1]


async def test_an_owner_that_answers_the_same_page_for_ever_is_left() -> None:
    kind, caught_up = a_kind("cases", [[(IDS[0], 1)]] * 1000)
    with pytest.raises(Unavailable):
        await heal([kind])
    assert caught_up == IDS[:1]


async def test_it_answers_how_much_there_was() -> None:
    kind, _ = a_kind("cases", [[(id_, 1) for id_ in IDS]])
    assert await heal([kind]) == 5
