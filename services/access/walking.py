"""How a worklist is walked: window by window in its order, until a page is full, the list or the time ends.

A window is what every path of sight offers next: the facilities of a privilege, grants, folders, shares. Each
offers it from an index in the order of the list, and each is cut off somewhere. Where the nearest of them is
cut off, the window ends: that is its frontier. Up to it nothing is missing, so the next window goes on there,
and so does the next page. `CaseQuery` says who sees what; here is only chosen in which way it is found.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import Enum
from functools import cached_property
from typing import Protocol
from uuid import UUID

from kernel.errors import Unavailable
from kernel.ids import CaseId, FacilityId
from services.access.accessfilter import Historical
from services.access.caseindex import ListedCase
from services.access.domain import Answer, CompiledUser, Sighting
from services.access.filter.demand import ANYTHING, Demand, Range, demand_of
from services.access.filter.reader import Reader
from services.access.filter.tree import Expression
from services.access.search import Listing, Place, Search

_GROWTH, _LARGEST = 16, 50_000
"""By how much a window may grow, and how large it may be."""

_ASKED = 5
"""To ask a facility costs as much as to look at so many cases."""

_DAYS = 5
"""Of days of study so many times more are looked at: in another order they lie far from its beginning."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How a list is walked.

    Attributes:
        budget_s: database time after which a page ends where it has come to, one window at least.
        first_look: cases of the first window where something is asked of them: how many pass tells how long
            the walk would be.
        first_page: cases of the first window where nothing is asked, at most.
        long_walk: cases to be looked at, from which on an index of what is asked for is tried first.
        few: cases that are looked at one by one; of more a page is found soon in the order of the list.
        spare: how many cases a facility may offer beyond those that are expected of it.
        unread: how many it may offer at least where only what is not read is asked for.
    """

    budget_s: float = 0.1
    first_look: int = 400
    first_page: int = 20_000
    long_walk: int = 8000
    few: int = 2000
    spare: int = 4
    unread: int = 64


PATIENT = Pace(budget_s=math.inf)
"""Whose pages are always full."""

WATCHING = Pace(budget_s=1.0)
"""Of lists that tell what changes, which are looked for anew every few seconds."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Of all cases the share that each facility has, as far as it is known; only speed depends on it.

    Attributes:
        others: of a facility that is not named.
    """

    known: Mapping[UUID, float]
    others: float

    def of(self, facility_id: UUID) -> float:
        """Never 0: a facility of which nothing is known has some cases."""
        return max(self.known.get(facility_id, self.others), 1e-6)


NOT_COUNTED = Shares({}, 0.0)


class By(Enum):
    """How the cases that a privilege shows are found."""

    FACILITY = "facility"  # in the order of each of the facilities
    ALL = "all"  # in the order of all cases, whatever facility they are at
    ASSIGNEE = "assignee"  # in the order of what is assigned to each of these
    IDS = "ids"  # these cases, sorted


@dataclass(frozen=True, slots=True)
class Way:
    """How the cases that a privilege shows are found in a window.

    Attributes:
        keys: the facilities, the assignees, or the cases.
        most: how many each of these may offer; one number for the other ways.
        unread: only those that are not read.
    """

    by: By
    keys: tuple[UUID, ...]
    most: tuple[int, ...]
    unread: bool = False


@dataclass(frozen=True, slots=True)
class Window:
    """What is looked at next.

    Attributes:
        place: behind which place.
        wanted: at most so many cases are answered, None: only their number.
        most: how many a grant, each folder and each share may offer.
        way: None: no privilege shows anything.
        among: the only cases that a search may find, whatever shows them; None: any.
        demand: what the search demands of all.
    """

    place: Place | None
    wanted: int | None
    most: int
    way: Way | None
    among: tuple[CaseId, ...] | None
    demand: Demand


@dataclass(frozen=True, slots=True)
class Seen:
    """What a window shows.

    Attributes:
        places: of the cases that the user sees and that are found, in the order in which they were walked.
        count: how many these are, where only that was asked.
        looked_at: how many cases were offered.
        frontier: where the window ends; None: the list does.
    """

    places: Sequence[Place]
    count: int
    looked_at: int
    frontier: Place | None


class TooLong(Exception):
    """A window was not looked at within the time of a statement."""


class Transaction(Protocol):
    """What access's store does within one transaction; `listings.py` says more."""

    @property
    def now(self) -> datetime: ...
    async def window(
        self, user: CompiledUser, asked: Listing, search: Search | None, window: Window, *, session: str
    ) -> Answer[Seen] | None:
        """Raises TooLong."""
        ...

    async def found_by_text(
        self, expression: Expression, demand: Demand, limit: int
    ) -> list[CaseId] | None: ...
    async def assigned_to(self, users: Collection[UUID], limit: int) -> list[CaseId]: ...
    async def studied(
        self, facilities: Collection[FacilityId], studied: Range[date], limit: int
    ) -> list[CaseId]: ...
    async def with_persons(self, case_ids: Collection[CaseId], limit: int) -> list[CaseId]: ...
    async def told(
        self, user: CompiledUser, places: Sequence[Place], *, session: str
    ) -> Answer[list[tuple[ListedCase, Sighting]]] | None: ...


