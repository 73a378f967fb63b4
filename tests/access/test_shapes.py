"""What a page of a worklist touches in the database is bounded, however many cases there are.

PostgreSQL counts the pages of 8 kB that it reads or finds in its memory. A plan that reads an index from its
beginning, or a table, touches thousands of them, on any machine and under any load.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from bench import p8_data
from kernel.ids import UUID7
from local.embedded import EmbeddedServers
from local.embedded.postgres import SUPERUSER
from plumbing.db import Database
from services.access.main import KEPT_SETTINGS, LISTING_SETTINGS
from services.access.search import Listing, Order
from services.access.shown import ALL_COLUMNS, Column
from services.access.store import AccessTransaction
from services.access.usecases import Questions
from services.access.walking import PATIENT
from tests.clocks import Clock

END = datetime(2026, 11, 20, 12, tzinfo=UTC)
ROWS = ALL_COLUMNS - {Column.PRIOR_COUNT}
"""Priors are counted by a statement of their own."""

UNREAD = "StudyStatusID != 'READ'"

# Who asks for what, and how many pages of the database that may touch. A case that is told takes some ten,
# one that is looked at takes one, or five where it is looked up; 500 facilities take two or three each.
BOUNDS = {
    **{
        (login, Listing(order, way)): 1500
        for order in Order
        for way in (True, False)
        for login in ("fifty", "all")
    },
    **{(p8_data.SHOWN, Listing(order)): 2500 for order in Order},
    ("one", Listing()): 1000,
    ("assigned", Listing()): 800,
    ("in-work", Listing()): 800,
    ("fifty", Listing(where=UNREAD)): 1500,
    ("all", Listing(where=UNREAD)): 4500,
    ("all", Listing(Order.PATIENT_NAME, where=UNREAD)): 4500,
    ("all", Listing(where="StudyStatusID = 'TRANSCRIBED'")): 6000,
    ("calling", Listing()): 2500,
    ("children", Listing()): 5000,
    ("fifty", Listing(line="zelzel")): 2500,
    ("all", Listing(line="id:p0000012")): 3000,
    ("fifty", Listing(line="smith")): 16000,  # 11,700 to 13,600 at 10^5
    ("history-of-assigned", Listing()): 12000,
}


PLANNED_ANEW = "select sum(custom_plans)::bigint from pg_prepared_statements"
"""How often the statements of a connection were planned for their parameters."""


async def touched(connection: Any) -> int:
    """Pages of the database that a connection has touched so far."""
    await connection.execute("select pg_stat_force_next_flush()")
    count: int = await connection.fetchval(
        """
        select sum(hits + reads)::bigint from pg_stat_get_backend_io(pg_backend_pid())
        where object = 'relation'
        """
    )
    return count


async def bounded(servers: EmbeddedServers, url: str, cases: int) -> None:
    name = url.rsplit("/", 1)[1]
    loading = await asyncpg.connect(servers.postgres.url(name, SUPERUSER, servers.postgres.password))
    try:
        await p8_data.load(loading, cases, END)
    finally:
        await loading.close()
    clock = Clock(END)
    kept, lists = [
        await Database.connect(
            url, AccessTransaction, clock=clock, new_id=UUID7(clock), pool_size=1, settings=settings
        )
        for settings in (KEPT_SETTINGS, LISTING_SETTINGS)
    ]
    questions = Questions(kept, clock, lists=lists, pace=PATIENT)

    async def touched_by_both() -> int:
        pages = 0
        for database in (kept, lists):
            async with database.statements() as statements:
                pages += await touched(statements.connection)
        return pages

    told, found = {}, 0
    try:
        for (login, asked), bound in BOUNDS.items():
            await questions.list_cases(login, None, 50, asked, ROWS)
            before = await touched_by_both()
            found += len(await questions.list_cases(login, None, 50, asked, ROWS))
            pages = await touched_by_both() - before
            if not 0 < pages <= bound:
                told[login, asked] = pages, bound
        shown, *_ = await questions.list_cases("fifty", None, 1)
        await questions.check("fifty", shown.case_id, images=True, at_least=0)
        await questions.check_many("fifty", [shown.case_id])
        async with kept.statements() as statements:
            planned_anew = await statements.connection.fetchval(PLANNED_ANEW)
    finally:
        await kept.close()
        await lists.close()
    assert {} == told
    assert planned_anew == 0
    assert found > 20 * len(BOUNDS)


@pytest.mark.proves("BEY-3", part="pages of bounded work")
def test_what_a_page_touches_is_bounded(
    servers: EmbeddedServers, fresh_database: Callable[[str], str]
) -> None:
    asyncio.run(bounded(servers, fresh_database("access"), 10_000))


@pytest.mark.drill
def test_what_a_page_touches_is_bounded_among_more_cases_too(
    servers: EmbeddedServers, fresh_database: Callable[[str], str]
) -> None:
    asyncio.run(bounded(servers, fresh_database("access"), 100_000))
