"""A provider of identities, such as the directory of a hospital: who somebody is, by OpenID Connect Core 1.0.

The authorization code flow (3.1) with PKCE (RFC 7636). An answer counts if its signature is by a key of the
provider, and issuer, audience, nonce and times are as they must be. Of it the subject alone is used, and how
the provider calls the session.
"""

import base64
import hashlib
import secrets
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import quote_plus, urlencode, urlsplit

import aiohttp
import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from kernel.clock import Clock
from kernel.errors import Unauthenticated, Unavailable
from plumbing import log, remote
from plumbing.renewed import Text, asked
from web.domain import SignIn

ALGORITHMS = [f"{family}{size}" for family in ("RS", "PS", "ES") for size in (256, 384, 512)]
ALGORITHMS += ["Ed25519", "EdDSA"]
"""Signatures by a key that only the provider has: never `none`, and never one with our own secret."""

_WELL_KNOWN = "/.well-known/openid-configuration"

LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"

REFUSED = "the provider's answer does not count: begin again"

_SKEW = timedelta(seconds=60)
"""How far the provider's clock and ours may be apart."""
_LOGOUT_LASTS = timedelta(minutes=2)
_DISCOVERED_FOR, _KEYS_AT_LEAST = timedelta(hours=1), timedelta(seconds=30)
_WITHIN = aiohttp.ClientTimeout(total=5.0)
_MAX_BYTES = 1 << 20
_LONGEST_SUBJECT = 255
"""Characters (OpenID Connect Core 1.0, 2)."""

_log = log.get()

T = TypeVar("T")


