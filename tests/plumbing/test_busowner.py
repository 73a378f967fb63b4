"""The owner of the bus makes stream and consumers, leaves what is right, and mends what was changed."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import nats
import pytest
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig, StorageType, StreamConfig

from kernel.events import FACTS, HEARS, Fact, StudyChanged, StudyReceived
from local.embedded import EmbeddedServers
from plumbing import bus as bus_module
from plumbing.bus import Bus
from plumbing.busowner import set_up_once
from plumbing.stream import KEPT_S, STREAM
from tests.plumbing.telling import (
    HEARERS,
    a_bus,
    a_database,
    a_hearer,
    a_sayer,
    an_empty_stream,
    forget_stream,
    ledger,
    new_id,
    say,
)
from tests.wait import eventually

SECOND = 10**9
HEARER = "CONSUMER.CREATE.FACTS.hearer"


@pytest.fixture(autouse=True)
async def servers(own_servers: EmbeddedServers) -> EmbeddedServers:
    """With an empty stream."""
    await an_empty_stream(own_servers)
    return own_servers


async def set_up(
    servers: EmbeddedServers, hears: Mapping[str, Sequence[type[Fact]]] = HEARERS
) -> Sequence[str]:
    return await set_up_once(servers.nats.setup_url, hears)


@asynccontextmanager
async def almighty(servers: EmbeddedServers) -> AsyncIterator[Client]:
    client = await nats.connect(servers.nats_url)
    yield client
    await client.close()


async def ask(servers: EmbeddedServers, request: str, body: Any = None) -> Any:
    async with almighty(servers) as client:
        answer = await client.request(f"$JS.API.{request}", msgspec.json.encode(body) if body else b"")
        return msgspec.json.decode(answer.data)


async def change_stream(servers: EmbeddedServers, **changes: Any) -> None:
    config = (await ask(servers, "STREAM.INFO.FACTS"))["config"] | changes
    assert "error" not in await ask(servers, "STREAM.UPDATE.FACTS", config)


async def test_what_is_as_it_should_be_stays_as_it_is(servers: EmbeddedServers) -> None:
    await forget_stream(servers)
    done = await set_up(servers)
    assert done == [f"made the stream `{STREAM}`", *(f"made the consumer `{name}`" for name in HEARERS)]
    before = await ask(servers, "STREAM.INFO.FACTS")
    assert await set_up(servers) == []
    assert (await ask(servers, "STREAM.INFO.FACTS"))["created"] == before["created"]


@pytest.mark.parametrize(
    ("changes", "anew"),
    [
        ({"max_age": SECOND, "duplicate_window": SECOND}, True),
        ({"max_msgs": 1}, True),
        ({"max_msgs_per_subject": 1}, True),
        ({"sealed": True}, True),
        ({"deny_delete": True}, True),  # nobody can take that back
        ({"subjects": ["study.>"]}, False),
        ({"subjects": [*(f"{subject.split('.')[0]}.>" for subject in FACTS), "more.>"]}, False),
        ({"allow_direct": True}, False),
        ({"description": "mine"}, False),
        ({"republish": {"src": ">", "dest": "elsewhere.>"}}, False),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
async def test_a_changed_stream_is_mended_and_made_anew_if_it_may_have_lost_facts(
    servers: EmbeddedServers, changes: dict[str, Any], anew: bool
) -> None:
    changes = {**changes, **({"subjects": sorted(set(changes["subjects"]))} if "subjects" in changes else {})}
    before = await ask(servers, "STREAM.INFO.FACTS")
    await change_stream(servers, **changes)
    (done, *consumers) = await set_up(servers)
    assert all(f"`{name}`" in done for name in changes)
    assert bool(consumers) == anew
    after = await ask(servers, "STREAM.INFO.FACTS")
    assert (after["created"] != before["created"]) == anew
    assert await set_up(servers) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"filter_subjects": ["case.>"]},
        {"max_deliver": 1},
        {"ack_wait": 3600 * SECOND},
        {"metadata": {"whose": "mine"}},
    ],
    ids=lambda value: "-".join(value),
)
async def test_a_changed_consumer_is_mended(servers: EmbeddedServers, changes: dict[str, Any]) -> None:
    wanted = (await ask(servers, "CONSUMER.INFO.FACTS.hearer"))["config"]
    answer = await ask(servers, HEARER, {"stream_name": STREAM, "config": wanted | changes})
    assert "error" not in answer
    (done,) = await set_up(servers)
    assert done.startswith("changed the consumer `hearer`")
    assert (await ask(servers, "CONSUMER.INFO.FACTS.hearer"))["config"] == wanted
    assert await set_up(servers) == []


async def test_a_consumer_that_pushes_and_one_of_a_stranger_are_replaced_and_removed(
    servers: EmbeddedServers,
) -> None:
    await ask(servers, "CONSUMER.DELETE.FACTS.hearer")
    for name in ("hearer", "stranger"):
        config = {"name": name, "durable_name": name, "ack_policy": "explicit"}
        config["deliver_subject"] = f"elsewhere.{name}"
        answer = await ask(
            servers, f"CONSUMER.CREATE.FACTS.{name}", {"stream_name": STREAM, "config": config}
        )
        assert "error" not in answer
    assert len(await set_up(servers)) == 2
    assert await set_up(servers) == []
    assert "deliver_subject" not in (await ask(servers, "CONSUMER.INFO.FACTS.hearer"))["config"]
    assert set((await ask(servers, "CONSUMER.NAMES.FACTS"))["consumers"]) == set(HEARERS)


@pytest.mark.proves("R10", part="a stream whose retention was shortened")
async def test_facts_that_a_shortened_retention_erased_come_again_from_the_outbox(
    servers: EmbeddedServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plumbing.outbox.TEND_S", 0.2)
    facts = [StudyReceived(new_id(), 1) for _ in range(20)]
    async with a_sayer(servers) as sayer, a_database(servers) as late:
        await say(sayer, *facts)
        await eventually(lambda: holds(servers, len(facts)))
        await change_stream(servers, max_age=SECOND, duplicate_window=SECOND)
        await eventually(lambda: holds(servers, 0))
        await set_up(servers)
        async with a_hearer(servers, late):

            async def all_told() -> bool:
                return set(await ledger(late)) == {fact.id for fact in facts}

            await eventually(all_told)


async def holds(servers: EmbeddedServers, count: int) -> bool:
    return bool((await ask(servers, "STREAM.INFO.FACTS"))["state"]["messages"] == count)


async def test_the_bus_of_the_version_before_goes_on_from_where_it_is(servers: EmbeddedServers) -> None:
    """As that version made it: with its words, and without the subjects that name who says a fact."""
    await forget_stream(servers)
    async with almighty(servers) as client:
        jetstream = client.jetstream()
        await jetstream.add_stream(
            StreamConfig(
                name=STREAM,
                subjects=sorted({f"{subject.split('.')[0]}.>" for subject in FACTS}),
                storage=StorageType.FILE,
                max_age=KEPT_S,
                duplicate_window=120.0,
            )
        )
        for name, subjects in {
            "ingest": ["case.purged.v1"],
            "reporting": ["case.deleted.v1"],
        }.items():
            await jetstream.add_consumer(
                STREAM,
                ConsumerConfig(
                    name=name,
                    durable_name=name,
                    ack_policy=AckPolicy.EXPLICIT,
                    ack_wait=10.0,
                    max_deliver=-1,
                    max_ack_pending=-1,
                    filter_subjects=subjects,
                ),
            )
        for _ in range(3):
            await jetstream.publish("case.purged.v1", b"{}")
        heard = await jetstream.pull_subscribe_bind("ingest", STREAM)
        (first,) = await heard.fetch(1)
        await first.ack_sync()

        done = await set_up_once(servers.nats.setup_url)
        assert [each for each in done if "stream" in each or "reporting" in each] == []
        assert "changed the consumer `ingest`: `filter_subjects` differed" in done
        assert {f"made the consumer `{name}`" for name in set(HEARS) - {"ingest", "reporting"}} < set(done)

        await jetstream.publish("case.purged.v1.routing", b"{}")
        rest = await heard.fetch(3)
        assert [message.metadata.sequence.stream for message in rest] == [2, 3, 4]


async def test_a_service_tells_what_of_the_bus_is_not_as_it_should_be(
    servers: EmbeddedServers, capsys: pytest.CaptureFixture[str]
) -> None:
    await set_up_once(servers.nats.setup_url)
    async with a_bus(servers) as bus:
        await bus.stream_created_at()
        assert bus_module.DIFFERENCES._value.get() == 0
        await change_stream(servers, max_age=SECOND, duplicate_window=SECOND)
        await bus.stream_created_at()
        await bus.stream_created_at()
        assert bus_module.DIFFERENCES._value.get() == 2
        told = capsys.readouterr().err
        assert told.count("the bus is not as it should be") == 1
        assert "`max_age` of the stream" in told
    await ask(servers, "CONSUMER.DELETE.FACTS.reporting")
    await set_up(servers, {})
    bus = await Bus.connect(servers.nats_url, "reporting")
    await bus.stream_created_at()
    assert bus_module.DIFFERENCES._value.get() > 0, "it has no consumer"
    await bus.close()


async def test_who_hears_what_stands_in_the_filters(servers: EmbeddedServers) -> None:
    await set_up_once(servers.nats.setup_url)
    filters = (await ask(servers, "CONSUMER.INFO.FACTS.ingest"))["config"]["filter_subjects"]
    assert filters == [
        "case.purged.v1",
        *(f"case.purged.v1.{each}" for each in ("access", "notify", "reporting", "routing", "sharing")),
    ]
    assert StudyChanged.subject not in filters
