"""Routing as it runs, with access and ingest as servers that answer what a test told them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any
from uuid import UUID, uuid4

import grpc
import msgspec
from google.protobuf.timestamp_pb2 import Timestamp

from kernel.clock import MonotonicClock
from kernel.errors import NotFound
from kernel.events import Fact, StudyChanged, StudyReceived
from kernel.ids import UUID7, CaseId, FacilityId, StudyId
from kernel.patient import KEYWORDS
from kernel.reach import Reach
from local.pki import Pki
from plumbing import rpc
from plumbing.bus import Bus
from plumbing.db import Database, Transaction
from plumbing.minting import mint
from services.routing import main
from services.routing.domain import Study
from tests.routing.builders import EVERYWHERE, Archive, of_series
from tests.wait import eventually
from wire.access.v1 import access_pb2, access_pb2_grpc
from wire.facts.v1 import facts_pb2, facts_pb2_grpc
from wire.ingest.v1 import ingest_pb2, ingest_pb2_grpc
from wire.routing.v1 import routing_pb2 as pb
from wire.routing.v1 import routing_pb2_grpc

CLOCK = MonotonicClock()
NOWHERE = Reach()


class Access(access_pb2_grpc.AccessServiceServicer):
    """Answers where each login holds which permission, and what they see."""

    def __init__(self) -> None:
        self.reaches: dict[str, Reach] = {"ada": EVERYWHERE}
        self.held: dict[tuple[str, str], Reach] = {}
        self.seen: dict[tuple[str, str], access_pb2.Decision] = {}

    async def Check(  # noqa: N802
        self, request: access_pb2.CheckRequest, context: Any
    ) -> access_pb2.CheckResponse:
        decision = self.seen.get((rpc.caller().login or "", request.case_id))
        return access_pb2.CheckResponse(decision=decision)

    async def CheckPermission(  # noqa: N802
        self, request: access_pb2.CheckPermissionRequest, context: Any
    ) -> access_pb2.CheckPermissionResponse:
        login = rpc.caller().login or ""
        held = {(login, "facility.admin"): self.reaches.get(login, NOWHERE)} | self.held
        reach = held.get((login, request.permission), NOWHERE)
        return access_pb2.CheckPermissionResponse(
            allowed=reach.everywhere, facility_ids=map(str, reach.facilities)
        )

    async def BeginMove(  # noqa: N802
        self, request: access_pb2.BeginMoveRequest, context: Any
    ) -> access_pb2.BeginMoveResponse:
        return access_pb2.BeginMoveResponse()


class Ingest(ingest_pb2_grpc.IngestServiceServicer, facts_pb2_grpc.FactsServiceServicer):
    """Answers the newest snapshot of each study that was put into its archive."""

    def __init__(self) -> None:
        self.archive = Archive(page=500)
        self.page = 2
        self.knows_no_parts = False

    async def DescribeStudy(  # noqa: N802
        self, request: ingest_pb2.DescribeStudyRequest, context: Any
    ) -> ingest_pb2.DescribeStudyResponse:
        tag = request.mapping_tag or None
        study = await self.archive.describe_study(StudyId(UUID(request.study_id)), tag)
        if study is None:
            raise NotFound("no such study")
        if self.knows_no_parts:
            stored = self.archive.studies[study.id]
            return ingest_pb2.DescribeStudyResponse(study=_study_of_series(stored))
        assert request.by_parts
        return ingest_pb2.DescribeStudyResponse(study=_study(study, request.after_part, self.page))

    async def DescribeDeletion(  # noqa: N802
        self, request: ingest_pb2.DescribeDeletionRequest, context: Any
    ) -> ingest_pb2.DescribeDeletionResponse:
        begun_at = await self.archive.describe_deletion(CaseId(UUID(request.case_id)))
        if begun_at is None:
            raise NotFound("there is no such deletion")
        answer = ingest_pb2.DescribeDeletionResponse()
        answer.begun_at.FromDatetime(begun_at)
        return answer

    async def ListFacts(  # noqa: N802
        self, request: facts_pb2.ListFactsRequest, context: Any
    ) -> facts_pb2.ListFactsResponse:
        told = await self.archive.studies_said(None, "")
        answer = facts_pb2.ListFactsResponse(complete=request.HasField("since"))
        answer.as_of.FromDatetime(told.as_of)
        for study_id, version in told.versions:
            answer.facts.add(id=str(study_id), version=version)
        return answer

    async def ListVersions(  # noqa: N802
        self, request: ingest_pb2.ListVersionsRequest, context: Any
    ) -> ingest_pb2.ListVersionsResponse:
        after = StudyId(UUID(request.after_study_id)) if request.after_study_id else None
        versions = [
            ingest_pb2.ListVersionsResponse.Version(study_id=str(study_id), version=version)
            for study_id, version in await self.archive.list_versions(after)
        ]
        return ingest_pb2.ListVersionsResponse(versions=versions)


def _head(study: Study) -> ingest_pb2.Study:
    received_at = Timestamp()
    received_at.FromDatetime(study.received_at)
    return ingest_pb2.Study(
        received_at=received_at,
        study_id=str(study.id),
        version=study.version,
        study_instance_uid=study.study_instance_uid,
        receiving_facility_id=str(study.receiving_facility_id),
        settled=study.settled,
    )


def _study(study: Study, after: int, size: int) -> ingest_pb2.Study:
    """One page of its parts."""
    answer = _head(study)
    for number, identity in study.identities.items():
        answer.identities.add(number=number, **asdict(identity))
    following = [part for part in study.parts if part.number > after]
    for part in following[:size]:
        answer.parts.add(
            number=part.number,
            identity=part.identity,
            mapping_values=part.mapping_values,
            series=part.series,
            instance_count=part.instance_count,
        )
    answer.more_parts = len(following) > size
    if not after:
        answer.series_instance_uids.extend(study.series_instance_uids)
    return answer


def _study_of_series(study: Study) -> ingest_pb2.Study:
    """As an ingest of the version before answers, which knows no parts."""
    answer = _head(study)
    identity = asdict(study.identities[1])
    answer.attributes.update({KEYWORDS[name]: value for name, value in identity.items() if value})
    for part in of_series(study).parts:
        series = answer.series.add(
            series_instance_uid=study.series_instance_uids[part.number - 1],
            instance_count=part.instance_count,
        )
        for value in part.mapping_values:
            series.mapping_values.add(keyword=study.mapping_tag or "", value=value, ordinal=part.number)
    return answer


@dataclass
class System:
    """Routing as it runs, and the parts around it."""

    pki: Pki
    bus: Bus
    access: Access
    ingest: Ingest
    database_url: str
    settings: main.Settings
    address: str = ""
    channels: list[grpc.aio.Channel] = field(default_factory=list)

    def token(self, login: str, audience: str = "routing") -> str:
        key = self.pki.token_key.read_bytes()
        return mint(key, login=login, session="s1", audience=audience, now=CLOCK.now())

    def stub(self, peer: str = "bff", token: Callable[[], str | None] | None = None) -> Any:
        channel = rpc.connect(self.address, "routing", self.pki.tls(peer), token=token or (lambda: None))
        self.channels.append(channel)
        return routing_pb2_grpc.RoutingServiceStub(channel)

    def as_user(self, login: str = "ada") -> Any:
        return self.stub(token=lambda: self.token(login))

    async def tell(self, *facts: Fact, event_id: UUID | None = None) -> None:
        for fact in facts:
            await self.bus.publish(fact.subject, msgspec.json.encode(fact), event_id or uuid4(), {})

    async def receive(self, study: Study, *, tell: bool = True) -> Study:
        """The study is in ingest, which says so."""
        self.ingest.archive.add(study)
        if tell:
            await self.tell((StudyReceived if study.version == 1 else StudyChanged)(study.id, study.version))
        return study

    async def case_of(self, study: Study, version: int = 1) -> pb.Placement:
        """The placement of the study, as soon as it has this version."""

        async def placed() -> pb.Placement:
            versions = await self.stub("access").ListVersions(
                pb.ListVersionsRequest(kind=pb.ListVersionsRequest.KIND_PLACEMENT)
            )
            for each in versions.versions:
                try:
                    placement = await self.described(each.id)
                except NotFound:  # purged meanwhile
                    continue
                if (
                    any(one.study_id == str(study.id) for one in placement.studies)
                    and placement.version >= version
                ):
                    return placement
            raise AssertionError("the study has no case yet")

        return await eventually(placed)

    async def described(self, case_id: str) -> pb.Placement:
        answer = await self.stub("access").DescribePlacement(pb.DescribePlacementRequest(case_id=case_id))
        placement: pb.Placement = answer.placement
        return placement

    async def facility(self, name: str, model: int = 0, mapping_tag: str = "") -> str:
        facility = pb.Facility(name=name, model=model, mapping_tag=mapping_tag)  # type: ignore[arg-type]
        answer = await self.as_user().SaveFacility(pb.SaveFacilityRequest(facility=facility))
        return str(answer.facility.facility_id)

    async def rule(self, hub: str, text: str, endpoint: str) -> pb.EndpointRule:
        rule = pb.EndpointRule(hub_facility_id=hub, endpoint_facility_id=endpoint, text=text)
        saved: pb.EndpointRule = (await self.as_user().SaveRule(pb.SaveRuleRequest(rule=rule))).rule
        return saved

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Routing runs."""
        async with AsyncExitStack() as resources:
            application = await main.build(self.settings, CLOCK, UUID7(CLOCK), resources)
            (server,) = application.servers
            self.address = f"127.0.0.1:{await server.start()}"
            tasks = [asyncio.create_task(start()) for start in application.tasks.values()]
            try:
                yield
            finally:
                await ended(tasks)
                await asyncio.gather(*(channel.close() for channel in self.channels))
                self.channels.clear()
                await server.stop(0)


