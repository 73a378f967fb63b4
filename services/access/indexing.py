"""How owners' facts fill the case index."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from uuid import UUID

from kernel.database import Database
from kernel.errors import Unavailable
from kernel.events import SightChanged, UserChanged
from kernel.healing import Kind, Said, Versions
from kernel.ids import CaseId, FacilityId, StudyId
from services.access import following, patients
from services.access.caseindex import IndexedCase, Placement
from services.access.derived import derive
from services.access.domain import (
    Facility,
    known_zone,
)
from services.access.following import ACTOR
from services.access.reading import Reading
from services.access.received import ReceivedStudy

if TYPE_CHECKING:
    from services.access.store import AccessTransaction

A = TypeVar("A")


class Routing(Protocol):
    """The service routing, asked by access itself; None means gone."""

    async def describe_placement(self, case_id: CaseId) -> Placement | None: ...
    async def describe_facility(self, facility_id: FacilityId) -> Facility | None: ...
    async def facilities_said(self, since: datetime | None, token: str) -> Said: ...
    async def placements_said(self, since: datetime | None, token: str) -> Said: ...
    async def facility_versions(self, after: UUID | None) -> Versions: ...
    async def placement_versions(self, after: UUID | None) -> Versions: ...


class Ingest(Protocol):
    """The service ingest, asked by access itself; None means gone."""

    async def describe_study(self, study_id: StudyId) -> ReceivedStudy | None: ...
    async def studies_said(self, since: datetime | None, token: str) -> Said: ...
    async def study_versions(self, after: UUID | None) -> Versions: ...


class Reporting(Protocol):
    """The service reporting, asked by access itself; None means that nothing was written, or gone."""

    async def describe_reading(self, case_id: CaseId) -> Reading | None: ...
    async def readings_said(self, since: datetime | None, token: str) -> Said: ...
    async def reading_versions(self, after: UUID | None) -> Versions: ...


@dataclass(frozen=True, slots=True)
class Snapshots:
    """What the owners said of a case: its placement (None: gone) and its studies."""

    placement: Placement | None
    studies: tuple[ReceivedStudy, ...]


class CaseIndex:
    """Keeps the index of cases, and what access knows of facilities, as their owners tell.

    Each `fetch_…` asks the owner and comes before the transaction; each verb writes only what is newer.
    """

    def __init__(
        self, database: Database[AccessTransaction], routing: Routing, ingest: Ingest, reporting: Reporting
    ) -> None:
        self._database = database
        self._routing = routing
        self._ingest = ingest
        self._reporting = reporting

    async def fetch_case(self, case_id: CaseId) -> Snapshots:
        """What the owners say; of a case that we know both are asked at once.

        The studies are noted before ingest is asked: a change of theirs that is told after the answer
        finds the note and waits for the entry, instead of passing for one of a study that is not ours.
        """
        async with self._database.statements() as statements:
            known = await statements.studies_of(case_id)
        placement, studies = await asyncio.gather(
            self._routing.describe_placement(case_id), self._describe_studies(known)
        )
        if placement is not None:
            unknown = [study.study_id for study in placement.studies if study.study_id not in known]
            if unknown:
                async with self._database.transaction() as transaction:
                    if await transaction.hold_case(case_id, unknown):
                        await transaction.expect_studies(case_id, unknown)
                studies += await self._describe_studies(unknown)
        return Snapshots(placement, tuple(studies))

    async def _describe_studies(self, study_ids: Sequence[StudyId]) -> list[ReceivedStudy]:
        told = await asyncio.gather(*map(self._ingest.describe_study, study_ids))
        return [study for study in told if study is not None]

    async def index_case(self, transaction: AccessTransaction, case_id: CaseId, snapshots: Snapshots) -> None:
        """Adds or changes the entry of a case. A move changes sight; an arrival does not count as that."""
        known = await transaction.lock_case(case_id)
        if snapshots.placement is None:
            record = await patients.hold_record_of(transaction, case_id)
            if await transaction.forget_case(case_id):
                await patients.leave(transaction, record)
                await transaction.bump_revision()
            return
        if known is None:
            studies = [study.study_id for study in snapshots.placement.studies]
            if await transaction.hold_case(case_id, studies):
                await self._save(transaction, IndexedCase.first(snapshots.placement, snapshots.studies))
            return
        heard = known.hear(snapshots.placement, snapshots.studies)
        if heard == known:
            await following.follow(transaction, case_id)
            return
        await self._save(transaction, heard)
        if heard.placement.last_move_id:
            await transaction.end_move(case_id, heard.placement.last_move_id)
        if heard.placement.facility_id != known.placement.facility_id:
            await self._moved(transaction, case_id)
            if heard.placement.last_move_id:
                await self._end_shares(transaction, case_id)

    async def _save(self, transaction: AccessTransaction, *cases: IndexedCase) -> None:
        """Writes the entries of locked cases, what is derived of them, and whose they are."""
        entries = [case.entry() for case in cases]
        to_file = {each.case_id: each.patient for each in entries if not each.is_filed}
        filings = await patients.file(transaction, to_file)
        for entry in entries:
            facility = await transaction.facility(entry.case.placement.facility_id)
            zone = known_zone(facility.time_zone) if facility else None
            filing = filings.get(entry.case_id)
            await transaction.save_case(entry, derive(entry.columns(), zone), filing)
            if filing:
                await patients.leave(transaction, filing.left)
            await following.after_indexing(transaction, entry.case_id)

    async def _moved(self, transaction: AccessTransaction, case_id: CaseId) -> None:
        """Ends what the old owner has shown of a case to others: it is not theirs to show any more."""
        users, folders = await transaction.end_showings(case_id)
        for user_id in users:
            await transaction.record(
                ACTOR, "case.grant_ended", f"case:{case_id}", "done", user=str(user_id), reason="moved"
            )
        for folder_id in folders:
            await transaction.record(
                ACTOR, "folder.case_ended", f"case:{case_id}", "done", folder=str(folder_id), reason="moved"
            )
        await following.end_assignment(transaction, case_id, "moved")
        await transaction.say(SightChanged(case_id, await transaction.bump_case(case_id)))
        await transaction.bump_revision()

    async def _end_shares(self, transaction: AccessTransaction, case_id: CaseId) -> None:
        """Takes a case out of every share: none was open at the move, and a blocked one may be again."""
        for bucket_id in await transaction.end_shares(case_id):
            await transaction.record(
                ACTOR, "bucket.case_ended", f"case:{case_id}", "done", bucket=str(bucket_id), reason="moved"
            )

    async def fetch_study(self, study_id: StudyId, version: int | None = None) -> ReceivedStudy | None:
        """What ingest says of a study; None if it is gone, or belongs to no known case, or if the version
        that was told is in the entries of its cases."""
        async with self._database.statements() as statements:
            known = await statements.versions_in_cases(study_id)
        if all(version is not None and each is not None and each >= version for each in known):
            return None
        return await self._ingest.describe_study(study_id)

    async def index_study(self, transaction: AccessTransaction, study: ReceivedStudy | None) -> None:
        """Changes the entries of the cases that a study belongs to."""
        if study is None:
            return
        grown = []
        for case_id in await transaction.cases_of(study.id):
            known = await transaction.lock_case(case_id)
            if known is None:
                raise Unavailable("the case of this study is being indexed")
            if (heard := known.hear(None, [study])) != known:
                grown.append(heard)
        await self._save(transaction, *grown)

    async def describe_again(self, case_id: CaseId) -> None:
        """Asks ingest for the studies of a case again, and writes its entry as it is derived now."""
        async with self._database.statements() as statements:
            studies = await statements.studies_of(case_id)
        told = await self._describe_studies(studies)
        async with self._database.transaction() as transaction:
            known = await transaction.lock_case(case_id)
            if known is not None:
                await self._save(transaction, known.hear(None, told))

    async def fetch_reading(self, case_id: CaseId) -> Reading | None:
        """What reporting says of the reading of a case."""
        return await self._reporting.describe_reading(case_id)

    async def index_reading(self, transaction: AccessTransaction, reading: Reading | None) -> None:
        """Keeps how far a case was read, also before the case is known."""
        if reading is not None and await transaction.hold_case(reading.case_id):
            await following.keep(transaction, reading)

    async def fetch_facility(self, facility_id: FacilityId) -> Facility | None:
        """What routing says of a facility."""
        return await self._routing.describe_facility(facility_id)

    async def index_facility(self, transaction: AccessTransaction, facility: Facility | None) -> None:
        """Keeps a facility. Another time zone moves the instants at which privileges there expire, and those
        at which its studies were made."""
        if facility is None:
            return  # routing removes no facility
        await transaction.lock_administration()
        known = await transaction.facility(facility.id)
        if known is not None and known.version >= facility.version:
            return
        await transaction.save_facility(facility)
        if known is None or known.time_zone != facility.time_zone:
            await transaction.rezone(facility.id)
        if known is not None and known.time_zone != facility.time_zone:
            users = await transaction.bump_users(
                await transaction.users_at(facility.id), by="service:routing"
            )
            await transaction.say(*(UserChanged(user_id, version) for user_id, version in users))
            await transaction.bump_revision()

    def kinds(self) -> Sequence[Kind]:
        """What is kept of its owners, to be compared with what they have."""
        routing, ingest, reporting = self._routing, self._ingest, self._reporting
        return [
            Kind(
                "facilities",
                routing.facilities_said,
                routing.facility_versions,
                self._stale(lambda t, told: t.stale_facilities(told)),
                self._caught_up(self.fetch_facility, self.index_facility),
            ),
            Kind(
                "cases",
                routing.placements_said,
                routing.placement_versions,
                self._stale(lambda t, told: t.stale_cases(told)),
                self._catch_up_case,
            ),
            Kind(
                "studies",
                ingest.studies_said,
                ingest.study_versions,
                self._stale(lambda t, told: t.stale_studies(told)),
                self._caught_up(self.fetch_study, self.index_study),
            ),
            Kind(
                "readings",
                reporting.readings_said,
                reporting.reading_versions,
                self._stale(lambda t, told: t.stale_readings(told)),
                self._caught_up(self.fetch_reading, self.index_reading),
            ),
        ]

    def _stale(
        self, compare: Callable[[AccessTransaction, Mapping[UUID, int]], Awaitable[Collection[UUID]]]
    ) -> Callable[[Mapping[UUID, int]], Awaitable[Collection[UUID]]]:
        """The ids of which an owner has a newer version than we have."""

        async def stale(told: Mapping[UUID, int]) -> Collection[UUID]:
            async with self._database.statements() as statements:
                return await compare(statements, told)

        return stale

    def _caught_up(
        self,
        fetch: Callable[[Any], Awaitable[A]],
        index: Callable[[AccessTransaction, A], Awaitable[None]],
    ) -> Callable[[Any], Awaitable[bool]]:
        async def catch_up(id_: Any) -> bool:
            snapshot = await fetch(id_)
            async with self._database.transaction() as transaction:
                await index(transaction, snapshot)
            return True

        return catch_up

    async def _catch_up_case(self, case_id: CaseId) -> bool:
        snapshots = await self.fetch_case(case_id)
        async with self._database.transaction() as transaction:
            await self.index_case(transaction, case_id, snapshots)
        return True
