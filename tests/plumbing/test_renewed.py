"""Certificates and authorities change in their files while everything goes on."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from aiohttp.web import Application
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from prometheus_client import REGISTRY

from kernel.errors import Unavailable
from plumbing import rpc
from plumbing.authority import LEAF_LIFETIME, CertificateAuthority
from plumbing.callers import SERVICE_URI
from plumbing.edge import Edge
from plumbing.tls import TLSFiles, server_contexts
from tests.plumbing.dimse.peers import IMPLICIT, VERIFICATION, listening
from tests.ports import free_port
from tests.wait import eventually
from web.listening import listening as pages
from web.main import _pages_tls

NOW = datetime.now(UTC)


def write(path: Path, content: bytes) -> None:
    """As others replace a file: under its name at once."""
    draft = path.with_suffix(".draft")
    draft.write_bytes(content)
    draft.replace(path)


@dataclass
class Party:
    """Who shows a certificate and trusts authorities, from files."""

    name: str
    files: TLSFiles

    def shows(self, authority: CertificateAuthority) -> None:
        certificate, key = self.pair(authority)
        write(self.files.certificate, certificate)
        write(self.files.key, key)

    def pair(self, authority: CertificateAuthority) -> tuple[bytes, bytes]:
        names = [f"{self.name}.readroom", "localhost"]
        return authority.issue(SERVICE_URI.format(name=self.name), names, NOW, addresses=["127.0.0.1"])

    def trusts(self, *authorities: CertificateAuthority) -> None:
        write(self.files.ca, b"".join(each.certificate_pem for each in authorities))


@dataclass
class House:
    """A server and a client of one authority, and another authority."""

    server: Party
    client: Party
    old: CertificateAuthority
    new: CertificateAuthority


@pytest.fixture
def house(tmp_path: Path) -> House:
    def party(name: str) -> Party:
        # Metrics name files: those of another test may not be forgotten yet.
        own = f"{name}-{uuid4()}"
        return Party(name, TLSFiles(*(tmp_path / f"{own}{each}" for each in (".pem", ".key", "-ca.pem"))))

    old, new = (CertificateAuthority.create(f"{name} CA", NOW) for name in ("old", "new"))
    made = House(party("access"), party("bff"), old, new)
    for each in (made.server, made.client):
        each.trusts(old)
        each.shows(old)
    return made


def looked() -> None:
    """Whoever asks for the metrics lets the files be looked at."""
    list(REGISTRY.collect())


def unreadable(file: Path) -> float | None:
    looked()
    return REGISTRY.get_sample_value("readroom_files_unreadable", {"file": file.name})


def is_shown(port: int, authority: CertificateAuthority) -> bool:
    """Whether a new connection is shown a certificate of this authority."""
    context = ssl.create_default_context(cadata=authority.certificate_pem.decode())
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        try:
            context.wrap_socket(connection, server_hostname="localhost").close()
        except ssl.SSLCertVerificationError:
            return False
    return True


@contextmanager
def dicom(files: TLSFiles) -> Iterator[int]:
    with listening(files) as handler:
        yield handler.port


@contextmanager
def dicomweb(files: TLSFiles) -> Iterator[int]:
    def nothing(_asked: object) -> Any:
        return ExitStack()  # nobody asks

    edge = Edge("127.0.0.1:0", nothing, contexts=server_contexts(files))
    yield edge.start()
    edge.stop()


@asynccontextmanager
async def browsers(files: TLSFiles) -> AsyncIterator[int]:
    port = free_port()
    told: Any = SimpleNamespace(pages_certificate=files.certificate, pages_key=files.key)
    async with pages(Application(), f"127.0.0.1:{port}", _pages_tls(told), {}, 0.0):
        yield port


@asynccontextmanager
async def calls(files: TLSFiles) -> AsyncIterator[int]:
    # Connections end at once, so that who calls on shakes hands again and again.
    server = rpc.Server("access", "127.0.0.1:0", files, None, connection_age_s=0.2)
    yield await server.start()
    await server.stop(0.1)


LISTENERS: dict[str, Callable[[TLSFiles], Any]] = {
    "dicom": dicom,
    "dicomweb": dicomweb,
    "pages": browsers,
    "grpc": calls,
}


@pytest.mark.proves("OPS-6", part="every listener shows a renewed certificate without a restart")
@pytest.mark.parametrize("listener", LISTENERS)
async def test_a_listener_shows_what_is_in_the_files(house: House, listener: str) -> None:
    server = house.server
    async with AsyncStack(LISTENERS[listener](server.files)) as port:

        async def shown(authority: CertificateAuthority) -> bool:
            looked()
            return await asyncio.to_thread(is_shown, port, authority)

        assert await shown(house.old)
        certificate, key = server.pair(house.new)

        # A pair that is half written: the one before counts, and that is told.
        write(server.files.certificate, certificate)
        assert unreadable(server.files.certificate) == 1
        assert await shown(house.old)
        write(server.files.key, key)
        assert unreadable(server.files.certificate) == 0
        assert await shown(house.new)
        assert not await shown(house.old)

        # A file that is cut off, empty or gone.
        for broken in (certificate[:-20], b"", None):
            if broken is None:
                server.files.certificate.unlink()
            else:
                write(server.files.certificate, broken)
            assert unreadable(server.files.certificate) == 1
            assert await shown(house.new)
        write(server.files.certificate, certificate)
        assert unreadable(server.files.certificate) == 0


@pytest.mark.proves(
    "OPS-6", part="authority and certificates of both sides change under calls, and none fails"
)
async def test_no_call_fails_while_authority_and_certificates_change(house: House) -> None:
    server, client = house.server, house.client
    done, stop = 0, False
    async with (
        calls(server.files) as port,
        rpc.connect(f"127.0.0.1:{port}", "access", client.files) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)

        async def call() -> None:
            nonlocal done
            while not stop:
                await health.Check(health_pb2.HealthCheckRequest())
                done += 1

        async def goes_on() -> None:
            """For several connections."""
            looked()
            enough = done + 400
            await eventually(lambda: done > enough or any(each.done() for each in calling), within=60)

        calling = [asyncio.create_task(call()) for _ in range(4)]
        await goes_on()
        for each in (server, client):
            each.trusts(house.old, house.new)
        await goes_on()
        for each in (server, client):
            each.shows(house.new)
        await goes_on()
        for each in (server, client):
            each.trusts(house.new)
        await goes_on()
        assert await asyncio.to_thread(is_shown, port, house.new)
        stop = True
        await asyncio.gather(*calling)

        # Who shows a certificate of the authority before is a stranger now.
        write(client.files.ca, house.new.certificate_pem)
        client.shows(house.old)
        looked()
        async with rpc.connect(f"127.0.0.1:{port}", "access", client.files) as late:
            with pytest.raises(Unavailable):
                await health_pb2_grpc.HealthStub(late).Check(health_pb2.HealthCheckRequest())


async def test_an_open_association_goes_on_while_certificates_change(house: House) -> None:
    with (
        listening(house.server.files) as handler,
        handler.sender().association([(VERIFICATION, IMPLICIT)]) as association,
    ):
        house.server.shows(house.new)
        looked()
        assert await asyncio.to_thread(is_shown, handler.port, house.new)
        assert (await asyncio.to_thread(association.send_c_echo)).Status == 0


@pytest.mark.proves("OPS-16", part="each process tells when its certificates end")
def test_the_metrics_say_when_a_certificate_ends(house: House) -> None:
    held = server_contexts(house.server.files)
    for path, lasts in (
        (house.server.files.certificate, LEAF_LIFETIME),
        (house.server.files.ca, timedelta(days=3650)),
    ):
        looked()
        ends = REGISTRY.get_sample_value("readroom_certificate_ends", {"file": path.name})
        assert ends is not None
        assert abs(datetime.fromtimestamp(ends, UTC) - NOW - lasts) < timedelta(minutes=10)
    assert held() is held()


class AsyncStack:
    """A context of either kind."""

    def __init__(self, context: Any) -> None:
        self._context = context

    async def __aenter__(self) -> Any:
        enter = getattr(self._context, "__aenter__", None)
        return await enter() if enter else self._context.__enter__()

    async def __aexit__(self, *why: Any) -> None:
        leave = getattr(self._context, "__aexit__", None)
        if leave:
            await leave(*why)
        else:
            self._context.__exit__(*why)
