"""Which studies leave the spool, and what never does."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.disk import MARGIN_BYTES, Disk
from gateway.folder import Folder
from gateway.queue import Item, Outcome
from gateway.retention import DAY_S, Forwarded, Retention, Terms, leaving
from gateway.store import Store
from gateway.uptime import Uptime
from kernel.clock import MonotonicClock
from kernel.dicom import UID, AETitle
from kernel.ids import UUID7
from tests.ingest.builders import a_uid

TITLE = AETitle("RIVERSIDE")
A_MONTH = Terms(keep_days=30, keep_at_least_days=3, keep_at_most_bytes=None)
CONFLICT, CANNOT_UNDERSTAND, DELETED = 0xC111, 0xC003, 0xC113


def a_study(number: int, *, kept_days: float, size_bytes: int = 10) -> Forwarded:
    return Forwarded(UID(f"1.2.{number}"), TITLE, kept_days * DAY_S, size_bytes)


def test_what_is_old_leaves_and_the_rest_stays() -> None:
    old, young = a_study(1, kept_days=31), a_study(2, kept_days=29)
    assert list(leaving([young, old], A_MONTH, 20, 0)) == [old]


def test_above_the_limit_the_longest_kept_leave_first_and_no_more_than_needed() -> None:
    studies = [a_study(number, kept_days=20 - number) for number in range(5)]
    terms = Terms(keep_days=30, keep_at_least_days=3, keep_at_most_bytes=30)
    assert list(leaving(studies, terms, 50, 0)) == studies[:2]
    assert list(leaving(studies, A_MONTH, 50, 25)) == studies[:3]


@given(
    st.lists(st.tuples(st.floats(0, 100), st.integers(0, 1000)), max_size=20),
    st.floats(0, 60),
    st.floats(0, 60),
    st.none() | st.integers(0, 5000),
    st.integers(0, 10_000),
)
def test_nothing_leaves_within_the_least_days_and_what_is_old_always_does(
    studies: list[tuple[float, int]], keep: float, at_least: float, at_most: int | None, lacking: int
) -> None:
    known = [a_study(number, kept_days=days, size_bytes=size) for number, (days, size) in enumerate(studies)]
    terms = Terms(keep, at_least, at_most)
    gone = set(leaving(known, terms, sum(size for _, size in studies), lacking))
    for study in known:
        if study.kept_s < at_least * DAY_S:
            assert study not in gone
        elif study.kept_s >= keep * DAY_S:
            assert study in gone


@dataclass
class Spool:
    """A store, a folder and a time of their own, without a gateway."""

    root: Path

    def __post_init__(self) -> None:
        clock = MonotonicClock()
        self.passed_s = 0.0
        self.disk = Disk(self.root, reserve_bytes=4096)
        self.disk.tend()
        self.folder = Folder(self.root)
        self.store = Store(
            self.root / "gateway.db",
            clock=clock,
            uptime=Uptime("boot", lambda: self.passed_s),
            new_id=UUID7(clock),
            spend=self.disk.spend,
        )

    def retention(self, terms: Terms = A_MONTH) -> Retention:
        return Retention(self.store, self.folder, self.disk, terms, seconds=lambda: self.passed_s)

    def receive(self, study: UID, content: bytes) -> Item:
        incoming = self.folder.receive()
        incoming.write(memoryview(content))
        item = Item(UID(a_uid()), incoming.sha256, UID("1"), UID("1"), len(content))
        with self.folder.filing(item.sha256):
            incoming.keep()
            self.store.keep(item, study, TITLE)
        return item

    def forward(self, *, refuse: int | None = None) -> None:
        """Brings every transfer to its end, each item acknowledged or refused with this status."""
        while transfer := self.store.claim():
            for item in self.store.waiting(transfer.id):
                outcome = Outcome.ACKNOWLEDGED if refuse is None else Outcome.REFUSED
                self.store.answered(transfer.id, item, outcome, refuse or 0, "")
            self.store.finish(transfer)

    def pass_days(self, retention: Retention, days: float) -> int:
        self.passed_s += days * DAY_S
        return retention.sweep()

    def files(self) -> set[str]:
        return {path.name for path in self.root.glob("objects/??/*")}


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool(tmp_path)
    yield made
    made.store.close()


def test_a_study_leaves_with_rows_and_files_after_its_days(spool: Spool) -> None:
    retention = spool.retention()
    items = [spool.receive(UID("1.2"), bytes([number])) for number in range(3)]
    spool.forward()
    assert spool.pass_days(retention, 29) == 0
    assert spool.files() == {item.sha256 for item in items}
    assert spool.pass_days(retention, 1) == 1
    assert spool.files() == set()
    assert list(spool.store.kept()) == []
    assert list(spool.store.queue()) == []


@pytest.mark.parametrize("status", [CONFLICT, CANNOT_UNDERSTAND, DELETED])
def test_what_was_refused_never_leaves_and_keeps_its_study(spool: Spool, status: int) -> None:
    retention = spool.retention()
    good = spool.receive(UID("1.2"), b"good")
    spool.forward()
    bad = spool.receive(UID("1.2"), b"bad")
    spool.forward(refuse=status)
    assert spool.pass_days(retention, 1000) == 0
    assert spool.files() == {good.sha256, bad.sha256}


def test_what_waits_never_leaves(spool: Spool) -> None:
    retention = spool.retention()
    spool.receive(UID("1.2"), b"sent")
    spool.forward()
    spool.store.export([UID("1.2")])
    assert spool.pass_days(retention, 1000) == 0
    spool.forward()
    assert spool.pass_days(retention, 1000) == 1


def test_a_file_that_another_study_has_stays(spool: Spool) -> None:
    retention = spool.retention()
    first = spool.receive(UID("1.2"), b"the same")
    spool.forward()
    spool.pass_days(retention, 20)
    second = spool.receive(UID("1.3"), b"the same")
    spool.forward()
    assert first.sha256 == second.sha256
    assert spool.pass_days(retention, 11) == 1
    assert spool.files() == {second.sha256}


def test_what_arrives_while_its_old_copy_leaves_keeps_its_file(spool: Spool) -> None:
    """The file has its name and the row is not committed yet when the study of the old copy leaves."""
    retention = spool.retention()
    old = spool.receive(UID("1.2"), b"again")
    spool.forward()
    incoming = spool.folder.receive()
    incoming.write(memoryview(b"again"))
    with spool.folder.filing(incoming.sha256):
        incoming.keep()
        sweeping = threading.Thread(target=spool.pass_days, args=(retention, 31))
        sweeping.start()
        sweeping.join(10)
        spool.store.keep(Item(UID("1.5"), incoming.sha256, UID("1"), UID("1"), 5), UID("1.2"), TITLE)
    assert spool.files() == {old.sha256}
    assert [row.waiting for row in spool.store.queue()] == [1]


def test_sizes_that_the_version_before_did_not_keep_are_looked_up(spool: Spool) -> None:
    spool.receive(UID("1.2"), b"twelve bytes")
    spool.store._connection.execute("update items set size_bytes = null")
    spool.retention().sweep()
    assert spool.store.taken_bytes() == 12


def test_a_restart_forgets_no_day_that_was_counted(spool: Spool) -> None:
    spool.receive(UID("1.2"), b"kept")
    spool.forward()
    spool.pass_days(spool.retention(), 20)
    assert spool.pass_days(spool.retention(), 9) == 0
    assert spool.pass_days(spool.retention(), 1) == 1


def test_a_reserve_that_was_spent_stops_receiving_until_it_is_whole(spool: Spool) -> None:
    assert spool.disk.has_room
    assert spool.disk.spend()
    assert not spool.disk.spend()
    assert spool.disk.lacking_bytes > 0
    with pytest.raises(OSError, match=r"the disk of .* is full"):
        spool.disk.must_have_room()
    spool.disk.tend()
    spool.disk.must_have_room()
    assert spool.disk.lacking_bytes == 0
    assert spool.disk.held_bytes == 4096
    assert MARGIN_BYTES < spool.disk.free_bytes < spool.disk.total_bytes
