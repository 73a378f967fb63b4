"""Position: a service of ours that is compromised, broken, or of another version.

Whatever it answers, it ends no process of another service and keeps nothing else from being done.
"""

import importlib
import inspect
import typing
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from kernel.clock import MonotonicClock
from kernel.errors import Exhausted, ReadroomError, Unavailable
from kernel.events import CaseDeleted, CasePlaced, Fact, ShareCreated, StudyReceived, UserChanged
from kernel.ids import UUID7
from kernel.language import Language
from local.embedded import EmbeddedServers
from local.pki import Pki
from plumbing import answers, rpc
from plumbing.bus import Bus
from plumbing.components import SERVICES
from plumbing.db import Database
from services.access.clients import IngestClient, ReportingClient, RoutingClient
from services.access.indexing import CaseIndex
from services.access.store import AccessTransaction
from services.ingest import events
from services.ingest.clients import AccessClient
from services.ingest.deletion import Deletions
from services.ingest.store import IngestTransaction
from services.sharing.domain import Rights
from tests.access.service import Reporting, Routing
from tests.attacks.bad_peers import ANSWERS, STATUSES, BadPeers, bad_peers
from tests.healing import heal
from tests.hosting import hosted
from tests.ingest.test_deletion_timers import NoRouting
from tests.ingest.writing import WriterOfTheTest
from tests.sharing.builders import a_bucket
from tests.wait import eventually
from wire.reporting.v1 import reporting_pb2
from wire.routing.v1 import routing_pb2

ROOT = Path(__file__).parents[2]
CLOCK = MonotonicClock()
NEW_ID = UUID7(CLOCK)


@pytest.fixture
async def peers(pki: Pki) -> AsyncIterator[BadPeers]:
    async with bad_peers(pki) as started:
        yield started


# Every client


def clients() -> list[type]:
    """Every class that asks another service."""
    found = []
    for name in SERVICES:
        module = importlib.import_module(f"services.{name}.clients")
        found += [
            each
            for each in vars(module).values()
            if inspect.isclass(each) and each.__module__ == module.__name__ and each.__name__ != "Joined"
        ]
    return found


@pytest.mark.parametrize("client", clients(), ids=lambda each: f"{each.__module__}.{each.__name__}")
def test_every_client_makes_words_of_answers(client: type) -> None:
    """A method that reads an answer outside `answers.of` may end a process with what a peer says."""
    assert hasattr(client, answers.MARK)


def test_nobody_but_clients_asks_in_a_service() -> None:
    asks = [
        path
        for path in (ROOT / "services").rglob("*.py")
        if path.name != "clients.py" and "Stub(" in path.read_text()
    ]
    assert [] == asks


class AnyShare:
    """A share as far as it is told to access."""

    case_ids = (uuid4(),)
    buckets = (a_bucket(),)
    rights = Rights.READ_REPORT
    allow_further_sharing = False
    parent_bucket_id = None


def an_argument(kind: Any) -> Any:
    """Any argument of this type."""
    if hasattr(kind, "__supertype__") or kind is UUID:
        return uuid4()
    if kind in (str, bool, int):
        return kind(1)
    if kind is Language:
        return Language.EN
    if typing.get_origin(kind) is None:
        return AnyShare()
    inside = [each for each in typing.get_args(kind) if each is not type(None)]
    if type(None) in typing.get_args(kind):
        return an_argument(inside[0])
    if isinstance(inside[0], type) and inside[0].__name__ == "Change":
        return []
    return [an_argument(inside[0])]


async def failure(asked: Awaitable[object]) -> ReadroomError | None:
    """The word that it ended with, if it did; another exception passes."""
    try:
        await asked
    except ReadroomError as error:
        return error
    return None


@pytest.mark.parametrize("client", clients(), ids=lambda each: f"{each.__module__}.{each.__name__}")
async def test_whatever_a_peer_answers_is_a_word_or_a_value(client: type, peers: BadPeers, pki: Pki) -> None:
    server = getattr(client, answers.MARK)
    caller = client.__module__.split(".")[1]
    methods = {
        name: method
        for name, method in vars(client).items()
        if inspect.iscoroutinefunction(method) and not name.startswith("_")
    }
    assert methods
    async with rpc.connect(peers.addresses[server], server, pki.tls(caller)) as channel:
        asking = client(channel)
        for name, method in methods.items():
            hints = {
                each: kind
                for each, kind in typing.get_type_hints(inspect.unwrap(method)).items()
                if each != "return"
            }
            keywords = {
                each
                for each, parameter in inspect.signature(method).parameters.items()
                if parameter.kind is parameter.KEYWORD_ONLY
            }
            for way in STATUSES + ANSWERS:
                peers.way = way
                positional = [an_argument(kind) for each, kind in hints.items() if each not in keywords]
                named = {each: an_argument(hints[each]) for each in keywords}
                error = await failure(getattr(asking, name)(*positional, **named))
                if error is None:
                    assert way in ("nonsense", "empty"), (name, way)
                else:
                    assert isinstance(error, Unavailable | Exhausted), (name, way)
                    assert "Doe" not in error.sentence


# Every service


NEEDS: Mapping[str, Mapping[str, str]] = {
    "access": {"REVISION_KEY": "k" * 32},
    "reporting": {},
    "routing": {},
    "sharing": {"LINK_SECRET": "s" * 43, "CODE_PEPPER": "p" * 32},
    "notify": {
        "SMTP_ADDRESS": "127.0.0.1:1",
        "SMTP_TLS": "none",
        "MAIL_FROM": "readroom@group.example",
        "LINK_BASE": "https://readroom.example/shared/",
        "TEXT_URL": "http://127.0.0.1:1/",
        "TEXT_TOKEN": "sesame",
    },
}
"""What each service is told beside where its peers are."""

