"""IngestService and GatewayService: proto to domain and back."""

from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import unquote
from uuid import UUID

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from kernel.errors import Invalid
from kernel.ids import CaseId, FacilityId, GatewayId, StudyId, TransferId, VolumeId, parse_id
from plumbing import pages
from plumbing.callers import acting_login, acting_session
from plumbing.rpc import Server, caller
from plumbing.timestamps import timestamp
from services.ingest.answers import held_part, packed, quarantined, received_study, study_in_parts, volume
from services.ingest.deletion import Deletions
from services.ingest.domain import Announcer, RecordedRefusal, RefusalKind, StoredInstance
from services.ingest.enrolment import Enrolments, Titles
from services.ingest.gateway import Gateway, certificate_sha256
from services.ingest.gateways import Gateways
from services.ingest.heldparts import HeldParts
from services.ingest.images import Images, Viewer
from services.ingest.packreading import PackReading, Wanted
from services.ingest.purgerecord import Deletion, State
from services.ingest.quarantine import Position, Quarantine, parse_digest
from services.ingest.renewal import Renewals
from services.ingest.settling import SettleLength, SettleLengths
from services.ingest.transfers import Announcement, Ended
from services.ingest.usecases import Studies
from services.ingest.volumes import Volumes
from wire.ingest.v1 import ingest_pb2 as pb
from wire.ingest.v1 import ingest_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


KIND_VALUES = {
    RefusalKind.HANDSHAKE: pb.Refusal.KIND_HANDSHAKE,
    RefusalKind.ASSOCIATION: pb.Refusal.KIND_ASSOCIATION,
    RefusalKind.INSTANCE: pb.Refusal.KIND_INSTANCE,
}

STATE_VALUES = {
    State.ASKED: pb.Deletion.STATE_ASKED,
    State.BEGUN: pb.Deletion.STATE_BEGUN,
    State.CLOSED: pb.Deletion.STATE_CLOSED,
}


@dataclass(frozen=True, slots=True)
class Addresses:
    """What an enrolled gateway is told: where to send, and whom to trust."""

    dicom: str
    gateway: str
    called_ae_title: str
    ca_pem: str