@dataclass(frozen=True, slots=True)
class Walked:
    """What a walk found.

    Attributes:
        places: of the cases, at most as many as were wanted.
        count: how many these are.
        on: where it goes on; None: it came to the end of the list.
        is_cut: whether it ended because its time did.
    """

    places: Sequence[Place]
    count: int
    on: Place | None
    is_cut: bool


NOTHING_FOUND = Walked([], 0, None, is_cut=False)


@dataclass
class Walk:
    """One walk of one user.

    Attributes:
        stopwatch: seconds, from any beginning on.
    """

    statements: Transaction
    user: CompiledUser
    asked: Listing
    search: Search | None
    session: str
    shares: Shares
    pace: Pace
    stopwatch: Callable[[], float] = time.monotonic
    _among: tuple[CaseId, ...] | None = field(default=None, init=False)
    _these: tuple[CaseId, ...] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        now, search, asked_of = self.statements.now, self.search, self._filter
        searched = demand_of(search.expression, search.reader, now) if search else ANYTHING
        filtered = demand_of(*asked_of, now) if asked_of else ANYTHING
        self._searched, self._demanded = searched, searched.both(filtered)
        self._facilities = tuple(each for each in self.user.facilities if self._is_asked_for(each))

    def _is_asked_for(self, facility_id: FacilityId) -> bool:
        named, asked = self._demanded.facilities, self.asked.facility_id
        return asked in (None, facility_id) and (named is None or facility_id in named)

    @property
    def _filter(self) -> tuple[Expression, Reader] | None:
        """What the user's filter asks of whatever their privilege shows."""
        access_filter = self.user.filter
        if access_filter is None or access_filter.historical is not Historical.OFF:
            return None
        return access_filter.expression, access_filter.reader

    async def take(
        self, place: Place | None, wanted: int, *, only_count: bool = False
    ) -> Answer[Walked] | None:
        """Walks on from a place; None if the user is gone.

        The answer is of the oldest of the revisions that its windows saw; if the user was another in one of
        them, it says so by that version.
        """
        began = self.stopwatch()
        places: list[Place] = []
        count, size, revision = 0, self._first_size(wanted), None
        tried = self._has_few_anchors and await self._try_indexes()
        while True:
            window = self._window(place, None if only_count else wanted - count, size)
            started = self.stopwatch()
            try:
                answer = await self.statements.window(
                    self.user, self.asked, self.search, window, session=self.session
                )
            except TooLong:
                if size == 1:
                    raise Unavailable("this list takes too long: narrow its search") from None
                size = max(1, size // 8)
                continue
            if answer is None or answer.user_version != self.user.version:
                return answer.carrying(NOTHING_FOUND) if answer else None
            seen, ended = answer.found, self.stopwatch()
            revision = answer.revision if revision is None else min(revision, answer.revision)
            places += seen.places
            count += seen.count if only_count else len(seen.places)
            if count >= wanted or seen.frontier is None:
                on = places[-1] if count >= wanted and places else None
                return Answer(self.user.version, revision, Walked(places, count, on, False))
            place = seen.frontier
            left_s = self.pace.budget_s - (ended - began)
            if left_s <= 0:
                return Answer(self.user.version, revision, Walked(places, count, place, True))
            still = self._still_to_look_at(wanted - count, count if not tried else 0, seen)
            if not tried and still > self.pace.long_walk:
                tried = True
                if await self._try_indexes():
                    size = self.pace.first_look
                    continue
            a_case_s = (ended - started) / max(1, seen.looked_at)
            size = int(
                max(1, min(max(2 * size, still), _GROWTH * size, _LARGEST, left_s / max(a_case_s, 1e-7)))
            )

    @property
    def _has_few_anchors(self) -> bool:
        """Whether somebody sees what is assigned to few, and the history of its patients."""
        access_filter = self.user.filter
        if access_filter is None or access_filter.historical is Historical.OFF:
            return False
        demand = demand_of(access_filter.expression, access_filter.reader, self.statements.now)
        return demand.assignees is not None

    def _first_size(self, wanted: int) -> int:
        asks_nothing = self.user.filter is None and self.search is None
        return min(self.pace.first_page, wanted) if asks_nothing else min(self.pace.first_look, 8 * wanted)

    def _still_to_look_at(self, wanted: int, found: int, seen: Seen) -> float:
        found = seen.count + len(seen.places)
        return 1.2 * wanted * seen.looked_at / found if found else math.inf

    @cached_property
    def _each_share(self) -> list[float]:
        return [self.shares.of(each) for each in self._facilities]

    def _window(self, place: Place | None, wanted: int | None, size: int) -> Window:
        return Window(place, wanted, size, self._way(size), self._among, self._searched)

    def _way(self, size: int) -> Way | None:
        demand = self._demanded
        if demand.nothing or not self._facilities:
            return None
        these = self._these if self._these is not None else self._among
        if these is not None:
            return Way(By.IDS, these, (size,))
        if demand.assignees is not None:
            return Way(By.ASSIGNEE, tuple(sorted(demand.assignees)), (size,) * len(demand.assignees))
        shares, share = self._each_share, sum(self._each_share)
        of_all, asking_each = size / share, _ASKED * len(shares)
        by_all = Way(By.ALL, (), (math.ceil(of_all),))
        if not demand.unread and of_all < asking_each:
            return by_all
        per_facility = [self._offer(size * each / share, size) for each in shares]
        if demand.unread:  # of these a facility has few, and another window would ask all facilities again
            per_facility = [max(each, min(size, self.pace.unread)) for each in per_facility]
        if not demand.unread and of_all < sum(per_facility) + asking_each:
            return by_all
        return Way(By.FACILITY, self._facilities, tuple(per_facility), demand.unread)

    async def _try_indexes(self) -> bool:
        """Looks for few cases that are all that a search or a filter finds; whether it found them."""
        if self.search is not None:
            self._among = await self._few(self.search.expression, self._searched)
            if self._among is not None:
                return True
        access_filter, asked = self.user.filter, self._filter
        if access_filter is not None:
            expression, reader = access_filter.expression, access_filter.reader
            few = await self._few(expression, demand_of(expression, reader, self.statements.now))
            self._these = await self._with_history(few) if few is not None and asked is None else few
        if self._these is None and self._demanded.studied is not None:
            most = _DAYS * self.pace.few
            found = await self.statements.studied(self._facilities, self._demanded.studied, most + 1)
            self._these = tuple(found) if len(found) <= most else None
        return self._these is not None

    async def _few(self, expression: Expression, demand: Demand) -> tuple[CaseId, ...] | None:
        """All cases that a filter may find, if an index says that they are few."""
        if demand.assignees is not None:
            found = await self.statements.assigned_to(demand.assignees, self.pace.few + 1)
            if len(found) <= self.pace.few:
                return tuple(found)
        by_text = await self.statements.found_by_text(expression, demand, self.pace.few + 1)
        return tuple(by_text) if by_text is not None and len(by_text) <= self.pace.few else None

    async def _with_history(self, few: Collection[CaseId]) -> tuple[CaseId, ...] | None:
        """With all other studies of their patients, if these are few too."""
        more = await self.statements.with_persons(few, 2 * self.pace.few + 1)
        return tuple({*few, *more}) if len(more) <= 2 * self.pace.few else None

    def _offer(self, expected: float, most: int) -> int:
        """How many cases a facility may offer that is expected to have so many, to be rarely cut off."""
        return min(most, math.ceil(expected + 3 * math.sqrt(expected)) + self.pace.spare)


async def first_rows(
    statements: Transaction,
    user: CompiledUser,
    asked: Listing,
    limit: int,
    search: Search | None,
    *,
    session: str,
) -> Answer[list[tuple[ListedCase, Sighting]]] | None:
    """The first rows of a list, for whoever watches it; None if the user is gone.

    Raises Unavailable where they are not found within a second: no part of them is told.
    """
    walk = Walk(statements, user, asked, search, session, NOT_COUNTED, WATCHING)
    answer = await walk.take(None, limit)
    if answer is None or answer.user_version != user.version:
        return answer.carrying([]) if answer else None
    if answer.found.is_cut:
        raise Unavailable("this list takes too long to be watched: narrow its search")
    told = await statements.told(user, answer.found.places, session=session)
    return told and Answer(told.user_version, min(answer.revision, told.revision), told.found)
