"""Sharing with the access that decides for it: real decisions over mutual TLS, and real PostgreSQL.

`World` is the neighbourhood: access as it runs, a facility and people. `Sharing` is its use cases on a clock
that a test moves, with calls to access that a test cuts off. `running` is sharing as its process builds it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import msgspec

from kernel.countries import DEFAULT, serves
from kernel.errors import ReadroomError, Unavailable
from kernel.ids import UUID7, BucketId, CaseId, FacilityId, ShareId
from local.embedded import EmbeddedServers
from plumbing import rpc
from plumbing.db import Database
from services.sharing import events, main
from services.sharing.asking import Telling
from services.sharing.clients import AccessClient
from services.sharing.domain import Act, Bucket, Rights, Share, State
from services.sharing.extending import Extending
from services.sharing.inbox import Inbox
from services.sharing.links import Links
from services.sharing.policies import Policies
from services.sharing.repairs import Repairs
from services.sharing.store import SharingTransaction
from services.sharing.usecases import Shares
from services.sharing.validity import Policy, Validity, today_at
from services.sharing.wanted import Recipient, Wanted
from tests.access.service import CLOCK, Service
from tests.hosting import hosted
from tests.reporting.system import a_case, a_user, give
from tests.wait import eventually
from wire.access.v1 import access_pb2
from wire.notify.v1 import notify_pb2, notify_pb2_grpc
from wire.sharing.v1 import sharing_pb2_grpc

if TYPE_CHECKING:
    from wire.sharing.v1.sharing_pb2_grpc import SharingServiceAsyncStub

AMSTERDAM = "Europe/Amsterdam"
DAY = timedelta(days=1)
FURTHER: dict[str, Any] = {"allow_further_sharing": True}
ABANDON_AFTER = timedelta(seconds=60)
LINK_SECRET = "l" * 32

ACTING: ContextVar[tuple[str, str]] = ContextVar("acting")
"""Login and session of who acts; over the wire their token tells."""


# The neighbourhood


@dataclass
class World:
    """A facility in Amsterdam with its people, and another one.

    vos may share; rita, rob and ron receive, each in their language; adam administers the shares of north,
    olaf operates. ivan is deactivated, norm has neither address nor number.
    """

    access: Service
    north: str
    south: str
    ids: dict[str, str] = field(default_factory=dict)

    async def case(self, facility_id: str | None = None) -> CaseId:
        return CaseId(UUID(await a_case(self.access, facility_id or self.north)))

    async def sees(self, login: str, case_id: CaseId, session: str = "s") -> bool:
        """Whether access shows the case to them now, in this login session."""
        token = partial(self.access.token, login=login, session=session)
        stub = self.access.called_by("bff", token)
        return (await stub.Check(access_pb2.CheckRequest(case_id=str(case_id)))).decision.allowed

    async def listed(self, login: str) -> set[str]:
        """Their worklist."""
        return {case.case_id for case in await self.access.listed(login)}


async def a_world(access: Service) -> World:
    world = World(access, await access.facility("North", "Europe/Amsterdam"), await access.facility("South"))
    role, view, none = access_pb2.Role, access_pb2.LEVEL_VIEW, access_pb2.LEVEL_UNSPECIFIED
    probe = await a_user(access, "probe", role.ROLE_RADIOLOGY_SUPPORT, world.north, view)
    await give(access, probe, world.south, view)
    people: list[tuple[str, Any, Any, tuple[str, ...], Any]] = [
        ("vos", role.ROLE_RADIOLOGIST, access_pb2.LEVEL_REPORT, (), access_pb2.LANGUAGE_NL),
        ("mute", role.ROLE_RADIOLOGY_SUPPORT, view, (), access_pb2.LANGUAGE_NL),
        ("adam", role.ROLE_ADMINISTRATOR, view, ("share.admin",), access_pb2.LANGUAGE_NL),
        ("olaf", role.ROLE_OPERATOR, none, ("operator",), access_pb2.LANGUAGE_EN),
        ("rita", role.ROLE_REFERRING_PHYSICIAN, none, (), access_pb2.LANGUAGE_NL),
        ("rob", role.ROLE_REFERRING_PHYSICIAN, none, (), access_pb2.LANGUAGE_FR),
        ("ron", role.ROLE_REFERRING_PHYSICIAN, none, (), access_pb2.LANGUAGE_FR),
        ("ray", role.ROLE_RADIOLOGIST, none, (), access_pb2.LANGUAGE_DE),
        ("ivan", role.ROLE_REFERRING_PHYSICIAN, none, (), access_pb2.LANGUAGE_EN),
        ("norm", role.ROLE_REFERRING_PHYSICIAN, none, (), access_pb2.LANGUAGE_EN),
    ]
    for number, (login, its_role, level, permissions, language) in enumerate(people):
        user = await a_user(access, login, its_role, world.north, level, *permissions)
        user.language = language
        if login != "norm":
            user.email, user.mobile_number = f"{login}@example.org", f"+3161234560{number}"
        user.active = login != "ivan"
        await access.save_user(user)
        world.ids[login] = user.user_id
    return world


# The use cases


@dataclass
class Clock:
    """The machine's clock, moved ahead by a test."""

    ahead: timedelta = timedelta()

    def now(self) -> datetime:
        return CLOCK.now() + self.ahead

    def pass_by(self, time: timedelta) -> None:
        self.ahead += time


