"""Which read types are active where: people switch them, and list them (REP-5, REP-6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kernel.database import Database
from kernel.errors import (
    Invalid,
    NotFound,
    lacks,
)
from kernel.ids import FacilityId
from kernel.reading import ReadType, Side
from services.reporting.readtypes import active_read_types, listed, switch
from services.reporting.sight import Permit
from services.reporting.usecases import Access

if TYPE_CHECKING:
    from services.reporting.store import ReportingTransaction

FACILITY_ADMIN = "facility.admin"
OPERATOR = "operator"
# Who gives privileges needs to know which read types there are to give (ACC-34).
READ_TYPE_READERS = (FACILITY_ADMIN, "access.admin", OPERATOR)


class ReadTypes:
    """Which read types are active where."""

    def __init__(self, database: Database[ReportingTransaction], access: Access) -> None:
        self._database = database
        self._access = access

    async def activate_read_type(
        self, actor: str, facility_id: FacilityId | None, read_type: ReadType, active: bool
    ) -> Sequence[ReadType]:
        """Switches a read type at a facility, or (no facility) pre-read for the group (REP-5, REP-6).

        What is off for the group is off everywhere, and back as it was when the group has it again.
        """
        if facility_id is None and read_type is not ReadType.PRE_READ:
            raise Invalid(
                "name the facility (`facility_id`): only pre-read is switched on for the whole group",
                field="facility_id",
            )
        object_ = f"facility:{facility_id}" if facility_id else "group"
        async with self._database.audited(actor, "read_type.switched", object_):
            permission = FACILITY_ADMIN if facility_id else OPERATOR
            permit = await self._access.check_permission(permission, facility_id)
            # The facility side administers the types that it may know of.
            if not permit.allowed or (
                facility_id and read_type is ReadType.PRE_READ and permit.side is Side.FACILITY
            ):
                raise lacks(permission, at="the facility" if facility_id else "every facility")
            async with self._database.transaction() as transaction:
                await transaction.lock_switches()
                enabled = await transaction.pre_read_enabled()
                if facility_id:
                    switches = switch(
                        await transaction.switches(facility_id), read_type, active, pre_read_enabled=enabled
                    )
                    answer = listed(active_read_types(switches, pre_read_enabled=enabled), permit.side)
                else:
                    answer = [ReadType.PRE_READ] if active else []
                await transaction.save_switch(facility_id, read_type, active)
                await transaction.record(
                    actor,
                    "read_type.switched",
                    object_,
                    "done",
                    read_type=read_type.value,
                    active="yes" if active else "no",
                )
                return answer

    async def list_read_types(self, actor: str, facility_id: FacilityId) -> Sequence[ReadType]:
        """The read types active at a facility that the actor administers; pre-read for the group side."""
        async with self._database.audited(actor, "read_types.listed", f"facility:{facility_id}"):
            permits: list[Permit] = []
            unknown: NotFound | None = None
            for each in READ_TYPE_READERS:
                try:
                    permits.append(await self._access.check_permission(each, facility_id))
                except NotFound as error:
                    unknown = error
            if unknown is not None and not permits:
                raise unknown
            if not any(permit.allowed for permit in permits):
                raise lacks(*READ_TYPE_READERS, at="the facility")
            async with self._database.transaction() as transaction:
                active = active_read_types(
                    await transaction.switches(facility_id),
                    pre_read_enabled=await transaction.pre_read_enabled(),
                )
            return listed(active, permits[0].side)
