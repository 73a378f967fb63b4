"""Reads every page of a list."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Protocol, TypeVar

import click


class Request(Protocol):
    """A request for one page."""

    page_token: str


class Page(Protocol):
    """An answer with one page."""

    next_page_token: str


R = TypeVar("R", bound=Request)
P = TypeVar("P", bound=Page)
T = TypeVar("T")

newest = click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Show at most so many, the newest first.",
)
"""Of a list that is read as far as somebody wants; `first` takes the number."""


async def every(
    verb: Callable[[R], Awaitable[P]], request: R, items: Callable[[P], Iterable[T]]
) -> AsyncIterator[T]:
    """Every item of every page, in the order of the list."""
    while True:
        page = await verb(request)
        for item in items(page):
            yield item
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


async def first(items: AsyncIterator[T], limit: int | None) -> list[T]:
    """The first so many items, and no more pages than they need; all without a limit."""
    found: list[T] = []
    async for item in items:
        found.append(item)
        if len(found) == limit:
            break
    return found
