"""The audit chain: sealed in time whatever happens, and no change of what is sealed goes unseen (SEC-15)."""

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr

from kernel.clock import OffsetClock
from local.embedded import EmbeddedServers
from plumbing import locks, sealing
from plumbing.audit import AuditEntry
from plumbing.config import ServiceSettings
from plumbing.db import Database
from plumbing.locks import LockClass
from plumbing.sealing import BATCH, AuditTrail, Fault, Verification
from tests.auditing import AUDIT_KEY
from tests.plumbing.telling import CLOCK, Ledger, a_database, running
from tests.wait import Stopwatch, eventually

SEALED = 20
"""How many rows the tests of tampering begin with: all sealed, all below the anchor."""


@pytest.fixture
async def database(servers: EmbeddedServers) -> AsyncIterator[Database[Ledger]]:
    async with a_database(servers) as made:
        yield made


@pytest.fixture
def anchors(tmp_path: Path) -> Path:
    return tmp_path / "anchors"


def a_trail(
    database: Database[Ledger], anchors: Path, *, key: str = AUDIT_KEY, anchor_every_s: float = 0.0
) -> AuditTrail[Ledger]:
    settings = ServiceSettings.model_construct(audit_key=SecretStr(key), audit_anchor_file=anchors)
    return AuditTrail(database, "access", settings, CLOCK, anchor_every_s=anchor_every_s)


def an_entry(name: str = "1") -> AuditEntry:
    return AuditEntry("alice", "case.distributed", f"case:{name}", "done", {"held": 2, "by": "rule"})


async def write(database: Database[Ledger], *names: str) -> None:
    async with database.transaction() as transaction:
        for name in names:
            await transaction.audit(an_entry(name))


async def execute(database: Database[Ledger], sql: str) -> None:
    async with database.statements() as statements:
        await statements.connection.execute(sql)


async def numbered(database: Database[Ledger]) -> list[tuple[int | None, str]]:
    """Number and object of each row, by number; the last ones are not sealed."""
    async with database.statements() as statements:
        rows = await statements.connection.fetch("select number, object from audit_rows order by number, id")
    return [(row["number"], row["object"].removeprefix("case:")) for row in rows]


async def verification(trail: AuditTrail[Ledger]) -> Verification:
    """The last word."""
    found = [each async for each in trail.verify_audit()]
    assert [each.done for each in found] == [False] * (len(found) - 1) + [True]
    return found[-1]


def anchored(anchors: Path) -> list[int]:
    return (
        [json.loads(line)["number"] for line in anchors.read_text().splitlines()] if anchors.exists() else []
    )


# Sealing


@pytest.mark.proves("SEC-15", part="sealed within 1 s")
async def test_a_row_is_sealed_within_a_second_of_its_commit_and_in_that_order(
    database: Database[Ledger], anchors: Path
) -> None:
    trail = a_trail(database, anchors)
    async with running(trail.seal), database.transaction() as slow:
        await slow.audit(an_entry("slow"))  # the smallest id, and the last to be committed
        for name in ("a", "b", "c"):
            await write(database, name)
            watch = Stopwatch()
            await eventually(lambda: is_sealed(database, name))  # noqa: B023 - awaited here
            assert watch.seconds() < 1
        assert [(1, "a"), (2, "b"), (3, "c")] == await numbered(database)
    async with running(trail.seal):
        await eventually(lambda: is_sealed(database, "slow"))
    assert (4, "slow") == (await numbered(database))[-1]
    found = await verification(trail)
    assert (4, None, 0) == (found.verified, found.fault, found.unsealed)


async def is_sealed(database: Database[Ledger], name: str) -> bool:
    return any(number is not None and name == each for number, each in await numbered(database))


@pytest.mark.proves("SEC-15", part="one chain, whoever seals and dies")
async def test_several_sealers_make_one_chain(database: Database[Ledger], anchors: Path) -> None:
    trails = [a_trail(database, anchors) for _ in range(3)]

    async def writing(writer: int) -> None:
        for number in range(60):
            await write(database, *(f"{writer}-{number}-{row}" for row in range(10)))

    async with AsyncExitStack() as sealers:
        for trail in trails:
            await sealers.enter_async_context(running(trail.seal))
        await asyncio.gather(*(writing(writer) for writer in range(3)))
        await eventually(lambda: all_sealed(database))
    assert list(range(1, 1801)) == [number for number, _ in await numbered(database)]
    found = await verification(trails[0])
    assert (1800, None, 0) == (found.verified, found.fault, found.unsealed)


