"""The whole service in this process: gRPC over mutual TLS, facts over NATS, PostgreSQL; and its owners."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import msgspec

from kernel.clock import MonotonicClock
from kernel.errors import NotFound
from kernel.events import FacilityChanged, Fact
from local.embedded import EmbeddedServers
from local.pki import Pki
from plumbing import rpc
from plumbing.bus import Bus
from plumbing.minting import mint
from services.access import main
from services.access.received import FIRST_PART
from tests.hosting import answers, hosted
from tests.wait import eventually
from wire.access.v1 import access_pb2 as pb
from wire.access.v1 import access_pb2_grpc
from wire.ingest.v1 import ingest_pb2, ingest_pb2_grpc
from wire.reporting.v1 import reporting_pb2, reporting_pb2_grpc
from wire.routing.v1 import routing_pb2, routing_pb2_grpc

if TYPE_CHECKING:
    from wire.access.v1.access_pb2_grpc import AccessServiceAsyncStub

ADMIN = "ada"
CLOCK = MonotonicClock()
PARTS_PAGE = 500
"""What ingest tells at once."""
UNREAD = reporting_pb2.DescribeReadingResponse.STATE_UNSPECIFIED
FINAL = reporting_pb2.DescribeReadingResponse.STATE_FINAL


class Routing(routing_pb2_grpc.RoutingServiceServicer):
    """Routing as far as access asks it."""

    def __init__(self) -> None:
        self.facilities: dict[str, routing_pb2.Facility] = {}
        self.placements: dict[str, routing_pb2.Placement] = {}

    async def DescribeFacility(  # noqa: N802
        self, request: routing_pb2.DescribeFacilityRequest, context: Any
    ) -> routing_pb2.DescribeFacilityResponse:
        if request.facility_id not in self.facilities:
            raise NotFound("there is no such facility")
        return routing_pb2.DescribeFacilityResponse(facility=self.facilities[request.facility_id])

    async def DescribePlacement(  # noqa: N802
        self, request: routing_pb2.DescribePlacementRequest, context: Any
    ) -> routing_pb2.DescribePlacementResponse:
        if request.case_id not in self.placements:
            raise NotFound("no such case")
        return routing_pb2.DescribePlacementResponse(placement=self.placements[request.case_id])

    async def ListVersions(  # noqa: N802
        self, request: routing_pb2.ListVersionsRequest, context: Any
    ) -> routing_pb2.ListVersionsResponse:
        things: dict[str, Any] = (
            self.facilities
            if request.kind == routing_pb2.ListVersionsRequest.KIND_FACILITY
            else self.placements
        )
        versions = [
            routing_pb2.ListVersionsResponse.Version(id=key, version=things[key].version)
            for key in sorted(things)
            if key > request.after_id
        ]
        return routing_pb2.ListVersionsResponse(versions=versions[:500])


class Ingest(ingest_pb2_grpc.IngestServiceServicer):
    """Ingest as far as access asks it."""

    def __init__(self) -> None:
        self.studies: dict[str, ingest_pb2.Study] = {}
        self.deletions: set[str] = set()
        self.asked_of: list[str] = []
        self.pages_asked: list[int] = []

    async def DescribeDeletion(  # noqa: N802
        self, request: ingest_pb2.DescribeDeletionRequest, context: Any
    ) -> ingest_pb2.DescribeDeletionResponse:
        self.asked_of.append(request.case_id)
        if request.case_id not in self.deletions:
            raise NotFound("there is no deletion of this case")
        return ingest_pb2.DescribeDeletionResponse()

    async def DescribeStudy(  # noqa: N802
        self, request: ingest_pb2.DescribeStudyRequest, context: Any
    ) -> ingest_pb2.DescribeStudyResponse:
        if request.study_id not in self.studies:
            raise NotFound("no such study")
        assert request.by_parts
        study = ingest_pb2.Study()
        study.CopyFrom(self.studies[request.study_id])
        following = [part for part in study.parts if part.number > request.after_part]
        study.ClearField("parts")
        study.parts.extend(following[:PARTS_PAGE])
        study.more_parts = len(following) > PARTS_PAGE
        self.pages_asked.append(request.after_part)
        return ingest_pb2.DescribeStudyResponse(study=study)

    async def ListVersions(  # noqa: N802
        self, request: ingest_pb2.ListVersionsRequest, context: Any
    ) -> ingest_pb2.ListVersionsResponse:
        versions = [
            ingest_pb2.ListVersionsResponse.Version(study_id=key, version=self.studies[key].version)
            for key in sorted(self.studies)
            if key > request.after_study_id
        ]
        return ingest_pb2.ListVersionsResponse(versions=versions[:500])


class Reporting(reporting_pb2_grpc.ReportingServiceServicer):
    """Reporting as far as access asks it."""

    def __init__(self) -> None:
        self.readings: dict[str, reporting_pb2.DescribeReadingResponse] = {}

    async def DescribeReading(  # noqa: N802
        self, request: reporting_pb2.DescribeReadingRequest, context: Any
    ) -> reporting_pb2.DescribeReadingResponse:
        if request.case_id not in self.readings:
            raise NotFound("nothing was written about this case")
        return self.readings[request.case_id]

    async def ListVersions(  # noqa: N802
        self, request: reporting_pb2.ListVersionsRequest, context: Any
    ) -> reporting_pb2.ListVersionsResponse:
        versions = [
            reporting_pb2.ListVersionsResponse.Version(case_id=key, version=self.readings[key].version)
            for key in sorted(self.readings)
            if key > request.after_case_id
        ]
        return reporting_pb2.ListVersionsResponse(versions=versions[:500])


ATTRIBUTES = {"PatientName": "Doe^Jane\0", "StudyDate": "20261101", "InstitutionName": "MS44"}


@dataclass
class Service:
    """Access as a running process would be, and its neighbours."""

    pki: Pki
    port: int
    bus: Bus
    routing: Routing
    ingest: Ingest
    reporting: Reporting
    resources: AsyncExitStack
    login: str = ADMIN
    stub: "AccessServiceAsyncStub" = field(init=False)
    stubs: dict[tuple[str, str], "AccessServiceAsyncStub"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.stub = self.called_by()

    def called_by(
        self, peer: str = "bff", token: Callable[[], str | None] | None = None
    ) -> "AccessServiceAsyncStub":
        """The service as this peer calls it for the acting user, or with this token."""
        address = f"127.0.0.1:{self.port}"
        channel = rpc.connect(
            address, "access", self.pki.tls(peer), deadline_s=10, token=token or self._token
        )
        self.resources.push_async_callback(channel.close)
        return access_pb2_grpc.AccessServiceStub(channel)

    def acting(self, login: str, peer: str = "bff") -> "AccessServiceAsyncStub":
        """The service as this peer calls it for this user."""
        if (login, peer) not in self.stubs:
            self.stubs[login, peer] = self.called_by(peer, lambda: self.token(login=login))
        return self.stubs[login, peer]

    def _token(self) -> str:
        return self.token()

    def token(self, **changes: Any) -> str:
        values: dict[str, Any] = {
            "login": self.login,
            "session": "s",
            "audience": "access",
            "now": CLOCK.now(),
        } | changes
        return mint(self.pki.token_key.read_bytes(), **values)

    async def say(self, *facts: Fact, event_id: UUID | None = None) -> None:
        for fact in facts:
            await self.bus.publish(fact.subject, msgspec.json.encode(fact), event_id or uuid4(), {})

    async def facility(self, name: str = "North", time_zone: str = "UTC") -> str:
        facility_id = str(uuid4())
        self.routing.facilities[facility_id] = routing_pb2.Facility(
            facility_id=facility_id, name=name, time_zone=time_zone, version=1
        )
        await self.say(FacilityChanged(UUID(facility_id), 1))

        async def is_known() -> bool:
            with suppress(NotFound):
                await self.stub.CheckPermission(
                    pb.CheckPermissionRequest(permission="operator", facility_id=facility_id)
                )
                return True
            return False

        await eventually(is_known)
        return facility_id

    async def user(self, role: pb.Role.ValueType = pb.ROLE_RADIOLOGIST, login: str = "jane") -> pb.User:
        saved = await self.stub.SaveUser(pb.SaveUserRequest(user=pb.User(login=login, name=login, role=role)))
        return saved.user

    async def give(self, user: pb.User, facility_id: str, level: pb.Level.ValueType) -> str:
        wanted = pb.Privilege(user_id=user.user_id, facility_id=facility_id, level=level)
        return (await self.save_privilege(wanted)).revision

    async def save_privilege(self, wanted: pb.Privilege) -> pb.SavePrivilegeResponse:
        """As an administrator does who has just loaded it."""
        held = await self.stub.ListPrivileges(pb.ListPrivilegesRequest(user_id=wanted.user_id))
        versions = {each.facility_id: each.version for each in held.privileges}
        wanted.version = versions.get(wanted.facility_id, 0)
        return await self.stub.SavePrivilege(pb.SavePrivilegeRequest(privilege=wanted))

    async def save_user(self, wanted: pb.User, *, set_permissions: bool = False) -> pb.User:
        """As an administrator does who has just loaded the user."""
        listed = await self.stub.ListUsers(pb.ListUsersRequest(page_size=500))
        (wanted.version,) = [each.version for each in listed.users if each.user_id == wanted.user_id]
        request = pb.SaveUserRequest(user=wanted, set_permissions=set_permissions)
        return (await self.stub.SaveUser(request)).user

    def a_study(self, *series: tuple[str, str, int], version: int = 1, **changes: Any) -> str:
        """A study of these series, each a part: UID, modality and number of instances."""
        study_id = changes.pop("study_id", str(uuid4()))
        study = ingest_pb2.Study(
            study_id=study_id,
            version=version,
            study_instance_uid="1.2.3",
            attribute_sets=[ingest_pb2.AttributeSet(number=1, attributes=ATTRIBUTES)],
            parts=[
                ingest_pb2.Part(
                    number=FIRST_PART + ordinal - 1,
                    identity=1,
                    attribute_set=1,
                    modalities=[modality],
                    series=[ordinal],
                    instance_count=count,
                )
                for ordinal, (_, modality, count) in enumerate(series, start=1)
            ],
            series_instance_uids=[uid for uid, *_ in series],
            **changes,
        )
        return self.add_study(study)

    def add_study(self, study: ingest_pb2.Study) -> str:
        study.received_at.FromDatetime(CLOCK.now())
        for part in study.parts:
            part.received_at.CopyFrom(study.received_at)
        self.ingest.studies[study.study_id] = study
        return study.study_id

    def a_study_of_the_version_before(self, *series: tuple[str, str, int], version: int = 1) -> str:
        """As an ingest tells it that knows no parts."""
        return self.add_study(
            ingest_pb2.Study(
                study_id=str(uuid4()),
                version=version,
                study_instance_uid="1.2.3",
                attributes=ATTRIBUTES,
                series=[
                    ingest_pb2.Series(
                        series_instance_uid=uid, attributes={"Modality": modality}, instance_count=count
                    )
                    for uid, modality, count in series
                ],
            )
        )

    def a_placement(self, facility_id: str, study_id: str, **changes: Any) -> UUID:
        placement = routing_pb2.Placement(
            case_id=changes.pop("case_id", str(uuid4())),
            facility_id=facility_id,
            study_instance_uid="1.2.3",
            studies=changes.pop("studies", None) or [self.all_of(study_id)],
            version=changes.pop("version", 1),
            **changes,
        )
        placement.placed_at.FromDatetime(CLOCK.now())
        self.routing.placements[placement.case_id] = placement
        return UUID(placement.case_id)

    def all_of(self, study_id: str) -> routing_pb2.PlacedStudy:
        """The study with every part that it has now."""
        parts = [part.number for part in self.ingest.studies[study_id].parts]
        return routing_pb2.PlacedStudy(study_id=study_id, all_series=True, by_parts=bool(parts), parts=parts)

    def a_lock(self, name: str) -> reporting_pb2.Lock:
        lock = reporting_pb2.Lock(holder_login=name.lower(), holder_name=name)
        lock.ends_at.FromDatetime(CLOCK.now() + timedelta(hours=1))
        lock.since.FromDatetime(CLOCK.now() - timedelta(minutes=1))
        return lock

    def a_projection(
        self,
        lock: reporting_pb2.Lock | None,
        *read_types: pb.ReadType.ValueType,
        state: reporting_pb2.DescribeReadingResponse.State.ValueType = UNREAD,
    ) -> reporting_pb2.DescribeReadingResponse.Projection:
        projection = reporting_pb2.DescribeReadingResponse.Projection(
            state=state, lock=lock, read_types=read_types
        )
        if read_types:
            projection.reported_at.FromDatetime(CLOCK.now())
        return projection

    def a_reading(self, case_id: UUID, version: int = 1, **sides: Any) -> None:
        self.reporting.readings[str(case_id)] = reporting_pb2.DescribeReadingResponse(
            case_id=str(case_id), version=version, **sides
        )

    async def listed(self, login: str = "jane") -> list[pb.Case]:
        answer = await self.acting(login).ListCases(pb.ListCasesRequest())
        return list(answer.cases)


async def serve(servers: EmbeddedServers, url: str, pki: Pki) -> AsyncIterator[Service]:
    """Access as its process builds it, on a database of its own, and what surrounds it."""
    async with AsyncExitStack() as resources:
        # The contracts have more methods than access asks.
        routing, ingest, reporting = Routing(), Ingest(), Reporting()  # type: ignore[abstract]
        addresses = {}
        for name, register, servicer in (
            ("routing", routing_pb2_grpc.add_RoutingServiceServicer_to_server, routing),
            ("ingest", ingest_pb2_grpc.add_IngestServiceServicer_to_server, ingest),
            ("reporting", reporting_pb2_grpc.add_ReportingServiceServicer_to_server, reporting),
        ):
            neighbour = rpc.Server(name, "127.0.0.1:0", pki.tls(name), None)
            neighbour.add(register, servicer, f"wire.{name}.v1.{name.capitalize()}Service")
            addresses[name] = f"127.0.0.1:{await neighbour.start()}"
            resources.push_async_callback(neighbour.stop, 0.1)
        assert await main.create_first_admin(url, ADMIN)
        assert not await main.create_first_admin(url, "mallory")
        own = {
            "ROUTING_ADDRESS": addresses["routing"],
            "INGEST_ADDRESS": addresses["ingest"],
            "REPORTING_ADDRESS": addresses["reporting"],
            "REVISION_KEY": "k" * 32,
        }
        port = await hosted("access", main, servers, pki, url, CLOCK, own, resources)
        bus = await Bus.connect(servers.nats_url, "owners")
        resources.push_async_callback(bus.close)
        await eventually(lambda: answers(bus))
        yield Service(pki, port, bus, routing, ingest, reporting, resources)
