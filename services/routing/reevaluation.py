"""Re-evaluating what waits at a hub by the rules that it has now (A20).

Rules act on what arrives. What waits already is looked at again only when somebody asks: first in a preview,
then exactly what the preview named:

    an undistributed case, and a rule knows its value              goes to the endpoint, without a hand
    a part held for its value, and rules send that to its case     belongs to the case

Nothing else is touched: no case that a rule or a person has placed, none that a person has moved before, and
no part that may show another patient. What has changed since the preview stays, and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from uuid import UUID

from kernel.database import Database
from kernel.errors import Conflict, Invalid, NotFound, Unavailable, lacks
from kernel.ids import CaseId, FacilityId, MoveId, NewId, StudyId
from kernel.reach import Reach
from services.routing.domain import Destination, Facility, Placement, Reason, Study, place, rule_keys
from services.routing.moves import Access, Move, make
from services.routing.parts import (
    Held,
    HeldKind,
    Judged,
    KnownStudy,
    Verdict,
    first_value,
    value_of_confirmed,
)
from services.routing.placements import Placements
from services.routing.usecases import (
    FACILITY_ADMIN,
    Administration,
    Ingest,
    administered,
)

if TYPE_CHECKING:
    from services.routing.store import RoutingTransaction

MAX_CHANGES = 25
"""In one preview and in one request. Each asks ingest for a snapshot and access about a move, some 40 ms, and
whoever asks waits 3 s at most."""

_REEVALUATED = {HeldKind.UNDISTRIBUTED, HeldKind.PART}

CHANGED = "it has changed since the preview: look again"


@dataclass(frozen=True, slots=True)
class Change:
    """What re-evaluating does to one thing that waits.

    Attributes:
        part: the part that joins its case; 0: the case moves.
        version: of the placement that this was judged by.
        why_not: why it stays as it is; empty: it does not.
    """

    case_id: CaseId
    study_id: StudyId
    part: int
    version: int
    to_facility_id: FacilityId
    why_not: str = ""


class Reevaluation:
    """What the rules of a hub make of what waits there."""

    def __init__(
        self,
        database: Database[RoutingTransaction],
        administration: Administration,
        access: Access,
        ingest: Ingest,
        placements: Placements,
        new_id: NewId,
    ) -> None:
        self._database = database
        self._administration = administration
        self._access = access
        self._ingest = ingest
        self._placements = placements
        self._new_id = new_id

    async def reevaluate(
        self, actor: str, hub_id: FacilityId, wanted: Sequence[Change], after: UUID | None = None
    ) -> tuple[Sequence[Change], UUID | None]:
        """Makes these changes of a preview; with none wanted, it is the preview.

        A preview answers a page: what would change, and after which thing that waits the next one begins.
        """
        if len(wanted) > MAX_CHANGES:
            raise Invalid(f"`changes` must be at most {MAX_CHANGES}", field="changes")
        if wanted:
            return await self._apply(actor, hub_id, wanted), None
        return await self._preview(actor, hub_id, after)

    async def _preview(
        self, actor: str, hub_id: FacilityId, after: UUID | None
    ) -> tuple[Sequence[Change], UUID | None]:
        reach = await self._administration.reach()
        async with self._database.audited(actor, "hub.reevaluated", f"facility:{hub_id}"):
            async with self._database.transaction() as transaction:
                hub = _hub(await transaction.facility(hub_id), reach)
                here = Reach(facilities=frozenset({hub_id}))
                waiting = await transaction.held(here, Reach(), after, MAX_CHANGES)
            snapshots: dict[StudyId, Study | None] = {}
            changes = []
            for held in waiting:
                if held.kind not in _REEVALUATED:
                    continue
                if held.study_id not in snapshots:
                    study = await self._ingest.describe_study(held.study_id, hub.mapping_tag)
                    snapshots[held.study_id] = study
                async with self._database.transaction() as transaction:
                    change = await _judged(
                        transaction, hub, held.study_id, held.part, snapshots[held.study_id]
                    )
                if change is not None:
                    changes.append(await self._may(change, hub, reach))
            return changes, waiting[-1].id if len(waiting) == MAX_CHANGES else None

    async def _apply(self, actor: str, hub_id: FacilityId, wanted: Sequence[Change]) -> Sequence[Change]:
        """Makes these changes of a preview, each by itself; answers them with why one was not made."""
        reach = await self._administration.reach()
        async with self._database.audited(actor, "hub.reevaluated", f"facility:{hub_id}"):
            async with self._database.transaction() as transaction:
                hub = _hub(await transaction.facility(hub_id), reach)
            made = []
            for change in wanted:
                why_not = ""
                if change.to_facility_id not in reach:
                    why_not = _lacking()
                else:
                    try:
                        await self._make(actor, hub, change)
                    except (Conflict, NotFound, Unavailable) as error:
                        why_not = error.sentence
                made.append(replace(change, why_not=why_not))
            return made

    async def _may(self, change: Change, hub: Facility, reach: Reach) -> Change:
        """The change, with why it may not be made."""
        if change.to_facility_id not in reach:
            return replace(change, why_not=_lacking())
        if change.part:
            return change
        why_not = await self._access.begin_alone(self._move(change, hub), preview=True)
        return replace(change, why_not=why_not)

    async def _make(self, actor: str, hub: Facility, change: Change) -> None:
        study = await self._ingest.describe_study(change.study_id, hub.mapping_tag)
        async with self._database.transaction() as transaction:
            await _must_be(transaction, hub, change, study)
        move = None
        if not change.part:
            move = self._move(change, hub)
            if why_not := await self._access.begin_alone(move, preview=False):
                raise Conflict(why_not)
        async with self._database.transaction() as transaction:
            known, placement = await _must_be(transaction, hub, change, study)
            if move is None:
                await self._join(transaction, actor, change, study, known, placement)
            else:
                await _go(transaction, actor, hub, move, study, known, placement)

    async def _join(
        self,
        transaction: RoutingTransaction,
        actor: str,
        change: Change,
        study: Study | None,
        known: KnownStudy,
        placement: Placement,
    ) -> None:
        """Confirms a held part, as a release by hand does."""
        assert study is not None, "a part was judged by it"
        (part,) = (part for part in study.parts if part.number == change.part)
        judged = {part.number: Judged(Verdict.RELEASED, part.identity, part.instance_count)}
        await transaction.judge(study.id, judged, by=actor)
        known = replace(known, judged={**known.judged, **judged})
        await self._placements.follow(transaction, study, known, placement)
        await transaction.record(
            actor,
            "part.released",
            f"case:{change.case_id}",
            "done",
            study_id=str(study.id),
            part=change.part,
            reason="reevaluated",
        )

    def _move(self, change: Change, hub: Facility) -> Move:
        return Move(MoveId(self._new_id()), change.case_id, hub.id, change.to_facility_id, by_hand=False)


async def _go(
    transaction: RoutingTransaction,
    actor: str,
    hub: Facility,
    move: Move,
    study: Study | None,
    known: KnownStudy,
    placement: Placement,
) -> None:
    """Moves an undistributed case to the endpoint of the rule that knows its value."""
    destination = await _decided(transaction, hub, study, known)
    assert destination is not None, "it was judged just before"
    decided = replace(known, mapping_tag=destination.mapping_tag, mapping_value=destination.mapping_value)
    await transaction.save_study(known.placed.id, decided)
    await make(transaction, actor, "case.reevaluated", move, placement, placement.by_rule(destination))


async def _must_be(
    transaction: RoutingTransaction, hub: Facility, change: Change, study: Study | None
) -> tuple[KnownStudy, Placement]:
    """What is known of a change that is still as it was previewed; raises Conflict for any other."""
    if await _judged(transaction, hub, change.study_id, change.part, study) != replace(change, why_not=""):
        raise Conflict(CHANGED)
    known = await transaction.lock_study(change.study_id)
    placement = await transaction.lock_placement(change.case_id)
    if known is None or placement is None:
        raise Conflict(CHANGED)
    return known, placement


async def _judged(
    transaction: RoutingTransaction, hub: Facility, study_id: StudyId, part: int, study: Study | None
) -> Change | None:
    """What the rules make of one thing that waits at a hub; None: it goes on waiting.

    Study and placement stay as they are until the transaction ends.
    """
    held = (await transaction.held_parts_of(study_id)).get(part) if part else None
    known = await transaction.lock_study(study_id)
    placement = await transaction.lock_placement(known.case_id) if known and known.case_id else None
    if known is None or placement is None:
        return None
    if part:
        to = await _leads(transaction, hub, study, known, held)
        if to is None or to != placement.facility_id:
            return None
    else:
        if not placement.undistributed or placement.moved_by_hand or placement.facility_id != hub.id:
            return None
        destination = await _decided(transaction, hub, study, known)
        if destination is None or await transaction.case_at(
            destination.facility_id, placement.study_instance_uid
        ):
            return None
        to = destination.facility_id
    return Change(placement.case_id, study_id, part, placement.version, to)


async def _decided(
    transaction: RoutingTransaction, hub: Facility, study: Study | None, known: KnownStudy
) -> Destination | None:
    """Where the value of an undistributed study leads by the rules of now; None: nowhere."""
    value = known.mapping_value if known.mapping_tag == hub.mapping_tag else None
    if value is None and study is not None and study.version >= known.version:
        decide = first_value if known.mapping_tag == hub.mapping_tag else value_of_confirmed
        value = decide(study, known, hub.mapping_tag)
    if value is None:
        return None
    rules = await transaction.endpoints(hub.id, rule_keys(value))
    destination = place(hub, value, rules, settled=True)
    return destination if destination and destination.reason is Reason.RULE else None


async def _leads(
    transaction: RoutingTransaction, hub: Facility, study: Study | None, known: KnownStudy, held: Held | None
) -> FacilityId | None:
    """Where all values lead of a part that is held for its mapping value; None: not to one place."""
    if held is None or held.kind is not HeldKind.PART or study is None or study.version < known.version:
        return None
    if known.mapping_tag != hub.mapping_tag:
        return None
    values = next((part.values for part in study.parts if part.number == held.part), ())
    endpoints: set[FacilityId | None] = set()
    for value in values:
        destination = place(hub, value, await transaction.endpoints(hub.id, rule_keys(value)), settled=True)
        endpoints.add(destination.facility_id if destination and destination.reason is Reason.RULE else None)
    return endpoints.pop() if len(endpoints) == 1 else None


def _hub(facility: Facility | None, reach: Reach) -> Facility:
    hub = administered(facility, reach, "hub_facility_id")
    if hub.mapping_tag is None:
        raise Conflict(f"`{hub.name}` is not a hub, so it has no rules", field="hub_facility_id")
    return hub


def _lacking() -> str:
    return lacks(FACILITY_ADMIN, at="the facility that it goes to").sentence
