"""Somebody watches lists to learn what they are not shown, or to be in the way.

Position: any user with an account, through the web pages; what they hand back may be anything.
"""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest

from kernel.errors import Exhausted, Invalid, ReadroomError, Unavailable
from kernel.reading import PrivilegeLevel
from services.access import cursors, watching
from services.access.cursors import CursorTokens
from services.access.domain import User
from services.access.live import MAX_ROWS
from services.access.places import PlaceTokens
from services.access.revision import RevisionTokens
from services.access.search import Listing, Place
from services.access.turns import Turns
from services.access.watching import Watching
from tests.access.conftest import Access
from tests.access.watching import Viewer, watch
from tests.wait import eventually

KEY, OTHER_KEY = "k" * 32, "o" * 32
MOST, MOST_OF_A_USER = 5, 3
LOCK = 7


class Ward:
    """A facility with a case, and two users who see it."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self.watching = Watching(
            access.database,
            access.questions,
            access.clock,
            most=MOST,
            most_of_a_user=MOST_OF_A_USER,
            asked_for_s=10,
        )
        self.viewers: list[Viewer] = []

    async def open(self) -> None:
        self.facility = await self.access.facility()
        self.case_id = await self.access.case(self.facility)
        self.jane, self.john = [await self.reader() for _ in range(2)]

    async def reader(self) -> User:
        user = await self.access.user()
        await self.access.give(user, self.facility, PrivilegeLevel.VIEW)
        return user

    async def watch(self, user: User, **changes: object) -> Viewer:
        viewer = watch(self.watching, user.login, **changes)  # type: ignore[arg-type]
        self.viewers.append(viewer)
        await viewer.first()
        return viewer

    async def refused(self, watching: Awaitable[object]) -> type[ReadroomError]:
        with pytest.raises(ReadroomError) as refusal:
            await watching
        return type(refusal.value)


@pytest.fixture
async def ward(access: Access) -> AsyncIterator[Ward]:
    ward = Ward(access)
    await ward.open()
    yield ward
    for viewer in ward.viewers:
        await viewer.close()
    assert (0, 0) == (ward.watching.watchers, ward.watching.lists)


async def test_a_cursor_counts_for_its_user_its_list_and_its_hour_alone(ward: Ward) -> None:
    clock = ward.access.clock
    tokens = CursorTokens(KEY, clock)
    viewer = await ward.watch(ward.jane)
    assert viewer.told is not None
    watched, told = viewer.watched, viewer.told
    token = tokens.token(told, watched)
    oak = Listing(facility_id=ward.facility.id)
    hostile: dict[str, Callable[[], object]] = {
        "another user": lambda: tokens.told(token, replace(watched, login=ward.john.login)),
        "another list": lambda: tokens.told(token, replace(watched, asked=oak)),
        "another search": lambda: tokens.told(token, replace(watched, asked=Listing(line="doe"))),
        "another count": lambda: tokens.told(token, replace(watched, rows=watched.rows + 1)),
        "another key": lambda: CursorTokens(OTHER_KEY, clock).told(token, watched),
        "cut off": lambda: tokens.told(token[:-4], watched),
        "one bit": lambda: tokens.told(token[:20] + ("A" if token[20] != "A" else "B") + token[21:], watched),
        "a revision": lambda: tokens.told(RevisionTokens(KEY).token(1), watched),
        "a page": lambda: tokens.told(
            PlaceTokens(KEY).token(Place("x", ward.case_id), watched.login, watched.asked), watched
        ),
        "nothing": lambda: tokens.told(base64.urlsafe_b64encode(b"").decode(), watched),
        "noise": lambda: tokens.told("\0✓" * 50, watched),
        "far too long": lambda: tokens.told("A" * (cursors.MAX_CHARACTERS + 4), watched),
    }

    assert told == tokens.told(token, watched)
    assert dict.fromkeys(hostile) == {name: attack() for name, attack in hostile.items()}
    assert told == CursorTokens(OTHER_KEY, clock, KEY).told(token, watched), "while the key changes"
    assert str(ward.case_id) not in base64.urlsafe_b64decode(token).hex()
    clock.pass_by(timedelta(seconds=cursors.LIVES_S + 1))
    assert tokens.told(token, watched) is None


async def test_whoever_goes_on_is_told_that_a_row_went_only_if_they_had_it(ward: Ward) -> None:
    held = dict((await ward.watch(ward.jane)).told or {})
    await ward.access.give(ward.jane, ward.facility, PrivilegeLevel.NONE)
    hidden = await ward.access.case(ward.facility)

    event = (await ward.watch(ward.jane, held=held)).events[0]

    assert ((ward.case_id,), ()) == (event.went, event.rows)
    assert hidden not in event.now


async def test_nobody_takes_the_places_of_the_others(ward: Ward) -> None:
    for _ in range(MOST_OF_A_USER):
        await ward.watch(ward.jane)

    assert Exhausted is await ward.refused(ward.watch(ward.jane))
    await ward.watch(ward.john)
    await ward.watch(ward.john)
    assert Exhausted is await ward.refused(ward.watch(await ward.reader()))
    for rows in (0, -1, MAX_ROWS + 1):
        assert Invalid is await ward.refused(ward.watch(ward.john, rows=rows))
    await ward.viewers[0].close()
    await ward.watch(ward.john)


async def test_whoever_takes_nothing_makes_no_queue_and_is_cut_off(ward: Ward) -> None:
    slow, other = await ward.watch(ward.jane), await ward.watch(ward.john)
    for _ in range(4):
        await ward.access.case(ward.facility)
        ward.access.clock.pass_by(timedelta(seconds=watching.TICK_S))
        await ward.watching.tick()
        await other.take()
    await ward.access.give(ward.jane, ward.facility, PrivilegeLevel.NONE)
    await ward.watching.tick()

    event = await slow.take()
    assert event is not None
    assert ((ward.case_id,), ()) == (event.went, event.rows), "one difference, of what is so now"
    assert 5 == len(other.events)

    await ward.access.case(ward.facility)
    await ward.access.give(ward.jane, ward.facility, PrivilegeLevel.VIEW)
    await ward.watching.tick()
    await other.take()
    ward.access.clock.pass_by(watching.PATIENCE + timedelta(seconds=1))
    await ward.watching.tick()
    assert Exhausted is await ward.refused(slow.take())
    assert await other.take() is None


async def test_a_stream_ends_so_that_its_reader_shows_who_they_are_again(ward: Ward) -> None:
    viewer = await ward.watch(ward.jane)
    ward.access.clock.pass_by(watching.LONGEST)

    with pytest.raises(StopAsyncIteration):
        await anext(viewer.stream)


@asynccontextmanager
async def slowed(ward: Ward) -> AsyncIterator[None]:
    """Whatever is asked of the cases of the ward waits meanwhile."""
    await ward.access.query(
        f"""
        create function waited(facility_id uuid) returns boolean language plpgsql as $$ begin
            if facility_id = '{ward.facility.id}' then
                perform pg_advisory_xact_lock_shared({LOCK});
            end if;
            return true;
        end $$
        """
    )
    await ward.access.query("create policy slow on cases using (waited(facility_id))")
    await ward.access.query("alter table cases enable row level security, force row level security")
    async with ward.access.database.statements() as holder:
        await holder.connection.execute(f"select pg_advisory_lock({LOCK})")
        yield
        await holder.connection.execute("select pg_advisory_unlock_all()")


@pytest.mark.proves("A69", part="live lists beside slow ones")
async def test_no_row_stays_where_sight_has_ended_because_others_watch_slow_lists(ward: Ward) -> None:
    access, clock = ward.access, ward.access.clock
    elsewhere, guest = await access.case(await access.facility("Elsewhere")), await access.user()
    await access.share(guest, elsewhere, ends_at=clock.now() + timedelta(seconds=3))
    ward.watching = Watching(access.database, access.questions, clock, asked_for_s=0.05)
    young = [Listing(where=f"age(CreatedTime) < '{hours}h'") for hours in (1, 2, 3)]
    slow = [await ward.watch(ward.jane, asked=each) for each in young]
    guests = await ward.watch(guest)

    async with slowed(ward):
        clock.pass_by(timedelta(seconds=3))
        ended_at = clock.now()
        while not (event := await guests.take()):
            assert clock.now() - ended_at < timedelta(seconds=4), "a row stays"
            clock.pass_by(timedelta(seconds=watching.TICK_S))
            await asyncio.wait_for(ward.watching.tick(), 5)
        assert (elsewhere,) == event.went

        clock.pass_by(watching.CUT_AFTER + timedelta(seconds=1))
        await ward.watching.tick()
        assert [Unavailable] * 3 == [await ward.refused(each.take()) for each in slow]
    await ward.watching.close()


async def test_what_changes_while_a_list_is_looked_for_is_told_though_too_much_changes_to_name_it(
    ward: Ward,
) -> None:
    access = ward.access
    elsewhere = await access.facility("Elsewhere")
    await access.give(ward.jane, elsewhere, PrivilegeLevel.VIEW)
    ward.watching = Watching(
        access.database, access.questions, access.clock, most_changes=0, asked_for_s=0.05
    )
    viewer = await ward.watch(ward.jane)

    async def is_looked_for() -> bool:
        held = "select from pg_locks where locktype = 'advisory' and not granted and objid = $1"
        return bool(await access.query(held, LOCK))

    async with slowed(ward):
        early = await access.case(elsewhere)
        await ward.watching.tick()
        await eventually(is_looked_for)
        late = await access.case(elsewhere)
        await ward.watching.tick()

    async def is_told() -> bool:
        await ward.watching.tick()
        await viewer.take()
        return {early, late} <= {*viewer.cases}

    await eventually(is_told, within=watching.CUT_AFTER.total_seconds())
    await ward.watching.close()


@pytest.mark.proves("A69", part="whoever shares a list with others")
@pytest.mark.parametrize(
    "error", [Unavailable("an administrator is changing your account"), KeyError("a fault")]
)
async def test_who_cannot_be_compiled_again_keeps_no_row_because_others_still_see_the_list(
    ward: Ward, error: Exception
) -> None:
    access, clock = ward.access, ward.access.clock
    refused = ""

    class Questions:
        """Those of access, while one user cannot be compiled."""

        async def asked(self, login: str, *arguments: Any) -> Any:
            if login == refused:
                raise error
            return await access.questions.asked(login, *arguments)

    ward.watching = Watching(access.database, cast("Any", Questions()), clock, asked_for_s=10)
    janes = await ward.watch(ward.jane)
    await ward.watch(ward.john)
    assert ward.watching.lists == 1
    refused = ward.jane.login
    await access.give(ward.jane, ward.facility, PrivilegeLevel.NONE)

    for _ in range(3):
        with suppress(KeyError):
            await ward.watching.tick()
        clock.pass_by(watching.CUT_AFTER / 2 + timedelta(seconds=0.25))
    assert Unavailable is await ward.refused(janes.take())


async def test_users_take_turns() -> None:
    turns, log = Turns(2), list[str]()
    ends = {name: asyncio.Event() for name in ("a1", "a2", "a3", "b1", "c1")}

    async def take(name: str) -> None:
        async with turns.of(name[0]):
            log.append(name)
            await ends[name].wait()

    async def settle() -> list[str]:
        for _ in range(10):
            await asyncio.sleep(0)
        return log

    tasks = {name: asyncio.create_task(take(name)) for name in ends}
    assert ["a1", "b1"] == await settle(), "one user has not both"
    ends["b1"].set()
    assert ["a1", "b1", "c1"] == await settle(), "who has none comes first"
    tasks["a2"].cancel()
    ends["c1"].set()
    assert ["a1", "b1", "c1"] == await settle()
    tasks["a1"].cancel()
    assert ["a1", "b1", "c1", "a3"] == await settle(), "who gave up had no turn, and ended theirs"
    late = asyncio.create_task(take("a1"))
    await settle()
    ends["a3"].set()
    late.cancel()  # its turn comes before it has run
    await asyncio.gather(*tasks.values(), late, return_exceptions=True)
    async with asyncio.timeout(5), turns.of("d"), turns.of("e"):
        pass
