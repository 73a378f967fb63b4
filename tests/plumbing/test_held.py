"""Whoever holds a connection of the database calls nobody."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest

from local.embedded import EmbeddedServers
from local.pki import Pki
from plumbing import answers, rpc
from plumbing.bus import Bus
from plumbing.held import WouldWait
from tests.plumbing.telling import a_bus, a_database, new_id

Call = Callable[[], Awaitable[Any]]


@pytest.fixture
async def bus(servers: EmbeddedServers) -> AsyncIterator[Bus]:
    async with a_bus(servers) as connected:
        yield connected


@pytest.fixture
async def calls(bus: Bus, pki: Pki) -> AsyncIterator[dict[str, Call]]:
    """Ways to wait for somebody else."""
    async with rpc.connect("127.0.0.1:1", "access", pki.tls("ingest"), deadline_s=0.1) as channel:
        unary: Any = channel.unary_unary("/access/Check")
        stream: Any = channel.unary_stream("/access/List")

        async def streamed() -> None:
            async for _ in stream(b""):
                pass

        yield {
            "/access/Check": lambda: unary(b""),
            "/access/List": streamed,
            "NATS": lambda: bus.publish("study.received.v1", b"", new_id(), {}),
        }


@pytest.mark.parametrize("call", ["/access/Check", "/access/List", "NATS"])
async def test_a_call_while_a_connection_is_held_is_a_fault_of_ours(
    servers: EmbeddedServers, calls: dict[str, Call], call: str
) -> None:
    async with a_database(servers) as database:
        for opened in (database.transaction, database.statements):
            async with opened():
                with pytest.raises(RuntimeError, match=f"`{call}` would be called while a connection"):
                    await calls[call]()
        async with database.transaction():
            async with database.transaction():
                pass
            with pytest.raises(RuntimeError):
                await calls[call]()
        await _tried(calls[call]())


async def test_a_task_that_was_begun_meanwhile_may_call_afterwards(
    servers: EmbeddedServers, calls: dict[str, Call]
) -> None:
    released = asyncio.Event()

    async def later() -> None:
        await released.wait()
        await _tried(calls["/access/Check"]())

    async with a_database(servers) as database:
        async with database.transaction():
            task = asyncio.create_task(later())
        released.set()
        await task


async def _tried(call: Awaitable[Any]) -> None:
    """Whatever becomes of it, it was made."""
    try:
        await call
    except RuntimeError:
        raise
    except Exception:
        return


async def test_a_client_does_not_blame_its_peer_for_it(servers: EmbeddedServers, pki: Pki) -> None:
    @answers.of("access")
    class Client:
        def __init__(self, channel: grpc.aio.Channel) -> None:
            self._check: Any = channel.unary_unary("/access/Check")

        async def check(self) -> None:
            await self._check(b"")

    async with (
        rpc.connect("127.0.0.1:1", "access", pki.tls("ingest"), deadline_s=0.1) as channel,
        a_database(servers) as database,
        database.transaction(),
    ):
        with pytest.raises(WouldWait):
            await Client(channel).check()