@dataclass(frozen=True, slots=True)
class IngestApi(ingest_pb2_grpc.IngestServiceServicer):
    """What users and services call."""

    enrolments: Enrolments
    gateways: Gateways
    studies: Studies
    settle_lengths: SettleLengths
    images: Images
    held_parts: HeldParts
    quarantine: Quarantine
    deletions: Deletions
    reading: PackReading
    volumes: Volumes
    addresses: Addresses

    async def EnrolGateway(  # noqa: N802
        self, request: pb.EnrolGatewayRequest, context: Context
    ) -> pb.EnrolGatewayResponse:
        gateway, certificate_pem = await self.enrolments.enrol_gateway(
            acting_login(), request.name, _titles(request.ae_titles), request.certificate_request_pem
        )
        return pb.EnrolGatewayResponse(
            gateway=_gateway(gateway),
            certificate_pem=certificate_pem.decode(),
            ca_pem=self.addresses.ca_pem,
            dicom_address=self.addresses.dicom,
            gateway_address=self.addresses.gateway,
            called_ae_title=self.addresses.called_ae_title,
        )

    async def SaveGateway(  # noqa: N802
        self, request: pb.SaveGatewayRequest, context: Context
    ) -> pb.SaveGatewayResponse:
        given = request.gateway
        gateway = await self.enrolments.save_gateway(
            acting_login(),
            GatewayId(parse_id(given.gateway_id, "gateway_id")),
            given.name,
            _titles(given.ae_titles),
            given.version,
        )
        return pb.SaveGatewayResponse(gateway=_gateway(gateway))

    async def RevokeGateway(  # noqa: N802
        self, request: pb.RevokeGatewayRequest, context: Context
    ) -> pb.RevokeGatewayResponse:
        gateway_id = GatewayId(parse_id(request.gateway_id, "gateway_id"))
        return pb.RevokeGatewayResponse(
            gateway=_gateway(await self.enrolments.revoke_gateway(acting_login(), gateway_id))
        )

    async def ListGateways(  # noqa: N802
        self, request: pb.ListGatewaysRequest, context: Context
    ) -> pb.ListGatewaysResponse:
        asked = pages.asked(request, UUID)
        found = await self.enrolments.list_gateways(asked.after, asked.limit)
        page, token = asked.rows(found, lambda last: last.gateway_id, _gateway)
        return pb.ListGatewaysResponse(gateways=page, next_page_token=token)

    async def ListRefusals(  # noqa: N802
        self, request: pb.ListRefusalsRequest, context: Context
    ) -> pb.ListRefusalsResponse:
        asked = pages.asked(request, UUID)
        found = await self.gateways.list_refusals(asked.after, asked.limit)
        page, token = asked.rows(found, lambda last: last.refusal_id, _refusal)
        return pb.ListRefusalsResponse(refusals=page, next_page_token=token)

    async def ReadSettleLength(  # noqa: N802
        self, request: pb.ReadSettleLengthRequest, context: Context
    ) -> pb.ReadSettleLengthResponse:
        facility_id = FacilityId(parse_id(request.facility_id, "facility_id"))
        length = await self.settle_lengths.read_settle_length(acting_login(), facility_id)
        return pb.ReadSettleLengthResponse(settle_length=_settle_length(length))

    async def SaveSettleLength(  # noqa: N802
        self, request: pb.SaveSettleLengthRequest, context: Context
    ) -> pb.SaveSettleLengthResponse:
        given = request.settle_length
        wanted = SettleLength(
            FacilityId(parse_id(given.facility_id, "facility_id")),
            _duration(given, "settle_after"),
            given.version,
        )
        saved = await self.settle_lengths.save_settle_length(acting_login(), wanted)
        return pb.SaveSettleLengthResponse(settle_length=_settle_length(saved))

    async def ListQuarantined(  # noqa: N802
        self, request: pb.ListQuarantinedRequest, context: Context
    ) -> pb.ListQuarantinedResponse:
        asked = pages.asked(request, Position)
        found = await self.quarantine.list_quarantined(asked.after, asked.limit)
        page, token = asked.rows(found, lambda last: last.position, quarantined)
        return pb.ListQuarantinedResponse(quarantined=page, next_page_token=token)

    async def DiscardQuarantined(  # noqa: N802
        self, request: pb.DiscardQuarantinedRequest, context: Context
    ) -> pb.DiscardQuarantinedResponse:
        await self.quarantine.discard_quarantined(acting_login(), parse_digest(request.sha256))
        return pb.DiscardQuarantinedResponse()

    async def DescribeStudy(  # noqa: N802
        self, request: pb.DescribeStudyRequest, context: Context
    ) -> pb.DescribeStudyResponse:
        study_id = StudyId(parse_id(request.study_id, "study_id"))
        if request.by_parts:
            found = await self.studies.describe_study_in_parts(
                study_id, request.mapping_tag, request.after_part
            )
            return pb.DescribeStudyResponse(study=study_in_parts(found))
        return pb.DescribeStudyResponse(study=received_study(await self.studies.describe_study(study_id)))

    async def ListVersions(  # noqa: N802
        self, request: pb.ListVersionsRequest, context: Context
    ) -> pb.ListVersionsResponse:
        given = request.after_study_id
        after = StudyId(parse_id(given, "after_study_id")) if given else None
        return pb.ListVersionsResponse(
            versions=[
                pb.ListVersionsResponse.Version(study_id=str(study_id), version=version)
                for study_id, version in await self.studies.list_versions(after)
            ]
        )

    async def StreamInstance(  # noqa: N802
        self, request: pb.StreamInstanceRequest, context: Context
    ) -> AsyncIterator[pb.StreamInstanceResponse]:
        case_id = CaseId(parse_id(request.case_id, "case_id"))
        async with self.images.stream_instance(_viewer(), case_id, request.sop_instance_uid) as stored:
            yield pb.StreamInstanceResponse(header=_header(stored))
            async for chunk in self.images.read(stored):
                yield pb.StreamInstanceResponse(chunk=chunk)

    async def StreamStudy(  # noqa: N802
        self, request: pb.StreamStudyRequest, context: Context
    ) -> AsyncIterator[pb.StreamStudyResponse]:
        case_id = CaseId(parse_id(request.case_id, "case_id"))
        async with self.images.stream_study(_viewer(), case_id) as found:
            length = sum(stored.place.file_length for stored in found)
            yield pb.StreamStudyResponse(study=pb.StudyHeader(instance_count=len(found), length=length))
            for stored in found:
                yield pb.StreamStudyResponse(header=_header(stored))
                async for chunk in self.images.read(stored):
                    yield pb.StreamStudyResponse(chunk=chunk)

    async def ReadPack(  # noqa: N802
        self, request: pb.ReadPackRequest, context: Context
    ) -> AsyncIterator[pb.ReadPackResponse]:
        wanted = Wanted(request.beginning, request.first, request.length)
        async with aclosing(self.reading.read_pack(packed(request), wanted)) as chunks:
            async for chunk in chunks:
                yield pb.ReadPackResponse(chunk=chunk, is_part=bool(wanted.length))

    async def ListVolumes(  # noqa: N802
        self, request: pb.ListVolumesRequest, context: Context
    ) -> pb.ListVolumesResponse:
        return pb.ListVolumesResponse(volumes=map(volume, await self.volumes.list_volumes()))

    async def ForgetVolume(  # noqa: N802
        self, request: pb.ForgetVolumeRequest, context: Context
    ) -> pb.ForgetVolumeResponse:
        volume_id = VolumeId(parse_id(request.volume_id, "volume_id"))
        forgotten = await self.volumes.forget_volume(acting_login(), volume_id)
        return pb.ForgetVolumeResponse(volume=volume(forgotten))

    async def DescribeHeldParts(  # noqa: N802
        self, request: pb.DescribeHeldPartsRequest, context: Context
    ) -> pb.DescribeHeldPartsResponse:
        case_id = CaseId(parse_id(request.case_id, "case_id")) if request.case_id else None
        names = [(StudyId(parse_id(each.study_id, "parts.study_id")), each.part) for each in request.parts]
        found = await self.held_parts.describe_held_parts(acting_login(), case_id, names)
        return pb.DescribeHeldPartsResponse(parts=pages.fitting(found, held_part))

    async def DeleteStudy(  # noqa: N802
        self, request: pb.DeleteStudyRequest, context: Context
    ) -> pb.DeleteStudyResponse:
        case_id = CaseId(parse_id(request.case_id, "case_id"))
        deletion = await self.deletions.delete_study(acting_login(), case_id, force=request.force)
        return pb.DeleteStudyResponse(deletion=_deletion(deletion), revision=deletion.revision)

    async def ListDeletions(  # noqa: N802
        self, request: pb.ListDeletionsRequest, context: Context
    ) -> pb.ListDeletionsResponse:
        asked = pages.asked(request, UUID)
        found = await self.deletions.list_deletions(asked.after, asked.limit)
        page, token = asked.rows(found, lambda last: last.deletion_id, _deletion)
        return pb.ListDeletionsResponse(deletions=page, next_page_token=token)

    async def DescribeDeletion(  # noqa: N802
        self, request: pb.DescribeDeletionRequest, context: Context
    ) -> pb.DescribeDeletionResponse:
        begun_at = await self.deletions.describe_deletion(CaseId(parse_id(request.case_id, "case_id")))
        return pb.DescribeDeletionResponse(begun_at=timestamp(begun_at))


