"""AuditService: whoever holds `audit.read` has a service verify its own audit rows."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from kernel.errors import Denied
from plumbing.audit import AuditEntry
from plumbing.callers import acting_login
from plumbing.rpc import Server
from plumbing.sealing import AuditTrail, Verification
from plumbing.timestamps import timestamp
from wire.access.v1.access_pb2 import CheckPermissionRequest
from wire.access.v1.access_pb2_grpc import AccessServiceStub
from wire.audit.v1 import audit_pb2 as pb
from wire.audit.v1 import audit_pb2_grpc

AUDIT_READ = "audit.read"

MayRead = Callable[[], Awaitable[bool]]
"""Answers whether the acting user holds `audit.read` at every facility."""


def asks(to_access: grpc.aio.Channel) -> MayRead:
    """Asks access, in the name of the user for whom the call being served is made."""
    access = AccessServiceStub(to_access)

    async def may_read() -> bool:
        return bool((await access.CheckPermission(CheckPermissionRequest(permission=AUDIT_READ))).allowed)

    return may_read


class AuditApi(audit_pb2_grpc.AuditServiceServicer):
    """Every verification is audited itself, and so is who may not."""

    def __init__(self, trail: AuditTrail[Any], may_read: MayRead) -> None:
        self._trail = trail
        self._may_read = may_read

    async def VerifyAudit(  # noqa: N802
        self, request: pb.VerifyAuditRequest, context: Any
    ) -> AsyncIterator[pb.VerifyAuditResponse]:
        actor, verified = acting_login(), f"audit:{self._trail.service}"
        if not await self._may_read():
            await self._trail.refuse(actor, "audit.verified", verified)
            raise Denied(f"the permission `{AUDIT_READ}` is needed")
        await self._trail.write(AuditEntry(actor, "audit.verified", verified, "done"))
        async for found in self._trail.verify():
            yield _answer(found)


def serve(server: Server, trail: AuditTrail[Any], may_read: MayRead) -> None:
    """Adds AuditService to a server."""
    server.add(
        audit_pb2_grpc.add_AuditServiceServicer_to_server,
        AuditApi(trail, may_read),
        pb.DESCRIPTOR.services_by_name["AuditService"].full_name,
    )


def _answer(found: Verification) -> pb.VerifyAuditResponse:
    fault = found.fault
    return pb.VerifyAuditResponse(
        verified=found.verified,
        anchors=found.anchors,
        anchored_at=timestamp(found.anchored_at),
        done=found.done,
        fault=pb.VerifyAuditResponse.Fault(number=fault.number, sentence=fault.sentence) if fault else None,
        unsealed=found.unsealed,
        unsealed_since=timestamp(found.unsealed_since),
    )
