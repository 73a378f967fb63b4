"""What the queue remembers, on SQLite."""

import asyncio
import os
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway import refusalstore
from gateway.folder import Folder
from gateway.heartbeat import Heartbeat
from gateway.queue import DELETED, OLDEST, Item, Outcome, State, Transfer
from gateway.refusals import Kind, Refusal
from gateway.refusalstore import KEPT_AUDIT_ROWS, AuditRow
from gateway.store import Store
from gateway.uptime import Uptime
from kernel.dicom import UID, AETitle
from kernel.errors import NotFound, Unavailable
from kernel.ids import UUID7
from tests.ingest.builders import a_uid

STUDY, TITLE = UID("1.2.3"), AETitle("RIVERSIDE")


class HandClock:
    def __init__(self) -> None:
        self.time = datetime(2026, 11, 21, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def move(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


class Machine:
    """How long it has been up, and in which boot."""

    def __init__(self) -> None:
        self.up_s = 1_000.0
        self.boots = 0

    def reboot(self) -> None:
        self.boots += 1
        self.up_s = 5.0

    @property
    def uptime(self) -> Uptime:
        return Uptime(f"boot {self.boots}", lambda: self.up_s)


@pytest.fixture
def machine() -> Machine:
    return Machine()


def opened(folder: Path, clock: HandClock, machine: Machine) -> Store:
    return Store(
        folder / "gateway.db",
        clock=clock,
        uptime=machine.uptime,
        new_id=UUID7(clock),
        spend=lambda: False,
    )


@pytest.fixture
def store(tmp_path: Path, clock: HandClock, machine: Machine) -> Iterator[Store]:
    one = opened(tmp_path, clock, machine)
    yield one
    one.close()


async def test_what_central_server_did_not_hear_is_told_again_within_the_minute(store: Store) -> None:
    tried = 0

    async def tell(version: str, waiting: int, oldest: timedelta | None) -> bool:
        nonlocal tried
        tried += 1
        if tried == 1:
            raise Unavailable("of the test")
        return True

    renewed = asyncio.Event()

    async def renew() -> None:
        renewed.set()

    beating = asyncio.create_task(Heartbeat(store, tell, renew, lambda: "", again_s=0.01).run())
    try:
        async with asyncio.timeout(10):
            await renewed.wait()
    finally:
        beating.cancel()
    assert 2 == tried


def an_item(uid: str | None = None, sha256: str = "ab" * 32) -> Item:
    return Item(UID(uid or a_uid()), sha256, UID("1.2.840.10008.5.1.4.1.1.2"), UID("1.2.840.10008.1.2.1"))


def claimed(store: Store) -> Transfer:
    transfer = store.claim()
    assert transfer is not None
    return transfer


def acknowledge(store: Store, transfer: Transfer) -> State | None:
    for item in store.waiting(transfer.id):
        store.answered(transfer.id, item, Outcome.ACKNOWLEDGED, 0, "")
    return store.finish(transfer)


def test_a_commit_is_on_the_disk_when_it_returns(store: Store) -> None:
    # 2 is FULL: the write-ahead log is synced at each commit.
    assert store._connection.execute("pragma synchronous").fetchone() == (2,)
    assert store._connection.execute("pragma journal_mode").fetchone() == ("wal",)


def modes(folder: Path) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in folder.glob("gateway.db*")}


def test_nobody_else_reads_the_database_not_even_one_of_the_version_before(
    tmp_path: Path, clock: HandClock, machine: Machine
) -> None:
    umask = os.umask(0o022)
    try:
        with closing(sqlite3.connect(tmp_path / "gateway.db")) as earlier:
            earlier.execute("pragma journal_mode = wal")
            earlier.execute("create table kept (id integer)")
            assert modes(tmp_path) == {0o644}
            with closing(opened(tmp_path, clock, machine)) as store:
                store.keep(an_item(), STUDY, TITLE)
                assert modes(tmp_path) == {0o600}
        (tmp_path / "new").mkdir()
        with closing(opened(tmp_path / "new", clock, machine)) as store:
            store.keep(an_item(), STUDY, TITLE)
            assert modes(tmp_path / "new") == {0o600}
    finally:
        os.umask(umask)


def test_instances_of_a_study_join_its_open_transfer(store: Store) -> None:
    items = [an_item() for _ in range(3)]
    for item in items:
        store.keep(item, STUDY, TITLE)
    transfer = claimed(store)
    assert list(store.waiting(transfer.id)) == items
    late = an_item()
    store.keep(late, STUDY, TITLE)
    assert list(store.waiting(transfer.id)) == [*items, late]
    assert store.claim() is None


def test_it_knows_how_many_transfers_are_open_and_how_old_the_oldest_is(
    store: Store, clock: HandClock
) -> None:
    assert store.open_transfers() == (0, None)
    store.keep(an_item(), STUDY, TITLE)
    clock.move(60)
    store.keep(an_item(), UID("1.2.4"), TITLE)
    assert store.open_transfers() == (2, timedelta(seconds=60))
    acknowledge(store, claimed(store))
    assert store.open_transfers() == (1, timedelta())
    clock.move(-3600)
    assert store.open_transfers() == (1, timedelta()), "a clock that was set back makes nothing negative"


def test_the_same_instance_twice_is_one_item(store: Store) -> None:
    item = an_item()
    store.keep(item, STUDY, TITLE)
    store.keep(item, STUDY, TITLE)
    assert list(store.waiting(claimed(store).id)) == [item]


@pytest.mark.proves("GWY-20", part="a queue of its own for each calling AE title")
def test_a_study_under_two_titles_is_two_transfers(store: Store) -> None:
    store.keep(an_item("1.2"), STUDY, AETitle("RIVERSIDE"))
    store.keep(an_item("1.2"), STUDY, AETitle("HARBOUR"))
    assert {claimed(store).calling_ae_title, claimed(store).calling_ae_title} == {"RIVERSIDE", "HARBOUR"}


def test_a_receipt_after_the_end_makes_a_new_transfer(store: Store) -> None:
    item = an_item()
    store.keep(item, STUDY, TITLE)
    first = claimed(store)
    assert acknowledge(store, first) is State.DONE
    store.keep(item, STUDY, TITLE)
    second = claimed(store)
    assert second.id != first.id
    assert list(store.waiting(second.id)) == [item]


def test_a_receipt_after_a_refusal_makes_a_new_transfer_that_waits_its_turn(store: Store) -> None:
    refused, other, again = an_item(), an_item(), an_item()
    store.keep(refused, STUDY, TITLE)
    store.keep(other, STUDY, TITLE)
    first = claimed(store)
    store.answered(first.id, refused, Outcome.REFUSED, 0xC123, "deleted")
    store.keep(again, STUDY, TITLE)
    assert list(store.waiting(first.id)) == [other]
    assert store.claim() is None  # one association of a study at a time
    assert acknowledge(store, first) is State.FAILED
    assert list(store.waiting(claimed(store).id)) == [again]
    (row,) = store.refused()
    assert (row.sop_instance_uid, row.status, row.comment) == (refused.sop_instance_uid, 0xC123, "deleted")


def test_a_receipt_of_what_was_acknowledged_in_an_open_transfer_is_sent_again(store: Store) -> None:
    item, other = an_item(), an_item()
    store.keep(item, STUDY, TITLE)
    store.keep(other, STUDY, TITLE)
    transfer = claimed(store)
    store.answered(transfer.id, item, Outcome.ACKNOWLEDGED, 0, "")
    store.keep(item, STUDY, TITLE)
    assert set(store.waiting(transfer.id)) == {item, other}


def test_a_transfer_does_not_end_while_an_item_waits(store: Store) -> None:
    store.keep(an_item(), STUDY, TITLE)
    transfer = claimed(store)
    assert store.finish(transfer) is None


def test_an_interrupted_transfer_waits_for_its_pause_and_keeps_its_id(store: Store, machine: Machine) -> None:
    store.keep(an_item(), STUDY, TITLE)
    transfer = claimed(store)
    store.interrupted(transfer, "Central server is away", 10)
    assert store.failures(transfer.id) == 1
    assert store.claim() is None
    assert store.due_in_s() == pytest.approx(10)
    machine.up_s += 10
    assert claimed(store).id == transfer.id
    (row,) = store.queue()
    assert (row.reason, row.waiting) == ("Central server is away", 1)


def test_an_acknowledgement_ends_the_row_of_failures(store: Store) -> None:
    items = an_item(), an_item()
    for item in items:
        store.keep(item, STUDY, TITLE)
    transfer = claimed(store)
    store.interrupted(transfer, "away", 0)
    transfer = claimed(store)
    store.answered(transfer.id, items[0], Outcome.ACKNOWLEDGED, 0, "")
    assert store.failures(transfer.id) == 0


def test_the_oldest_study_goes_first_and_others_do_not_wait_for_it(store: Store, clock: HandClock) -> None:
    for number in range(3):
        store.keep(an_item(), UID(f"1.2.{number}"), TITLE)
        clock.move(1)
    order = [claimed(store).study_instance_uid for _ in range(3)]
    assert order == ["1.2.0", "1.2.1", "1.2.2"]


@pytest.mark.parametrize("step_s", [300 * 86_400, -300 * 86_400])
def test_no_step_of_the_wall_clock_makes_a_pause_longer(
    store: Store, clock: HandClock, machine: Machine, step_s: float
) -> None:
    store.keep(an_item(), STUDY, TITLE)
    store.interrupted(claimed(store), "Central server is away", 10)
    clock.move(step_s)
    assert store.due_in_s() == pytest.approx(10)
    machine.up_s += 10
    assert store.claim() is not None


def test_after_a_restart_nothing_waits_for_a_pause_of_an_earlier_boot(
    store: Store, tmp_path: Path, clock: HandClock, machine: Machine
) -> None:
    store.keep(an_item(), STUDY, TITLE)
    machine.up_s = 1e6
    store.interrupted(claimed(store), "Central server is away", 10)
    machine.reboot()
    again = opened(tmp_path, clock, machine)
    again.recover()
    assert claimed(again).aged.seconds == pytest.approx(1e6 - 1_000)
    again.close()


def test_what_came_last_is_told_by_the_order_of_receipt_and_not_by_a_clock(
    store: Store, clock: HandClock
) -> None:
    old, new = an_item("1.2", "aa" * 32), an_item("1.2", "bb" * 32)
    store.keep(old, STUDY, TITLE)
    clock.move(-10_000)
    store.keep(new, STUDY, TITLE)
    while transfer := store.claim():
        acknowledge(store, transfer)
    store.export([STUDY])
    assert list(store.waiting(claimed(store).id)) == [new]
    store.keep(old, STUDY, TITLE)
    clock.move(-10_000)
    store.keep(old, STUDY, TITLE)
    before = {row.transfer.id for row in store.queue()}
    store.export([STUDY])
    (exported,) = {row.transfer.id for row in store.queue()} - before
    assert list(store.waiting(exported)) == [old]


def test_a_queue_of_the_first_version_goes_on(tmp_path: Path, clock: HandClock, machine: Machine) -> None:
    first = Path("gateway/migrations/0001_queue.sql").read_text()
    transfer_id = UUID7(clock)()
    with closing(sqlite3.connect(tmp_path / "gateway.db")) as sql:
        sql.executescript(first)
        sql.execute(
            "insert into transfers (id, study_instance_uid, calling_ae_title, created_at, state,"
            " next_attempt_at) values (?, ?, ?, ?, 'waiting', ?)",
            (str(transfer_id), STUDY, TITLE, clock.now().timestamp() - 60, clock.now().timestamp() + 30),
        )
        sql.execute(
            "insert into items (transfer_id, sop_instance_uid, sha256, sop_class_uid, transfer_syntax_uid,"
            " received_at) values (?, '1.2', 'ab', '1', '1', 0)",
            (str(transfer_id),),
        )
        sql.commit()
    store = opened(tmp_path, clock, machine)
    store.recover()
    transfer = claimed(store)
    assert (transfer.id, transfer.age(clock.now())) == (transfer_id, timedelta(seconds=60))
    assert [item.sha256 for item in store.waiting(transfer.id)] == ["ab"]
    assert transfer.age(clock.now() - timedelta(days=1)) == OLDEST  # nobody can tell
    store.close()


def test_after_a_restart_what_was_being_sent_waits_again(
    store: Store, tmp_path: Path, clock: HandClock, machine: Machine
) -> None:
    store.keep(an_item(), STUDY, TITLE)
    transfer = claimed(store)
    again = opened(tmp_path, clock, machine)
    assert again.claim() is None
    assert again.recover() == 1
    assert claimed(again) == transfer
    again.close()


def test_audit_rows_of_each_action_are_kept_up_to_a_limit(store: Store, clock: HandClock) -> None:
    def row(action: str, number: int) -> AuditRow:
        return AuditRow(clock.now(), action, "refused", "l", f"r{number}", "a", "b", "why")

    store.audit(row("association.refused", 0))
    with store._transaction() as sql:
        sql.execute(
            "with recursive n(x) as (select 1 union all select x + 1 from n where x < ?)"
            " insert into audit_rows (at, action, outcome, listener, remote, calling_ae_title,"
            " called_ae_title, reason)"
            " select 0, 'handshake.refused', 'refused', 'l', 'r', '', '', 'noise' from n",
            (KEPT_AUDIT_ROWS + 998,),
        )
    store.audit(row("handshake.refused", 1))  # the 101,000th row: time to prune
    counts = dict(store._connection.execute("select action, count(*) from audit_rows group by action"))
    assert counts == {"association.refused": 1, "handshake.refused": KEPT_AUDIT_ROWS}


def refusal(kind: Kind, uid: str = "", cause: str = "C002") -> Refusal:
    return Refusal(kind, cause, "127.0.0.1:11112", "10.1.2.3", "CT1", "RIVERSIDE", uid, "why")


@pytest.mark.proves("BEY-7", part="rows of one kind never push another kind out of the gateway's list")
def test_refusals_of_one_kind_push_no_other_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusalstore, "KEPT_ROWS", 3)
    store.refuse([refusal(Kind.INSTANCE, "1.2.1")])
    for number in range(10):
        store.refuse([refusal(Kind.HANDSHAKE, str(number))])
    assert [row.refusal.uid for row in store.refusals(Kind.INSTANCE)] == ["1.2.1"]
    assert len(store.refusals(Kind.HANDSHAKE)) == 3
    assert store.refusal_totals() == {(Kind.INSTANCE, "C002"): 1, (Kind.HANDSHAKE, "C002"): 10}


