"""The services that routing asks: access for permissions, ingest for received studies."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import grpc

from kernel.dicom import UID
from kernel.errors import Conflict, Denied, NotFound
from kernel.events import StudyChanged, StudyReceived
from kernel.healing import Said
from kernel.ids import CaseId, FacilityId, StudyId
from kernel.patient import KEYWORDS, Identity
from kernel.reach import Reach
from plumbing import answers, permitted
from plumbing.toldagain import FactsClient
from services.routing.domain import Part, Study
from services.routing.moves import Ending, Move
from services.routing.usecases import Sight
from wire.access.v1 import access_pb2, access_pb2_grpc
from wire.ingest.v1 import ingest_pb2, ingest_pb2_grpc


@answers.of("access")
class AccessClient:
    """Asks access on behalf of the acting user, whose token the channel forwards; without one for routing."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._access = access_pb2_grpc.AccessServiceStub(channel)

    async def reach(self, permission: str) -> Reach:
        return await permitted.reach(self._access, permission)

    async def check(self, case_id: CaseId) -> Sight:
        answer = await self._access.Check(access_pb2.CheckRequest(case_id=str(case_id)))
        decision = answer.decision
        if not decision.allowed:
            return Sight()
        by_privilege = access_pb2.PATH_PRIVILEGE in decision.paths
        return Sight(by_privilege, FacilityId(UUID(decision.facility_id)))

    async def begin_move(self, move: Move, *, preview: bool) -> Ending:
        answer = await self._access.BeginMove(_begin(move, preview=preview))
        return Ending(
            answer.grant_count,
            answer.folder_count,
            tuple(answer.grant_logins),
            tuple(answer.folder_names),
        )

    async def begin_alone(self, move: Move, *, preview: bool) -> str:
        try:
            await self._access.BeginMove(_begin(move, preview=preview))
        except (Conflict, Denied, NotFound) as refusal:
            return refusal.sentence
        return ""


def _begin(move: Move, *, preview: bool) -> access_pb2.BeginMoveRequest:
    return access_pb2.BeginMoveRequest(
        move_id=str(move.id),
        case_id=str(move.case_id),
        from_facility_id=str(move.from_facility_id),
        to_facility_id=str(move.to_facility_id),
        by_hand=move.by_hand,
        preview=preview,
    )


@answers.of("ingest")
class IngestClient:
    """Asks ingest for what it received."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._ingest = ingest_pb2_grpc.IngestServiceStub(channel)
        self._facts = FactsClient(channel)

    async def describe_study(self, study_id: StudyId, mapping_tag: str | None) -> Study | None:
        request = ingest_pb2.DescribeStudyRequest(
            study_id=str(study_id), by_parts=True, mapping_tag=mapping_tag or ""
        )
        try:
            page = first = (await self._ingest.DescribeStudy(request)).study
            parts = [_part(each) for each in page.parts]
            while page.more_parts:
                if request.after_part >= page.parts[-1].number:
                    raise ValueError("the same page again")
                request.after_part = page.parts[-1].number
                page = (await self._ingest.DescribeStudy(request)).study
                parts += map(_part, page.parts)
        except NotFound:
            return None
        # What has come since the first page belongs to a later version, which a fact will tell.
        return _study(first, page.identities, parts, mapping_tag)

    async def describe_deletion(self, case_id: CaseId) -> datetime | None:
        request = ingest_pb2.DescribeDeletionRequest(case_id=str(case_id))
        try:
            answer = await self._ingest.DescribeDeletion(request)
        except NotFound:
            return None
        return answers.instant(answer, "begun_at")

    async def studies_said(self, since: datetime | None, token: str) -> Said:
        return await self._facts.said([StudyReceived, StudyChanged], since, token)

    async def list_versions(self, after: UUID | None) -> list[tuple[UUID, int]]:
        request = ingest_pb2.ListVersionsRequest(after_study_id=str(after or ""))
        answer = await self._ingest.ListVersions(request)
        return [(UUID(each.study_id), each.version) for each in answer.versions]


def _study(
    study: ingest_pb2.Study,
    identities: Iterable[ingest_pb2.Identity],
    parts: Sequence[Part],
    mapping_tag: str | None,
) -> Study:
    by_number = {each.number: _identity(each) for each in identities}
    uids = [UID(uid) for uid in study.series_instance_uids]
    if not parts:  # an ingest of the version before knows no parts: each series is one
        by_number = {1: _identity_of_all(study.attributes)}
        uids = [UID(each.series_instance_uid) for each in study.series]
        parts = [_part_of_series(each, n, mapping_tag) for n, each in enumerate(study.series, 1)]
    return Study(
        StudyId(UUID(study.study_id)),
        study.version,
        UID(study.study_instance_uid),
        FacilityId(UUID(study.receiving_facility_id)),
        study.settled,
        answers.instant(study, "received_at"),
        mapping_tag,
        tuple(parts),
        by_number,
        tuple(uids),
    )


def _part(part: ingest_pb2.Part) -> Part:
    return Part(
        part.number, part.identity, tuple(part.mapping_values), tuple(part.series), part.instance_count
    )


def _part_of_series(series: ingest_pb2.Series, ordinal: int, mapping_tag: str | None) -> Part:
    values = tuple(each.value for each in series.mapping_values if each.keyword == mapping_tag)
    return Part(ordinal, 1, values, (ordinal,), series.instance_count)


def _identity(identity: ingest_pb2.Identity) -> Identity:
    return Identity(**{name: getattr(identity, name) for name in KEYWORDS})


def _identity_of_all(attributes: Mapping[str, str]) -> Identity:
    return Identity(**{name: attributes.get(keyword, "") for name, keyword in KEYWORDS.items()})
