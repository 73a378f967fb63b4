"""What administrators do: they save facilities and rules. And the ports that every use case needs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal, Protocol
from uuid import UUID

from kernel.database import Database
from kernel.errors import Invalid, NotFound, lacks
from kernel.events import FacilityChanged
from kernel.healing import Said
from kernel.ids import CaseId, FacilityId, NewId, RuleId, StudyId
from kernel.reach import Reach
from kernel.versions import must_be_current
from services.routing.domain import (
    EndpointRule,
    Facility,
    FacilitySettings,
    Study,
    new_rule,
    save_facility,
)
from services.routing.suggestions import Suggestion, nearest

if TYPE_CHECKING:
    from services.routing.store import RoutingTransaction

NAME = "routing"

FACILITY_ADMIN = "facility.admin"
# Who enrols gateways or gives privileges needs to know which facilities there are.
FACILITY_READERS = (FACILITY_ADMIN, "gateway.admin", "access.admin")

MAX_SUGGESTIONS = 100
"""In one request: what a page of the queue shows."""

VERSIONS_PAGE = 500
"""What a page of versions holds; a page with fewer is the last."""

Outcome = Literal["done", "refused"]
Versions = list[tuple[UUID, int]]


@dataclass(frozen=True, slots=True)
class Sight:
    """What the acting user sees of a case; `facility_id` is its owner, None if they do not see it."""

    by_privilege: bool = False
    facility_id: FacilityId | None = None


class Access(Protocol):
    """The service access, asked on behalf of the acting user."""

    async def reach(self, permission: str) -> Reach: ...
    async def check(self, case_id: CaseId) -> Sight: ...


class Ingest(Protocol):
    """The service ingest, asked by routing itself."""

    async def describe_study(self, study_id: StudyId, mapping_tag: str | None) -> Study | None:
        """The owner's snapshot, with values of the tag; None if the study is gone."""
        ...

    async def studies_said(self, since: datetime | None, token: str) -> Said:
        """A page of the facts that it has published about studies."""
        ...

    async def list_versions(self, after: UUID | None) -> Versions:
        """The next page of received studies and their versions."""
        ...

    async def describe_deletion(self, case_id: CaseId) -> datetime | None:
        """When the deletion of a case began; None if there is none."""
        ...


class Administration:
    """Opens the transaction of an act that an administrator asks for."""

    def __init__(self, database: Database[RoutingTransaction], access: Access) -> None:
        self._database = database
        self._access = access

    async def reach(self, permissions: Collection[str] = (FACILITY_ADMIN,)) -> Reach:
        """Where the actor holds one of `permissions`; asked before a transaction opens."""
        reach = Reach()
        for permission in permissions:
            if not reach.everywhere:
                reach |= await self._access.reach(permission)
        return reach

    @asynccontextmanager
    async def act(
        self, actor: str, action: str, object_: str, permissions: Collection[str] = (FACILITY_ADMIN,)
    ) -> AsyncIterator[tuple[RoutingTransaction, Reach]]:
        """A transaction, and where the actor holds one of `permissions`, asked before it opens.

        A refusal within is audited.
        """
        reach = await self.reach(permissions)
        async with (
            self._database.audited(actor, action, object_),
            self._database.transaction() as transaction,
        ):
            yield transaction, reach


def administered(facility: Facility | None, reach: Reach, field: str) -> Facility:
    """The facility, if the actor administers it; else it is the same as absent."""
    somewhere(reach)
    if facility is None or facility.id not in reach:
        raise NotFound(f"there is no such facility, or you do not administer it (`{field}`)", field=field)
    return facility


def somewhere(reach: Reach) -> None:
    if not reach:
        raise lacks(FACILITY_ADMIN, at="the facility")


