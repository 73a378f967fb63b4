"""Access as a process: `python -m services access`."""

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from pydantic import SecretStr

from kernel.clock import Clock, MonotonicClock
from kernel.countries import DEFAULT
from kernel.ids import UUID7, NewId
from plumbing import runtime, timers
from plumbing.callers import acting_login
from plumbing.config import Address, Countries, ServiceSettings
from plumbing.db import Database
from plumbing.healing import Healing
from plumbing.leases import Lease
from plumbing.permitted import Holds
from plumbing.service import open_parts
from services.access import api, events, identityapi
from services.access.administration import Users
from services.access.assignment import Assignments
from services.access.clients import IngestClient, ReportingClient, RoutingClient
from services.access.cursors import CursorTokens
from services.access.deletion import Deletions
from services.access.describing import Describing
from services.access.domain import Permission
from services.access.explaining import Explaining
from services.access.exporting import Exports
from services.access.filtering import Filters
from services.access.folders import Folders
from services.access.granting import Buckets
from services.access.identities import Identities
from services.access.indexing import CaseIndex
from services.access.linking import Linking
from services.access.linting import Linting
from services.access.listed import ListedCases
from services.access.me import Myself
from services.access.moves import Moves
from services.access.places import PlaceTokens
from services.access.preparing import Preparing
from services.access.revision import RevisionTokens
from services.access.store import AccessTransaction
from services.access.telling import Telling
from services.access.usecases import Questions
from services.access.walking import Pace
from services.access.watching import Watching

NAME = "access"

LISTING_CONNECTIONS = 4
"""For worklists, beside those of all else: a list that takes its time keeps nobody from a check."""

KEPT_SETTINGS = {"plan_cache_mode": "force_generic_plan"}
"""For statements that look cases up by their ids, which have one good plan. Left to itself PostgreSQL plans
each of them anew, among many cases: that takes five times as long as a Check."""

LISTING_SETTINGS = {
    "plan_cache_mode": "force_custom_plan",  # how many cases something finds, its parameters say
    "max_parallel_workers_per_gather": "0",  # a page reads little, and others wait for the processors
    "statement_timeout": "2s",  # a window that takes longer is looked at in parts; below COMMAND_S
}


class Settings(ServiceSettings):
    """What access is told beyond what every service is.

    Attributes:
        ingest_address, routing_address, reporting_address: gRPC addresses of those whose facts it hears.
        text_countries: as notify is told: ISO 3166 codes of the countries that text messages are sent to.
        revision_key: encrypts tokens of revisions, places in lists and cursors; at least 32 characters, the
            same at each instance.
        revision_key_also: another key whose tokens count, while the key changes.
    """

    prefix = "READROOM_ACCESS_"

    ingest_address: Address
    routing_address: Address
    reporting_address: Address
    text_countries: Countries = DEFAULT
    revision_key: SecretStr
    revision_key_also: SecretStr = SecretStr("")


async def build(
    settings: Settings, clock: Clock, new_id: NewId, resources: AsyncExitStack
) -> runtime.Application:
    keys = settings.revision_key.get_secret_value(), settings.revision_key_also.get_secret_value()
    revisions, places = RevisionTokens(*keys), PlaceTokens(*keys)
    parts = await open_parts(NAME, settings, AccessTransaction, clock, new_id, resources)
    database = parts.database
    to_routing = parts.asks("routing", settings.routing_address)
    to_ingest = parts.asks("ingest", settings.ingest_address)
    to_reporting = parts.asks("reporting", settings.reporting_address)

    connect = partial(
        Database.connect,
        settings.secret("database_url"),
        AccessTransaction,
        clock=clock,
        new_id=new_id,
        ca=settings.servers_ca,
    )
    kept = await connect(settings=KEPT_SETTINGS)
    resources.push_async_callback(kept.close)
    lists = await connect(pool_size=LISTING_CONNECTIONS, settings=LISTING_SETTINGS)
    resources.push_async_callback(lists.close)
    questions = Questions(database, clock, kept=kept, lists=lists, pace=Pace())
    watching = Watching(database, questions, clock, lists=lists)
    users = Users(database, new_id)
    filters = Filters(database)
    folders = Folders(database, new_id)
    buckets = Buckets(database)
    ingest = IngestClient(to_ingest)
    deletions = Deletions(database, ingest)
    routing = RoutingClient(to_routing)
    index = CaseIndex(database, routing, ingest, ReportingClient(to_reporting))
    moves = Moves(database, routing, index)
    describing, holder = Describing(database, index), new_id()

    api.serve(
        parts.server,
        api.AccessApi(
            questions,
            users,
            filters,
            folders,
            buckets,
            deletions,
            moves,
            Assignments(database),
            Explaining(database),
            Linking(database, new_id),
            Linting(database),
            Preparing(questions, users, buckets),
            revisions,
            places,
            Telling(watching, CursorTokens(keys[0], clock, keys[1]), revisions),
            ListedCases(questions, Exports(questions, database), places, revisions),
            settings.text_countries,
        ),
    )
    identities = Identities(database, new_id, secrets.token_bytes)
    identityapi.serve(parts.server, identityapi.IdentityApi(Myself(database), identities))
    return parts.application(
        events.hearings(index, deletions),
        holds(questions),
        tasks={
            "heal": Healing(database, index.kinds(), holder).run,
            "describe": partial(
                timers.every,
                events.DESCRIBE_EVERY_S,
                partial(events.look_at_locale, describing),
                partial(events.describe, describing, Lease(database, "describe", holder)),
            ),
            "drop-left-records": partial(
                timers.every,
                events.DROP_LEFT_RECORDS_EVERY_S,
                partial(events.drop_left_records, describing, Lease(database, "drop-left-records", holder)),
            ),
            "filters": partial(timers.every, events.LOOK_EVERY_S, partial(events.look_at, filters)),
            "watch": partial(events.watch, watching),
            "forget-changes": partial(
                timers.every,
                events.FORGET_EVERY_S,
                partial(events.forget_changes, watching, Lease(database, "forget-changes", holder)),
            ),
            "settle-moves": partial(timers.every, events.SETTLE_EVERY_S, partial(events.settle, moves)),
        },
    )


def holds(questions: Questions) -> Holds:
    """Access answers for itself what the other services ask of it."""

    async def holds(permission: str) -> bool:
        allowed, *_ = await questions.check_permission(acting_login(), Permission(permission), None)
        return allowed

    return holds


@asynccontextmanager
async def _beside_the_service(
    url: str, ca: Path | None
) -> AsyncIterator[tuple[Database[AccessTransaction], NewId]]:
    """The database, for whoever has its address."""
    clock = MonotonicClock()
    new_id = UUID7(clock)
    database = await Database.connect(url, AccessTransaction, clock=clock, new_id=new_id, pool_size=1, ca=ca)
    try:
        yield database, new_id
    finally:
        await database.close()


async def create_first_admin(database_url: str, login: str, ca: Path | None = None) -> bool:
    """Creates the first user, who holds `access.admin`; False if there is any user already (A63)."""
    async with _beside_the_service(database_url, ca) as (database, new_id):
        return await Users(database, new_id).create_first_administrator(login) is not None


async def invite(database_url: str, login: str, ca: Path | None = None) -> str:
    """The code of a new invitation of a user; whoever has it becomes them, so no log may hold it."""
    async with _beside_the_service(database_url, ca) as (database, new_id):
        return (await Identities(database, new_id, secrets.token_bytes).invite_first(login)).code.text


def main(environ: Mapping[str, str]) -> int:
    return runtime.run(NAME, Settings, build, environ)
