"""Each component is told to stop while it serves: what it has accepted comes to its end.

Beside it the control: killed without a word, each of them fails the same. Live lists are opened there only
where the web is killed, because they outlive the others.
"""

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiohttp import ClientError
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from demo.cast import ADMIN, CENTRAL, HULL, OKAFOR, VOS
from demo.gateways import RunningGateway
from demo.modality import Called, PynetdicomModality, Refused
from demo.world import World
from kernel.errors import ReadroomError
from plumbing.components import PROCESSES, WEB
from readroom import names
from readroom.client import Readroom
from tests.e2e.kills import alone, once_all_are_back
from tests.e2e.test_journey import small
from tests.e2e.test_readiness import status
from tests.e2e.test_web import signed_in
from tests.wait import eventually
from tests.web.browser import Browser
from tests.web.test_live import Stream, followed
from wire.access.v1.access_pb2 import SaveUserRequest
from wire.audit.v1.audit_pb2 import VerifyAuditRequest
from wire.letters.v1.letters_pb2 import ListDeadLettersRequest

CALLS, ASSOCIATIONS, STREAMS = 200, 4, 20
DRAIN_S = 4.0
ENDS_WITHIN_S = DRAIN_S + 5.0

LOCKED = {WEB.name: "audit_rows"}
"""What the calls read, of the database of each component; of the others their dead letters."""


@dataclass
class Told:
    """How what was under way ended, by component: what failed, of how many."""

    calls: dict[str, list[str]] = field(default_factory=dict)
    associations: dict[str, list[str]] = field(default_factory=dict)
    streams: dict[str, list[str]] = field(default_factory=dict)

    @property
    def failed(self) -> dict[str, list[str]]:
        every = (self.calls, self.associations, self.streams)
        return {name: [why for each in every for why in each[name]] for name in self.calls}


@pytest.mark.drill
@pytest.mark.proves("OPS-4", part="each component is told to stop under calls, associations and live lists")
async def test_what_was_accepted_comes_to_its_end_when_a_component_is_told_to_stop(tmp_path: Path) -> None:
    settings = {f"READROOM_{name.upper()}_DRAIN_S": str(DRAIN_S) for name in PROCESSES}
    stopped, killed = Told(), Told()
    async with alone(tmp_path, settings) as world, AsyncExitStack() as resources:
        await let_admin_ask(world)
        pages = [
            await resources.enter_async_context(signed_in(world, person.login))
            for person in (VOS, HULL, OKAFOR)
        ]
        for number, told in ((signal.SIGTERM, stopped), (signal.SIGKILL, killed)):
            for name in PROCESSES:
                followed_by = pages if told is stopped or name == WEB.name else []
                await under_way(world, name, number, followed_by, told, tmp_path)
                print(
                    f"{number.name} {name}: failed {len(told.calls[name])} of {CALLS} calls, "
                    f"{len(told.associations[name])} of {ASSOCIATIONS} associations, "
                    f"{len(told.streams[name])} of {STREAMS if followed_by else 0} live lists"
                )
    assert stopped.failed == {name: [] for name in PROCESSES}
    assert {name: len(failed) for name, failed in killed.calls.items()} == dict.fromkeys(PROCESSES, CALLS)
    assert len(killed.associations["ingest"]) == ASSOCIATIONS
    assert len(killed.streams[WEB.name]) == STREAMS


async def let_admin_ask(world: World) -> None:
    """For dead letters and audits, at every facility."""
    readroom = await world.acting_as(ADMIN)
    user = await names.user(readroom, ADMIN)
    for permission in ("operator", "audit.read"):
        user.permissions.add(permission=permission)
    await readroom.access.SaveUser(SaveUserRequest(user=user, set_permissions=True))


