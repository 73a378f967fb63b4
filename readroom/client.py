"""The services, called as one user: every call carries a token of its own."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import cached_property
from typing import TYPE_CHECKING

import grpc

from plumbing import dialing, minting
from plumbing.clocks import clock_of
from plumbing.components import COMPONENTS, SERVICES
from plumbing.tls import TLSFiles
from readroom.endpoints import Endpoints
from readroom.session import Session, read_private

if TYPE_CHECKING:  # generated for type checkers only
    from wire.access.v1.access_pb2_grpc import AccessServiceAsyncStub
    from wire.access.v1.identity_pb2_grpc import IdentityServiceAsyncStub
    from wire.audit.v1.audit_pb2_grpc import AuditServiceAsyncStub
    from wire.ingest.v1.ingest_pb2_grpc import IngestServiceAsyncStub
    from wire.letters.v1.letters_pb2_grpc import DeadLettersServiceAsyncStub
    from wire.notify.v1.notify_pb2_grpc import NotifyServiceAsyncStub
    from wire.reporting.v1.reporting_pb2_grpc import ReportingServiceAsyncStub
    from wire.routing.v1.routing_pb2_grpc import RoutingServiceAsyncStub
    from wire.sharing.v1.sharing_pb2_grpc import SharingServiceAsyncStub

DEADLINE_S = 10.0
"""How long one call may take: a person waits, so longer than a service would."""


class Readroom:
    """The services as one user has them. What a command does not ask is neither loaded nor connected.

    Args:
        channel: the channel to a service by its name, the same each time.
    """

    def __init__(self, channel: "Callable[[str], grpc.aio.Channel]") -> None:
        self._channel = channel

    @cached_property
    def access(self) -> "AccessServiceAsyncStub":
        from wire.access.v1.access_pb2_grpc import AccessServiceStub

        return AccessServiceStub(self._channel("access"))

    @cached_property
    def identities(self) -> "IdentityServiceAsyncStub":
        """Who signs in as whom; access serves it beside its own."""
        from wire.access.v1.identity_pb2_grpc import IdentityServiceStub

        return IdentityServiceStub(self._channel("access"))

    @cached_property
    def ingest(self) -> "IngestServiceAsyncStub":
        from wire.ingest.v1.ingest_pb2_grpc import IngestServiceStub

        return IngestServiceStub(self._channel("ingest"))

    @cached_property
    def routing(self) -> "RoutingServiceAsyncStub":
        from wire.routing.v1.routing_pb2_grpc import RoutingServiceStub

        return RoutingServiceStub(self._channel("routing"))

    @cached_property
    def reporting(self) -> "ReportingServiceAsyncStub":
        from wire.reporting.v1.reporting_pb2_grpc import ReportingServiceStub

        return ReportingServiceStub(self._channel("reporting"))

    @cached_property
    def sharing(self) -> "SharingServiceAsyncStub":
        from wire.sharing.v1.sharing_pb2_grpc import SharingServiceStub

        return SharingServiceStub(self._channel("sharing"))

    @cached_property
    def notify(self) -> "NotifyServiceAsyncStub":
        from wire.notify.v1.notify_pb2_grpc import NotifyServiceStub

        return NotifyServiceStub(self._channel("notify"))

    @cached_property
    def audit(self) -> "Mapping[str, AuditServiceAsyncStub]":
        """The audit of each service, and of the web."""
        from wire.audit.v1.audit_pb2_grpc import AuditServiceStub

        return {name: AuditServiceStub(self._channel(name)) for name in (*SERVICES, "web")}

    @cached_property
    def letters(self) -> "Mapping[str, DeadLettersServiceAsyncStub]":
        """The dead letters of each service; the web has none."""
        from wire.letters.v1.letters_pb2_grpc import DeadLettersServiceStub

        return {name: DeadLettersServiceStub(self._channel(name)) for name in SERVICES}


@asynccontextmanager
async def connect(endpoints: Endpoints, session: Session) -> AsyncIterator[Readroom]:
    """Channels to the services, for as long as the block runs."""
    issuer = minting.Issuer(read_private(endpoints.issuer_key))
    clock = clock_of(endpoints.clock_offset_file)
    caller = TLSFiles(endpoints.caller_certificate, endpoints.caller_key, endpoints.service_ca)
    channels: dict[str, grpc.aio.Channel] = {}

    def channel(name: str) -> grpc.aio.Channel:
        if name not in channels:
            identity = COMPONENTS[name].identity

            def token() -> str:
                return issuer.mint(
                    login=session.login, session=session.session, audience=identity, now=clock.now()
                )

            address = endpoints.services[name]
            channels[name] = dialing.connect(address, identity, caller, deadline_s=DEADLINE_S, token=token)
        return channels[name]

    try:
        yield Readroom(channel)
    finally:
        for each in channels.values():
            await each.close()
