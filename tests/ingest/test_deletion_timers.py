"""What ingest does about a deletion that others are slow with, by a clock of the test."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from kernel.errors import Denied, NotFound, Unavailable, lacks
from kernel.events import CasePurged
from kernel.ids import UUID7, CaseId, DeletionId, FacilityId, PackId, StudyId
from kernel.reach import Reach
from plumbing.db import Database
from services.ingest import events
from services.ingest.deletion import Deletions
from services.ingest.domain import PartName, Sight
from services.ingest.purgerecord import CONFIRM, Begun, State
from services.ingest.store import IngestTransaction
from tests.conftest import OpenDatabase
from tests.ingest.builders import FACILITY, NOW, a_gateway, a_sender, a_uid
from tests.ingest.writing import VOLUME, WRITER, WriterOfTheTest

USER = "user"


class HandClock:
    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> datetime:
        return self.time

    def move(self, **by: float) -> None:
        self.time += timedelta(**by)


class Access:
    """Answers what the test says, and notes what it was asked."""

    def __init__(self) -> None:
        self.answer: Begun | Exception = Begun((), FACILITY, "1")
        self.begins: list[tuple[CaseId, DeletionId, bool]] = []
        self.reaches: dict[str, Reach] = {}

    async def sight(self, case_id: CaseId) -> Sight | None:
        return Sight(FacilityId(FACILITY), by_privilege=True)

    async def reach(self, permission: str) -> Reach:
        return self.reaches.get(permission, Reach())

    async def begin_delete(self, case_id: CaseId, deletion_id: DeletionId, *, force: bool) -> Begun:
        self.begins.append((case_id, deletion_id, force))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class NoRouting:
    """Has held nothing of any case."""

    async def describe_purge(self, case_id: CaseId) -> Sequence[StudyId] | None:
        return []

    async def undecided(self, case_id: CaseId) -> Sequence[PartName]:
        return []


class NoFiles:
    def __getattr__(self, name: str) -> Any:
        raise AssertionError("there is no file")


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def database(open_database: OpenDatabase, clock: HandClock) -> Database[IngestTransaction]:
    return await open_database("ingest", IngestTransaction, clock, UUID7(clock))


@pytest.fixture
def access() -> Access:
    return Access()


@pytest.fixture
def deletions(database: Database[IngestTransaction], access: Access, clock: HandClock) -> Deletions:
    return Deletions(database, access, NoRouting(), NoFiles(), WriterOfTheTest(), UUID7(clock))


async def told(database: Database[IngestTransaction]) -> list[int]:
    """The versions with which the deletion was told."""
    async with database.statements() as statements:
        rows = await statements.connection.fetch(
            "select payload->>'version' as version from outbox where subject = 'case.deleted.v1' order by id"
        )
    return [int(row["version"]) for row in rows]


async def confirm(database: Database[IngestTransaction], deletions: Deletions, case: CaseId, by: str) -> None:
    purged = CasePurged(case, 1, by)
    study_ids = await deletions.fetch_purge(purged)
    async with database.transaction() as transaction:
        await deletions.confirm(transaction, purged, study_ids)


@pytest.mark.proves("A60", part="told again, and an alert after ten minutes")
@pytest.mark.proves("A61", part="deletions: a metric and a list")
async def test_who_has_not_confirmed_is_told_again_each_minute_and_overdue_after_ten(
    database: Database[IngestTransaction], deletions: Deletions, access: Access, clock: HandClock
) -> None:
    case_id = CaseId(uuid4())
    await deletions.delete_study(USER, case_id, force=False)
    clock.move(seconds=59)
    await events.resume(deletions)
    assert await told(database) == [1]
    clock.move(seconds=1)
    await events.resume(deletions)
    await events.resume(deletions)
    assert await told(database) == [1, 2]
    for by in CONFIRM[1:]:
        await confirm(database, deletions, case_id, by)
    clock.move(minutes=9)
    await events.resume(deletions)
    assert await told(database) == [1, 2, 3]
    assert events.OVERDUE._value.get() == 0
    clock.move(seconds=1)
    await events.resume(deletions)
    assert events.OVERDUE._value.get() == 1
    access.reaches["operator"] = Reach(everywhere=True)
    (found,) = await deletions.list_deletions(None, 10)
    assert (found.state, found.waiting_for) == (State.BEGUN, (CONFIRM[0],))
    await confirm(database, deletions, case_id, CONFIRM[0])
    await confirm(database, deletions, case_id, CONFIRM[0])
    await events.resume(deletions)
    assert events.OVERDUE._value.get() == 0
    clock.move(days=1)
    await events.resume(deletions)
    assert await told(database) == [1, 2, 3]
    assert (await deletions.list_deletions(None, 10))[0].state is State.CLOSED


async def test_access_is_asked_again_after_half_a_minute(
    database: Database[IngestTransaction], deletions: Deletions, access: Access, clock: HandClock
) -> None:
    answer, access.answer = access.answer, Unavailable("away")
    case_id = CaseId(uuid4())
    with pytest.raises(Unavailable):
        await deletions.delete_study(USER, case_id, force=False)
    clock.move(seconds=29)
    await events.resume(deletions)
    assert len(access.begins) == 1
    clock.move(seconds=1)
    await events.resume(deletions)
    assert len(access.begins) == 2
    access.answer = answer
    await events.resume(deletions)
    await events.resume(deletions)
    assert len(access.begins) == 3
    assert await told(database) == [1]


async def test_asked_for_several_times_at_once_it_is_one_deletion(
    database: Database[IngestTransaction], deletions: Deletions, access: Access
) -> None:
    case_id = CaseId(uuid4())
    answers = await asyncio.gather(*(deletions.delete_study(USER, case_id, force=False) for _ in range(8)))
    assert len({each.deletion_id for each in answers}) == 1
    assert (await told(database))[0] == 1
    access.answer = NotFound("no such case")
    with pytest.raises(NotFound):
        await deletions.delete_study("another", case_id, force=False)
    access.reaches["operator"] = Reach(everywhere=True)
    assert len(await deletions.list_deletions(None, 10)) == 1


@pytest.mark.parametrize("actor", [USER, "another"])
@pytest.mark.parametrize("closed", [False, True])
async def test_a_case_that_is_there_again_is_deleted_again_by_whoever_may(
    database: Database[IngestTransaction], deletions: Deletions, access: Access, actor: str, *, closed: bool
) -> None:
    """As after access was restored from a backup."""
    case_id = CaseId(uuid4())
    first = await deletions.delete_study(USER, case_id, force=False)
    for by in CONFIRM if closed else CONFIRM[:2]:
        await confirm(database, deletions, case_id, by)
    await events.resume(deletions)
    refusal = lacks("study.delete", at="the facility of the case")
    access.answer, allowed = refusal, access.answer
    with pytest.raises(Denied):
        await deletions.delete_study(actor, case_id, force=False)
    assert await told(database) == [1]
    access.answer = allowed
    access.begins.clear()

    again = await deletions.delete_study(actor, case_id, force=True)

    assert access.begins == [(case_id, first.deletion_id, True)]
    assert (again.deletion_id, again.deleted_by, again.begun_at) == (first.deletion_id, USER, first.begun_at)
    assert (again.state, again.waiting_for) == (State.BEGUN, CONFIRM)
    assert await told(database) == [1, 2]
    for by in CONFIRM:
        await confirm(database, deletions, case_id, by)
    await events.resume(deletions)
    access.reaches["operator"] = Reach(everywhere=True)
    assert [each.state for each in await deletions.list_deletions(None, 10)] == [State.CLOSED]
    async with database.statements() as statements:
        audited = await statements.connection.fetch(
            "select actor from audit_rows where action = 'case.deleted' and detail ? 'again'"
        )
    assert [row["actor"] for row in audited] == [actor]


async def test_a_wish_whose_answer_was_lost_outlives_a_refusal(
    database: Database[IngestTransaction], deletions: Deletions, access: Access, clock: HandClock
) -> None:
    """Access may have begun, and its user have lost their permission since."""
    case_id = CaseId(uuid4())
    answer, access.answer = access.answer, Unavailable("lost")
    with pytest.raises(Unavailable):
        await deletions.delete_study(USER, case_id, force=False)
    access.answer = NotFound("no such case")
    with pytest.raises(NotFound):
        await deletions.delete_study(USER, case_id, force=False)
    access.answer = answer
    clock.move(seconds=30)
    await events.resume(deletions)
    assert await told(database) == [1]


async def test_each_sees_the_deletions_of_where_he_may_delete(deletions: Deletions, access: Access) -> None:
    await deletions.delete_study(USER, CaseId(uuid4()), force=False)
    with pytest.raises(Denied, match="operator"):
        await deletions.list_deletions(None, 10)
    access.reaches["study.delete"] = Reach(facilities=frozenset({FACILITY}))
    assert len(await deletions.list_deletions(None, 10)) == 1
    elsewhere = FacilityId(uuid4())
    access.reaches["study.delete"] = Reach(facilities=frozenset({elsewhere}))
    assert not await deletions.list_deletions(None, 10)
    access.reaches["operator"] = Reach(everywhere=True)
    assert len(await deletions.list_deletions(None, 10)) == 1


async def test_a_tombstone_forgets_the_uid_when_no_transfer_can_be_so_old(
    database: Database[IngestTransaction], clock: HandClock
) -> None:
    sender, study = a_sender(a_gateway(), begun_at=NOW), a_uid()
    async with database.transaction() as transaction:
        await transaction.connection.execute(
            "insert into tombstones values ($1, $2, $3, $4)", uuid4(), FACILITY, study, NOW
        )
        opened = partial(transaction.open_pack_for, sender, study, volume_id=VOLUME, writer_id=WRITER)
        await transaction.prune_tombstones(NOW, 9)
        assert await opened(pack_id=PackId(uuid4())) == (None, True)
        await transaction.prune_tombstones(NOW + timedelta(seconds=1), 9)
        assert await opened(pack_id=PackId(uuid4())) == (None, False)
        assert await transaction.connection.fetchval("select count(*) from tombstones") == 1
