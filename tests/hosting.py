"""A service as its process builds it, inside the process of a test."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from kernel.clock import Clock
from kernel.errors import Unavailable
from kernel.ids import UUID7
from local.embedded import EmbeddedServers
from local.pki import Pki
from plumbing import config, runtime
from plumbing.bus import Bus
from tests.auditing import audit_settings


async def hosted(
    name: str,
    main: Any,
    servers: EmbeddedServers,
    pki: Pki,
    database_url: str,
    clock: Clock,
    settings: Mapping[str, str],
    resources: AsyncExitStack,
) -> int:
    """Starts the service, which runs as long as `resources` are kept; the port of its server.

    Args:
        main: the service's module of that name.
        settings: what only this service is told, by the end of their names in the environment.
    """
    identity = pki.tls(name)
    told = {
        "LISTEN": "127.0.0.1:0",
        "HTTP_LISTEN": "127.0.0.1:0",
        "DATABASE_URL": database_url,
        "NATS_URL": servers.nats.url(name),
        "TLS_CERTIFICATE": str(identity.certificate),
        "TLS_KEY": str(identity.key),
        "TLS_CA": str(identity.ca),
        "TOKEN_KEYS": str(pki.token_keys),
        **audit_settings(servers.data_dir),
        **settings,
    }
    environ = {f"READROOM_{name.upper()}_{key}": value for key, value in told.items()}
    application = await main.build(config.load(main.Settings, environ), clock, UUID7(clock), resources)
    (server,) = application.servers
    port: int = await server.start()
    resources.push_async_callback(server.stop, 0.1)
    tasks = [
        asyncio.create_task(runtime.for_life(part, start), name=part)
        for part, start in application.tasks.items()
    ]
    resources.push_async_callback(_end, tasks)
    return port


async def answers(bus: Bus) -> bool:
    """Whether NATS answers, syncs always and has the stream."""
    try:
        await bus.stream_created_at()
    except Unavailable:
        return False
    return True


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    """Whatever a test did to the service, it has ended none of what lives as long as the process."""
    ended = [task.get_name() for task in tasks if task.done()]
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert [] == ended