def test_what_is_refused_again_is_one_row_that_counts(store: Store, clock: HandClock) -> None:
    store.refuse([refusal(Kind.INSTANCE, "1.2.1"), refusal(Kind.CONTEXT, "1.3")])
    began = clock.now()
    clock.move(3600)
    store.refuse(
        [refusal(Kind.INSTANCE, "1.2.1"), refusal(Kind.CONTEXT, "1.3"), refusal(Kind.CONTEXT, "1.4")]
    )
    (row,) = store.refusals(Kind.INSTANCE)
    assert (row.times, row.last_at - row.first_at) == (2, timedelta(hours=1))
    assert abs(row.first_at - began) < timedelta(seconds=1)
    assert store.refused_classes(5) == [("1.3", 2), ("1.4", 1)]


def test_other_bytes_under_a_uid_are_another_transfer(store: Store, clock: HandClock) -> None:
    """A corrected study must not share the fate of the old one's transfer (A26)."""
    old, new = an_item("1.5"), an_item("1.5", "cd" * 32)
    store.keep(old, STUDY, TITLE)
    clock.move(1)
    store.keep(new, STUDY, TITLE)
    rest = an_item()
    store.keep(rest, STUDY, TITLE)
    store.keep(old, STUDY, TITLE)
    first = claimed(store)
    assert list(store.waiting(first.id)) == [old]
    store.refuse_waiting(first.id, DELETED, "deleted")
    assert store.finish(first, "deleted") is State.FAILED
    second = claimed(store)
    assert list(store.waiting(second.id)) == [new, rest]


