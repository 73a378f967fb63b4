"""What routing does: administrators save facilities and rules, studies are placed, people distribute."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Literal, Protocol
from uuid import UUID

from kernel.errors import Denied, NotFound, Unavailable
from kernel.events import CaseMoved, CasePlaced, CasePurged, CaseUndistributed, FacilityChanged, Fact
from kernel.ids import CaseId, FacilityId, NewId, RuleId, StudyId
from kernel.versions import Change, must_be_current
from plumbing import healing
from services.routing.domain import (
    Deletion,
    Destination,
    EndpointRule,
    Facility,
    FacilitySettings,
    Held,
    HeldKind,
    HeldReason,
    KnownStudy,
    Placement,
    Reach,
    Study,
    Waiting,
    agree,
    new_rule,
    place,
    rule_keys,
    save_facility,
)

NAME = "routing"

FACILITY_ADMIN = "facility.admin"
# Who enrols gateways or gives privileges needs to know which facilities there are.
FACILITY_READERS = (FACILITY_ADMIN, "gateway.admin", "access.admin")

VERSIONS_PAGE = 500
"""What a page of versions holds; a page with fewer is the last."""

Outcome = Literal["done", "refused"]
Versions = list[tuple[UUID, int]]


class Access(Protocol):
    """The service access, asked on behalf of the acting user."""

    async def check_permission(self, permission: str) -> Reach: ...


class Ingest(Protocol):
    """The service ingest, asked by routing itself."""

    async def describe_study(self, study_id: StudyId) -> Study | None:
        """The owner's snapshot; None if the study is gone."""
        ...

    async def list_versions(self, after: UUID | None) -> Versions:
        """The next page of received studies and their versions."""
        ...

    async def describe_deletion(self, case_id: CaseId) -> datetime | None:
        """When the deletion of a case began; None if there is none."""
        ...


class Transaction(Protocol):
    """What routing's store does within one transaction; `store.py` says more."""

    @property
    def now(self) -> datetime: ...
    async def say(self, *facts: Fact) -> None: ...
    async def record(
        self, actor: str, action: str, object_: str, outcome: Outcome, **detail: str | int
    ) -> None: ...

    async def facility(self, facility_id: FacilityId) -> Facility | None: ...
    async def lock_facility(self, facility_id: FacilityId) -> Facility | None: ...
    async def hold_facilities(
        self, facility_ids: Collection[FacilityId]
    ) -> Mapping[FacilityId, Facility]: ...
    async def last_change_of_facility(self, facility_id: FacilityId) -> Change: ...
    async def save_facility(self, facility: Facility, by: str) -> None: ...
    async def facilities(
        self, reach: Reach, after: tuple[str, UUID] | None, limit: int
    ) -> Sequence[Facility]: ...
    async def facility_versions(self, after: UUID, limit: int) -> Versions: ...

    async def is_in_rules(self, facility_id: FacilityId) -> bool: ...
    async def insert_rule(self, rule: EndpointRule) -> None: ...
    async def rule(self, rule_id: RuleId) -> EndpointRule | None: ...
    async def delete_rule(self, rule_id: RuleId) -> None: ...
    async def rules(
        self, facility_id: FacilityId, after: tuple[str, UUID] | None, limit: int
    ) -> Sequence[EndpointRule]: ...
    async def endpoints(
        self, hub_facility_id: FacilityId, keys: Sequence[str]
    ) -> Mapping[str, FacilityId]: ...

    async def lock_study(self, study_id: StudyId) -> KnownStudy | None: ...
    async def save_study(self, study_id: StudyId, known: KnownStudy) -> None: ...
    async def known_versions(self, study_ids: Sequence[StudyId]) -> Mapping[StudyId, int]: ...
    async def insert_placement(self, placement: Placement) -> CaseId: ...
    async def lock_placement(self, case_id: CaseId) -> Placement | None: ...
    async def update_placement(self, placement: Placement) -> None: ...
    async def placement(self, case_id: CaseId) -> Placement | None: ...
    async def placement_versions(self, after: UUID, limit: int) -> Versions: ...

    async def hold(self, study: Study, case_id: CaseId | None, waiting: Sequence[Waiting]) -> None: ...
    async def release_undistributed(self, case_id: CaseId) -> None: ...
    async def held(self, reach: Reach, after: UUID | None, limit: int) -> Sequence[Held]: ...
    async def held_counts(self) -> Mapping[HeldKind, int]: ...

    async def studies_of(self, case_id: CaseId) -> Sequence[StudyId]: ...
    async def studies_beside(self, case_id: CaseId) -> Sequence[StudyId]: ...
    async def purge(self, case_id: CaseId, study_ids: Sequence[StudyId]) -> Sequence[StudyId]: ...
    async def purged_with(self, case_id: CaseId) -> Sequence[StudyId] | None: ...


