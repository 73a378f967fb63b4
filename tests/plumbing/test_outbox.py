"""The outbox: what was said is published once, in time, whatever becomes of NATS."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

import msgspec
import nats
import pytest
from nats.aio.msg import Msg

from kernel.clock import OffsetClock
from kernel.events import CasePlaced, Fact, StudyChanged, StudyReceived
from local.embedded import EmbeddedServers
from plumbing import outbox, telemetry
from plumbing.bus import Bus
from plumbing.busowner import keep_up, set_up_once
from plumbing.outbox import OVERDUE_S, TEND_S, Relay
from plumbing.stream import STREAM
from tests.plumbing.telling import (
    CLOCK,
    HEARERS,
    a_bus,
    a_database,
    a_hearer,
    a_sayer,
    an_empty_stream,
    forget_stream,
    ledger,
    new_id,
    running,
    say,
    unpublished,
)
from tests.wait import Stopwatch, eventually


@pytest.fixture(autouse=True)
async def servers(own_servers: EmbeddedServers) -> EmbeddedServers:
    """With an empty stream."""
    await an_empty_stream(own_servers)
    return own_servers


@asynccontextmanager
async def publications(servers: EmbeddedServers) -> AsyncIterator[list[Msg]]:
    """Every publication, also those that the stream knows already."""
    seen: list[Msg] = []

    async def note(message: Msg) -> None:
        if message.headers and "Nats-Msg-Id" in message.headers:
            seen.append(message)

    client = await nats.connect(servers.nats_url)
    await client.subscribe(">", cb=note)
    await client.flush()
    yield seen
    await client.close()


async def stream_messages(servers: EmbeddedServers) -> int:
    client = await nats.connect(servers.nats_url)
    try:
        return (await client.jetstream().stream_info(STREAM)).state.messages
    finally:
        await client.close()


def studies(count: int) -> list[Fact]:
    return [StudyReceived(new_id(), 1) for _ in range(count)]


async def test_a_fact_is_published_with_its_event_id_and_the_trace_of_its_cause(
    servers: EmbeddedServers,
) -> None:
    study = new_id()
    async with a_sayer(servers) as sayer, publications(servers) as seen:
        telemetry.configure("test", None)
        with telemetry.span("cause") as cause:
            await say(sayer, StudyReceived(study, 7))
        await eventually(lambda: seen)
        async with sayer.statements() as statements:
            event_id = await statements.connection.fetchval("select event_id from outbox")
        [message] = seen
        assert message.subject == "study.received.v1"
        assert msgspec.json.decode(message.data, type=StudyReceived) == StudyReceived(study, 7)
        assert message.headers is not None
        assert message.headers["Nats-Msg-Id"] == str(event_id)
        assert cause.request_id in message.headers["traceparent"]

        async def marked() -> bool:
            return await unpublished(sayer) == 0

        await eventually(marked)


async def test_what_the_version_before_has_left_in_the_outbox_is_said_under_the_subject_of_today(
    servers: EmbeddedServers,
) -> None:
    """That version said `case.purged.v1` without a sayer on the wire, and wrote the outbox as we do."""
    async with a_database(servers) as sayer, publications(servers) as seen:
        async with sayer.statements() as statements:
            await statements.connection.execute(
                """
                insert into outbox (event_id, subject, payload, said_at)
                values ($1, 'case.purged.v1', '{"id": "x", "version": 1, "by": "routing"}', now())
                """,
                new_id(),
            )
        bus = await Bus.connect(servers.nats_url, "routing")
        async with running(Relay(sayer, bus, CLOCK).run):
            await eventually(lambda: seen)
        await bus.close()
    assert [message.subject for message in seen] == ["case.purged.v1.routing"]


async def test_a_row_that_cannot_be_published_keeps_no_other(servers: EmbeddedServers) -> None:
    """A newer version of this service may have said facts that this one does not know."""
    async with a_sayer(servers) as sayer, publications(servers) as seen:
        async with sayer.statements() as statements:
            await statements.connection.execute(
                """
                insert into outbox (event_id, subject, payload, said_at)
                values (gen_random_uuid(), 'fact.of_tomorrow.v1', '{}', now())
                """
            )
        for count in range(1, 4):
            await say(sayer, *studies(1))
            await eventually(lambda count=count: len(seen) == count)  # type: ignore[misc]
        assert await unpublished(sayer) >= 1


async def test_the_commit_wakes_the_relay(servers: EmbeddedServers) -> None:
    async with a_sayer(servers) as sayer, publications(servers) as seen:
        await say(sayer, *studies(1))
        await eventually(lambda: len(seen) == 1)
        begin = time.monotonic()
        for count in range(2, 12):
            await say(sayer, *studies(1))
            await eventually(lambda count=count: len(seen) == count)  # type: ignore[misc]
        assert time.monotonic() - begin < 5, "ten facts took as long as polling would"


async def test_the_relay_holds_no_connection_while_nats_does_not_answer(servers: EmbeddedServers) -> None:
    async with (
        a_database(servers, pool_size=1) as sayer,
        a_bus(servers) as bus,
        running(Relay(sayer, bus, CLOCK).run),
    ):

        async def drained() -> bool:
            return await unpublished(sayer) == 0

        await say(sayer, *studies(1))
        await eventually(drained)
        servers.nats.freeze()
        try:
            begin = time.monotonic()
            await say(sayer, *studies(1))
            for _ in range(200):
                assert await unpublished(sayer) == 1
            assert time.monotonic() - begin < 1.5, "NATS has 2 s to answer a publication"
        finally:
            servers.nats.thaw()
        await eventually(drained)


@pytest.mark.parametrize("ends_in", [timedelta(seconds=1), timedelta(days=1)])
async def test_rows_that_a_relay_claimed_before_it_died_or_before_the_clock_was_set_back_are_published(
    servers: EmbeddedServers, ends_in: timedelta
) -> None:
    async with a_database(servers) as sayer:
        await say(sayer, *studies(2))
        async with sayer.statements() as statements:
            await statements.connection.execute("update outbox set claimed_until = now() + $1", ends_in)
        async with a_bus(servers) as bus, running(Relay(sayer, bus, CLOCK).run):

            async def drained() -> bool:
                return await unpublished(sayer) == 0

            await eventually(drained)
    assert await stream_messages(servers) == 2


async def test_what_is_rolled_back_is_never_said(servers: EmbeddedServers) -> None:
    async def fail() -> None:
        async with sayer.transaction() as transaction:
            await transaction.say(CasePlaced(new_id(), 1))
            raise ZeroDivisionError

    async with a_sayer(servers) as sayer, publications(servers) as seen:
        with pytest.raises(ZeroDivisionError):
            await fail()
        await say(sayer, *studies(1))
        await eventually(lambda: seen)
        assert [message.subject for message in seen] == ["study.received.v1"]


async def test_a_fact_that_becomes_visible_late_is_published_although_younger_ones_were(
    servers: EmbeddedServers,
) -> None:
    async with a_sayer(servers) as sayer, publications(servers) as seen:
        async with sayer.transaction() as slow:
            await slow.say(*studies(1))
            await say(sayer, StudyChanged(new_id(), 2))
            await eventually(lambda: seen)
        await eventually(lambda: len(seen) == 2)
        assert [message.subject for message in seen] == ["study.changed.v1", "study.received.v1"]


async def test_two_relays_share_the_work_and_publish_nothing_twice(servers: EmbeddedServers) -> None:
    async with a_database(servers) as sayer, a_bus(servers) as one, a_bus(servers) as other:
        await say(sayer, *studies(3000))
        async with (
            publications(servers) as seen,
            running(Relay(sayer, one, CLOCK).run),
            running(Relay(sayer, other, CLOCK).run),
        ):
            await eventually(lambda: len(seen) >= 3000, within=20)

            async def drained() -> bool:
                return await unpublished(sayer) == 0

            await eventually(drained)
            assert len(seen) == 3000


@pytest.mark.proves("R7", part="the outbox")
async def test_facts_wait_while_nats_is_away_and_drain_at_500_a_second(servers: EmbeddedServers) -> None:
    async with a_sayer(servers) as sayer:
        await say(sayer, *studies(1))
        servers.nats.stop()
        for batch in range(50):
            await say(sayer, *studies(100))
            assert await unpublished(sayer) >= batch * 100
        servers.nats.start()
        watch = Stopwatch()

        async def drained() -> bool:
            return await unpublished(sayer) == 0

        await eventually(drained, within=60)
        assert watch.seconds() < 5000 / 500
        assert await stream_messages(servers) == 5001


async def test_an_outbox_that_does_not_drain_is_told(
    servers: EmbeddedServers, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plumbing.outbox.TEND_S", 0.5)
    offset = timedelta(0)
    clock = OffsetClock(CLOCK, lambda: offset)
    await forget_stream(servers)  # as if nobody had set the bus up
    async with a_sayer(servers, clock) as sayer:
        await say(sayer, *studies(2))
        offset = timedelta(seconds=OVERDUE_S + 1)
        told = ""

        def all_told() -> bool:
            nonlocal told
            told += capsys.readouterr().err
            return "the outbox does not drain" in told

        await eventually(all_told)
        assert "the bus has no stream `FACTS`: run `python -m services migrate`" in told
        assert outbox.WAITS._value.get() > OVERDUE_S
        await set_up_once(servers.nats.setup_url, HEARERS)

        async def drained() -> bool:
            return await unpublished(sayer) == 0 and outbox.WAITS._value.get() == 0

        await eventually(drained)


@pytest.mark.drill
async def test_nats_killed_in_the_middle_loses_nothing_and_keeps_nothing_twice(
    servers: EmbeddedServers,
) -> None:
    async with a_sayer(servers) as sayer:
        for _ in range(3):
            await say(sayer, *studies(2000))
            before = await unpublished(sayer)

            async def halfway(before: int = before) -> bool:
                return await unpublished(sayer) < before

            await eventually(halfway)
            await asyncio.to_thread(servers.nats.kill)
            await asyncio.to_thread(servers.nats.start)

        async def drained() -> bool:
            return await unpublished(sayer) == 0

        await eventually(drained, within=30)
        assert await stream_messages(servers) == 6000


@pytest.mark.proves("R10", part="publication and hearing")
@pytest.mark.parametrize("how", [pytest.param("deleted", marks=pytest.mark.drill), "wiped"])
async def test_a_stream_that_was_lost_is_filled_again_and_what_was_heard_stays_heard(
    servers: EmbeddedServers, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plumbing.outbox.TEND_S", 0.5)  # a relay that has nothing to say looks as often
    monkeypatch.setattr("plumbing.busowner.LOOK_INTERVAL_S", 0.5)
    async with (
        a_sayer(servers) as sayer,
        a_database(servers) as hearing,
        a_database(servers) as late,
        a_hearer(servers, hearing),
        running(partial(keep_up, servers.nats.setup_url, HEARERS)),
    ):
        facts = studies(300)
        await say(sayer, *facts)

        async def heard() -> bool:
            return len(await ledger(hearing)) == 300

        await eventually(heard)
        if how == "deleted":
            await forget_stream(servers)
        else:
            servers.nats.kill()
            shutil.rmtree(servers.data_dir / "nats" / "jetstream")
            servers.nats.start()
        async with a_hearer(servers, late, "late"):

            async def filled() -> bool:
                return len(await ledger(late)) == 300

            await eventually(filled, within=60)
        more = studies(1)
        await say(sayer, *more)

        async def goes_on() -> bool:
            return more[0].id in await ledger(hearing)

        await eventually(goes_on, within=60)
        assert {told for _, told in (await ledger(hearing)).values()} == {1}


async def test_what_is_too_old_is_removed_and_nothing_else(servers: EmbeddedServers) -> None:
    offset = timedelta(0)
    clock = OffsetClock(CLOCK, lambda: offset)

    async with a_database(servers, clock=clock) as sayer, a_bus(servers) as bus:

        async def count() -> tuple[int, int]:
            async with sayer.statements() as statements:
                outbox = await statements.connection.fetchval("select count(*) from outbox")
                return outbox, await statements.connection.fetchval("select count(*) from heard")

        async def say_and_hear() -> None:
            async with sayer.transaction() as transaction:
                await transaction.say(*studies(2))
                await transaction.heard("test", new_id())

        async def published() -> bool:
            return await unpublished(sayer) == 0

        async def tend() -> None:
            """A new relay tends at once."""
            async with running(Relay(sayer, bus, clock).run):
                await say_and_hear()
                await eventually(published)

        await tend()
        assert await count() == (2, 1)
        offset = timedelta(days=6, hours=23)
        await tend()
        assert await count() == (4, 2)
        offset = timedelta(days=7, hours=1)
        await tend()
        assert await count() == (4, 3), "two rows of the first day are gone"
        offset = timedelta(days=15, hours=1)
        await tend()
        assert await count() == (2, 3), "the fact heard on the first day is forgotten"
        assert TEND_S < 60
