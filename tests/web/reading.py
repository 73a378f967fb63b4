"""The web beside an access and a reporting that run: a case, its readers, and their browsers."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from kernel.ids import UUID7
from local.embedded import EmbeddedServers
from local.pki import Pki
from plumbing.db import Database
from plumbing.runtime import Application
from tests.access.service import CLOCK, Service, serve
from tests.ports import free_port
from tests.reporting.system import ALL, System, a_case, a_user, running
from tests.web.browser import SAME_ORIGIN, Browser, Seen, browser
from tests.web.system import settings
from tests.wires import Wire, wire
from web.domain import Person
from web.issuer import NAME
from web.main import build
from web.session import Sessions
from web.store import WebTransaction
from wire.access.v1 import access_pb2
from wire.access.v1.access_pb2 import Role
from wire.reporting.v1 import reporting_pb2 as pb


@dataclass
class Reading:
    """Pages that are served, one facility with its people, and one case.

    Attributes:
        to_pages: between browsers and the web.
        to_access: between the web and access.
        access_url: of the database of access.
        web: the process that serves the pages.
    """

    origin: str
    system: System
    sessions: Sessions
    facility_id: str
    case_id: str
    users: dict[str, access_pb2.User]
    resources: AsyncExitStack
    to_pages: Wire
    to_access: Wire
    access_url: str
    web: Application
    browsers: dict[str, Browser] = field(default_factory=dict)

    async def another_case(self) -> None:
        """A case that nobody has read."""
        self.case_id = await a_case(self.system.access, self.facility_id)

    @property
    def path(self) -> str:
        return f"/cases/{self.case_id}/report"

    async def at(self, login: str, session: str = "") -> Browser:
        """The browser of this person, signed in; `session` names another of theirs."""
        if login + session not in self.browsers:
            user = self.users[login]
            person = Person(NAME, user.user_id, UUID(user.user_id), login, user.name)
            _, secret = await self.sessions.begin(person)
            page = await self.resources.enter_async_context(browser(self.origin))
            page.secret = secret
            await page.get("/profile")
            self.browsers[login + session] = page
        return self.browsers[login + session]

    async def act(self, login: str, verb: str, session: str = "", **form: str) -> Seen:
        """Sends the form of an act, with the version of the draft that the page shows."""
        page = await self.at(login, session)
        if "made_from" not in form:
            form["made_from"] = version_of(await page.get(self.path))
        return await page.post(f"{self.path}/{verb}", SAME_ORIGIN, **form)

    async def reports(self, login: str) -> pb.ListReportsResponse:
        request = pb.ListReportsRequest(case_id=self.case_id)
        answer: pb.ListReportsResponse = await self.system.acting(login).ListReports(request)
        return answer


def version_of(seen: Seen) -> str:
    """The version of the draft that a page was made from."""
    return seen.text.partition('name="made_from" value="')[2].partition('"')[0] or "0"


@asynccontextmanager
async def reading(
    servers: EmbeddedServers, database_url: Callable[[str], str], pki: Pki, folder: Path
) -> AsyncIterator[Reading]:
    # Before anything runs: PostgreSQL makes no database while a client of this very loop is connecting.
    urls = {name: database_url(name) for name in ("reporting", "access", "web")}
    async for access in serve(servers, urls["access"], pki):
        async with AsyncExitStack() as resources:
            system = await resources.enter_async_context(running(servers, urls["reporting"], access))
            north = await access.facility("North")
            people = await _people(access, north)
            case_id = await a_case(access, north)
            pages = free_port()
            to_access = await resources.enter_async_context(wire(access.port))
            to_pages = await resources.enter_async_context(wire(pages))
            answering = {"access_address": to_access.port, "reporting_address": system.port}
            chosen = settings(
                urls["web"],
                pki,
                folder,
                development_issuer=True,
                pages_listen=f"127.0.0.1:{pages}",
                origin=f"http://localhost:{to_pages.port}",
                **{name: f"127.0.0.1:{port}" for name, port in answering.items()},
            )
            application = await build(chosen, CLOCK, UUID7(CLOCK), resources)
            database = await Database.connect(urls["web"], WebTransaction, clock=CLOCK, new_id=UUID7(CLOCK))
            resources.push_async_callback(database.close)
            sessions = Sessions(database, UUID7(CLOCK))
            yield Reading(
                chosen.origin,
                system,
                sessions,
                north,
                case_id,
                people,
                resources,
                to_pages,
                to_access,
                urls["access"],
                application,
            )


async def _people(access: Service, north: str) -> dict[str, access_pb2.User]:
    report, draft, view = access_pb2.LEVEL_REPORT, access_pb2.LEVEL_DRAFT, access_pb2.LEVEL_VIEW
    people: list[tuple[str, Role.ValueType, access_pb2.Level.ValueType]] = [
        ("probe", access_pb2.ROLE_RADIOLOGY_SUPPORT, view),
        ("vos", access_pb2.ROLE_RADIOLOGIST, report),
        ("lind", access_pb2.ROLE_RADIOLOGIST, report),
        ("moore", access_pb2.ROLE_TRANSCRIPTIONIST, draft),
        ("okafor", access_pb2.ROLE_REFERRING_PHYSICIAN, view),
        ("chief", access_pb2.ROLE_ADMINISTRATOR, view),
    ]
    made = {
        login: await a_user(access, login, role, north, level, read_types=ALL[:3] if level == report else ())
        for login, role, level in people
    }
    admin = access_pb2.ROLE_ADMINISTRATOR
    return {**made, "moor": await a_user(access, "moor", admin, north, view, "study.delete")}
