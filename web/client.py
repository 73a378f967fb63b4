"""The services as the web calls them: for who is signed in, or for itself where nobody is."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from plumbing import rpc
from plumbing.tls import TLSFiles
from web.tokens import Mint
from wire.access.v1.access_pb2_grpc import AccessServiceStub
from wire.access.v1.identity_pb2_grpc import IdentityServiceStub
from wire.ingest.v1.ingest_pb2_grpc import IngestServiceStub
from wire.reporting.v1.reporting_pb2_grpc import ReportingServiceStub
from wire.sharing.v1.sharing_pb2_grpc import SharingServiceStub

if TYPE_CHECKING:  # generated for type checkers only
    from wire.access.v1.access_pb2_grpc import AccessServiceAsyncStub
    from wire.access.v1.identity_pb2_grpc import IdentityServiceAsyncStub
    from wire.ingest.v1.ingest_pb2_grpc import IngestServiceAsyncStub
    from wire.reporting.v1.reporting_pb2_grpc import ReportingServiceAsyncStub
    from wire.sharing.v1.sharing_pb2_grpc import SharingServiceAsyncStub

DEADLINE_S = 8.0
"""How long one call may take: a person waits, so longer than a service would."""


@dataclass(frozen=True, slots=True)
class Services:
    """One stub a service."""

    access: "AccessServiceAsyncStub"
    identities: "IdentityServiceAsyncStub"
    reporting: "ReportingServiceAsyncStub"
    ingest: "IngestServiceAsyncStub"
    sharing: "SharingServiceAsyncStub"


async def connect(
    addresses: Mapping[str, str], tls: TLSFiles, mint: Mint, resources: AsyncExitStack
) -> Services:
    """Channels to the services, by name; nobody needs to answer yet."""
    to = {
        name: rpc.connect(address, name, tls, deadline_s=DEADLINE_S, token=partial(mint.token, name))
        for name, address in addresses.items()
    }
    for channel in to.values():
        resources.push_async_callback(channel.close)
    return Services(
        access=AccessServiceStub(to["access"]),
        identities=IdentityServiceStub(to["access"]),
        reporting=ReportingServiceStub(to["reporting"]),
        ingest=IngestServiceStub(to["ingest"]),
        sharing=SharingServiceStub(to["sharing"]),
    )
