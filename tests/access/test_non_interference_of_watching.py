"""What somebody of a facility is told by WatchCases, and when, does not depend on what the group does.

Two worlds live the same hours: in one a case is pre-read (BEY-11, A67), or assigned and dictated (A59).
Everybody watches lists that this could change; after each step both worlds tick, several times, and each
event is compared with its tick.
"""

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest

from kernel.reading import PrivilegeLevel, Side
from local.pki import Pki
from services.access import answers
from services.access.cursors import CursorTokens
from services.access.domain import ROLES, User
from services.access.reading import Reading
from services.access.received import ReceivedStudy
from services.access.search import Listing
from services.access.watching import TICK_S
from tests.access.test_non_interference import (
    CASE_ID,
    COORDINATOR,
    FACILITY,
    FILTERS,
    INSIDERS,
    LIFE,
    OTHER_READER,
    OUTSIDERS,
    READER,
    World,
    a_world,
)
from tests.access.test_non_interference_of_drafts import ASSIGNED_LIFE
from tests.access.watching import Viewer, watch

Thing = Reading | ReceivedStudy | User | None

TICKS = 3
"""After each step."""

LISTS = [Listing(), *(Listing(where=where) for where in FILTERS[:3])]


class Screens:
    """What everybody has before them in a world."""

    def __init__(self, world: World, users: list[User]) -> None:
        self.world = world
        self.cursors = CursorTokens("k" * 32, world.access.clock, random_bytes=bytes)
        self.viewers: list[Viewer] = [
            watch(world.watching, user.login, asked, rows=4) for user in users for asked in LISTS
        ]

    async def begin(self) -> None:
        for viewer in self.viewers:
            await viewer.first()

    async def live(self, thing: Reading | ReceivedStudy | User | None) -> list[list[bytes | None]]:
        """What everybody is told at each tick after something is heard, or a user is assigned the case."""
        access = self.world.access
        if isinstance(thing, User):
            await access.assignments.assign(COORDINATOR.login, "", CASE_ID, thing.login, force=False)
        elif thing is not None:
            await access.hear(thing)
        told = []
        for _ in range(TICKS):
            self.world.access.clock.pass_by(timedelta(seconds=TICK_S))
            await self.world.watching.tick()
            told.append([await self._told(viewer) for viewer in self.viewers])
        return told

    async def _told(self, viewer: Viewer) -> bytes | None:
        event = await viewer.take()
        if event is None:
            return None
        cursor = self.cursors.token(event.now, viewer.watched)
        return answers.an_event(event, cursor).SerializeToString(deterministic=True)

    async def close(self) -> None:
        for viewer in self.viewers:
            await viewer.close()


@pytest.mark.proves("BEY-11", part="lists that tell what changes")
@pytest.mark.proves("A67")
@pytest.mark.parametrize("life", [LIFE, ASSIGNED_LIFE], ids=["pre-read", "drafts and assignees"])
async def test_no_event_and_no_silence_depends_on_what_the_group_does(
    fresh_database: Callable[[str], str], pki: Pki, life: Mapping[str, tuple[Thing, Thing]]
) -> None:
    outsiders = OUTSIDERS[:5]
    insider = next(user for user in INSIDERS if ROLES[user.role].side is Side.GROUP)
    async with AsyncExitStack() as resources:
        worlds = [await a_world(fresh_database("access"), pki, resources) for _ in range(2)]
        for world in worlds:
            for user in (READER, OTHER_READER):
                await world.access.give(user, FACILITY, PrivilegeLevel.REPORT)
        screens = [Screens(world, [*outsiders, insider]) for world in worlds]
        for each in screens:
            await each.begin()
            resources.push_async_callback(each.close)
        heard, differed = 0, False
        of_outsiders = len(outsiders) * len(LISTS)
        for step, things in life.items():
            there, here = [await each.live(thing) for each, thing in zip(screens, things, strict=True)]
            assert [row[:of_outsiders] for row in there] == [row[:of_outsiders] for row in here], step
            heard += sum(event is not None for row in here for event in row[:of_outsiders])
            differed |= there != here

        assert heard > 0, "an outsider is told of nothing at all"
        assert differed, "the worlds do not differ"
