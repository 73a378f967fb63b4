"""The secrets of an installation in Kubernetes: each Secret that the Helm chart expects, written once.

Beside the manifests what the servers must know of them: roles and databases for PostgreSQL, users for NATS,
the password of Valkey. Files of mode 0600 in a folder of mode 0700; nothing of them is printed.
"""

import base64
import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from kernel.errors import Conflict, Invalid
from plumbing import permissions
from plumbing.authority import CertificateAuthority
from plumbing.callers import SERVICE_URI
from plumbing.components import COMPONENTS, SERVICES
from plumbing.config import Address, valid
from plumbing.files import write_private
from plumbing.tokenkeys import key_set

SERVERS, AUTHORITY = "servers", "service-ca"
"""The folder for the servers, and the name of the files with the authority of the services."""

_SERVERS_CA, _GATEWAY_CA, _GATEWAYS = "servers-ca", "gateway-ca", "gateways-tls"

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,51}[a-z0-9])?")
_OWN = {"access": ("revision-key",), "sharing": ("link-secret", "code-pepper")}
"""What each service keeps to itself."""

Data = Mapping[str, bytes]
"""What a Secret holds, by key."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an installation is.

    Attributes:
        release, namespace: as Helm is told.
        database, nats, cache: `HOST:PORT` of PostgreSQL, NATS and Valkey.
        servers_ca: PEM of the authorities of their certificates.
        text_token: the bearer token for the text gateway.
        smtp_password: the password at the mail server; None where it does not ask.
        gateway_names: DNS names by which gateways reach ingest.
        certificates: False where cert-manager makes those of services and gateways.
    """

    release: str
    namespace: str
    database: str
    nats: str
    cache: str
    servers_ca: bytes
    text_token: bytes
    smtp_password: bytes | None = None
    gateway_names: Sequence[str] = ()
    certificates: bool = True

    def check(self) -> None:
        """Raises Invalid for what Kubernetes or a service would refuse."""
        for field in ("release", "namespace"):
            if not _NAME.fullmatch(getattr(self, field)):
                raise Invalid(
                    f"`{field}` is not a name that Kubernetes accepts: use at most 53 of a-z, 0-9 and -",
                    field=field,
                )
        for field in ("database", "nats", "cache"):
            valid(Address, getattr(self, field), field)
        if b"-----BEGIN CERTIFICATE-----" not in self.servers_ca:
            raise Invalid(
                "`servers-ca` holds no certificate: name a PEM file that begins with BEGIN CERTIFICATE",
                field="servers-ca",
            )
        if not self.text_token.strip():
            raise Invalid(
                "`text-token-file` is empty: the text gateway gives the token", field="text-token-file"
            )

    @property
    def prefix(self) -> str:
        """What stands before the name of each object of the chart."""
        name = self.release if "readroom" in self.release else f"{self.release}-readroom"
        return name[:40].rstrip("-")


def make(
    wanted: Wanted, folder: Path, now: datetime, new_secret: Callable[[], str] = lambda: secrets.token_hex(32)
) -> list[str]:
    """Writes everything into a new or empty folder; answers the names of the Secrets.

    Raises Conflict where something is in the folder: some of these secrets never change.
    """
    wanted.check()
    if folder.exists() and any(folder.iterdir()):
        raise Conflict(
            f"`{folder}` is not empty: name a new folder. Keep what is in it, for audit keys never change"
        )
    passwords = {name: new_secret() for name in _roles()}
    made = _secrets(wanted, passwords, new_secret)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    servers = folder / SERVERS
    servers.mkdir(mode=0o700)
    if wanted.certificates:
        service_ca, gateway_ca = (
            CertificateAuthority.create(f"readroom {name} CA", now) for name in ("service", "gateway")
        )
        write_private(servers / f"{AUTHORITY}.pem", service_ca.certificate_pem)
        write_private(servers / f"{AUTHORITY}.key", service_ca.key_pem)
        made |= _identities(service_ca, now)
        made[_GATEWAY_CA] = {"tls.crt": gateway_ca.certificate_pem, "tls.key": gateway_ca.key_pem}
        made[_GATEWAYS] = _identity(gateway_ca, "ingest", now, wanted.gateway_names)
    write_private(servers / "databases.sql", _databases(passwords).encode())
    write_private(servers / "nats.conf", _users(passwords).encode())
    write_private(servers / "valkey.conf", f"requirepass {passwords['cache']}\n".encode())
    return _write(folder, wanted.namespace, wanted.prefix, made)


def renew(folder: Path, now: datetime) -> list[str]:
    """Writes new certificates of services and listeners, signed by the same authorities.

    Answers the names of the Secrets. Raises Invalid where the folder has no authorities.
    """
    authority = folder / SERVERS / AUTHORITY
    try:
        (known,) = folder.glob(f"*-{_SERVERS_CA}.json")
        prefix = known.stem.removesuffix(f"-{_SERVERS_CA}")
        gateway_ca = _read(folder / f"{prefix}-{_GATEWAY_CA}.json")
        shown = _read(folder / f"{prefix}-{_GATEWAYS}.json")["tls.crt"]
        made = _identities(
            CertificateAuthority.load(
                authority.with_suffix(".pem").read_bytes(), authority.with_suffix(".key").read_bytes()
            ),
            now,
        )
        made[_GATEWAYS] = _identity(
            CertificateAuthority.load(gateway_ca["tls.crt"], gateway_ca["tls.key"]),
            "ingest",
            now,
            _names(shown)[1:],
        )
        namespace = json.loads(known.read_text())["metadata"]["namespace"]
    except (OSError, ValueError, KeyError):
        raise Invalid(
            f"`{folder}` holds no authorities: name one that `secrets make` wrote without --cert-manager"
        ) from None
    return _write(folder, namespace, prefix, made)


