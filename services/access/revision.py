"""Tokens that a caller hands back and cannot read.

A revision token is encrypted with a fresh nonce, so that nobody can count changes of what they may not see:
two tokens of one revision differ, and none tells how far apart two revisions are.
"""

import secrets

from kernel.errors import Invalid
from services.access.sealed import RandomBytes, Seal

MIN_KEY_CHARACTERS = 32
_PURPOSE = b"readroom access revision"


class RevisionTokens:
    """Turns revisions into tokens and back."""

    def __init__(self, key: str, also: str = "", random_bytes: RandomBytes = secrets.token_bytes) -> None:
        """`also`: another key whose tokens count."""
        if len(key) < MIN_KEY_CHARACTERS or 0 < len(also) < MIN_KEY_CHARACTERS:
            raise Invalid(
                f"`revision_key` and `revision_key_also` must be at least {MIN_KEY_CHARACTERS} characters"
            )
        self._seal = Seal(key, also, random_bytes)

    def token(self, revision: int) -> str:
        return self._seal.sealed(revision.to_bytes(8, "big"), _PURPOSE)

    def at_least(self, token: str) -> int:
        """What the answer to a request must not be older than (BEY-17); raises Invalid."""
        return self.revision(token, "at_least_revision")

    def revision(self, token: str, field: str) -> int:
        """The revision in a token; an empty one is none, 0. Raises Invalid, which names `field`."""
        if not token:
            return 0
        try:
            return int.from_bytes(self._seal.opened(token, _PURPOSE), "big")
        except ValueError:
            raise Invalid(f"`{field}` is not a revision that this service answered", field=field) from None