@dataclass(frozen=True, slots=True)
class GatewayApi(ingest_pb2_grpc.GatewayServiceServicer):
    """What gateways call, on a listener of their own."""

    gateways: Gateways
    renewals: Renewals

    async def BeginTransfer(  # noqa: N802
        self, request: pb.BeginTransferRequest, context: Context
    ) -> pb.BeginTransferResponse:
        announcements = [_announcement(request), *map(_announcement, request.further)]
        await self.gateways.begin_transfer(_announcer(context), announcements)
        return pb.BeginTransferResponse(announced=len(announcements))

    async def EndTransfer(  # noqa: N802
        self, request: pb.EndTransferRequest, context: Context
    ) -> pb.EndTransferResponse:
        ended = [
            Ended(TransferId(parse_id(each.transfer_id, "transfer_id")), each.instances)
            for each in request.ended
        ]
        await self.gateways.end_transfer(_announcer(context).gateway_id, ended)
        return pb.EndTransferResponse()

    async def Heartbeat(self, request: pb.HeartbeatRequest, context: Context) -> pb.HeartbeatResponse:  # noqa: N802
        is_due = await self.gateways.heartbeat(
            _announcer(context),
            request.software_version,
            request.waiting_studies,
            _duration(request, "oldest_waits") if request.HasField("oldest_waits") else None,
        )
        return pb.HeartbeatResponse(renew_certificate=is_due)

    async def RenewCertificate(  # noqa: N802
        self, request: pb.RenewCertificateRequest, context: Context
    ) -> pb.RenewCertificateResponse:
        certificate_pem = await self.renewals.renew_certificate(
            _announcer(context), request.certificate_request_pem
        )
        return pb.RenewCertificateResponse(certificate_pem=certificate_pem)


def serve(server: Server, api: IngestApi) -> None:
    """Adds IngestService to a server."""
    server.add(
        ingest_pb2_grpc.add_IngestServiceServicer_to_server,
        api,
        pb.DESCRIPTOR.services_by_name["IngestService"].full_name,
    )


