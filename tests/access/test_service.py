"""The whole service: gRPC over mutual TLS, facts over NATS, PostgreSQL; and whoever should not get in."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import grpc
import msgspec
import pytest

from kernel.clock import MonotonicClock
from kernel.errors import Conflict, Denied, Invalid, NotFound, ReadroomError, Unauthenticated
from kernel.events import CaseMoved, CasePlaced, CaseUndistributed, FacilityChanged, Fact, StudyChanged
from kernel.ids import UUID7
from plumbing import config, rpc
from plumbing.bus import Bus
from plumbing.embedded import EmbeddedServers
from plumbing.pki import Pki, token_key
from plumbing.tokens import mint
from services.access import main
from services.access.revision import RevisionTokens
from tests.wait import eventually
from wire.access.v1 import access_pb2 as pb
from wire.access.v1 import access_pb2_grpc
from wire.ingest.v1 import ingest_pb2, ingest_pb2_grpc
from wire.routing.v1 import routing_pb2, routing_pb2_grpc

ADMIN = "ada"
CLOCK = MonotonicClock()


class Routing(routing_pb2_grpc.RoutingServiceServicer):
    """Routing as far as access asks it."""

    def __init__(self) -> None:
        self.facilities: dict[str, routing_pb2.Facility] = {}
        self.placements: dict[str, routing_pb2.Placement] = {}

    async def DescribeFacility(  # noqa: N802
        self, request: routing_pb2.DescribeFacilityRequest, context: Any
    ) -> routing_pb2.DescribeFacilityResponse:
        if request.facility_id not in self.facilities:
            raise NotFound("no such facility")
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

    async def DescribeStudy(  # noqa: N802
        self, request: ingest_pb2.DescribeStudyRequest, context: Any
    ) -> ingest_pb2.DescribeStudyResponse:
        if request.study_id not in self.studies:
            raise NotFound("no such study")
        return ingest_pb2.DescribeStudyResponse(study=self.studies[request.study_id])

    async def ListVersions(  # noqa: N802
        self, request: ingest_pb2.ListVersionsRequest, context: Any
    ) -> ingest_pb2.ListVersionsResponse:
        versions = [
            ingest_pb2.ListVersionsResponse.Version(study_id=key, version=self.studies[key].version)
            for key in sorted(self.studies)
            if key > request.after_study_id
        ]
        return ingest_pb2.ListVersionsResponse(versions=versions[:500])


@dataclass
class Service:
    """Access as a running process would be, and its neighbours."""

    pki: Pki
    port: int
    bus: Bus
    routing: Routing
    ingest: Ingest
    resources: AsyncExitStack
    login: str = ADMIN
    stub: access_pb2_grpc.AccessServiceStub = field(init=False)

    def __post_init__(self) -> None:
        self.stub = self.called_by()

    def called_by(
        self, peer: str = "bff", token: Callable[[], str | None] | None = None
    ) -> access_pb2_grpc.AccessServiceStub:
        """The service as this peer calls it for the acting user, or with this token."""
        address = f"127.0.0.1:{self.port}"
        channel = rpc.connect(
            address, "access", self.pki.tls(peer), deadline_s=10, token=token or self._token
        )
        self.resources.push_async_callback(channel.close)
        return access_pb2_grpc.AccessServiceStub(channel)  # type: ignore[no-any-return, unused-ignore]

    def acting(self, login: str, peer: str = "bff") -> access_pb2_grpc.AccessServiceStub:
        return self.called_by(peer, lambda: self.token(login=login))

    def _token(self) -> str:
        return self.token()

    def token(self, **changes: Any) -> str:
        values = {"login": self.login, "session": "s", "audience": "access", "now": CLOCK.now()} | changes
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
        privilege = pb.Privilege(user_id=user.user_id, facility_id=facility_id, level=level)
        saved = await self.stub.SavePrivilege(pb.SavePrivilegeRequest(privilege=privilege))
        return saved.revision

    def a_study(self, *series: tuple[str, str, int], version: int = 1, **changes: Any) -> str:
        study = ingest_pb2.Study(
            study_id=changes.pop("study_id", str(uuid4())),
            version=version,
            study_instance_uid="1.2.3",
            attributes={"PatientName": "Doe^Jane\0", "StudyDate": "20261101", "InstitutionName": "MS44"},
            series=[
                ingest_pb2.Series(
                    series_instance_uid=uid, attributes={"Modality": modality}, instance_count=count
                )
                for uid, modality, count in series
            ],
            **changes,
        )
        study.received_at.FromDatetime(CLOCK.now())
        self.ingest.studies[study.study_id] = study
        return study.study_id

    def a_placement(self, facility_id: str, study_id: str, **changes: Any) -> UUID:
        placement = routing_pb2.Placement(
            case_id=changes.pop("case_id", str(uuid4())),
            facility_id=facility_id,
            study_instance_uid="1.2.3",
            studies=[routing_pb2.PlacedStudy(study_id=study_id, all_series=True)],
            version=changes.pop("version", 1),
            **changes,
        )
        placement.placed_at.FromDatetime(CLOCK.now())
        self.routing.placements[placement.case_id] = placement
        return UUID(placement.case_id)

    async def listed(self, login: str = "jane") -> list[pb.Case]:
        answer = await self.acting(login).ListCases(pb.ListCasesRequest())
        return list(answer.cases)


@pytest.fixture
async def service(
    servers: EmbeddedServers, fresh_database: Callable[[str], str], pki: Pki
) -> AsyncIterator[Service]:
    async with AsyncExitStack() as resources:
        routing, ingest = Routing(), Ingest()
        addresses = {}
        for name, register, servicer in (
            ("routing", routing_pb2_grpc.add_RoutingServiceServicer_to_server, routing),
            ("ingest", ingest_pb2_grpc.add_IngestServiceServicer_to_server, ingest),
        ):
            neighbour = rpc.Server(name, "127.0.0.1:0", pki.tls(name), None, CLOCK)
            neighbour.add(register, servicer, f"wire.{name}.v1.{name.capitalize()}Service")
            addresses[name] = f"127.0.0.1:{await neighbour.start()}"
            resources.push_async_callback(neighbour.stop, 0.1)
        url = fresh_database("access")
        assert await main.create_first_admin(url, ADMIN)
        assert not await main.create_first_admin(url, "mallory")
        identity = pki.tls("access")
        environment = {
            "LISTEN": "127.0.0.1:0",
            "HTTP_LISTEN": "127.0.0.1:0",
            "DATABASE_URL": url,
            "NATS_URL": servers.nats_url,
            "CACHE_URL": servers.cache_url,
            "TLS_CERTIFICATE": str(identity.certificate),
            "TLS_KEY": str(identity.key),
            "TLS_CA": str(identity.ca),
            "TOKEN_PUBLIC_KEY": str(pki.token_public_key),
            "ROUTING_ADDRESS": addresses["routing"],
            "INGEST_ADDRESS": addresses["ingest"],
            "REVISION_KEY": "k" * 32,
        }
        settings = config.load(
            main.Settings, {f"READROOM_ACCESS_{key}": value for key, value in environment.items()}
        )
        application = await main.build(settings, CLOCK, UUID7(CLOCK), resources)
        (server,) = application.servers
        port = await server.start()
        resources.push_async_callback(server.stop, 0.1)
        tasks = [asyncio.create_task(start()) for start in application.tasks.values()]
        resources.push_async_callback(_end, tasks)
        bus = await Bus.connect(servers.nats_url, "owners")
        resources.push_async_callback(bus.close)
        await eventually(bus.ready)
        await eventually(application.ready["bus"])
        yield Service(pki, port, bus, routing, ingest, resources)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


# The journey


@pytest.mark.proves("ACC-1")
@pytest.mark.proves("ACC-3")
async def test_a_placed_case_comes_to_the_worklist_of_who_may_see_it(service: Service) -> None:
    facility_id = await service.facility("MS44")
    jane, john = await service.user(), await service.user(login="john")
    await service.give(jane, facility_id, pb.LEVEL_VIEW)
    study_id = service.a_study(("1.1", "CT", 2))
    case_id = service.a_placement(facility_id, study_id)

    await service.say(CasePlaced(case_id, 1))

    (case,) = await eventually(service.listed)
    assert (str(case_id), "MS44", "Doe^Jane", "20261101") == (
        case.case_id,
        case.facility_name,
        case.patient_name,
        case.study_date,
    )
    assert (["CT"], 1, 2, "IN_TRANSMIT", pb.LEVEL_VIEW) == (
        list(case.modalities_in_study),
        case.series_count,
        case.instance_count,
        case.study_status_id,
        case.level,
    )
    assert [] == await service.listed("john")

    service.a_study(("1.1", "CT", 2), ("1.2", "MR", 5), study_id=study_id, version=2, settled=True)
    await service.say(StudyChanged(UUID(study_id), 2))

    async def is_ready() -> bool:
        (case,) = await service.listed()
        return (case.instance_count, case.study_status_id) == (7, "READY_TO_READ")

    await eventually(is_ready)
    assert john.login == "john"


async def test_facts_late_repeated_and_out_of_order_do_no_harm(service: Service) -> None:
    hub, endpoint = await service.facility("Hub"), await service.facility("Endpoint")
    jane = await service.user()
    await service.give(jane, endpoint, pb.LEVEL_VIEW)
    study_id = service.a_study(("1.1", "CT", 1), version=3)
    case_id = service.a_placement(endpoint, study_id, version=2)
    event_id = uuid4()

    await service.say(StudyChanged(UUID(study_id), 3), StudyChanged(uuid4(), 1), CasePlaced(uuid4(), 1))
    await service.say(CaseMoved(case_id, 2), CaseUndistributed(case_id, 1), event_id=event_id)
    await service.say(CaseMoved(case_id, 2), CasePlaced(case_id, 1), CaseMoved(case_id, 2))
    await eventually(service.listed)

    # An owner restored from an old backup says old things.
    service.a_placement(hub, study_id, case_id=str(case_id), version=1)
    service.a_study(study_id=study_id, version=1)
    last = await service.facility("Later")
    await service.say(CaseMoved(case_id, 1), StudyChanged(UUID(study_id), 1), FacilityChanged(UUID(last), 1))
    await service.facility("Last")

    (case,) = await service.listed()
    assert (endpoint, 1) == (case.facility_id, case.instance_count)


async def test_a_fact_waits_for_an_owner_that_is_away(service: Service) -> None:
    facility_id = await service.facility()
    await service.give(await service.user(), facility_id, pb.LEVEL_VIEW)
    case_id = service.a_placement(facility_id, service.a_study(("1.1", "CT", 1)))
    ask = service.routing.DescribePlacement

    async def away(request: Any, context: Any) -> Any:
        service.routing.DescribePlacement = ask  # type: ignore[method-assign]
        await context.abort(grpc.StatusCode.UNAVAILABLE, "away")

    service.routing.DescribePlacement = away  # type: ignore[assignment]
    await service.say(CasePlaced(case_id, 1))

    await eventually(service.listed)


async def test_a_user_reads_what_an_administrator_gave(service: Service) -> None:
    facility_id = await service.facility(time_zone="Europe/Amsterdam")
    jane = await service.user()
    privilege = pb.Privilege(
        user_id=jane.user_id,
        facility_id=facility_id,
        level=pb.LEVEL_REPORT,
        expires_on="2099-12-01",
        read_types=[pb.READ_TYPE_FINAL, pb.READ_TYPE_PRELIMINARY],
    )

    saved = await service.stub.SavePrivilege(pb.SavePrivilegeRequest(privilege=privilege))
    listed = await service.acting("jane").ListPrivileges(pb.ListPrivilegesRequest(user_id=jane.user_id))

    assert [saved.privilege] == list(listed.privileges)
    assert (pb.LEVEL_REPORT, "2099-12-01", [pb.READ_TYPE_PRELIMINARY, pb.READ_TYPE_FINAL]) == (
        saved.privilege.effective_level,
        saved.privilege.expires_on,
        list(saved.privilege.read_types),
    )
    assert "2099-11-30T23:00:00Z" == saved.privilege.expires_at.ToJsonString()


async def test_a_decision_tells_images_reports_ways_and_studies(service: Service) -> None:
    facility_id = await service.facility()
    jane = await service.user()
    await service.give(jane, facility_id, pb.LEVEL_REPORT)
    study_id = service.a_study(("1.1", "CT", 1))
    case_id = service.a_placement(facility_id, study_id)
    await service.say(CasePlaced(case_id, 1))
    await eventually(service.listed)

    # Ingest forwards the user's token, whose audience is the peer that forwards it.
    for peer, audience in (("bff", "access"), ("ingest", "ingest"), ("routing", "access")):
        stub = service.called_by(
            peer, lambda audience=audience: service.token(login="jane", audience=audience)
        )  # type: ignore[misc]
        answer = await stub.Check(pb.CheckRequest(case_id=str(case_id), images=True))
        assert answer.decision == pb.Decision(
            allowed=True,
            level=pb.LEVEL_REPORT,
            images=True,
            reports=True,
            paths=[pb.PATH_PRIVILEGE],
            side=pb.SIDE_GROUP,
            read_types=[pb.READ_TYPE_FINAL],
            facility_id=facility_id,
            user_version=2,
            studies=[pb.ConfirmedStudy(study_id=study_id, all_series=True)],
        )


@pytest.mark.proves("ACC-4")
@pytest.mark.proves("ACC-5")
async def test_folders_and_grants_over_the_wire(service: Service) -> None:
    facility_id = await service.facility()
    jane = await service.user()
    case_id = str(service.a_placement(facility_id, service.a_study(("1.1", "CT", 1))))
    await service.say(CasePlaced(UUID(case_id), 1))
    stub = service.stub

    async def put() -> pb.PutInFolderResponse | None:
        with suppress(NotFound):
            return await stub.PutInFolder(pb.PutInFolderRequest(folder_id=folder_id, case_id=case_id))
        return None

    folder = pb.Folder(name="Tumour board", member_user_ids=[jane.user_id])
    saved = await stub.SaveFolder(pb.SaveFolderRequest(folder=folder))
    folder_id = saved.folder.folder_id
    await eventually(put)
    assert [saved.folder] == list((await stub.ListFolders(pb.ListFoldersRequest())).folders)
    assert [case_id] == [case.case_id for case in await service.listed()]
    await stub.GrantCase(pb.GrantCaseRequest(case_id=case_id, user_id=jane.user_id))
    await stub.RemoveFromFolder(pb.RemoveFromFolderRequest(folder_id=folder_id, case_id=case_id))
    assert [case_id] == [case.case_id for case in await service.listed()]
    await stub.RevokeGrant(pb.RevokeGrantRequest(case_id=case_id, user_id=jane.user_id))
    assert [] == await service.listed()


async def test_users_and_folders_come_in_pages(service: Service) -> None:
    for number in range(5):
        await service.user(login=f"user{number}")
        await service.stub.SaveFolder(pb.SaveFolderRequest(folder=pb.Folder(name=f"Größe {number}")))

    async def pages(ask: Callable[[str], Awaitable[Any]], items: str) -> list[Any]:
        found: list[Any] = []
        token = ""
        while True:
            answer = await ask(token)
            found += getattr(answer, items)
            token = answer.next_page_token
            if not token:
                return found

    users = await pages(
        lambda token: service.stub.ListUsers(pb.ListUsersRequest(page_size=2, page_token=token)), "users"
    )
    folders = await pages(
        lambda token: service.stub.ListFolders(pb.ListFoldersRequest(page_size=2, page_token=token)),
        "folders",
    )
    assert [ADMIN, *(f"user{number}" for number in range(5))] == [user.login for user in users]
    assert [f"Größe {number}" for number in range(5)] == [folder.name for folder in folders]


async def test_the_worklist_comes_in_pages_without_a_token_after_the_last(service: Service) -> None:
    facility_id = await service.facility()
    await service.give(await service.user(), facility_id, pb.LEVEL_VIEW)
    placed = [service.a_placement(facility_id, service.a_study(("1.1", "CT", 1))) for _ in range(4)]
    await service.say(*(CasePlaced(case_id, 1) for case_id in placed))

    async def all_arrived() -> bool:
        return len(await service.listed()) == 4

    await eventually(all_arrived)
    stub = service.acting("jane")
    first = await stub.ListCases(pb.ListCasesRequest(page_size=2))
    second = await stub.ListCases(pb.ListCasesRequest(page_size=2, page_token=first.next_page_token))

    assert {str(case_id) for case_id in placed} == {case.case_id for case in [*first.cases, *second.cases]}
    assert "" == second.next_page_token


# Revisions


async def test_a_write_answers_a_revision_that_reads_accept_and_nobody_can_count(service: Service) -> None:
    facility_id = await service.facility()
    jane = await service.user()
    first = await service.give(jane, facility_id, pb.LEVEL_VIEW)
    second = await service.give(jane, facility_id, pb.LEVEL_VIEW)  # changes nothing

    assert first != second
    assert len(first) == len(second)
    keys = RevisionTokens("k" * 32)
    assert keys.revision(first, "") == keys.revision(second, "") > 0
    for token in (first, second):
        await service.stub.Check(pb.CheckRequest(case_id=str(uuid4()), at_least_revision=token))
        await service.stub.ListCases(pb.ListCasesRequest(at_least_revision=token))


# Whoever should not get in


@pytest.mark.proves("SEC-14", part="access: tokens and callers")
@pytest.mark.parametrize(
    "token",
    ["absent", "expired", "foreign audience", "foreign issuer", "garbage", "unknown user", "quoted user"],
)
async def test_without_a_valid_token_of_a_user_there_is_no_answer(service: Service, token: str) -> None:
    tokens: dict[str, Callable[[], str | None]] = {
        "absent": lambda: None,
        "expired": lambda: service.token(now=CLOCK.now() - timedelta(minutes=5)),
        "foreign audience": lambda: service.token(audience="ingest"),
        "foreign issuer": lambda: mint(
            token_key()[0], login=ADMIN, session="s", audience="access", now=CLOCK.now()
        ),
        "garbage": lambda: "e30.e30.e30",
        "unknown user": lambda: service.token(login="mallory"),
        "quoted user": lambda: service.token(login="ada' or '1'='1"),
    }
    stub = service.called_by(token=tokens[token])

    for ask in (
        lambda: stub.Check(pb.CheckRequest(case_id=str(uuid4()))),
        lambda: stub.ListCases(pb.ListCasesRequest()),
        lambda: stub.ListUsers(pb.ListUsersRequest()),
        lambda: stub.SaveUser(pb.SaveUserRequest(user=pb.User(login="x", name="x"))),
    ):
        with pytest.raises(Unauthenticated):
            await ask()


@pytest.mark.proves("SEC-14", part="access: tokens and callers")
@pytest.mark.parametrize("peer", ["ingest", "routing", "access"])
async def test_a_service_calls_only_what_the_contract_lets_it(service: Service, peer: str) -> None:
    stub = service.acting(ADMIN, peer)

    for ask in (
        lambda: stub.ListCases(pb.ListCasesRequest()),
        lambda: stub.SaveUser(pb.SaveUserRequest(user=pb.User(login="x", name="x"))),
        lambda: stub.SavePrivilege(pb.SavePrivilegeRequest()),
        lambda: stub.GrantCase(pb.GrantCaseRequest()),
    ):
        with pytest.raises(Denied):
            await ask()


# Bad input


NOT_IDS = [
    "",
    "x",
    "1" * 36,
    "00000000-0000-0000-0000-00000000000g",
    "{" + "0" * 34 + "}",
    "'; --",
    "\x7f" * 36,
]


@pytest.mark.parametrize("text", NOT_IDS)
async def test_what_is_not_an_id_is_refused_by_name(service: Service, text: str) -> None:
    stub = service.stub
    some = str(uuid4())
    for field_name, ask in {
        "case_id": stub.Check(pb.CheckRequest(case_id=text)),
        "case_ids": stub.CheckMany(pb.CheckManyRequest(case_ids=[some, text])),
        "user_id": stub.ListPrivileges(pb.ListPrivilegesRequest(user_id=text)),
        "folder_id": stub.PutInFolder(pb.PutInFolderRequest(folder_id=text, case_id=some)),
        "facility_id": stub.SavePrivilege(
            pb.SavePrivilegeRequest(privilege=pb.Privilege(user_id=some, facility_id=text))
        ),
        "member_user_ids": stub.SaveFolder(
            pb.SaveFolderRequest(folder=pb.Folder(name="x", member_user_ids=[text]))
        ),
    }.items():
        with pytest.raises(Invalid) as refusal:
            await ask
        assert field_name == refusal.value.field


BAD: dict[str, tuple[str, Callable[[access_pb2_grpc.AccessServiceStub], Any]]] = {
    "page size": ("page_size", lambda s: s.ListCases(pb.ListCasesRequest(page_size=501))),
    "negative page size": ("page_size", lambda s: s.ListUsers(pb.ListUsersRequest(page_size=-1))),
    "page token": ("page_token", lambda s: s.ListCases(pb.ListCasesRequest(page_token="x"))),
    "page token of users": ("page_token", lambda s: s.ListCases(pb.ListCasesRequest(page_token="ImEi"))),
    "page token with NUL": (
        "page_token",
        lambda s: s.ListUsers(pb.ListUsersRequest(page_token="IlwUMDAwMCI=")),
    ),
    "long page token": ("page_token", lambda s: s.ListFolders(pb.ListFoldersRequest(page_token="A" * 9999))),
    "revision": (
        "at_least_revision",
        lambda s: s.Check(pb.CheckRequest(case_id=str(uuid4()), at_least_revision="x")),
    ),
    "foreign revision": (
        "at_least_revision",
        lambda s: s.ListCases(pb.ListCasesRequest(at_least_revision=RevisionTokens("o" * 32).token(1))),
    ),
    "short revision": (
        "at_least_revision",
        lambda s: s.ListCases(pb.ListCasesRequest(at_least_revision="AAAA")),
    ),
    "no cases": ("case_ids", lambda s: s.CheckMany(pb.CheckManyRequest())),
    "1001 cases": ("case_ids", lambda s: s.CheckMany(pb.CheckManyRequest(case_ids=[str(uuid4())] * 1001))),
    "permission": ("permission", lambda s: s.CheckPermission(pb.CheckPermissionRequest(permission="root"))),
    "no permission": ("permission", lambda s: s.CheckPermission(pb.CheckPermissionRequest())),
    "given permission": (
        "permission",
        lambda s: s.SaveUser(
            pb.SaveUserRequest(
                user=pb.User(
                    login="x", name="x", role=1, permissions=[pb.PermissionGrant(permission="root")]
                ),
                set_permissions=True,
            )
        ),
    ),
    "role": ("role", lambda s: s.SaveUser(pb.SaveUserRequest(user=pb.User(login="x", name="x", role=99)))),  # type: ignore[arg-type]
    "no role": ("role", lambda s: s.SaveUser(pb.SaveUserRequest(user=pb.User(login="x", name="x")))),
    "no user": ("login", lambda s: s.SaveUser(pb.SaveUserRequest())),
    "level": ("level", lambda s: s.SavePrivilege(pb.SavePrivilegeRequest(privilege=pb.Privilege(level=9)))),  # type: ignore[arg-type]
    "read type": ("read_types", lambda s: _privilege(s, read_types=[0])),
    "pre-read": ("read_types", lambda s: _privilege(s, read_types=[pb.READ_TYPE_PRE_READ])),
    "read types of a viewer": ("read_types", lambda s: _privilege(s, level=pb.LEVEL_VIEW, read_types=[2])),
    "expiry of a draft": (
        "expires_on",
        lambda s: _privilege(s, level=pb.LEVEL_DRAFT, expires_on="2027-01-01"),
    ),
    "expiry of nothing": ("expires_on", lambda s: _privilege(s, level=0, expires_on="2027-01-01")),
    "no date": ("expires_on", lambda s: _privilege(s, expires_on="01.01.2027")),
    "no such day": ("expires_on", lambda s: _privilege(s, expires_on="2027-02-29")),
    "the first day": ("expires_on", lambda s: _privilege(s, expires_on="0001-01-01")),
    "a week": ("expires_on", lambda s: _privilege(s, expires_on="2027-W01-1")),
}


def _privilege(stub: access_pb2_grpc.AccessServiceStub, **changes: Any) -> Any:
    values = {"user_id": str(uuid4()), "facility_id": str(uuid4()), "level": pb.LEVEL_REPORT} | changes
    return stub.SavePrivilege(pb.SavePrivilegeRequest(privilege=pb.Privilege(**values)))


@pytest.mark.proves("ACC-11")
async def test_bad_input_gets_a_clear_error_that_names_the_field(service: Service) -> None:
    for what, (field_name, ask) in BAD.items():
        with pytest.raises(ReadroomError) as refusal:
            await ask(service.stub)
        assert (Invalid, field_name) == (type(refusal.value), refusal.value.field), what


async def test_a_second_user_with_the_login_is_a_conflict(service: Service) -> None:
    await service.user()

    with pytest.raises(Conflict) as refusal:
        await service.user(login="JANE")
    assert "login" == refusal.value.field


async def test_a_short_revision_key_is_refused_at_the_start() -> None:
    with pytest.raises(Invalid, match="revision_key"):
        RevisionTokens("short")