async def under_way(
    world: World, name: str, number: signal.Signals, pages: Sequence[Browser], told: Told, folder: Path
) -> None:
    """Gives it work, sends it the signal, and notes what fails. Then it is started again."""
    go_on = threading.Event()
    async with AsyncExitStack() as resources:
        resources.callback(go_on.set)
        readroom = await world.acting_as(ADMIN)
        lists = [pages[n % len(pages)] for n in range(STREAMS)] if pages else []
        streams = [await resources.enter_async_context(open_list(page)) for page in lists]
        sending = [
            Sending.of(world, folder / f"{number.name}-{name}-{n}", go_on) for n in range(ASSOCIATIONS)
        ]
        associations = [asyncio.create_task(asyncio.to_thread(each.send)) for each in sending]
        await eventually(lambda: all(each.stored for each in sending))
        async with locked(world, name):
            calls = await accepted(readroom, name)
            os.kill(world.system.service_pid(name), number)
            await eventually(partial(leaves, world, name))
        go_on.set()
        told.calls[name] = failures(await asyncio.gather(*calls, return_exceptions=True))
        told.associations[name] = failures(await asyncio.gather(*associations, return_exceptions=True))
        told.streams[name] = failures(
            await asyncio.gather(*map(goes_on_or_ends, streams), return_exceptions=True)
        )
    await eventually(lambda: world.system.has_ended(name), within=ENDS_WITHIN_S)
    await asyncio.to_thread(world.system.start_again, name)


async def accepted(readroom: Readroom, name: str) -> list["asyncio.Task[Any]"]:
    """Calls that the component has begun to serve: it takes them in order, and has answered a later one."""

    async def call() -> None:
        if name == WEB.name:
            async for _ in readroom.audit[name].VerifyAudit(VerifyAuditRequest()):
                pass
        else:
            await readroom.letters[name].ListDeadLetters(ListDeadLettersRequest(page_size=1))

    channel = readroom._channel(name)
    health = health_pb2_grpc.HealthStub(channel)
    await once_all_are_back(partial(health.Check, health_pb2.HealthCheckRequest()))
    calls = [asyncio.create_task(call()) for _ in range(CALLS)]
    await asyncio.sleep(0)
    await health.Check(health_pb2.HealthCheckRequest())
    assert not any(each.done() for each in calls), failures(
        [each.exception() for each in calls if each.done()]
    )
    return calls


@asynccontextmanager
async def locked(world: World, name: str) -> AsyncIterator[None]:
    """Nobody reads what the calls read, so that they are under way."""
    connection = await asyncpg.connect(world.system.servers.database_url(name))
    try:
        async with connection.transaction():
            await connection.execute(
                f"lock table {LOCKED.get(name, 'dead_letters')} in access exclusive mode"
            )
            yield
    finally:
        await connection.close()


async def leaves(world: World, name: str) -> bool:
    """Whether the component says that it leaves, or is gone."""
    try:
        return (await asyncio.to_thread(status, world.endpoints.http[name]))[0] == 503
    except OSError:
        return True


@asynccontextmanager
async def open_list(page: Browser) -> AsyncIterator[Stream]:
    await page.get("/")
    async with AsyncExitStack() as resources:

        async def opened() -> Stream:
            return await resources.enter_async_context(followed(page))

        stream = await eventually(opened)  # where access has just started, the web finds it in a second
        await stream.line()
        yield stream


async def goes_on_or_ends(stream: Stream) -> None:
    """It ends with a word, and its page asks anew; or it lives on after all that came before."""
    for _ in range(3):
        if "end" in await stream.line():
            assert not await stream.answer.content.read(), "something comes after the end"
            return


@dataclass
class Sending:
    """A gateway's association, which goes on once it may.

    Attributes:
        stored: how many instances ingest has acknowledged.
    """

    paths: list[Path]
    gateway: RunningGateway
    address: str
    go_on: threading.Event
    stored: int = 0

    @classmethod
    def of(cls, world: World, folder: Path, go_on: threading.Event) -> "Sending":
        paths = small(folder.name, "MS44").write(folder)
        return cls(paths, world.gateways[CENTRAL.name], world.endpoints.dicom, go_on)

    def send(self) -> None:
        host, _, port = self.address.rpartition(":")
        called = Called(host, int(port), "READROOM", self.gateway.identity)
        PynetdicomModality(CENTRAL.ae_title).send(self.paths, called, self._stored)

    def _stored(self) -> None:
        self.stored += 1
        self.go_on.wait(60)


def failures(ended: Sequence[object]) -> list[str]:
    """Why they failed, of those that did; what no peer says is a fault of this test."""
    expected = (ReadroomError, Refused, ClientError, OSError, AssertionError, RuntimeError)
    for each in ended:
        if isinstance(each, BaseException) and not isinstance(each, expected):
            raise each
    return [f"{type(each).__name__}: {each}" for each in ended if isinstance(each, BaseException)]