async def all_sealed(database: Database[Ledger]) -> bool:
    return all(number is not None for number, _ in await numbered(database))


@pytest.mark.proves("SEC-15", part="one chain, whoever seals and dies")
async def test_sealers_that_end_at_any_moment_and_connections_that_break_lose_nothing(
    database: Database[Ledger], servers: EmbeddedServers, anchors: Path
) -> None:
    async def writing() -> None:
        for number in range(200):
            await write(database, f"{number}")

    async def breaking() -> None:
        async with database.statements() as statements:
            name = await statements.connection.fetchval("select current_database()")
        while True:
            await asyncio.sleep(0.05)
            servers.postgres.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                f" where datname = '{name}' and query like '%audit_rows as row%'"
            )

    writer = asyncio.create_task(writing())
    async with running(breaking):
        for turn in range(25):
            async with running(a_trail(database, anchors).seal):
                await asyncio.sleep(turn / 500)
    await writer
    trail = a_trail(database, anchors)
    async with running(trail.seal):
        await eventually(lambda: all_sealed(database))
    rows = await numbered(database)
    assert list(range(1, 201)) == [number for number, _ in rows]
    assert {str(number) for number in range(200)} == {name for _, name in rows}
    assert (await verification(trail)).fault is None


# What verification finds

UNLOCKED = "alter table audit_rows disable trigger user, drop constraint audit_rows_number_key;"
"""Whoever owns the table can do this, and then everything."""

TAMPERED = {
    "an actor": ("update audit_rows set actor = 'bob' where number = 7", 7),
    "an action": ("update audit_rows set action = 'case.seen' where number = 1", 1),
    "an object": ("update audit_rows set object = 'case:2' where number = 20", 20),
    "an outcome": ("update audit_rows set outcome = 'refused' where number = 7", 7),
    "a detail": ("update audit_rows set detail = '{\"held\": 3}' where number = 7", 7),
    "a time": ("update audit_rows set at = at - interval '1 microsecond' where number = 7", 7),
    "a time beyond every calendar": ("update audit_rows set at = '-infinity' where number = 7", 7),
    "an id": (
        "alter table audit_rows alter id drop identity; update audit_rows set id = 7000 where number = 7",
        7,
    ),
    "a seal": ("update audit_rows set seal = sha256('x') where number = 7", 7),
    "a column to another": ("update audit_rows set actor = action, action = actor where number = 7", 7),
    "the first row is deleted": ("delete from audit_rows where number = 1", 1),
    "a row is deleted": ("delete from audit_rows where number = 7", 7),
    "a row is deleted and the gap closed": (
        "delete from audit_rows where number = 7; update audit_rows set number = number - 1 where number > 7",
        7,
    ),
    "two rows change places": (
        "update audit_rows set number = case number when 5 then 9 else 5 end where number in (5, 9)",
        5,
    ),
    "two rows change what they say": (
        """
        update audit_rows as row set object = other.object from audit_rows as other
        where row.number in (5, 9) and other.number = 14 - row.number
        """,
        5,
    ),
    "a row is put in": (
        """
        update audit_rows set number = number + 1 where number >= 8;
        insert into audit_rows (at, actor, action, object, outcome, detail, number, seal)
        select at, 'bob', action, object, outcome, detail, 8, seal from audit_rows where number = 7
        """,
        8,
    ),
    "a row is put at the end": (
        """
        insert into audit_rows (at, actor, action, object, outcome, detail, number, seal)
        select at, 'bob', action, object, outcome, detail, 21, seal from audit_rows where number = 20
        """,
        21,
    ),
    "a number is given twice, and a row with it": (
        """
        insert into audit_rows (at, actor, action, object, outcome, detail, number, seal)
        select at, actor, action, object, outcome, detail, number, seal from audit_rows where number = 7
        """,
        7,
    ),
    "a number is given to every row": ("update audit_rows set number = 3", 1),
    "the numbers have a gap": ("update audit_rows set number = number + 5000 where number > 9", 10),
    "the last has the last of all numbers": (
        "update audit_rows set number = 9223372036854775807 where number = 20",
        20,
    ),
    "a row is put before the first": ("update audit_rows set number = -3 where number = 4", -3),
    "the last is gone": ("delete from audit_rows where number = 20", 20),
    "the end is gone": ("delete from audit_rows where number > 12", 13),
    "all are gone": ("truncate audit_rows", 1),
    "the last is as if never sealed": (
        "update audit_rows set number = null, seal = null where number = 20",
        20,
    ),
    "a seal is taken away": (
        "alter table audit_rows drop constraint sealed_with_a_number;"
        "update audit_rows set seal = null where number = 7",
        7,
    ),
}


