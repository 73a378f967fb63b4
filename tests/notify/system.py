"""Notify as it runs: gRPC over mutual TLS, facts over NATS, SMTP, HTTP; its owners answer over the wire."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import msgspec
from aiohttp import web

from kernel.clock import MonotonicClock
from kernel.errors import NotFound
from kernel.events import Fact
from kernel.ids import UUID7
from local.embedded import EmbeddedServers
from local.pki import Pki
from plumbing import rpc
from plumbing.bus import Bus
from plumbing.db import Database, Transaction
from plumbing.minting import mint
from plumbing.tokenkeys import KeyFile
from plumbing.tokens import Verifier
from services.notify import main
from tests.hosting import answers, hosted
from tests.notify.mailserver import MailServer, mail_server
from tests.wait import eventually
from wire.access.v1 import access_pb2, access_pb2_grpc
from wire.notify.v1 import notify_pb2_grpc
from wire.sharing.v1 import sharing_pb2, sharing_pb2_grpc

if TYPE_CHECKING:
    from wire.notify.v1.notify_pb2_grpc import NotifyServiceAsyncStub

CLOCK = MonotonicClock()


class Access(access_pb2_grpc.AccessServiceServicer):
    """Access as far as notify asks it."""

    def __init__(self) -> None:
        self.users: dict[str, access_pb2.User] = {}
        self.privileges: list[access_pb2.Privilege] = []
        self.cases: dict[str, access_pb2.CaseSummary] = {}
        self.permissions: dict[tuple[str, str], list[str]] = {}
        """By login and permission the facilities where it is held; an empty list: everywhere."""

    async def DescribeUsers(  # noqa: N802
        self, request: access_pb2.DescribeUsersRequest, context: Any
    ) -> access_pb2.DescribeUsersResponse:
        users = [self.users[each] for each in request.user_ids if each in self.users]
        privileges = [each for each in self.privileges if each.user_id in request.user_ids]
        return access_pb2.DescribeUsersResponse(users=users, privileges=privileges)

    async def DescribeCases(  # noqa: N802
        self, request: access_pb2.DescribeCasesRequest, context: Any
    ) -> access_pb2.DescribeCasesResponse:
        cases = [self.cases[each] for each in request.case_ids if each in self.cases]
        return access_pb2.DescribeCasesResponse(cases=cases)

    async def ListVersions(  # noqa: N802
        self, request: access_pb2.ListVersionsRequest, context: Any
    ) -> access_pb2.ListVersionsResponse:
        versions = [
            access_pb2.ListVersionsResponse.Version(user_id=key, version=self.users[key].version)
            for key in sorted(self.users)
            if key > request.after_user_id
        ]
        return access_pb2.ListVersionsResponse(versions=versions[:500])

    async def CheckPermission(  # noqa: N802
        self, request: access_pb2.CheckPermissionRequest, context: Any
    ) -> access_pb2.CheckPermissionResponse:
        login = rpc.caller().login or ""
        held = self.permissions.get((login, request.permission))
        return access_pb2.CheckPermissionResponse(allowed=held == [], facility_ids=held or [])


class Sharing(sharing_pb2_grpc.SharingServiceServicer):
    """Sharing as far as notify asks it."""

    def __init__(self) -> None:
        self.buckets: dict[str, sharing_pb2.DescribeBucketResponse] = {}

    async def DescribeBucket(  # noqa: N802
        self, request: sharing_pb2.DescribeBucketRequest, context: Any
    ) -> sharing_pb2.DescribeBucketResponse:
        if request.bucket_id not in self.buckets:
            raise NotFound("no such bucket")
        return self.buckets[request.bucket_id]


@dataclass
class TextGateway:
    """An HTTP server that takes text messages.

    Attributes:
        status: what it answers; None drops the connection.
    """

    taken: list[dict[str, str]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    status: int | None = 202
    delay_s: float = 0.0
    asked: int = 0
    url: str = ""

    async def take(self, request: web.Request) -> web.Response:
        self.asked += 1
        await asyncio.sleep(self.delay_s)
        if self.status is None:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if 200 <= self.status < 300:
            self.taken.append(await request.json())
            self.tokens.append(request.headers["Authorization"])
        location = {"Location": self.url} if 300 <= self.status < 400 else {}
        return web.Response(status=self.status, headers=location)


@asynccontextmanager
async def text_gateway() -> AsyncIterator[TextGateway]:
    gateway = TextGateway()
    app = web.Application()
    app.add_routes([web.post("/texts", gateway.take)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    gateway.url = f"http://{host}:{port}/texts"
    try:
        yield gateway
    finally:
        await runner.cleanup()


@dataclass
class System:
    """A notify that runs, and what surrounds it."""

    pki: Pki
    port: int
    bus: Bus
    access: Access
    sharing: Sharing
    mails: MailServer
    texts: TextGateway
    database: Database[Transaction]
    resources: AsyncExitStack

    def called_by(self, peer: str, token: Any = None) -> "NotifyServiceAsyncStub":
        address = f"127.0.0.1:{self.port}"
        channel = rpc.connect(address, "notify", self.pki.tls(peer), deadline_s=10, token=token)
        self.resources.push_async_callback(channel.close)
        return notify_pb2_grpc.NotifyServiceStub(channel)

    def acting(self, login: str) -> "NotifyServiceAsyncStub":
        """The service as the bff calls it for this user."""
        return self.called_by("bff", partial(self._token, login))

    def _token(self, login: str) -> str:
        key = self.pki.token_key.read_bytes()
        return mint(key, login=login, session="s", audience="notify", now=CLOCK.now())

    async def say(self, *facts: Fact) -> None:
        for fact in facts:
            await self.bus.publish(fact.subject, msgspec.json.encode(fact), uuid4(), {})

    def user(self, name: str, **changes: Any) -> access_pb2.User:
        values: dict[str, Any] = {
            "user_id": str(uuid4()),
            "login": name.lower(),
            "name": name,
            "active": True,
            "version": 1,
            "email": f"{name.lower()}@clinic.example",
        }
        made = access_pb2.User(**values | changes)
        self.access.users[made.user_id] = made
        return made

    def case(self, **changes: Any) -> str:
        values: dict[str, Any] = {
            "case_id": str(uuid4()),
            "patient_initials": "J.D.",
            "study_description": "CT thorax",
            "study_date": "20261030",
        }
        made = access_pb2.CaseSummary(**values | changes)
        self.access.cases[made.case_id] = made
        return made.case_id

    def bucket(self, **changes: Any) -> UUID:
        values: dict[str, Any] = {
            "bucket_id": str(uuid4()),
            "version": 1,
            "case_ids": [self.case()],
            "mail_due": True,
            "link": "L" * 43,
            "facility_id": str(uuid4()),
        }
        for role in ("sender", "recipient"):
            values[f"{role}_user_id"] = self.user(role.title()).user_id
        made = sharing_pb2.DescribeBucketResponse(**values | changes)
        self.sharing.buckets[made.bucket_id] = made
        return UUID(made.bucket_id)


@asynccontextmanager
async def running(servers: EmbeddedServers, url: str, pki: Pki, **settings: str) -> AsyncIterator[System]:
    """Notify as its process builds it, on a database of its own, and what surrounds it."""
    async with AsyncExitStack() as resources:
        # The contracts have more methods than notify asks.
        access, sharing = Access(), Sharing()  # type: ignore[abstract]
        addresses = {}
        for name, register, servicer in (
            ("access", access_pb2_grpc.add_AccessServiceServicer_to_server, access),
            ("sharing", sharing_pb2_grpc.add_SharingServiceServicer_to_server, sharing),
        ):
            verifier = Verifier(KeyFile(pki.token_keys), CLOCK)
            owner = rpc.Server(name, "127.0.0.1:0", pki.tls(name), verifier)
            owner.add(register, servicer, f"wire.{name}.v1.{name.capitalize()}Service")
            addresses[name] = f"127.0.0.1:{await owner.start()}"
            resources.push_async_callback(owner.stop, 0.1)
        mails = await resources.enter_async_context(mail_server())
        texts = await resources.enter_async_context(text_gateway())
        own = {
            "ACCESS_ADDRESS": addresses["access"],
            "SHARING_ADDRESS": addresses["sharing"],
            "SMTP_ADDRESS": f"127.0.0.1:{mails.port}",
            "SMTP_TLS": "none",
            "SMTP_TIMEOUT_S": "2",
            "MAIL_FROM": "readroom@group.example",
            "LINK_BASE": "https://readroom.example/shared/",
            "TEXT_URL": texts.url,
            "TEXT_TOKEN": "sesame",
            "TEXT_TIMEOUT_S": "0.5",
            "REMINDERS_TO": "office@group.example",
        } | settings
        port = await hosted("notify", main, servers, pki, url, CLOCK, own, resources)
        bus = await Bus.connect(servers.nats_url, "owners")
        resources.push_async_callback(bus.close)
        await eventually(lambda: answers(bus))
        database = await Database.connect(url, Transaction, clock=CLOCK, new_id=UUID7(CLOCK), pool_size=1)
        resources.push_async_callback(database.close)
        yield System(pki, port, bus, access, sharing, mails, texts, database, resources)
