"""The services, called as one user: every call carries a token of its own."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from plumbing import rpc, tokens
from plumbing.clocks import clock_of
from plumbing.components import COMPONENTS, SERVICES
from readroom.endpoints import Endpoints
from readroom.session import Session, read_private
from wire.access.v1.access_pb2_grpc import AccessServiceStub
from wire.access.v1.identity_pb2_grpc import IdentityServiceStub
from wire.audit.v1.audit_pb2_grpc import AuditServiceStub
from wire.ingest.v1.ingest_pb2_grpc import IngestServiceStub
from wire.letters.v1.letters_pb2_grpc import DeadLettersServiceStub
from wire.notify.v1.notify_pb2_grpc import NotifyServiceStub
from wire.reporting.v1.reporting_pb2_grpc import ReportingServiceStub
from wire.routing.v1.routing_pb2_grpc import RoutingServiceStub
from wire.sharing.v1.sharing_pb2_grpc import SharingServiceStub

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


@dataclass(frozen=True, slots=True)
class Readroom:
    """The services as one user has them.

    Attributes:
        identities: who signs in as whom; access serves it beside its own.
        audit, letters: what each serves beside its own; the web has no letters.
    """

    access: "AccessServiceAsyncStub"
    identities: "IdentityServiceAsyncStub"
    ingest: "IngestServiceAsyncStub"
    routing: "RoutingServiceAsyncStub"
    reporting: "ReportingServiceAsyncStub"
    sharing: "SharingServiceAsyncStub"
    notify: "NotifyServiceAsyncStub"
    audit: Mapping[str, "AuditServiceAsyncStub"]
    letters: Mapping[str, "DeadLettersServiceAsyncStub"]


@asynccontextmanager
async def connect(endpoints: Endpoints, session: Session) -> AsyncIterator[Readroom]:
    """Channels to the services, for as long as the block runs."""
    issuer_key = read_private(endpoints.issuer_key)
    clock = clock_of(endpoints.clock_offset_file)
    caller = rpc.TLSFiles(endpoints.caller_certificate, endpoints.caller_key, endpoints.service_ca)

    async with AsyncExitStack() as channels:

        async def channel(name: str) -> grpc.aio.Channel:
            identity = COMPONENTS[name].identity

            def token() -> str:
                return tokens.mint(
                    issuer_key,
                    login=session.login,
                    session=session.session,
                    audience=identity,
                    now=clock.now(),
                )

            address = endpoints.services[name]
            return await channels.enter_async_context(
                rpc.connect(address, identity, caller, deadline_s=DEADLINE_S, token=token)
            )

        to = {name: await channel(name) for name in endpoints.services}
        yield Readroom(
            access=AccessServiceStub(to["access"]),
            identities=IdentityServiceStub(to["access"]),
            ingest=IngestServiceStub(to["ingest"]),
            routing=RoutingServiceStub(to["routing"]),
            reporting=ReportingServiceStub(to["reporting"]),
            sharing=SharingServiceStub(to["sharing"]),
            notify=NotifyServiceStub(to["notify"]),
            audit={name: AuditServiceStub(each) for name, each in to.items()},
            letters={name: DeadLettersServiceStub(to[name]) for name in SERVICES},
        )
