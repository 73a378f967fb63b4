"""The service that reporting asks: access, for what the acting user may do and whether a case is live."""

from collections.abc import Iterable
from uuid import UUID

import grpc

from kernel.errors import NotFound
from kernel.ids import CaseId, FacilityId, UserId
from kernel.reading import PrivilegeLevel, ReadType, Side
from plumbing import answers
from services.reporting.sight import LateImages, Permit, Sight
from wire.access.v1 import access_pb2, access_pb2_grpc

# What access may say beyond these counts as the least.
LEVELS = {
    access_pb2.LEVEL_VIEW: PrivilegeLevel.VIEW,
    access_pb2.LEVEL_DRAFT: PrivilegeLevel.DRAFT,
    access_pb2.LEVEL_REPORT: PrivilegeLevel.REPORT,
}
SIDES = {access_pb2.SIDE_GROUP: Side.GROUP, access_pb2.SIDE_FACILITY: Side.FACILITY}
READ_TYPES = {
    access_pb2.READ_TYPE_PRELIMINARY: ReadType.PRELIMINARY,
    access_pb2.READ_TYPE_FINAL: ReadType.FINAL,
    access_pb2.READ_TYPE_OTHER: ReadType.OTHER,
    access_pb2.READ_TYPE_PRE_READ: ReadType.PRE_READ,
}
DRAFTING_ROLES = {access_pb2.ROLE_TRANSCRIPTIONIST, access_pb2.ROLE_RADIOLOGY_ASSISTANT}
"""Nobody of these completes a report, whatever their privilege (A1)."""


@answers.of("access")
class AccessClient:
    """Asks access on behalf of the acting user, whose token the channel forwards."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._access = access_pb2_grpc.AccessServiceStub(channel)

    async def check(self, case_id: CaseId) -> Sight:
        answer = await self._access.Check(
            access_pb2.CheckRequest(case_id=str(case_id), images_since_report=True)
        )
        decision = answer.decision
        # An access of the version before does not tell them apart: then nothing beside a share counts.
        told = decision.own_level or access_pb2.PATH_SHARE in decision.paths
        return Sight(
            allowed=decision.allowed,
            level=LEVELS.get(decision.level, PrivilegeLevel.NONE),
            own_level=LEVELS.get(decision.own_level if told else decision.level, PrivilegeLevel.NONE),
            reports=decision.reports,
            side=SIDES.get(decision.side, Side.NONE),
            read_types=_read_types(decision.read_types),
            own_read_types=_read_types(decision.own_read_types if told else decision.read_types),
            facility_id=FacilityId(UUID(decision.facility_id)) if decision.facility_id else None,
            being_deleted=decision.being_deleted,
            revision=answer.revision,
            name=decision.user_name,
            instance_count=decision.instance_count if decision.HasField("instance_count") else None,
            late=_late(decision) if decision.images_since_report else None,
            user_id=UserId(UUID(decision.user_id)) if decision.user_id else None,
            transcribes=decision.role == access_pb2.ROLE_TRANSCRIPTIONIST,
            only_drafts=decision.role in DRAFTING_ROLES,
        )

    async def check_permission(self, permission: str, facility_id: FacilityId | None) -> Permit:
        answer = await self._access.CheckPermission(
            access_pb2.CheckPermissionRequest(permission=permission, facility_id=str(facility_id or ""))
        )
        return Permit(answer.allowed, SIDES.get(answer.side, Side.NONE))

    async def holds_at(self, permission: str, facility_id: FacilityId | None) -> bool:
        try:
            return (await self.check_permission(permission, facility_id)).allowed
        except NotFound:
            return False

    async def is_deleted(self, case_id: CaseId) -> bool:
        request = access_pb2.CheckDeletionRequest(case_id=str(case_id))
        return (await self._access.CheckDeletion(request)).begun


def _late(decision: access_pb2.Decision) -> LateImages:
    since = answers.instant(decision, "images_since") if decision.HasField("images_since") else None
    return LateImages(decision.images_since_report, since)


def _read_types(told: Iterable[access_pb2.ReadType.ValueType]) -> frozenset[ReadType]:
    return frozenset(READ_TYPES[each] for each in told if each in READ_TYPES)
