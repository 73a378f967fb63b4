"""Who says what: each service on the bus with its own user, which takes from it what it says and no more."""

import ast
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import nats
import pytest

from kernel.errors import Unavailable
from kernel.events import FACTS, SAYS
from plumbing.bus import STREAM, Bus
from plumbing.embedded import EmbeddedServers
from services import SERVICES
from tests.plumbing.telling import forget_stream
from tests.wait import eventually

ROOT = Path(__file__).parents[2]
CLASSES = {fact.__name__: fact for fact in FACTS.values()}
FOREIGN_API = [
    f"$JS.API.STREAM.{verb}.{STREAM}" for verb in ("DELETE", "PURGE", "MSG.GET", "MSG.DELETE", "SNAPSHOT")
]


def named_facts(path: Path) -> Iterator[str]:
    """The facts that a module names other than as a type."""
    tree = ast.parse(path.read_text())
    types: set[ast.AST] = set()
    for node in ast.walk(tree):
        for annotation in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            types |= set(ast.walk(annotation)) if annotation else set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in CLASSES and node not in types:
            yield node.id


@pytest.mark.parametrize("service", SERVICES)
def test_the_table_of_who_says_what_is_what_the_services_say(service: str) -> None:
    modules = [path for path in (ROOT / "services" / service).glob("*.py") if path.name != "events.py"]
    said = {name for path in modules for name in named_facts(path)}
    assert {fact.__name__ for fact in SAYS[service]} == said


def test_every_fact_is_said_by_a_service() -> None:
    assert set(SAYS) == set(SERVICES)
    assert set(FACTS) == {fact.subject for facts in SAYS.values() for fact in facts}


@asynccontextmanager
async def a_bus(servers: EmbeddedServers, service: str) -> AsyncIterator[Bus]:
    bus = await Bus.connect(servers.nats.url(service), service)
    try:
        yield bus
    finally:
        await bus.close()


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_says_its_facts_and_hears_those_of_others_also_when_the_stream_is_gone(
    servers: EmbeddedServers, service: str
) -> None:
    await forget_stream(servers)
    async with a_bus(servers, service) as bus:
        assert await bus.ready()
        for fact in SAYS[service]:
            await bus.publish(fact.subject, b"{}", uuid4(), {})
        async with bus.pulling(service, list(FACTS)) as pull:
            for fact in SAYS[service]:
                message = await pull.next()
                assert message
                assert message.subject == fact.subject
                await message.in_progress()
                await message.ack_sync()


@pytest.mark.proves("ING-7", part="nobody but ingest says that a case is deleted")
@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_can_neither_say_anothers_fact_nor_hear_as_another(
    servers: EmbeddedServers, service: str
) -> None:
    other = next(each for each in SERVICES if each != service)
    foreign = [
        *(set(FACTS) - {fact.subject for fact in SAYS[service]}),
        *FOREIGN_API,
        f"$JS.API.CONSUMER.CREATE.{STREAM}.{other}",
        f"$JS.API.CONSUMER.DELETE.{STREAM}.{other}",
        f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{other}",
        f"$JS.ACK.{STREAM}.{other}.1.1.1.1.1",
        "_INBOX.somebody",
    ]
    refused: list[str] = []

    async def note(error: Exception) -> None:
        refused.append(str(error))

    client = await nats.connect(servers.nats.url(service), error_cb=note)
    for subject in foreign:
        await client.publish(subject, b"{}")
    for subject in ("case.>", "$JS.>", ">"):
        await client.subscribe(subject)
    await client.flush()

    async def all_refused() -> bool:
        return len(refused) == len(foreign) + 3

    await eventually(all_refused)
    assert all("permissions violation" in each.lower() for each in refused)
    assert client.is_connected
    await client.close()


async def test_a_fact_that_is_refused_is_not_lost_and_the_bus_lives_on(servers: EmbeddedServers) -> None:
    async with a_bus(servers, "notify") as bus:
        with pytest.raises(Unavailable):
            await bus.publish("case.deleted.v1", b"{}", uuid4(), {})
        assert await bus.ready()