class Database(Protocol):
    """Opens transactions."""

    def transaction(self) -> AbstractAsyncContextManager[Transaction]: ...
    def audited(self, actor: str, action: str, object_: str) -> AbstractAsyncContextManager[None]: ...


class Administration:
    """Opens the transaction of an act that an administrator asks for."""

    def __init__(self, database: Database, access: Access) -> None:
        self._database = database
        self._access = access

    @asynccontextmanager
    async def act(
        self, actor: str, action: str, object_: str, permissions: Collection[str] = (FACILITY_ADMIN,)
    ) -> AsyncIterator[tuple[Transaction, Reach]]:
        """A transaction, and where the actor holds one of `permissions`, asked before it opens.

        A refusal within is audited.
        """
        reach = Reach(everywhere=False)
        for permission in permissions:
            if not reach.everywhere:
                reach |= await self._access.check_permission(permission)
        async with (
            self._database.audited(actor, action, object_),
            self._database.transaction() as transaction,
        ):
            yield transaction, reach


def _found(facility: Facility | None, reach: Reach, field: str) -> Facility:
    """The facility, if the actor administers it; else it is the same as absent."""
    _somewhere(reach)
    if facility is None or facility.id not in reach:
        raise NotFound(f"`{field}` is not a facility that you administer", field=field)
    return facility


def _somewhere(reach: Reach) -> None:
    if not reach:
        raise Denied(f"the permission `{FACILITY_ADMIN}` is needed")


class Facilities:
    """The sites that we configure."""

    def __init__(
        self, database: Database, administration: Administration, new_id: NewId, time_zones: Collection[str]
    ) -> None:
        self._database = database
        self._administration = administration
        self._new_id = new_id
        self._time_zones = time_zones

    async def save(
        self, actor: str, facility_id: FacilityId | None, wanted: FacilitySettings, made_from: int
    ) -> Facility:
        """Creates a facility (no id) or changes one, made from this version (0: none) of it (A68).

        A save that changes nothing says nothing.
        """
        is_new = facility_id is None
        facility_id = facility_id or FacilityId(self._new_id())
        object_ = f"facility:{facility_id}"
        async with self._administration.act(actor, "facility.saved", object_) as (transaction, reach):
            current = None
            if not is_new:
                current = _found(await transaction.lock_facility(facility_id), reach, "facility_id")
            elif not reach.everywhere:
                raise Denied(f"the permission `{FACILITY_ADMIN}` at every facility is needed for a new one")
            name = current.name if current else wanted.name
            must_be_current(
                f"the facility `{name}`", made_from, await transaction.last_change_of_facility(facility_id)
            )
            facility = save_facility(
                wanted,
                current,
                facility_id,
                is_in_rules=await transaction.is_in_rules(facility_id),
                time_zones=self._time_zones,
            )
            if facility != current:
                await transaction.save_facility(facility, by=actor)
                await transaction.record(
                    actor,
                    "facility.saved",
                    object_,
                    "done",
                    version=facility.version,
                    model=facility.model.value,
                )
                await transaction.say(FacilityChanged(facility.id, facility.version))
            return facility

    async def list(self, actor: str, after: tuple[str, UUID] | None, limit: int) -> Sequence[Facility]:
        """The facilities at which the actor may administer something, by name."""
        act = self._administration.act(actor, "facility.listed", "facility:all", FACILITY_READERS)
        async with act as (transaction, reach):
            if not reach:
                raise Denied(f"one of the permissions `{'`, `'.join(FACILITY_READERS)}` is needed")
            return await transaction.facilities(reach, after, limit)

    async def describe(self, facility_id: FacilityId) -> Facility:
        """The snapshot for another service."""
        async with self._database.transaction() as transaction:
            if facility := await transaction.facility(facility_id):
                return facility
        raise NotFound("no such facility", field="facility_id")

    async def list_versions(self, after: UUID) -> Versions:
        """The versions of all facilities, by id."""
        async with self._database.transaction() as transaction:
            return await transaction.facility_versions(after, VERSIONS_PAGE)


