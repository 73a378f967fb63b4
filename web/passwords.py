"""Passwords of the development issuer: argon2id (RFC 9106), kept as a hash alone."""

import asyncio
import os

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from kernel.errors import Invalid

SHORTEST, LONGEST = 12, 200
"""Characters. Length is what counts (NIST SP 800-63B, 3.1.1.2); a longer text only costs time."""

_MEMORY_KIB, _ITERATIONS, _LANES = 19 * 1024, 2, 1
"""The least that OWASP's cheat sheet on storing passwords asks of argon2id: 19 MiB, twice."""
_SALT_BYTES, _HASH_BYTES = 16, 32

_AT_ONCE = 2
"""Each hash takes 19 MiB and a processor for some 30 ms: whoever floods the form waits for themself."""


class Passwords:
    """Makes and verifies hashes, a few at once, beside the event loop."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._nobodys: str | None = None

    async def hash(self, password: str) -> str:
        """The hash to keep, in PHC format; raises Invalid for a password that is too short or too long."""
        if not SHORTEST <= len(password) <= LONGEST:
            raise Invalid(f"choose a password of {SHORTEST} to {LONGEST} characters", field="password")
        async with self._turns:
            return await asyncio.to_thread(_hash, password)

    async def verify(self, password: str, kept: str | None) -> bool:
        """Whether it is the password; without a hash it takes as long, and is not."""
        if len(password) > LONGEST:
            return False
        async with self._turns:
            if kept is None:
                self._nobodys = self._nobodys or await asyncio.to_thread(_hash, "nobody's password")
            matches = await asyncio.to_thread(_matches, password, kept or self._nobodys or "")
        return matches and kept is not None


def _hash(password: str) -> str:
    kdf = Argon2id(
        salt=os.urandom(_SALT_BYTES),
        length=_HASH_BYTES,
        iterations=_ITERATIONS,
        lanes=_LANES,
        memory_cost=_MEMORY_KIB,
    )
    return kdf.derive_phc_encoded(password.encode())


def _matches(password: str, kept: str) -> bool:
    try:
        Argon2id.verify_phc_encoded(password.encode(), kept)
    except InvalidKey:
        return False
    return True
