"""Central server: where transfers are announced and images go, over mutual TLS and nothing else (GWY-3)."""

import asyncio
import ssl
from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from google.protobuf.duration_pb2 import Duration

from gateway.queue import Transfer
from plumbing.dimse.requestor import Requestor
from wire.ingest.v1 import ingest_pb2_grpc
from wire.ingest.v1.ingest_pb2 import BeginTransferRequest, HeartbeatRequest

SERVER_NAME = "ingest.readroom"
"""Whom Central's certificates must be for."""

_ANNOUNCED_WITHIN_S = 10.0


class Central(Protocol):
    """What forwarding needs of it. Both methods raise ReadroomError when it does not work now."""

    def announce(self, transfer: Transfer, age: timedelta) -> None:
        """Tells that the transfer is coming; telling it again changes nothing."""
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

    def announce(self, transfer: Transfer, age: timedelta) -> None:
        duration = Duration()
        duration.FromTimedelta(age)
        request = BeginTransferRequest(
            transfer_id=str(transfer.id),
            study_instance_uid=transfer.study_instance_uid,
            calling_ae_title=transfer.calling_ae_title,
            age=duration,
        )
        asyncio.run_coroutine_threadsafe(self._begin(request), self._loop).result(_ANNOUNCED_WITHIN_S)

    async def _begin(self, request: BeginTransferRequest) -> None:
        await self._gateway_service.BeginTransfer(request)

    async def tell(self, software_version: str, waiting: int, oldest: timedelta | None) -> None:
        """Tells how this gateway is; does not block."""
        request = HeartbeatRequest(software_version=software_version, waiting_studies=waiting)
        if oldest is not None:
            request.oldest_waits.FromTimedelta(oldest)
        await self._gateway_service.Heartbeat(request)

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
