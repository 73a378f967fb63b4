"""The web of a test: its own process parts on a real database, while no other service answers."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from kernel.ids import UUID7
from local.pki import Pki
from plumbing.db import Database
from tests.clocks import Clock
from tests.web.browser import Browser, browser
from tests.web.system import settings
from web.domain import Person
from web.issuer import NAME
from web.main import build
from web.passwords import Passwords
from web.session import Sessions
from web.store import WebTransaction
from web.viewing import Viewing

PASSWORD = "correct horse battery"


@dataclass
class Web:
    """A web that runs, and what tests do beside its pages."""

    origin: str
    clock: Clock
    database: Database[WebTransaction]
    sessions: Sessions
    viewing: Viewing

    async def a_person(self, login: str = "vos", *, password: str = "") -> Person:
        """Somebody whom access would know; with a password they have been here before."""
        person = Person(NAME, str(uuid4()), uuid4(), login, "Dr Eva Vos")
        if password:
            hashed = await Passwords().hash(password)
            async with self.database.transaction() as tx:
                await tx.save_password(person.user_id, login, hashed)
        return person

    @asynccontextmanager
    async def signed_in(self, person: Person | None = None) -> AsyncIterator[Browser]:
        """The browser of somebody who has just signed in."""
        _, secret = await self.sessions.begin(person or await self.a_person())
        async with browser(self.origin) as page:
            page.secret = secret
            await page.get("/profile")
            yield page

    async def stay(self, secret: str) -> None:
        """The person does something, and access says that they may."""
        session = await self.sessions.find(secret)
        assert session
        await self.sessions.use(session)
        await self.sessions.resolve(session)

    async def audited(self) -> list[tuple[str, str, str]]:
        """Actor, action and outcome of each audit row, the oldest first."""
        async with self.database.statements() as tx:
            rows = await tx.connection.fetch("select actor, action, outcome from audit_rows order by id")
        return [tuple(row) for row in rows]

    async def sessions_of(self, user_id: UUID) -> int:
        async with self.database.statements() as tx:
            return len(await tx.sessions_of(user_id, tx.now))


@asynccontextmanager
async def running(
    fresh_database: Callable[[str], str], pki: Pki, folder: Path, **more: Any
) -> AsyncIterator[Web]:
    """A web with these settings."""
    clock = Clock()
    chosen = settings(fresh_database("web"), pki, folder, development_issuer=True, **more)
    async with AsyncExitStack() as resources:
        await build(chosen, clock, UUID7(clock), resources)
        database = await Database.connect(
            chosen.database_url.get_secret_value(), WebTransaction, clock=clock, new_id=UUID7(clock)
        )
        resources.push_async_callback(database.close)
        yield Web(chosen.origin, clock, database, Sessions(database, UUID7(clock)), Viewing(database))


@pytest.fixture
async def web(fresh_database: Callable[[str], str], pki: Pki, tmp_path: Path) -> AsyncIterator[Web]:
    async with running(fresh_database, pki, tmp_path) as web:
        yield web