@pytest.mark.proves("GWY-13", part="what is exported")
def test_export_is_a_new_transfer_of_what_came_last(store: Store, clock: HandClock) -> None:
    old, kept, new = an_item("1.5"), an_item("1.6"), an_item("1.5", "cd" * 32)
    for item in (old, kept, new):
        clock.move(1)
        store.keep(item, STUDY, TITLE)
    store.keep(kept, STUDY, AETitle("HARBOUR"))
    for _ in range(3):
        acknowledge(store, claimed(store))
    (first, second) = store.kept()
    assert (first.study_instance_uid, second.study_instance_uid) == (STUDY, STUDY)
    assert {(row.calling_ae_title, row.instances) for row in (first, second)} == {(TITLE, 2), ("HARBOUR", 1)}
    clock.move(60)
    assert store.export([STUDY]) == [[("HARBOUR", 1), (TITLE, 2)]]
    exported = {transfer.calling_ae_title: transfer for transfer in (claimed(store), claimed(store))}
    assert {transfer.created_at for transfer in exported.values()} == {clock.now()}
    assert list(store.waiting(exported[TITLE].id)) == [kept, new]
    assert [row.action for row in store.audit_rows()] == ["study.exported"]


def test_nothing_is_exported_if_one_study_is_not_kept(store: Store) -> None:
    store.keep(an_item(), STUDY, TITLE)
    acknowledge(store, claimed(store))
    with pytest.raises(NotFound, match=r"1\.2\.4"):
        store.export([STUDY, UID("1.2.4")])
    assert store.claim() is None


