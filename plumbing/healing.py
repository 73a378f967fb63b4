"""Healing: a service compares what it keeps of other services with their versions, and so makes up for facts
that were lost.

One thing that cannot be healed keeps neither the others of its kind nor the other kinds from it.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from kernel.errors import Unavailable
from plumbing import log, timers

HEAL_INTERVAL_S = 3600
"""How long a lost fact stays lost."""

Versions = Sequence[tuple[UUID, int]]

_log = log.get()


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of thing that a service keeps of its owner.

    Attributes:
        name: tells the kind in the log.
        versions: asks the owner for the next page of ids and versions, in the order of ids; an empty one is
            the last.
        stale: those of which we know no version, or an older one.
        catch_up: asks the owner for one of them and keeps what is newer; answers whether there was something.
    """

    name: str
    versions: Callable[[UUID | None], Awaitable[Versions]]
    stale: Callable[[Mapping[UUID, int]], Awaitable[Collection[Any]]]
    catch_up: Callable[[Any], Awaitable[bool]]


async def heal(kinds: Sequence[Kind]) -> int:
    """Catches up with the owners, kind by kind; answers how much there was.

    Raises Unavailable when it has tried everything and something failed.
    """
    healed = failed = 0
    for kind in kinds:
        task = f"heal {kind.name}"

        async def catch_up(id_: Any, kind: Kind = kind) -> None:
            nonlocal healed
            healed += await kind.catch_up(id_)

        with timers.surviving(task) as attempt:
            async for page in _pages(kind):
                failed += len(await timers.each(task, await kind.stale(dict(page)), catch_up))
        failed += attempt.failed
    if healed:
        _log.info("facts healed", count=healed)
    if failed:
        raise Unavailable(f"{failed} could not be healed: the log tells each")
    return healed


async def _pages(kind: Kind) -> AsyncIterator[Versions]:
    after: UUID | None = None
    while page := await kind.versions(after):
        if after is not None and page[-1][0] <= after:
            raise Unavailable("the owner answers the same page again")
        yield page
        after = page[-1][0]


async def run(catch_up: Callable[[], Awaitable[int]], interval_s: float = HEAL_INTERVAL_S) -> None:
    """Heals at the start and every `interval_s`; sooner after a failure."""
    await timers.every(interval_s, partial(catch_up))
