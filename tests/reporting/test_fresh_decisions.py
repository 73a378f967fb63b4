"""A completion holds no connection while it asks access, and counts what access said just before (A3)."""

import asyncio
from dataclasses import dataclass, field

import pytest

from kernel.errors import Expired, Unavailable
from kernel.ids import CaseId
from kernel.reading import PrivilegeLevel, ReadType
from services.reporting.sight import Sight
from services.reporting.usecases import DECISIONS, FRESH_S
from tests.conftest import OpenDatabase
from tests.reporting.builders import Access, a_sight
from tests.reporting.conftest import Reporting, start
from tests.reporting.test_store import said
from tests.wait import eventually

FINAL = ReadType.FINAL


@dataclass
class SlowAccess(Access):
    """It answers a check when it may."""

    asked: int = 0
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    async def check(self, case_id: CaseId) -> Sight:
        self.asked += 1
        await self.may_answer.wait()
        return await super().check(case_id)

    def answer(self) -> None:
        """It answers who waits now."""
        self.may_answer.set()
        self.may_answer = asyncio.Event()


@dataclass
class Seconds:
    """What has passed; each question may take as long as a test says."""

    passed: float = 0.0
    by_question: float = 0.0

    def __call__(self) -> float:
        self.passed += self.by_question
        return self.passed


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
async def reporting(open_database: OpenDatabase, seconds: Seconds) -> Reporting:
    started = await start(open_database, seconds=seconds)
    await started.activate(*ReadType)
    return started


@pytest.fixture
async def narrow(open_database: OpenDatabase) -> Reporting:
    """Reporting with a single connection."""
    started = await start(open_database, pool_size=1)
    await started.activate(*ReadType)
    return started


async def test_others_have_the_connection_while_access_is_asked(narrow: Reporting) -> None:
    vos = narrow.user("vos", a_sight())
    await vos.lock()
    narrow.readings._access = slow = SlowAccess(narrow.access.sights)
    completing = asyncio.create_task(vos.complete(FINAL, "nodule"))
    for asked in (1, 2):  # when the call comes, and again before the transaction
        await eventually(lambda asked=asked: slow.asked == asked)  # type: ignore[misc]
        async with asyncio.timeout(1):
            assert (await narrow.described()).facility.lock is not None
        slow.answer()
    assert "nodule" == (await completing).text


@pytest.mark.proves("A3", part="what is lost while the commit has to wait")
async def test_a_decision_that_has_grown_old_before_the_commit_is_made_anew(
    reporting: Reporting, seconds: Seconds
) -> None:
    vos = reporting.user("vos", a_sight())
    await vos.lock()

    async def one_waits() -> bool:
        waiting = "wait_event_type = 'Lock' and datname = current_database()"
        [row] = await reporting.query(f"select count(*) from pg_stat_activity where {waiting}")
        return bool(row[0])

    async with reporting.database.transaction() as other:
        await other.lock_reading(reporting.case_id)
        completing = asyncio.create_task(vos.complete(FINAL, "nodule"))
        await eventually(one_waits)
        reporting.access.sights["vos"] = a_sight(PrivilegeLevel.VIEW)
        seconds.passed += FRESH_S * 1.5

    with pytest.raises(Expired, match="for you alone"):
        await completing
    assert ([], [("nodule", True)]) == said(await vos.sees())


async def test_where_no_decision_stays_fresh_nothing_is_signed_and_nothing_is_left(
    reporting: Reporting, seconds: Seconds
) -> None:
    vos = reporting.user("vos", a_sight())
    await vos.lock()
    before = await reporting.query("select * from readings")
    reporting.access.answers = [a_sight] * (1 + DECISIONS)
    seconds.by_question = FRESH_S * 1.5

    with pytest.raises(Unavailable, match="try again"):
        await vos.complete(FINAL, "nodule")

    assert [] == reporting.access.answers, "access was asked when the call came and for each try"
    assert before == await reporting.query("select * from readings")
    assert ([], []) == said(await vos.sees())
