"""Refused calls are audited, and nobody fills the audit with them."""

import ast
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from kernel.errors import Conflict, Denied, Invalid, NotFound, ReadroomError, Unavailable
from local.embedded import EmbeddedServers
from plumbing.audit import AuditEntry
from plumbing.db import Database
from plumbing.refusals import ALLOWED_A_MINUTE, MAX_WINDOWS, Refusals
from tests.clocks import NOON, Clock
from tests.plumbing.telling import Ledger, a_database

ROOT = Path(__file__).parents[2]
MINUTE = timedelta(minutes=1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def database(servers: EmbeddedServers, clock: Clock) -> AsyncIterator[Database[Ledger]]:
    async with a_database(servers, clock=clock) as made:
        yield made


async def refused(database: Database[Ledger], actor: str, times: int = 1) -> None:
    for number in range(times):
        with pytest.raises(NotFound):
            async with database.audited(actor, "share.opened", f"bucket:{number}"):
                raise NotFound("there is no such share")


async def rows(database: Database[Ledger], actor: str) -> list[tuple[str, str, int]]:
    """Object, outcome and number of those suppressed."""
    async with database.statements() as statements:
        found = await statements.connection.fetch(
            "select object, outcome, detail from audit_rows where actor = $1 order by id", actor
        )
    return [
        (row["object"], row["outcome"], msgspec.json.decode(row["detail"]).get("suppressed", 0))
        for row in found
    ]


async def test_a_refusal_is_audited_although_the_transaction_of_the_act_is_rolled_back(
    database: Database[Ledger],
) -> None:
    async def act() -> None:
        async with database.audited("ada", "share.opened", "link", reason=True), database.transaction() as t:
            await t.audit(AuditEntry("ada", "share.opened", "link", "done"))
            raise Denied("you may not")

    with pytest.raises(Denied):
        await act()
    async with database.statements() as statements:
        (row,) = await statements.connection.fetch("select * from audit_rows")
    assert (row["actor"], row["outcome"], row["detail"]) == ("ada", "refused", '{"reason": "you may not"}')


@pytest.mark.parametrize("failure", [Invalid("wrong"), Unavailable("away"), ValueError("a bug")])
async def test_what_is_wrong_or_fails_is_no_refusal(database: Database[Ledger], failure: Exception) -> None:
    with pytest.raises(type(failure)):
        async with database.audited("ada", "share.opened", "link"):
            raise failure
    assert await rows(database, "ada") == []


@pytest.mark.parametrize("word", [Denied, NotFound, Conflict])
async def test_an_act_that_is_refused_again_and_again_is_audited_as_a_number(
    database: Database[Ledger], clock: Clock, word: type[ReadroomError]
) -> None:
    await refused(database, "mallory", ALLOWED_A_MINUTE + 70)
    await refused(database, "ada")
    await database.audit_suppressed()
    assert len(await rows(database, "mallory")) == ALLOWED_A_MINUTE
    assert await rows(database, "ada") == [("bucket:0", "refused", 0)]

    clock.pass_by(MINUTE)
    await database.audit_suppressed()
    await database.audit_suppressed()
    last = f"bucket:{ALLOWED_A_MINUTE + 69}"
    assert (await rows(database, "mallory"))[ALLOWED_A_MINUTE:] == [(last, "refused", 70)]

    await refused(database, "mallory")
    assert len(await rows(database, "mallory")) == ALLOWED_A_MINUTE + 2


def test_ever_new_actors_take_no_more_memory_than_there_is() -> None:
    refusals = Refusals()
    for number in range(MAX_WINDOWS + 1_000):
        refusals.allow(AuditEntry(f"actor {number}", "share.opened", "link", "refused"), NOON)
    assert len(refusals._windows) <= MAX_WINDOWS + 1
    (row,) = refusals.ended(NOON + MINUTE)
    assert (row.actor, row.detail["suppressed"]) == ("several", 1_000 - ALLOWED_A_MINUTE)


def test_a_number_that_could_not_be_written_is_not_lost() -> None:
    refusals = Refusals()
    for _ in range(ALLOWED_A_MINUTE + 5):
        refusals.allow(AuditEntry("mallory", "share.opened", "link", "refused"), NOON)
    rows = refusals.ended(NOON + MINUTE)
    refusals.keep(rows)
    assert refusals.ended(NOON + MINUTE) == rows


WITH_ITS_EFFECT = {"code.outdated"}
"""Refusals that undo something in the same transaction: as many as there was to undo."""


def test_refused_calls_are_audited_in_one_place() -> None:
    """Who writes a row for each refusal, where it is caught, lets a caller write as many as they like."""
    elsewhere = {
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path in (ROOT / "services").rglob("*.py")
        for handler in ast.walk(ast.parse(path.read_text()))
        if isinstance(handler, ast.ExceptHandler)
        for call in ast.walk(handler)
        if isinstance(call, ast.Call)
        and "refused" in (said := {each.value for each in call.args if isinstance(each, ast.Constant)})
        and not said & WITH_ITS_EFFECT
    }
    assert elsewhere == set()
