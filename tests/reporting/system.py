"""Reporting as it runs, asking access as it runs: gRPC over mutual TLS, user tokens, real decisions."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from kernel.events import CasePlaced
from local.embedded import EmbeddedServers
from plumbing import rpc
from services.reporting import main
from tests.access.service import CLOCK, Service
from tests.hosting import hosted
from tests.wait import eventually
from wire.access.v1 import access_pb2
from wire.reporting.v1 import reporting_pb2_grpc
from wire.routing.v1 import routing_pb2

if TYPE_CHECKING:
    from wire.reporting.v1.reporting_pb2_grpc import ReportingServiceAsyncStub

ALL = [
    access_pb2.READ_TYPE_PRELIMINARY,
    access_pb2.READ_TYPE_FINAL,
    access_pb2.READ_TYPE_OTHER,
    access_pb2.READ_TYPE_PRE_READ,
]


@dataclass
class System:
    """A reporting that runs, and the access that it asks."""

    access: Service
    port: int
    stubs: dict[str, "ReportingServiceAsyncStub"] = field(default_factory=dict)

    def called_by(self, peer: str, token: Any) -> "ReportingServiceAsyncStub":
        address = f"127.0.0.1:{self.port}"
        channel = rpc.connect(address, "reporting", self.access.pki.tls(peer), deadline_s=10, token=token)
        self.access.resources.push_async_callback(channel.close)
        return reporting_pb2_grpc.ReportingServiceStub(channel)

    def for_access(self) -> "ReportingServiceAsyncStub":
        """The service as access calls it for itself."""
        if "" not in self.stubs:
            self.stubs[""] = self.called_by("access", None)
        return self.stubs[""]

    def acting(self, login: str) -> "ReportingServiceAsyncStub":
        """The service as the bff calls it for this user."""
        if login not in self.stubs:
            token = partial(self.access.token, login=login, audience="reporting")
            self.stubs[login] = self.called_by("bff", token)
        return self.stubs[login]


@asynccontextmanager
async def running(
    servers: EmbeddedServers, url: str, access: Service, **settings: str
) -> AsyncIterator[System]:
    """Reporting as its process builds it, on a database of its own."""
    async with AsyncExitStack() as resources:
        own = {
            "ACCESS_ADDRESS": f"127.0.0.1:{access.port}",
        } | settings
        port = await hosted("reporting", main, servers, access.pki, url, CLOCK, own, resources)
        yield System(access, port)


async def a_case(access: Service, facility_id: str, *, held: bool = False) -> str:
    """A case of the facility, which access knows; all its images may be held."""
    study_id = access.a_study(("1.1", "CT", 1), settled=True)
    nothing = routing_pb2.PlacedStudy(study_id=study_id, by_parts=True)
    case_id = access.a_placement(facility_id, study_id, studies=[nothing] if held else None)
    await access.say(CasePlaced(UUID(str(case_id)), 1))

    async def is_known() -> bool:
        answer = await access.acting("probe").Check(access_pb2.CheckRequest(case_id=str(case_id)))
        return answer.decision.allowed

    await eventually(is_known)
    return str(case_id)


async def a_user(
    access: Service,
    login: str,
    role: access_pb2.Role.ValueType,
    facility_id: str,
    level: access_pb2.Level.ValueType,
    *permissions: str,
    read_types: Any = (),
) -> access_pb2.User:
    """A user with a privilege at the facility, with their role's defaults and these permissions there."""
    user = access_pb2.User(login=login, name=f"Dr {login.title()}", role=role, home_facility_id=facility_id)
    saved = (await access.stub.SaveUser(access_pb2.SaveUserRequest(user=user))).user
    if permissions:
        saved.permissions.extend(
            access_pb2.PermissionGrant(permission=each, facility_id=facility_id) for each in permissions
        )
        saved = await access.save_user(saved, set_permissions=True)
    if level:
        await give(access, saved, facility_id, level, read_types)
    return saved


async def give(
    access: Service,
    user: access_pb2.User,
    facility_id: str,
    level: access_pb2.Level.ValueType,
    read_types: Any = (),
    expires_on: str = "",
) -> None:
    privilege = access_pb2.Privilege(
        user_id=user.user_id,
        facility_id=facility_id,
        level=level,
        read_types=read_types,
        expires_on=expires_on,
    )
    await access.save_privilege(privilege)
