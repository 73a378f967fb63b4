"""What arrives for a received study; and the first mapping value that comes late.

A study that settled without a value of the mapping tag is a case of its hub: a structured report came first,
and said nothing of the institution. Its first value decides when it comes. If a rule knows that value, the
case moves without a hand, provided that nobody has touched it, as access says; else it waits for a person.

Access is asked while the snapshot is fetched, before any transaction. What was begun and does not fit any
more when the snapshot is applied is left: access asks what became of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kernel.database import Database
from kernel.healing import Kind
from kernel.ids import MoveId, NewId, StudyId
from services.routing.domain import Destination, Placement, Reason, Study, place, rule_keys
from services.routing.moves import Access, Move, make, wait_again
from services.routing.parts import KnownStudy, first_value
from services.routing.placements import Placements
from services.routing.usecases import NAME

if TYPE_CHECKING:
    from services.routing.store import RoutingTransaction


@dataclass(frozen=True, slots=True)
class Arrival:
    """A snapshot, and the move that follows from it and has begun."""

    study: Study
    move: Move | None = None


class Arrivals:
    """Fetches and applies what ingest has of received studies."""

    def __init__(
        self, database: Database[RoutingTransaction], placements: Placements, access: Access, new_id: NewId
    ) -> None:
        self._database = database
        self._placements = placements
        self._access = access
        self._new_id = new_id

    async def fetch(self, study_id: StudyId, version: int | None = None) -> Arrival | None:
        """The owner's snapshot, which `place` applies; ask before the transaction opens.

        None: the study is gone, or the version that was told is applied already.
        """
        if version is not None and await self._placements.has_applied(study_id, version):
            return None
        study = await self._placements.fetch(study_id)
        if study is None:
            return None
        move = None
        if study.mapping_tag is not None:  # else no value of it decides
            async with self._database.transaction() as transaction:
                move = await self._follows(transaction, study)
        if move is not None and await self._access.begin_alone(move, preview=False):
            move = None  # a person must move it
        return Arrival(study, move)

    async def _follows(self, transaction: RoutingTransaction, study: Study) -> Move | None:
        """The move that follows from a late first value."""
        placement = await transaction.waiting_placement(study.id)
        if placement is None or placement.reason is not Reason.NO_VALUE:
            return None
        known = await transaction.lock_study(study.id)
        if known is None or known.version >= study.version:
            return None
        destination = await _decided_late(transaction, study, known, placement)
        if destination is None or destination.reason is not Reason.RULE:
            return None
        if await transaction.case_at(destination.facility_id, placement.study_instance_uid) is not None:
            return None
        return Move(
            MoveId(self._new_id()),
            placement.case_id,
            placement.facility_id,
            destination.facility_id,
            by_hand=False,
        )

    async def place(self, transaction: RoutingTransaction, arrival: Arrival) -> None:
        """Applies a snapshot; only a newer one than the last has an effect."""
        study = arrival.study
        before = await transaction.waiting_placement(study.id) if study.mapping_tag is not None else None
        late = None
        if before is not None and before.reason is Reason.NO_VALUE:
            known = await transaction.lock_study(study.id)
            late = await _decided_late(transaction, study, known, before) if known else None
        await self._placements.place(transaction, study)
        placement = await transaction.lock_placement(before.case_id) if before and late else None
        if placement is None or late is None or placement.reason is not Reason.NO_VALUE:
            return
        move = arrival.move
        if late.reason is not Reason.RULE:
            await wait_again(transaction, replace(placement, reason=late.reason))
        elif move is not None and move.to_facility_id == late.facility_id:
            await make(transaction, f"service:{NAME}", "case.moved", move, placement, placement.by_rule(late))

    def kinds(self) -> Sequence[Kind]:
        """What is kept of ingest, to be compared with what it has."""
        return self._placements.kinds(self._heal)

    async def _heal(self, study_id: StudyId) -> bool:
        arrival = await self.fetch(study_id)
        if arrival is not None:
            async with self._database.transaction() as transaction:
                await self.place(transaction, arrival)
        return arrival is not None


async def _decided_late(
    transaction: RoutingTransaction, study: Study, known: KnownStudy, placement: Placement
) -> Destination | None:
    """Where the first value of a study leads that had none so far; None: it has none, or the tag changed."""
    if known.version >= study.version or known.mapping_value is not None or known.mapping_tag is None:
        return None
    hub = await transaction.facility(placement.facility_id)
    if hub is None or hub.mapping_tag != known.mapping_tag or study.mapping_tag != known.mapping_tag:
        return None
    value = first_value(study, known, known.mapping_tag)
    if value is None:
        return None
    return place(hub, value, await transaction.endpoints(hub.id, rule_keys(value)), settled=True)
