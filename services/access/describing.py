"""Derives again what is outdated: cases of the version before, or of before a change of `derived.py` or of a
facility's time zone. Until then what is derived of them is null, and filters hide them.

It is harmless wherever it stops, and when several do it: the rows say what is still to be done.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from kernel.database import Database
from kernel.ids import CaseId
from services.access import patients
from services.access.indexing import CaseIndex
from services.access.patients import RecordId

if TYPE_CHECKING:
    from services.access.store import AccessTransaction

BATCH = 50
"""Cases between two looks at the lease; a case takes some 10 ms."""

MARKED_AT_ONCE = 500
"""Cases of a facility whose time zone changed."""

LOOKED_AT_ONCE = 500
"""Patient records."""

COUNTED = 100_000
"""More outdated cases are not counted."""

OUTLIVED = timedelta(minutes=2)
"""No transaction lasts that long: one that read the time zone before the change has ended."""


class Describing:
    """Goes through what is outdated. `next` begins anew when it has come to the end."""

    def __init__(
        self, database: Database[AccessTransaction], index: CaseIndex, *, marked_at_once: int = MARKED_AT_ONCE
    ) -> None:
        self._database = database
        self._index = index
        self._marked_at_once = marked_at_once
        self._after: CaseId | None = None

    async def count(self) -> int:
        """How many cases are outdated, at most COUNTED."""
        async with self._database.statements() as statements:
            return await statements.count_outdated(COUNTED)

    async def mark(self) -> bool:
        """Marks the next cases of a facility whose time zone changed; False if there is none."""
        async with self._database.transaction() as transaction:
            return await transaction.mark_rezoned(transaction.now - OUTLIVED, self._marked_at_once)

    async def next(self) -> Sequence[CaseId]:
        """The next outdated cases; none at the end."""
        async with self._database.statements() as statements:
            found = await statements.outdated(self._after, BATCH)
        self._after = found[-1] if found else None
        return found

    async def describe(self, case_id: CaseId) -> None:
        """Asks ingest for the studies of a case, and writes its entry as it is derived now."""
        await self._index.describe_again(case_id)

    async def drop_left_records(self, after: RecordId | None) -> RecordId | None:
        """Drops those of the next patient records whose last case the version before purged or corrected.

        Answers where to go on; None at the end.
        """
        async with self._database.statements() as statements:
            left, last = await statements.records_without_cases(after, LOOKED_AT_ONCE)
        for record in left:
            async with self._database.transaction() as transaction:
                await patients.hold(transaction, (), [record])
                await patients.leave(transaction, record)
        return last

    async def sees_letters(self) -> bool:
        """Whether the index of texts finds letters beyond ASCII, as the locale of the database decides."""
        async with self._database.statements() as statements:
            return await statements.sees_letters()