@pytest.fixture
async def sealed(database: Database[Ledger], anchors: Path) -> AuditTrail[Ledger]:
    """SEALED rows, anchored."""
    trail = a_trail(database, anchors)
    await write(database, *map(str, range(SEALED)))
    await trail.turn()
    assert [SEALED] == anchored(anchors)
    assert Verification(SEALED, 1, found_at(anchors), done=True) == await verification(trail)
    return trail


def found_at(anchors: Path) -> datetime:
    return datetime.fromisoformat(json.loads(anchors.read_text())["at"])


class Tampered(Database[Ledger]):
    """The database as it looks within one transaction, which is rolled back."""

    def __init__(self, transaction: Ledger) -> None:
        self._within = transaction

    @asynccontextmanager
    async def statements(self) -> AsyncIterator[Ledger]:
        yield self._within


@pytest.mark.proves("SEC-15", part="a verifier finds what was done to sealed rows")
@pytest.mark.usefixtures("sealed")
async def test_what_is_done_to_sealed_rows_is_found_with_the_first_number_at_fault(
    database: Database[Ledger], anchors: Path
) -> None:
    found: dict[str, int | None] = {}
    for how, (sql, _) in TAMPERED.items():
        with suppress(ZeroDivisionError):
            async with database.transaction() as transaction:
                await transaction.connection.execute(f"{UNLOCKED} {sql}")
                verified = await verification(a_trail(Tampered(transaction), anchors))
                found[how] = verified.fault.number if verified.fault else None
                assert verified.fault is None or verified.verified <= max(verified.fault.number, 0)
                raise ZeroDivisionError
    assert {how: number for how, (_, number) in TAMPERED.items()} == found


@pytest.mark.proves("SEC-15", part="truncation below the last anchor")
async def test_rows_sealed_in_the_place_of_others_are_not_those_that_were_anchored(
    database: Database[Ledger], sealed: AuditTrail[Ledger], tmp_path: Path
) -> None:
    """As somebody could who has the key, but not the file."""
    await execute(database, f"{UNLOCKED} delete from audit_rows where number > 12")
    await write(database, *(f"new {number}" for number in range(12)))
    await a_trail(database, tmp_path / "another file").turn()
    found = await verification(sealed)
    assert (24, SEALED) == (found.verified, found.fault.number if found.fault else None)
    assert found.fault
    assert found.fault.sentence.startswith("is not the row that was anchored at 20")


async def test_the_sealer_that_saw_rows_go_anchors_what_it_saw(
    database: Database[Ledger], anchors: Path
) -> None:
    trail = a_trail(database, anchors, anchor_every_s=3600)
    await write(database, "first")
    async with running(trail.seal):
        await eventually(lambda: anchored(anchors) == [1])
        await write(database, *map(str, range(4)))
        await eventually(lambda: all_sealed(database))
        await asyncio.sleep(2 * sealing.SEAL_EVERY_S)  # it has looked again
        assert [1] == anchored(anchors)
        await execute(database, f"{UNLOCKED} delete from audit_rows where number > 3")
        await eventually(lambda: anchored(anchors) == [1, 5])
    assert Fault(4, "is gone") == (await verification(trail)).fault


