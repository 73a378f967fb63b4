"""The attacker has the NATS user of a service, or the one who sets the bus up, and tries to do more than that
user is for."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from uuid import uuid4

import msgspec
import nats
import pytest
from nats.aio.client import Client
from nats.js.errors import APIError

from kernel.events import FACTS, HEARS, SAYS, CaseDeleted, CasePurged, Fact, wire_subject
from local.embedded import EmbeddedServers
from plumbing.bus import Bus
from plumbing.components import SERVICES
from plumbing.hearing import Consumer, Hearing
from plumbing.permissions import SETUP, inbox
from plumbing.stream import JSZ, STREAM
from tests.plumbing.telling import (
    CLOCK,
    Ledger,
    a_database,
    an_empty_stream,
    ledger,
    letters,
    new_id,
    no_snapshot,
    running,
    write,
)
from tests.wait import eventually

USERS = (*SERVICES, SETUP)
STREAM_VERBS = ("PURGE", "SNAPSHOT", "RESTORE", "MSG.GET", "MSG.DELETE", "PEER.REMOVE", "LEADER.STEPDOWN")
OWNERS_VERBS = ("CREATE", "UPDATE", "DELETE")
WIRE = {wire_subject(fact.subject, service) for service in SERVICES for fact in SAYS[service]}


def foreign_subjects(user: str) -> Sequence[str]:
    """What this user has no business to publish."""
    others = [each for each in USERS if each != user]
    said = {wire_subject(fact.subject, user) for fact in SAYS.get(user, ())}
    subjects = {
        *(WIRE | set(FACTS)) - said,  # the unsuffixed `case.purged.v1` is nobody's
        *(f"$JS.API.STREAM.{verb}.{STREAM}" for verb in STREAM_VERBS),
        *(f"$JS.API.STREAM.{verb}.OTHER" for verb in OWNERS_VERBS),
        *(f"$JS.API.{each}" for each in ("INFO", "STREAM.NAMES", "STREAM.LIST", "META.LEADER.STEPDOWN")),
        f"$JS.API.DIRECT.GET.{STREAM}",
        f"$JS.API.DIRECT.GET.{STREAM}.case.deleted.v1",
        f"$JS.API.CONSUMER.CREATE.{STREAM}",
        f"$JS.API.CONSUMER.LIST.{STREAM}",
        f"$JS.API.CONSUMER.PAUSE.{STREAM}.ingest",
        f"$JS.API.CONSUMER.CREATE.{STREAM}.{user}.case.deleted.v1",
        f"$JS.API.CONSUMER.DURABLE.CREATE.{STREAM}.{user}",
        *(f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{each}" for each in others),
        *(f"$JS.ACK.{STREAM}.{each}.1.1.1.1.1" for each in others),
        *(f"{inbox(each)}.answer" for each in others),
        "_INBOX.somebody",
    }
    if user != SETUP:
        subjects |= {
            *(f"$JS.API.STREAM.{verb}.{STREAM}" for verb in OWNERS_VERBS),
            *(f"$JS.API.CONSUMER.{verb}.{STREAM}.{each}" for verb in ("CREATE", "DELETE") for each in USERS),
            *(f"$JS.API.CONSUMER.INFO.{STREAM}.{each}" for each in others),
            f"$JS.API.CONSUMER.NAMES.{STREAM}",
        }
    return sorted(subjects)


def foreign_ears(user: str) -> Sequence[str]:
    """What this user has no business to hear."""
    others = [each for each in USERS if each != user]
    return (
        *(f"{inbox(each)}.>" for each in others),
        *("_INBOX.>", "_INBOX.*.*", "_INBOX.*", "$JS.>", "$JS.API.>", "$JS.EVENT.>", "$SYS.>", ">", "*.>"),
        *("case.>", "*.*.*", *FACTS),
    )


@asynccontextmanager
async def a_client(
    servers: EmbeddedServers, user: str, refused: Callable[[str], None]
) -> AsyncIterator[Client]:
    async def note(error: Exception) -> None:
        refused(str(error).lower())

    client = await nats.connect(servers.nats.url(user), error_cb=note, inbox_prefix=inbox(user))
    yield client
    await client.close()


@pytest.mark.proves("ING-7", part="nobody but ingest says that a case is deleted")
@pytest.mark.parametrize("user", USERS)
async def test_a_user_of_the_bus_does_what_it_is_for_and_nothing_else(
    servers: EmbeddedServers, user: str
) -> None:
    subjects, ears = foreign_subjects(user), foreign_ears(user)
    refused: list[str] = []
    async with a_client(servers, user, refused.append) as client:
        before = await info(servers)
        for subject in subjects:
            await client.publish(subject, b"{}")
        for ear in ears:
            await client.subscribe(ear)
            await client.subscribe(ear, queue="workers")
        await client.flush()

        async def all_refused() -> bool:
            return len(refused) == len(subjects) + 2 * len(ears)

        await eventually(all_refused)
        assert all("permissions violation" in each for each in refused)
        assert client.is_connected
        assert await info(servers) == before


async def info(servers: EmbeddedServers) -> object:
    """Configuration, counts and consumers."""
    client = await nats.connect(servers.nats_url)
    try:
        answer = await client.request(f"$JS.API.STREAM.INFO.{STREAM}", b'{"deleted_details":true}')
        told = msgspec.json.decode(answer.data)
        return told["config"], told["state"]
    finally:
        await client.close()


@pytest.mark.proves("SEC-14", part="who says a fact is who the bus says it is")
async def test_jetstream_brings_no_fact_under_a_subject_that_only_another_says(
    servers: EmbeddedServers,
) -> None:
    """It sends its answers, and the messages it hands out, to whatever subject a request names."""
    await an_empty_stream(servers, HEARS)
    foreign = wire_subject(CasePurged.subject, "sharing")
    requests = {
        f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.reporting": b'{"batch":1,"expires":100000000}',
        f"$JS.API.STREAM.INFO.{STREAM}": b"",
        f"$JS.API.CONSUMER.INFO.{STREAM}.reporting": b"",
        JSZ: b"",
    }
    almighty = await nats.connect(servers.nats_url)
    deleted = msgspec.json.encode(CaseDeleted(new_id(), 1))
    for _ in range(2):  # without event id: the stream takes copies
        await almighty.jetstream().publish(CaseDeleted.subject, deleted)
    async with a_client(servers, "reporting", pytest.fail) as reporting:
        for _ in range(4):
            for request, body in requests.items():
                await reporting.publish(request, body, reply=foreign)

    async def brought() -> bool:
        answer = await almighty.request(f"$JS.API.STREAM.INFO.{STREAM}", b'{"subjects_filter":">"}')
        subjects = msgspec.json.decode(answer.data)["state"]["subjects"]
        return bool(subjects.get(foreign, 0) >= 12 and subjects[CaseDeleted.subject] > 2)

    await eventually(brought)
    ingest = await Bus.connect(servers.nats.url("ingest"), "ingest")
    async with a_database(servers) as database:
        hearing = Hearing(CasePurged, no_snapshot, write)
        async with running(Consumer(ingest, database, "ingest", [hearing], CLOCK).run):

            async def all_refused() -> bool:
                told = await almighty.jetstream().consumer_info(STREAM, "ingest")
                return (told.num_pending, told.num_ack_pending) == (0, 0)

            await eventually(all_refused)
        assert await ledger(database) == {}
        assert len(await letters(database)) >= 12
    await ingest.close()
    await almighty.close()
    await an_empty_stream(servers, HEARS)


@pytest.mark.parametrize("header", [{"Nats-Rollup": "all"}, {"Nats-Rollup": "sub"}, {"Nats-TTL": "1s"}])
async def test_no_header_of_a_fact_of_ones_own_removes_facts(
    servers: EmbeddedServers, header: dict[str, str]
) -> None:
    await an_empty_stream(servers, HEARS)
    ingest = await Bus.connect(servers.nats.url("ingest"), "ingest")
    await ingest.publish(CaseDeleted.subject, b"{}", uuid4(), {})
    await ingest.close()
    before = await info(servers)
    async with a_client(servers, "reporting", pytest.fail) as reporting:
        with pytest.raises(APIError):
            await reporting.jetstream().publish("reading.changed.v1", b"{}", headers=header)
    assert await info(servers) == before


async def test_an_old_message_without_a_sayer_is_read_and_says_for_nobody(servers: EmbeddedServers) -> None:
    """So the version before said it; whatever its payload names, it confirms nothing."""
    await an_empty_stream(servers, HEARS)
    case_id, heard = new_id(), list[CasePurged]()

    async def note(_ledger: Ledger, fact: Fact, _nothing: None) -> None:
        assert isinstance(fact, CasePurged)
        heard.append(fact)

    client = await nats.connect(servers.nats_url)
    payload = msgspec.json.encode({"id": case_id, "version": 1, "by": "routing"})
    for subject in ("case.purged.v1", "case.purged.v1.access"):
        await client.jetstream().publish(subject, payload, headers={"Nats-Msg-Id": str(uuid4())})
    await client.close()
    bus = await Bus.connect(servers.nats.url("ingest"), "ingest")
    async with a_database(servers) as database:
        hearing: Hearing[Ledger, None] = Hearing(CasePurged, no_snapshot, note)
        consumer = Consumer(bus, database, "ingest", [hearing], CLOCK)
        async with running(consumer.run):
            await eventually(lambda: len(heard) == 2)
    assert sorted(fact.by for fact in heard) == ["", "access"]
    await bus.close()
