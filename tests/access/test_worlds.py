"""Whole random worlds: Check, CheckMany and ListCases say the same, and what a naive reading says (A6).

A world has facilities, users of any role with privileges and filters, cases with patients, locks and
assignees, grants, folders and buckets. Some cases are being moved or deleted, some filters no longer parse.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest

from kernel.errors import Invalid, NotFound
from kernel.ids import CaseId, DeletionId, FacilityId, FolderId, UserId
from kernel.reading import PrivilegeLevel, Side
from services.access.accessfilter import Historical, SavedFilter
from services.access.caseindex import Deletion
from services.access.domain import ROLES, Decision, Facility, Path, Role, User
from services.access.explain import Reason
from services.access.filter.dates import parse_date
from services.access.filter.grammar import parse
from services.access.filter.names import Directory, bind
from services.access.filter.reader import Reader
from services.access.filter.tree import Constant, Expression
from services.access.filter.writing import write
from services.access.search import Listing, Order
from services.access.usecases import Questions
from services.access.walking import PATIENT, Pace
from tests.access.builders import a_bucket, a_user
from tests.access.conftest import ADMIN, Access, start
from tests.access.filter import naive
from tests.access.filter.cases import FACILITIES, USERS, Case, draw_case, row
from tests.access.filter.draw import draw_filter
from tests.access.filter.test_agreement import insert
from tests.access.test_worklist import BREATHLESS, CURIOUS
from tests.clocks import NOON

if TYPE_CHECKING:
    from services.access.buckets import Bucket

SESSION = "phone"
ZONES = ("UTC", "Europe/Berlin", "America/New_York")
HIDES = Constant(False)
LOGINS = Directory({user_id: login for login, user_id in USERS.items()}, {})


@dataclass
class Somebody:
    """A user, and what they are at each facility."""

    user: User
    levels: Mapping[FacilityId, PrivilegeLevel]
    saved: SavedFilter
    zone: str

    @property
    def sees_anything(self) -> bool:
        return ROLES[self.user.role].ceiling >= PrivilegeLevel.VIEW

    @property
    def reader(self) -> Reader:
        group = ROLES[self.user.role].side is Side.GROUP
        return Reader(self.user.id, self.user.login, group, ZoneInfo(self.zone), as_of_lock=True)

    @property
    def asks(self) -> Expression | None:
        """What their filter asks, one that does not parse hiding everything; None without one."""
        try:
            asked = self.saved.parsed(is_of_group=self.reader.is_of_group)
        except Invalid:
            return HIDES
        return bind(self.saved.expression, asked, LOGINS) if asked else None


@dataclass
class World:
    people: list[Somebody] = field(default_factory=list)
    cases: dict[CaseId, Case] = field(default_factory=dict)
    persons: dict[CaseId, UUID | None] = field(default_factory=dict)
    moving: set[CaseId] = field(default_factory=set)
    deleting: set[CaseId] = field(default_factory=set)
    grants: set[tuple[UserId, CaseId]] = field(default_factory=set)
    members: dict[FolderId, set[UserId]] = field(default_factory=dict)
    folders: set[tuple[FolderId, CaseId]] = field(default_factory=set)
    buckets: list[Bucket] = field(default_factory=list)
    sessions: set[UUID] = field(default_factory=set)

    def paths(self, one: Somebody, case_id: CaseId) -> tuple[Path, ...]:
        """The paths that open a case: A6 read slowly."""
        if case_id in self.moving or not one.sees_anything:
            return ()
        ways = (
            (Path.PRIVILEGE, self.is_shown(one, case_id)),
            (Path.GRANT, (one.user.id, case_id) in self.grants),
            (
                Path.FOLDER,
                any(one.user.id in self.members[f] for f, held in self.folders if held == case_id),
            ),
            (Path.SHARE, any(self.gives_sight(each, one, case_id) for each in self.buckets)),
        )
        open_ways = tuple(path for path, is_open in ways if is_open)
        return open_ways or ((Path.HISTORICAL,) if self.is_historical(one, case_id) else ())

    def is_privileged(self, one: Somebody, case_id: CaseId) -> bool:
        return one.levels.get(self.cases[case_id]["facility"], PrivilegeLevel.NONE) >= PrivilegeLevel.VIEW

    def is_shown(self, one: Somebody, case_id: CaseId) -> bool:
        asked = one.asks
        return self.is_privileged(one, case_id) and (
            asked is None or naive.holds(asked, self.cases[case_id], one.reader, NOON) is True
        )

    def is_historical(self, one: Somebody, case_id: CaseId) -> bool:
        if one.asks is None or one.saved.historical is Historical.OFF or not self.is_privileged(one, case_id):
            return False
        person = self.persons[case_id]
        return person is not None and any(
            self.persons[anchor] == person
            and anchor not in self.moving | self.deleting
            and self.is_shown(one, anchor)
            and (one.saved.historical is Historical.ALL or self.is_earlier(case_id, anchor))
            for anchor in self.cases
        )

    def is_earlier(self, case_id: CaseId, anchor: CaseId) -> bool:
        mine, theirs = self.day(case_id), self.day(anchor)
        return mine is None or (theirs is not None and mine <= theirs)

    def day(self, case_id: CaseId) -> Any:
        case = self.cases[case_id]
        return parse_date(case["StudyDate"]) if case["described"] else None

    def gives_sight(self, bucket: Bucket, one: Somebody, case_id: CaseId) -> bool:
        standing, terms = bucket.standing, bucket.terms
        assert terms is not None
        return (
            terms.recipient_id == one.user.id
            and case_id in terms.case_ids
            and standing.is_open
            and (standing.ends_at is None or standing.ends_at > NOON)
            and (not terms.two_factor or bucket.id in self.sessions)
        )

    def level(self, one: Somebody, case_id: CaseId, paths: Sequence[Path]) -> PrivilegeLevel:
        ceiling = ROLES[one.user.role].ceiling
        level = PrivilegeLevel.VIEW
        if Path.PRIVILEGE in paths:
            level = min(one.levels[self.cases[case_id]["facility"]], ceiling)
        writes = any(
            self.gives_sight(each, one, case_id) and each.terms and each.terms.write_report
            for each in self.buckets
        )
        return ceiling if writes else level


async def a_world(access: Access, random: Random) -> World:
    """One at random, by SQL alone."""
    world, pick = World(), random.choice
    facilities = [
        Facility(facility_id, f"Facility {number}", ZONES[number], 1)  # type: ignore[arg-type]
        for number, facility_id in enumerate(FACILITIES)
    ]
    await access.hear(*facilities)
    logins = [*USERS.items(), *((f"more{number}", uuid4()) for number in range(3))]
    async with access.database.transaction() as transaction:
        execute = transaction.connection.execute
        for login, user_id in logins:
            home = pick([None, *facilities])
            role = pick([role for role in Role if role is not Role.FACILITY_MANAGER])
            user = a_user(role, id=UserId(user_id), login=login, home_facility_id=home.id if home else None)
            await transaction.save_user(user, by="ada")
            levels = {each.id: pick(list(PrivilegeLevel)) for each in facilities}
            for facility_id, level in levels.items():
                if level is not PrivilegeLevel.NONE:
                    await execute(
                        "insert into privileges values ($1, $2, $3, null, '{}')", user_id, facility_id, level
                    )
            one = Somebody(user, levels, a_filter(random), home.time_zone if home else "UTC")
            if one.saved.asks_something:
                await transaction.save_filter(user.id, one.saved, by="ada")
            world.people.append(one)
        for _ in range(40):
            case_id = CaseId(uuid4())
            world.cases[case_id] = draw_case(random)
            world.persons[case_id] = pick([None, *(UUID(int=number) for number in range(1, 6))])
            await insert(transaction.connection, case_id, row(world.cases[case_id]))
            await execute(
                "update cases set person_id = $2 where case_id = $1", case_id, world.persons[case_id]
            )
            fate = random.random()
            if fate < 0.05:
                world.moving.add(case_id)
                await execute("update cases set move_id = $1 where case_id = $1", case_id)
            elif fate < 0.1:
                world.deleting.add(case_id)
                await transaction.begin_delete(
                    Deletion(DeletionId(uuid4()), case_id, world.cases[case_id]["facility"], ())
                )
        await a_showing(transaction, world, random)
    return world


def a_filter(random: Random) -> SavedFilter:
    """None, one at random, or one that is broken; small enough to show something."""
    historical = random.choice(list(Historical))
    draw = random.random()
    if draw < 0.15:
        return SavedFilter()
    if draw < 0.2:
        return SavedFilter({}, "NoSuchField = 'x'", historical)
    if draw < 0.25:
        return SavedFilter({}, "false", historical)
    form = {"modalities": ["CT", "PT", "MR"]} if random.random() < 0.2 else {}
    return SavedFilter(form, a_text(random), historical)


def a_text(random: Random) -> str:
    """A filter at random, of those that the language can write."""
    while True:
        with suppress(RuntimeError, StopIteration):  # a time that no literal says
            return write(draw_filter(random, depth=random.randint(0, 3)))


async def a_showing(transaction: Any, world: World, random: Random) -> None:
    """Grants, folders and buckets."""
    cases = list(world.cases)
    for one in world.people:
        for case_id in random.sample(cases, 3):
            world.grants.add((one.user.id, case_id))
            await transaction.grant_case(one.user.id, case_id)
        for _ in range(2):
            ends_at = random.choice([None, NOON, NOON + timedelta(hours=1), NOON - timedelta(hours=1)])
            bucket = a_bucket(
                one.user,
                *random.sample(cases, 2),
                is_open=random.random() < 0.8,
                ends_at=ends_at,
                two_factor=random.random() < 0.4,
                write_report=random.random() < 0.5,
            )
            await transaction.save_buckets([bucket])
            world.buckets.append(bucket)
            if random.random() < 0.5:
                world.sessions.add(bucket.id)
                await transaction.register_session(bucket.id, SESSION)
    for number in range(2):
        folder_id = FolderId(uuid4())
        members = {each.user.id for each in random.sample(world.people, 2)}
        execute = transaction.connection.execute
        await execute(
            "insert into folders (folder_id, name, name_folded) values ($1, $2, $2)", folder_id, f"{number}"
        )
        for user_id in members:
            await execute("insert into folder_members values ($1, $2)", folder_id, user_id)
        world.members[folder_id] = members
        for case_id in random.sample(cases, 4):
            world.folders.add((folder_id, case_id))
            await transaction.put_in_folder(folder_id, case_id)


def comparable(decision: Decision) -> tuple[Any, ...]:
    return decision.allowed, decision.being_deleted, decision.level, decision.own_level, decision.paths


async def listed(access: Access, login: str, size: int, pace: Pace, asked: Listing) -> list[CaseId]:
    """The worklist, page by page."""
    questions = Questions(access.database, access.clock, pace=pace)
    seen: list[CaseId] = []
    after = None
    while True:
        page = await questions.list_cases(login, after, size, asked, session=SESSION)
        seen += [case.case_id for case in page]
        if page.more is None:
            return seen
        after = page.more


async def everybody_sees_what_they_may(access: Access, random: Random, totals: dict[Path, int]) -> None:
    world = await a_world(access, random)
    await access.query("analyze cases")
    cases = list(world.cases)
    for one in world.people:
        login = one.user.login
        many = await access.questions.check_many(login, cases, session=SESSION)
        single = [
            (await access.questions.check(login, case_id, images=False, at_least=0, session=SESSION))[0]
            for case_id in cases
        ]
        assert list(map(comparable, single)) == list(map(comparable, many))
        for case_id, decision in zip(cases, many, strict=True):
            paths = world.paths(one, case_id)
            about = (one, world.cases[case_id], paths, decision)
            if not paths:
                assert (False, False) == (decision.allowed, decision.being_deleted), about
            elif case_id in world.deleting:
                assert (False, True) == (decision.allowed, decision.being_deleted), about
            else:
                assert (True, paths) == (decision.allowed, decision.paths), about
                assert world.level(one, case_id, paths) is decision.level, about
                for path in paths:
                    totals[path] += 1
        allowed = {case_id for case_id, each in zip(cases, many, strict=True) if each.allowed}
        asked = Listing(random.choice(list(Order)), random.random() < 0.5)
        pace = random.choice((PATIENT, BREATHLESS, CURIOUS))
        in_order = await listed(access, login, random.choice([3, 100]), pace, asked)
        assert len(in_order) == len(set(in_order))
        assert allowed == set(in_order), one
        await nothing_more_than_without_the_filter(access, one, cases, allowed)


async def nothing_more_than_without_the_filter(
    access: Access, one: Somebody, cases: Sequence[CaseId], allowed: set[CaseId]
) -> None:
    """ACC-15, whatever the filter says: it hides, and never gives."""
    async with access.database.transaction() as transaction:
        await transaction.save_filter(one.user.id, SavedFilter(), by="ada")
        await transaction.bump_users([one.user.id], by="ada")
    without = await access.questions.check_many(one.user.login, cases, session=SESSION)
    assert allowed <= {case_id for case_id, each in zip(cases, without, strict=True) if each.allowed}


@pytest.mark.proves("ACC-15")
@pytest.mark.proves("ACC-30", part="in whole worlds")
@pytest.mark.proves("A6", part="in whole worlds")
@pytest.mark.proves("A71")
def test_check_check_many_and_the_worklist_say_what_a_naive_reading_says(
    fresh_database: Callable[[str], str],
) -> None:
    totals = dict.fromkeys(Path, 0)

    async def try_it(seed: int) -> None:
        async for access in start(fresh_database("access")):
            await everybody_sees_what_they_may(access, Random(seed), totals)

    for seed in range(8):
        asyncio.run(try_it(seed))
    assert min(totals.values()) > 0, "each path opens something"


async def every_other_way_says_the_same(access: Access, random: Random) -> None:
    """Explanations, counts, single cases, those beside them and searches, held against Check."""
    world = await a_world(access, random)
    cases = list(world.cases)
    for one in world.people:
        login = one.user.login
        many = await access.questions.check_many(login, cases)  # an explanation is of no session
        allowed = {case_id for case_id, each in zip(cases, many, strict=True) if each.allowed}
        for case_id, decision in random.sample(list(zip(cases, many, strict=True)), 8):
            told = await access.explaining.explain(ADMIN, one.user.id, case_id)
            assert comparable(decision) == comparable(told.decision), (one, told)
            opened = {each.path for each in told.paths if each.reason is Reason.OPEN}
            if decision.allowed:
                assert set(decision.paths) == opened, (one, told)
            elif not decision.being_deleted:
                assert not opened or told.obstacle or not one.sees_anything, (one, told)
            await one_case_and_those_beside_it(access, world, one, case_id, allowed)
        live = set(cases) - world.deleting - world.moving
        for told_at in await access.explaining.explain_list(ADMIN, one.user.id, None, 10):
            there = {case_id for case_id in live if world.cases[case_id]["facility"] == told_at.facility.id}
            counted = told_at.counted
            assert (len(there & allowed), len(there)) == (counted.shown, counted.cases), (one, told_at)
        where = a_text(random)
        try:
            found = await access.questions.list_cases(login, None, 100, Listing(where=where))
        except Invalid:
            continue
        asked = bind(where, parse(where, is_of_group=one.reader.is_of_group), LOGINS)
        expected = {
            case_id
            for case_id in allowed
            if naive.holds(asked, world.cases[case_id], replace(one.reader, as_of_lock=False), NOON) is True
        }
        assert expected == {each.case_id for each in found}, (one, where)


async def one_case_and_those_beside_it(
    access: Access, world: World, one: Somebody, case_id: CaseId, allowed: set[CaseId]
) -> None:
    if case_id not in allowed:
        with pytest.raises(NotFound):
            await access.questions.describe_case(one.user.login, case_id)
        with pytest.raises(NotFound):
            await access.questions.list_related_cases(one.user.login, case_id, None, 100)
        return
    shown = await access.questions.describe_case(one.user.login, case_id)
    related = await access.questions.list_related_cases(one.user.login, case_id, None, 100)
    person = world.persons[case_id]
    beside = {each for each in allowed - {case_id} if person and world.persons[each] == person}
    assert (case_id, beside) == (shown.case_id, {each.case_id for each in related}), one
    earlier = [each for each in beside if world.is_earlier(each, case_id)]
    assert len(earlier) == shown.prior_count, (one, shown)


def test_every_other_way_to_ask_says_the_same(fresh_database: Callable[[str], str]) -> None:
    async def try_it(seed: int) -> None:
        async for access in start(fresh_database("access")):
            await every_other_way_says_the_same(access, Random(seed))

    asyncio.run(try_it(0))


@pytest.mark.drill
def test_every_other_way_in_many_more_worlds(fresh_database: Callable[[str], str]) -> None:
    async def try_it(seed: int) -> None:
        async for access in start(fresh_database("access")):
            await every_other_way_says_the_same(access, Random(seed))

    for seed in range(100, 200):
        asyncio.run(try_it(seed))


@pytest.mark.drill
def test_many_more_worlds(fresh_database: Callable[[str], str]) -> None:
    async def try_it(seed: int) -> None:
        async for access in start(fresh_database("access")):
            await everybody_sees_what_they_may(access, Random(seed), dict.fromkeys(Path, 0))

    for seed in range(100, 300):
        asyncio.run(try_it(seed))
