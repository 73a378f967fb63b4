"""Seals a service's audit rows, anchors the chain outside the database, and verifies both (SEC-15).

Rows are sealed in the order in which they became visible, within a second of their commit, by whichever
process of the service holds the lock; writing a row takes no lock and knows nothing of the chain. Each
minute the last number and its seal go into a file that only grows, and into the log: whoever may do anything
in the database, but has neither the key nor the file, cannot rewrite the chain nor shorten it unseen.
`docs/audit.md` says what that protects against.
"""

import asyncio
import hmac
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Generic, TypeVar

import asyncpg
from prometheus_client import Gauge

from kernel.clock import Clock
from kernel.errors import Unavailable
from plumbing import locks, log
from plumbing.anchors import AnchorFile
from plumbing.audit import CHAINED, AuditEntry, Chain, Link
from plumbing.config import ProcessSettings
from plumbing.db import Database, Transaction
from plumbing.locks import LockClass

SEAL_EVERY_S = 0.25
ANCHOR_EVERY_S = 60.0
SEALED_WITHIN = timedelta(minutes=1)
"""A row that waits longer for its seal is a fault: usually it waits for less than a second."""
ANCHORED_WITHIN = timedelta(minutes=2)
"""Rows of which none is anchored for longer are a fault: the first is anchored at once, or a minute late."""
BATCH = 500
"""Rows sealed or verified at once: a few milliseconds of computing."""
PROGRESS_EVERY = 20 * BATCH
"""Rows between two reports of a verification."""

SEALED = Gauge("readroom_audit_sealed", "Number of the last sealed audit row")
BROKEN = Gauge(
    "readroom_audit_broken", "Alert above 0: sealed audit rows are not as they were, so that none is sealed"
)
ANCHORED = Gauge("readroom_audit_anchored", "Number of the last audit row that is anchored")

_log = log.get()
T = TypeVar("T", bound=Transaction)


@dataclass(frozen=True, slots=True)
class Fault:
    """The first place where rows and seals, or rows and anchors, disagree."""

    number: int
    sentence: str


@dataclass(frozen=True, slots=True)
class Verification:
    """How far a verification is and what it found; the last fields are known when it is done.

    Attributes:
        verified: sealed rows that follow each other unchanged.
        anchors: anchors that agree with the rows.
        anchored_at: when the newest of them was written.
        unsealed: rows that wait for their seal, and since when.
    """

    verified: int = 0
    anchors: int = 0
    anchored_at: datetime | None = None
    done: bool = False
    fault: Fault | None = None
    unsealed: int = 0
    unsealed_since: datetime | None = None