def _names(certificate_pem: bytes) -> list[str]:
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName)


def _read(manifest: Path) -> dict[str, bytes]:
    return {key: base64.b64decode(value) for key, value in json.loads(manifest.read_text())["data"].items()}


def _roles() -> list[str]:
    """Whoever has a password: owner and user of each database, users of NATS, Valkey."""
    owners = [f"{component.database}_owner" for component in COMPONENTS.values()]
    users = [component.database for component in COMPONENTS.values()]
    return [*owners, *users, *(f"nats_{name}" for name in (permissions.SETUP, *SERVICES)), "cache"]


def _secrets(wanted: Wanted, passwords: Mapping[str, str], new_secret: Callable[[], str]) -> dict[str, Data]:
    """By the end of its name what each Secret holds, but for certificates."""

    def database(name: str, role: str) -> bytes:
        return f"postgresql://{role}:{passwords[role]}@{wanted.database}/{COMPONENTS[name].database}".encode()

    def bus(user: str) -> bytes:
        return f"tls://{user}:{passwords[f'nats_{user}']}@{wanted.nats}".encode()

    made: dict[str, dict[str, bytes]] = {}
    for name, component in COMPONENTS.items():
        own = {key: new_secret().encode() for key in ("audit-key", *_OWN.get(name, ()))}
        made[name] = own | {"database-url": database(name, component.database)}
        if name in SERVICES:
            made[name]["nats-url"] = bus(name)
    made["ingest"]["cache-url"] = f"rediss://:{passwords['cache']}@{wanted.cache}".encode()
    made["notify"]["text-token"] = wanted.text_token.strip()
    if wanted.smtp_password is not None:
        made["notify"]["smtp-password"] = wanted.smtp_password.rstrip(b"\r\n")
    made["migrate"] = {
        f"{name}-database-url": database(name, f"{component.database}_owner")
        for name, component in COMPONENTS.items()
    }
    made["migrate"]["bus-setup-url"] = bus(permissions.SETUP)
    key = ed25519.Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    made["token-key"] = {"token.key": key}
    made["token-keys"] = {"token-keys.json": key_set([key])}
    made[_SERVERS_CA] = {"ca.crt": wanted.servers_ca}
    return dict(made)


def _identities(authority: CertificateAuthority, now: datetime) -> dict[str, Data]:
    return {
        f"{component.name}-tls": _identity(authority, component.identity, now)
        for component in COMPONENTS.values()
    }


def _identity(
    authority: CertificateAuthority, name: str, now: datetime, names: Sequence[str] = ()
) -> dict[str, bytes]:
    certificate, key = authority.issue(SERVICE_URI.format(name=name), [f"{name}.readroom", *names], now)
    return {"tls.crt": certificate, "tls.key": key, "ca.crt": authority.certificate_pem}


def _databases(passwords: Mapping[str, str]) -> str:
    """For psql, as a superuser. A service has rights on rows alone: it cannot take a trigger away."""
    lines = ["-- Run once: psql --set ON_ERROR_STOP=1 --file databases.sql"]
    for component in COMPONENTS.values():
        user, owner = component.database, f"{component.database}_owner"
        lines += [
            f"create role {owner} login password '{passwords[owner]}';",
            f"create role {user} login password '{passwords[user]}';",
            f"create database {user} owner {owner} template template0 encoding 'UTF8';",
            f"\\connect {user}",
            "revoke all on schema public from public;",
            f"grant all on schema public to {owner};",
            f"grant usage on schema public to {user};",
            f"alter default privileges for role {owner} in schema public",
            f"  grant select, insert, update, delete on tables to {user};",
            f"alter default privileges for role {owner} in schema public",
            f"  grant usage, select on sequences to {user};",
        ]
    return "\n".join(lines) + "\n"


def _users(passwords: Mapping[str, str]) -> str:
    """An account for the configuration of NATS: each user may say and hear what is theirs."""
    users = [
        {"user": name, "password": passwords[f"nats_{name}"], "permissions": permissions.of(name)}
        for name in (permissions.SETUP, *SERVICES)
    ]
    return (
        "# Include it in the configuration of NATS. JetStream needs `sync_interval: always`.\n"
        "system_account: SYSTEM\n"
        "accounts {\n"
        '  SYSTEM { exports: [{ service: "$SYS.REQ.SERVER.PING.JSZ" }] }\n'
        "  READROOM {\n"
        "    jetstream: enabled\n"
        f"    users: {json.dumps(users)}\n"
        '    imports: [{ service: { account: SYSTEM, subject: "$SYS.REQ.SERVER.PING.JSZ" } }]\n'
        "  }\n"
        "}\n"
    )


def _write(folder: Path, namespace: str, prefix: str, made: Mapping[str, Data]) -> list[str]:
    names = []
    for end, data in sorted(made.items()):
        name = f"{prefix}-{end}"
        manifest = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": {"app.kubernetes.io/part-of": "readroom"},
            },
            "type": "Opaque",
            "data": {key: base64.b64encode(value).decode() for key, value in sorted(data.items())},
        }
        write_private(folder / f"{name}.json", json.dumps(manifest, indent=2).encode() + b"\n")
        names.append(name)
    return names
