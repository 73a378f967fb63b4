"""Who calls, and which methods they may: the allow-list that stands in the contracts (SEC-14)."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from uuid import UUID

from google.protobuf import descriptor_pool

from kernel.errors import Denied
from wire.auth.v1 import auth_pb2

SERVICE_URI = "spiffe://readroom/service/{name}"
GATEWAY_URI = "spiffe://readroom/gateway/{gateway_id}"
"""The one name in a certificate that says whose it is."""

_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_SERVICE = re.compile(SERVICE_URI.format(name="([a-z]+)"))
_GATEWAY = re.compile(GATEWAY_URI.format(gateway_id=f"({_UUID})"))


@dataclass(frozen=True, slots=True)
class Peer:
    """The owner of the certificate at the other end.

    Attributes:
        name: `access`, or `gateway:<uuid>`.
        gateway_id: set for a gateway.
    """

    name: str
    gateway_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks for the call being served.

    Attributes:
        peer: the peer's name.
        login: the acting user; None in a call that a service or gateway makes for itself.
        session: their login session.
        token: what proved it, to be forwarded.
        gateway_id: set for a gateway.
    """

    peer: str
    login: str | None = None
    session: str | None = None
    token: str | None = field(default=None, repr=False)
    gateway_id: UUID | None = None


current: ContextVar[Caller] = ContextVar("caller")


def caller() -> Caller:
    """Who asks, inside a servicer's method."""
    return current.get()


@contextmanager
def acting_for_itself(service: str) -> Iterator[None]:
    """What is asked within, a service asks for itself, also where a user caused it: no token goes along."""
    kept = current.set(Caller(service))
    try:
        yield
    finally:
        current.reset(kept)


STRANGER = Peer("?")
"""The owner of a valid certificate that names no peer; no list names it."""


@lru_cache(maxsize=1024)
def peer_of(uris: tuple[bytes, ...]) -> Peer:
    """The peer whose certificate carries exactly this one URI; anybody else is the STRANGER."""
    if len(uris) != 1:
        return STRANGER
    uri = uris[0].decode("ascii", "replace")
    if match := _SERVICE.fullmatch(uri):
        return Peer(match[1])
    if match := _GATEWAY.fullmatch(uri):
        return Peer(f"gateway:{match[1]}", UUID(match[1]))
    return STRANGER


class Acting(Enum):
    """For whom a peer calls."""

    FOR_A_USER = "user"
    FOR_ITSELF = "service"


@dataclass(frozen=True, slots=True)
class Allowed:
    """The peers that may call one method: for a user, for themselves, and whether gateways may.

    `anybody` stands for every peer with a valid certificate.
    """

    method: str
    user: frozenset[str] = frozenset()
    service: frozenset[str] = frozenset()
    gateway: bool = False
    anybody: bool = False

    def acting(self, peer: Peer, *, has_token: bool) -> Acting:
        """For whom `peer` calls; where it may do both, a token says that it is for a user.

        Raises Denied if it may not call at all.
        """
        for_itself = self.anybody or (self.gateway if peer.gateway_id else peer.name in self.service)
        if peer.name in self.user and (has_token or not for_itself):
            return Acting.FOR_A_USER
        if for_itself:
            return Acting.FOR_ITSELF
        raise Denied(f"`{peer.name}` may not call `{self.method}`")


def allow_list(service_full_name: str) -> dict[str, Allowed]:
    """For each method the callers that its contract names; a method without the option has none."""
    methods = descriptor_pool.Default().FindServiceByName(service_full_name).methods
    callers = {method.name: method.GetOptions().Extensions[auth_pb2.callers] for method in methods}
    return {
        name: Allowed(name, frozenset(named.user), frozenset(named.service), named.gateway)
        for name, named in callers.items()
    }


def acting_login() -> str:
    """The login of the user for whom the call being served is made; only for methods declared for users."""
    login = caller().login
    assert login is not None, "every method that acts is declared for users"
    return login


def acting_session() -> str:
    """Their login session."""
    session = caller().session
    assert session is not None, "every method that acts is declared for users"
    return session
