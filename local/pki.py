"""The throw-away authorities, identities and token issuer of a system on this machine.

Two authorities. The service CA vouches for services, the BFF and the command line; the gateway CA vouches for
gateways and for the listeners that gateways call.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from plumbing.authority import CertificateAuthority
from plumbing.callers import SERVICE_URI
from plumbing.components import Component
from plumbing.files import write_private
from plumbing.tls import TLSFiles
from plumbing.tokenkeys import key_set


def token_key() -> tuple[bytes, bytes]:
    """A new Ed25519 key of a token issuer: the private and the public part in PEM."""
    key = ed25519.Ed25519PrivateKey.generate()
    return (
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    )


@dataclass(frozen=True, slots=True)
class Pki:
    """The authorities, identities and token issuer's key of one embedded system: files of one folder."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, components: Iterable[Component], now: datetime) -> "Pki":
        """Makes what is missing: authorities and issuer are kept, identities are new at each start.

        An identity for each component from the service CA. For a component that gateways call,
        `IDENTITY-gateways` from the gateway CA, with which its listeners for them show themselves.
        """
        folder.mkdir(mode=0o700, exist_ok=True)
        pki = cls(folder)
        service_ca, gateway_ca = (pki._authority(name, now) for name in ("service", "gateway"))
        for component in components:
            name = component.identity
            pki._identity(name, name, service_ca, now)
            if "gateways" in component.ports:
                pki._identity(f"{name}-gateways", name, gateway_ca, now)
        if not pki.token_key.exists():
            private, public = token_key()
            write_private(pki.token_public_key, public)
            write_private(pki.token_key, private)
        if not pki.token_keys.exists():
            write_private(pki.token_keys, key_set([pki.token_key.read_bytes()]))
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
        """For the version before."""
        return self.folder / "token-issuer.pem"

    @property
    def token_keys(self) -> Path:
        """The keys that services verify tokens with."""
        return self.folder / "token-keys.json"

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