async def test_who_has_not_the_key_cannot_seal_anew(
    database: Database[Ledger], sealed: AuditTrail[Ledger], tmp_path: Path, anchors: Path
) -> None:
    await execute(database, f"{UNLOCKED} update audit_rows set actor = 'bob', number = null, seal = null")
    forger = a_trail(database, tmp_path / "other anchors", key="forged" * 6)
    await forger.turn()
    assert (await verification(forger)).fault is None
    assert (await verification(sealed)).fault == Fault(
        1, "is not as it was sealed: it was changed, moved or put in"
    )


async def test_a_chain_of_another_service_is_another_chain(
    database: Database[Ledger], sealed: AuditTrail[Ledger], anchors: Path
) -> None:
    settings = ServiceSettings.model_construct(audit_key=SecretStr(AUDIT_KEY), audit_anchor_file=anchors)
    found = await verification(AuditTrail(database, "routing", settings, CLOCK))
    assert (0, 0) == (found.verified, found.anchors)
    assert found.fault
    assert found.fault.number == 1


async def test_rows_that_are_not_sealed_yet_are_told_apart(
    database: Database[Ledger], sealed: AuditTrail[Ledger]
) -> None:
    before = CLOCK.now()
    await write(database, "x", "y")
    found = await verification(sealed)
    assert (SEALED, None, 2) == (found.verified, found.fault, found.unsealed)
    assert found.unsealed_since
    assert before <= found.unsealed_since <= CLOCK.now()


@pytest.mark.proves("SEC-15", part="nobody keeps rows from being sealed")
async def test_rows_that_wait_too_long_for_their_seal_are_a_fault(
    database: Database[Ledger], sealed: AuditTrail[Ledger]
) -> None:
    async with database.transaction() as blocker:
        await locks.hold(blocker.connection, LockClass.SEAL)
        await write(database, "x")
        await execute(database, "alter table audit_rows disable trigger sealed_once")
        await execute(database, "update audit_rows set at = at - interval '61 s' where number is null")
        await execute(database, "alter table audit_rows enable trigger sealed_once")
        assert 0 == await sealed.turn()
        found = await verification(sealed)
    assert (SEALED, 1) == (found.verified, found.unsealed)
    assert found.fault
    assert SEALED + 1 == found.fault.number
    assert found.fault.sentence.startswith("is not sealed, but was written at ")


@pytest.mark.proves("SEC-15", part="anchored each minute")
async def test_rows_of_which_none_is_anchored_in_time_are_a_fault(
    database: Database[Ledger], sealed: AuditTrail[Ledger], anchors: Path
) -> None:
    def after(seconds: float) -> AuditTrail[Ledger]:
        settings = ServiceSettings.model_construct(audit_key=SecretStr(AUDIT_KEY), audit_anchor_file=anchors)
        clock = OffsetClock(CLOCK, lambda: timedelta(seconds=seconds))
        return AuditTrail(database, "access", settings, clock)

    assert (await verification(after(125))).fault is None
    anchors.rename(anchors.with_name("hidden"))  # noqa: ASYNC240
    for _ in range(2):
        assert (await verification(after(100))).fault is None
        found = await verification(after(125))
        assert found.fault
        assert found.fault.number == 1
        assert found.fault.sentence.endswith("there is no anchor at all")
        anchors.write_text(anchors.with_name("hidden").read_text().replace("access", "routing"))  # noqa: ASYNC240


async def test_it_verifies_a_part_at_a_time_holds_no_connection_and_says_how_far_it_is(
    servers: EmbeddedServers, anchors: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "BATCH", 10)
    monkeypatch.setattr(sealing, "PROGRESS_EVERY", 20)
    async with a_database(servers, pool_size=1) as database:
        trail = a_trail(database, anchors)
        await write(database, *map(str, range(50)))
        while await trail.turn():
            pass
        told = []
        async for found in trail.verify_audit():
            told.append((found.verified, found.done))
            await write(database, "meanwhile")
        assert [(20, False), (40, False), (50, True)] == told
        assert 53 == len(await numbered(database))


# Append-only


REFUSED = (
    "update audit_rows set actor = 'bob' where number = 7",
    "update audit_rows set number = 700 where number = 7",
    "update audit_rows set number = null, seal = null where number = 20",
    "update audit_rows set seal = sha256('x') where number = 7",
    "update audit_rows set actor = 'bob' where number is null",
    "update audit_rows set number = 21, seal = sha256('x'), actor = 'bob' where number is null",
    "delete from audit_rows where number = 7",
    "delete from audit_rows where number is null",
    "truncate audit_rows",
    """
    insert into audit_rows (at, actor, action, object, outcome, detail, number, seal)
    values (now(), 'a', 'b', 'c', 'done', '{}', 21, 'x')
    """,
)


