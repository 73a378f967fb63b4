"""Routing, ingest and reporting, which access asks while it hears their facts; while serving, nobody."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import grpc

from kernel.dicom import MAX_CHARACTERS
from kernel.errors import NotFound
from kernel.events import (
    CaseMoved,
    CasePlaced,
    CaseUndistributed,
    FacilityChanged,
    ReadingChanged,
    StudyChanged,
    StudyReceived,
)
from kernel.healing import Said
from kernel.ids import CaseId, FacilityId, MoveId, StudyId
from kernel.reading import DraftState, ReadType, Side
from plumbing import answers
from plumbing.toldagain import FactsClient
from services.access.caseindex import Placement
from services.access.domain import ConfirmedStudy, Facility
from services.access.reading import AtLock, Lock, Projection, Reading, Signed
from services.access.received import (
    KEYWORDS,
    MAX_MODALITIES,
    Distinct,
    ReceivedPart,
    ReceivedSeries,
    ReceivedStudy,
    StudyAttributes,
    StudyOfSeries,
    cut_modality,
    cut_name,
)
from services.access.status import ReadingState
from wire.access.v1 import access_pb2
from wire.ingest.v1 import ingest_pb2, ingest_pb2_grpc
from wire.reporting.v1 import reporting_pb2, reporting_pb2_grpc
from wire.routing.v1 import routing_pb2, routing_pb2_grpc

_State = reporting_pb2.DescribeReadingResponse.State
_READING_STATES: dict[int, ReadingState] = {
    _State.STATE_UNSPECIFIED: ReadingState.UNREAD,
    _State.STATE_PRELIMINARY: ReadingState.PRELIMINARY,
    _State.STATE_FINAL: ReadingState.FINAL,
    _State.STATE_REOPENED: ReadingState.REOPENED,
}
_DraftState = reporting_pb2.DescribeReadingResponse.DraftState
_DRAFT_STATES: dict[int, DraftState] = {
    _DraftState.DRAFT_STATE_UNSPECIFIED: DraftState.NONE,
    _DraftState.DRAFT_STATE_DICTATED: DraftState.DICTATED,
    _DraftState.DRAFT_STATE_TRANSCRIBED: DraftState.TRANSCRIBED,
}
_READ_TYPES: dict[int, ReadType] = {
    access_pb2.ReadType.Value(f"READ_TYPE_{read_type.name}"): read_type for read_type in ReadType
}


MAX_NOTES = 8
"""Attributes of a patient that routing compares: five, and room for more."""
MAX_KEYWORD_CHARACTERS = 64
"""The longest keyword of PS3.6 has fewer."""


@answers.of("routing")
class RoutingClient:
    """Asks routing for facilities and placements."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._routing = routing_pb2_grpc.RoutingServiceStub(channel)
        self._facts = FactsClient(channel)

    async def describe_placement(self, case_id: CaseId) -> Placement | None:
        try:
            answer = await self._routing.DescribePlacement(
                routing_pb2.DescribePlacementRequest(case_id=str(case_id))
            )
        except NotFound:
            return None
        placement = answer.placement
        return Placement(
            case_id=CaseId(UUID(placement.case_id)),
            facility_id=FacilityId(UUID(placement.facility_id)),
            study_instance_uid=placement.study_instance_uid,
            undistributed=placement.undistributed,
            studies=tuple(map(_confirmed_study, placement.studies)),
            placed_at=answers.instant(placement, "placed_at"),
            version=placement.version,
            another_patient_held=placement.another_patient_held,
            written_differently=tuple(
                each[:MAX_KEYWORD_CHARACTERS] for each in placement.written_differently[:MAX_NOTES]
            ),
            last_move_id=MoveId(UUID(placement.last_move_id)) if placement.last_move_id else None,
        )

    async def end_move(self, move_id: MoveId) -> bool:
        answer = await self._routing.EndMove(routing_pb2.EndMoveRequest(move_id=str(move_id)))
        return answer.made

    async def describe_facility(self, facility_id: FacilityId) -> Facility | None:
        try:
            answer = await self._routing.DescribeFacility(
                routing_pb2.DescribeFacilityRequest(facility_id=str(facility_id))
            )
        except NotFound:
            return None
        facility = answer.facility
        return Facility(
            FacilityId(UUID(facility.facility_id)), facility.name, facility.time_zone, facility.version
        )

    async def facilities_said(self, since: datetime | None, token: str) -> Said:
        return await self._facts.said([FacilityChanged], since, token)

    async def placements_said(self, since: datetime | None, token: str) -> Said:
        return await self._facts.said([CasePlaced, CaseUndistributed, CaseMoved], since, token)

    async def facility_versions(self, after: UUID | None) -> list[tuple[UUID, int]]:
        return await self._versions(routing_pb2.ListVersionsRequest.KIND_FACILITY, after)

    async def placement_versions(self, after: UUID | None) -> list[tuple[UUID, int]]:
        return await self._versions(routing_pb2.ListVersionsRequest.KIND_PLACEMENT, after)

    async def _versions(
        self, kind: routing_pb2.ListVersionsRequest.Kind.ValueType, after: UUID | None
    ) -> list[tuple[UUID, int]]:
        request = routing_pb2.ListVersionsRequest(kind=kind, after_id=str(after or ""))
        answer = await self._routing.ListVersions(request)
        return [(UUID(version.id), version.version) for version in answer.versions]


