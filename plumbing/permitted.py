"""Whether the acting user holds a permission everywhere: for what every service serves beside its own."""

from collections.abc import Awaitable, Callable

import grpc

from kernel.errors import lacks
from wire.access.v1.access_pb2 import CheckPermissionRequest
from wire.access.v1.access_pb2_grpc import AccessServiceStub

Holds = Callable[[str], Awaitable[bool]]
"""Answers whether the acting user holds a permission at every facility."""


def asks(to_access: grpc.aio.Channel) -> Holds:
    """Asks access, in the name of the user for whom the call being served is made."""
    access = AccessServiceStub(to_access)

    async def holds(permission: str) -> bool:
        return bool((await access.CheckPermission(CheckPermissionRequest(permission=permission))).allowed)

    return holds


async def require(holds: Holds, permission: str) -> None:
    """Raises Denied unless the acting user holds the permission at every facility."""
    if not await holds(permission):
        raise lacks(permission, at="every facility")
