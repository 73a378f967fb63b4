"""Position: who may do anything in a service's database, but has neither the audit key nor the anchor file.

The other position here: anybody whose ids reach a service, and who chooses them.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from kernel.ids import CaseId
from local.embedded import EmbeddedServers
from local.embedded.postgres import SUPERUSER
from plumbing import sealing
from plumbing.db import Database
from plumbing.sealing import AuditTrail
from services.access.store import AccessTransaction
from tests.plumbing.telling import CLOCK, Ledger, a_database
from tests.plumbing.test_sealing import (
    UNLOCKED,
    a_trail,
    anchored,
    execute,
    numbered,
    verification,
    write,
)
from tests.wait import eventually

HOUR_S = 3600.0


@pytest.fixture
async def database(servers: EmbeddedServers) -> AsyncIterator[Database[Ledger]]:
    async with a_database(servers) as made:
        yield made


@pytest.fixture
def anchors(tmp_path: Path) -> Path:
    return tmp_path / "anchors"


@pytest.fixture
async def trail(database: Database[Ledger], anchors: Path) -> AuditTrail[Ledger]:
    """A sealer at work: its first row is anchored, the next four are sealed, and a sixth waits."""
    sealer = a_trail(database, anchors, anchor_every_s=HOUR_S)
    await write(database, "0")
    await sealer.turn()
    await write(database, "1", "2", "3", "4")
    await sealer.turn()
    await write(database, "5")
    assert anchored(anchors) == [1]
    return sealer


FORGET_THE_THIRD = f"""
    {UNLOCKED}
    delete from audit_rows where number = 3;
    update audit_rows set number = null, seal = null where number > 3
