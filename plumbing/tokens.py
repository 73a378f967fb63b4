"""Verifies who is acting: a token of at most 60 s that carries user, login session and audience (SEC-14).

A JWS in compact form with `alg` Ed25519 (RFC 9864), and nothing else: not `EdDSA`, not `none`, no HMAC. Its
`kid` is the thumbprint of the key (RFC 7638). A token of the version before has neither `kid` nor `iss` and
`jti`: it counts for its minute, by any key that counts.
"""

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from joserfc import jwt
from joserfc.errors import JoseError

from kernel.clock import Clock
from kernel.errors import Unauthenticated
from plumbing.minting import ALGORITHM, ISSUER, MAX_LIFETIME_S, TYPE
from plumbing.tokenkeys import Keys

_ALGORITHMS = [ALGORITHM]
# How far the clocks of two of our machines may be apart.
_CLOCK_SKEW_S = 5
# What a process is told of its keys is looked at so often: a key that was taken away counts so long, at most.
LOOK_EVERY_S = 1.0
# A token is about 450 bytes; whoever sends something longer sends something else.
_MAX_CHARACTERS = 2048
# Verifying costs 0.075 ms; 60 s of tokens of a busy installation fit.
_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says; the expiry is in seconds since 1970."""

    login: str
    session: str
    audience: str
    expires_at: int


class Source(Protocol):
    """Knows the keys that count, and looks for others."""

    keys: Keys

    def look(self) -> bool: ...


class Verifier:
    """Verifies tokens of one issuer and remembers them until they expire, or other keys count."""

    def __init__(self, source: Source, clock: Clock) -> None:
        self._source = source
        self._looked_at_s = clock.now().timestamp()
        self._clock = clock
        self._remembered: OrderedDict[str, Claims] = OrderedDict()

    def verify(self, token: str, audiences: Collection[str]) -> Claims:
        """What `token` claims; raises Unauthenticated, always in the same words, if it is not valid now."""
        now_s = self._clock.now().timestamp()
        if not 0 <= now_s - self._looked_at_s < LOOK_EVERY_S:
            self._looked_at_s = now_s
            if self._source.look():
                self._remembered.clear()
        claims = self._remembered.get(token)
        if claims is None:
            keys = self._source.keys
            claims = self._read(token, now_s, keys)
            if keys is self._source.keys:  # another thread may have seen others meanwhile
                self._remembered[token] = claims
            if len(self._remembered) > _REMEMBERED:
                self._remembered.popitem(last=False)
        if now_s >= claims.expires_at:
            self._remembered.pop(token, None)
            raise refused()
        if claims.audience not in audiences:
            raise refused()
        return claims

    def _read(self, token: str, now_s: float, keys: Keys) -> Claims:
        if len(token) > _MAX_CHARACTERS:
            raise refused()
        decoded = _decoded(token, keys)
        match decoded.header, decoded.claims:
            case (
                {"typ": str(kind)},
                {
                    "sub": str(login),
                    "sid": str(session),
                    "aud": str(audience),
                    "iat": int(iat),
                    "exp": int(exp),
                },
            ) if kind == TYPE and login and iat <= now_s + _CLOCK_SKEW_S and exp - iat <= MAX_LIFETIME_S:
                return Claims(login, session, audience, exp)
        raise refused()


def _decoded(token: str, keys: Keys) -> jwt.Token:
    """The token, if one of the keys signed it, and it names that key or none."""
    for kid, key in keys.items():
        try:
            decoded = jwt.decode(token, key, algorithms=_ALGORITHMS)
        except (JoseError, ValueError):
            continue
        match decoded.header.get("kid"), decoded.claims:
            case str(named), {"iss": str(issuer), "jti": str(token_id)} if token_id:
                is_ours = (named, issuer) == (kid, ISSUER)
            case None, dict(claims):
                is_ours = "iss" not in claims
            case _:
                is_ours = False
        if is_ours:
            return decoded
    raise refused()


def refused() -> Unauthenticated:
    """The one answer to everybody who does not show a valid token; it says nothing about what exists."""
    return Unauthenticated("a valid user token is required")