class Crash(Exception):
    """The process ends here."""


@dataclass
class CutOff:
    """A client of access whose next call of a verb fails before or after it is made, or takes its time."""

    client: AccessClient
    before: dict[str, Exception] = field(default_factory=dict)
    after: dict[str, Exception] = field(default_factory=dict)
    meanwhile: dict[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        async def call(*arguments: Any) -> Any:
            self.asked.append(verb)
            if error := self.before.pop(verb, None):
                raise error
            answer = await getattr(self.client, verb)(*arguments)
            if happens := self.meanwhile.pop(verb, None):
                await happens()
            if error := self.after.pop(verb, None):
                raise error
            return answer

        return call


@dataclass
class Sharing:
    """The use cases, and what a test wants to arrange or see around them."""

    world: World
    database: Database[SharingTransaction]
    clock: Clock
    access: CutOff
    shares: Shares
    extending: Extending
    inbox: Inbox
    policies: Policies
    repairs: Repairs
    links: Links
    access_rows: Any
    """The database of access."""

    async def share(self, login: str, case_ids: Sequence[CaseId], *to: str, **changes: Any) -> Share:
        """A share of these cases to these people, as its sender was answered."""
        act(login)
        share, _ = await self.shares.share(login, wanted(case_ids, *to, **changes))
        return share

    async def revoke(self, login: str, *, bucket: Bucket | None = None, share: Share | None = None) -> None:
        act(login)
        await self.shares.revoke(login, bucket.id if bucket else None, share.id if share else None)

    async def open(self, login: str, bucket: Bucket, session: str = "s") -> Any:
        act(login, session)
        return await self.inbox.open(login, session, self.links.text(bucket.id))

    async def received(self, login: str, session: str = "s") -> list[BucketId]:
        act(login, session)
        return [each.bucket.id for each in await self.inbox.list_received(login, session, None, 100)]

    async def stored(self, share_id: ShareId) -> Share | None:
        async with self.database.transaction() as transaction:
            return await transaction.share(share_id)

    async def states(self, share: Share) -> list[State]:
        stored = await self.stored(share.id)
        return [bucket.state for bucket in stored.buckets] if stored else []

    async def repair(self) -> None:
        """One pass, long after whatever was cut off."""
        await self.repairs.expire()
        await self.repairs.abandon()
        await events.tell_access(self.repairs)

    async def save_policy(self, **changes: Any) -> Policy:
        act("adam")
        north = FacilityId(UUID(self.world.north))
        version = (await self.policies.describe_policy("adam", north)).version
        return await self.policies.save_policy("adam", Policy(north, **{"version": version} | changes))

    async def query(self, sql: str, *values: object) -> list[asyncpg.Record]:
        async with self.database.statements() as transaction:
            return list(await transaction.connection.fetch(sql, *values))

    async def ends_in_access(self, bucket_id: BucketId) -> datetime | None:
        """The end that access keeps of a bucket."""
        ends_at: datetime | None = await self.access_rows.fetchval(
            "select nullif(ends_at, 'infinity') from buckets where bucket_id = $1", bucket_id
        )
        return ends_at

    async def waits(self, task: asyncio.Task[Any]) -> None:
        """Returns when the task waits for a lock of the database; fails if it is done instead."""

        async def waits_or_is_done() -> bool:
            waiting = await self.query("select from pg_stat_activity where wait_event_type = 'Lock'")
            return bool(waiting) or task.done()

        await eventually(waits_or_is_done)
        assert not task.done()

    async def facts(self, *ids: UUID) -> list[tuple[str, int]]:
        """Subject and version of what was said about these, in order."""
        rows = await self.query("select subject, payload from outbox order by id")
        payloads = [(row["subject"], msgspec.json.decode(row["payload"])) for row in rows]
        wanted_ids = set(map(str, ids))
        return [(subject, each["version"]) for subject, each in payloads if each["id"] in wanted_ids]

    async def audited(self, object_: str) -> list[tuple[str, str, str]]:
        """Actor, action and outcome of what was audited about an object, in order."""
        rows = await self.query(
            "select actor, action, outcome from audit_rows where object = $1 order by id", object_
        )
        return [tuple(row) for row in rows]


async def error_of(done: Awaitable[Any]) -> ReadroomError:
    try:
        await done
    except ReadroomError as error:
        return error
    raise AssertionError("it was not refused")


def in_days(sharing: Sharing, days: int) -> date:
    return today_at(sharing.clock.now(), AMSTERDAM) + days * DAY


def till(sharing: Sharing, days: int) -> dict[str, Any]:
    return {"validity": Validity(in_days(sharing, days).isoformat())}


async def block(sharing: Sharing, bucket: Bucket) -> None:
    """Five wrong codes."""
    async with sharing.database.transaction() as transaction:
        (found,) = await transaction.lock_buckets([bucket.id])
        await transaction.save_buckets([replace(found.after(Act.BLOCK, transaction.now), wrong_codes=5)])
    await events.tell_access(sharing.repairs)


async def extend(sharing: Sharing, login: str, bucket: Bucket, validity: Validity) -> Bucket:
    act(login)
    _, extended, _ = await sharing.extending.extend(login, bucket.id, validity)
    return extended


def act(login: str, session: str = "s") -> None:
    """From now on this user acts."""
    ACTING.set((login, session))


def wanted(case_ids: Sequence[CaseId], *to: str, **changes: Any) -> Wanted:
    values: dict[str, Any] = {
        "case_ids": case_ids,
        "recipients": [Recipient(login) for login in to],
        "rights": Rights.READ_REPORT,
        "reason": "second opinion",
        "patient_agreed": True,
    }
    return Wanted(**values | changes)


@asynccontextmanager
async def use_cases(
    url: str, access_url: str, world: World, transaction: type[SharingTransaction] = SharingTransaction
) -> AsyncIterator[Sharing]:
    """The use cases on a database of their own, asking access over the wire; nothing runs by itself."""

    def token() -> str:
        login, session = ACTING.get()
        return world.access.token(login=login, session=session)

    clock = Clock()
    new_id = UUID7(clock)
    database = await Database.connect(url, transaction, clock=clock, new_id=new_id, pool_size=24)
    tls = world.access.pki.tls("sharing")
    channel = rpc.connect(f"127.0.0.1:{world.access.port}", "access", tls, deadline_s=10, token=token)
    access: Any = CutOff(AccessClient(channel))
    telling, links = Telling(database, access), Links(LINK_SECRET)
    access_rows = await asyncpg.connect(access_url)
    try:
        yield Sharing(
            world,
            database,
            clock,
            access,
            Shares(database, access, Everywhere(), telling, links, new_id, 3),
            Extending(database, access, telling),
            Inbox(database, access),
            Policies(database, access),
            Repairs(database, telling, ABANDON_AFTER),
            links,
            access_rows,
        )
    finally:
        await access_rows.close()
        await channel.close()
        await database.close()


class Everywhere:
    """A notify that sends texts to every country."""

    async def served(self, mobile_numbers: Sequence[str]) -> tuple[Sequence[bool], Sequence[str]]:
        return [True for _ in mobile_numbers], DEFAULT


# The service


class Notify(notify_pb2_grpc.NotifyServiceServicer):
    """Notify as far as sharing asks it; it keeps what a telephone would show."""

    def __init__(self) -> None:
        self.texts: list[notify_pb2.SendTextRequest] = []
        self.countries: Sequence[str] = DEFAULT
        self.is_away = False

    async def CheckNumbers(  # noqa: N802
        self, request: notify_pb2.CheckNumbersRequest, context: Any
    ) -> notify_pb2.CheckNumbersResponse:
        if self.is_away:
            raise Unavailable("away")
        served = [serves(self.countries, each) for each in request.mobile_numbers]
        return notify_pb2.CheckNumbersResponse(served=served, countries=sorted(self.countries))

    async def SendText(  # noqa: N802
        self, request: notify_pb2.SendTextRequest, context: Any
    ) -> notify_pb2.SendTextResponse:
        self.texts.append(request)
        return notify_pb2.SendTextResponse()


@dataclass
class System:
    """A sharing that runs, and what surrounds it."""

    world: World
    port: int
    notify: Notify
    resources: AsyncExitStack
    stubs: dict[tuple[str, str], "SharingServiceAsyncStub"] = field(default_factory=dict)

    def called_by(self, peer: str, token: Callable[[], str | None]) -> "SharingServiceAsyncStub":
        tls = self.world.access.pki.tls(peer)
        channel = rpc.connect(f"127.0.0.1:{self.port}", "sharing", tls, deadline_s=10, token=token)
        self.resources.push_async_callback(channel.close)
        return sharing_pb2_grpc.SharingServiceStub(channel)

    def acting(self, login: str, session: str = "s") -> "SharingServiceAsyncStub":
        """The service as the bff calls it for this user."""
        key = (login, session)
        if key not in self.stubs:
            token = partial(self.world.access.token, login=login, session=session, audience="sharing")
            self.stubs[key] = self.called_by("bff", token)
        return self.stubs[key]


@asynccontextmanager
async def running(servers: EmbeddedServers, url: str, world: World, **settings: str) -> AsyncIterator[System]:
    """Sharing as its process builds it, on a database of its own."""
    access = world.access
    async with AsyncExitStack() as resources:
        notify = Notify()  # type: ignore[abstract]  # the contract has more methods than sharing asks
        neighbour = rpc.Server("notify", "127.0.0.1:0", access.pki.tls("notify"), None)
        neighbour.add(
            notify_pb2_grpc.add_NotifyServiceServicer_to_server, notify, "wire.notify.v1.NotifyService"
        )
        notify_port = await neighbour.start()
        resources.push_async_callback(neighbour.stop, 0.1)
        own = {
            "ACCESS_ADDRESS": f"127.0.0.1:{access.port}",
            "NOTIFY_ADDRESS": f"127.0.0.1:{notify_port}",
            "LINK_SECRET": LINK_SECRET,
            "CODE_PEPPER": "p" * 32,
        } | settings
        port = await hosted("sharing", main, servers, access.pki, url, CLOCK, own, resources)
        yield System(world, port, notify, resources)
