"""Access's use cases on a PostgreSQL of their own."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import msgspec
import pytest

from kernel.errors import ReadroomError
from kernel.ids import UUID7, BucketId, CaseId, FacilityId, FolderId, NewId, UserId
from kernel.reading import PrivilegeLevel, ReadType
from local.embedded import EmbeddedServers
from local.pki import Pki
from plumbing.db import Database
from services.access.administration import Users
from services.access.assignment import Assignments
from services.access.buckets import Grant, Share, Standing
from services.access.caseindex import Placement
from services.access.deletion import Deletions
from services.access.domain import Decision, Facility, Permission, PermissionGrant, Role, User
from services.access.explaining import Explaining
from services.access.filtering import Filters
from services.access.folders import Folders, FolderSettings
from services.access.granting import Buckets
from services.access.identities import Identities
from services.access.indexing import CaseIndex
from services.access.linking import Linking
from services.access.linting import Linting
from services.access.me import Myself
from services.access.moves import Moves
from services.access.privileges import checked_privilege
from services.access.reading import Reading
from services.access.received import ReceivedStudy
from services.access.search import Listing
from services.access.store import AccessTransaction
from services.access.usecases import Questions
from tests.access.builders import Owners, a_bucket, a_facility, a_placement, a_study, a_user
from tests.access.service import Service, serve
from tests.clocks import NOON, Clock
from tests.conftest import OpenDatabase

ADMIN = "ada"
END = NOON + timedelta(days=30)


@dataclass
class Access:
    """The use cases, and what a test wants to arrange or see around them."""

    database: Database[AccessTransaction]
    clock: Clock
    questions: Questions
    users: Users
    identities: Identities
    myself: Myself
    filters: Filters
    folders: Folders
    buckets: Buckets
    deletions: Deletions
    moves: Moves
    assignments: Assignments
    explaining: Explaining
    linting: Linting
    index: CaseIndex
    owners: Owners
    linking: Linking
    admin: User = field(init=False)

    async def user(self, role: Role = Role.RADIOLOGIST, **changes: Any) -> User:
        user = a_user(role, **changes)
        async with self.database.transaction() as transaction:
            await transaction.save_user(user, by="ada")
        return user

    async def manager(self, facility: Facility, *more: Permission, **changes: Any) -> User:
        """A facility manager with their role's defaults, and more at their facility."""
        at_home = {Permission.ADMINISTER_ACCESS, Permission.ADMINISTER_SHARES, *more}
        defaults = a_user(Role.FACILITY_MANAGER).permissions
        return await self.user(
            Role.FACILITY_MANAGER,
            permissions=defaults | {PermissionGrant(each, facility.id) for each in at_home},
            home_facility_id=facility.id,
            **changes,
        )

    async def facility(self, name: str = "", time_zone: str = "UTC") -> Facility:
        facility = a_facility(name, time_zone)
        await self.hear(facility)
        return facility

    async def case(self, facility: Facility, *studies: ReceivedStudy, **changes: Any) -> CaseId:
        studies = studies or (a_study(),)
        placement = a_placement(facility.id, *studies, **changes)
        await self.hear(*studies, placement)
        return placement.case_id

    async def hear(self, *things: Facility | Placement | ReceivedStudy | Reading) -> None:
        """The owners have these now, and say so; a fact about each is heard."""
        self.owners.add(*things)
        for thing in things:
            match thing:
                case Facility():
                    facility = await self.index.fetch_facility(thing.id)
                    async with self.database.transaction() as transaction:
                        await self.index.index_facility(transaction, facility)
                case Placement():
                    snapshots = await self.index.fetch_case(thing.case_id)
                    async with self.database.transaction() as transaction:
                        await self.index.index_case(transaction, thing.case_id, snapshots)
                case ReceivedStudy():
                    study = await self.index.fetch_study(thing.id, thing.version)
                    async with self.database.transaction() as transaction:
                        await self.index.index_study(transaction, study)
                case Reading():
                    reading = await self.index.fetch_reading(thing.case_id)
                    async with self.database.transaction() as transaction:
                        await self.index.index_reading(transaction, reading)

    async def give(
        self,
        user: User,
        facility: Facility,
        level: PrivilegeLevel,
        *,
        expires_on: date | None = None,
        read_types: Iterable[ReadType] = (),
        by: str = ADMIN,
    ) -> int:
        async with self.database.statements() as statements:
            version = (await statements.privilege(user.id, facility.id)).version
        privilege = checked_privilege(level, expires_on, frozenset(read_types), version)
        _, revision = await self.users.save_privilege(by, user.id, facility.id, privilege)
        return revision

    async def folder(self, *members: User, name: str = "Folder") -> FolderId:
        settings = FolderSettings(None, name, frozenset(m.id for m in members))
        folder, _ = await self.folders.save_folder(ADMIN, settings)
        return folder.id

    async def share(self, recipient: User, *case_ids: CaseId, **changes: Any) -> BucketId:
        """A bucket of theirs, however it came about."""
        bucket = a_bucket(recipient, *case_ids, **changes)
        async with self.database.transaction() as transaction:
            await transaction.save_buckets([bucket])
        return bucket.id

    async def check(self, user: User, case_id: CaseId, session: str = "") -> Decision:
        decision, _ = await self.questions.check(
            user.login, case_id, images=True, at_least=0, session=session
        )
        return decision

    async def worklist(
        self, user: User, limit: int = 500, facility_id: FacilityId | None = None, session: str = ""
    ) -> list[CaseId]:
        listed = await self.questions.list_cases(
            user.login, None, limit, Listing(facility_id=facility_id), session=session
        )
        return [case.case_id for case in listed]

    async def stored(self, user_id: UserId) -> User:
        async with self.database.statements() as statements:
            user = await statements.user(user_id)
        assert user is not None
        return user

    async def revision(self) -> int:
        async with self.database.statements() as statements:
            return await statements.revision()

    async def query(self, sql: str, *values: object) -> list[asyncpg.Record]:
        async with self.database.statements() as statements:
            return list(await statements.connection.fetch(sql, *values))

    async def facts(self) -> list[tuple[str, str, int]]:
        """Subject, id and version of what was said, in order."""
        rows = await self.query("select subject, payload from outbox order by id")
        payloads = [(row["subject"], msgspec.json.decode(row["payload"])) for row in rows]
        return [(subject, payload["id"], payload["version"]) for subject, payload in payloads]

    async def audited(self) -> list[tuple[str, str, str]]:
        """Actor, action and outcome of what was audited, in order."""
        rows = await self.query("select actor, action, outcome from audit_rows order by id")
        return [tuple(row) for row in rows]


