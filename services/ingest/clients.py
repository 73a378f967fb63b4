"""Whom ingest asks: access, for permissions and for what a user may fetch; routing, for what it has purged;
and other processes of ingest, for what is on their volumes."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import grpc

from kernel.errors import NotFound, Unavailable
from kernel.ids import CaseId, DeletionId, FacilityId, StudyId
from kernel.reach import Reach
from plumbing import answers, permitted
from services.ingest.domain import ConfirmedStudy, PartName, Sight, StoredInstance
from services.ingest.heldparts import Holding
from services.ingest.packreading import Wanted
from services.ingest.purgerecord import Begun
from services.ingest.studylist import ListedCase
from wire.access.v1 import access_pb2, access_pb2_grpc
from wire.ingest.v1 import ingest_pb2, ingest_pb2_grpc
from wire.routing.v1 import routing_pb2, routing_pb2_grpc

FOLLOW_S = 2.0
"""For the pages of a list to come."""
MAX_PAGE = 500
COLUMNS = (
    "study_instance_uid",
    "study_date",
    "study_time",
    "accession_number",
    "modalities_in_study",
    "referring_physician_name",
    "patient_name",
    "patient_id",
    "patient_birth_date",
    "patient_sex",
    "study_description",
    "series_count",
    "instance_count",
)
"""What a list is asked for of each case."""


@answers.of("access")
class AccessClient:
    """Asks access on behalf of the acting user, whose token the channel forwards."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._access = access_pb2_grpc.AccessServiceStub(channel)

    async def holds(self, permission: str, facility_id: FacilityId) -> bool:
        return await permitted.holds_at(self._access, permission, facility_id)

    async def holding(self, permission: str, facility_id: FacilityId) -> Holding:
        request = access_pb2.CheckPermissionRequest(permission=permission, facility_id=str(facility_id))
        answer = await self._access.CheckPermission(request)
        return Holding(answer.allowed, answer.sees_cases)

    async def sight(self, case_id: CaseId) -> Sight | None:
        decision = (await self._access.Check(access_pb2.CheckRequest(case_id=str(case_id)))).decision
        if not decision.allowed:
            return None
        by_privilege = access_pb2.PATH_PRIVILEGE in decision.paths
        return Sight(FacilityId(UUID(decision.facility_id)), by_privilege)

    async def reach(self, permission: str) -> Reach:
        return await permitted.reach(self._access, permission)

    async def images(self, case_id: CaseId) -> Sequence[ConfirmedStudy] | None:
        request = access_pb2.CheckRequest(case_id=str(case_id), images=True)
        decision = (await self._access.Check(request)).decision
        if not (decision.allowed and decision.images) or decision.being_deleted:
            return None
        return _confirmed(decision.studies)

    async def still_images(
        self, login: str, session: str, case_id: CaseId, seconds: float
    ) -> Sequence[ConfirmedStudy]:
        request = access_pb2.CheckAgainRequest(login=login, session=session, case_id=str(case_id))
        return _confirmed((await self._access.CheckAgain(request, timeout=seconds)).studies)

    async def listed(self, where: str, skip: int, limit: int) -> list[ListedCase]:
        found: list[ListedCase] = []
        async with _in_time():
            page = access_pb2.ListCasesResponse()
            while len(found) < limit:
                request = access_pb2.ListCasesRequest(
                    page_size=min(MAX_PAGE, limit - len(found)),
                    page_token=page.next_page_token,
                    where=where,
                    columns=COLUMNS,
                    skip=0 if page.next_page_token else skip,
                )
                page = await self._access.ListCases(request)
                if page.continues and request.skip:
                    raise _slow()  # how many were passed over is not told
                found += map(_listed_case, page.cases)
                if not page.next_page_token:
                    break
        return found

    async def related(self, case_id: CaseId) -> list[ListedCase]:
        found: list[ListedCase] = []
        async with _in_time():
            token, more = "", True
            while more:
                request = access_pb2.ListRelatedCasesRequest(
                    case_id=str(case_id), page_size=MAX_PAGE, page_token=token, columns=COLUMNS
                )
                page = await self._access.ListRelatedCases(request)
                found += map(_listed_case, page.cases)
                token = page.next_page_token
                more = bool(token)
        return found

    async def related_with(self, case_id: CaseId, study_instance_uid: str) -> list[CaseId]:
        try:
            found = await self.related(case_id)
        except NotFound:
            return []
        return [each.case_id for each in found if each.study_instance_uid == study_instance_uid]

    async def begin_delete(self, case_id: CaseId, deletion_id: DeletionId, *, force: bool) -> Begun:
        request = access_pb2.BeginDeleteRequest(
            case_id=str(case_id), deletion_id=str(deletion_id), force=force
        )
        answer = await self._access.BeginDelete(request)
        return Begun(
            tuple(StudyId(UUID(each)) for each in answer.study_ids),
            FacilityId(UUID(answer.facility_id)),
            answer.revision,
        )


