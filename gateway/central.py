"""Central server: where transfers are announced and images go, over mutual TLS and nothing else (GWY-3)."""

import asyncio
import ssl
from collections.abc import Awaitable, Sequence
from datetime import timedelta
from typing import Protocol, TypeVar

from google.protobuf.duration_pb2 import Duration

from gateway.queue import End, Transfer
from kernel.errors import Unavailable
from plumbing.dimse.requestor import Requestor
from wire.ingest.v1 import ingest_pb2_grpc
from wire.ingest.v1.ingest_pb2 import (
    BeginTransferRequest,
    EndTransferRequest,
    HeartbeatRequest,
    RenewCertificateRequest,
)

SERVER_NAME = "ingest.readroom"
"""Whom Central's certificates must be for."""

_ANSWERED_WITHIN_S = 10.0

A = TypeVar("A")


class Central(Protocol):
    """What forwarding needs of it. Each method raises ReadroomError when it does not work now."""

    def announce(self, transfers: Sequence[tuple[Transfer, timedelta]]) -> bool:
        """Tells that transfers are coming, each with its age; telling it again changes nothing.

        Answers whether one association may carry them all. Central server of the version before takes one
        transfer in an association, and is told the first one only.
        """
        ...

    def end(self, ended: Sequence[End]) -> None:
        """Tells that transfers have ended, so that their studies are settled."""
        ...

    def associate(self, transfer: Transfer, proposed: Sequence[tuple[str, str]]) -> Requestor:
        """An association that names the transfer and proposes (SOP class, transfer syntax)."""
        ...


class CentralServer:
    """Central server as enrolment named it. Its methods block: call them from a worker's thread."""

    def __init__(
        self,
        gateway_service: "ingest_pb2_grpc.GatewayServiceAsyncStub",
        loop: asyncio.AbstractEventLoop,
        *,
        dicom_address: str,
        ae_title: str,
        context: ssl.SSLContext,
    ) -> None:
        self._gateway_service = gateway_service
        self._loop = loop
        self._dicom_address = dicom_address
        self._ae_title = ae_title
        self._context = context

    def announce(self, transfers: Sequence[tuple[Transfer, timedelta]]) -> bool:
        first, *further = [_announcement(*each) for each in transfers]
        request = BeginTransferRequest(
            transfer_id=first.transfer_id,
            study_instance_uid=first.study_instance_uid,
            calling_ae_title=first.calling_ae_title,
            age=first.age,
            further=further,
        )
        return self._wait(self._gateway_service.BeginTransfer(request)).announced == len(transfers)

    def end(self, ended: Sequence[End]) -> None:
        request = EndTransferRequest(
            ended=[
                EndTransferRequest.Ended(transfer_id=str(each.transfer.id), instances=each.acknowledged)
                for each in ended
            ]
        )
        self._wait(self._gateway_service.EndTransfer(request))

    def _wait(self, call: Awaitable[A]) -> A:
        async def answered() -> A:
            return await call

        try:
            return asyncio.run_coroutine_threadsafe(answered(), self._loop).result(_ANSWERED_WITHIN_S)
        except TimeoutError:
            raise Unavailable("Central server does not answer in time") from None

    def use(
        self, gateway_service: "ingest_pb2_grpc.GatewayServiceAsyncStub", context: ssl.SSLContext
    ) -> None:
        """From now on another identity is shown; what is under way goes on with the one before."""
        self._gateway_service, self._context = gateway_service, context

    async def tell(self, software_version: str, waiting: int, oldest: timedelta | None) -> bool:
        """Tells how this gateway is, and answers whether it should renew its certificate; does not block."""
        request = HeartbeatRequest(software_version=software_version, waiting_studies=waiting)
        if oldest is not None:
            request.oldest_waits.FromTimedelta(oldest)
        return (await self._gateway_service.Heartbeat(request)).renew_certificate

    async def renew(self, request_pem: str) -> str:
        """A certificate for the key of a signing request, both in PEM; does not block."""
        request = RenewCertificateRequest(certificate_request_pem=request_pem)
        return (await self._gateway_service.RenewCertificate(request)).certificate_pem

    def associate(self, transfer: Transfer, proposed: Sequence[tuple[str, str]]) -> Requestor:
        return Requestor.associate(
            self._dicom_address,
            context=self._context,
            server_name=SERVER_NAME,
            calling_ae_title=transfer.calling_ae_title,
            called_ae_title=self._ae_title,
            proposed=proposed,
            identity=str(transfer.id),
        )


def _announcement(transfer: Transfer, age: timedelta) -> BeginTransferRequest.Announcement:
    duration = Duration()
    duration.FromTimedelta(age)
    return BeginTransferRequest.Announcement(
        transfer_id=str(transfer.id),
        study_instance_uid=transfer.study_instance_uid,
        calling_ae_title=transfer.calling_ae_title,
        age=duration,
    )