def serve_gateways(server: Server, gateways: Gateways, renewals: Renewals) -> None:
    """Adds GatewayService to the server of gateways."""
    server.add(
        ingest_pb2_grpc.add_GatewayServiceServicer_to_server,
        GatewayApi(gateways, renewals),
        pb.DESCRIPTOR.services_by_name["GatewayService"].full_name,
    )


def _viewer() -> Viewer:
    return Viewer(acting_login(), acting_session())


def _gateway(gateway: Gateway) -> pb.Gateway:
    contact = gateway.contact
    return pb.Gateway(
        gateway_id=str(gateway.gateway_id),
        name=gateway.name,
        ae_titles=[
            pb.AETitleBinding(ae_title=each.ae_title, facility_id=str(each.facility_id))
            for each in gateway.bindings
        ],
        enrolled_at=timestamp(gateway.enrolled_at),
        revoked_at=timestamp(gateway.revoked_at),
        certificate_sha256=gateway.certificate_sha256,
        version=gateway.version,
        certificate_ends_at=timestamp(gateway.certificate_ends_at),
        contact=pb.Gateway.Contact(
            heard_at=timestamp(contact.heard_at),
            stored_at=timestamp(contact.stored_at),
            told_at=timestamp(contact.told_at),
            software_version=contact.software_version or "",
            waiting_studies=contact.waiting_studies or 0,
            waiting_since=timestamp(contact.waiting_since),
        ),
    )


def _titles(bindings: Iterable[pb.AETitleBinding]) -> Titles:
    return [
        (each.ae_title, FacilityId(parse_id(each.facility_id, "ae_titles.facility_id"))) for each in bindings
    ]


def _announcer(context: Context) -> Announcer:
    gateway_id = caller().gateway_id
    assert gateway_id is not None, "the contract lets gateways in only"
    (certificate_pem,) = context.auth_context()["x509_pem_cert"]
    remote = unquote(context.peer().partition(":")[2])  # `ipv4:10.0.0.7:4711`
    return Announcer(GatewayId(gateway_id), certificate_sha256(certificate_pem), remote)


def _announcement(told: pb.BeginTransferRequest | pb.BeginTransferRequest.Announcement) -> Announcement:
    return Announcement(
        TransferId(parse_id(told.transfer_id, "transfer_id")),
        told.study_instance_uid,
        told.calling_ae_title,
        _duration(told, "age") if told.HasField("age") else None,
    )


def _duration(message: Message, field: str) -> timedelta:
    try:
        length: timedelta = getattr(message, field).ToTimedelta()
    except (OverflowError, ValueError):
        raise Invalid(f"`{field}` is not a length of time", field=field) from None
    return length


def _settle_length(length: SettleLength) -> pb.SettleLength:
    return pb.SettleLength(
        facility_id=str(length.facility_id),
        settle_after=Duration(
            seconds=length.settle_after // timedelta(seconds=1),
            nanos=length.settle_after.microseconds * 1_000,
        ),
        version=length.version,
    )


def _refusal(recorded: RecordedRefusal) -> pb.Refusal:
    refusal = recorded.refusal
    return pb.Refusal(
        refused_at=timestamp(recorded.refused_at),
        kind=KIND_VALUES[refusal.kind],
        reason=refusal.reason,
        certificate_sha256=refusal.certificate_sha256,
        calling_ae_title=refusal.calling_ae_title,
        remote_address=refusal.remote_address,
        gateway_id=str(refusal.gateway_id or ""),
        sop_instance_uid=refusal.sop_instance_uid,
        status=refusal.status,
    )


def _header(stored: StoredInstance) -> pb.InstanceHeader:
    return pb.InstanceHeader(
        sop_instance_uid=stored.instance.sop_instance_uid,
        sop_class_uid=stored.instance.sop_class_uid,
        series_instance_uid=stored.instance.series_instance_uid,
        transfer_syntax_uid=stored.instance.transfer_syntax_uid,
        length=stored.place.file_length,
        sha256=stored.sha256.hex(),
    )


def _deletion(deletion: Deletion) -> pb.Deletion:
    return pb.Deletion(
        deletion_id=str(deletion.deletion_id),
        case_id=str(deletion.case_id),
        facility_id=str(deletion.facility_id or ""),
        deleted_by=deletion.deleted_by,
        state=STATE_VALUES[deletion.state],
        asked_at=timestamp(deletion.asked_at),
        closed_at=timestamp(deletion.closed_at),
        waiting_for=deletion.waiting_for,
    )