class AuditTrail(Generic[T]):
    """The audit rows of one service as a chain."""

    def __init__(
        self,
        database: Database[T],
        service: str,
        settings: ProcessSettings,
        clock: Clock,
        *,
        anchor_every_s: float = ANCHOR_EVERY_S,
    ) -> None:
        self.service = service
        self._database = database
        self._chain = Chain(settings.audit_key.get_secret_value(), service)
        self._anchors = AnchorFile(settings.audit_anchor_file, service)
        self._clock = clock
        self._anchor_every_s = anchor_every_s
        self._anchored = self._chain.start
        self._known: Link | None = None
        self._fault: Fault | None = None
        self._anchored_at = -anchor_every_s
        self._waiting_for = ""

    def audited(self, actor: str, action: str, object_: str) -> AbstractAsyncContextManager[None]:
        """Audits a refusal of what is done within."""
        return self._database.audited(actor, action, object_)

    async def write(self, entry: AuditEntry) -> None:
        """An audit row of its own, for what changes nothing else."""
        async with self._database.statements() as transaction:
            await transaction.audit(entry)

    async def seal(self) -> None:
        """Seals and anchors until it is cancelled, whatever becomes of the database and the file."""
        while True:
            try:
                sealed = await self.turn()
            except (Unavailable, OSError) as error:
                self._note(error.sentence if isinstance(error, Unavailable) else str(error.strerror))
                sealed = 0
            else:
                self._note("")
            if sealed < BATCH:
                await asyncio.sleep(SEAL_EVERY_S)

    async def turn(self) -> int:
        """Seals the next rows, and anchors the last one where it is time; answers how many were sealed."""
        await self._database.audit_suppressed()
        sealed = await self._seal()
        await self._anchor()
        return sealed

    async def _seal(self) -> int:
        """Seals the next rows upon the last one known to be sealed, if nobody else does; answers how many."""
        if self._known is None:
            self._known = await asyncio.to_thread(self._anchors.last) or self._chain.start
        try:
            async with self._database.statements() as statements:
                self._known = await self._follow(statements, self._known)
                waiting = await statements.connection.fetchval(
                    "select exists (select from audit_rows where number is null)"
                )
            if not waiting:
                sealed = 0
            else:
                async with self._database.transaction() as transaction:
                    head, sealed = await self._seal_after(transaction, self._known)
                self._known = head
        except _Tampered as tampered:
            await self._alert(tampered.fault)
            return 0
        if self._fault is not None:
            self._fault = None
            _log.warning("sealed audit rows are again as they were sealed")
        BROKEN.set(0)
        SEALED.set(self._known.number)
        return sealed

    async def _seal_after(self, transaction: T, known: Link) -> tuple[Link, int]:
        """Seals the next rows; answers the last sealed one, and how many there were.

        The rows are read once more, under the lock: whoever may do anything in the database can change them
        while the sealer waits for it.
        """
        connection = transaction.connection
        if not await locks.try_hold(connection, LockClass.SEAL):
            return known, 0
        head = await self._follow(transaction, known)
        rows = await connection.fetch(
            f"select {CHAINED} from audit_rows where number is null order by id limit $1",  # noqa: S608
            BATCH,
        )
        links = []
        for row in rows:
            head = self._chain.after(head, row)
            links.append(head)
        await connection.execute(
            """
            update audit_rows as row set number = link.number, seal = link.seal
            from unnest($1::bigint[], $2::bigint[], $3::bytea[]) as link (id, number, seal)
            where row.id = link.id
            """,
            [row["id"] for row in rows],
            [link.number for link in links],
            [link.seal for link in links],
        )
        return head, len(rows)

    async def _follow(self, transaction: T, known: Link) -> Link:
        """The last sealed row; raises _Tampered unless each from the known one on is as we sealed it.

        What is beyond the known one was sealed by another process of this service, or before this one began.
        """
        while True:
            rows = await transaction.connection.fetch(
                f"""
                select number, seal, {CHAINED} from audit_rows
                where number >= $1
                order by number, id limit $2
                """,  # noqa: S608
                known.number,
                BATCH + 1,
            )
            if known.number:
                if not rows or rows[0]["number"] > known.number:
                    raise _Tampered(_gone(known.number))
                if not hmac.compare_digest(known.seal, rows[0]["seal"] or b""):
                    raise _Tampered(Fault(known.number, _CHANGED))
            for row in rows[1:] if known.number else rows:
                following = self._chain.after(known, row)
                if fault := _fault(following, row):
                    raise _Tampered(fault)
                known = following
            if len(rows) <= BATCH:
                return known

    async def _last(self, transaction: T) -> Link:
        row = await transaction.connection.fetchrow(
            "select number, seal from audit_rows where number is not null order by number desc limit 1"
        )
        return Link(row["number"], row["seal"] or b"") if row else self._chain.start

    async def _alert(self, fault: Fault) -> None:
        """Tells that sealed rows are not as they were, and anchors what is known of them, as evidence.

        Nothing is sealed until they are: a seal upon another row would hide what was done.
        """
        if fault == self._fault:
            return
        BROKEN.set(1)
        _log.error("sealed audit rows are not as they were: nothing is sealed upon them", number=fault.number)
        assert self._known is not None
        if self._known.number and self._known != self._anchored:
            await self._write_anchor(self._known)
            self._anchored = self._known
        self._fault = fault

    async def _anchor(self) -> None:
        """Anchors the head once a minute, if it moved."""
        known = self._known
        if known is None or known == self._anchored or self._fault is not None:
            return
        if time.monotonic() - self._anchored_at >= self._anchor_every_s:
            await self._write_anchor(known)
            self._anchored, self._anchored_at = known, time.monotonic()
            ANCHORED.set(known.number)

    async def _write_anchor(self, link: Link) -> None:
        await asyncio.to_thread(self._anchors.add, link, self._clock.now())
        _log.info("audit anchor", service=self.service, number=link.number, seal=link.seal.hex())

    def _note(self, waiting_for: str) -> None:
        if waiting_for != self._waiting_for:
            self._waiting_for = waiting_for
            if waiting_for:
                _log.error("audit rows cannot be sealed or anchored", cause=waiting_for)
            else:
                _log.warning("audit rows are sealed and anchored again")

    async def verify_audit(self) -> AsyncIterator[Verification]:
        """Verifies every row that is sealed now: says how far it is, and at last what it found.

        It holds BATCH rows at a time and no transaction. The fault is the lowest number that is wrong.
        """
        anchored_bytes = self._anchors.size()  # before the rows: the row of each anchor is sealed by then
        async with self._database.statements() as statements:
            first = await statements.connection.fetchrow(
                "select number, at from audit_rows where number is not null order by number limit 1"
            )
            last = (await self._last(statements)).number
        found, link = Verification(), self._chain.start
        fault = _stray(first["number"]) if first and first["number"] < 1 else None
        while fault is None and link.number < last:
            for row in await self._sealed_after(link.number, last):
                following = self._chain.after(link, row)
                fault = _fault(following, row)
                if fault:
                    break
                link = following
            else:
                if link.number == found.verified:
                    fault = _gone(link.number + 1)
            found = replace(found, verified=link.number)
            if link.number % PROGRESS_EVERY == 0 and fault is None:
                yield found
        anchors, anchored = self._anchors.read(anchored_bytes), False
        while batch := list(islice(anchors, BATCH)):
            anchored = True
            seals = await self._seals([anchor.number for anchor in batch])
            for anchor in batch:
                if anchor.number not in seals:
                    wrong = _gone(min(anchor.number, link.number + 1))
                elif seals[anchor.number] != anchor.seal:
                    wrong = Fault(
                        anchor.number, f"is not the row that was anchored at {anchor.at:%Y-%m-%d %H:%M:%S}"
                    )
                else:
                    found = replace(found, anchors=found.anchors + 1, anchored_at=anchor.at)
                    continue
                fault = min(fault or wrong, wrong, key=lambda each: each.number)
        if fault is None and first and not anchored and self._clock.now() - first["at"] > ANCHORED_WITHIN:
            fault = Fault(1, f"was written at {first['at']:%Y-%m-%d %H:%M:%S}, but there is no anchor at all")
        async with self._database.statements() as statements:
            [(unsealed, since)] = await statements.connection.fetch(
                "select count(*), min(at) from audit_rows where number is null"
            )
        if fault is None and since is not None and self._clock.now() - since > SEALED_WITHIN:
            # Whoever keeps the sealer away, say by its lock, could change what waits.
            fault = Fault(link.number + 1, f"is not sealed, but was written at {since:%Y-%m-%d %H:%M:%S}")
        yield replace(found, done=True, fault=fault, unsealed=unsealed, unsealed_since=since)

    async def _sealed_after(self, number: int, last: int) -> Sequence[asyncpg.Record]:
        """The rows that the next BATCH numbers name, and one more: then somebody gave a number twice."""
        async with self._database.statements() as statements:
            return await statements.connection.fetch(
                f"""
                select number, seal, {CHAINED} from audit_rows
                where number > $1 and number <= $2
                order by number, id limit $3
                """,  # noqa: S608
                number,
                min(number + BATCH, last),
                BATCH + 1,
            )

    async def _seals(self, numbers: Sequence[int]) -> dict[int, str]:
        async with self._database.statements() as statements:
            rows = await statements.connection.fetch(
                "select number, seal from audit_rows where number = any($1::bigint[])", numbers
            )
        return {row["number"]: (row["seal"] or b"").hex() for row in rows}


_CHANGED = "is not as it was sealed: it was changed, moved or put in"


class _Tampered(Exception):
    """Sealed rows are not as this service sealed them."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.sentence)
        self.fault = fault


def _fault(sealed: Link, row: asyncpg.Record) -> Fault | None:
    """What is wrong with a row, if the chain goes on with `sealed`."""
    if row["number"] > sealed.number:
        return _gone(sealed.number)
    if row["number"] < sealed.number:
        return _stray(row["number"])
    if not hmac.compare_digest(sealed.seal, row["seal"] or b""):
        return Fault(sealed.number, _CHANGED)
    return None


def _gone(number: int) -> Fault:
    return Fault(number, "is gone")


def _stray(number: int) -> Fault:
    return Fault(number, "stands where no row was sealed")