@answers.of("ingest")
class PeerClient:
    """Asks another process of ingest, for ingest itself."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._ingest = ingest_pb2_grpc.IngestServiceStub(channel)

    async def read_pack(self, stored: StoredInstance, wanted: Wanted) -> AsyncGenerator[bytes, None]:
        """Asks for the bytes of an instance; its chunks, each of which raises what the process says."""
        place = stored.place
        request = ingest_pb2.ReadPackRequest(
            pack_id=str(place.pack_id),
            sop_instance_uid=stored.instance.sop_instance_uid,
            entry_offset=place.offset,
            prefix_length=place.prefix_length,
            data_set_length=place.data_set_length,
            sha256=stored.sha256,
            beginning=wanted.beginning,
            first=wanted.first,
            length=wanted.length,
        )
        return _chunks(self._ingest.ReadPack(request), is_part=bool(wanted.length))


async def _chunks(
    told: AsyncIterable[ingest_pb2.ReadPackResponse], *, is_part: bool
) -> AsyncGenerator[bytes, None]:
    async for answer in told:
        if answer.is_part != is_part:
            raise Unavailable("the process that has the instance is of the version before: try again later")
        yield answer.chunk


@answers.of("routing")
class RoutingClient:
    """Asks routing."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._routing = routing_pb2_grpc.RoutingServiceStub(channel)

    async def mapping_tag(self, facility_id: FacilityId) -> str:
        request = routing_pb2.DescribeFacilityRequest(facility_id=str(facility_id))
        try:
            return str((await self._routing.DescribeFacility(request)).facility.mapping_tag)
        except NotFound:
            return ""

    async def undecided(self, case_id: CaseId) -> list[PartName]:
        request = routing_pb2.ListUndecidedRequest(case_id=str(case_id))
        answer = await self._routing.ListUndecided(request)
        return [(StudyId(UUID(each.study_id)), each.part) for each in answer.parts]

    async def check_held(self, names: Sequence[PartName]) -> list[PartName]:
        parts = [routing_pb2.PartName(study_id=str(study_id), part=part) for study_id, part in names]
        answer = await self._routing.CheckHeld(routing_pb2.CheckHeldRequest(parts=parts))
        return [(StudyId(UUID(each.study_id)), each.part) for each in answer.parts]

    async def describe_purge(self, case_id: CaseId) -> Sequence[StudyId] | None:
        try:
            answer = await self._routing.DescribePurge(routing_pb2.DescribePurgeRequest(case_id=str(case_id)))
        except NotFound:
            return None
        return [StudyId(UUID(each)) for each in answer.study_ids]


@asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(FOLLOW_S):
            yield
    except TimeoutError:
        raise _slow() from None


def _slow() -> Unavailable:
    return Unavailable("the search took too long: narrow it, or ask again later")


def _listed_case(told: access_pb2.Case) -> ListedCase:
    return ListedCase(
        CaseId(UUID(told.case_id)),
        told.study_instance_uid,
        told.study_date,
        told.study_time,
        told.accession_number,
        tuple(told.modalities_in_study),
        told.referring_physician_name,
        told.patient_name,
        told.patient_id,
        told.patient_birth_date,
        told.patient_sex,
        told.study_description,
        told.series_count,
        told.instance_count,
    )


def _confirmed(studies: Iterable[access_pb2.ConfirmedStudy]) -> list[ConfirmedStudy]:
    return [
        ConfirmedStudy(
            StudyId(UUID(study.study_id)),
            None if study.by_parts or study.all_series else frozenset(study.series_instance_uids),
            frozenset(study.parts) if study.by_parts else None,
        )
        for study in studies
    ]
