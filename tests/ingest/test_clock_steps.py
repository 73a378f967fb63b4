"""The clock of ingest is an hour wrong for a while, and then corrected: nothing deleted comes back by it."""

import asyncio
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest
from pydicom.uid import ExplicitVRLittleEndian

from kernel.clock import MonotonicClock, wall_time
from tests.ingest.builders import a_uid
from tests.ingest.objects import CT, a_ct
from tests.ingest.system import ADMIN, RIVERSIDE, Ingest, Sender, sent_objects, store_object
from tests.ingest.test_deletion import DELETED, a_case, begin_transfer, delete, only_left
from tests.wait import eventually
from wire.access.v1 import access_pb2


class Wall:
    """The time of the machine, which somebody sets."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return wall_time() + self.ahead


@pytest.fixture
async def wall(ingest: Ingest) -> Wall:
    """What the clock of a running ingest follows."""
    made = Wall()
    await ingest.stop()
    ingest.clock = MonotonicClock(made)
    await ingest.start()
    return made


@pytest.mark.proves("ING-8", part="a clock that was ahead when the transfer began")
async def test_a_transfer_that_began_in_a_wrong_hour_brings_nothing_back(ingest: Ingest, wall: Wall) -> None:
    gateway, study = await ingest.enrol(), a_uid()
    wall.ahead = timedelta(hours=1)
    before = await begin_transfer(ingest, gateway, study)
    assert (await sent_objects(before, a_ct(study=study)))[0].status == 0
    wall.ahead = timedelta()
    await delete(ingest, await a_case(ingest, study))
    (answer,) = await sent_objects(before, a_ct(study=study))
    assert answer.status == DELETED
    assert await ingest.one("select count(*) from studies") == 0


@pytest.mark.proves("ING-8", part="a clock that is behind when the study is deleted")
async def test_a_deletion_in_a_wrong_hour_counts_for_what_began_before_it(ingest: Ingest, wall: Wall) -> None:
    gateway, study = await ingest.enrol(), a_uid()
    wall.ahead = timedelta(hours=1)  # what is right here: who deletes has a token of the other time
    before = await begin_transfer(ingest, gateway, study)
    assert (await sent_objects(before, a_ct(study=study)))[0].status == 0
    wall.ahead = timedelta()
    await delete(ingest, await a_case(ingest, study))
    wall.ahead = timedelta(hours=1)
    (answer,) = await sent_objects(before, a_ct(study=study))
    assert answer.status == DELETED
    assert (await sent_objects(await begin_transfer(ingest, gateway, study), a_ct(study=study)))[
        0
    ].status == 0


@pytest.mark.proves("ING-6", part="an association that was opened while the clock was ahead")
async def test_an_association_of_a_wrong_hour_brings_nothing_back(ingest: Ingest, wall: Wall) -> None:
    gateway, study = await ingest.enrol(), a_uid()
    loop = asyncio.get_running_loop()
    wall.ahead = timedelta(hours=1)

    def send() -> list[int | None]:
        with Sender.of(ingest, gateway).association([(CT, ExplicitVRLittleEndian)]) as association:
            statuses = [store_object(association, a_ct(study=study)).status]
            wall.ahead = timedelta()

            async def delete_it() -> None:
                await delete(ingest, await a_case(ingest, study))

            asyncio.run_coroutine_threadsafe(delete_it(), loop).result(20)
            return [
                *statuses,
                *(store_object(association, each).status for each in (a_ct(study=study), a_ct())),
            ]

    assert await asyncio.to_thread(send) == [0, DELETED, 0]


@pytest.mark.proves("A60", part="a clock that was ahead when it was asked for")
async def test_a_deletion_of_a_wrong_hour_goes_on_when_the_clock_is_right(ingest: Ingest, wall: Wall) -> None:
    study = a_uid()
    await sent_objects(Sender.of(ingest, await ingest.enrol()), a_ct(study=study))
    case_id = await a_case(ingest, study)
    await ingest.rows(
        "insert into deletions (deletion_id, case_id, deleted_by, asked_at) values ($1, $2, $3, $4)",
        deletion_id := uuid4(),
        UUID(case_id),
        ADMIN,
        wall_time() + timedelta(hours=1),
    )
    answer = access_pb2.BeginDeleteResponse(
        study_ids=ingest.access.cases.pop(case_id), facility_id=str(RIVERSIDE), revision="7"
    )
    ingest.access.begun[str(deletion_id)] = answer
    await eventually(lambda: only_left(ingest))
    await ingest.rows("update deletions set told_at = $1", wall_time() + timedelta(hours=1))

    async def is_told_again() -> bool:
        return bool(await ingest.one("select version > 1 and told_at <= now() from deletions"))

    await eventually(is_told_again)
