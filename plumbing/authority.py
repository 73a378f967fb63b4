"""A certificate authority, such as the one with which ingest signs the certificates of gateways.

Everything conforms to RFC 5280, which Python 3.13 insists on, with ECDSA keys on P-256.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
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

CA_LIFETIME = timedelta(days=3650)
LEAF_LIFETIME = timedelta(days=398)
"""What browsers and platforms accept at most, so that nothing refuses one for its age."""

CLOCK_SKEW = timedelta(minutes=5)
"""How far behind ours the clock of who checks a fresh certificate may be."""


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

    def ends_at(self, certificate_pem: bytes) -> datetime:
        """Until when a certificate is valid."""
        return x509.load_pem_x509_certificate(certificate_pem).not_valid_after_utc

    def key_sha256(self, certificate_pem: bytes) -> str:
        """SHA-256 of a certificate's SubjectPublicKeyInfo (RFC 5280 4.1.2.7), hexadecimal."""
        key = x509.load_pem_x509_certificate(certificate_pem).public_key()
        info = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(info).hexdigest()

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


@dataclass(frozen=True, slots=True)
class Shown:
    """What a certificate says: whose it is, by URI, and until when."""

    uris: tuple[str, ...]
    ends_at: datetime


def read_certificate(pem: bytes) -> Shown:
    """Reads the first certificate of a PEM file; raises Invalid."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound) as error:
        raise Invalid(
            "the certificate cannot be read: expected one of a gateway or service, in PEM"
        ) from error
    uris = tuple(names.get_values_for_type(x509.UniformResourceIdentifier))
    return Shown(uris, certificate.not_valid_after_utc)


def belong_together(certificate_pem: bytes, key_pem: bytes) -> bool:
    """Whether a certificate is for a private key."""
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    return certificate.public_key() == load_pem_private_key(key_pem, None).public_key()


def signing_request() -> tuple[bytes, bytes]:
    """A PKCS #10 request and its new private key, both in PEM. It names nobody: who signs gives the names."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder(subject_name=x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.PEM), _private_pem(key)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
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
