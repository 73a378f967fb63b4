"""Healing: what was lost on its way comes; what cannot be healed keeps nothing else from it."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from kernel.errors import Invalid, Unavailable
from kernel.events import FacilityChanged, StudyChanged, StudyReceived
from kernel.healing import Kind, Said, Versions
from local.embedded import EmbeddedServers
from local.pki import Pki
from plumbing import rpc, toldagain
from plumbing.answers import BadAnswer
from plumbing.db import Database
from plumbing.healing import OVERLAP, Healing
from plumbing.timestamps import timestamp
from plumbing.tokenkeys import KeyFile
from plumbing.tokens import Verifier
from plumbing.toldagain import FactsClient
from tests.healing import healing
from tests.plumbing.telling import CLOCK, Ledger, a_database, new_id, say
from wire.facts.v1 import facts_pb2 as pb
from wire.facts.v1 import facts_pb2_grpc

if TYPE_CHECKING:
    from wire.facts.v1.facts_pb2_grpc import FactsServiceAsyncStub

IDS = [UUID(int=number) for number in range(1, 6)]
NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
async def database(servers: EmbeddedServers) -> AsyncIterator[Database[Ledger]]:
    async with a_database(servers) as made:
        yield made


@dataclass
class Owner:
    """What an owner answers, and what was caught up with of it."""

    versions: dict[UUID, int] = field(default_factory=dict)
    facts: list[tuple[datetime, UUID, int]] = field(default_factory=list)
    now: datetime = NOW
    away: bool = False
    poison: set[UUID] = field(default_factory=set)
    known: dict[UUID, int] = field(default_factory=dict)
    asked_after: list[UUID | None] = field(default_factory=list)

    def change(self, *ids: UUID, told: bool = True) -> None:
        for id_ in ids:
            self.versions[id_] = self.versions.get(id_, 0) + 1
            if told:
                self.facts.append((self.now, id_, self.versions[id_]))

    def passes(self, **time: float) -> None:
        self.now += timedelta(**time)

    async def said(self, since: datetime | None, token: str) -> Said:
        self.answer()
        if since is None or not self.now - timedelta(days=7) < since <= self.now:
            return Said([], "", self.now, complete=False)
        found = [(id_, version) for at, id_, version in self.facts if at >= since]
        first = int(token or 0)
        rest = str(first + 2) if len(found) > first + 2 else ""
        return Said(found[first : first + 2], rest, self.now, complete=True)

    async def page(self, after: UUID | None) -> Versions:
        self.answer()
        self.asked_after.append(after)
        return sorted(each for each in self.versions.items() if after is None or each[0] > after)[:2]

    async def stale(self, told: Mapping[UUID, int]) -> Collection[UUID]:
        return [id_ for id_, version in told.items() if self.known.get(id_, 0) < version]

    async def catch_up(self, id_: UUID) -> bool:
        self.answer()
        if id_ in self.poison:
            raise KeyError(id_)
        self.known[id_] = self.versions[id_]
        return True

    def answer(self) -> None:
        if self.away:
            raise Unavailable("`ingest` does not answer")

    def kind(self, name: str = "studies") -> Kind:
        return Kind(name, self.said, self.page, self.stale, self.catch_up)


async def known_so_far(database: Database[Ledger], owner: Owner) -> Healing[Ledger]:
    """The owner has been compared and heard once."""
    made = Healing(database, [owner.kind()], new_id(), share=0)
    assert await made.hear() == 0
    await made.compare()
    assert owner.known == owner.versions
    return made


async def test_the_first_time_everything_is_compared(database: Database[Ledger]) -> None:
    owner = Owner()
    owner.change(*IDS, told=False)
    healing = Healing(database, [owner.kind()], new_id(), share=0)
    assert await healing.hear() == 0
    assert await healing.compare() == 5
    assert owner.known == owner.versions


async def test_a_lost_fact_heals_by_what_was_said_since_the_last_time_and_nothing_is_compared(
    database: Database[Ledger],
) -> None:
    owner = Owner()
    owner.change(*IDS)
    healing = await known_so_far(database, owner)
    owner.asked_after.clear()
    for _ in range(3):
        owner.passes(hours=1)
        owner.change(*IDS[:3])
        assert await healing.hear() == 3
        assert await healing.hear() == 0
        assert await healing.compare() == 0
    assert owner.known == owner.versions
    assert owner.asked_after == []


async def test_what_was_marked_as_published_late_is_not_missed(database: Database[Ledger]) -> None:
    owner = Owner()
    healing = await known_so_far(database, owner)
    owner.passes(hours=1)
    await healing.hear()
    owner.versions[IDS[0]] = 1
    owner.facts.append((owner.now - OVERLAP, IDS[0], 1))
    owner.passes(hours=1)
    assert await healing.hear() == 1


@pytest.mark.parametrize("away", [timedelta(days=8), timedelta(days=-300)], ids=["too long", "a wrong clock"])
async def test_what_the_owner_cannot_tell_again_is_compared(
    database: Database[Ledger], away: timedelta
) -> None:
    owner = Owner()
    owner.change(*IDS)
    healing = await known_so_far(database, owner)
    owner.change(IDS[3])
    owner.now += away
    assert await healing.hear() == 0
    assert await healing.compare() == 1
    owner.change(IDS[4])
    assert await healing.hear() == 1


async def test_one_that_cannot_be_healed_keeps_no_other_and_is_tried_again(
    database: Database[Ledger],
) -> None:
    owner = Owner(poison={IDS[1]})
    owner.change(*IDS)
    healing_ = healing(database, [owner.kind()])
    with pytest.raises(Unavailable, match=r"^1 could not be healed"):
        await healing_.compare()
    assert list(owner.known) == [IDS[0], *IDS[2:]]
    owner.passes(hours=1)
    await healing_.hear()
    owner.change(*IDS[:2])
    with pytest.raises(Unavailable, match=r"^1 could not be healed"):
        await healing_.hear()
    assert owner.known[IDS[0]] == 2
    owner.poison.clear()
    assert await healing_.compare() == 1


@pytest.mark.parametrize("failure", [Unavailable("routing does not answer"), ValueError("not a UUID")])
async def test_a_page_that_fails_keeps_no_other_kind(database: Database[Ledger], failure: Exception) -> None:
    async def fail(_after: UUID | None) -> Versions:
        raise failure

    owner = Owner()
    owner.change(IDS[0])
    failing = Kind("cases", owner.said, fail, owner.stale, owner.catch_up)
    with pytest.raises(Unavailable, match=r"^1 could not be healed"):
        await healing(database, [failing, owner.kind()]).compare()
    assert list(owner.known) == IDS[:1]


async def test_an_owner_that_answers_the_same_page_for_ever_is_left(database: Database[Ledger]) -> None:
    async def the_same(_after: UUID | None) -> Versions:
        return [(IDS[0], 1)]

    async def said_again(_since: datetime | None, _token: str) -> Said:
        return Said([(IDS[0], 1)], "more", NOW, complete=True)

    owner = Owner()
    owner.change(IDS[0])
    healing_ = healing(database, [Kind("cases", said_again, the_same, owner.stale, owner.catch_up)])
    for act in (healing_.compare, healing_.hear):
        with pytest.raises(Unavailable):
            await act()
    assert list(owner.known) == IDS[:1]


async def test_a_comparison_goes_on_where_the_owner_went_away(database: Database[Ledger]) -> None:
    owner = Owner()
    owner.change(*IDS)

    async def goes_away(after: UUID | None) -> Versions:
        owner.away = after == IDS[1]
        return await owner.page(after)

    healing_ = healing(database, [Kind("studies", owner.said, goes_away, owner.stale, owner.catch_up)])
    with pytest.raises(Unavailable):
        await healing_.compare()
    assert list(owner.known) == IDS[:2]
    owner.away = False
    owner.asked_after.clear()
    assert await healing(database, [owner.kind()]).compare() == 3
    assert owner.asked_after[0] == IDS[1]


async def test_what_could_not_be_asked_for_is_heard_the_next_time(database: Database[Ledger]) -> None:
    owner = Owner()
    healing = await known_so_far(database, owner)
    owner.change(*IDS)

    async def away(_id: UUID) -> bool:
        raise Unavailable("`ingest` does not answer")

    deaf = Healing(database, [Kind("studies", owner.said, owner.page, owner.stale, away)], new_id(), share=0)
    with pytest.raises(Unavailable):
        await deaf.hear()
    owner.passes(hours=2)
    assert await healing.hear() == 5


async def test_of_many_processes_one_compares(database: Database[Ledger]) -> None:
    owner = Owner()
    owner.change(*IDS)
    many = [Healing(database, [owner.kind()], new_id(), share=0) for _ in range(4)]
    assert sorted(await asyncio.gather(*(each.compare() for each in many))) == [0, 0, 0, 5]


# What an owner tells again


STUDIES = [StudyReceived.subject, StudyChanged.subject]


async def publish(database: Database[Ledger], at: datetime | None = None) -> datetime:
    """Everything in the outbox, as a relay marks it."""
    async with database.statements() as statements:
        published_at = at or statements.now
        await statements.connection.execute(
            "update outbox set published_at = $1 where published_at is null", published_at
        )
    return published_at


@pytest.fixture
async def facts(database: Database[Ledger], pki: Pki) -> AsyncIterator["FactsServiceAsyncStub"]:
    """The contract, as ingest serves it to access."""
    server = rpc.Server("ingest", "127.0.0.1:0", pki.tls("ingest"), Verifier(KeyFile(pki.token_keys), CLOCK))
    toldagain.serve(server, database)
    port = await server.start()
    channel = rpc.connect(f"127.0.0.1:{port}", "ingest", pki.tls("access"))
    yield facts_pb2_grpc.FactsServiceStub(channel)
    await channel.close()
    await server.stop(0)


async def test_an_owner_tells_again_what_it_published_since_then(
    database: Database[Ledger], facts: "FactsServiceAsyncStub"
) -> None:
    long_ago = CLOCK.now() - timedelta(days=2)
    await say(database, StudyReceived(IDS[0], 1))
    await publish(database, long_ago)
    await say(database, *(StudyChanged(id_, 2) for id_ in IDS), FacilityChanged(IDS[0], 7))
    published_at = await publish(database)
    await say(database, StudyChanged(IDS[0], 3))  # not published yet

    answer = await facts.ListFacts(pb.ListFactsRequest(since=timestamp(published_at), subjects=STUDIES))
    assert [(each.id, each.version) for each in answer.facts] == [(str(id_), 2) for id_ in IDS]
    assert answer.complete
    assert answer.as_of.ToDatetime(UTC) >= published_at
    answer = await facts.ListFacts(pb.ListFactsRequest(since=timestamp(long_ago), subjects=STUDIES))
    assert len(answer.facts) == 6


async def test_pages_of_what_it_tells_again_leave_nothing_out(
    database: Database[Ledger], facts: "FactsServiceAsyncStub"
) -> None:
    ids = [new_id() for _ in range(1100)]
    await say(database, *(StudyReceived(id_, 1) for id_ in ids))
    since = await publish(database)
    told, token, pages = [], "", 0
    while token or not pages:
        answer = await facts.ListFacts(
            pb.ListFactsRequest(since=timestamp(since), subjects=STUDIES, page_token=token)
        )
        told += [UUID(each.id) for each in answer.facts]
        token, pages = answer.next_page_token, pages + 1
    assert (told, pages) == (ids, 3)


async def test_it_says_when_it_cannot_know_everything_since_then(
    database: Database[Ledger], facts: "FactsServiceAsyncStub"
) -> None:
    await say(database, StudyReceived(IDS[0], 1))
    await publish(database)
    now = CLOCK.now()
    for since in (None, now - timedelta(days=7), now + timedelta(hours=1)):  # never asked, pruned, ahead
        answer = await facts.ListFacts(pb.ListFactsRequest(since=timestamp(since), subjects=STUDIES))
        assert not answer.complete
        assert not answer.facts
        assert answer.HasField("as_of")


BAD: Sequence[pb.ListFactsRequest] = [
    pb.ListFactsRequest(),
    pb.ListFactsRequest(subjects=STUDIES * 9),
    pb.ListFactsRequest(subjects=["study.received.v1'; drop table outbox"]),
    pb.ListFactsRequest(subjects=STUDIES, page_token="no token"),
    pb.ListFactsRequest(subjects=STUDIES, since=Timestamp(seconds=1 << 60)),
]


async def test_what_cannot_be_asked_is_refused(facts: "FactsServiceAsyncStub") -> None:
    for request in BAD:
        with pytest.raises(Invalid):
            await facts.ListFacts(request)


async def test_a_fact_that_never_came_heals_from_the_outbox_of_its_owner(
    servers: EmbeddedServers, database: Database[Ledger], pki: Pki
) -> None:
    """Over the wire, from one database to the other."""
    server = rpc.Server("ingest", "127.0.0.1:0", pki.tls("ingest"), Verifier(KeyFile(pki.token_keys), CLOCK))
    toldagain.serve(server, database)
    port = await server.start()
    channel = rpc.connect(f"127.0.0.1:{port}", "ingest", pki.tls("access"))
    owner = Owner()
    said = partial(FactsClient(channel).said, [StudyReceived, StudyChanged])
    async with a_database(servers) as ours:
        healing_ = Healing(ours, [Kind("studies", said, owner.page, owner.stale, owner.catch_up)], new_id())
        await healing_.hear()
        await healing_.compare()
        owner.change(IDS[0])
        await say(database, StudyReceived(IDS[0], 1))
        await publish(database)
        assert await healing_.hear() == 1
    await channel.close()
    await server.stop(0)


async def test_an_owner_of_the_version_before_is_told_apart_from_one_that_is_away(
    database: Database[Ledger], pki: Pki
) -> None:
    """It knows nothing of the contract: the comparison finds what it has."""
    server = rpc.Server("ingest", "127.0.0.1:0", pki.tls("ingest"), Verifier(KeyFile(pki.token_keys), CLOCK))
    port = await server.start()
    channel = rpc.connect(f"127.0.0.1:{port}", "ingest", pki.tls("access"))
    owner = Owner()
    owner.change(*IDS)
    said = partial(FactsClient(channel).said, [StudyReceived])
    with pytest.raises(BadAnswer):
        await said(None, "")
    healing_ = healing(database, [Kind("studies", said, owner.page, owner.stale, owner.catch_up)])
    with pytest.raises(Unavailable):
        await healing_.hear()
    assert await healing_.compare() == 5
    await channel.close()
    await server.stop(0)
