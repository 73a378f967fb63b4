"""Leases: a task that one process at a time does for all copies of a service.

A lease is a row with an end. Whoever does the task renews it before each step, or loses it.
The time is PostgreSQL's, which is the same for all. A lease spares work and guards nothing: a process that
stood still may go on after its lease has ended, so whatever it does must be harmless twice.
"""

from datetime import timedelta
from typing import Any
from uuid import UUID

from plumbing.db import Database

HELD_FOR = timedelta(seconds=30)
"""From one renewal to the end; more than a step of a task takes."""


class Lease:
    """The lease of one task, as one process sees it."""

    def __init__(
        self, database: Database[Any], task: str, holder: UUID, *, held_for: timedelta = HELD_FOR
    ) -> None:
        """`holder`: an id that no other process has."""
        self._database = database
        self._task = task
        self._holder = holder
        self._held_for = held_for

    async def hold(self) -> bool:
        """Takes the lease if nobody has it, or renews it; False: another process has it."""
        async with self._database.statements() as statements:
            # One that ends much too late is of before the clock was set back. Of a statement that began
            # a moment after ours, and was quicker, it ends a little later than ours would.
            held = await statements.connection.fetchval(
                """
                insert into leases (task, holder, ends_at) values ($1, $2, now() + $3)
                on conflict (task) do update set holder = excluded.holder, ends_at = excluded.ends_at
                    where leases.holder = excluded.holder
                        or leases.ends_at not between now() and now() + $3 + $3
                returning true
                """,
                self._task,
                self._holder,
                self._held_for,
            )
        return bool(held)

    async def give_back(self) -> None:
        """Lets another process take it at once."""
        async with self._database.statements() as statements:
            await statements.connection.execute(
                "delete from leases where task = $1 and holder = $2", self._task, self._holder
            )