"""


class Owner:
    """Two connections of the database's owner, who lets the sealer's statements pass one by one."""

    def __init__(self, ours: asyncpg.Connection, other: asyncpg.Connection) -> None:
        self._ours, self._other = ours, other

    async def hold(self) -> None:
        """From now on the sealer waits."""
        await self._lock(self._ours)

    async def strike_while_the_sealer_waits_in_its_transaction(self, sql: str) -> None:
        while True:
            (inside,) = await eventually(self._sealer_waits)
            if inside:
                break
            # Its statement passes, and the next one finds the table locked again.
            queued = asyncio.create_task(self._lock(self._other))
            await eventually(self._two_wait)
            await self._ours.execute("commit")
            await queued
            self._ours, self._other = self._other, self._ours
        await self._ours.execute(sql)
        await self._ours.execute("commit")

    async def _lock(self, connection: asyncpg.Connection) -> None:
        await connection.execute("begin; lock table audit_rows in access exclusive mode")

    async def _sealer_waits(self) -> list[bool]:
        """As soon as it waits: whether it holds its own lock, so that its transaction is open."""
        rows = await self._ours.fetch(
            """
            select exists (
                select from pg_locks held
                where held.pid = waits.pid and held.locktype = 'advisory' and held.granted
            ) as inside
            from pg_locks waits
            where waits.relation = 'audit_rows'::regclass and not waits.granted
            """
        )
        return [row["inside"] for row in rows]

    async def _two_wait(self) -> bool:
        waiting: int = await self._ours.fetchval(
            "select count(*) from pg_locks where relation = 'audit_rows'::regclass and not granted"
        )
        return waiting >= 2


@pytest.fixture
async def owner(database: Database[Ledger], servers: EmbeddedServers) -> AsyncIterator[Owner]:
    async with database.statements() as statements:
        name = await statements.connection.fetchval("select current_database()")
    url = servers.postgres.url(name, SUPERUSER, servers.postgres.password)
    ours, other = [await asyncpg.connect(url) for _ in range(2)]
    yield Owner(ours, other)
    for connection in (ours, other):
        await connection.close()


@pytest.mark.proves("SEC-15", part="rows taken away while the sealer waits")
async def test_nothing_is_sealed_upon_a_row_that_took_the_place_of_the_last(
    database: Database[Ledger], trail: AuditTrail[Ledger], owner: Owner, anchors: Path
) -> None:
    """The third row goes, and those after it are as if they had never been sealed."""
    await owner.hold()
    turn = asyncio.create_task(trail.turn())
    await owner.strike_while_the_sealer_waits_in_its_transaction(FORGET_THE_THIRD)

    assert await turn == 0
    assert [number for number, _ in await numbered(database)] == [1, 2, None, None, None]
    assert anchored(anchors) == [1, 5]
    assert sealing.BROKEN._value.get() == 1
    found = await verification(trail)
    assert found.fault
    assert (found.fault.number, found.fault.sentence) == (3, "is gone")


@pytest.mark.proves("SEC-15", part="rows taken away while the sealer waits")
async def test_nothing_is_sealed_upon_what_is_left_between_two_looks(
    database: Database[Ledger], trail: AuditTrail[Ledger], anchors: Path
) -> None:
    await execute(database, FORGET_THE_THIRD)
    for _ in range(3):
        assert await trail.turn() == 0
    assert anchored(anchors) == [1, 5], "the evidence is anchored once"
    assert (await verification(trail)).fault


@pytest.mark.proves("SEC-15", part="rows taken away while no process seals")
async def test_a_process_that_starts_seals_upon_what_was_anchored_and_nothing_else(
    database: Database[Ledger], anchors: Path
) -> None:
    first = a_trail(database, anchors)
    await write(database, *map(str, range(5)))
    await first.turn()
    assert anchored(anchors) == [5]
    await execute(database, FORGET_THE_THIRD)
    await write(database, "new")

    started = a_trail(database, anchors)
    assert await started.turn() == 0
    found = await verification(started)
    assert found.fault
    assert found.fault.number == 3


async def test_a_process_that_starts_finds_what_was_changed_since_the_last_anchor(
    database: Database[Ledger], trail: AuditTrail[Ledger], anchors: Path
) -> None:
    """Above the anchor it knows no number, but every seal must follow from the one before."""
    await trail.turn()
    await execute(database, f"{UNLOCKED} update audit_rows set actor = 'bob' where number = 4")
    await write(database, "new")
    started = a_trail(database, anchors, anchor_every_s=HOUR_S)
    assert await started.turn() == 0
    assert sealing.BROKEN._value.get() == 1


async def test_sealing_goes_on_when_the_rows_are_back(
    database: Database[Ledger], trail: AuditTrail[Ledger]
) -> None:
    await execute(database, f"{UNLOCKED} update audit_rows set number = 500 where number = 5")
    assert await trail.turn() == 0
    await execute(database, "update audit_rows set number = 5 where number = 500")
    assert await trail.turn() == 1
    assert sealing.BROKEN._value.get() == 0
    assert (await verification(trail)).fault is None


async def test_the_last_anchor_is_found_at_the_end_of_a_long_file(
    database: Database[Ledger], trail: AuditTrail[Ledger], anchors: Path
) -> None:
    await trail.turn()
    line = {"service": "routing", "number": 9, "seal": "00" * 32, "at": "2026-11-01T12:00:00Z"}
    with anchors.open("a") as file:
        file.write(f"{json.dumps(line)}\n" * 10_000)
    started = a_trail(database, anchors, anchor_every_s=HOUR_S)
    await write(database, "6")
    assert await started.turn() == 1
    assert (await verification(started)).fault is None


# Ids that somebody chooses


@pytest.mark.parametrize(
    "chosen",
    [
        UUID(int=0x5345_414C_5345_414C),  # by which the sealer was known
        UUID(int=0x4143_4345_5353),  # by which administrators were
        UUID(int=3),  # the class of the sealer, and no key
        UUID(int=0),
    ],
)
async def test_no_case_id_keeps_the_sealer_or_an_administrator_waiting(
    fresh_database: Callable[[str], str], anchors: Path, chosen: UUID
) -> None:
    """Who tells access of a case chooses its id."""
    database = await Database.connect(
        fresh_database("access"), AccessTransaction, clock=CLOCK, new_id=lambda: chosen
    )
    try:
        sealer = a_trail(database, anchors)  # type: ignore[arg-type]
        await write(database, "a row")  # type: ignore[arg-type]
        async with database.transaction() as indexing:
            await indexing.hold_case(CaseId(chosen))
            async with asyncio.timeout(2), database.transaction() as administering:
                await administering.lock_administration()
            assert await sealer.turn() == 1
    finally:
        await database.close()
