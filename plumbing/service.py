"""What every service is built of: its database, its bus, its audit, its server, and the calls to others."""

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import grpc

from kernel.clock import Clock
from kernel.ids import NewId
from plumbing import replaying, rpc, toldagain, verifying
from plumbing.bus import Bus
from plumbing.config import ServiceSettings
from plumbing.db import Database, Transaction
from plumbing.hearing import Consumer, Hearing
from plumbing.outbox import Relay
from plumbing.permitted import Holds
from plumbing.runtime import Application
from plumbing.sealing import AuditTrail
from plumbing.tokenkeys import KeyFile
from plumbing.tokens import Verifier

T = TypeVar("T", bound=Transaction)
Task = Callable[[], Coroutine[Any, Any, None]]
Ready = Callable[[], Awaitable[bool]]
Drain = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Parts(Generic[T]):
    """What a service has open; `resources` closes it, last first.

    Attributes:
        server: for services and for people's calls.
        verifier: of people's tokens.
    """

    name: str
    settings: ServiceSettings
    clock: Clock
    resources: AsyncExitStack
    database: Database[T]
    bus: Bus
    server: rpc.Server
    verifier: Verifier

    def asks(self, name: str, address: str) -> grpc.aio.Channel:
        """The calls to another service."""
        channel = rpc.connect(address, name, self.settings.tls)
        self.resources.push_async_callback(channel.close)
        return channel

    def application(
        self,
        hearings: Sequence[Hearing[Any, Any]],
        holds: Holds,
        *,
        servers: Sequence[rpc.Server] = (),
        tasks: Mapping[str, Task] | None = None,
        ready: Mapping[str, Ready] | None = None,
        drains: Sequence[Drain] = (),
    ) -> Application:
        """The process: what every service serves and does, and what only this one does beside that.

        Args:
            hearings: which facts it hears.
            holds: whether the acting user may verify the audit, or replay a fact.
        """
        trail = AuditTrail(self.database, self.name, self.settings, self.clock)
        consumer = Consumer(self.bus, self.database, self.name, hearings, self.clock)
        verifying.serve(self.server, trail, holds)
        replaying.serve(self.server, consumer, holds)
        toldagain.serve(self.server, self.database)
        relay = Relay(self.database, self.bus, self.clock)
        return Application(
            servers=[self.server, *servers],
            tasks={"relay": relay.run, "seal": trail.seal, "consumer": consumer.run, **(tasks or {})},
            ready={"database": self.database.ready, **(ready or {})},
            beside={"bus": self.bus.works},
            drains=drains,
        )


async def open_parts(
    name: str,
    settings: ServiceSettings,
    transaction: type[T],
    clock: Clock,
    new_id: NewId,
    resources: AsyncExitStack,
    *,
    pool_size: int = 8,
) -> Parts[T]:
    """Opens what every service is built of. Nothing of it needs to answer yet."""
    database = await Database.connect(
        settings.secret("database_url"),
        transaction,
        clock=clock,
        new_id=new_id,
        ca=settings.servers_ca,
        pool_size=pool_size,
    )
    resources.push_async_callback(database.close)
    bus = await Bus.connect(settings.secret("nats_url"), name, settings.servers_ca)
    resources.push_async_callback(bus.close)
    verifier = Verifier(KeyFile(settings.token_key_file), clock)
    server = rpc.Server(name, settings.listen, settings.tls, verifier)
    return Parts(name, settings, clock, resources, database, bus, server, verifier)
