"""AuditService: whoever holds `audit.read` has a service verify its own audit rows."""

from collections.abc import AsyncIterator
from typing import Any

from plumbing.audit import AuditEntry
from plumbing.callers import acting_login
from plumbing.permitted import Holds, require
from plumbing.rpc import Server
from plumbing.sealing import AuditTrail, Verification
from plumbing.timestamps import timestamp
from wire.audit.v1 import audit_pb2 as pb
from wire.audit.v1 import audit_pb2_grpc

AUDIT_READ = "audit.read"


class AuditApi(audit_pb2_grpc.AuditServiceServicer):
    """Every verification is audited itself, and so is who may not."""

    def __init__(self, trail: AuditTrail[Any], holds: Holds) -> None:
        self._trail = trail
        self._holds = holds

    async def VerifyAudit(  # noqa: N802
        self, request: pb.VerifyAuditRequest, context: Any
    ) -> AsyncIterator[pb.VerifyAuditResponse]:
        actor, verified = acting_login(), f"audit:{self._trail.service}"
        async with self._trail.audited(actor, "audit.verified", verified):
            await require(self._holds, AUDIT_READ)
        await self._trail.write(AuditEntry(actor, "audit.verified", verified, "done"))
        async for found in self._trail.verify_audit():
            yield _answer(found)


def serve(server: Server, trail: AuditTrail[Any], holds: Holds) -> None:
    """Adds AuditService to a server."""
    server.add(
        audit_pb2_grpc.add_AuditServiceServicer_to_server,
        AuditApi(trail, holds),
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