class Rules:
    """The endpoint rules. Each touches two facilities, and whoever saves or removes one administers both."""

    def __init__(self, database: Database, administration: Administration, new_id: NewId) -> None:
        self._database = database
        self._administration = administration
        self._new_id = new_id

    async def save(
        self, actor: str, endpoint_facility_id: FacilityId, hub_facility_id: FacilityId, text: str
    ) -> EndpointRule:
        """Adds a rule; the next study routes by it (GWY-21), no placed case moves (A20)."""
        rule_id = RuleId(self._new_id())
        object_ = f"rule:{rule_id}"
        async with self._administration.act(actor, "rule.saved", object_) as (transaction, reach):
            found = await transaction.hold_facilities({endpoint_facility_id, hub_facility_id})
            endpoint = _found(found.get(endpoint_facility_id), reach, "endpoint_facility_id")
            hub = _found(found.get(hub_facility_id), reach, "hub_facility_id")
            rule = new_rule(rule_id, endpoint, hub, text)
            await transaction.insert_rule(rule)
            await transaction.record(actor, "rule.saved", object_, "done", **_parties(rule))
            return rule

    async def list(
        self, actor: str, facility_id: FacilityId, after: tuple[str, UUID] | None, limit: int
    ) -> Sequence[EndpointRule]:
        """The rules on either side of a facility, by text."""
        act = self._administration.act(actor, "rule.listed", f"facility:{facility_id}")
        async with act as (transaction, reach):
            _found(await transaction.facility(facility_id), reach, "facility_id")
            return await transaction.rules(facility_id, after, limit)

    async def remove(self, actor: str, rule_id: RuleId) -> None:
        """Removes a rule; no placed case moves (A20)."""
        object_ = f"rule:{rule_id}"
        async with self._administration.act(actor, "rule.removed", object_) as (transaction, reach):
            _somewhere(reach)
            rule = await transaction.rule(rule_id)
            sides = (rule.hub_facility_id in reach, rule.endpoint_facility_id in reach) if rule else ()
            if rule is None or not any(sides):
                raise NotFound("no such rule", field="rule_id")
            if not all(sides):
                raise Denied(f"the permission `{FACILITY_ADMIN}` is needed at the hub and at the endpoint")
            await transaction.delete_rule(rule_id)
            await transaction.record(actor, "rule.removed", object_, "done", **_parties(rule))


def _parties(rule: EndpointRule) -> dict[str, str]:
    return {
        "endpoint_facility_id": str(rule.endpoint_facility_id),
        "hub_facility_id": str(rule.hub_facility_id),
        "text": rule.text,
    }


