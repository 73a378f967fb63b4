"""What a caller hands back and cannot read: encrypted, with a fresh nonce, and bound to what it was made for.

The key may change while access serves: another one counts beside it, the one before or the one to come.
"""

import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

# RFC 8452, section 4: a nonce has 96 bits. Each Check makes a token, and unlike GCM this mode stands random
# nonces that repeat, which 2^32 of them may do.
_NONCE_BYTES = 12
_TAG_BYTES = 16

RandomBytes = Callable[[int], bytes]


class Seal:
    """Seals and opens.

    Args:
        key: seals.
        also: what it sealed is opened too; empty: nothing.
    """

    def __init__(self, key: str, also: str = "", random_bytes: RandomBytes = secrets.token_bytes) -> None:
        self._ciphers = [AESGCMSIV(sha256(each.encode()).digest()) for each in (key, also) if each]
        self._random_bytes = random_bytes

    def sealed(self, plain: bytes, bound_to: bytes) -> str:
        nonce = self._random_bytes(_NONCE_BYTES)
        return urlsafe_b64encode(nonce + self._ciphers[0].encrypt(nonce, plain, bound_to)).decode()

    def opened(self, token: str, bound_to: bytes) -> bytes:
        """Raises ValueError for what is not ours, or was made for something else."""
        raw = urlsafe_b64decode(token.encode())
        for cipher in self._ciphers:
            try:
                return cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], bound_to)
            except InvalidTag:
                continue
        raise ValueError("not ours")


def characters(plain_bytes: int) -> int:
    """How long a token of so many bytes is."""
    return 4 * ((plain_bytes + _NONCE_BYTES + _TAG_BYTES + 2) // 3)
