"""Those whom ingest must not let in: a stranger's certificate, a foreign AE title, a sender without TLS."""

import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pynetdicom import AE

from plumbing.authority import CertificateAuthority
from plumbing.callers import GATEWAY_URI
from plumbing.files import write_private
from plumbing.tls import TLSFiles, client_context

_TIMEOUT_S = 5.0


def strangers_identity(folder: Path, trusted: Path) -> TLSFiles:
    """A certificate that claims to be a gateway's, of an authority that nobody asked."""
    folder.mkdir(parents=True, exist_ok=True)
    authority = CertificateAuthority.create("a stranger's CA", datetime.now(UTC))
    uri = GATEWAY_URI.format(gateway_id="00000000-0000-7000-8000-000000000000")
    certificate, key = authority.issue(uri, ["stranger.invalid"], datetime.now(UTC))
    files = TLSFiles(folder / "stranger.pem", folder / "stranger.key", trusted)
    write_private(files.certificate, certificate)
    write_private(files.key, key)
    return files


def tls_alert(address: str, identity: TLSFiles) -> str | None:
    """What the listener's TLS says to somebody with this certificate; None if it lets them in."""
    host, port = _split(address)
    try:
        with (
            socket.create_connection((host, port), timeout=_TIMEOUT_S) as plain,
            client_context(identity).wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            # With TLS 1.3 the client has finished before the server looks at its certificate.
            connection.recv(1)
    except ssl.SSLError as error:
        return error.reason.lower().replace("_", " ") if error.reason else str(error)
    except TimeoutError:
        return None
    return None


def rejection(address: str, identity: TLSFiles | None, ae_title: str) -> str | None:
    """How the listener answers an association under this AE title; None if it accepts it."""
    host, port = _split(address)
    ae = AE(ae_title)
    ae.acse_timeout = ae.network_timeout = ae.connection_timeout = _TIMEOUT_S
    ae.add_requested_context("1.2.840.10008.1.1")  # Verification (PS3.4 annex A)
    tls = (client_context(identity), "localhost") if identity else None
    association = ae.associate(host, port, ae_title="READROOM", tls_args=tls)
    if association.is_established:
        association.release()
        return None
    if association.is_rejected:
        answer: Any = association.acceptor.primitive
        return f"{answer.result},{answer.result_source},{answer.diagnostic}"
    return "connection closed"


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)
