"""Moves: routing asks here before a case goes to another facility.

    shown        →  being moved   BeginMove: nobody sees the case from then on, if it may move
    being moved  →  shown         routing has moved it, and the new placement is indexed: shown there
    being moved  →  shown         routing has not moved it, and never will by this move: shown where it was

So nobody sees a case where it was once routing has moved it, and nobody loses one that routing did not move.
Routing says which of the two when its next fact about the case is heard, or when it is asked.

A person moves a case that nobody is at work on. Without a person, by its mapping value alone, a case moves
only if nobody has touched it either: whoever may have seen what it shows must not find it gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from kernel.database import Database
from kernel.errors import Conflict, Denied, NotFound, Unavailable, lacks
from kernel.events import SightChanged
from kernel.ids import CaseId, FacilityId, MoveId
from kernel.reading import Side
from services.access.administration import Administration
from services.access.domain import CompiledUser, Permission, no_case
from services.access.indexing import Snapshots
from services.access.reading import Lock

if TYPE_CHECKING:
    from services.access.store import AccessTransaction


PATIENCE = timedelta(seconds=5)
"""After this we ask routing what became of a move; routing commits within some 10 ms."""

SETTLE_BATCH = 100

MAX_NAMED = 100
"""Of those who lose sight, and of folders: what a person reads before they move a case."""


@dataclass(frozen=True, slots=True)
class Move:
    """A case that is to go from one facility to another.

    Attributes:
        id: minted by routing, which may ask again under it.
        by_hand: whether a person moves it; else it follows from its mapping value.
    """

    id: MoveId
    case_id: CaseId
    from_facility_id: FacilityId
    to_facility_id: FacilityId
    by_hand: bool


@dataclass(frozen=True, slots=True)
class Movable:
    """What it depends on whether a case may move.

    Attributes:
        move_id: the move that has begun, if one has.
        was_read: whether anybody ever began to read it, and if only by locking it.
        reported: whether the group side sees a report.
        shared: whether an open share holds it.
    """

    facility_id: FacilityId
    being_deleted: bool
    move_id: MoveId | None
    untouched: bool
    lock: Lock | None
    was_read: bool
    drafted: bool
    reported: bool
    shared: bool

    def must_move(self, move: Move, side: Side, now: datetime) -> None:
        """Raises Conflict, with what to do next, unless a case may move.

        Whoever is not of the group side is told of the lock, which they see, and for the rest only that
        somebody has begun to read: what a lock of the past led to may be a pre-read. Whoever does not see the
        case is of no side here, and is not told who has locked it either.
        """
        if self.move_id not in (None, move.id):
            raise Conflict("the case is being moved: try again in a few seconds", field="case_id")
        if not move.by_hand and (self.was_read or self.drafted or self.shared or not self.untouched):
            raise Conflict(
                "somebody has worked with the case or may have seen its images: a person must move it",
                field="case_id",
            )
        if self.shared:
            raise Conflict("the case is shared: end its shares first", field="case_id")
        if self.lock is not None and now < self.lock.ends_at:
            if side is Side.NONE:
                raise Conflict(
                    "somebody is reading the case: wait until they give the lock back", field="case_id"
                )
            raise Conflict(
                f"the case is locked by `{self.lock.holder_name}`: wait until they give the lock back",
                field="case_id",
            )
        if not self.was_read:
            return
        if side is not Side.GROUP:
            raise Conflict(
                "somebody has begun to read the case: ask the radiology group to move it", field="case_id"
            )
        if self.reported:
            raise Conflict(
                "the case has a report, and a case with a report stays where it was read: "
                "delete the study and have it sent again",
                field="case_id",
            )
        if self.drafted:
            raise Conflict(
                "somebody keeps a draft of a report about the case: it stays where it is being read",
                field="case_id",
            )


@dataclass(frozen=True, slots=True)
class Ending:
    """What ends with a move; logins and names only for who may know them, and at most MAX_NAMED."""

    grant_count: int
    folder_count: int
    grant_logins: tuple[str, ...] = ()
    folder_names: tuple[str, ...] = ()

    def as_shown_to(self, user: CompiledUser | None, facility_id: FacilityId) -> Ending:
        if user is not None and user.holds(Permission.ADMINISTER_ACCESS, facility_id):
            return self
        return Ending(self.grant_count, self.folder_count)


class Routing(Protocol):
    """The service routing, asked by access itself."""

    async def end_move(self, move_id: MoveId) -> bool:
        """Whether the move was made; one that was not is never made any more."""
        ...


class Index(Protocol):
    """The case index; `usecases.py` says more."""

    async def fetch_case(self, case_id: CaseId) -> Snapshots: ...
    async def index_case(self, transaction: Any, case_id: CaseId, snapshots: Snapshots) -> None: ...


class Moves:
    """Begins the moves that routing wants to make, and ends those that it did not."""

    def __init__(self, database: Database[AccessTransaction], routing: Routing, index: Index) -> None:
        self._database = database
        self._administration = Administration(database)
        self._routing = routing
        self._index = index

    async def begin_for(self, login: str, move: Move, *, preview: bool) -> Ending:
        """Hides a case that a user moves, or that moves without a hand because they asked for it."""
        if preview:
            async with self._administration.look(login) as (transaction, actor):
                return await _looked_at(transaction, move, actor)
        async with self._administration.act(login, "case.move_begun", f"case:{move.case_id}") as act:
            ending = await _looked_at(act.transaction, move, act.actor)
            if await _begun(act.transaction, move):
                await act.done(
                    SightChanged(move.case_id, await act.transaction.bump_case(move.case_id)), **_detail(move)
                )
            return ending

    async def begin_move(self, move: Move, *, preview: bool) -> Ending:
        """Hides a case that routing moves by itself, because of its mapping value."""
        if move.by_hand:
            raise Denied("only a user moves a case by hand")
        async with self._database.transaction() as transaction:
            ending = await _looked_at(transaction, move, None)
            if not preview and await _begun(transaction, move):
                await transaction.record(
                    "service:routing", "case.move_begun", f"case:{move.case_id}", "done", **_detail(move)
                )
                await transaction.say(SightChanged(move.case_id, await transaction.bump_case(move.case_id)))
                await transaction.bump_revision()
            return ending

    async def unsettled(self) -> Sequence[tuple[CaseId, MoveId]]:
        """The moves of which nothing was heard for too long."""
        async with self._database.transaction() as transaction:
            return await transaction.moves_begun_before(transaction.now - PATIENCE, SETTLE_BATCH)

    async def settle(self, begun: tuple[CaseId, MoveId]) -> None:
        """Asks routing what became of one of them."""
        case_id, move_id = begun
        made = await self._routing.end_move(move_id)
        snapshots = await self._index.fetch_case(case_id)
        async with self._database.transaction() as transaction:
            await self._index.index_case(transaction, case_id, snapshots)
            # What was made is indexed by now. One that was begun again after that ends only here.
            if await transaction.end_move(case_id, move_id):
                if not made:
                    await transaction.record(
                        "service:access", "case.move_given_up", f"case:{case_id}", "done", move=str(move_id)
                    )
                await transaction.say(SightChanged(case_id, await transaction.bump_case(case_id)))
                await transaction.bump_revision()


async def _looked_at(transaction: AccessTransaction, move: Move, actor: CompiledUser | None) -> Ending:
    """What ends with a move; raises unless it may begin. Until the transaction ends the case stays so."""
    if actor is not None:
        for facility_id in (move.from_facility_id, move.to_facility_id):
            if not actor.holds(Permission.ADMINISTER_FACILITIES, facility_id):
                at = "the facility of the case and at the one that it goes to"
                raise lacks(Permission.ADMINISTER_FACILITIES, at=at)
    await transaction.hold_case(move.case_id)
    case = await transaction.movable(move.case_id, transaction.now)
    if case is not None and case.being_deleted:
        raise no_case(move.case_id)
    if case is None or case.facility_id != move.from_facility_id:
        raise Unavailable("access has not heard yet where the case is: try again in a few seconds")
    if await transaction.facility(move.to_facility_id) is None:
        raise NotFound(
            "access does not know the facility yet: try again in a few seconds", field="facility_id"
        )
    case.must_move(move, await _told_as(transaction, move.case_id, actor), transaction.now)
    return (await transaction.ending(move.case_id)).as_shown_to(actor, move.from_facility_id)


async def _told_as(transaction: AccessTransaction, case_id: CaseId, actor: CompiledUser | None) -> Side:
    """As which side somebody is told why a case stays: routing as the group, who does not see it as none.

    A move asks for no sight: whose a study is, is said by who administers facilities, by its mapping value.
    """
    if actor is None:
        return Side.GROUP
    answer = await transaction.sighted(actor, [case_id])
    return actor.reading_side if answer and answer.found[0] else Side.NONE


async def _begun(transaction: AccessTransaction, move: Move) -> bool:
    """Hides the case; whether it was not hidden for this move before."""
    case = await transaction.movable(move.case_id, transaction.now)
    if case is None or case.move_id == move.id:
        return False
    await transaction.begin_move(move)
    return True


def _detail(move: Move) -> dict[str, str]:
    return {
        "move": str(move.id),
        "from_facility_id": str(move.from_facility_id),
        "to_facility_id": str(move.to_facility_id),
        "by_hand": "yes" if move.by_hand else "no",
    }