@answers.of("ingest")
class IngestClient:
    """Asks ingest for what it received, and for deletions."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._ingest = ingest_pb2_grpc.IngestServiceStub(channel)
        self._facts = FactsClient(channel)

    async def is_deleted(self, case_id: CaseId) -> bool:
        try:
            await self._ingest.DescribeDeletion(ingest_pb2.DescribeDeletionRequest(case_id=str(case_id)))
        except NotFound:
            return False
        return True

    async def describe_study(self, study_id: StudyId) -> ReceivedStudy | None:
        """All pages of its parts; what grew meanwhile is told again, for the version is the first page's."""
        try:
            study = page = await self._describe(study_id, after_part=0)
            if not page.parts:
                return _study_of_series(study).in_parts()
            sets: dict[int, StudyAttributes] = {}
            parts: list[ReceivedPart] = []
            while True:
                sets |= {each.number: _attributes(each.attributes) for each in page.attribute_sets}
                parts += map(_part, page.parts)
                if not page.more_parts:
                    break
                page = await self._describe(study_id, after_part=parts[-1].number)
                if not page.parts or page.parts[0].number <= parts[-1].number:
                    raise ValueError("the next page goes no further")
        except NotFound:
            return None
        return ReceivedStudy(
            id=StudyId(UUID(study.study_id)),
            received_at=answers.instant(study, "received_at"),
            settled=study.settled,
            attribute_sets=sets,
            parts=tuple(parts),
            version=study.version,
            series_instance_uids=tuple(study.series_instance_uids),
            calling_ae_title=_text(study.calling_ae_title)[: MAX_CHARACTERS["AE"]],
            gateway_id=UUID(study.gateway_id) if study.gateway_id else None,
            in_full=all(part.last_received_at for part in parts),
        )

    async def _describe(self, study_id: StudyId, *, after_part: int) -> ingest_pb2.Study:
        request = ingest_pb2.DescribeStudyRequest(
            study_id=str(study_id), by_parts=True, after_part=after_part
        )
        return (await self._ingest.DescribeStudy(request)).study

    async def studies_said(self, since: datetime | None, token: str) -> Said:
        return await self._facts.said([StudyReceived, StudyChanged], since, token)

    async def study_versions(self, after: UUID | None) -> list[tuple[UUID, int]]:
        request = ingest_pb2.ListVersionsRequest(after_study_id=str(after or ""))
        answer = await self._ingest.ListVersions(request)
        return [(UUID(version.study_id), version.version) for version in answer.versions]


