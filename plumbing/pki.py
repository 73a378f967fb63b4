"""Certificates: the throw-away authorities of an embedded system, and what ingest signs gateways with.

Two authorities. The service CA vouches for services, the BFF and the command line; the gateway CA vouches for
gateways and for the listeners that gateways call. Everything conforms to RFC 5280, which Python 3.13 insists
on, with ECDSA keys on P-256.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kernel.errors import Invalid
from plumbing.processes import write_private
from plumbing.tls import TLSFiles

CA_LIFETIME = timedelta(days=3650)
LEAF_LIFETIME = timedelta(days=398)
"""What browsers and platforms accept at most, so that nothing refuses one for its age."""

CLOCK_SKEW = timedelta(minutes=5)
"""How far behind ours the clock of who checks a fresh certificate may be."""

SERVICE_URI = "spiffe://readroom/service/{name}"
GATEWAY_URI = "spiffe://readroom/gateway/{gateway_id}"


class CertificateAuthority:
    """Signs certificates."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    def create(cls, common_name: str, now: datetime) -> "CertificateAuthority":
        """A new self-signed authority that signs end entities only."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(common_name)
        certificate = (
            _builder(name, name, key.public_key(), now, CA_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    @classmethod
    def load(cls, certificate_pem: bytes, key_pem: bytes) -> "CertificateAuthority":
        """Raises Invalid if these are not the certificate and the key of one authority."""
        try:
            certificate = x509.load_pem_x509_certificate(certificate_pem)
            key = load_pem_private_key(key_pem, None)
        except (ValueError, TypeError) as failure:
            raise Invalid(f"the certificate authority cannot be read: {failure}") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise Invalid("the certificate authority's key does not belong to its certificate")
        return cls(certificate, key)

    @property
    def certificate_pem(self) -> bytes:
        return self._certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return _private_pem(self._key)

    def issue(
        self,
        uri: str,
        dns_names: Sequence[str],
        now: datetime,
        *,
        addresses: Sequence[str] = (),
        lifetime: timedelta = LEAF_LIFETIME,
    ) -> tuple[bytes, bytes]:
        """A certificate for client and server use, and its new key."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(key.public_key(), uri, dns_names, addresses, now, lifetime)
        return certificate, _private_pem(key)

    def sign(self, csr_pem: bytes, uri: str, now: datetime, *, lifetime: timedelta = LEAF_LIFETIME) -> bytes:
        """A certificate for the key of a signing request; whatever names the request asks for are ignored.

        Raises Invalid for a request that is damaged, not signed by its own key, or whose key is not ECDSA on
        P-256 or P-384.
        """
        try:
            request = x509.load_pem_x509_csr(csr_pem)
            intact = request.is_signature_valid
            key = request.public_key()
        except Exception:
            raise Invalid(
                "the signing request cannot be read: expected PKCS #10 in PEM", field="csr"
            ) from None
        if not intact:
            raise Invalid("the signing request is not signed by its own key")
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(
            key.curve, ec.SECP256R1 | ec.SECP384R1
        ):
            raise Invalid("the signing request's key is not ECDSA on P-256 or P-384")
        return self._sign(key, uri, (), (), now, lifetime)

    def _sign(
        self,
        key: CertificatePublicKeyTypes,
        uri: str,
        dns_names: Sequence[str],
        addresses: Sequence[str],
        now: datetime,
        lifetime: timedelta,
    ) -> bytes:
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri)]
        names += map(x509.DNSName, dns_names)
        names += [x509.IPAddress(IPv4Address(address)) for address in addresses]
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        authority = self._certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        certificate = (
            # A common name holds 64 characters (RFC 5280, A.1); nothing of ours reads it.
            _builder(_name(uri.rpartition("/")[2][:64]), self._certificate.subject, key, now, lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(authority), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(Encoding.PEM)


def token_key() -> tuple[bytes, bytes]:
    """A new Ed25519 key of a token issuer: the private and the public part in PEM."""
    key = ed25519.Ed25519PrivateKey.generate()
    return _private_pem(key), key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True, slots=True)
class Pki:
    """The authorities, identities and token issuer's key of one embedded system: files of one folder."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, services: Sequence[str], now: datetime) -> "Pki":
        """Makes what is missing: authorities and issuer are kept, identities are new at each start.

        An identity for each service and the `bff` from the service CA; from the gateway CA `NAME-gateways`
        for each service, with which its listeners for gateways show themselves.
        """
        folder.mkdir(mode=0o700, exist_ok=True)
        pki = cls(folder)
        service_ca, gateway_ca = (pki._authority(name, now) for name in ("service", "gateway"))
        for name in (*services, "bff"):
            pki._identity(name, name, service_ca, now)
            if name != "bff":
                pki._identity(f"{name}-gateways", name, gateway_ca, now)
        if not pki.token_key.exists():
            private, public = token_key()
            write_private(pki.token_public_key, public)
            write_private(pki.token_key, private)
        return pki

    @property
    def service_ca(self) -> Path:
        return self.folder / "service-ca.pem"

    @property
    def gateway_ca(self) -> Path:
        return self.folder / "gateway-ca.pem"

    @property
    def gateway_ca_key(self) -> Path:
        return self.folder / "gateway-ca.key"

    @property
    def token_key(self) -> Path:
        """The issuer's private key: who can read it can act as any user."""
        return self.folder / "token-issuer.key"

    @property
    def token_public_key(self) -> Path:
        return self.folder / "token-issuer.pem"

    def tls(self, name: str) -> TLSFiles:
        """A service's identity among services, or that of the `bff`."""
        return TLSFiles(self.folder / f"{name}.pem", self.folder / f"{name}.key", self.service_ca)

    def gateway_tls(self, name: str) -> TLSFiles:
        """A service's identity for gateways, who trust and are vouched for by the gateway CA."""
        return TLSFiles(
            self.folder / f"{name}-gateways.pem", self.folder / f"{name}-gateways.key", self.gateway_ca
        )

    def authority(self, name: str) -> CertificateAuthority:
        """The `service` or the `gateway` CA, to sign with."""
        return CertificateAuthority.load(
            (self.folder / f"{name}-ca.pem").read_bytes(), (self.folder / f"{name}-ca.key").read_bytes()
        )

    def _authority(self, name: str, now: datetime) -> CertificateAuthority:
        certificate, key = self.folder / f"{name}-ca.pem", self.folder / f"{name}-ca.key"
        if key.exists():  # written last
            return self.authority(name)
        authority = CertificateAuthority.create(f"readroom {name} CA", now)
        write_private(certificate, authority.certificate_pem)
        write_private(key, authority.key_pem)
        return authority

    def _identity(self, file: str, name: str, authority: CertificateAuthority, now: datetime) -> None:
        certificate, key = authority.issue(
            SERVICE_URI.format(name=name), [f"{name}.readroom", "localhost"], now, addresses=["127.0.0.1"]
        )
        write_private(self.folder / f"{file}.key", key)
        write_private(self.folder / f"{file}.pem", certificate)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _private_pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: CertificatePublicKeyTypes,
    now: datetime,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + lifetime)
    )


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
