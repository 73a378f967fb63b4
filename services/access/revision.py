"""Tokens that a caller hands back and cannot read.

A revision token is encrypted with a fresh nonce, so that nobody can count changes of what they may not see:
two tokens of one revision differ, and none tells how far apart two revisions are.
"""

import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from kernel.errors import Invalid

MIN_KEY_CHARACTERS = 32
# RFC 8452, section 4: a nonce has 96 bits. Each Check makes a token, and unlike GCM this mode stands random
# nonces that repeat, which 2^32 of them may do.
_NONCE_BYTES = 12
_PURPOSE = b"readroom access revision"


class RevisionTokens:
    """Turns revisions into tokens and back."""

    def __init__(self, key: str, random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> None:
        if len(key) < MIN_KEY_CHARACTERS:
            raise Invalid(f"`revision_key` must be at least {MIN_KEY_CHARACTERS} characters")
        self._cipher = AESGCMSIV(sha256(key.encode()).digest())
        self._random_bytes = random_bytes

    def token(self, revision: int) -> str:
        nonce = self._random_bytes(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, revision.to_bytes(8, "big"), _PURPOSE)
        return urlsafe_b64encode(nonce + sealed).decode()

    def revision(self, token: str, field: str) -> int:
        """The revision in a token; an empty one is none, 0. Raises Invalid, which names `field`."""
        if not token:
            return 0
        try:
            raw = urlsafe_b64decode(token.encode())
            return int.from_bytes(
                self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], _PURPOSE), "big"
            )
        except (ValueError, InvalidTag):
            raise Invalid(f"`{field}` is not a revision that this service answered", field=field) from None
