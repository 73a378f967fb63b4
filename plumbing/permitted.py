"""What the acting user is permitted, as access answers it."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from uuid import UUID

import grpc

from kernel.errors import lacks
from kernel.ids import FacilityId
from kernel.reach import Reach
from wire.access.v1.access_pb2 import CheckPermissionRequest
from wire.access.v1.access_pb2_grpc import AccessServiceStub

if TYPE_CHECKING:
    from wire.access.v1.access_pb2_grpc import AccessServiceAsyncStub


async def reach(access: "AccessServiceAsyncStub", permission: str) -> Reach:
    """Where they hold a permission."""
    answer = await access.CheckPermission(CheckPermissionRequest(permission=permission))
    return Reach(answer.allowed, frozenset(FacilityId(UUID(each)) for each in answer.facility_ids))


async def holds_at(access: "AccessServiceAsyncStub", permission: str, facility_id: FacilityId) -> bool:
    """Whether they hold it at a facility; raises NotFound for none, as for one where they hold nothing."""
    request = CheckPermissionRequest(permission=permission, facility_id=str(facility_id))
    return (await access.CheckPermission(request)).allowed


Holds = Callable[[str], Awaitable[bool]]
"""Answers whether the acting user holds a permission at every facility: for what every service serves."""


def asks(to_access: grpc.aio.Channel) -> Holds:
    """Asks access, in the name of the user for whom the call being served is made."""
    access = AccessServiceStub(to_access)

    async def holds(permission: str) -> bool:
        return (await reach(access, permission)).everywhere

    return holds


async def require(holds: Holds, permission: str) -> None:
    """Raises Denied unless the acting user holds the permission at every facility."""
    if not await holds(permission):
        raise lacks(permission, at="every facility")
