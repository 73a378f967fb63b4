"""Mints the tokens that `tokens.py` verifies, with a private key that the web and the command line have.

A JWS in compact form (RFC 7515, section 7.1), written out here: a library for every kind of token takes
longer to load than a command of the command line runs.
"""

import base64
import hashlib
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from kernel.errors import Invalid

ISSUER = "bff"
"""Who mints: the name in the certificate of the web."""

MAX_LIFETIME_S = 60
TYPE = "readroom-user+jwt"
"""Explicit typing (RFC 8725 3.11): nothing else that the same key signs passes for a token."""

ALGORITHM = "Ed25519"


class Issuer:
    """Mints tokens with a private key.

    Args:
        private_key_pem: an Ed25519 key; anything else raises Invalid.
        new_id: makes the id of each token (`jti`).
    """

    def __init__(self, private_key_pem: bytes, new_id: Callable[[], UUID] = uuid4) -> None:
        try:
            key = load_pem_private_key(private_key_pem, None)
        except (ValueError, TypeError) as error:
            raise Invalid("the key that signs user tokens is not a private key in PEM") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise Invalid("the key that signs user tokens must be an Ed25519 key")
        self._key = key
        # The thumbprint of the public key: RFC 7638, section 3, with the members of RFC 8037, section 2.
        x = _base64(key.public_key().public_bytes_raw())
        thumbprint = hashlib.sha256(f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'.encode()).digest()
        self._header = _part({"alg": ALGORITHM, "typ": TYPE, "kid": _base64(thumbprint)})
        self._new_id = new_id

    def mint(
        self, *, login: str, session: str, audience: str, now: datetime, lifetime_s: int = MAX_LIFETIME_S
    ) -> str:
        """A token for `login` to show to the service `audience`."""
        issued_at = int(now.timestamp())
        claims = {
            "iss": ISSUER,
            "sub": login,
            "sid": session,
            "aud": audience,
            "iat": issued_at,
            "exp": issued_at + lifetime_s,
            "jti": str(self._new_id()),
        }
        signed = f"{self._header}.{_part(claims)}"
        return f"{signed}.{_base64(self._key.sign(signed.encode()))}"


def mint(private_key_pem: bytes, **claims: Any) -> str:
    """A token of an issuer who mints no more than this one; see `Issuer.mint`."""
    return Issuer(private_key_pem).mint(**claims)


def _part(value: object) -> str:
    return _base64(json.dumps(value, separators=(",", ":")).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
