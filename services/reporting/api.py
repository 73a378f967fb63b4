"""ReportingService: proto to domain and back."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import grpc

from kernel.errors import Invalid
from kernel.ids import CaseId, FacilityId, ReportId, parse_id
from kernel.reading import DraftState, ReadType
from plumbing.callers import acting_login, acting_session
from plumbing.rpc import Server
from plumbing.timestamps import timestamp
from services.reporting.completion import May
from services.reporting.domain import Addendum, Draft, Lock, Report
from services.reporting.projections import AtLock, Projection, Signed, State
from services.reporting.switching import ReadTypes
from services.reporting.usecases import Readings
from wire.access.v1 import access_pb2
from wire.reporting.v1 import reporting_pb2 as pb
from wire.reporting.v1 import reporting_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]

READ_TYPE_VALUES = {each: access_pb2.ReadType.Value(f"READ_TYPE_{each.name}") for each in ReadType}
READ_TYPES: dict[int, ReadType] = {value: each for each, value in READ_TYPE_VALUES.items()}
STATE_VALUES = {
    State.UNREAD: pb.DescribeReadingResponse.STATE_UNSPECIFIED,
    State.PRELIMINARY: pb.DescribeReadingResponse.STATE_PRELIMINARY,
    State.FINAL: pb.DescribeReadingResponse.STATE_FINAL,
    State.REOPENED: pb.DescribeReadingResponse.STATE_REOPENED,
}
DRAFT_STATE_VALUES = {
    DraftState.NONE: pb.DescribeReadingResponse.DRAFT_STATE_UNSPECIFIED,
    DraftState.DICTATED: pb.DescribeReadingResponse.DRAFT_STATE_DICTATED,
    DraftState.TRANSCRIBED: pb.DescribeReadingResponse.DRAFT_STATE_TRANSCRIBED,
}


@dataclass(frozen=True, slots=True)
class ReportingApi(reporting_pb2_grpc.ReportingServiceServicer):
    """The servicer."""

    readings: Readings
    read_types: ReadTypes

    async def Lock(self, request: pb.LockRequest, context: Context) -> pb.LockResponse:  # noqa: N802
        lock = await self.readings.lock(
            _actor(), _case_id(request.case_id), acting_session(), take_over=request.take_over
        )
        return pb.LockResponse(lock=_lock(lock))

    async def RenewLock(self, request: pb.RenewLockRequest, context: Context) -> pb.RenewLockResponse:  # noqa: N802
        lock = await self.readings.renew_lock(_actor(), _case_id(request.case_id), acting_session())
        return pb.RenewLockResponse(lock=_lock(lock))

    async def Unlock(self, request: pb.UnlockRequest, context: Context) -> pb.UnlockResponse:  # noqa: N802
        await self.readings.unlock(_actor(), _case_id(request.case_id), acting_session())
        return pb.UnlockResponse()

    async def BreakLock(self, request: pb.BreakLockRequest, context: Context) -> pb.BreakLockResponse:  # noqa: N802
        await self.readings.break_lock(_actor(), _case_id(request.case_id), acting_session())
        return pb.BreakLockResponse()

    async def SaveDraft(self, request: pb.SaveDraftRequest, context: Context) -> pb.SaveDraftResponse:  # noqa: N802
        draft = await self.readings.save_draft(
            _actor(), _case_id(request.case_id), request.text, acting_session(), _made_from(request)
        )
        return pb.SaveDraftResponse(draft=_draft(draft))

    async def Complete(self, request: pb.CompleteRequest, context: Context) -> pb.CompleteResponse:  # noqa: N802
        report = await self.readings.complete(
            _actor(),
            _case_id(request.case_id),
            _read_type(request.read_type),
            request.text,
            acting_session(),
            _made_from(request),
        )
        return pb.CompleteResponse(report=_report(report))

    async def AddAddendum(  # noqa: N802
        self, request: pb.AddAddendumRequest, context: Context
    ) -> pb.AddAddendumResponse:
        report = await self.readings.add_addendum(
            _actor(),
            _case_id(request.case_id),
            ReportId(parse_id(request.report_id, "report_id")),
            request.text,
        )
        return pb.AddAddendumResponse(report=_report(report))

    async def Reopen(self, request: pb.ReopenRequest, context: Context) -> pb.ReopenResponse:  # noqa: N802
        await self.readings.reopen(_actor(), _case_id(request.case_id))
        return pb.ReopenResponse()

    async def ListReports(  # noqa: N802
        self, request: pb.ListReportsRequest, context: Context
    ) -> pb.ListReportsResponse:
        listed = await self.readings.list_reports(_actor(), _case_id(request.case_id), acting_session())
        written = listed.written
        return pb.ListReportsResponse(
            reports=map(_report, written.reports),
            drafts=map(_draft, written.drafts),
            lock=_lock(written.lock, elsewhere=written.elsewhere),
            may=_may(listed.may),
            images_since_report=written.late.count if written.late else 0,
            images_since=timestamp(written.late.since) if written.late else None,
        )

    async def ActivateReadType(  # noqa: N802
        self, request: pb.ActivateReadTypeRequest, context: Context
    ) -> pb.ActivateReadTypeResponse:
        facility_id = (
            FacilityId(parse_id(request.facility_id, "facility_id")) if request.facility_id else None
        )
        active = await self.read_types.activate_read_type(
            _actor(), facility_id, _read_type(request.read_type), request.active
        )
        return pb.ActivateReadTypeResponse(read_types=[READ_TYPE_VALUES[each] for each in active])

    async def ListReadTypes(  # noqa: N802
        self, request: pb.ListReadTypesRequest, context: Context
    ) -> pb.ListReadTypesResponse:
        facility_id = FacilityId(parse_id(request.facility_id, "facility_id"))
        active = await self.read_types.list_read_types(_actor(), facility_id)
        return pb.ListReadTypesResponse(read_types=[READ_TYPE_VALUES[each] for each in active])

    async def DescribeReading(  # noqa: N802
        self, request: pb.DescribeReadingRequest, context: Context
    ) -> pb.DescribeReadingResponse:
        described = await self.readings.describe_reading(_case_id(request.case_id))
        return pb.DescribeReadingResponse(
            case_id=str(described.case_id),
            version=described.version,
            group=_projection(described.group),
            facility=_projection(described.facility),
            drafted=described.drafted,
        )

    async def ListVersions(  # noqa: N802
        self, request: pb.ListVersionsRequest, context: Context
    ) -> pb.ListVersionsResponse:
        after = parse_id(request.after_case_id, "after_case_id") if request.after_case_id else UUID(int=0)
        return pb.ListVersionsResponse(
            versions=[
                pb.ListVersionsResponse.Version(case_id=str(case_id), version=version)
                for case_id, version in await self.readings.list_versions(after)
            ]
        )


def serve(server: Server, api: ReportingApi) -> None:
    """Adds ReportingService to a server."""
    server.add(
        reporting_pb2_grpc.add_ReportingServiceServicer_to_server,
        api,
        pb.DESCRIPTOR.services_by_name["ReportingService"].full_name,
    )


def _actor() -> str:
    """Who acts; access takes logins without regard to case, so one person holds one lock."""
    return acting_login().lower()


def _case_id(text: str) -> CaseId:
    return CaseId(parse_id(text, "case_id"))


def _read_type(value: int) -> ReadType:
    if value not in READ_TYPES:
        raise Invalid("`read_type` is not a read type", field="read_type")
    return READ_TYPES[value]


def _made_from(request: pb.SaveDraftRequest | pb.CompleteRequest) -> int | None:
    return request.made_from if request.HasField("made_from") else None


def _may(may: May) -> pb.May:
    return pb.May(
        draft=may.drafts,
        complete=[READ_TYPE_VALUES[each] for each in may.completes],
        complete_nothing_because=may.completes_nothing,
        add_to_report_ids=sorted(map(str, may.adds_to)),
        reopen=may.reopens,
    )


def _lock(lock: Lock | None, *, elsewhere: bool = False) -> pb.Lock | None:
    if lock is None:
        return None
    return pb.Lock(
        holder_login=lock.holder.login,
        holder_name=lock.holder.name,
        ends_at=timestamp(lock.ends_at),
        since=timestamp(lock.since),
        elsewhere=elsewhere,
    )


def _draft(draft: Draft) -> pb.Draft:
    return pb.Draft(
        author_login=draft.author.login,
        author_name=draft.author.name,
        text=draft.text,
        saved_at=timestamp(draft.saved_at),
        author_only=draft.author_only,
        version=draft.version,
        beside=draft.beside,
    )


def _report(report: Report) -> pb.Report:
    return pb.Report(
        report_id=str(report.id),
        read_type=READ_TYPE_VALUES[report.read_type],
        author_login=report.author.login,
        author_name=report.author.name,
        text=report.text,
        completed_at=timestamp(report.completed_at),
        addenda=map(_addendum, report.addenda),
    )


def _addendum(addendum: Addendum) -> pb.Addendum:
    return pb.Addendum(
        author_login=addendum.author.login,
        author_name=addendum.author.name,
        text=addendum.text,
        added_at=timestamp(addendum.added_at),
    )


def _projection(projection: Projection) -> pb.DescribeReadingResponse.Projection:
    return pb.DescribeReadingResponse.Projection(
        state=STATE_VALUES[projection.state],
        lock=_lock(projection.lock),
        read_types=[READ_TYPE_VALUES[each] for each in projection.read_types],
        reported_at=timestamp(projection.reported_at),
        instance_count=projection.instance_count,
        draft=DRAFT_STATE_VALUES[projection.draft],
        at_lock=_at_lock(projection.at_lock),
        reports=map(_signed, projection.reports),
        waits_since=timestamp(projection.waits_since),
    )


def _at_lock(stood: AtLock | None) -> pb.DescribeReadingResponse.AtLock | None:
    if stood is None:
        return None
    return pb.DescribeReadingResponse.AtLock(
        state=STATE_VALUES[stood.state],
        draft=DRAFT_STATE_VALUES[stood.draft],
        read_types=[READ_TYPE_VALUES[each] for each in stood.read_types],
    )


def _signed(signed: Signed) -> pb.DescribeReadingResponse.Signed:
    return pb.DescribeReadingResponse.Signed(
        read_type=READ_TYPE_VALUES[signed.read_type],
        author_user_id=str(signed.author_id or ""),
        author_login=signed.author_login,
        completed_at=timestamp(signed.completed_at),
    )
