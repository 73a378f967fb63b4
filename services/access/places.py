"""Tokens of places in a worklist. A place may name a patient, and a token stands in addresses and in logs.

So it is encrypted, with a fresh nonce, and it counts only for the user, the order and the search that it was
made for: with any other it is answered like one that is not ours.
"""

import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import astuple
from hashlib import sha256

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from kernel.errors import Invalid
from services.access.search import Listing, Place, Related

# RFC 8452, section 4, as of a revision (`revision.py`): the same key, for another purpose.
_NONCE_BYTES = 12
_PURPOSE = "readroom access place"
_MAX_CHARACTERS = 8192
"""A name of 3 groups of 64 characters, each of which folds to at most 18, of at most 4 bytes; and an id."""


class PlaceTokens:
    """Turns places in a user's worklist into tokens and back."""

    def __init__(self, key: str, random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> None:
        self._cipher = AESGCMSIV(sha256(key.encode()).digest())
        self._random_bytes = random_bytes

    def token(self, place: Place, login: str, asked: Listing | Related) -> str:
        nonce = self._random_bytes(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, msgspec.json.encode(place), _bound_to(login, asked))
        return urlsafe_b64encode(nonce + sealed).decode()

    def place(self, token: str, login: str, asked: Listing | Related) -> Place | None:
        """The place in a token, None in an empty one; raises Invalid for what was not made for this list."""
        if not token:
            return None
        try:
            if len(token) > _MAX_CHARACTERS:
                raise ValueError
            raw = urlsafe_b64decode(token.encode())
            opened = self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], _bound_to(login, asked))
            return msgspec.json.decode(opened, type=Place)
        except (ValueError, InvalidTag) as error:
            raise Invalid(
                "`page_token` is not one that this list answered: ask for the first page", field="page_token"
            ) from error


def _bound_to(login: str, asked: Listing | Related) -> bytes:
    return msgspec.json.encode((_PURPOSE, login, astuple(asked)))
