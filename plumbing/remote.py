"""What stands on other machines is reached over verified TLS, or not at all: database, bus, cache, collector.

An address is on this machine (loopback, or a socket's file) and may be plain; or its scheme says TLS. Then
an authority in the file `servers_ca` must have signed the certificate, for the host that the address names.
No setting and nothing in an address makes that weaker.
"""

import ipaddress
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, urlsplit

from kernel.errors import Invalid
from plumbing.renewed import Renewed, Text, asked, whole_certificates


@dataclass(frozen=True, slots=True)
class Kind:
    """What an address is of.

    Attributes:
        plain: schemes for this machine.
        encrypted: schemes that mean TLS; where they are those of `plain`, the host decides.
    """

    plain: tuple[str, ...]
    encrypted: tuple[str, ...]


DATABASE = Kind(("postgresql", "postgres"), ("postgresql", "postgres"))
BUS = Kind(("nats",), ("tls",))
CACHE = Kind(("redis", "unix"), ("rediss",))
COLLECTOR = Kind(("http",), ("https",))

# PostgreSQL's clients look these up in a file, which may name any host.
_ELSEWHERE = {"service", "servicefile", "hostaddr"}
_STRONGEST = {"sslmode": "verify-full"}


def problem(address: str, kind: Kind) -> str:
    """What is wrong with an address, whatever authority is known; empty if nothing is."""
    schemes = dict.fromkeys((*kind.plain, *kind.encrypted))
    url = _split(address)
    if url is None or url.scheme not in schemes:
        return f"expected a URL that starts with {' or '.join(f'{scheme}://' for scheme in schemes)}"
    if kind is DATABASE and (elsewhere := _ELSEWHERE.intersection(parse_qs(url.query))):
        return f"`{min(elsewhere)}` in it may name any host: name the host itself"
    if not is_encrypted(address, kind):
        if is_local(address):
            return ""
        return f"it names another machine: expected a URL that starts with {kind.encrypted[0]}://"
    for name, values in parse_qs(url.query, keep_blank_values=True).items():
        if name.lower().startswith(("ssl", "tls")) and values != [_STRONGEST.get(name)]:
            return f"`{name}` in it may weaken TLS: leave it out"
    return ""


def is_encrypted(address: str, kind: Kind) -> bool:
    """Whether it is reached over TLS: as its scheme says, or because it is not on this machine."""
    url = _split(address)
    if kind.encrypted != kind.plain:
        return url is not None and url.scheme in kind.encrypted
    return not is_local(address) or (url is not None and "sslmode" in parse_qs(url.query))


def context(address: str, kind: Kind, ca: Path | None) -> ssl.SSLContext | None:
    """With which TLS the address is reached; None: plain, on this machine.

    Raises Invalid for an address that may not be used, or whose server could not be verified.
    """
    if wrong := problem(address, kind):
        raise Invalid(f"an address is not valid: {wrong}")
    if not is_encrypted(address, kind):
        return None
    if ca is None:
        raise Invalid(
            "a server cannot be verified without the authority of its certificate: set `servers_ca`"
        )
    made = ssl.create_default_context(cafile=ca)  # verifies certificate and host name
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    return made


def contexts(address: Text, kind: Kind, ca: Path | None) -> Callable[[], ssl.SSLContext | None]:
    """The same for each connection that is made: authorities that change in their file are taken up."""
    now = asked(address)
    if ca is None:
        fixed = context(now(), kind, None)
        return lambda: fixed

    def made() -> ssl.SSLContext | None:
        whole_certificates(ca)
        return context(now(), kind, ca)

    return Renewed(lambda: (ca,), made)


def libpq(address: str, ca: Path | None) -> Mapping[str, str]:
    """The same as `context`, for a database that is reached through libpq."""
    if context(address, DATABASE, ca) is None:
        return {"sslmode": "disable"}
    return {"sslmode": "verify-full", "sslrootcert": str(ca), "ssl_min_protocol_version": "TLSv1.2"}


def is_local(address: str) -> bool:
    """Whether every host that `address` names is a loopback address or a socket of this machine."""
    if address.startswith("unix:"):
        return True
    url = _split(address if "://" in address else f"//{address}")
    if url is None:
        return False
    # PostgreSQL takes several hosts, and hosts in the query.
    places = url.netloc.rpartition("@")[2].split(",")
    hosts = [place.rpartition(":")[0] if ":" in place.rpartition("]")[2] else place for place in places]
    hosts += ",".join(parse_qs(url.query).get("host", [])).split(",")
    named = [host.strip("[]") for host in hosts if host]
    return bool(named) and all(map(is_loopback, named))


def is_loopback(host: str) -> bool:
    """Whether the name or address of a host is this machine."""
    if host.startswith("/") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _split(address: str) -> SplitResult | None:
    try:
        return urlsplit(address)
    except ValueError:
        return None