async def ended(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancels until it is heard: before Python 3.12 `wait_for` may swallow it."""
    while tasks:
        for task in tasks:
            task.cancel()
        _, tasks = await asyncio.wait(tasks, timeout=0.5)


async def a_hub(routing: System) -> tuple[str, str]:
    """A hub whose institution name MS44 goes to an endpoint: their ids."""
    hub = await routing.facility("North Hub", pb.TRANSMISSION_MODEL_HUB, "InstitutionName")
    lakeside = await routing.facility("Lakeside", pb.TRANSMISSION_MODEL_ENDPOINT)
    await routing.rule(hub, "MS44", lakeside)
    return hub, lakeside


def at(facility_id: str) -> FacilityId:
    return FacilityId(UUID(facility_id))


async def facts_said(routing: System) -> list[tuple[str, str, int]]:
    database = await Database.connect(routing.database_url, Transaction, clock=CLOCK, new_id=uuid4)
    try:
        async with database.statements() as transaction:
            rows = await transaction.connection.fetch(
                "select subject, payload from outbox where published_at is not null order by id"
            )
    finally:
        await database.close()
    payloads = [(row["subject"], msgspec.json.decode(row["payload"])) for row in rows]
    return [(subject, payload["id"], payload["version"]) for subject, payload in payloads]