@answers.of("reporting")
class ReportingClient:
    """Asks reporting how far cases were read."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._reporting = reporting_pb2_grpc.ReportingServiceStub(channel)
        self._facts = FactsClient(channel)

    async def describe_reading(self, case_id: CaseId) -> Reading | None:
        try:
            answer = await self._reporting.DescribeReading(
                reporting_pb2.DescribeReadingRequest(case_id=str(case_id))
            )
        except NotFound:
            return None
        sides = {Side.GROUP: answer.group, Side.FACILITY: answer.facility}
        return Reading(
            case_id=CaseId(UUID(answer.case_id)),
            projections={side: _projection(projection) for side, projection in sides.items()},
            version=answer.version,
            drafted=answer.drafted,
            at_lock=_at_lock(answer.group.at_lock) if answer.group.HasField("at_lock") else None,
            signed=tuple(
                Signed(_READ_TYPES[each.read_type], each.author_login, answers.instant(each, "completed_at"))
                for each in answer.group.reports
            ),
        )

    async def readings_said(self, since: datetime | None, token: str) -> Said:
        return await self._facts.said([ReadingChanged], since, token)

    async def reading_versions(self, after: UUID | None) -> list[tuple[UUID, int]]:
        request = reporting_pb2.ListVersionsRequest(after_case_id=str(after or ""))
        answer = await self._reporting.ListVersions(request)
        return [(UUID(version.case_id), version.version) for version in answer.versions]


def _projection(projection: reporting_pb2.DescribeReadingResponse.Projection) -> Projection:
    lock = projection.lock
    return Projection(
        state=_READING_STATES[projection.state],
        lock=Lock(
            lock.holder_login,
            lock.holder_name,
            answers.instant(lock, "ends_at"),
            answers.instant(lock, "since") if lock.HasField("since") else None,
        )
        if projection.HasField("lock")
        else None,
        read_types=frozenset(_READ_TYPES[read_type] for read_type in projection.read_types),
        reported_at=answers.instant(projection, "reported_at")
        if projection.HasField("reported_at")
        else None,
        instance_count=projection.instance_count if projection.HasField("instance_count") else None,
        draft=_DRAFT_STATES[projection.draft],
        waits_since=answers.instant(projection, "waits_since")
        if projection.HasField("waits_since")
        else None,
    )


def _at_lock(stood: reporting_pb2.DescribeReadingResponse.AtLock) -> AtLock:
    return AtLock(
        _READING_STATES[stood.state],
        _DRAFT_STATES[stood.draft],
        frozenset(_READ_TYPES[read_type] for read_type in stood.read_types),
    )


def _confirmed_study(study: routing_pb2.PlacedStudy) -> ConfirmedStudy:
    uids = None if study.all_series else tuple(study.series_instance_uids)
    parts = tuple(sorted(study.parts)) if study.by_parts else None
    return ConfirmedStudy(StudyId(UUID(study.study_id)), uids, parts)


def _part(part: ingest_pb2.Part) -> ReceivedPart:
    return ReceivedPart(
        number=part.number,
        attribute_set=part.attribute_set,
        modalities=tuple(cut_modality(_text(each)) for each in part.modalities[:MAX_MODALITIES]),
        modalities_left_out=part.modalities_left_out,
        series=tuple(part.series),
        instance_count=part.instance_count,
        received_at=answers.instant(part, "received_at"),
        last_received_at=answers.instant(part, "last_received_at")
        if part.HasField("last_received_at")
        else None,
        institution_names=_distinct(part.institution_names, part.institution_names_left_out),
        body_parts=_distinct(part.body_parts, part.body_parts_left_out),
    )


def _distinct(values: Sequence[str], left_out: int) -> Distinct:
    kept = tuple(cut_name(_text(each)) for each in values[:MAX_MODALITIES])
    return Distinct(kept, left_out + len(values) - len(kept))


def _study_of_series(study: ingest_pb2.Study) -> StudyOfSeries:
    """What an ingest of the version before tells."""
    return StudyOfSeries(
        id=StudyId(UUID(study.study_id)),
        received_at=answers.instant(study, "received_at"),
        settled=study.settled,
        attributes=_attributes(study.attributes),
        series=tuple(
            ReceivedSeries(
                each.series_instance_uid,
                _text(each.attributes.get("Modality", "")),
                each.instance_count,
            )
            for each in study.series
        ),
        version=study.version,
    )


def _attributes(attributes: Mapping[str, str]) -> StudyAttributes:
    return StudyAttributes(**{name: _text(attributes.get(key, "")) for name, key in KEYWORDS.items()})


def _text(value: str) -> str:
    """A value as the database takes it: NUL is DICOM padding (PS3.5 6.2) and no text."""
    return value.replace("\0", "")
