"""Passwords in files: what is written there later counts for the next connection, without a restart."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from kernel.clock import MonotonicClock
from kernel.errors import Unavailable
from local.embedded import EmbeddedServers
from local.pki import Pki
from plumbing import cache, config
from plumbing.bus import Bus
from plumbing.cache import RateWindow
from plumbing.db import Database
from plumbing.lines import Lines
from services.notify.channels import TextGateway
from tests.auditing import audit_settings
from tests.plumbing.telling import Ledger, empty_database, new_id
from tests.plumbing.test_renewed import looked, write
from tests.wait import eventually

Works = Callable[[], Awaitable[bool]]
"""Whether somebody is let in who connects now."""


class Settings(config.ServiceSettings):
    prefix = "READROOM_TEST_"

    cache_url: config.CacheUrl


@pytest.fixture
def told(pki: Pki, tmp_path: Path) -> Callable[..., Settings]:
    def load(key: str, file: Path) -> Settings:
        files = pki.tls("access")
        values = {
            "LISTEN": "127.0.0.1:0",
            "HTTP_LISTEN": "127.0.0.1:0",
            "DATABASE_URL": "postgresql://role@127.0.0.1/db",
            "NATS_URL": "nats://127.0.0.1:4222",
            "CACHE_URL": "redis://127.0.0.1:6379/0",
            "TLS_CERTIFICATE": str(files.certificate),
            "TLS_KEY": str(files.key),
            "TLS_CA": str(files.ca),
            "TOKEN_KEYS": str(pki.token_keys),
            **audit_settings(tmp_path),
        }
        del values[key]
        values[f"{key}_FILE"] = str(file)
        return config.load(Settings, {f"READROOM_TEST_{name}": each for name, each in values.items()})

    return load


@asynccontextmanager
async def database(address: Callable[[], str]) -> AsyncIterator[Works]:
    opened = await Database.connect(address, Ledger, clock=MonotonicClock(), new_id=new_id)
    yield opened.ready
    await opened.close()


@asynccontextmanager
async def lines(address: Callable[[], str]) -> AsyncIterator[Works]:
    opened = Lines(address, "select 1", size=1)

    def ask() -> bool:
        try:
            with opened.begin(()) as begun:
                begun.commit()
        except Unavailable:
            return False
        return True

    yield partial(asyncio.to_thread, ask)
    opened.close()


@asynccontextmanager
async def bus(address: Callable[[], str]) -> AsyncIterator[Works]:
    opened = Bus(address, "test")
    yield opened.works
    await opened.close()


@asynccontextmanager
async def window(address: Callable[[], str]) -> AsyncIterator[Works]:
    hour = 0

    class Clock:
        def now(self) -> datetime:
            return datetime(2026, 11, 21, hour % 24, tzinfo=UTC)

    opened = RateWindow(address, Clock())

    async def answers() -> bool:
        nonlocal hour
        hour += 1  # past the time in which it counts alone
        await opened.allow("anybody there", 1, 60)
        return bool(cache.UP._value.get())

    yield answers
    await opened.close()


CONNECTIONS: dict[str, tuple[str, Callable[[EmbeddedServers], str], Any]] = {
    "database": ("DATABASE_URL", empty_database, database),
    "lines": ("DATABASE_URL", empty_database, lines),
    "bus": ("NATS_URL", lambda servers: servers.nats_url, bus),
    "cache": ("CACHE_URL", lambda servers: servers.cache_url, window),
}


@pytest.mark.proves("OPS-12", part="a password that changes in its file counts without a restart")
@pytest.mark.parametrize("kind", CONNECTIONS)
async def test_a_password_that_changes_in_its_file_lets_in(
    servers: EmbeddedServers, told: Callable[..., Settings], tmp_path: Path, kind: str
) -> None:
    key, address, connected = CONNECTIONS[kind]
    right, file = address(servers), tmp_path / f"{tmp_path.name}-{kind}"
    before, _, behind = right.rpartition("@")
    write(file, f"{before}-of-yesterday@{behind}\n".encode())

    async with connected(told(key, file).secret(key.lower())) as works:
        assert not await works()
        write(file, b"http://somebody.example/")  # what may not be an address changes nothing
        looked()
        assert REGISTRY.get_sample_value("readroom_files_unreadable", {"file": file.name}) == 1
        write(file, f"{right}\n".encode())
        looked()
        assert REGISTRY.get_sample_value("readroom_files_unreadable", {"file": file.name}) == 0
        await eventually(works)


async def test_the_text_gateway_is_shown_the_token_that_counts_now(tmp_path: Path) -> None:
    from aiohttp import web
    from aiohttp.test_utils import TestServer

    shown: list[str] = []

    async def take(request: web.Request) -> web.Response:
        shown.append(request.headers["Authorization"])
        return web.Response()

    application = web.Application()
    application.router.add_post("/", take)
    token = "first"
    async with TestServer(application) as server:
        gateway = TextGateway(str(server.make_url("/")), lambda: token, ["BE"], 5.0, MonotonicClock())
        await gateway.send("+32470123456", "a code")
        token = "second"
        await gateway.send("+32470123456", "a code")
        await gateway.close()
    assert shown == ["Bearer first", "Bearer second"]
