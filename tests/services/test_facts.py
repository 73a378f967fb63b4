"""Who says and hears what: each service on the bus with its own user."""

import ast
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from kernel.errors import Unavailable
from kernel.events import FACTS, HEARS, SAYS, CaseDeleted, CasePurged, fact_of, heard_subjects, wire_subject
from local.embedded import EmbeddedServers
from plumbing.bus import Bus
from plumbing.components import SERVICES
from plumbing.hearing import Hearing
from services.access import events as access
from services.ingest import events as ingest
from services.notify import events as notify
from services.reporting import events as reporting
from services.routing import events as routing
from services.sharing import events as sharing
from tests.plumbing.telling import an_empty_stream

ROOT = Path(__file__).parents[2]
CLASSES = {fact.__name__: fact for fact in FACTS.values()}
ANY: Any = None


def named_facts(path: Path) -> Iterator[str]:
    """The facts that a module names other than as a type, or to ask its owner which it has said."""
    tree = ast.parse(path.read_text())
    types: set[ast.AST] = set()
    for node in ast.walk(tree):
        for annotation in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            types |= set(ast.walk(annotation)) if annotation else set()
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "said":
            types |= set(ast.walk(node))
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


HEARINGS: dict[str, Callable[[], Sequence[Hearing[Any, Any]]]] = {
    "ingest": lambda: ingest.hearings(ANY),
    "routing": lambda: routing.hearings(ANY, ANY),
    "access": lambda: access.hearings(ANY, ANY),
    "reporting": lambda: reporting.hearings(ANY, ANY),
    "sharing": lambda: sharing.hearings(ANY, ANY),
    "notify": lambda: notify.hearings(ANY, ANY),
}
"""What each service does about what it hears; nothing is called here."""


@pytest.mark.parametrize("service", SERVICES)
def test_the_table_of_who_hears_what_is_what_the_services_hear(service: str) -> None:
    heard = [hearing.fact for hearing in HEARINGS[service]()]
    assert sorted(heard, key=str) == sorted(HEARS[service], key=str)


def test_whoever_hears_a_fact_asks_its_owner() -> None:
    """But for these, each with its reason in the code: add none because it is convenient."""
    unasked = {
        (service, hearing.fact)
        for service, hearings in HEARINGS.items()
        for hearing in hearings()
        if hearing.unasked_because
    }
    assert unasked == {("notify", CaseDeleted)}


def test_nobody_hears_what_they_say_themselves() -> None:
    """Else they could say anything under their own subject, and have it brought under another's."""
    assert set(HEARS) == set(SERVICES)
    for service in SERVICES:
        said = {wire_subject(fact.subject, service) for fact in SAYS[service]}
        assert not said & set(heard_subjects(HEARS[service]))


def test_what_several_say_names_on_the_wire_who_says_it() -> None:
    sayers = Counter(fact.subject for said in SAYS.values() for fact in said)
    assert {subject for subject, count in sayers.items() if count > 1} == {
        fact.subject for fact in FACTS.values() if fact.names_sayer
    }
    for subject, fact in FACTS.items():
        assert fact_of(wire_subject(subject, "routing")) == (subject, "routing" if fact.names_sayer else "")
        assert fact_of(subject) == (subject, "")
    assert fact_of("study.received.v1.routing") == ("study.received.v1.routing", "")


@asynccontextmanager
async def a_bus(servers: EmbeddedServers, service: str) -> AsyncIterator[Bus]:
    bus = await Bus.connect(servers.nats.url(service), service)
    try:
        yield bus
    finally:
        await bus.close()


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_says_its_facts_and_hears_those_of_others(
    servers: EmbeddedServers, service: str
) -> None:
    await an_empty_stream(servers, HEARS)
    for sayer in SERVICES:
        async with a_bus(servers, sayer) as bus:
            for fact in SAYS[sayer]:
                await bus.publish(fact.subject, b"{}", uuid4(), {})
    async with a_bus(servers, service) as bus:
        await bus.stream_created_at()
        async with bus.pulling(service) as pull:
            heard: list[str] = []
            wanted = set(heard_subjects(HEARS[service])) - {CasePurged.subject}
            while set(heard) != wanted:
                message = await pull.next()
                assert message
                heard.append(message.subject)
                await message.in_progress()
                await message.ack_sync()


async def test_a_fact_that_is_refused_is_not_lost_and_the_bus_lives_on(servers: EmbeddedServers) -> None:
    async with a_bus(servers, "notify") as bus:
        with pytest.raises(Unavailable):
            await bus.publish("case.deleted.v1", b"{}", uuid4(), {})
        await bus.stream_created_at()
