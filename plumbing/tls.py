"""Mutual TLS: versions 1.2 and 1.3, authenticated encryption only (SEC-1; PS3.15 B.12 and RFC 9325).

gRPC brings its own TLS with the same floor: TLS 1.2, AEAD suites only. Its list can be replaced from the
environment, so `grpc_server_credentials` and `grpc_channel_credentials` refuse to start where somebody did.
"""

import os
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from kernel.errors import Invalid
from plumbing.renewed import Renewed, whole_certificates

if TYPE_CHECKING:
    import grpc

# RFC 9325 4.2; the suites of TLS 1.3 are all AEAD and not chosen here.
_TLS_1_2_SUITES = "ECDHE+AESGCM"
_GRPC_SUITES_KEY = "GRPC_SSL_CIPHER_SUITES"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TLSFiles:
    """An identity and whom it trusts: PEM files."""

    certificate: Path
    key: Path
    ca: Path


def server_context(files: TLSFiles) -> ssl.SSLContext:
    """A server that demands a client certificate of the CA."""
    return _context(ssl.PROTOCOL_TLS_SERVER, files)


def client_context(files: TLSFiles) -> ssl.SSLContext:
    """A client that shows its certificate and demands the host name it asked for."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, files)


def _context(protocol: int, files: TLSFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_TLS_1_2_SUITES)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.verify_mode = ssl.CERT_REQUIRED
    whole_certificates(files.certificate)
    whole_certificates(files.ca)
    context.load_cert_chain(files.certificate, files.key)
    context.load_verify_locations(files.ca)
    return context


Contexts = Callable[[], ssl.SSLContext]
"""Answers with which context the next handshake is done."""


def server_contexts(files: TLSFiles | Callable[[], TLSFiles]) -> Renewed[ssl.SSLContext]:
    """A server that demands a client certificate of the CA. Handshakes take up what changes in the files."""
    return renewed(files, server_context)


def client_contexts(files: TLSFiles) -> Renewed[ssl.SSLContext]:
    """A client that shows its certificate and demands the host name it asked for; the same."""
    return renewed(files, client_context)


def renewed(files: TLSFiles | Callable[[], TLSFiles], make: Callable[[TLSFiles], T]) -> Renewed[T]:
    """What is made of the files of an identity, as they are now."""

    def now() -> TLSFiles:
        return files() if callable(files) else files

    def those() -> Iterable[Path]:
        each = now()
        return each.certificate, each.key, each.ca

    return Renewed(those, lambda: make(now()))


def grpc_server_credentials(files: TLSFiles) -> "grpc.ServerCredentials":
    """The same for a gRPC server."""
    import grpc

    def configuration(those: TLSFiles) -> grpc.ServerCertificateConfiguration:
        key, certificate, ca = _read(those)
        return grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=ca)

    configurations = renewed(files, configuration)
    given = configurations()

    def changed() -> grpc.ServerCertificateConfiguration | None:
        """What the next handshake is done with; None: as the one before. Asked in a thread of gRPC."""
        nonlocal given
        now = configurations()
        if now is given:
            return None
        given = now
        return now

    fetch: Any = changed  # its type says that it never answers None
    return grpc.dynamic_ssl_server_credentials(given, fetch, require_client_authentication=True)


def grpc_channel_credentials(files: TLSFiles) -> "grpc.ChannelCredentials":
    """The same for a gRPC channel, as the files are now."""
    import grpc

    key, certificate, ca = _read(files)
    return grpc.ssl_channel_credentials(ca, key, certificate)


def _read(files: TLSFiles) -> tuple[bytes, bytes, bytes]:
    if _GRPC_SUITES_KEY in os.environ:
        raise Invalid(f"`{_GRPC_SUITES_KEY}` is set: the cipher suites are not a setting")
    client_context(files)  # gRPC would find out at each handshake that they do not belong together
    return files.key.read_bytes(), whole_certificates(files.certificate), whole_certificates(files.ca)
