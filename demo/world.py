"""What the steps of the story share."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from demo.cast import ADMIN, TIME_ZONE, Person
from demo.gateways import RunningGateway
from demo.stage import Stage
from local.system import LocalSystem
from plumbing.clocks import clock_of
from readroom import names
from readroom.client import Readroom, connect
from readroom.endpoints import Endpoints
from readroom.pages import every
from readroom.session import Session
from readroom.users import privilege_version
from wire.access.v1.access_pb2 import (
    Case,
    Level,
    ListCasesRequest,
    Privilege,
    ReadType,
    SavePrivilegeRequest,
    SaveUserRequest,
)

_LOOK_EVERY_S = 0.05


@dataclass(slots=True)
class World:
    """The running system, and what the story has made on it so far.

    Attributes:
        stage: where it is told.
        system: all services and servers, each a process.
        resources: what must be closed in the end.
        facility_ids, user_ids: by name and by login.
        gateways: by the name of their site.
        on_disk: the modality's files, by the name of the site whose gateway has them.
    """

    stage: Stage
    system: LocalSystem
    resources: AsyncExitStack
    facility_ids: dict[str, str] = field(default_factory=dict)
    user_ids: dict[str, str] = field(default_factory=dict)
    gateways: dict[str, RunningGateway] = field(default_factory=dict)
    on_disk: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))
    _sessions: dict[str, Session] = field(default_factory=dict)
    _connected: dict[str, Readroom] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where the story keeps what it makes."""
        return self.system.data_dir / "demo"

    @property
    def endpoints(self) -> Endpoints:
        return self.system.endpoints()

    def sent(self, site: str) -> Path:
        """Every object as the modality put it on the wire to this site's gateway."""
        return self.folder / "sent" / site

    def session(self, login: str) -> Session:
        """The session in which this user acts."""
        return self._sessions.setdefault(login, Session.begin(login))

    def elsewhere(self, resources: AsyncExitStack) -> "World":
        """The same, where everybody acts in a session of their own; `resources` ends its connections."""
        return replace(self, resources=resources, _sessions={}, _connected={})

    async def acting_as(self, login: str) -> Readroom:
        """The services as this user has them."""
        if login not in self._connected:
            entered = connect(self.endpoints, self.session(login))
            self._connected[login] = await self.resources.enter_async_context(entered)
        return self._connected[login]

    async def worklist(self, login: str) -> list[Case]:
        """Every case that the user sees, newest first."""
        readroom = await self.acting_as(login)
        return [
            c async for c in every(readroom.access.ListCases, ListCasesRequest(), lambda page: page.cases)
        ]

    async def case(self, login: str, study_instance_uid: str) -> Case | None:
        """The newest case of this study that the user sees."""
        cases = await self.worklist(login)
        return next((case for case in cases if case.study_instance_uid == study_instance_uid), None)

    async def permit(self, person: Person, permission: str, facility: str) -> None:
        """Gives somebody one permission more, at one facility."""
        readroom = await self.acting_as(ADMIN)
        user = await names.user(readroom, person.login)
        user.permissions.add(permission=permission, facility_id=self.facility_ids[facility])
        await readroom.access.SaveUser(SaveUserRequest(user=user, set_permissions=True))

    def move_clock(self, moment: datetime) -> None:
        """It is `moment` now. Time never goes back, so the story goes on from there."""
        self.endpoints.clock_offset_file.write_text(str((moment - datetime.now(UTC)).total_seconds()))

    def now(self) -> datetime:
        """What the system's clocks say."""
        return clock_of(self.endpoints.clock_offset_file).now()

    async def set_privilege(
        self,
        login: str,
        facility: str,
        level: "Level.ValueType",
        expires_on: str = "",
        read_types: Sequence["ReadType.ValueType"] = (),
    ) -> Privilege:
        """The privilege as it is then."""
        wanted = Privilege(
            user_id=self.user_ids[login],
            facility_id=self.facility_ids[facility],
            level=level,
            expires_on=expires_on,
            read_types=read_types,
        )
        readroom = await self.acting_as(ADMIN)
        wanted.version = await privilege_version(readroom, wanted)
        return (await readroom.access.SavePrivilege(SavePrivilegeRequest(privilege=wanted))).privilege


def told_time(moment: datetime) -> str:
    """A moment as the clocks of the story's facilities show it."""
    return f"{moment.astimezone(ZoneInfo(TIME_ZONE)):%H:%M on %d %B}"


@dataclass(frozen=True, slots=True)
class Arrival:
    """When a study came onto a worklist: with its first image, and with its last."""

    case: Case
    first_at: float
    complete_at: float

    @classmethod
    async def watch(cls, world: World, login: str, study_instance_uid: str, instances: int) -> "Arrival":
        """Looks at the worklist until the study is complete there."""
        first_at = 0.0
        while True:
            case = await world.case(login, study_instance_uid)
            now = time.perf_counter()
            if case:
                first_at = first_at or now
                if case.instance_count == instances:
                    return cls(case, first_at, now)
            await asyncio.sleep(_LOOK_EVERY_S)
