"""What the facility's side asks costs the same, however many pre-reads and drafts it does not see (REP-4)."""

from collections.abc import Awaitable, Callable

import pytest

from kernel.errors import Denied, NotFound
from kernel.ids import ReportId
from kernel.reading import ReadType
from tests.clocks import NOON
from tests.conftest import OpenDatabase
from tests.reporting.builders import a_facility_sight, a_sight
from tests.reporting.conftest import Actor, Reporting, start
from tests.reporting.test_store import said

HIDDEN = 5_000
"""Far more than anybody may write about a case."""


@pytest.fixture
async def reporting(open_database: OpenDatabase) -> Reporting:
    """With one connection, on which PostgreSQL counts."""
    started = await start(open_database, pool_size=1)
    await started.activate(*ReadType)
    return started


async def hide(reporting: Reporting) -> ReportId:
    """Writes pre-reads, each with an addendum, and drafts of others; the id of one pre-read."""
    await reporting.query(
        "insert into readings (case_id, version) values ($1, 1) on conflict do nothing", reporting.case_id
    )
    [row, *_] = await reporting.query(
        """
        with hidden as (
            insert into reports
                select gen_random_uuid(), $1, 'pre_read', 'vos', 'Dr Vos', 'a nodule?', $2, 'r'
                from generate_series(1, $3::int)
            returning report_id)
        insert into addenda
            select gen_random_uuid(), report_id, 'vos', 'Dr Vos', 'larger', $2, 'r' from hidden
        returning report_id
        """,
        reporting.case_id,
        NOON,
        HIDDEN,
    )
    await reporting.query(
        "insert into drafts select $1, 'u' || n, false, 'U', 'oh', $2 from generate_series(1, $3::int) n",
        reporting.case_id,
        NOON,
        HIDDEN,
    )
    return ReportId(row["report_id"])


async def rows_read(reporting: Reporting, act: Callable[[], Awaitable[object]]) -> int:
    """How many rows of what is written PostgreSQL fetches for an act."""

    async def so_far() -> int:
        await reporting.query("select pg_stat_force_next_flush()")
        [row] = await reporting.query(
            """
            select sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::int from pg_stat_user_tables
            where relname in ('reports', 'addenda', 'drafts', 'kept_texts')
            """
        )
        return int(row[0])

    before = await so_far()
    await act()
    return await so_far() - before


@pytest.mark.proves("REP-4", part="at the same cost, however much is hidden")
@pytest.mark.parametrize("analyzed", [False, True])
async def test_hidden_reports_and_drafts_are_not_even_read(reporting: Reporting, analyzed: bool) -> None:
    vos, lind = reporting.user("vos", a_sight()), reporting.user("lind", a_facility_sight())
    await vos.lock()
    report = await vos.complete(ReadType.PRELIMINARY, "nodule")
    await vos.add_addendum(report.id, "4 mm")
    before, cost = await lind.sees(), await rows_read(reporting, lind.sees)

    await hide(reporting)
    if analyzed:
        await reporting.query("analyze reports, addenda, drafts")

    assert before == await lind.sees()
    assert cost + 1 >= await rows_read(reporting, lind.sees)
    assert HIDDEN < await rows_read(reporting, vos.sees), "who sees them reads them"
    assert HIDDEN + 1 == len(said(await vos.sees())[0])


async def test_acts_that_the_facility_side_is_refused_read_nothing_hidden_either(
    reporting: Reporting,
) -> None:
    lind = reporting.user("lind", a_facility_sight())
    hidden = await hide(reporting)

    async def refused(act: Callable[[], Awaitable[object]], *words: type[Exception]) -> None:
        with pytest.raises(words):
            await act()

    acts: list[tuple[Callable[[Actor], Awaitable[object]], type[Exception]]] = [
        (lambda who: who.add_addendum(hidden, "x"), NotFound),
        (lambda who: who.lock(), Denied),
        (lambda who: who.save_draft("x"), Denied),
        (lambda who: who.reopen(), Denied),
        (lambda who: who.unlock(), Exception),
        (lambda who: who.complete(ReadType.FINAL, "x"), Exception),
    ]
    for act, word in acts:
        assert 10 >= await rows_read(reporting, lambda act=act, word=word: refused(lambda: act(lind), word))  # type: ignore[misc]