@pytest.mark.proves("SEC-15", part="append-only")
async def test_the_database_refuses_whatever_is_not_adding_or_sealing_once(
    database: Database[Ledger], sealed: AuditTrail[Ledger]
) -> None:
    await write(database, "waits")
    for sql in REFUSED:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="only ever added"):
            await execute(database, sql)
    assert SEALED + 1 == len(await numbered(database))
    assert (await verification(sealed)).fault is None


# Anchors


@pytest.mark.proves("SEC-15", part="anchored each minute")
async def test_the_head_is_anchored_once_in_a_while_if_it_moved(
    database: Database[Ledger], anchors: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sealing.ANCHOR_EVERY_S <= 60
    trail = a_trail(database, anchors, anchor_every_s=0.6)
    async with running(trail.seal):
        for count in range(1, 5):
            await write(database, str(count))
            await eventually(lambda: is_sealed(database, str(count)))  # noqa: B023 - awaited here
        await eventually(lambda: anchored(anchors)[-1:] == [4])
        lines = len(anchored(anchors))
        assert 2 <= lines <= 4
        await asyncio.sleep(1)
        assert lines == len(anchored(anchors)), "nothing moved"
    assert 0o600 == stat.S_IMODE(anchors.stat().st_mode)  # noqa: ASYNC240
    line = json.loads(anchors.read_text().splitlines()[-1])  # noqa: ASYNC240
    assert {"service", "number", "seal", "at"} == line.keys()
    assert ("access", 4, 64) == (line["service"], line["number"], len(line["seal"]))
    logged = [json.loads(each) for each in capsys.readouterr().err.splitlines() if "audit anchor" in each]
    assert {("access", 4, line["seal"])} == {
        (each["service"], each["number"], each["seal"]) for each in logged if each["number"] == 4
    }


async def test_a_line_that_was_cut_off_spoils_no_other(database: Database[Ledger], anchors: Path) -> None:
    trail = a_trail(database, anchors)
    await write(database, "a")
    await trail.turn()
    with anchors.open("a") as file:
        file.write('{"service":"access","numb')
    await write(database, "b")
    async with running(a_trail(database, anchors).seal):
        await eventually(lambda: anchors.read_text().count("\n") >= 3)
    found = await verification(trail)
    assert (2, None) == (found.verified, found.fault)
    assert 2 <= found.anchors <= 3


async def test_rows_are_sealed_while_they_cannot_be_anchored_and_anchored_when_they_can(
    database: Database[Ledger], tmp_path: Path
) -> None:
    anchors = tmp_path / "volume" / "anchors"
    trail = a_trail(database, anchors)
    async with running(trail.seal):
        await write(database, "a")
        await eventually(lambda: all_sealed(database))
        await write(database, "b")
        await eventually(lambda: all_sealed(database))
        anchors.parent.mkdir()
        await eventually(lambda: anchored(anchors) == [2])


async def test_a_row_without_zone_or_in_another_is_the_same_row(
    database: Database[Ledger], sealed: AuditTrail[Ledger]
) -> None:
    async with database.statements() as statements:
        name = await statements.connection.fetchval("select current_database()")
    await execute(
        database,
        f"alter database {name} set timezone = 'Asia/Tokyo'; alter database {name} set datestyle = 'German'",
    )
    async with another_connection(database):
        assert (await verification(sealed)).fault is None


@asynccontextmanager
async def another_connection(database: Database[Ledger]) -> AsyncIterator[None]:
    """The settings of a database hold for connections made after them."""
    while database._idle:
        await database._idle.pop().close()
    async with database.statements() as statements:
        assert "Asia/Tokyo" == await statements.connection.fetchval("show timezone")
    yield


def test_a_batch_is_small_and_a_seal_in_time() -> None:
    assert BATCH <= 1000
    assert timedelta(seconds=2 * sealing.SEAL_EVERY_S) < timedelta(seconds=1)
