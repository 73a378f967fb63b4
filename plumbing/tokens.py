"""Who is acting: a signed token of at most 60 s that carries user, login session and audience (SEC-14).

A JWS in compact form with `alg` Ed25519 (RFC 9864), and nothing else: not `EdDSA`, not `none`, no HMAC.
"""

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from kernel.clock import Clock
from kernel.errors import Unauthenticated

MAX_LIFETIME_S = 60
# Explicit typing (RFC 8725 3.11): nothing else that the same key signs passes for a token.
_TYPE = "readroom-user+jwt"
_ALGORITHMS = ["Ed25519"]
# How far the clocks of two of our machines may be apart.
_CLOCK_SKEW_S = 5
# A token is about 350 bytes; whoever sends something longer sends something else.
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


def mint(
    private_key_pem: bytes,
    *,
    login: str,
    session: str,
    audience: str,
    now: datetime,
    lifetime_s: int = MAX_LIFETIME_S,
) -> str:
    """A token for `login` to show to the service `audience`."""
    issued_at = int(now.timestamp())
    claims = {"sub": login, "sid": session, "aud": audience, "iat": issued_at, "exp": issued_at + lifetime_s}
    key = OKPKey.import_key(private_key_pem)
    return jwt.encode({"alg": "Ed25519", "typ": _TYPE}, claims, key, algorithms=_ALGORITHMS)


class Verifier:
    """Verifies tokens of one issuer and remembers them until they expire."""

    def __init__(self, public_key_pem: bytes, clock: Clock) -> None:
        self._key = OKPKey.import_key(public_key_pem)
        self._clock = clock
        self._remembered: OrderedDict[str, Claims] = OrderedDict()

    def verify(self, token: str, audiences: Collection[str]) -> Claims:
        """What `token` claims; raises Unauthenticated, always in the same words, if it is not valid now."""
        now_s = self._clock.now().timestamp()
        claims = self._remembered.get(token)
        if claims is None:
            claims = self._read(token, now_s)
            self._remembered[token] = claims
            if len(self._remembered) > _REMEMBERED:
                self._remembered.popitem(last=False)
        if now_s >= claims.expires_at:
            self._remembered.pop(token, None)
            raise refused()
        if claims.audience not in audiences:
            raise refused()
        return claims

    def _read(self, token: str, now_s: float) -> Claims:
        if len(token) > _MAX_CHARACTERS:
            raise refused()
        try:
            decoded = jwt.decode(token, self._key, algorithms=_ALGORITHMS)
        except (JoseError, ValueError) as error:
            raise refused() from error
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
            ) if kind == _TYPE and login and iat <= now_s + _CLOCK_SKEW_S and exp - iat <= MAX_LIFETIME_S:
                return Claims(login, session, audience, exp)
        raise refused()


def refused() -> Unauthenticated:
    """The one answer to everybody who does not show a valid token; it says nothing about what exists."""
    return Unauthenticated("a valid user token is required")
