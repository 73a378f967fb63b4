"""Lists as files: what a user sees of a list, as CSV, page by page; who took it is audited."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kernel.database import Database
from kernel.errors import Exhausted
from services.access.casecsv import CsvColumn, head, line
from services.access.names import acting_login
from services.access.search import Listing
from services.access.shown import Column
from services.access.usecases import Questions

if TYPE_CHECKING:
    from services.access.store import AccessTransaction

MAX_EXPORTED = 10_000
"""Cases in one file: who takes more wants a report of the installation, and no list."""

PAGE = 500

MAX_OPEN = 2
"""Files that one user takes at once, from one process: pages of everybody's lists are read beside them."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A part of a file.

    Attributes:
        case_count: of the last part, which is empty: how many cases are in the file.
    """

    text: str
    case_count: int | None = None


class Exports:
    """Writes lists into files."""

    def __init__(
        self,
        questions: Questions,
        database: Database[AccessTransaction],
        *,
        page: int = PAGE,
        most: int = MAX_EXPORTED,
    ) -> None:
        self._questions = questions
        self._database = database
        self._page = page
        self._most = most
        self._open: Counter[str] = Counter()

    async def export_cases(
        self, login: str, session: str, asked: Listing, columns: Sequence[CsvColumn], *, at_least: int = 0
    ) -> AsyncGenerator[Exported]:
        """A list as CSV, in parts, of which the last says how many cases there are.

        A page is told as the user sees it when it is read. Before the first part leaves, and before the last
        does, it is audited; a file that is cut off too, with the cases that have left. What was searched for
        may name a patient and stays out of the audit: that names the fields that were asked for.

        Raises Invalid for a search that cannot be read, and Exhausted if MAX_OPEN of theirs are open, before
        any part; Exhausted for a list of more than MAX_EXPORTED cases.
        """
        actor = acting_login(login)
        async with self._database.audited(actor, "cases.exported", "worklist"):
            fields = await self._questions.searched_fields(login, asked)
            if self._open[actor] >= MAX_OPEN:
                raise Exhausted(f"{MAX_OPEN} of your lists are being saved: wait until one of them is")
        what = {
            "facility": str(asked.facility_id or ""),
            "fields": " ".join(fields),
            "order": str(asked.order),
            "columns": " ".join(columns),
        }
        self._open[actor] += 1
        count = 0
        try:
            await self._record(actor, "cases.export_begun", **what)
            yield Exported(head(columns))
            async for lines, cases in self._lines(login, session, asked, columns, at_least):
                count += cases
                yield Exported(lines)
            await self._record(actor, "cases.exported", cases=count, **what)
        except BaseException:
            await self._record(actor, "cases.export_cut", cases=count, **what)
            raise
        finally:
            self._open[actor] -= 1
            self._open += Counter()  # forgets whoever has none
        yield Exported("", count)

    async def _lines(
        self, login: str, session: str, asked: Listing, columns: Sequence[CsvColumn], at_least: int
    ) -> AsyncGenerator[tuple[str, int]]:
        """The lines of each page, and how many cases are on it."""
        read = frozenset(column for column in columns if isinstance(column, Column))
        place, left = None, self._most
        while True:
            page = await self._questions.list_cases(
                login, place, self._page, asked, read, at_least=at_least, session=session
            )
            left -= len(page)
            if left < 0:
                raise Exhausted(
                    f"the list has more than {self._most} cases: search for fewer, by a date or a facility"
                )
            yield "".join(line(case, columns) for case in page), len(page)
            if page.more is None:
                return
            place = page.more

    async def _record(self, actor: str, action: str, **detail: str | int) -> None:
        async with self._database.transaction() as transaction:
            await transaction.record(actor, action, "worklist", "done", **detail)
