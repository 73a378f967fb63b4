"""WatchCases: whoever does what they are told has the first page of ListCases, and is told nothing else."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from random import Random
from typing import Any
from uuid import uuid4

import pytest

from kernel.ids import CaseId, DeletionId
from kernel.reading import PrivilegeLevel, ReadType
from services.access import watching as module
from services.access.accessfilter import Historical, SavedFilter
from services.access.caseindex import Priority
from services.access.domain import Facility, Permission, PermissionGrant, Role, User
from services.access.livelists import ASK_ANEW
from services.access.reading import NOT_READ, Projection
from services.access.received import StudyAttributes
from services.access.search import NEWEST_FIRST, Listing, Order
from services.access.status import ReadingState
from services.access.watching import Watching
from tests.access.builders import a_lock, a_reading, a_study, a_user
from tests.access.conftest import ADMIN, Access, Scene
from tests.access.watching import Viewer, listed, watch
from tests.clocks import NOON

FINAL = Projection(ReadingState.FINAL, reported_at=NOON, read_types=frozenset({ReadType.FINAL}))


@dataclass
class Room:
    """Where lists are watched; a test ticks."""

    access: Access
    watching: Watching
    viewers: list[Viewer] = field(default_factory=list)

    async def watch(self, user: User, asked: Listing = NEWEST_FIRST, **changes: Any) -> Viewer:
        viewer = watch(self.watching, user.login, asked, **changes)
        self.viewers.append(viewer)
        await viewer.first()
        return viewer

    async def tick(self) -> None:
        """Time passes, everybody takes what they are told, and has what ListCases answers."""
        self.access.clock.pass_by(timedelta(seconds=module.TICK_S))
        await self.watching.tick()
        for viewer in self.viewers:
            await viewer.take()
            assert await listed(self.access, viewer) == [*viewer.rows.values()]

    async def after(self, act: Awaitable[object]) -> None:
        await act
        await self.tick()


@pytest.fixture
async def room(access: Access) -> AsyncIterator[Room]:
    room = Room(access, Watching(access.database, access.questions, access.clock, asked_for_s=10))
    yield room
    for viewer in room.viewers:
        await viewer.close()
    assert (0, 0) == (room.watching.watchers, room.watching.lists)


@pytest.mark.parametrize("turns", range(4))
async def test_who_goes_in_the_moment_of_news_has_gone(room: Room, scene: Scene, turns: int) -> None:
    viewer = await room.watch(scene.sender)
    viewer.coming = asyncio.create_task(anext(viewer.stream))
    for _ in range(4):
        await asyncio.sleep(0)
    for watcher in room.watching._watchers:
        watcher.wake.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    viewer.coming.cancel()
    await asyncio.wait([viewer.coming], timeout=5.0)

    assert viewer.coming.cancelled()


@pytest.mark.proves("ACC-30", part="worklists that tell what changes")
async def test_rows_appear_change_and_go(room: Room, scene: Scene) -> None:
    access, (first, second) = scene.access, scene.cases
    viewer = await room.watch(scene.sender)
    assert {first, second} == {*viewer.cases}

    third = await access.case(scene.facility)
    await room.tick()
    await access.hear(a_reading(first, Projection(ReadingState.FINAL, reported_at=NOON), version=1))
    await room.tick()
    await access.give(scene.sender, scene.facility, PrivilegeLevel.NONE)
    await room.tick()

    told = [([row.appeared for row in event.rows], len(event.went), event.resync) for event in viewer.events]
    assert [([True, True], 0, True), ([True], 0, False), ([False], 0, False), ([], 3, False)] == told
    assert {first, second, third} == {*viewer.events[-1].went}


@pytest.mark.proves("A67")
async def test_silence_where_nothing_looks_otherwise(room: Room, scene: Scene) -> None:
    access, (first, _) = scene.access, scene.cases
    outsider = await access.user(Role.FACILITY_USER, home_facility_id=scene.facility.id)
    await access.give(outsider, scene.facility, PrivilegeLevel.VIEW)
    viewers = [await room.watch(outsider), await room.watch(scene.sender)]

    await access.hear(a_reading(first, Projection(read_types=frozenset({ReadType.PRE_READ})), NOT_READ))
    await room.tick()
    await access.check(outsider, first)  # notes that its images were shown
    await room.tick()

    assert [1, 2] == [len(each.events) for each in viewers]


async def test_who_sees_the_same_has_one_list_and_keeps_it_when_the_other_is_somebody_else(
    room: Room, scene: Scene
) -> None:
    access, (first, second) = scene.access, scene.cases
    twin = await access.user(Role.RADIOLOGIST)
    await access.give(twin, scene.facility, PrivilegeLevel.DRAFT)
    viewers = [await room.watch(user) for user in (scene.sender, twin)]
    assert (2, 1) == (room.watching.watchers, room.watching.lists)

    await room.after(access.folders.grant_case(ADMIN, first, scene.sender.id))
    assert 2 == room.watching.lists
    await room.after(access.give(scene.sender, scene.facility, PrivilegeLevel.NONE))
    await room.after(access.hear(a_reading(second, FINAL, version=1)))
    access.clock.pass_by(ASK_ANEW)
    await room.tick()

    assert [[first], [first, second]] == [sorted(each.cases, key=scene.cases.index) for each in viewers]
    assert [2, 2] == [len(each.events) for each in viewers]


async def test_what_ends_by_the_clock_is_told_without_a_commit(room: Room, scene: Scene) -> None:
    access, (first, second) = scene.access, scene.cases
    now = access.clock.now()
    lock = Projection(lock=a_lock(ends_at=now + timedelta(seconds=2)))
    await access.share(scene.jane, first, ends_at=now + timedelta(seconds=1))
    shared = await room.watch(scene.jane)
    hidden = await room.watch(scene.sender, Listing(where="LockedBy is null"))
    young = await room.watch(scene.sender, Listing(where="age(CreatedTime) < '1h'"))
    assert {first, second} == {*young.cases}

    await room.after(access.hear(a_reading(second, lock, version=1)))
    assert [first] == hidden.cases
    for _ in range(4):
        await room.tick()
    assert [] == shared.cases
    for _ in range(5):
        await room.tick()
    assert {first, second} == {*hidden.cases}
    access.clock.pass_by(timedelta(hours=1))
    await room.tick()
    assert [] == young.cases


class Hospital:
    """Cases of patients at two facilities, everybody who sees some of them in another way, and acts."""

    def __init__(self, room: Room, random: Random) -> None:
        self.room, self.access, self.random = room, room.access, random
        self.facilities: list[Facility] = []
        self.cases: dict[CaseId, Any] = {}
        self.version = 1

    async def open(self) -> None:
        access = self.access
        self.facilities = [await access.facility(name) for name in ("Elm", "Oak")]
        elm = self.facilities[0]
        for _ in range(8):
            await self.arrive()
        everything = a_user(Role.ADMINISTRATOR).permissions | {PermissionGrant(Permission.DELETE_STUDY)}
        self.chief = await access.user(Role.ADMINISTRATOR, permissions=everything)
        self.historical, self.mine = await access.user(), await access.user()
        self.outside = await access.user(Role.FACILITY_USER, home_facility_id=elm.id)
        self.guest, self.member, self.recipient = [
            await access.user(Role.REFERRING_PHYSICIAN) for _ in range(3)
        ]
        for user in (self.chief, self.historical, self.mine):
            for facility in self.facilities:
                await access.give(user, facility, PrivilegeLevel.REPORT, read_types=[ReadType.FINAL])
        await access.give(self.outside, elm, PrivilegeLevel.VIEW)
        async with access.database.transaction() as transaction:
            for user, saved in (
                (self.historical, SavedFilter({}, "StudyStatusID = 'READ'", Historical.ALL)),
                (self.mine, SavedFilter({}, "AssignedToUser = $user or LockedBy is null")),
            ):
                await transaction.save_filter(user.id, saved, by=ADMIN)
                await transaction.bump_users([user.id], by=ADMIN)
        self.folder_id = await access.folder(self.member)
        self.bucket_id = await access.share(self.recipient, *list(self.cases)[:3])
        await self.room.watch(self.chief, Listing(Order.PATIENT_NAME, descending=False), rows=3)
        await self.room.watch(self.chief, Listing(Order.PRIORITY), rows=4)
        await self.room.watch(self.outside, Listing(where="StudyStatusID = 'READY_TO_READ'"))
        await self.room.watch(self.historical)
        await self.room.watch(self.mine, Listing(Order.STUDY_DATE))
        for user in (self.guest, self.member, self.recipient):
            await self.room.watch(user)

    @property
    def case_id(self) -> CaseId:
        return self.random.choice(list(self.cases))

    async def arrive(self) -> None:
        number = self.random.randrange(3)
        said = StudyAttributes(
            patient_name=self.random.choice(("Abel", "Berg", "Çelik")),
            patient_id=f"P{number}",
            study_date=f"2026110{number + 1}",
        )
        study = a_study(attributes=said, settled=True, in_full=True, received_at=NOON - timedelta(number))
        case_id = await self.access.case(self.random.choice(self.facilities), study)
        self.cases[case_id] = study

    async def correct(self) -> None:
        case_id = self.case_id
        study = self.cases[case_id]
        said = replace(study.attribute_sets[1], patient_name=self.random.choice(("Ahn", "Zorn")))
        self.cases[case_id] = replace(study, attribute_sets={1: said}, version=study.version + 1)
        await self.access.hear(self.cases[case_id])

    async def read(self) -> None:
        self.version += 1
        lock = a_lock(ends_at=self.access.clock.now() + timedelta(seconds=self.random.choice((1, 3600))))
        group, facility = self.random.choice(
            (
                (FINAL, FINAL),
                (replace(NOT_READ, read_types=frozenset({ReadType.PRE_READ})), NOT_READ),
                (replace(NOT_READ, lock=lock), replace(NOT_READ, lock=lock)),
                (NOT_READ, NOT_READ),
            )
        )
        await self.access.hear(a_reading(self.case_id, group, facility, version=self.version))

    async def assign(self) -> None:
        await self.access.assignments.assign(self.chief.login, "", self.case_id, self.mine.login, force=True)

    async def prioritize(self) -> None:
        await self.access.assignments.set_priority(
            self.chief.login, "", self.case_id, self.random.choice(list(Priority))
        )

    async def grant(self) -> None:
        case_id = self.case_id
        await self.access.folders.grant_case(ADMIN, case_id, self.guest.id)
        await self.access.folders.put_in_folder(ADMIN, self.folder_id, case_id)

    async def take_back(self) -> None:
        held = "select case_id from {} join cases using (case_id) where deletion_id is null limit 1"
        for row in await self.access.query(held.format("case_grants")):
            await self.access.folders.revoke_grant(ADMIN, row["case_id"], self.guest.id)
        for row in await self.access.query(held.format("folder_cases")):
            await self.access.folders.remove_from_folder(ADMIN, self.folder_id, row["case_id"])

    async def privilege(self) -> None:
        level = self.random.choice((PrivilegeLevel.NONE, PrivilegeLevel.VIEW, PrivilegeLevel.DRAFT))
        user = self.random.choice((self.outside, self.historical))
        await self.access.give(user, self.facilities[0], level)

    async def share(self) -> None:
        async with self.access.database.transaction() as transaction:
            await transaction.connection.execute("update buckets set open = not open")

    async def rename(self) -> None:
        place = self.random.randrange(2)
        facility = self.facilities[place]
        self.facilities[place] = replace(facility, name=facility.name + "+", version=facility.version + 1)
        await self.access.hear(self.facilities[place])

    async def delete(self) -> None:
        case_id = self.case_id
        del self.cases[case_id]
        await self.access.deletions.begin_delete(
            self.chief.login, "", case_id, DeletionId(uuid4()), force=True
        )

    async def wait(self) -> None:
        self.access.clock.pass_by(timedelta(seconds=2))

    async def happen(self) -> None:
        acts: list[Callable[[], Awaitable[None]]] = [
            self.arrive,
            self.correct,
            self.read,
            self.read,
            self.assign,
            self.prioritize,
            self.grant,
            self.take_back,
            self.privilege,
            self.share,
            self.rename,
            self.wait,
        ]
        if len(self.cases) > 4:
            acts.append(self.delete)
        await self.random.choice(acts)()


@pytest.mark.proves("ACC-30", part="worklists that tell what changes")
@pytest.mark.parametrize(
    ("seed", "acts"), [(1, 20), *(pytest.param(seed, 200, marks=pytest.mark.drill) for seed in range(2, 12))]
)
async def test_whatever_happens_everybody_has_the_first_page_of_their_list(
    room: Room, seed: int, acts: int
) -> None:
    hospital = Hospital(room, Random(seed))
    await hospital.open()
    for _ in range(acts):
        for _ in range(hospital.random.choice((1, 1, 2))):
            await hospital.happen()
        await room.tick()