class _Metadata(msgspec.Struct):
    """What a provider says of itself (OpenID Connect Discovery 1.0, 3), as far as it is used."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)


class _Tokens(msgspec.Struct):
    id_token: str


@dataclass(frozen=True, slots=True)
class Verified:
    """Whom the provider named: the subject, and how it calls their session there; empty: it does not say."""

    subject: str
    session: str


@dataclass(frozen=True, slots=True)
class Client:
    """Us, as the provider knows us.

    Attributes:
        issuer: the address of the provider, as its answers name it.
        returns_to: where it sends people back to, letter by letter as it was registered there.
    """

    issuer: str
    client_id: str
    client_secret: Text
    returns_to: str


def new_sign_in(back_to: str, now: datetime) -> SignIn:
    """What is remembered of somebody whom we send to the provider."""
    return SignIn(
        state=secrets.token_urlsafe(32),
        nonce=secrets.token_urlsafe(32),
        verifier=secrets.token_urlsafe(32),
        back_to=back_to,
        began_at=now,
    )


class Provider:
    """The provider: what it says of itself and its keys are kept for an hour at most."""

    def __init__(
        self, client: Client, http: aiohttp.ClientSession, tls: ssl.SSLContext, clock: Clock
    ) -> None:
        self.client = client
        self._http = http
        self._tls = tls
        self._clock = clock
        self._metadata: tuple[datetime, _Metadata] | None = None
        self._keys: tuple[datetime, KeySet] | None = None

    async def address(self, begun: SignIn) -> str:
        """Where a browser is sent, so that its person proves there who they are, now."""
        digest = hashlib.sha256(begun.verifier.encode()).digest()
        asked = {
            "response_type": "code",
            "scope": "openid",
            "client_id": self.client.client_id,
            "redirect_uri": self.client.returns_to,
            "state": begun.state,
            "nonce": begun.nonce,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
            "prompt": "login",
            "max_age": "0",
        }
        endpoint = (await self._discovered()).authorization_endpoint
        return f"{endpoint}{'&' if urlsplit(endpoint).query else '?'}{urlencode(asked)}"

    async def identify(self, code: str, begun: SignIn) -> Verified:
        """Whom a code stands for; raises Unauthenticated for an answer that does not count."""
        metadata = await self._discovered()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.client.returns_to,
            "code_verifier": begun.verifier,
        }
        shown = {}
        own = asked(self.client.client_secret)()
        if "client_secret_basic" in metadata.token_endpoint_auth_methods_supported:
            name, secret = map(quote_plus, (self.client.client_id, own))
            # Encoded as a form is (RFC 6749, 2.3.1).
            shown["Authorization"] = aiohttp.encode_basic_auth(name, secret)
        else:
            form |= {"client_id": self.client.client_id, "client_secret": own}
        status, body = await self._ask("POST", metadata.token_endpoint, data=form, headers=shown)
        if status != 200:
            raise _refused(f"token endpoint answered {status}")
        claims = await self._claims(_decoded(body, _Tokens).id_token)
        now = self._clock.now()
        match claims:
            case {
                "sub": str(subject),
                "nonce": str(nonce),
                "exp": int(exp),
                "iat": int(iat),
                "auth_time": int(at),
            }:
                pass
            case _:
                raise _refused("a claim is missing")
        if not secrets.compare_digest(nonce.encode(), begun.nonce.encode()):
            raise _refused("nonce")
        if claims.get("azp", self.client.client_id) != self.client.client_id:
            raise _refused("azp")
        if not (_before(now, exp) and _not_after(iat, now) and _not_after(at, now)):
            raise _refused("times")
        if at < (begun.began_at - _SKEW).timestamp():
            raise _refused("auth_time: the person did not prove who they are now")
        if not 0 < len(subject) <= _LONGEST_SUBJECT:
            raise _refused("sub")
        session = claims.get("sid", "")
        return Verified(subject, session if isinstance(session, str) else "")

    async def ended(self, logout_token: str) -> Verified:
        """Whose session has ended at the provider (Back-Channel Logout 1.0, 2.6); either part may be empty.

        Raises Unauthenticated for a token that does not count.
        """
        claims = await self._claims(logout_token)
        now = self._clock.now()
        match claims:
            case {"events": {**events}, "iat": int(iat), "jti": str()} if LOGOUT_EVENT in events:
                pass
            case _:
                raise _refused("this is no logout token")
        if "nonce" in claims or not _not_after(iat, now) or iat < (now - _LOGOUT_LASTS).timestamp():
            raise _refused("logout token: nonce or time")
        subject, session = claims.get("sub", ""), claims.get("sid", "")
        if not (isinstance(subject, str) and isinstance(session, str) and (subject or session)):
            raise _refused("logout token: nobody is named")
        return Verified(subject, session)

    async def _claims(self, token: str) -> Mapping[str, Any]:
        """What a token says, once its signature, issuer and audience are right."""
        try:
            decoded = jwt.decode(token, await self._key_set(token), algorithms=ALGORITHMS)
        except (JoseError, ValueError) as error:
            raise _refused(type(error).__name__) from None
        audience = decoded.claims.get("aud")
        if decoded.claims.get("iss") != self.client.issuer:
            raise _refused("iss")
        if self.client.client_id not in (audience if isinstance(audience, list) else [audience]):
            raise _refused("aud")
        if isinstance(audience, list) and len(audience) > 1 and "azp" not in decoded.claims:
            raise _refused("azp")
        return decoded.claims

    async def _key_set(self, token: str) -> KeySet:
        """The keys of the provider; asked for again where they do not have the one that the token names."""
        now = self._clock.now()
        if self._keys is not None:
            asked_at, keys = self._keys
            known = _key_id(token) in {each.kid for each in keys.keys}
            if now - asked_at < (_DISCOVERED_FOR if known else _KEYS_AT_LEAST):
                return keys
        status, body = await self._ask("GET", (await self._discovered()).jwks_uri)
        if status != 200:
            raise _unusable("the provider of identities refused to show its keys")
        try:
            keys = KeySet.import_key_set(msgspec.json.decode(body))
        except (JoseError, ValueError, TypeError, KeyError, msgspec.MsgspecError):
            raise _unusable("the keys of the provider of identities cannot be read") from None
        self._keys = now, keys
        return keys

    async def _discovered(self) -> _Metadata:
        now = self._clock.now()
        if self._metadata and now - self._metadata[0] < _DISCOVERED_FOR:
            return self._metadata[1]
        status, body = await self._ask("GET", self.client.issuer.rstrip("/") + _WELL_KNOWN)
        if status != 200:
            raise _unusable(
                "the provider of identities does not say at the address of the setting how to sign in"
            )
        metadata = _decoded(body, _Metadata)
        endpoints = (metadata.authorization_endpoint, metadata.token_endpoint, metadata.jwks_uri)
        if metadata.issuer != self.client.issuer or not all(map(is_safe, endpoints)):
            raise _unusable("the provider of identities has another name than in the setting, or no TLS")
        self._metadata = now, metadata
        return metadata

    async def _ask(self, method: str, address: str, **more: Any) -> tuple[int, bytes]:
        try:
            async with self._http.request(
                method, address, timeout=_WITHIN, allow_redirects=False, ssl=self._tls, **more
            ) as answer:
                body = await answer.content.read(_MAX_BYTES)
                while chunk := await answer.content.read(_MAX_BYTES):
                    body += chunk
                    if len(body) > _MAX_BYTES:
                        raise _unusable(f"the provider of identities sent more than {_MAX_BYTES >> 20} MiB")
                return answer.status, body
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Unavailable("the provider of identities does not answer: try again in a moment") from error


def is_safe(address: str) -> bool:
    """Whether nobody on the way can read or change what is said there."""
    scheme = urlsplit(address).scheme
    return scheme == "https" or (scheme == "http" and remote.is_local(address))


def _key_id(token: str) -> str | None:
    try:
        head = token.partition(".")[0]
        header = msgspec.json.decode(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
        return str(header["kid"]) if isinstance(header, dict) and "kid" in header else None
    except (ValueError, msgspec.MsgspecError):
        return None


def _decoded(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise _unusable("an answer of the provider of identities cannot be read") from None


def _before(now: datetime, end_s: int) -> bool:
    return now.timestamp() < end_s + _SKEW.total_seconds()


def _not_after(moment_s: int, now: datetime) -> bool:
    return moment_s <= (now + _SKEW).timestamp()


def _unusable(problem: str) -> Unavailable:
    """What only an administrator can mend, here or at the provider."""
    return Unavailable(f"{problem}: tell your administrator")


def _refused(why: str) -> Unauthenticated:
    """The log says why, a page does not: only the provider's administrators can mend it."""
    _log.warning("the answer of the provider of identities was refused", why=why)
    return Unauthenticated(REFUSED)
