"""Tokens of what somebody was told of a list: each row by its id and its digest, and when.

Whoever goes on with one, at any process, is told what differs from it, and so nothing that does not. It
counts only for the user, the list and the rows that it was made for.
"""

import secrets
from dataclasses import astuple
from struct import Struct
from uuid import UUID

import msgspec

from kernel.clock import Clock
from kernel.ids import CaseId
from services.access.live import DIGEST_BYTES, MAX_ROWS, Digests
from services.access.livelists import Watched
from services.access.sealed import RandomBytes, Seal, characters

LIVES_S = 3600
"""An older one is no more of use than none."""

_PURPOSE = "readroom access cursor"
_MADE_AT = Struct(">q")  # seconds since 1970
_ROW = Struct(f">16s{DIGEST_BYTES}s")
MAX_CHARACTERS = characters(_MADE_AT.size + MAX_ROWS * _ROW.size)


class CursorTokens:
    """Turns what somebody was told into tokens and back."""

    def __init__(
        self, key: str, clock: Clock, also: str = "", random_bytes: RandomBytes = secrets.token_bytes
    ) -> None:
        """`also`: another key whose tokens count."""
        self._seal = Seal(key, also, random_bytes)
        self._clock = clock

    def token(self, told: Digests, watched: Watched) -> str:
        rows = (_ROW.pack(case_id.bytes, digest) for case_id, digest in told.items())
        plain = _MADE_AT.pack(int(self._clock.now().timestamp())) + b"".join(rows)
        return self._seal.sealed(plain, _bound_to(watched))

    def told(self, token: str, watched: Watched) -> Digests | None:
        """What somebody was told; None for nothing, for what is too old, and for what is not ours."""
        if not token or len(token) > MAX_CHARACTERS:
            return None
        try:
            plain = self._seal.opened(token, _bound_to(watched))
        except ValueError:
            return None
        (made_at,) = _MADE_AT.unpack_from(plain)
        if abs(self._clock.now().timestamp() - made_at) > LIVES_S:
            return None
        rows = _ROW.iter_unpack(plain[_MADE_AT.size :])
        return {CaseId(UUID(bytes=case_id)): digest for case_id, digest in rows}


def _bound_to(watched: Watched) -> bytes:
    return msgspec.json.encode((_PURPOSE, watched.login, astuple(watched.asked), watched.rows))
