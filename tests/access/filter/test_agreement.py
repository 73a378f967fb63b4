"""Three opinions on every filter and every case: nested functions, PostgreSQL, a naive reading."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from itertools import product
from random import Random
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from kernel.ids import UserId
from local.embedded import EmbeddedServers
from plumbing.components import COMPONENTS
from plumbing.migrating import migrate
from services.access.derived import DERIVED
from services.access.filter import evaluate
from services.access.filter.fields import FIELD_BY_NAME, FIELDS, FUNCTIONS, Function, Kind, Operator
from services.access.filter.forms import plain
from services.access.filter.prefilter import prefilter
from services.access.filter.reader import Reader
from services.access.filter.sql import to_sql
from services.access.filter.tree import Expression, Predicate, Text
from tests.access.filter import naive
from tests.access.filter.cases import BERLIN, NOW, USERS, WORDS, Case, draw_case, row
from tests.access.filter.draw import draw_filter, draw_predicate
from tests.databases import ROOT

CASES = 200
FILTERS = 1_000
FILTERS_OF_THE_DRILL = 5_000

READERS = [
    Reader(UserId(USERS["user1"]), "user1", is_of_group=is_of_group, zone=BERLIN, as_of_lock=as_of_lock)
    for is_of_group in (True, False)
    for as_of_lock in (True, False)
]


@dataclass
class World:
    """Cases, the rows that PostgreSQL gives of them, and PostgreSQL."""

    connection: Any
    cases: list[Case]
    rows: list[asyncpg.Record]

    async def opinions(self, expression: Expression, reader: Reader) -> list[tuple[Any, Any, Any]]:
        """Of each case: of nested functions, of PostgreSQL, of the naive reading."""
        compiled = evaluate.compile(expression, reader)
        condition = to_sql(expression, reader, NOW, alias="c", first_parameter=1)
        found = await self.connection.fetch(
            f"select {condition.text} as holds from cases c order by case_id", *condition.parameters
        )
        return [
            (
                compiled.holds([stored[column] for column in compiled.columns], NOW),
                each["holds"],
                naive.holds(expression, case, reader, NOW),
            )
            for case, stored, each in zip(self.cases, self.rows, found, strict=True)
        ]


async def a_world(url: str, cases: list[Case]) -> AsyncIterator[World]:
    connection = await asyncpg.connect(url)
    try:
        for number, case in enumerate(cases):
            await insert(connection, UUID(int=number), row(case))
        rows = await connection.fetch("select * from cases order by case_id")
        yield World(connection, cases, rows)
    finally:
        await connection.close()


async def insert(connection: Any, case_id: UUID, values: dict[str, Any]) -> None:
    """A row of the index, with the columns that no filter reads."""
    if assignee := values["assignee_id"]:
        await connection.execute(
            """
            insert into users (user_id, login, name, role, active, version) values ($1, $2, '', '', true, 1)
            on conflict do nothing
            """,
            assignee,
            next(login for login, user_id in USERS.items() if user_id == assignee),
        )
    values = values | {
        "case_id": case_id,
        "undistributed": False,
        "placed_at": values["received_at"],
        "placement_version": 1,
        "settled": True,
        "version": 1,
    }
    places = ", ".join(f"${n}" for n in range(1, len(values) + 1))
    await connection.execute(f"insert into cases ({', '.join(values)}) values ({places})", *values.values())


def random_cases(random: Random) -> list[Case]:
    return [draw_case(random) for _ in range(CASES)]


def distinct_filters(random: Random, count: int) -> Iterator[Expression]:
    seen: set[str] = set()
    while len(seen) < count:
        expression = draw_filter(random)
        if repr(expression) not in seen:
            seen.add(repr(expression))
            yield expression


async def test_the_prefilter_loses_no_case_of_any_filter(fresh_database: Callable[[str], str]) -> None:
    random, used = Random(2), 0
    async for world in a_world(fresh_database("access"), random_cases(random)):
        for expression in distinct_filters(random, FILTERS // 2):
            condition = to_sql(expression, READERS[0], NOW, alias="c", first_parameter=1)
            first = 1 + len(condition.parameters)
            found = prefilter(expression, alias="c", first_parameter=first, derived=DERIVED)
            if found is None:
                continue
            used += 1
            lost = await world.connection.fetch(
                f"select from cases c where {condition.text} and not {found.text}",
                *condition.parameters,
                *found.parameters,
            )
            assert lost == [], expression
    assert used > FILTERS / 50


async def all_agree(url: str, seed: int, count: int) -> None:
    random = Random(seed)
    truths = {True: 0, False: 0, None: 0}
    async for world in a_world(url, random_cases(random)):
        for number, expression in enumerate(distinct_filters(random, count)):
            reader = READERS[number % len(READERS)]
            for case, opinions in zip(world.cases, await world.opinions(expression, reader), strict=True):
                assert len(set(opinions)) == 1, (seed, opinions, expression, case, reader)
                truths[opinions[0]] += 1
    assert min(truths.values()) > count * CASES / 10, "the filters say something of the cases"


@pytest.mark.proves("ACC-14", part="every field and operator, in Check and in lists")
@pytest.mark.proves("ACC-15", part="both evaluators agree")
async def test_three_opinions_agree_on_random_filters_and_cases(fresh_database: Callable[[str], str]) -> None:
    await all_agree(fresh_database("access"), 1, FILTERS)


LOCALES = ("builtin builtin_locale 'PG_UNICODE_FAST'", "libc locale 'en_US.utf8'")
"""One maps case as Unicode does, and one orders as people do."""


@pytest.mark.parametrize("locale", LOCALES)
async def test_no_locale_of_a_database_decides_anything(
    servers: EmbeddedServers, fresh_database: Callable[[str], str], locale: str
) -> None:
    server, name = fresh_database("access").rpartition("/")[0], f"locale_{uuid4().hex}"
    create = f"create database {name} template template0 encoding 'UTF8' locale_provider {locale}"
    try:
        await asyncio.to_thread(servers.postgres.execute, f"{create} owner readroom_access")
    except asyncpg.PostgresError as lacks:
        pytest.skip(f"this machine lacks the locale: {lacks}")
    await migrate(f"{server}/{name}", [ROOT / folder for folder in COMPONENTS["access"].migrations])
    random = Random(3)
    async for world in a_world(f"{server}/{name}", random_cases(random)):
        for field in [each for each in FIELDS if each.kind in (Kind.TEXT, Kind.NAME)] * 20:
            asked = draw_predicate(random, field)
            for opinions in await world.opinions(asked, READERS[0]):
                assert len(set(opinions)) == 1, (opinions, asked)
    await asyncio.to_thread(servers.postgres.execute, f"drop database {name}")


async def test_three_opinions_agree_on_every_word_in_every_form(fresh_database: Callable[[str], str]) -> None:
    """Letters that change their number, their place or their neighbours when their case changes."""
    random = Random(4)
    nothing = draw_case(random)
    words = list(dict.fromkeys(form for word in WORDS for form in (word, word.upper(), word.lower()) if form))
    field, operators = FIELD_BY_NAME["studydescription"], (Operator.EQ, Operator.LE, Operator.CONTAINS)
    async for world in a_world(
        fresh_database("access"),
        cases=[{**nothing, "StudyDescription": word, "described": True} for word in words],
    ):
        for function, operator in product(FUNCTIONS[Kind.TEXT], operators):
            for word in {plain(word) if function is Function.PLAIN else word for word in words} - {""}:
                asked = Predicate(field, operator, (Text(word),), function)
                for opinions in await world.opinions(asked, READERS[0]):
                    assert len(set(opinions)) == 1, (opinions, asked)


@pytest.mark.drill
async def test_three_opinions_agree_on_a_million_pairs(fresh_database: Callable[[str], str]) -> None:
    await all_agree(fresh_database("access"), uuid4().int, FILTERS_OF_THE_DRILL)
