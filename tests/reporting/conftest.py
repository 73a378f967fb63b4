"""Reporting's use cases on a PostgreSQL of their own, with access as a test says."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import asyncpg
import msgspec
import pytest

from kernel.ids import UUID7, CaseId
from kernel.reading import ReadType
from plumbing.db import Database
from services.reporting.domain import Written
from services.reporting.sight import Sight
from services.reporting.store import ReportingTransaction
from services.reporting.switching import ReadTypes
from services.reporting.usecases import Described, Listed, Readings
from tests.clocks import Clock
from tests.conftest import OpenDatabase
from tests.reporting.builders import ACTING, LEASE, NORTH, Access

IN_A_SESSION = {"lock", "renew_lock", "unlock", "break_lock", "save_draft", "complete", "list_reports"}


@dataclass
class Actor:
    """A user, as whom a test acts on one case."""

    login: str
    case_id: CaseId
    readings: Readings
    session: str = "s"

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        async def act(*arguments: Any, **named: Any) -> Any:
            ACTING.set(self.login)
            if verb in IN_A_SESSION:
                named["session"] = self.session
            return await getattr(self.readings, verb)(self.login, self.case_id, *arguments, **named)

        return act

    async def sees(self) -> Written:
        listed: Listed = await self.list_reports()
        return listed.written


@dataclass
class Reporting:
    """The use cases, and what a test wants to arrange or see around them."""

    database: Database[ReportingTransaction]
    clock: Clock
    access: Access
    readings: Readings
    read_types: ReadTypes
    case_id: CaseId

    def user(self, login: str, sight: Sight | None = None, case_id: CaseId | None = None) -> Actor:
        """Who acts under this login; with a sight they have it from now on."""
        if sight is not None:
            self.access.sights[login] = sight
        return Actor(login, case_id or self.case_id, self.readings)

    async def activate(self, *read_types: ReadType, at_group: bool = True) -> None:
        """Switches these on at North, pre-read for the group too."""
        async with self.database.transaction() as transaction:
            await transaction.save_switch(None, ReadType.PRE_READ, at_group)
            for read_type in read_types:
                await transaction.save_switch(NORTH, read_type, True)

    async def described(self) -> Described:
        return await self.readings.describe_reading(self.case_id)

    async def query(self, sql: str, *values: object) -> list[asyncpg.Record]:
        async with self.database.statements() as transaction:
            return list(await transaction.connection.fetch(sql, *values))

    async def facts(self) -> list[tuple[str, str, int]]:
        """Subject, id and version of what was said, in order."""
        rows = await self.query("select subject, payload from outbox order by id")
        payloads = [(row["subject"], msgspec.json.decode(row["payload"])) for row in rows]
        return [(subject, payload["id"], payload["version"]) for subject, payload in payloads]

    async def audited(self) -> list[tuple[str, str, str]]:
        """Actor, action and outcome of what was audited, in order."""
        rows = await self.query("select actor, action, outcome from audit_rows order by id")
        return [tuple(row) for row in rows]


def a_case() -> CaseId:
    return CaseId(uuid4())


@pytest.fixture
async def reporting(untouched: Reporting) -> Reporting:
    await untouched.activate(*ReadType)
    return untouched


@pytest.fixture
async def untouched(open_database: OpenDatabase) -> Reporting:
    """Reporting on which nobody has switched any read type."""
    return await start(open_database)


async def start(
    open_database: OpenDatabase, *, pool_size: int = 24, seconds: Callable[[], float] = time.monotonic
) -> Reporting:
    clock, access = Clock(), Access()
    new_id = UUID7(clock)
    database = await open_database("reporting", ReportingTransaction, clock, new_id, pool_size)
    return Reporting(
        database,
        clock,
        access,
        Readings(database, access, new_id, LEASE, seconds),
        ReadTypes(database, access),
        a_case(),
    )


def texts(written: Written) -> list[str]:
    return [each.text for each in _all(written)]


def _all(written: Written) -> Iterable[Any]:
    return [*written.reports, *written.drafts]