class Placements:
    """Which facility owns each received study, and what waits for a person."""

    def __init__(
        self, database: Database, administration: Administration, ingest: Ingest, new_id: NewId
    ) -> None:
        self._database = database
        self._administration = administration
        self._ingest = ingest
        self._new_id = new_id

    async def fetch(self, study_id: StudyId) -> Study | None:
        """Asks the owner for the snapshot that `place` writes; ask before the transaction opens."""
        return await self._ingest.describe_study(study_id)

    async def place(self, transaction: Transaction, study: Study) -> None:
        """Applies a snapshot of a received study: places it, or follows what has changed in it.

        Snapshots may come late, twice or out of order: only a newer one than the last has an effect.
        """
        known = await transaction.lock_study(study.id)
        if known is None or known.version >= study.version:
            return
        placement = await transaction.lock_placement(known.case_id) if known.case_id else None
        if placement:
            await self._follow(transaction, study, known, placement)
        else:
            await self._place(transaction, study, known)

    async def _place(self, transaction: Transaction, study: Study, known: KnownStudy) -> None:
        facility = await transaction.facility(study.receiving_facility_id)
        if facility is None:
            await self._hold(transaction, study, known, HeldReason.UNKNOWN_FACILITY)
            return
        value = study.first_value(facility.mapping_tag) if facility.mapping_tag else None
        rules = await transaction.endpoints(facility.id, rule_keys(value)) if value else {}
        destination = place(study, facility, rules)
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

    async def _follow(
        self, transaction: Transaction, study: Study, known: KnownStudy, placement: Placement
    ) -> None:
        """The case stays where it is; which series belong to it may have changed."""
        if await self._agree(transaction, study, known, placement):
            placement = replace(placement, version=placement.version + 1)
            await transaction.update_placement(placement)
            await transaction.say(CasePlaced(placement.case_id, placement.version))

    async def _agree(
        self, transaction: Transaction, study: Study, known: KnownStudy, placement: Placement
    ) -> bool:
        """Whether what of the study belongs to its case is other than before."""
        agreement = agree(study, known.mapping_tag, known.mapping_value, placement.reason)
        after = replace(
            known, version=study.version, mapping_value=agreement.mapping_value, placed=agreement.study
        )
        await transaction.save_study(study.id, after)
        await transaction.hold(study, placement.case_id, agreement.waiting)
        return after.placed != known.placed

    async def _hold(
        self,
        transaction: Transaction,
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

    async def describe(self, case_id: CaseId) -> Placement:
        """The snapshot for another service."""
        async with self._database.transaction() as transaction:
            if placement := await transaction.placement(case_id):
                return placement
        raise NotFound("no such case", field="case_id")

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

    async def purge(self, transaction: Transaction, deletion: Deletion, version: int) -> None:
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
            raise Unavailable("another study has just come beside the case")
        again = deletion.sent_again()
        study_ids = await transaction.purge(case_id, [*own, *(set(beside) - {study.id for study in again})])
        for study in again:
            known = beside[study.id]
            if known is None or known.version > study.version:
                raise Unavailable("a study beside the case has just changed")
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

    async def list_held(self, actor: str, after: UUID | None, limit: int) -> Sequence[Held]:
        """What waits at the facilities that the actor administers, oldest first."""
        async with self._administration.act(actor, "held.listed", "held:all") as (transaction, reach):
            _somewhere(reach)
            return await transaction.held(reach, after, limit)

    async def count_held(self) -> Mapping[HeldKind, int]:
        """How many things wait, by kind."""
        async with self._database.transaction() as transaction:
            return await transaction.held_counts()

    async def distribute(self, actor: str, case_id: CaseId, facility_id: FacilityId) -> Placement:
        """Moves an undistributed case from its hub to an endpoint; the CaseId stays."""
        object_ = f"case:{case_id}"
        async with self._administration.act(actor, "case.distributed", object_) as (transaction, reach):
            placement = await transaction.lock_placement(case_id)
            if placement is None or placement.facility_id not in reach:
                raise NotFound("no such case", field="case_id")
            found = await transaction.hold_facilities({facility_id})
            moved = placement.distribute(_found(found.get(facility_id), reach, "facility_id"))
            await transaction.update_placement(moved)
            await transaction.release_undistributed(case_id)
            await transaction.record(
                actor,
                "case.distributed",
                object_,
                "done",
                version=moved.version,
                from_facility_id=str(placement.facility_id),
                to_facility_id=str(moved.facility_id),
            )
            await transaction.say(CaseMoved(case_id, moved.version))
            described = await transaction.placement(case_id)
            assert described is not None
            return described

    async def heal(self) -> int:
        """Applies every received study of which ingest has something newer; how many there were."""
        return await healing.heal(
            [healing.Kind("studies", self._ingest.list_versions, self._stale, self._heal)]
        )

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
