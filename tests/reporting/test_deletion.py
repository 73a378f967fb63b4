"""A deleted case: nothing is written about it while it goes, everything goes, and nothing is ever again."""

import asyncio
from collections.abc import Awaitable
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from kernel.errors import NotFound, ReadroomError
from kernel.events import CasePurged
from kernel.ids import CaseId
from kernel.reading import PrivilegeLevel, ReadType
from services.reporting.sight import NO_SIGHT, Sight
from tests.reporting.builders import a_sight
from tests.reporting.conftest import Reporting, a_case

FINAL, PRELIMINARY = ReadType.FINAL, ReadType.PRELIMINARY
BEING_DELETED = Sight(being_deleted=True)
KEPT = {"tombstones", "audit_rows", "outbox", "heard"}


async def everything(reporting: Reporting) -> None:
    """The case has a row in every table that may have one, each with the word."""
    vos, roe, ada = (reporting.user(login, a_sight()) for login in ("vos", "roe", "ada"))
    reporting.access.permit("ada", "lock.break")
    await vos.lock()
    report = await vos.complete(PRELIMINARY, "PLANTED report")
    await vos.add_addendum(report.id, "PLANTED addendum")
    await roe.lock()
    await ada.break_lock()
    await vos.lock()
    await vos.save_draft("PLANTED draft")
    with pytest.raises(ReadroomError):
        await vos.save_draft("PLANTED beside", made_from=0)
    vos = reporting.user("vos", a_sight(PrivilegeLevel.VIEW))
    with pytest.raises(ReadroomError):
        await vos.complete(FINAL, "PLANTED kept")


async def purge(reporting: Reporting, case_id: CaseId | None = None, version: int = 1) -> None:
    """The fact is heard."""
    async with reporting.database.transaction() as transaction:
        await reporting.readings.purge(transaction, case_id or reporting.case_id, version)


async def rows_naming(reporting: Reporting, word: object) -> set[str]:
    """The tables that hold a row with this word in any column."""
    tables = await reporting.query(
        "select table_name as name from information_schema.tables where table_schema = 'public'"
    )
    return {
        table["name"]
        for table in tables
        for row in await reporting.query(f"select t::text as text from {table['name']} t")
        if str(word) in row["text"]
    }


async def said(reporting: Reporting) -> list[CasePurged]:
    rows = await reporting.query(
        "select payload from outbox where subject = $1 order by id", CasePurged.subject
    )
    return [msgspec.json.decode(row["payload"], type=CasePurged) for row in rows]


async def refused(act: Awaitable[Any]) -> bool:
    try:
        await act
    except NotFound:
        return True
    return False


# While it is being deleted


@pytest.mark.proves("ING-6", part="nothing is saved meanwhile")
async def test_who_held_the_lock_completes_too_late_and_nothing_is_kept(reporting: Reporting) -> None:
    vos = reporting.user("vos", a_sight())
    await vos.lock()
    vos = reporting.user("vos", BEING_DELETED)

    for act in (
        vos.complete(FINAL, "PLANTED"),
        vos.save_draft("PLANTED"),
        vos.renew_lock(),
        vos.unlock(),
        vos.list_reports(),
    ):
        assert await refused(act)

    assert set() == await rows_naming(reporting, "PLANTED")


@pytest.mark.proves("ING-6", part="nothing is saved meanwhile")
async def test_a_deletion_that_begins_while_a_report_is_completed_counts(reporting: Reporting) -> None:
    """Access is asked when the call comes, and again immediately before the commit."""
    vos = reporting.user("vos", a_sight())
    await vos.lock()
    reporting.access.answers += [a_sight, lambda: BEING_DELETED]

    assert await refused(vos.complete(FINAL, "PLANTED"))

    assert set() == await rows_naming(reporting, "PLANTED")


# Purged


@pytest.mark.proves("ING-6", part="reports, drafts, addenda and locks")
async def test_nothing_is_left_of_what_was_written_about_a_purged_case(reporting: Reporting) -> None:
    await everything(reporting)
    written = {"readings", "broken_locks", "drafts", "kept_texts", "reports"}
    assert written <= await rows_naming(reporting, reporting.case_id)
    assert {"drafts", "kept_texts", "reports", "addenda"} == await rows_naming(reporting, "PLANTED")

    await purge(reporting)

    assert set() == await rows_naming(reporting, "PLANTED")
    assert KEPT >= await rows_naming(reporting, reporting.case_id)
    assert [] == [row for table in (*written, "addenda") for row in await reporting.query(f"table {table}")]


async def test_the_purge_is_confirmed_each_time_also_where_nothing_was_held(reporting: Reporting) -> None:
    await everything(reporting)
    unknown = a_case()

    await purge(reporting)
    await purge(reporting, version=2)
    await purge(reporting, unknown)

    assert [
        CasePurged(reporting.case_id, 1, "reporting"),
        CasePurged(reporting.case_id, 2, "reporting"),
        CasePurged(unknown, 1, "reporting"),
    ] == await said(reporting)
    assert ("service:reporting", "case.purged", "done") == (await reporting.audited())[-1]


async def test_other_cases_keep_what_was_written(reporting: Reporting) -> None:
    await everything(reporting)
    before = await reporting.query("select * from reports")

    await purge(reporting, CaseId(uuid4()))

    assert before == await reporting.query("select * from reports")


# Nothing comes back


@pytest.mark.proves("ING-6", part="what was decided before the purge")
@pytest.mark.parametrize("sight", [a_sight(), NO_SIGHT, BEING_DELETED], ids=["old", "none", "being deleted"])
async def test_nothing_is_written_about_a_purged_case_whatever_access_had_said(
    reporting: Reporting, sight: Sight
) -> None:
    """A call that was held after it had asked access, while the case was deleted and purged."""
    await everything(reporting)
    report_id = (await reporting.query("select report_id from reports"))[0]["report_id"]
    reporting.access.permit("vos", "lock.break")
    await purge(reporting)
    vos = reporting.user("vos", sight)

    for act in (
        vos.lock(),
        vos.renew_lock(),
        vos.unlock(),
        vos.break_lock(),
        vos.save_draft("PLANTED"),
        vos.complete(FINAL, "PLANTED"),
        vos.add_addendum(report_id, "PLANTED"),
        vos.reopen(),
        reporting.readings.describe_reading(reporting.case_id),
    ):
        assert await refused(act)

    assert KEPT >= await rows_naming(reporting, reporting.case_id)
    assert set() == await rows_naming(reporting, "PLANTED")


@pytest.mark.proves("ING-6", part="what was decided before the purge")
async def test_writing_and_purging_side_by_side_leave_nothing(reporting: Reporting) -> None:
    """Whoever of them comes first; the others wait for it."""
    vos, roe = reporting.user("vos", a_sight()), reporting.user("roe", a_sight())
    for number in range(10):
        reporting.case_id = vos.case_id = roe.case_id = a_case()
        if number % 2:
            await vos.lock()
        acts = [
            vos.save_draft("PLANTED"),
            purge(reporting),
            vos.complete(FINAL, "PLANTED"),
            roe.save_draft("PLANTED"),
            purge(reporting, version=2),
        ]
        outcomes = await asyncio.gather(*acts, return_exceptions=True)

        assert not [
            each for each in outcomes if isinstance(each, Exception) and not isinstance(each, ReadroomError)
        ]
        assert KEPT >= await rows_naming(reporting, reporting.case_id)
        assert set() == await rows_naming(reporting, "PLANTED")