def test_a_study_that_waits_costs_each_further_instance_the_same(store: Store) -> None:
    """The plan says it: no step looks at all items of the transfer, or at all transfers."""
    asked: list[str] = []
    store.keep(an_item(), STUDY, TITLE)
    store._connection.set_trace_callback(asked.append)
    store.keep(an_item(), STUDY, TITLE)
    store.claim()
    store._connection.set_trace_callback(None)
    for statement in (each for each in asked if each.lstrip().startswith("select")):
        plan = [row[3] for row in store._connection.execute(f"explain query plan {statement}")]
        assert not [step for step in plan if step.startswith("SCAN") and "transfers_by_age" not in step], plan
        assert not [step for step in plan if step.endswith("(transfer_id=?)") and "refused" not in step], plan


def test_files_without_a_row_are_found_while_others_are_being_filed(store: Store, tmp_path: Path) -> None:
    folder = Folder(tmp_path / "spool")

    def laid(byte: str) -> str:
        digest = byte * 32
        (tmp_path / "spool" / "objects" / byte / digest).write_bytes(b"x")
        return digest

    kept, filed, late, orphan = map(laid, ("ab", "cd", "ef", "ee"))
    store.keep(an_item(sha256=kept), STUDY, TITLE)
    asked: list[str] = []

    def unknown(digests: Sequence[str]) -> Sequence[str]:
        found = store.unknown(digests)
        asked.extend(digests)
        if late in digests and asked.count(late) == 1:
            store.keep(
                an_item(sha256=late), STUDY, TITLE
            )  # its row is committed just after it was looked for
        return found

    with folder.filing(filed):
        assert folder.clean(unknown) == 1
    assert {path.name for path in (tmp_path / "spool" / "objects").glob("??/*")} == {kept, filed, late}
    assert orphan in asked
