"""How long a study must be quiet before it is called settled: a length for each receiving facility (A55)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from kernel.database import Database
from kernel.errors import Invalid, lacks
from kernel.ids import FacilityId
from kernel.versions import NEVER_SAVED, must_be_current

if TYPE_CHECKING:
    from services.ingest.store import IngestTransaction

FACILITY_ADMIN = "facility.admin"

SHORTEST = timedelta(seconds=1)
"""Studies are looked at once a second."""
LONGEST = timedelta(hours=1)
"""A hub calls a study without a mapping value undistributed only when it has settled (A17)."""


@dataclass(frozen=True, slots=True)
class SettleLength:
    """How long studies received for a facility must be quiet.

    Attributes:
        version: grows with each save; 0 while nobody has saved one, and the setting of the service counts.
    """

    facility_id: FacilityId
    settle_after: timedelta
    version: int = 0

    def saved(self) -> SettleLength:
        """The length with its next version; raises Invalid if it is too short or too long."""
        if not SHORTEST <= self.settle_after <= LONGEST:
            raise Invalid("`settle_after` must be between 1 second and 1 hour", field="settle_after")
        return replace(self, version=self.version + 1)


class Access(Protocol):
    """The service access, asked on behalf of the acting user."""

    async def holds(self, permission: str, facility_id: FacilityId) -> bool:
        """Whether they hold it there; raises NotFound for no facility, as for one where they hold nothing."""
        ...


class SettleLengths:
    """What administrators of a facility read and save."""

    def __init__(self, database: Database[IngestTransaction], access: Access, default: timedelta) -> None:
        self._database = database
        self._access = access
        self._default = default

    async def read_settle_length(self, actor: str, facility_id: FacilityId) -> SettleLength:
        """The length that counts for the facility, saved or not."""
        async with self._database.audited(actor, "settle_length.read", f"facility:{facility_id}"):
            await self._require(facility_id)
            async with self._database.statements() as statements:
                known = await statements.settle_length(facility_id)
        if known is None:
            return SettleLength(facility_id, self._default)
        settle_after, last = known
        return SettleLength(facility_id, settle_after, last.version)

    async def save_settle_length(self, actor: str, wanted: SettleLength) -> SettleLength:
        """Saves a length made from a version of it, 0 for the first (A68); studies not yet settled follow."""
        object_ = f"facility:{wanted.facility_id}"
        async with self._database.audited(actor, "settle_length.saved", object_):
            await self._require(wanted.facility_id)
            async with self._database.transaction() as transaction:
                await transaction.lock_settle_lengths()
                known = await transaction.settle_length(wanted.facility_id)
                last = known[1] if known else NEVER_SAVED
                must_be_current("the settle length of this facility", wanted.version, last)
                saved = wanted.saved()
                await transaction.save_settle_length(saved, by=actor)
                await transaction.record(
                    actor,
                    "settle_length.saved",
                    object_,
                    "done",
                    version=saved.version,
                    settle_after_ms=round(saved.settle_after / timedelta(milliseconds=1)),
                )
                return saved

    async def _require(self, facility_id: FacilityId) -> None:
        if not await self._access.holds(FACILITY_ADMIN, facility_id):
            raise lacks(FACILITY_ADMIN, at=f"`{facility_id}`")
