"""What routing does with received studies: places them, follows them, purges them, lists what waits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from kernel.database import Database
from kernel.errors import NotFound, Unavailable
from kernel.events import CasePlaced, CasePurged, CaseUndistributed
from kernel.healing import Kind
from kernel.ids import CaseId, NewId, StudyId
from services.routing.domain import (
    Deletion,
    Destination,
    Placement,
    Study,
    place,
    rule_keys,
)
from services.routing.parts import HeldKind, HeldReason, KnownStudy, Waiting, agree, first_value
from services.routing.usecases import (
    NAME,
    VERSIONS_PAGE,
    Administration,
    Ingest,
    Versions,
)

if TYPE_CHECKING:
    from services.routing.store import RoutingTransaction


class Placements:
    """Which facility owns each received study, and what waits for a person."""

    def __init__(
        self,
        database: Database[RoutingTransaction],
        administration: Administration,
        ingest: Ingest,
        new_id: NewId,
    ) -> None:
        self._database = database
        self._administration = administration
        self._ingest = ingest
        self._new_id = new_id

    async def fetch(self, study_id: StudyId) -> Study | None:
        """Asks the owner for the snapshot that `place` writes; ask before the transaction opens."""
        async with self._database.statements() as statements:
            is_placed, mapping_tag = await statements.mapping_tag_of(study_id)
        study = await self._ingest.describe_study(study_id, mapping_tag)
        if study is None or is_placed:
            return study
        async with self._database.statements() as statements:
            facility = await statements.facility(study.receiving_facility_id)
        if facility is None or facility.mapping_tag is None:
            return study
        return await self._ingest.describe_study(study_id, facility.mapping_tag)

    async def has_applied(self, study_id: StudyId, version: int) -> bool:
        """Whether a snapshot of this version, or a newer one, was applied."""
        async with self._database.statements() as statements:
            return (await statements.known_versions([study_id])).get(study_id, 0) >= version

    async def place(self, transaction: RoutingTransaction, study: Study) -> None:
        """Applies a snapshot of a received study: places it, or follows what has changed in it.

        Snapshots may come late, twice or out of order: only a newer one than the last has an effect.
        """
        known = await transaction.lock_study(study.id)
        if known is None or known.version >= study.version:
            return
        placement = await transaction.lock_placement(known.case_id) if known.case_id else None
        if placement:
            await self.follow(transaction, study, known, placement)
        else:
            await self._place(transaction, study, known)

    async def _place(self, transaction: RoutingTransaction, study: Study, known: KnownStudy) -> None:
        facility = await transaction.facility(study.receiving_facility_id)
        if facility is None:
            await self._hold(transaction, study, known, HeldReason.UNKNOWN_FACILITY)
            return
        value = first_value(study, known, facility.mapping_tag)
        rules = await transaction.endpoints(facility.id, rule_keys(value)) if value else {}
        destination = place(facility, value, rules, settled=study.settled)
        if destination is None:
            await transaction.save_study(study.id, replace(known, version=study.version))
            return
        placement = self._placement(transaction.now, study, destination)
        case_id = await transaction.insert_placement(placement)
        if case_id != placement.case_id:
            await self._hold(transaction, study, known, HeldReason.SECOND_STUDY, beside=case_id)
            return
        known = replace(
            known,
            case_id=case_id,
            mapping_tag=destination.mapping_tag,
            mapping_value=destination.mapping_value,
        )
        await self._agree(transaction, study, known, placement)
        said = CaseUndistributed if placement.undistributed else CasePlaced
        await transaction.say(said(case_id, placement.version))

    async def follow(
        self, transaction: RoutingTransaction, study: Study, known: KnownStudy, placement: Placement
    ) -> None:
        """The case stays where it is; which parts belong to it may have changed."""
        if known.mapping_tag and study.mapping_tag != known.mapping_tag:
            raise Unavailable("the study was placed just now")
        if await self._agree(transaction, study, known, placement):
            placement = replace(placement, version=placement.version + 1)
            await transaction.update_placement(placement)
            await transaction.say(CasePlaced(placement.case_id, placement.version))

    async def _agree(
        self, transaction: RoutingTransaction, study: Study, known: KnownStudy, placement: Placement
    ) -> bool:
        """Whether what of the study belongs to its case is other than before."""
        agreement = agree(study, known, placement.reason)
        after = replace(
            known, version=study.version, mapping_value=agreement.mapping_value, placed=agreement.study
        )
        await transaction.save_study(study.id, after)
        await transaction.hold(study, placement.case_id, agreement.waiting)
        return after.placed != known.placed

    async def _hold(
        self,
        transaction: RoutingTransaction,
        study: Study,
        known: KnownStudy,
        reason: HeldReason,
        beside: CaseId | None = None,
    ) -> None:
        await transaction.save_study(study.id, replace(known, version=study.version))
        await transaction.hold(study, beside, [Waiting(HeldKind.STUDY, reason)])

    def _placement(self, now: datetime, study: Study, destination: Destination) -> Placement:
        return Placement(
            CaseId(self._new_id()),
            destination.facility_id,
            destination.received_via_facility_id,
            study.study_instance_uid,
            destination.reason,
            placed_at=now,
            version=1,
        )

    async def describe_placement(self, case_id: CaseId) -> Placement:
        """The snapshot for another service."""
        async with self._database.statements() as statements:
            if placement := await statements.placement(case_id):
                return placement
        raise NotFound("there is no such case, or you may not administer its facility", field="case_id")

    async def list_versions(self, after: UUID) -> Versions:
        """The versions of all placements, by CaseId."""
        async with self._database.transaction() as transaction:
            return await transaction.placement_versions(after, VERSIONS_PAGE)

    async def fetch_deletion(self, case_id: CaseId) -> Deletion | None:
        """What ingest says of a deletion and of the studies held beside the case; None: there is none."""
        begun_at = await self._ingest.describe_deletion(case_id)
        if begun_at is None:
            return None
        async with self._database.transaction() as transaction:
            beside = await transaction.studies_beside(case_id)
        return Deletion(case_id, begun_at, {study_id: await self.fetch(study_id) for study_id in beside})

    async def purge(self, transaction: RoutingTransaction, deletion: Deletion, version: int) -> None:
        """Removes a deleted case for good and says which studies were purged with it, also when none was.

        They are its own and those held beside it, except for one that was received after the deletion began:
        that is the study sent again, and nothing is in its way any more (ING-8).
        """
        case_id = deletion.case_id
        # Studies are locked before their placement, here as wherever they are placed.
        beside = {study_id: await transaction.lock_study(study_id) for study_id in deletion.beside}
        own = await transaction.studies_of(case_id)
        for study_id in own:
            await transaction.lock_study(study_id)
        await transaction.lock_placement(case_id)
        if set(await transaction.studies_beside(case_id)) != set(beside):
            raise Unavailable(
                "another copy of this study has just arrived: try again, and look at `readroom held list`"
            )
        again = deletion.sent_again()
        study_ids = await transaction.purge(case_id, [*own, *(set(beside) - {study.id for study in again})])
        for study in again:
            known = beside[study.id]
            if known is None or known.version > study.version:
                raise Unavailable("another copy of this study has just changed: try again")
            await self._place(transaction, study, known)
        await transaction.record(f"service:{NAME}", "case.purged", f"case:{case_id}", "done")
        await transaction.say(CasePurged(case_id, version, NAME, tuple(study_ids)))

    async def describe_purge(self, case_id: CaseId) -> Sequence[StudyId]:
        """The studies that were purged with a case; NotFound if it was not purged."""
        async with self._database.transaction() as transaction:
            study_ids = await transaction.purged_with(case_id)
        if study_ids is None:
            raise NotFound("routing has purged no such case", field="case_id")
        return study_ids

    def kinds(self, apply: Callable[[StudyId], Awaitable[bool]] | None = None) -> Sequence[Kind]:
        """What is kept of ingest, to be compared with what it has; `apply` does more than to place it."""
        ingest = self._ingest
        return [Kind("studies", ingest.studies_said, ingest.list_versions, self._stale, apply or self._heal)]

    async def _stale(self, told: Mapping[UUID, int]) -> Sequence[StudyId]:
        async with self._database.transaction() as transaction:
            known = await transaction.known_versions([StudyId(study_id) for study_id in told])
        return [
            StudyId(study_id)
            for study_id, version in told.items()
            if known.get(StudyId(study_id), 0) < version
        ]

    async def _heal(self, study_id: StudyId) -> bool:
        study = await self.fetch(study_id)
        if study is not None:
            async with self._database.transaction() as transaction:
                await self.place(transaction, study)
        return study is not None
