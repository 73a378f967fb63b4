"""A list that tells what changes: its first rows, what somebody was told of them, what they are told next.

Whoever does what an event says has the first rows of ListCases, in its order. Nothing else is told: a row
that looks as it did is not told again, whatever was written of its case (A67).
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import Any
from uuid import UUID

from kernel.ids import CaseId, FacilityId
from services.access.acts import Sight
from services.access.caseindex import ListedCase
from services.access.domain import Path, Sighting
from services.access.search import Order

MAX_ROWS = 200
"""What one list tells of; the cursor names each."""

SPARE = 20
"""Rows that are known beyond those that are told, so that the next follows when one goes."""

DIGEST_BYTES = 8
"""Of a row as it was told. Two that differ have one digest once in 10^19 times."""

Digests = Mapping[CaseId, bytes]
Seen = tuple[ListedCase, Sighting]


@dataclass(frozen=True, slots=True)
class Change:
    """What may have changed of a case.

    Attributes:
        facility_id: where it is; None: it is gone.
        shown_singly: whether a grant, a folder or a share names it.
        locked_until: when a lock ends of itself, if one may.
    """

    facility_id: FacilityId | None
    shown_singly: bool
    locked_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """What was committed since a snapshot of the database.

    Attributes:
        snapshot: of now, as the database writes it.
        ids: of cases, of facilities that have another name, of users who are compiled anew or to whom
            something is shown; None: nobody knows.
    """

    snapshot: str
    ids: Sequence[UUID] | None


@dataclass(frozen=True, slots=True)
class Account:
    """What a user is compiled from, and what may show them cases beside privileges and folders.

    Attributes:
        shown_singly: whether a grant or a share may show them anything.
        next_end: when the next of their shares ends.
    """

    version: int
    shown_singly: bool
    next_end: datetime | None


@dataclass(slots=True)
class Row:
    """A case in a list.

    Attributes:
        key: by which the list is ordered.
        sight: how it is seen.
        rendered: as it is shown, by what its reader may do with it.
    """

    key: tuple[Any, CaseId]
    case: ListedCase
    sighting: Sighting
    sight: Sight
    rendered: dict[Any, "Rendered"] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rendered:
    """A row as it is shown, in the encoding of the wire."""

    message: bytes
    digest: bytes

    @classmethod
    def of(cls, message: bytes, row: Row) -> "Rendered":
        place = repr(row.key[0]).encode()  # a row that only moves is told too
        return cls(message, blake2b(message + place, digest_size=DIGEST_BYTES).digest())


@dataclass(frozen=True, slots=True)
class Told:
    """A row that is told.

    Attributes:
        message: the row as it is shown, in the encoding of the wire.
        after: the row that it follows; None: it is the first.
        appeared: whether it was not among the rows before.
    """

    message: bytes
    after: CaseId | None
    appeared: bool


@dataclass(frozen=True, slots=True)
class Event:
    """What is told at once: first take away what went, then put each row where it belongs, in this order.

    Attributes:
        resync: whether what was told before counts no more.
        now: the digest of each row, after it.
    """

    rows: tuple[Told, ...]
    went: tuple[CaseId, ...]
    now: Digests
    resync: bool = False

    def __bool__(self) -> bool:
        return bool(self.rows or self.went or self.resync)


def difference(told: Digests | None, shown: Sequence[tuple[CaseId, Rendered]]) -> Event:
    """What somebody must be told who was told these, for them to have what is shown; None: tell all."""
    before = told or {}
    rows, after = [], None
    for case_id, rendered in shown:
        if before.get(case_id) != rendered.digest:
            rows.append(Told(rendered.message, after, case_id not in before))
        after = case_id
    now = {case_id: rendered.digest for case_id, rendered in shown}
    return Event(tuple(rows), tuple(sorted(before.keys() - now.keys())), now, resync=told is None)


_VALUES: Mapping[Order, Callable[[ListedCase], Any]] = {
    Order.RECEIVED: lambda case: case.received_at,
    # As the database writes it: ISO 8601 and infinities, which go in the order of their letters.
    Order.STUDY_DATE: lambda case: case.place.key if case.place else "",
    Order.PATIENT_NAME: lambda case: case.place.key if case.place else "",  # by code point
    Order.PRIORITY: lambda case: case.priority,
}


class Window:
    """The first rows of a list, and some that follow."""

    def __init__(self, order: Order, size: int, *, descending: bool) -> None:
        self._value = _VALUES[order]
        self._descending = descending
        self._size = size
        self._rows: list[Row] = []
        self._is_whole = False

    @property
    def limit(self) -> int:
        """How many rows to look for: one more than are kept tells that there are more."""
        return self._size + SPARE + 1

    @property
    def shown(self) -> Sequence[Row]:
        """The rows that are told."""
        return self._rows[: self._size]

    @property
    def rows(self) -> Sequence[Row]:
        """Those that follow too."""
        return self._rows

    def replace(self, found: Sequence[Seen]) -> None:
        """These are the first rows now, up to `limit`."""
        self._is_whole = len(found) < self.limit
        self._rows = [self._row(*each) for each in found[: self.limit - 1]]

    def hear(self, asked: Collection[CaseId], found: Iterable[Seen]) -> bool:
        """Of the cases that were asked about these are in the list; False: look for the rows anew."""
        last = self._rows[-1].key if self._rows else None
        kept = [row for row in self._rows if row.case.case_id not in asked]
        for each in found:
            row = self._row(*each)
            if self._is_whole or (last is not None and not self._follows(row, last)):
                kept.append(row)
        kept.sort(key=lambda row: row.key, reverse=self._descending)
        if len(kept) > self._size + SPARE:
            del kept[self._size + SPARE :]
            self._is_whole = False
        self._rows = kept
        return self._is_whole or len(kept) >= self._size

    def concerned(self, changes: Mapping[CaseId, Change]) -> set[CaseId]:
        """The rows here of which something changed; and those that only another case shows."""
        return {
            row.case.case_id
            for row in self._rows
            if row.case.case_id in changes
            or row.case.facility_id in changes
            or row.sighting.paths == (Path.HISTORICAL,)
        }

    def next_instant(self, now: datetime) -> datetime | None:
        """When the next lock of a row here ends."""
        ends = (row.case.reading.lock.ends_at for row in self._rows if row.case.reading.lock)
        return min((end for end in ends if end > now), default=None)

    def _row(self, case: ListedCase, sighting: Sighting) -> Row:
        return Row((self._value(case), case.case_id), case, sighting, Sight.of(sighting))

    def _follows(self, row: Row, key: tuple[Any, CaseId]) -> bool:
        return row.key < key if self._descending else row.key > key
