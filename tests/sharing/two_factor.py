"""The use cases of codes on a PostgreSQL of their own; access and the text gateway as a test says."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID, uuid4

import asyncpg
import msgspec

from kernel.errors import Expired, ReadroomError
from kernel.ids import UUID7, BucketId, CaseId, FacilityId, ShareId, UserId
from kernel.language import Language
from kernel.reach import Reach
from plumbing.db import Database
from services.sharing import asking
from services.sharing.asking import Telling
from services.sharing.codes import CodeRepairs, Codes
from services.sharing.domain import Bucket, Change, Owner, Received, Share, Sight, State, User
from services.sharing.links import Links
from services.sharing.otp import Code, Pepper, Redeemed, Verdict
from services.sharing.repairs import Repairs
from services.sharing.store import SharingTransaction
from tests.clocks import Clock
from tests.sharing.builders import a_bucket, a_share

INSTANT = timedelta(microseconds=1)
NORTH = FacilityId(UUID(int=0xA0))
SOUTH = FacilityId(UUID(int=0xB0))
NOWHERE = Reach()
LINKS = Links("l" * 32)


@dataclass
class Access:
    """Access as far as codes need it: who there is, who may what, what it was told."""

    people: dict[str, User] = field(default_factory=dict)
    permits: dict[str, Reach] = field(default_factory=dict)
    registered: list[tuple[BucketId, str]] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    failing: ReadroomError | None = None
    owner: FacilityId = NORTH
    shown: Collection[CaseId] | None = None
    before_registering: Callable[[], None] | None = None

    async def is_deleted(self, case_id: CaseId) -> bool:
        return case_id not in await self.owners([case_id])

    async def owners(self, case_ids: Collection[CaseId]) -> Mapping[CaseId, Owner]:
        return {each: Owner(self.owner, "Europe/Amsterdam") for each in case_ids}

    async def reach(self, permission: str) -> Reach:
        return self.permits.get(permission, NOWHERE)

    async def check_many(self, case_ids: Sequence[CaseId]) -> Sequence[Sight]:
        self.asked.append("check_many")
        return [Sight(allowed=True, by_privilege=False, facility_id=NORTH) for _ in case_ids]

    async def users(self, logins: Collection[str]) -> Mapping[str, User]:
        self.asked.append("users")
        return {login: self.people[login] for login in logins if login in self.people}

    async def register(self, redeemed: Redeemed) -> Collection[CaseId] | None:
        self.asked.append("register")
        self._may_fail()
        if self.before_registering:
            self.before_registering()
        if redeemed.contact_version not in {each.contact_version for each in self.people.values()}:
            raise Expired("the code was sent to an earlier contact of yours: ask for another code")
        self.registered.append((redeemed.bucket_id, redeemed.session))
        return self.shown

    def move(self, login: str) -> None:
        """The user has another number from now on."""
        known = self.people[login]
        self.people[login] = replace(
            known, mobile_number=a_number(), contact_version=known.contact_version + 1
        )

    async def change(self, changes: Sequence[Change]) -> str:
        self._may_fail()
        self.changes += changes
        return "r1"

    def _may_fail(self) -> None:
        if self.failing:
            raise self.failing


@dataclass(frozen=True)
class Text:
    """A text message that was handed over."""

    mobile_number: str
    code: str
    language: Language


@dataclass
class Texts:
    """The text gateway; `meanwhile` happens while it takes a message."""

    sent: list[Text] = field(default_factory=list)
    failing: ReadroomError | None = None
    meanwhile: Callable[[], Any] | None = None

    async def send(self, mobile_number: str, code: str, language: Language) -> None:
        self.sent.append(Text(mobile_number, code, language))
        if self.meanwhile:
            await self.meanwhile()
        if self.failing:
            raise self.failing


class WatchedPepper(Pepper):
    """Notes each comparison with a code that is kept."""

    def __init__(self) -> None:
        super().__init__("p" * 32)
        self.judged: list[Verdict] = []
        self.worked = 0

    def judge(self, code: Code | None, redeemed: Redeemed, guess: str, now: datetime) -> Verdict:
        verdict = super().judge(code, redeemed, guess, now)
        self.worked += 1
        if code is not None:
            self.judged.append(verdict)
        return verdict


@dataclass
class Actor:
    """A user in a login session, as whom a test acts on one bucket."""

    codes: Codes
    texts: Texts
    login: str
    session: str
    bucket_id: BucketId

    async def send(self) -> str:
        """The code that the text message brings them."""
        await self.codes.send_code(self.login, self.session, self.bucket_id)
        return self.texts.sent[-1].code

    async def redeem(self, code: str) -> Received:
        return await self.codes.redeem(self.login, self.session, self.bucket_id, code)

    async def unblock(self) -> tuple[Share, Bucket]:
        return await self.codes.unblock(self.login, self.bucket_id)

    async def miss(self, times: int = 1) -> list[ReadroomError | None]:
        """Enters what is not their code, one after the other."""
        return [await tried(self.redeem(wrong(self.texts))) for _ in range(times)]


def wrong(texts: Texts) -> str:
    """A code that was never sent."""
    sent = {text.code for text in texts.sent}
    return next(code for code in (f"{number:06}" for number in range(10**6)) if code not in sent)


async def tried(act: Any) -> ReadroomError | None:
    try:
        await act
    except ReadroomError as error:
        return error
    return None


@dataclass
class World:
    """The use cases, and what a test arranges or sees around them."""

    database: Database[SharingTransaction]
    clock: Clock
    access: Access
    texts: Texts
    pepper: WatchedPepper
    codes: Codes
    repairs: Repairs
    code_repairs: CodeRepairs

    async def bucket(
        self,
        *,
        login: str = "",
        number: str = "",
        state: State = State.ACTIVE,
        two_factor: bool = True,
        ends_at: datetime | None = None,
    ) -> Actor:
        """A bucket that was shared from North by `sender`, and its recipient."""
        login = login or f"recipient-{uuid4().hex[:8]}"
        self.access.people.setdefault(login, a_person(login, number))
        new_id = UUID7(self.clock)
        bucket = a_bucket(
            id=BucketId(new_id()),
            share_id=ShareId(new_id()),
            recipient_login=login,
            recipient_user_id=self.access.people[login].id,
            two_factor=two_factor,
            ends_at=ends_at,
            state=state,
            version=2,
            accepted_version=2,
        )
        share = a_share(bucket, facility_id=NORTH, shared_at=self.clock.now())
        async with self.database.transaction() as transaction:
            await transaction.insert_share(share, {bucket.id: LINKS.stored(bucket.id)})
        return self.acting(login, bucket.id)

    def acting(self, login: str, bucket_id: BucketId, session: str = "phone") -> Actor:
        self.access.people.setdefault(login, a_person(login))
        return Actor(self.codes, self.texts, login, session, bucket_id)

    def on(self, actor: Actor, session: str) -> Actor:
        """The same person in another login session."""
        return self.acting(actor.login, actor.bucket_id, session)

    async def stored(self, actor: Actor) -> Bucket:
        async with self.database.transaction() as transaction:
            (bucket,) = await transaction.lock_buckets([actor.bucket_id])
        return bucket

    async def next_code(self, actor: Actor) -> str:
        """A code, asked for as soon as one may be."""
        self.clock.pass_by(timedelta(minutes=4, seconds=1))
        return await actor.send()

    async def query(self, sql: str, *values: object) -> list[asyncpg.Record]:
        async with self.database.statements() as transaction:
            return list(await transaction.connection.fetch(sql, *values))

    async def facts(self, actor: Actor) -> list[tuple[str, int]]:
        """Subject and version of what was said about a bucket, in order."""
        rows = await self.query(
            "select subject, payload from outbox where payload ->> 'id' = $1 order by id",
            str(actor.bucket_id),
        )
        return [(row["subject"], msgspec.json.decode(row["payload"])["version"]) for row in rows]

    async def audited(self, actor: Actor) -> list[tuple[str, str, str]]:
        """Actor, action and outcome of what was audited about a bucket, in order."""
        rows = await self.query(
            "select actor, action, outcome from audit_rows where object = $1 order by id",
            f"bucket:{actor.bucket_id}",
        )
        return [tuple(row) for row in rows]

    async def dumped(self) -> str:
        """Every row of every table, as text."""
        tables = await self.query("select tablename from pg_tables where schemaname = 'public'")
        rows = []
        for (table,) in tables:  # names from the catalogue
            rows += await self.query(f"select {table}::text from {table}")
        return "\n".join(row[0] for row in rows)


def a_person(login: str, number: str = "") -> User:
    number = number or a_number()
    return User(UserId(uuid4()), login, "Dr R", True, Language.NL, mobile_number=number)


def a_number() -> str:
    return f"+3161{uuid4().int % 10**7:07}"


@asynccontextmanager
async def a_world(
    url: str,
    *,
    pool_size: int = 8,
    pepper: WatchedPepper | None = None,
    transaction: type[SharingTransaction] = SharingTransaction,
    cut: Callable[[Database[SharingTransaction]], Any] = lambda database: database,
    texts: Texts | None = None,
) -> AsyncIterator[World]:
    clock, access, texts = Clock(), Access(), texts or Texts()
    pepper = pepper or WatchedPepper()
    new_id = UUID7(clock)
    database = await Database.connect(url, transaction, clock=clock, new_id=new_id, pool_size=pool_size)
    of_usecases = cast("asking.Access", access)
    telling = Telling(database, of_usecases)
    codes = Codes(
        cut(database),
        access,
        texts,
        telling,
        pepper,
        secrets.randbelow,
        new_id,
    )
    repairs = Repairs(database, telling, timedelta(seconds=60))
    try:
        yield World(database, clock, access, texts, pepper, codes, repairs, CodeRepairs(database, access))
    finally:
        await database.close()


async def at_once(*acts: Any) -> list[ReadroomError | None]:
    return list(await asyncio.gather(*map(tried, acts)))
