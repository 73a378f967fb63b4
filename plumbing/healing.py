"""Healing: a service makes up for facts that were lost, so that what it keeps of its owners is right again.

Each hour it asks every owner which facts it has published since the last time, and catches up with what it
has not heard. That costs as much as happened. What that cannot find - an owner that has pruned those facts, a
service that was restored - a comparison of all versions finds: once a week, slowly, by one process at a
time, and it goes on where it was ended.

One thing that cannot be healed keeps neither the others of its kind nor the other kinds from it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar
from uuid import UUID

from kernel.errors import Unavailable
from kernel.healing import Kind, Versions
from plumbing import log, timers
from plumbing.answers import nobody_answers
from plumbing.db import Database, Transaction
from plumbing.leases import Lease

HEAL_INTERVAL_S = 3600
"""How long a lost fact stays lost."""
COMPARE_EVERY = timedelta(days=7)
COMPARE_AGAIN = timedelta(days=1)
"""After something could not be healed."""
LOOK_S = 60.0
"""Between two looks whether a comparison is due."""
OVERLAP = timedelta(minutes=10)
"""Longer than a relay takes to mark what it published, and than the clocks of an owner's copies differ."""
SHARE = 4.0

_THE_SAME = "the owner answers the same page again"

_log = log.get()
T = TypeVar("T", bound=Transaction)


@dataclass(slots=True)
class _Caught:
    """What became of a page that was to be caught up with."""

    healed: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class _State:
    heard_until: datetime | None = None
    due: bool = True
    compared_after: UUID | None = None
    compared_at: datetime | None = None
    failed: int = 0

    def is_due(self, now: datetime, every: timedelta) -> bool:
        """Whether a comparison has to begin or go on; one that ended after now had a wrong clock."""
        if self.due or self.compared_after or self.compared_at is None:
            return True
        pause = min(COMPARE_AGAIN, every) if self.failed else every
        return not self.compared_at <= now < self.compared_at + pause


class Healing(Generic[T]):
    """Makes up for lost facts of some kinds; several processes of a service share the work."""

    def __init__(
        self,
        database: Database[T],
        kinds: Sequence[Kind],
        holder: UUID,
        *,
        compare_every: timedelta = COMPARE_EVERY,
        share: float = SHARE,
    ) -> None:
        """Prepare.

        Args:
            holder: an id that no other process has.
            compare_every: from the end of one comparison to the next.
            share: for each second of comparing the databases have so many seconds for others.
        """
        self._database = database
        self._kinds = kinds
        self._lease = Lease(database, "compare", holder)
        self._compare_every = compare_every
        self._share = share

    async def run(self, interval_s: float = HEAL_INTERVAL_S) -> None:
        """Heals at the start and then again and again, until it is cancelled."""
        await asyncio.gather(
            timers.every(interval_s, self.hear), timers.every(min(interval_s, LOOK_S), self.compare)
        )

    async def hear(self) -> int:
        """Catches up with what the owners have published since the last time; answers how much there was.

        Raises Unavailable when it has tried every kind and something failed.
        """
        return await self._of_each(self._hear)

    async def compare(self) -> int:
        """Goes on with the comparisons that are due, unless another process does; answers how much there was.

        Raises Unavailable when it has tried every kind and something failed.
        """
        try:
            return await self._of_each(self._compare)
        finally:
            await self._lease.give_back()

    async def _of_each(self, act: Callable[[Kind], AsyncIterator[_Caught]]) -> int:
        healed = failed = 0
        for kind in self._kinds:
            with timers.surviving(f"heal {kind.name}") as attempt:
                async for caught in act(kind):
                    healed += caught.healed
                    failed += caught.failed
            failed += attempt.failed
        if healed:
            _log.info("facts healed", count=healed)
        if failed:
            raise Unavailable(f"{failed} could not be healed: the log tells each")
        return healed

    async def _hear(self, kind: Kind) -> AsyncIterator[_Caught]:
        state, _ = await self._state(kind)
        since = state.heard_until and state.heard_until - OVERLAP
        first = page = await kind.said(since, "")
        if not first.complete:
            await self._save(kind, "heard_until = $2, due = true", first.as_of)
            return
        while True:
            yield await self._catch_up(kind, page.versions)
            if not page.token:
                break
            before, page = page.token, await kind.said(since, page.token)
            if page.token == before:
                raise Unavailable(_THE_SAME)
        await self._save(kind, "heard_until = $2", first.as_of)

    async def _compare(self, kind: Kind) -> AsyncIterator[_Caught]:
        state, now = await self._state(kind)
        if not state.is_due(now, self._compare_every) or not await self._lease.hold():
            return
        after = state.compared_after
        if after is None:
            await self._save(kind, "due = false, failed = 0")
        while await self._lease.hold():
            began = time.monotonic()
            page = await kind.versions(after)
            if not page:
                await self._save(kind, "compared_after = null, compared_at = now()")
                return
            if after is not None and page[-1][0] <= after:
                raise Unavailable(_THE_SAME)
            yield await self._catch_up(kind, page)
            after = page[-1][0]
            await self._save(kind, "compared_after = $2", after)
            await asyncio.sleep(self._share * (time.monotonic() - began))

    async def _catch_up(self, kind: Kind, told: Versions) -> _Caught:
        """Raises Unavailable if somebody does not answer: then nothing of the page counts as done."""
        newest = dict(sorted(told))
        caught, away = _Caught(), False

        async def catch_up(id_: Any) -> None:
            nonlocal away
            try:
                caught.healed += await kind.catch_up(id_)
            except Exception as error:
                away |= nobody_answers(error)
                raise

        undone = await timers.each(f"heal {kind.name}", await kind.stale(newest), catch_up)
        if away:
            raise Unavailable("somebody does not answer: healing goes on here the next time")
        if undone:
            caught.failed = len(undone)
            await self._save(kind, "failed = failed + $2", caught.failed)
        return caught

    async def _state(self, kind: Kind) -> tuple[_State, datetime]:
        """And PostgreSQL's time, which is the same for all processes."""
        async with self._database.statements() as statements:
            await statements.connection.execute(
                "insert into healing (kind) values ($1) on conflict (kind) do nothing", kind.name
            )
            [row] = await statements.connection.fetch(
                """
                select now(), heard_until, due, compared_after, compared_at, failed
                from healing where kind = $1
                """,
                kind.name,
            )
        now, *columns = row.values()
        return _State(*columns), now

    async def _save(self, kind: Kind, change: str, *values: object) -> None:
        async with self._database.statements() as statements:
            await statements.connection.execute(
                f"update healing set {change} where kind = $1",  # noqa: S608 - our own words
                kind.name,
                *values,
            )
