"""Servers on other machines: real handshakes, with whom they succeed and with whom nothing is said."""

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kernel.clock import MonotonicClock
from kernel.errors import Invalid, Unavailable
from kernel.ids import UUID7
from local.pki import Pki
from plumbing import remote, telemetry
from plumbing.authority import CertificateAuthority
from plumbing.bus import Bus
from plumbing.cache import RateWindow
from plumbing.db import Database, Transaction
from plumbing.lines import Lines
from plumbing.migrating import migrate
from tests.plumbing.a_house import written
from tests.wait import eventually

CLOCK = MonotonicClock()
SECRET = "hush"

SSL_REQUEST = struct.pack(">ii", 8, 80877103)  # PostgreSQL 55.2.11
GREETING = b'INFO {"server_id":"stub","version":"2.14.0","max_payload":1048576,"tls_required":%s}\r\n'


@dataclass
class Stub:
    """A server with a certificate for `localhost`; it remembers what it was told, in plain and over TLS."""

    context: ssl.SSLContext
    port: int = 0
    plain: bytearray = field(default_factory=bytearray)
    secured: bytearray = field(default_factory=bytearray)
    refused: int = 0

    async def secure(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Goes on over TLS until the client leaves."""
        try:
            await writer.start_tls(self.context)
            while more := await reader.read(4096):
                self.secured += more
        except (ssl.SSLError, ConnectionError):
            self.refused += 1

    async def listen(self, reader: asyncio.StreamReader) -> None:
        """Goes on in plain text until the client leaves."""
        while more := await reader.read(4096):
            self.plain += more


Talk = Callable[[Stub, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def a_stub(pki: Pki, folder: Path, talk: Talk) -> AsyncIterator[Stub]:
    certificate, key = pki.authority("service").issue(
        "spiffe://readroom/service/stub", ["localhost"], datetime.now(UTC)
    )
    files = written(folder, certificate, key, pki.service_ca)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    context.set_alpn_protocols(["h2"])
    stub = Stub(context)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await talk(stub, reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    stub.port = server.sockets[0].getsockname()[1]
    try:
        yield stub
    finally:
        server.close()


def another_ca(folder: Path) -> Path:
    path = folder / "another-ca.pem"
    path.write_bytes(CertificateAuthority.create("another", datetime.now(UTC)).certificate_pem)
    return path


async def at_once(stub: Stub, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await stub.secure(reader, writer)


async def postgresql_with_tls(stub: Stub, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    assert await reader.readexactly(8) == SSL_REQUEST
    writer.write(b"S")
    await stub.secure(reader, writer)


async def postgresql_without_tls(
    stub: Stub, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    assert await reader.readexactly(8) == SSL_REQUEST
    writer.write(b"N")
    await stub.listen(reader)


async def nats_with_tls(stub: Stub, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(GREETING % b"true")
    await stub.secure(reader, writer)


async def nats_stripped(stub: Stub, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(GREETING % b"false")
    await stub.listen(reader)


# How each is asked; who asks may not have as long to wait as a busy machine takes for a handshake


async def ask_database(port: int, ca: Path) -> None:
    url = f"postgresql://role:{SECRET}@localhost:{port}/readroom?sslmode=verify-full"
    database = await Database.connect(url, Transaction, clock=CLOCK, new_id=UUID7(CLOCK), ca=ca)
    try:
        assert not await database.ready()
    finally:
        await database.close()


async def ask_database_from_a_thread(port: int, ca: Path) -> None:
    url = f"postgresql://role:{SECRET}@localhost:{port}/readroom?sslmode=verify-full"
    lines = Lines(url, "select 1", size=1, ca=ca)
    with pytest.raises(Unavailable):
        await asyncio.to_thread(lines.begin, [])


async def migrate_database(port: int, ca: Path) -> None:
    url = f"postgresql://role:{SECRET}@localhost:{port}/readroom?sslmode=verify-full"
    with pytest.raises(Unavailable):
        await migrate(url, [], ca)


async def ask_bus(port: int, ca: Path) -> None:
    bus = Bus(f"tls://user:{SECRET}@localhost:{port}", "access", ca)
    await eventually(lambda: bus._difficulty)
    await bus.close()


async def ask_cache(port: int, ca: Path) -> None:
    rates = RateWindow(f"rediss://:{SECRET}@localhost:{port}", CLOCK, ca)
    assert await rates.allow("key", 1, 60)  # it counts alone
    await rates.close()


async def ask_collector(port: int, ca: Path) -> None:
    end = telemetry.configure("access", f"https://localhost:{port}", ca)
    try:
        with telemetry.span("a span"):
            pass
    finally:
        await asyncio.to_thread(end)
        telemetry._tracer = None


ASKING = {
    "database": (ask_database, postgresql_with_tls),
    "database from a thread": (ask_database_from_a_thread, postgresql_with_tls),
    "migrate": (migrate_database, postgresql_with_tls),
    "bus": (ask_bus, nats_with_tls),
    "cache": (ask_cache, at_once),
    "collector": (ask_collector, at_once),
}


@pytest.mark.proves("SEC-1", part="servers on other machines")
@pytest.mark.parametrize("what", ASKING)
async def test_a_server_of_the_authority_is_spoken_to_over_tls(pki: Pki, tmp_path: Path, what: str) -> None:
    ask, talk = ASKING[what]
    async with a_stub(pki, tmp_path, talk) as stub:

        async def it_was_told_something() -> bool:
            await ask(stub.port, pki.service_ca)
            return bool(stub.secured)

        await eventually(it_was_told_something)
    assert not stub.plain


@pytest.mark.proves("SEC-1", part="servers on other machines")
@pytest.mark.parametrize("what", ASKING)
async def test_a_server_of_another_authority_is_told_nothing(pki: Pki, tmp_path: Path, what: str) -> None:
    ask, talk = ASKING[what]
    authority = another_ca(tmp_path)
    async with a_stub(pki, tmp_path, talk) as stub:

        async def it_was_refused() -> bool:
            await ask(stub.port, authority)
            return stub.refused > 0

        await eventually(it_was_refused)
    assert not stub.plain
    assert not stub.secured


@pytest.mark.proves("SEC-1", part="servers on other machines")
@pytest.mark.parametrize(
    ("ask", "talk"),
    [
        (ask_database, postgresql_without_tls),
        (ask_database_from_a_thread, postgresql_without_tls),
        (migrate_database, postgresql_without_tls),
        (ask_bus, nats_stripped),
    ],
)
async def test_who_claims_to_have_no_tls_is_told_nothing(
    pki: Pki, tmp_path: Path, ask: Callable[[int, Path], Awaitable[None]], talk: Talk
) -> None:
    """As somebody on the way does, who wants the password."""
    async with a_stub(pki, tmp_path, talk) as stub:
        await ask(stub.port, pki.service_ca)
    assert not stub.plain


async def test_a_host_that_the_certificate_does_not_name_is_told_nothing(pki: Pki, tmp_path: Path) -> None:
    async with a_stub(pki, tmp_path, nats_with_tls) as stub:
        bus = Bus(f"tls://user:{SECRET}@127.0.0.1:{stub.port}", "access", pki.service_ca)
        await eventually(lambda: stub.refused)
        await bus.close()
    assert not stub.secured


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("postgresql://role@db.example/readroom", remote.DATABASE),
        ("nats://nats.example", remote.BUS),
        ("tls://nats.example", remote.BUS),
        ("redis://cache.example", remote.CACHE),
        ("rediss://cache.example", remote.CACHE),
        ("http://collector.example", remote.COLLECTOR),
    ],
)
def test_without_an_authority_no_server_elsewhere_is_reached(address: str, kind: remote.Kind) -> None:
    """Whatever the settings have let through."""
    with pytest.raises(Invalid):
        remote.context(address, kind, None)


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("postgresql://role@/readroom?host=/run/pg", remote.DATABASE),
        ("postgresql://role@127.0.0.1,[::1]/readroom", remote.DATABASE),
        ("nats://localhost:4222", remote.BUS),
        ("redis://127.0.0.1", remote.CACHE),
        ("unix:///run/valkey.sock", remote.CACHE),
        ("http://127.0.0.1:4317", remote.COLLECTOR),
    ],
)
def test_on_this_machine_it_may_be_plain(address: str, kind: remote.Kind) -> None:
    assert remote.context(address, kind, None) is None
