"""Healing: a service compares what it keeps of other services with their versions, and so makes up for facts
that were lost.

One thing that cannot be healed keeps neither the others of its kind nor the other kinds from it.
"""

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from kernel.errors import Unavailable
from kernel.healing import Kind, Versions
from plumbing import log, timers

HEAL_INTERVAL_S = 3600
"""How long a lost fact stays lost."""

_log = log.get()


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


async def run(kinds: Sequence[Kind], interval_s: float = HEAL_INTERVAL_S) -> None:
    """Heals at the start and every `interval_s`; sooner after a failure."""
    await timers.every(interval_s, partial(heal, kinds))
