"""What waits for a person, and what they say of the parts that are held: they belong to the case, or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from uuid import UUID

from kernel.database import Database
from kernel.errors import Invalid, NotFound, Unavailable, lacks
from kernel.ids import CaseId, FacilityId, StudyId
from services.routing.parts import Held, HeldKind, Judged, judge
from services.routing.placements import Placements
from services.routing.usecases import FACILITY_ADMIN, Access, Administration, Sight

if TYPE_CHECKING:
    from services.routing.store import RoutingTransaction

STUDY_CORRECT = "study.correct"

TRIES = 3
"""Newer images may come between asking ingest and the act: after so many times a person tries again."""

UNDECIDED_NAMED = 100
"""Parts of other patients that are named where a deletion is refused: more than a person would look at."""


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Of which parts of which case a person has spoken, or would."""

    case_id: CaseId
    study_id: StudyId
    parts: tuple[int, ...]


class HeldParts:
    """The queue of what waits, and the acts upon its parts."""

    def __init__(
        self,
        database: Database[RoutingTransaction],
        access: Access,
        administration: Administration,
        placements: Placements,
    ) -> None:
        self._database = database
        self._access = access
        self._administration = administration
        self._placements = placements

    async def list_held(self, actor: str, after: UUID | None, limit: int) -> Sequence[Held]:
        """What waits where the actor administers, and parts of cases where they correct, oldest first."""
        corrected = await self._access.reach(STUDY_CORRECT)
        async with self._administration.act(actor, "held.listed", "held:all") as (transaction, reach):
            if not reach | corrected:
                raise lacks(FACILITY_ADMIN, STUDY_CORRECT, at="a facility")
            return await transaction.held(reach, corrected, after, limit)

    async def count(self) -> Mapping[HeldKind, int]:
        """How many things wait, by kind."""
        async with self._database.transaction() as transaction:
            return await transaction.held_counts()

    async def list_undecided(self, case_id: CaseId) -> tuple[int, Sequence[tuple[StudyId, int]]]:
        """How many parts of a case may show another patient, and the first of them."""
        async with self._database.transaction() as transaction:
            return await transaction.undecided(case_id, UNDECIDED_NAMED)

    async def check_held(self, parts: Sequence[tuple[StudyId, int]]) -> Sequence[tuple[StudyId, int]]:
        """Those of these parts that wait for a person; number 0 is the study as a whole."""
        if not 1 <= len(parts) <= UNDECIDED_NAMED:
            raise Invalid(f"`parts` must name 1 to {UNDECIDED_NAMED} parts", field="parts")
        async with self._database.transaction() as transaction:
            waiting = await transaction.check_held(parts)
        return [part for part in parts if part in waiting]

    async def release_part(self, actor: str, held_id: UUID, *, preview: bool) -> Verdicts:
        """Says that a held part belongs to its case; one of another patient, that both are one patient."""
        return await self._judge(actor, "part.released", held_id, release=True, preview=preview)

    async def discard_part(self, actor: str, held_id: UUID, *, preview: bool) -> Verdicts:
        """Says that a held part does not belong to its case: it is never shown or served."""
        return await self._judge(actor, "part.discarded", held_id, release=False, preview=preview)

    async def _judge(
        self, actor: str, action: str, held_id: UUID, *, release: bool, preview: bool
    ) -> Verdicts:
        async with self._database.audited(actor, action, f"held:{held_id}"):
            held, case_id, owner = await self._may(held_id)
            for _ in range(TRIES):
                study = await self._placements.fetch(held.study_id)
                async with self._database.transaction() as transaction:
                    known = await transaction.lock_study(held.study_id)
                    placement = await transaction.lock_placement(case_id)
                    if study is None or known is None or placement is None or placement.facility_id != owner:
                        raise Unavailable("the case has just been moved or deleted: look again")
                    if study.version < known.version:
                        continue
                    said = await _said(transaction, held, release=release)
                    if not preview:
                        await transaction.judge(study.id, said, by=actor)
                        known = replace(known, judged={**known.judged, **said})
                        await self._placements.follow(transaction, study, known, placement)
                        await transaction.record(
                            actor,
                            action,
                            f"case:{case_id}",
                            "done",
                            study_id=str(study.id),
                            part=held.part,
                            part_count=len(said),
                            reason=held.reason,
                        )
                    return Verdicts(case_id, study.id, tuple(sorted(said)))
            raise Unavailable("images of the study keep arriving: try again")

    async def _may(self, held_id: UUID) -> tuple[Held, CaseId, FacilityId]:
        """The held part, its case and the owner, if the actor may say whose images these are."""
        async with self._database.transaction() as transaction:
            held = await transaction.held_part(held_id)
        corrected = await self._access.reach(STUDY_CORRECT)
        if not corrected:
            raise lacks(STUDY_CORRECT, at="the facility of the case")
        sight = await self._access.check(held.case_id) if held and held.case_id else Sight()
        if held is None or held.case_id is None or sight.facility_id is None or not sight.by_privilege:
            raise NotFound(
                "nothing is held under this id, or you do not see its case by a privilege of your own",
                field="held_id",
            )
        if sight.facility_id not in corrected:
            raise lacks(STUDY_CORRECT, at="the facility of the case")
        if held.kind is HeldKind.PART:
            administered = await self._access.reach(FACILITY_ADMIN)
            if held.facility_id not in administered:
                raise lacks(FACILITY_ADMIN, at="the hub of the images")
        return held, held.case_id, sight.facility_id


async def _said(transaction: RoutingTransaction, held: Held, *, release: bool) -> Mapping[int, Judged]:
    """What is said by it of which parts of the study; raises Unavailable if it does not wait any more."""
    parts = await transaction.held_parts_of(held.study_id)
    chosen = parts.get(held.part)
    if chosen is None or (chosen.id, chosen.reason) != (held.id, held.reason):
        raise Unavailable("what is held of the study has just changed: look again")
    return judge(chosen, parts, release=release)