ASKS: Mapping[str, set[str]] = {
    "access": {
        "routing.ListVersions",
        "ingest.ListVersions",
        "reporting.ListVersions",
        "routing.DescribePlacement",
        "ingest.DescribeDeletion",
    },
    "reporting": {"access.CheckDeletion"},
    "routing": {"ingest.ListVersions", "ingest.DescribeStudy", "ingest.DescribeDeletion"},
    "sharing": {"access.CheckDeletion"},
    "notify": {"access.ListVersions", "access.DescribeUsers", "sharing.DescribeBucket"},
}
"""What each asks by timer, and because of the facts that the test tells."""

FACTS: tuple[type[Fact], ...] = (CasePlaced, StudyReceived, CaseDeleted, ShareCreated, UserChanged)


@pytest.mark.parametrize("way", ["INTERNAL", "nonsense"])
@pytest.mark.parametrize("name", NEEDS)
async def test_no_answer_of_a_peer_ends_a_task_of_a_service(
    name: str,
    way: str,
    peers: BadPeers,
    servers: EmbeddedServers,
    pki: Pki,
    fresh_database: Callable[[str], str],
) -> None:
    peers.way = way
    main = importlib.import_module(f"services.{name}.main")
    addresses = {
        f"{peer.upper()}_ADDRESS": address
        for peer, address in peers.addresses.items()
        if f"{peer}_address" in main.Settings.model_fields
    }
    async with AsyncExitStack() as resources:
        url = fresh_database(name)
        # It asserts at its end that every task still runs.
        await hosted(name, main, servers, pki, url, CLOCK, {**NEEDS[name], **addresses}, resources)
        bus = await Bus.connect(servers.nats_url, "peers")
        resources.push_async_callback(bus.close)
        for fact in FACTS:
            await bus.publish(fact.subject, msgspec.json.encode(fact(uuid4(), 1)), uuid4(), {})
        await eventually(lambda: peers.asked >= ASKS[name])


# What is good beside what is bad


async def test_access_heals_what_it_can_beside_what_it_cannot(
    pki: Pki, peers: BadPeers, fresh_database: Callable[[str], str]
) -> None:
    """Routing names a case whose placement nobody can read; ingest answers INTERNAL to everything."""
    async with AsyncExitStack() as resources:
        database = await Database.connect(
            fresh_database("access"), AccessTransaction, clock=CLOCK, new_id=NEW_ID
        )
        resources.push_async_callback(database.close)
        routing, reporting = Routing(), Reporting()  # type: ignore[abstract]
        channels = {"ingest": peers.addresses["ingest"]}
        for name, servicer in (("routing", routing), ("reporting", reporting)):
            module = importlib.import_module(f"wire.{name}.v1.{name}_pb2_grpc")
            server = rpc.Server(name, "127.0.0.1:0", pki.tls(name), None)
            register = getattr(module, f"add_{name.capitalize()}ServiceServicer_to_server")
            server.add(register, servicer, f"wire.{name}.v1.{name.capitalize()}Service")
            channels[name] = f"127.0.0.1:{await server.start()}"
            resources.push_async_callback(server.stop, 0.1)
        opened = {
            name: await resources.enter_async_context(rpc.connect(address, name, pki.tls("access")))
            for name, address in channels.items()
        }
        index = CaseIndex(
            database,
            RoutingClient(opened["routing"]),
            IngestClient(opened["ingest"]),
            ReportingClient(opened["reporting"]),
        )
        good, bad = sorted(str(uuid4()) for _ in range(2))[::-1]
        north = str(uuid4())
        routing.facilities[north] = routing_pb2.Facility(facility_id=north, name="North", version=1)
        for case_id, facility_id in ((good, north), (bad, "nonsense")):
            placement = routing_pb2.Placement(
                case_id=case_id, facility_id=facility_id, study_instance_uid="1.2.3", version=1
            )
            placement.placed_at.FromDatetime(datetime.now(UTC))
            routing.placements[case_id] = placement
        reporting.readings[good] = reporting_pb2.DescribeReadingResponse(case_id=good, version=1)

        with pytest.raises(Unavailable, match="could not be healed"):
            await heal(database, index.kinds())

        async with database.statements() as statements:
            fetch = statements.connection.fetch
            cases = [str(row["case_id"]) for row in await fetch("select case_id from cases")]
            readings = [str(row["case_id"]) for row in await fetch("select distinct case_id from readings")]
    assert (cases, readings) == ([good], [good])


async def test_ingest_asks_for_each_deletion_whatever_it_was_answered_for_the_one_before(
    pki: Pki, peers: BadPeers, fresh_database: Callable[[str], str]
) -> None:
    url = fresh_database("ingest")
    database = await Database.connect(url, IngestTransaction, clock=CLOCK, new_id=NEW_ID)
    try:
        tls = pki.tls("ingest")
        async with rpc.connect(peers.addresses["access"], "access", tls) as channel:
            for way in ("INTERNAL", "nonsense"):
                peers.way = way
                deletions = Deletions(
                    database,
                    AccessClient(channel),
                    NoRouting(),
                    _no_files(),
                    WriterOfTheTest(),
                    NEW_ID,
                )
                with pytest.raises(Unavailable):
                    await deletions.delete_study("ada", NEW_ID(), force=False)  # type: ignore[arg-type]
                await events.resume(deletions)
        async with database.statements() as statements:
            assert await statements.connection.fetchval("select count(*) from deletions") == 2
    finally:
        await database.close()


def _no_files() -> Any:
    return object()