@dataclass
class Scene:
    """Two cases of a facility, a radiologist who sees them, and two physicians who do not."""

    access: Access
    facility: Facility
    cases: list[CaseId]
    sender: User
    jane: User
    john: User

    def a_share(self, *recipients: User, two_factor: bool = False, **changes: Any) -> Share:
        grants = [
            Grant(BucketId(uuid4()), user.login, two_factor=two_factor) for user in recipients or [self.jane]
        ]
        values: dict[str, Any] = {
            "case_ids": (self.cases[0],),
            "grants": tuple(grants),
            "ends_at": END,
            "write_report": False,
            "allow_further_sharing": False,
            "parent_id": None,
        }
        return Share(**values | changes)

    async def grant(self, share: Share, by: User | None = None, session: str = "") -> BucketId:
        """Its first bucket."""
        await self.access.buckets.grant_buckets((by or self.sender).login, session, share)
        return share.grants[0].bucket_id

    async def change(self, bucket_id: BucketId, version: int, **changes: Any) -> int:
        values: dict[str, Any] = {"is_open": True, "ends_at": END} | changes
        return await self.access.buckets.change_buckets([Standing(bucket_id, version, **values)])

    async def extend(
        self, bucket_id: BucketId, version: int, by: User | None = None, session: str = "", **changes: Any
    ) -> int:
        values: dict[str, Any] = {"is_open": True, "ends_at": END} | changes
        standing = Standing(bucket_id, version, **values)
        return await self.access.buckets.extend_bucket((by or self.sender).login, session, standing)

    async def ends(self, *bucket_ids: BucketId) -> list[datetime | None]:
        """The ends that access keeps of these buckets."""
        async with self.access.database.statements() as statements:
            found = await statements.buckets(bucket_ids)
        return [found[bucket_id].standing.ends_at for bucket_id in bucket_ids]

    async def sees(self, user: User, session: str = "") -> list[CaseId]:
        """What they see of the cases: on their list, and by every question alike."""
        checked = [
            case_id for case_id in self.cases if (await self.access.check(user, case_id, session)).allowed
        ]
        many = await self.access.questions.check_many(user.login, self.cases, session=session)
        listed = await self.access.worklist(user, session=session)
        assert checked == [case_id for case_id, each in zip(self.cases, many, strict=True) if each.allowed]
        assert set(checked) == set(listed)
        return checked


async def refused(awaitable: Awaitable[object], word: type[ReadroomError], field: str | None) -> None:
    with pytest.raises(word) as refusal:
        await awaitable
    assert (word, field) == (type(refusal.value), refusal.value.field), refusal.value.sentence


@pytest.fixture
async def access(open_database: OpenDatabase) -> Access:
    clock = Clock()
    new_id = UUID7(clock)
    return await use_cases(await open_database("access", AccessTransaction, clock, new_id), clock, new_id)


@pytest.fixture
async def scene(access: Access) -> Scene:
    facility = await access.facility("MS44")
    sender = await access.user()
    await access.give(sender, facility, PrivilegeLevel.VIEW)
    return Scene(
        access,
        facility,
        [await access.case(facility) for _ in range(2)],
        sender,
        await access.user(Role.REFERRING_PHYSICIAN),
        await access.user(Role.REFERRING_PHYSICIAN),
    )


@pytest.fixture
async def service(
    servers: EmbeddedServers, fresh_database: Callable[[str], str], pki: Pki
) -> AsyncIterator[Service]:
    async for served in serve(servers, fresh_database("access"), pki):
        yield served


async def start(url: str) -> AsyncIterator[Access]:
    """Use cases with connections of their own, as a test needs them that runs its own loop."""
    clock = Clock()
    new_id = UUID7(clock)
    database = await Database.connect(url, AccessTransaction, clock=clock, new_id=new_id)
    yield await use_cases(database, clock, new_id)
    await database.close()


async def use_cases(database: Database[AccessTransaction], clock: Clock, new_id: NewId) -> Access:
    """All of them, and the first administrator."""
    owners = Owners()
    index = CaseIndex(database, owners, owners, owners)
    started = Access(
        database,
        clock,
        Questions(database, clock),
        Users(database, new_id),
        Identities(database, new_id, secrets.token_bytes),
        Myself(database),
        Filters(database),
        Folders(database, new_id),
        Buckets(database),
        Deletions(database, owners),
        Moves(database, owners, index),
        Assignments(database),
        Explaining(database),
        Linting(database),
        index,
        owners,
        Linking(database, new_id),
    )
    admin = await started.users.create_first_administrator(ADMIN)
    assert admin is not None
    started.admin = admin
    return started
