"""The services that routing asks: access for permissions, ingest for received studies."""

from datetime import datetime
from uuid import UUID

import grpc

from kernel.dicom import UID
from kernel.errors import NotFound
from kernel.ids import CaseId, FacilityId, StudyId
from plumbing import answers
from services.routing.domain import MappingValue, Reach, Series, Study
from services.routing.moves import Ending, Move
from wire.access.v1 import access_pb2, access_pb2_grpc
from wire.ingest.v1 import ingest_pb2, ingest_pb2_grpc


@answers.of("access")
class AccessClient:
    """Asks access on behalf of the acting user, whose token the channel forwards; without one for routing."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._access = access_pb2_grpc.AccessServiceStub(channel)

    async def check_permission(self, permission: str) -> Reach:
        answer = await self._access.CheckPermission(access_pb2.CheckPermissionRequest(permission=permission))
        return Reach(answer.allowed, frozenset(FacilityId(UUID(each)) for each in answer.facility_ids))

    async def begin_move(self, move: Move, *, preview: bool) -> Ending:
        answer = await self._access.BeginMove(
            access_pb2.BeginMoveRequest(
                move_id=str(move.id),
                case_id=str(move.case_id),
                from_facility_id=str(move.from_facility_id),
                to_facility_id=str(move.to_facility_id),
                by_hand=move.by_hand,
                preview=preview,
            )
        )
        return Ending(
            answer.grant_count,
            answer.folder_count,
            tuple(answer.grant_logins),
            tuple(answer.folder_names),
        )


@answers.of("ingest")
class IngestClient:
    """Asks ingest for what it received."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._ingest = ingest_pb2_grpc.IngestServiceStub(channel)

    async def describe_study(self, study_id: StudyId) -> Study | None:
        request = ingest_pb2.DescribeStudyRequest(study_id=str(study_id))
        try:
            answer = await self._ingest.DescribeStudy(request)
        except NotFound:
            return None
        return _study(answer.study)

    async def describe_deletion(self, case_id: CaseId) -> datetime | None:
        request = ingest_pb2.DescribeDeletionRequest(case_id=str(case_id))
        try:
            answer = await self._ingest.DescribeDeletion(request)
        except NotFound:
            return None
        return answers.instant(answer, "begun_at")

    async def list_versions(self, after: UUID | None) -> list[tuple[UUID, int]]:
        request = ingest_pb2.ListVersionsRequest(after_study_id=str(after or ""))
        answer = await self._ingest.ListVersions(request)
        return [(UUID(each.study_id), each.version) for each in answer.versions]


def _study(study: ingest_pb2.Study) -> Study:
    return Study(
        StudyId(UUID(study.study_id)),
        study.version,
        UID(study.study_instance_uid),
        FacilityId(UUID(study.receiving_facility_id)),
        study.settled,
        tuple(_series(each) for each in study.series),
        answers.instant(study, "received_at"),
    )


def _series(series: ingest_pb2.Series) -> Series:
    values = tuple(MappingValue(each.keyword, each.value, each.ordinal) for each in series.mapping_values)
    return Series(UID(series.series_instance_uid), values)
