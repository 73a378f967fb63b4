"""What somebody of a facility obtains from reporting does not depend on a pre-read (BEY-11).

Two worlds, each a reporting that runs, ask the same access about the same case and people. In one the case is
pre-read, drafted and added to; in the other whoever would have pre-read it only locked and unlocked it. After
each step everybody who is not of the group asks everything that can be asked, and the answers are compared
byte for byte, ids and times replaced by the order in which they appear.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from kernel.errors import NotFound, ReadroomError
from kernel.events import StudyChanged
from local.embedded import EmbeddedServers
from local.pki import Pki
from tests.access.service import Service, serve
from tests.reporting.system import ALL, System, a_case, a_user, running
from tests.wait import eventually
from wire.access.v1 import access_pb2
from wire.reporting.v1 import reporting_pb2 as pb

ROLE = access_pb2.Role
PRELIMINARY, FINAL, OTHER, PRE_READ = ALL
OUTSIDERS = ("okafor", "tech", "boss", "olaf")

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC")


@dataclass
class Canon:
    """Replaces each id and each time by the order in which it appeared."""

    seen: dict[str, str] = field(default_factory=dict)

    def text(self, text: str) -> str:
        for pattern, kind in ((_ID, "id"), (_INSTANT, "time")):
            text = pattern.sub(lambda found, kind=kind: self._name(kind, found[0]), text)  # type: ignore[misc]
        return text

    def message(self, message: Message) -> bytes:
        self._rewrite(message)
        return message.SerializeToString(deterministic=True)

    def _rewrite(self, message: Message) -> None:
        for descriptor, value in message.ListFields():
            if isinstance(value, Timestamp):
                value.FromSeconds(int(self._name("time", value.ToJsonString()).split()[1]))
            elif descriptor.type == descriptor.TYPE_MESSAGE:
                for each in value if descriptor.is_repeated else [value]:
                    self._rewrite(each)
            elif descriptor.type == descriptor.TYPE_STRING and not descriptor.is_repeated:
                setattr(message, descriptor.name, self.text(value))

    def _name(self, kind: str, value: str) -> str:
        return self.seen.setdefault(f"{kind} {value}", f"{kind} {len(self.seen) + 1}")


@dataclass
class World:
    """One of the two, and what has been written in it, by a name that both know."""

    system: System
    case_id: str
    facility_id: str
    canon: Canon = field(default_factory=Canon)
    reports: dict[str, str] = field(default_factory=dict)

    async def lock(self, login: str) -> None:
        await self.system.acting(login).Lock(pb.LockRequest(case_id=self.case_id))

    async def unlock(self, login: str) -> None:
        await self.system.acting(login).Unlock(pb.UnlockRequest(case_id=self.case_id))

    async def draft(self, login: str, text: str) -> None:
        await self.system.acting(login).SaveDraft(pb.SaveDraftRequest(case_id=self.case_id, text=text))

    async def complete(self, login: str, read_type: Any, name: str) -> None:
        request = pb.CompleteRequest(case_id=self.case_id, read_type=read_type, text=f"text of {name}")
        self.reports[name] = (await self.system.acting(login).Complete(request)).report.report_id

    async def add(self, login: str, name: str) -> None:
        request = pb.AddAddendumRequest(case_id=self.case_id, report_id=self.reports[name], text="more")
        await self.system.acting(login).AddAddendum(request)

    async def reopen(self, login: str) -> None:
        await self.system.acting(login).Reopen(pb.ReopenRequest(case_id=self.case_id))

    async def asked(self, login: str, *, breaks: bool = False) -> list[tuple[str, object]]:
        """Everything that a user can ask, and what they obtain."""
        stub = self.system.acting(login)
        return [
            (method.name, await self._answer(getattr(stub, method.name)(request)))
            for method in pb.DESCRIPTOR.services_by_name["ReportingService"].methods
            for request in self.requests(method.name)
            if breaks or method.name != "BreakLock"
        ]

    async def described(self) -> bytes:
        """What access is told for the facility side."""
        request = pb.DescribeReadingRequest(case_id=self.case_id)
        try:
            return self.canon.message((await self.system.for_access().DescribeReading(request)).facility)
        except NotFound:
            return b""

    async def _answer(self, call: Awaitable[Message]) -> object:
        try:
            return self.canon.message(await call)
        except ReadroomError as error:
            return type(error).__name__, self.canon.text(error.sentence), error.field

    def requests(self, method: str) -> list[Any]:
        """Every request of a method that could make a difference; a method without any fails the test."""
        case_id, facility_id = self.case_id, self.facility_id
        # What one world has and the other has not is an id that nobody knows there.
        reports = [self.reports.get(name, str(uuid4())) for name in ("pre-read", "second pre-read", "final")]
        requests: dict[str, list[Any]] = {
            "Lock": [pb.LockRequest(case_id=case_id)],
            "RenewLock": [pb.RenewLockRequest(case_id=case_id)],
            "Unlock": [pb.UnlockRequest(case_id=case_id)],
            "BreakLock": [pb.BreakLockRequest(case_id=case_id)],
            "SaveDraft": [pb.SaveDraftRequest(case_id=case_id, text="x")],
            "Complete": [
                pb.CompleteRequest(case_id=case_id, read_type=read_type, text="x") for read_type in ALL
            ],
            "AddAddendum": [
                pb.AddAddendumRequest(case_id=case_id, report_id=each, text="x") for each in reports
            ],
            "Reopen": [pb.ReopenRequest(case_id=case_id)],
            "ListReports": [pb.ListReportsRequest(case_id=case_id)],
            "ActivateReadType": [
                pb.ActivateReadTypeRequest(facility_id=place, read_type=read_type, active=active)
                for place in ("", facility_id)
                for read_type in (OTHER, PRE_READ)
                for active in (False, True)
                if place or read_type is not PRE_READ  # that switch is the operator's, in both worlds alike
            ],
            "ListReadTypes": [pb.ListReadTypesRequest(facility_id=facility_id)],
            "DescribeReading": [pb.DescribeReadingRequest(case_id=case_id)],
            "ListVersions": [pb.ListVersionsRequest()],
        }
        return requests[method]


@pytest.fixture
async def worlds(
    servers: EmbeddedServers, fresh_database: Callable[[str], str], pki: Pki
) -> AsyncIterator[list[World]]:
    # Before anything runs: PostgreSQL makes no database while a client of this very loop is connecting.
    urls = [fresh_database("reporting") for _ in range(2)]
    async for access in serve(servers, fresh_database("access"), pki):
        async with AsyncExitStack() as resources:
            systems = [await resources.enter_async_context(running(servers, url, access)) for url in urls]
            north = await access.facility("North")
            await _people(access, north)
            case_id = await a_case(access, north)
            made = [World(system, case_id, north) for system in systems]
            for world in made:
                await _activate(world)
            yield made


async def _people(access: Service, north: str) -> None:
    view, report = access_pb2.LEVEL_VIEW, access_pb2.LEVEL_REPORT
    for login in ("vos", "lind"):
        await a_user(access, login, ROLE.ROLE_RADIOLOGIST, north, report, read_types=ALL)
    await a_user(access, "probe", ROLE.ROLE_RADIOLOGY_SUPPORT, north, view)
    await a_user(access, "iris", ROLE.ROLE_ADMINISTRATOR, north, view, "facility.admin", "lock.break")
    await a_user(access, "okafor", ROLE.ROLE_REFERRING_PHYSICIAN, north, view)
    await a_user(access, "tech", ROLE.ROLE_FACILITY_USER, north, view)
    everything = ("report.view", "lock.break", "facility.admin", "access.admin")
    await a_user(access, "boss", ROLE.ROLE_FACILITY_MANAGER, north, view, *everything)
    await a_user(access, "olaf", ROLE.ROLE_OPERATOR, north, access_pb2.LEVEL_UNSPECIFIED)


async def _activate(world: World) -> None:
    await world.system.acting("olaf").ActivateReadType(
        pb.ActivateReadTypeRequest(read_type=PRE_READ, active=True)
    )
    for read_type in ALL:
        await world.system.acting("iris").ActivateReadType(
            pb.ActivateReadTypeRequest(facility_id=world.facility_id, read_type=read_type, active=True)
        )


@pytest.mark.proves("BEY-11", part="reporting")
@pytest.mark.proves("A31", part="reporting")
@pytest.mark.proves("A59", part="reporting")
@pytest.mark.proves("REP-4")
@pytest.mark.proves("REP-9")
@pytest.mark.proves("REP-13")
async def test_two_worlds_that_differ_only_by_a_pre_read(worlds: list[World]) -> None:
    having, without = worlds

    async def both(act: Callable[[World], Awaitable[None]]) -> None:
        for world in worlds:
            await act(world)

    async def compare(step: str, *, breaks: bool = False) -> None:
        for login in OUTSIDERS:
            answers = await asyncio.gather(*(world.asked(login, breaks=breaks) for world in worlds))
            for (method, one), (_, other) in zip(*answers, strict=True):
                assert one == other, f"{step}: {login}: {method}"
        one, other = [await world.described() for world in worlds]
        assert one == other, f"{step}: what the lists of the facility side are made of"

    await compare("nothing was written", breaks=True)
    await both(lambda world: world.lock("vos"))
    await compare("the pre-reader has locked")
    await having.draft("vos", "nodule?")
    await compare("they draft")
    await having.complete("vos", PRE_READ, "pre-read")
    await without.unlock("vos")
    await compare("they complete", breaks=True)
    await images_come(having.system.access, 3)
    await having.add("lind", "pre-read")
    await compare("their colleague adds to it", breaks=True)
    await both(lambda world: world.lock("lind"))
    await images_come(having.system.access, 5)
    await having.complete("lind", PRE_READ, "second pre-read")
    await without.unlock("lind")
    await both(lambda world: world.lock("lind"))
    await both(lambda world: world.complete("lind", FINAL, "final"))
    await compare("the case is read", breaks=True)
    assert having.reports["final"] != without.reports["final"]
    await both(lambda world: world.reopen("lind"))
    await images_come(having.system.access, 8)
    await both(lambda world: world.lock("vos"))
    await having.complete("vos", PRE_READ, "third pre-read")
    await without.unlock("vos")
    await compare("and pre-read again", breaks=True)
    await both(lambda world: world.lock("vos"))
    await compare("and its lock is broken", breaks=True)
    await both(lambda world: world.lock("lind"))
    await both(lambda world: world.add("lind", "final"))
    await compare("and added to")


async def images_come(access: Service, instance_count: int) -> None:
    """Waits until access, which both worlds ask, knows so many of the case."""
    (study_id,) = access.ingest.studies
    access.a_study(("1.1", "CT", instance_count), study_id=study_id, version=instance_count, settled=True)
    await access.say(StudyChanged(UUID(study_id), instance_count))
    (case_id,) = access.routing.placements

    async def known() -> bool:
        answer = await access.acting("probe").Check(access_pb2.CheckRequest(case_id=case_id))
        return answer.decision.instance_count == instance_count

    await eventually(known)


async def test_the_worlds_do_differ_for_the_group(worlds: list[World]) -> None:
    having, without = worlds
    for world in worlds:
        await world.lock("vos")
    await having.complete("vos", PRE_READ, "pre-read")
    await without.unlock("vos")

    one, other = [dict(await world.asked("lind"))["ListReports"] for world in worlds]
    assert b"text of pre-read" in one  # type: ignore[operator]
    assert one != other


def test_ids_and_times_are_known_by_their_order_only() -> None:
    def a_report(seconds: int) -> pb.ListReportsResponse:
        report = pb.Report(report_id=str(uuid4()), text="same")
        report.completed_at.FromSeconds(seconds)
        return pb.ListReportsResponse(reports=[report])

    assert Canon().message(a_report(1)) == Canon().message(a_report(2))
    assert Canon().text(f"{UUID(int=1)} until 2026-11-01 12:00:00 UTC") == "id 1 until time 2"
