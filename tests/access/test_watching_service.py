"""WatchCases over the wire: two copies of access on one database, of which one never hears of NATS."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kernel.errors import Exhausted, Unauthenticated
from kernel.events import CasePlaced
from local.embedded import EmbeddedServers
from local.pki import Pki
from plumbing import rpc
from services.access import main
from services.access.watching import MOST_OF_A_USER
from tests.access.service import CLOCK, Service, serve
from tests.hosting import hosted
from tests.wait import Stopwatch
from wire.access.v1 import access_pb2 as pb
from wire.access.v1 import access_pb2_grpc

if TYPE_CHECKING:
    from wire.access.v1.access_pb2_grpc import AccessServiceAsyncStub

SOON_S = 20
"""What must come has come by then, on a slow machine too."""


@dataclass
class WithoutBus:
    """Servers of which NATS is away."""

    data_dir: Path

    @property
    def nats(self) -> "WithoutBus":
        return self

    def url(self, _user: str) -> str:
        return "nats://nobody:nothing@127.0.0.1:1"


@dataclass
class Copies:
    """Access twice."""

    first: Service
    port: int
    facility_id: str = ""
    jane: pb.User | None = None

    def second(self, login: str = "jane") -> "AccessServiceAsyncStub":
        """The copy that hears no fact."""
        service = self.first
        channel = rpc.connect(
            f"127.0.0.1:{self.port}",
            "access",
            service.pki.tls("bff"),
            deadline_s=10,
            token=lambda: service.token(login=login),
        )
        service.resources.push_async_callback(channel.close)
        return access_pb2_grpc.AccessServiceStub(channel)

    async def a_case(self) -> str:
        service = self.first
        study_id = service.a_study(("1.2.3", "CT", 1))
        case_id = service.a_placement(self.facility_id, study_id)
        await service.say(CasePlaced(case_id, 1))
        return str(case_id)


@pytest.fixture
async def copies(
    servers: EmbeddedServers, fresh_database: Callable[[str], str], pki: Pki
) -> AsyncIterator[Copies]:
    url = fresh_database("access")
    async for service in serve(servers, url, pki):
        addresses = {f"{owner}_ADDRESS": "127.0.0.1:1" for owner in ("ROUTING", "INGEST", "REPORTING")}
        async with AsyncExitStack() as resources:
            away: Any = WithoutBus(servers.data_dir)
            settings = {**addresses, "REVISION_KEY": "k" * 32}
            port = await hosted("access", main, away, pki, url, CLOCK, settings, resources)
            copies = Copies(service, port)
            copies.facility_id = await service.facility()
            copies.jane = await service.user()
            yield copies


class Screen:
    """A stream, and the ids of the cases that it has told and not taken away."""

    def __init__(self, stub: "AccessServiceAsyncStub", **request: Any) -> None:
        self.stream: Any = stub.WatchCases(pb.WatchCasesRequest(**request), timeout=60)
        self.ids: set[str] = set()
        self.last = pb.WatchCasesResponse()

    async def take(self) -> pb.WatchCasesResponse:
        async with asyncio.timeout(SOON_S):
            self.last = await anext(aiter(self.stream))
        if self.last.resync:
            self.ids = set()
        self.ids = (self.ids - {*self.last.went}) | {row.case.case_id for row in self.last.rows}
        return self.last


@pytest.mark.proves("BEY-17", part="rows of worklists")
@pytest.mark.proves("A69", part="rows of live lists")
async def test_after_a_revoke_no_stale_row_anywhere_though_nats_is_away(copies: Copies) -> None:
    service, jane = copies.first, copies.jane
    assert jane is not None
    revision = await service.give(jane, copies.facility_id, pb.LEVEL_VIEW)
    screens = [Screen(stub, at_least_revision=revision) for stub in (service.acting("jane"), copies.second())]
    assert [True, True] == [(await screen.take()).resync for screen in screens]
    case_id = await copies.a_case()
    for screen in screens:
        await screen.take()
        assert {case_id} == screen.ids

    revision = await service.give(jane, copies.facility_id, pb.LEVEL_UNSPECIFIED)
    watch = Stopwatch()
    request = pb.ListCasesRequest(at_least_revision=revision)
    for screen, stub in zip(screens, (service.acting("jane"), copies.second()), strict=True):
        assert [] == [*(await stub.ListCases(request)).cases]
        assert [case_id] == [*(await screen.take()).went]
    assert watch.seconds() < SOON_S


async def test_a_cursor_goes_on_at_the_other_copy(copies: Copies) -> None:
    service, jane = copies.first, copies.jane
    assert jane is not None
    await service.give(jane, copies.facility_id, pb.LEVEL_VIEW)
    first = Screen(service.acting("jane"))
    await first.take()
    known = await copies.a_case()
    cursor = (await first.take()).cursor
    await first.stream.aclose()
    came = await copies.a_case()
    other = Screen(copies.second(), cursor=cursor)
    other.ids = {known}

    told = await other.take()

    assert (False, [came]) == (told.resync, [row.case.case_id for row in told.rows])
    assert {known, came} == other.ids


async def test_whoever_is_deactivated_is_cut_off(copies: Copies) -> None:
    service, jane = copies.first, copies.jane
    assert jane is not None
    screen = Screen(copies.second())
    await screen.take()

    await service.save_user(pb.User(user_id=jane.user_id, login="jane", name="jane", role=jane.role))

    with pytest.raises(Unauthenticated):
        await screen.take()


async def test_nobody_watches_more_than_their_share(copies: Copies) -> None:
    second = copies.second()
    screens = [Screen(second, rows=number) for number in range(1, MOST_OF_A_USER + 1)]
    for screen in screens:
        await screen.take()

    with pytest.raises(Exhausted, match="close one of them"):
        await Screen(second).take()
    await screens[0].stream.aclose()
    await Screen(copies.second("ada")).take()
