# ruff: noqa: S608  statements are put together from constants of this file
"""Retention: which studies leave the spool, and when.

A study leaves as a whole, and only when Central server acknowledged every instance of it in every transfer:
what was refused (C111, C003, C113) waits for a person, and a part of a study must never be exported as all
of it. It leaves after `keep_days`; earlier, the longest kept first, while all studies take more than
`keep_at_most_bytes` or the disk has no room; never within `keep_at_least_days`. Days are counted while the
gateway runs, not read from a clock that may be set wrong.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from gateway.database import Database, from_the_reserve
from gateway.disk import Disk
from gateway.folder import Folder
from kernel.dicom import UID, AETitle
from plumbing import log

DAY_S = 24 * 3600.0
LOOK_S = 2.0
"""How often the disk is looked at."""
SWEEP_S, SWEEP_WITHOUT_ROOM_S = 600.0, 5.0
"""How often the studies are looked through; a gateway that ends in between forgets the time since then."""
_STOP_S = 3.0
_SIZED_AT_ONCE = 1_000

_OF_IT = "select id from transfers where study_instance_uid = ? and calling_ae_title = ?"

_log = log.get()


@dataclass(frozen=True, slots=True)
class Terms:
    """How long acknowledged studies stay.

    Attributes:
        keep_days: after this many, a study leaves.
        keep_at_least_days: before this many, none does.
        keep_at_most_bytes: above this, the longest kept leave earlier; None for no limit.
    """

    keep_days: float
    keep_at_least_days: float
    keep_at_most_bytes: int | None


@dataclass(frozen=True, slots=True)
class Forwarded:
    """A study of which everything is acknowledged, under the title that it came under.

    Attributes:
        kept_s: for how long so, while the gateway ran.
        size_bytes: of its files.
    """

    study_instance_uid: UID
    calling_ae_title: AETitle
    kept_s: float
    size_bytes: int


def leaving(
    studies: Sequence[Forwarded], terms: Terms, taken_bytes: int, lacking_bytes: int
) -> Iterator[Forwarded]:
    """Yield the studies that leave now. `lacking_bytes` must become free for receiving to go on."""
    excess = 0 if terms.keep_at_most_bytes is None else taken_bytes - terms.keep_at_most_bytes
    to_free = max(excess, lacking_bytes)
    for study in sorted(studies, key=lambda each: -each.kept_s):
        is_old = study.kept_s >= terms.keep_days * DAY_S
        if study.kept_s < terms.keep_at_least_days * DAY_S or not (is_old or to_free > 0):
            return
        to_free -= study.size_bytes
        yield study


class RetentionStore(Database):
    """The SQL of retention."""

    @from_the_reserve
    def note_time(self, passed_s: float) -> None:
        """Count time for every transfer that is done."""
        with self._transaction() as sql:
            sql.execute("update transfers set kept_s = kept_s + ? where state = 'done'", (passed_s,))

    def unsized(self) -> Sequence[str]:
        """Return digests of files whose size nobody has looked up."""
        with self._lock:
            rows = self._connection.execute(
                "select distinct sha256 from items where size_bytes is null limit ?", (_SIZED_AT_ONCE,)
            ).fetchall()
        return [row[0] for row in rows]

    @from_the_reserve
    def note_sizes(self, sizes: Sequence[tuple[int, str]]) -> None:
        """Keep the sizes of files, each with its digest."""
        with self._transaction() as sql:
            sql.executemany("update items set size_bytes = ? where sha256 = ? and size_bytes is null", sizes)

    def taken_bytes(self) -> int:
        """Return what all files take."""
        with self._lock:
            row = self._connection.execute(
                "select coalesce(sum(size_bytes), 0) from (select max(size_bytes) as size_bytes from items"
                " group by sha256)"
            ).fetchone()
        return int(row[0])

    def forwarded(self) -> Sequence[Forwarded]:
        """Return the studies of which everything is acknowledged."""
        with self._lock:
            rows = self._connection.execute(
                """
                select study_instance_uid, calling_ae_title, min(kept_s), coalesce(sum(size_bytes), 0)
                from (
                    select study_instance_uid, calling_ae_title, sha256, min(kept_s) as kept_s,
                        max(size_bytes) as size_bytes,
                        min(state = 'done' and outcome = 'acknowledged') as done
                    from transfers t join items i on i.transfer_id = t.id
                    group by study_instance_uid, calling_ae_title, sha256
                )
                group by study_instance_uid, calling_ae_title having min(done)
                """
            ).fetchall()
        return [Forwarded(UID(row[0]), AETitle(row[1]), row[2], row[3]) for row in rows]

    @from_the_reserve
    def forget(self, study: Forwarded) -> Sequence[str]:
        """Remove a study's rows if still everything of it is acknowledged.

        Return the digests that no other study has: their files may go.
        """
        with self._transaction() as sql:
            key = (study.study_instance_uid, study.calling_ae_title)
            waits = f"""
                select exists ({_OF_IT} and state <> 'done') or exists (
                    select 1 from items where transfer_id in ({_OF_IT}) and outcome <> 'acknowledged')
            """
            if sql.execute(waits, (*key, *key)).fetchone()[0]:
                return []
            digests = sql.execute(
                f"""
                select distinct sha256 from items i where transfer_id in ({_OF_IT}) and not exists (
                    select 1 from items o where o.sha256 = i.sha256 and o.transfer_id not in ({_OF_IT}))
                """,
                (*key, *key),
            ).fetchall()
            sql.execute(f"delete from items where transfer_id in ({_OF_IT})", key)
            for table in ("transfers", "studies"):
                sql.execute(f"delete from {table} where study_instance_uid = ? and calling_ae_title = ?", key)
            return [row[0] for row in digests]


class Retention:
    """Looks after the spool until it is stopped; the log tells what left."""

    def __init__(
        self,
        store: RetentionStore,
        folder: Folder,
        disk: Disk,
        terms: Terms,
        *,
        begin: Callable[[], object] = lambda: None,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """`begin` is done once before all else; `seconds` answers how many have passed since some instant."""
        self._begin = begin
        self._store = store
        self._folder = folder
        self._disk = disk
        self._terms = terms
        self._seconds = seconds
        self._swept_at = seconds()
        self._stopped = threading.Event()
        self._worker = threading.Thread(target=self._work, name="retention", daemon=True)

    def start(self) -> None:
        self._worker.start()

    def stop(self) -> None:
        self._stopped.set()
        self._worker.join(_STOP_S)

    def sweep(self) -> int:
        """Remove what leaves now, and mend the reserve; return how many studies left."""
        now = self._seconds()
        self._store.note_time(now - self._swept_at)
        self._swept_at = now
        self._look_up_sizes()
        left = 0
        for study in leaving(
            self._store.forwarded(), self._terms, self._store.taken_bytes(), self._disk.lacking_bytes
        ):
            files = self._folder.remove(partial(self._store.forget, study))
            left += 1
            _log.info("a study left the spool", files=files, kept_days=round(study.kept_s / DAY_S, 1))
        self._disk.tend()
        return left

    def _look_up_sizes(self) -> None:
        while digests := self._store.unsized():
            self._store.note_sizes([(self._folder.size_bytes(digest), digest) for digest in digests])

    def _work(self) -> None:
        try:
            self._begin()
        except Exception:
            _log.exception("the spool cannot be looked through")
        while not self._stopped.wait(LOOK_S):
            try:
                self._disk.tend()
                passed_s = self._seconds() - self._swept_at
                if passed_s >= (SWEEP_S if self._disk.has_room else SWEEP_WITHOUT_ROOM_S):
                    self.sweep()
            except Exception:
                _log.exception("the spool cannot be swept")