class Facilities:
    """The sites that we configure."""

    def __init__(
        self,
        database: Database[RoutingTransaction],
        administration: Administration,
        new_id: NewId,
        time_zones: Collection[str],
    ) -> None:
        self._database = database
        self._administration = administration
        self._new_id = new_id
        self._time_zones = time_zones

    async def save_facility(
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
                current = administered(await transaction.lock_facility(facility_id), reach, "facility_id")
            elif not reach.everywhere:
                raise lacks(FACILITY_ADMIN, at="every facility", to="create a facility")
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

    async def list_facilities(
        self, actor: str, after: tuple[str, UUID] | None, limit: int
    ) -> Sequence[Facility]:
        """The facilities at which the actor may administer something, by name."""
        act = self._administration.act(actor, "facility.listed", "facility:all", FACILITY_READERS)
        async with act as (transaction, reach):
            if not reach:
                raise lacks(*FACILITY_READERS, at="a facility")
            return await transaction.facilities(reach, after, limit)

    async def describe_facility(self, facility_id: FacilityId) -> Facility:
        """The snapshot for another service."""
        async with self._database.transaction() as transaction:
            if facility := await transaction.facility(facility_id):
                return facility
        raise NotFound("there is no such facility", field="facility_id")

    async def list_versions(self, after: UUID) -> Versions:
        """The versions of all facilities, by id."""
        async with self._database.transaction() as transaction:
            return await transaction.facility_versions(after, VERSIONS_PAGE)


class Rules:
    """The endpoint rules. Each touches two facilities, and whoever saves or removes one administers both."""

    def __init__(
        self, database: Database[RoutingTransaction], administration: Administration, new_id: NewId
    ) -> None:
        self._database = database
        self._administration = administration
        self._new_id = new_id

    async def save_rule(
        self, actor: str, endpoint_facility_id: FacilityId, hub_facility_id: FacilityId, text: str
    ) -> EndpointRule:
        """Adds a rule; the next study routes by it (GWY-21), no placed case moves (A20)."""
        rule_id = RuleId(self._new_id())
        object_ = f"rule:{rule_id}"
        async with self._administration.act(actor, "rule.saved", object_) as (transaction, reach):
            found = await transaction.hold_facilities({endpoint_facility_id, hub_facility_id})
            endpoint = administered(found.get(endpoint_facility_id), reach, "endpoint_facility_id")
            hub = administered(found.get(hub_facility_id), reach, "hub_facility_id")
            rule = new_rule(rule_id, endpoint, hub, text)
            await transaction.insert_rule(rule)
            await transaction.record(actor, "rule.saved", object_, "done", **_parties(rule))
            return rule

    async def list_rules(
        self, actor: str, facility_id: FacilityId, after: tuple[str, UUID] | None, limit: int
    ) -> Sequence[EndpointRule]:
        """The rules on either side of a facility, by text."""
        act = self._administration.act(actor, "rule.listed", f"facility:{facility_id}")
        async with act as (transaction, reach):
            administered(await transaction.facility(facility_id), reach, "facility_id")
            return await transaction.rules(facility_id, after, limit)

    async def suggest_rules(
        self, actor: str, hub_facility_id: FacilityId, values: Sequence[str]
    ) -> Sequence[Suggestion | None]:
        """For each mapping value the rule of a hub whose text is nearest."""
        if len(values) > MAX_SUGGESTIONS:
            raise Invalid(
                f"`mapping_values` must be at most {MAX_SUGGESTIONS} values", field="mapping_values"
            )
        act = self._administration.act(actor, "rule.listed", f"facility:{hub_facility_id}")
        async with act as (transaction, reach):
            administered(await transaction.facility(hub_facility_id), reach, "hub_facility_id")
            rules = await transaction.all_rules(hub_facility_id)
        # Thousands of rules take some 100 ms: facts are heard meanwhile.
        found = await asyncio.to_thread(nearest, rules, frozenset(values))
        return [found[value] for value in values]

    async def remove_rule(self, actor: str, rule_id: RuleId) -> None:
        """Removes a rule; no placed case moves (A20)."""
        object_ = f"rule:{rule_id}"
        async with self._administration.act(actor, "rule.removed", object_) as (transaction, reach):
            somewhere(reach)
            rule = await transaction.rule(rule_id)
            sides = (rule.hub_facility_id in reach, rule.endpoint_facility_id in reach) if rule else ()
            if rule is None or not any(sides):
                raise NotFound("there is no such rule, or you do not administer its hub", field="rule_id")
            if not all(sides):
                raise lacks(FACILITY_ADMIN, at="the hub and at the endpoint")
            await transaction.delete_rule(rule_id)
            await transaction.record(actor, "rule.removed", object_, "done", **_parties(rule))


def _parties(rule: EndpointRule) -> dict[str, str]:
    return {
        "endpoint_facility_id": str(rule.endpoint_facility_id),
        "hub_facility_id": str(rule.hub_facility_id),
        "text": rule.text,
    }
