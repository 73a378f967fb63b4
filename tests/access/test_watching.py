"""WatchCases: whoever does what they are told has the first page of ListCases, and is told nothing else."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from kernel.reading import PrivilegeLevel, ReadType
from services.access import watching as module
from services.access.caseindex import NOT_READ, Projection
from services.access.domain import Role, User
from services.access.search import Listing
from services.access.status import ReadingState
from services.access.watching import Watching
from tests.access.builders import a_reading
from tests.access.conftest import Access, Scene
from tests.access.watching import Viewer, listed, watch
from tests.clocks import NOON


@dataclass
class Room:
    """Where lists are watched; a test ticks."""

    access: Access
    watching: Watching
    viewers: list[Viewer] = field(default_factory=list)

    async def watch(self, user: User, asked: Listing = Listing(), **changes: Any) -> Viewer:  # noqa: B008
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
            assert [*viewer.rows.values()] == await listed(self.access, viewer)


@pytest.fixture
async def room(access: Access) -> AsyncIterator[Room]:
    room = Room(access, Watching(access.database, access.questions, access.clock))
    yield room
    for viewer in room.viewers:
        await viewer.close()
    assert (0, 0) == (room.watching.watchers, room.watching.lists)


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
