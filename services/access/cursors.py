"""Tokens of what somebody was told of a list: each row by its id and its digest, and when.

Whoever goes on with one, at any process, is told what differs from it, and so nothing that does not. It is
encrypted, with a fresh nonce, and counts only for the user, the list and the rows that it was made for.
"""

import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import astuple
from hashlib import sha256
from struct import Struct
from uuid import UUID

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from kernel.clock import Clock
from kernel.ids import CaseId
from services.access.live import DIGEST_BYTES, MAX_ROWS, Digests
from services.access.livelists import Watched

LIVES_S = 3600
"""An older one is no more of use than none."""

# RFC 8452, section 4, as of a revision (`revision.py`): the same keys, for another purpose.
_NONCE_BYTES = 12
_PURPOSE = "readroom access cursor"
_MADE_AT = Struct(">q")  # seconds since 1970
_ROW = Struct(f">16s{DIGEST_BYTES}s")
MAX_CHARACTERS = 4 * (_NONCE_BYTES + _MADE_AT.size + MAX_ROWS * _ROW.size + 16 + 2) // 3
"""Four characters stand for three bytes; the tag has 16."""


class CursorTokens:
    """Turns what somebody was told into tokens and back."""

    def __init__(
        self,
        key: str,
        clock: Clock,
        before: str = "",
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """`before`: the key that was in use before this one, whose tokens still count."""
        self._ciphers = [AESGCMSIV(sha256(each.encode()).digest()) for each in (key, before) if each]
        self._clock = clock
        self._random_bytes = random_bytes

    def token(self, told: Digests, watched: Watched) -> str:
        plain = _MADE_AT.pack(int(self._clock.now().timestamp())) + b"".join(
            _ROW.pack(case_id.bytes, digest) for case_id, digest in told.items()
        )
        nonce = self._random_bytes(_NONCE_BYTES)
        sealed = self._ciphers[0].encrypt(nonce, plain, _bound_to(watched))
        return urlsafe_b64encode(nonce + sealed).decode()

    def told(self, token: str, watched: Watched) -> Digests | None:
        """What somebody was told; None for nothing, for what is too old, and for what is not ours."""
        if not token or len(token) > MAX_CHARACTERS:
            return None
        try:
            plain = self._opened(urlsafe_b64decode(token.encode()), _bound_to(watched))
            (made_at,) = _MADE_AT.unpack_from(plain)
            told = {
                CaseId(UUID(bytes=raw)): digest for raw, digest in _ROW.iter_unpack(plain[_MADE_AT.size :])
            }
        except (ValueError, InvalidTag):
            return None
        return told if abs(self._clock.now().timestamp() - made_at) <= LIVES_S else None

    def _opened(self, raw: bytes, bound_to: bytes) -> bytes:
        for cipher in self._ciphers:
            try:
                return cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], bound_to)
            except InvalidTag:
                continue
        raise InvalidTag


def _bound_to(watched: Watched) -> bytes:
    return msgspec.json.encode((_PURPOSE, watched.login, astuple(watched.asked), watched.rows))
