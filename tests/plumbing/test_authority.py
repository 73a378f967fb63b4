"""Certificates that a strict verifier accepts, for exactly the names they should have."""

import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from kernel.errors import Invalid
from local.pki import Pki
from plumbing.authority import CertificateAuthority
from plumbing.tls import TLSFiles, client_context, server_context

NOW = datetime.now(UTC)
URI = "spiffe://readroom/gateway/0191d2a0-0000-7000-8000-000000000001"


def handshake(server: TLSFiles, client: TLSFiles, name: str) -> tuple[list[str], list[str]]:
    """Shakes hands as strictly as Python 3.13 does; the URIs that client and server saw of each other."""
    contexts = server_context(server), client_context(client)
    for context in contexts:
        context.verify_flags |= ssl.VERIFY_X509_STRICT
    ours, theirs = socket.socketpair()

    def serve() -> list[str]:
        with contexts[0].wrap_socket(ours, server_side=True) as tls:
            tls.recv(1)
            return _uris(tls)

    with ThreadPoolExecutor(max_workers=1) as thread:
        serving = thread.submit(serve)
        with contexts[1].wrap_socket(theirs, server_hostname=name) as tls:
            seen = _uris(tls)
            tls.send(b".")
            return serving.result(), seen


def _uris(tls: ssl.SSLSocket) -> list[str]:
    certificate = tls.getpeercert()
    assert certificate
    return [str(name[1]) for name in certificate["subjectAltName"] if name[0] == "URI"]


def _request(key: CertificateIssuerPrivateKeyTypes, common_name: str = "somebody") -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://readroom/service/access")])
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    request = x509.CertificateSigningRequestBuilder(name).add_extension(names, critical=False)
    return request.sign(key, algorithm).public_bytes(Encoding.PEM)


def _p256() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize("name", ["access.readroom", "localhost", "127.0.0.1"])
def test_a_service_and_a_caller_know_each_other(name: str, pki: Pki) -> None:
    seen_by_service, seen_by_caller = handshake(pki.tls("access"), pki.tls("bff"), name)
    assert seen_by_service == ["spiffe://readroom/service/bff"]
    assert seen_by_caller == ["spiffe://readroom/service/access"]


def test_a_service_is_not_taken_for_another(pki: Pki) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(pki.tls("access"), pki.tls("bff"), "ingest.readroom")


def test_the_two_authorities_do_not_vouch_for_each_other(pki: Pki, tmp_path: Path) -> None:
    gateway = _files(tmp_path, pki.authority("gateway").issue(URI, [], NOW), pki.service_ca)
    with pytest.raises(ssl.SSLError):
        handshake(pki.tls("access"), gateway, "access.readroom")
    with pytest.raises(ssl.SSLError):
        handshake(pki.gateway_tls("ingest"), pki.tls("bff"), "ingest.readroom")


def test_a_signed_gateway_gets_in_under_the_name_it_was_given(pki: Pki, tmp_path: Path) -> None:
    key = _p256()
    certificate = pki.authority("gateway").sign(_request(key), URI, NOW)
    gateway = _files(tmp_path, (certificate, _pem(key)), pki.gateway_ca)

    seen, _ = handshake(pki.gateway_tls("ingest"), gateway, "ingest.readroom")

    assert seen == [URI]  # and not what the request asked for


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: b"", "the signing request cannot be read: expected PKCS #10 in PEM"),
        (
            lambda: b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
            "cannot be read",
        ),
        (lambda: _request(ed25519.Ed25519PrivateKey.generate()), "key is not ECDSA on P-256 or P-384"),
        (lambda: _request(rsa.generate_private_key(65537, 2048)), "key is not ECDSA on P-256 or P-384"),
        (lambda: _request(ec.generate_private_key(ec.SECP256K1())), "key is not ECDSA on P-256 or P-384"),
        (lambda: _forged(), "the signing request is not signed by its own key"),
    ],
)
def test_a_bad_signing_request_is_refused(make: Callable[[], bytes], sentence: str) -> None:
    authority = CertificateAuthority.create("test", NOW)
    with pytest.raises(Invalid, match=sentence):
        authority.sign(make(), URI, NOW)


def _forged() -> bytes:
    """A request whose name was changed after it was signed."""
    request = x509.load_pem_x509_csr(_request(_p256(), "somebody")).public_bytes(Encoding.DER)
    forged = request.replace(b"somebody", b"somebody"[::-1])
    return x509.load_der_x509_csr(forged).public_bytes(Encoding.PEM)


def test_a_certificate_is_valid_from_a_little_before_now_for_its_lifetime() -> None:
    authority = CertificateAuthority.create("test", NOW)
    pem, _ = authority.issue(URI, [], NOW, lifetime=timedelta(days=7))
    certificate = x509.load_pem_x509_certificate(pem)
    assert NOW - timedelta(minutes=6) < certificate.not_valid_before_utc < NOW
    assert abs(certificate.not_valid_after_utc - NOW - timedelta(days=7)) < timedelta(seconds=1)


def test_an_authority_is_loaded_only_with_its_own_key() -> None:
    one, other = (CertificateAuthority.create(name, NOW) for name in ("one", "other"))
    assert CertificateAuthority.load(one.certificate_pem, one.key_pem).certificate_pem == one.certificate_pem
    with pytest.raises(Invalid, match="key does not belong to its certificate"):
        CertificateAuthority.load(one.certificate_pem, other.key_pem)
    with pytest.raises(Invalid, match="cannot be read"):
        CertificateAuthority.load(b"nothing", one.key_pem)


def _files(folder: Path, identity: tuple[bytes, bytes], ca: Path) -> TLSFiles:
    certificate, key = folder / "certificate.pem", folder / "certificate.key"
    certificate.write_bytes(identity[0])
    key.write_bytes(identity[1])
    return TLSFiles(certificate, key, ca)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
