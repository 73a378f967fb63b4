"""`readroom dead-letters`: an operator sees what each service could not apply, replays it or drops it."""

import asyncio
from collections.abc import Iterator
from uuid import uuid4

import asyncpg
import pytest

from local.system import LocalSystem
from plumbing.components import SERVICES
from tests.readroom.conftest import Run


def plant(system: LocalSystem, service: str, subject: str, payload: str, *, dead: bool = True) -> str:
    """A fact that the service gave up, or still tries; its id."""
    event_id = uuid4()

    async def run() -> None:
        connection = await asyncpg.connect(system.servers.database_url(service))
        try:
            await connection.execute(
                """
                insert into dead_letters
                values ($1, $2, $3, $4, 'x', 'its cause', 8, now(), now(), case when $5 then now() end)
                """,
                service,
                event_id,
                subject,
                payload,
                dead,
            )
        finally:
            await connection.close()

    asyncio.run(run())
    return str(event_id)


@pytest.fixture(scope="module", autouse=True)
def swept(system: LocalSystem) -> Iterator[None]:
    """Other tests look at the same system: nothing that was planted stays."""
    yield

    async def sweep(service: str) -> None:
        connection = await asyncpg.connect(system.servers.database_url(service))
        try:
            await connection.execute("delete from dead_letters")
        finally:
            await connection.close()

    for service in SERVICES:
        asyncio.run(sweep(service))


def fact(about: str) -> str:
    return f'{{"id":"{about}","version":1}}'


def audited(system: LocalSystem, service: str) -> list[tuple[str, str, str]]:
    async def run() -> list[tuple[str, str, str]]:
        connection = await asyncpg.connect(system.servers.database_url(service))
        try:
            rows = await connection.fetch(
                "select actor, action, outcome from audit_rows where action like 'dead_letter.%' order by id"
            )
        finally:
            await connection.close()
        return [tuple(row) for row in rows]

    return asyncio.run(run())


@pytest.fixture
def operator(site: Run) -> Run:
    assert site("login", "support").code == 0
    return site


def test_who_is_no_operator_is_told_what_they_need(admin: Run, system: LocalSystem) -> None:
    letter = plant(system, "access", "study.received.v1", fact(str(uuid4())))
    for words in (["list"], ["replay", "access", letter], ["drop", "access", letter]):
        answer = admin("dead-letters", *words)
        assert (4, "") == (answer.code, answer.out), words
        assert "you need the permission `operator` at every facility" in answer.err


@pytest.mark.proves("R9", part="listed, replayed and dropped by an operator")
def test_an_operator_lists_replays_and_drops(operator: Run, system: LocalSystem) -> None:
    about = str(uuid4())
    planted = {name: plant(system, name, "case.deleted.v1", fact(about)) for name in SERVICES}
    tried = plant(system, "routing", "study.received.v1", fact(about), dead=False)
    garbage = plant(system, "access", "study.received.v1", "nonsense")

    listed = operator("dead-letters", "list", "--json").json
    assert {(each["service"], each["event_id"]) for each in listed} >= set(planted.items())
    (shown,) = (each for each in listed if each["event_id"] == planted["routing"])
    assert (shown["about_id"], shown["failures"], shown["reason"]) == (about, 8, "its cause")
    (alive,) = (each for each in listed if each["event_id"] == tried)
    assert alive["died_at"] is None
    only = operator("dead-letters", "list", "--service", "routing", "--json").json
    assert {each["service"] for each in only} == {"routing"}

    replayed = operator("dead-letters", "replay", "notify", planted["notify"])
    assert (replayed.code, replayed.out) == (0, "`notify` applied 1\n"), replayed.err
    unread = operator("dead-letters", "replay", "access", garbage)
    assert unread.code == 8
    assert "cannot be read, so nothing can be applied: drop it" in unread.err
    early = operator("dead-letters", "drop", "routing", tried)
    assert (early.code, "is still being tried" in early.err) == (6, True)
    assert operator("dead-letters", "drop", "access", garbage).code == 0
    left = {each["event_id"] for each in operator("dead-letters", "list", "--json").json}
    assert not left & {planted["notify"], garbage}
    assert planted["routing"] in left

    assert operator("dead-letters", "drop", "access", garbage).code == 3
    assert operator("dead-letters", "drop", "acess", garbage).code == 3
    assert operator("dead-letters", "replay", "access").code == 2
    assert audited(system, "notify")[-1] == ("support", "dead_letter.replayed", "done")
    assert audited(system, "access")[-3:-1] == [
        ("support", "dead_letter.replayed", "refused"),
        ("support", "dead_letter.dropped", "done"),
    ]


def test_every_dead_letter_of_a_service_is_replayed_at_once(operator: Run, system: LocalSystem) -> None:
    for _ in range(3):
        plant(system, "notify", "case.deleted.v1", fact(str(uuid4())))
    answer = operator("dead-letters", "replay", "notify", "--all", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["applied"] >= 3
    left = operator("dead-letters", "list", "--service", "notify", "--json").json
    assert not [each for each in left if each["died_at"]]
