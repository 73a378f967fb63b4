"""The rules of sending facilities: who sets them, and who reads them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kernel.database import Database
from kernel.errors import NotFound, lacks
from kernel.ids import FacilityId
from kernel.versions import must_be_current
from services.sharing.asking import SHARE_ADMIN, Access
from services.sharing.usecases import SHARE_CREATE
from services.sharing.validity import Policy

if TYPE_CHECKING:
    from services.sharing.store import SharingTransaction


class Policies:
    """The rules of sending facilities."""

    def __init__(self, database: Database[SharingTransaction], access: Access) -> None:
        self._database = database
        self._access = access

    async def save_policy(self, actor: str, policy: Policy) -> Policy:
        """Sets the rules; they count for what is shared or extended from now on.

        Raises Conflict if they are not made from the ones that are stored (A68).
        """
        policy.check()
        object_ = f"facility:{policy.facility_id}"
        async with self._database.audited(actor, "policy.saved", object_):
            if not await self._access.holds(SHARE_ADMIN, policy.facility_id):
                raise lacks(SHARE_ADMIN, at="the facility")
            async with self._database.transaction() as transaction:
                last = await transaction.lock_policy(policy.facility_id)
                must_be_current("the policy of this facility", policy.version, last)
                policy = replace(policy, version=last.version + 1)
                await transaction.save_policy(policy, actor)
                await transaction.record(
                    actor,
                    "policy.saved",
                    object_,
                    "done",
                    default_days=policy.default_days,
                    maximum_days=policy.maximum_days,
                    unlimited_allowed=int(policy.unlimited_allowed),
                    further_sharing_allowed=int(policy.further_sharing_allowed),
                    version=policy.version,
                )
        return policy

    async def describe_policy(self, actor: str, facility_id: FacilityId) -> Policy:
        """The rules, to who shares there or administers shares there."""
        object_ = f"facility:{facility_id}"
        async with self._database.audited(actor, "policy.read", object_):
            held: list[bool] = []
            unknown: NotFound | None = None
            for each in (SHARE_ADMIN, SHARE_CREATE):
                try:
                    held.append(await self._access.holds(each, facility_id))
                except NotFound as error:
                    unknown = error
            if unknown is not None and not held:
                raise unknown
            if not any(held):
                raise lacks(SHARE_ADMIN, at="the facility")
            async with self._database.transaction() as transaction:
                await transaction.record(actor, "policy.read", object_, "done")
                return await transaction.policy(facility_id)
