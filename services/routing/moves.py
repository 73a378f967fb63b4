"""Moves: a case goes to another facility, and access is asked before.

Each move takes three steps, and no connection is held across the second:

    1. look whether it may be made
    2. access hides the case from everybody, or says why it must stay (BeginMove)
    3. look again, and make it: the placement, what waits, the audit row and the fact are one commit

Where the third step does not come, access asks what became of the move (`end`). Whoever writes that first
decides: a move that was not made by then is never made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from kernel.database import Database
from kernel.errors import Conflict, NotFound, Unavailable
from kernel.events import CaseMoved, CasePlaced
from kernel.ids import CaseId, FacilityId, MoveId, NewId
from kernel.reach import Reach
from services.routing.domain import Facility, Placement
from services.routing.usecases import Administration, administered

if TYPE_CHECKING:
    from services.routing.store import RoutingTransaction


@dataclass(frozen=True, slots=True)
class Move:
    """What access is asked about: a case that is to go from one facility to another."""

    id: MoveId
    case_id: CaseId
    from_facility_id: FacilityId
    to_facility_id: FacilityId
    by_hand: bool


@dataclass(frozen=True, slots=True)
class Ending:
    """What ends with a move, as access says: grants of the case, and the folders that hold it."""

    grant_count: int = 0
    folder_count: int = 0
    grant_logins: tuple[str, ...] = ()
    folder_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Moved:
    """The placement after a move, or as it would be, and what ends."""

    placement: Placement
    ending: Ending


class Access(Protocol):
    """The service access, asked on behalf of the acting user, or by routing itself."""

    async def begin_move(self, move: Move, *, preview: bool) -> Ending:
        """Hides the case; raises Conflict, which says why, if it must stay where it is."""
        ...

    async def begin_alone(self, move: Move, *, preview: bool) -> str:
        """Hides a case that moves without a hand; answers why it must stay, empty if it moves."""
        ...


Way = Callable[[Placement, Facility], Placement]


class Moves:
    """What people move."""

    def __init__(
        self,
        database: Database[RoutingTransaction],
        administration: Administration,
        access: Access,
        new_id: NewId,
    ) -> None:
        self._database = database
        self._administration = administration
        self._access = access
        self._new_id = new_id

    async def distribute(
        self, actor: str, case_id: CaseId, facility_id: FacilityId, *, preview: bool = False
    ) -> Moved:
        """Moves an undistributed case from its hub to an endpoint; the CaseId stays."""
        return await self._by_hand(
            actor, "case.distributed", Placement.distribute, case_id, facility_id, preview=preview
        )

    async def move_on(
        self, actor: str, case_id: CaseId, facility_id: FacilityId, *, preview: bool = False
    ) -> Moved:
        """Moves a case that came through a hub to another endpoint, or back to the hub."""
        return await self._by_hand(
            actor, "case.moved_on", Placement.move_on, case_id, facility_id, preview=preview
        )

    async def end_move(self, move_id: MoveId) -> bool:
        """Whether a move was made; one that was not is never made any more."""
        async with self._database.transaction() as transaction:
            return await transaction.end_move(move_id, made=False)

    async def _by_hand(
        self, actor: str, action: str, way: Way, case_id: CaseId, facility_id: FacilityId, *, preview: bool
    ) -> Moved:
        reach = await self._administration.reach()
        async with self._database.audited(actor, action, f"case:{case_id}"):
            async with self._database.transaction() as transaction:
                before, after = await _wanted(transaction, reach, way, case_id, facility_id)
            move = Move(MoveId(self._new_id()), case_id, before.facility_id, facility_id, by_hand=True)
            ending = await self._access.begin_move(move, preview=preview)
            if preview:
                return Moved(after, ending)
            async with self._database.transaction() as transaction:
                before, after = await _wanted(transaction, reach, way, case_id, facility_id)
                return Moved(await make(transaction, actor, action, move, before, after), ending)


async def _wanted(
    transaction: RoutingTransaction, reach: Reach, way: Way, case_id: CaseId, facility_id: FacilityId
) -> tuple[Placement, Placement]:
    """The placement as it is and as it is to be; it stays as it is until the transaction ends."""
    placement = await transaction.lock_placement(case_id)
    if placement is None or placement.facility_id not in reach:
        raise NotFound(
            f"there is no case `{case_id}` at a facility where you have `facility.admin`", field="case_id"
        )
    found = await transaction.hold_facilities({facility_id})
    after = way(placement, administered(found.get(facility_id), reach, "facility_id"))
    if await transaction.case_at(facility_id, placement.study_instance_uid) is not None:
        raise Conflict("the facility already has this study as another case", field="facility_id")
    return placement, after


async def wait_again(transaction: RoutingTransaction, placement: Placement) -> None:
    """Keeps that an undistributed case waits for another reason."""
    placement = replace(placement, version=placement.version + 1)
    await transaction.update_placement(placement)
    await transaction.hold_undistributed(placement)
    await transaction.say(CasePlaced(placement.case_id, placement.version))


async def make(
    transaction: RoutingTransaction, actor: str, action: str, move: Move, before: Placement, after: Placement
) -> Placement:
    """Makes a move that access has begun; raises Unavailable if access has given it up meanwhile."""
    if before.facility_id != move.from_facility_id or not await transaction.end_move(move.id, made=True):
        raise Unavailable("the move took too long, and the case has stayed where it was: try again")
    after = replace(after, last_move_id=move.id)
    await transaction.update_placement(after)
    await transaction.leave_beside(move.case_id)
    if after.undistributed:
        await transaction.hold_undistributed(after)
    else:
        await transaction.release_undistributed(move.case_id)
    await transaction.record(
        actor,
        action,
        f"case:{move.case_id}",
        "done",
        version=after.version,
        move=str(move.id),
        from_facility_id=str(before.facility_id),
        to_facility_id=str(after.facility_id),
    )
    await transaction.say(CaseMoved(move.case_id, after.version))
    described = await transaction.placement(move.case_id)
    assert described is not None
    return described
