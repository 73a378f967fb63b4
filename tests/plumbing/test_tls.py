"""TLS: which versions and suites are spoken, at gRPC listeners and at those of the standard library."""

import asyncio
import ssl
from collections.abc import AsyncIterator

import pytest

from kernel.errors import Invalid
from local.pki import Pki
from plumbing import rpc, tls

AEAD = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384"
# Every suite that OpenSSL still has and that is not AEAD.
NOT_AEAD = "ALL:!AESGCM:!CHACHA20:!AESCCM:!ARIAGCM:!aNULL:@SECLEVEL=0"
ANY = "ALL:@SECLEVEL=0"
V = ssl.TLSVersion

SPOKEN = [
    pytest.param(V.TLSv1_3, ANY, id="1.3"),
    pytest.param(V.TLSv1_2, AEAD, id="1.2-aead"),
]
NOT_SPOKEN = [
    pytest.param(V.TLSv1_2, NOT_AEAD, id="1.2-without-aead"),
    pytest.param(V.TLSv1_1, ANY, id="1.1"),
    pytest.param(V.TLSv1, ANY, id="1.0"),
]


def old_client(pki: Pki, version: ssl.TLSVersion, suites: str) -> ssl.SSLContext:
    """A client that speaks one version of TLS and, up to 1.2, no other suites."""
    files = pki.tls("bff")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers(suites)
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(files.certificate, files.key)
    context.load_verify_locations(files.ca)
    return context


async def handshake(port: int, context: ssl.SSLContext) -> str | None:
    """The version agreed upon."""
    _, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="access.readroom"
    )
    version: str | None = writer.get_extra_info("ssl_object").version()
    writer.close()
    return version


async def listen(context: ssl.SSLContext) -> tuple[asyncio.Server, int]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(await reader.readexactly(1))
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    return server, server.sockets[0].getsockname()[1]


@pytest.fixture(params=["grpc", "ssl"])
async def port(request: pytest.FixtureRequest, pki: Pki) -> AsyncIterator[int]:
    """A listener of each kind that this repository has."""
    files = pki.tls("access")
    if request.param == "grpc":
        server = rpc.Server("access", "127.0.0.1:0", files, None)
        yield await server.start()
        await server.stop(0)
    else:
        listener, number = await listen(tls.server_context(files))
        yield number
        listener.close()


@pytest.mark.proves("SEC-1", part="gRPC listeners")
@pytest.mark.parametrize(("version", "suites"), SPOKEN)
async def test_tls_1_2_and_1_3_with_aead_are_spoken(
    port: int, pki: Pki, version: ssl.TLSVersion, suites: str
) -> None:
    assert await handshake(port, old_client(pki, version, suites)) == f"TLSv1.{version - V.TLSv1}"


@pytest.mark.proves("SEC-1", part="gRPC listeners")
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(("version", "suites"), NOT_SPOKEN)
async def test_older_versions_and_other_suites_are_refused(
    port: int, pki: Pki, version: ssl.TLSVersion, suites: str
) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await handshake(port, old_client(pki, version, suites))


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(("version", "suites"), [*SPOKEN, *NOT_SPOKEN])
async def test_a_lax_server_speaks_them_all_so_the_refusals_are_ours(
    pki: Pki, version: ssl.TLSVersion, suites: str
) -> None:
    lax = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    lax.set_ciphers(ANY)
    lax.minimum_version = V.TLSv1
    files = pki.tls("access")
    lax.load_cert_chain(files.certificate, files.key)
    listener, port = await listen(lax)
    assert await handshake(port, old_client(pki, version, suites))
    listener.close()


async def test_a_listener_demands_a_certificate(pki: Pki) -> None:
    listener, port = await listen(tls.server_context(pki.tls("access")))
    anonymous = ssl.create_default_context(cafile=pki.service_ca)
    refused = (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)
    with pytest.raises(refused):  # noqa: PT012 - in TLS 1.3 the refusal arrives with the first read
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=anonymous, server_hostname="access.readroom"
        )
        writer.write(b"x")
        await reader.readexactly(1)
    listener.close()


async def test_our_client_talks_to_our_server_under_the_name_it_asked_for_only(pki: Pki) -> None:
    listener, port = await listen(tls.server_context(pki.tls("access")))
    client = tls.client_context(pki.tls("bff"))
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=client, server_hostname="access.readroom"
    )
    writer.write(b"x")
    assert await reader.readexactly(1) == b"x"
    writer.close()
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname="ingest.readroom")
    listener.close()


def test_the_suites_of_grpc_cannot_be_set_from_outside(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRPC_SSL_CIPHER_SUITES", "ECDHE-ECDSA-AES128-SHA256")
    for credentials in (tls.grpc_server_credentials, tls.grpc_channel_credentials):
        with pytest.raises(Invalid, match="`GRPC_SSL_CIPHER_SUITES` is set"):
            credentials(pki.tls("access"))
