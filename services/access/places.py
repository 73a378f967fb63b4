"""Tokens of places in a worklist. A place may name a patient, and a token stands in addresses and in logs.

So it is encrypted, with a fresh nonce, and it counts only for the user, the order and the search that it was
made for: with any other it is answered like one that is not ours.
"""

import secrets
from dataclasses import astuple

import msgspec

from kernel.errors import Invalid
from services.access.sealed import RandomBytes, Seal
from services.access.search import Listing, Place, Related

_PURPOSE = "readroom access place"
_PADDED_TO = 256
"""Bytes. A page may end at a case that its user does not see, of whose name the length must tell nothing."""
_MAX_CHARACTERS = 8192
"""A name of 3 groups of 64 characters, each of which folds to at most 18, of at most 4 bytes; and an id."""


class PlaceTokens:
    """Turns places in a user's worklist into tokens and back."""

    def __init__(self, key: str, also: str = "", random_bytes: RandomBytes = secrets.token_bytes) -> None:
        """`also`: another key whose tokens count."""
        self._seal = Seal(key, also, random_bytes)

    def token(self, place: Place, login: str, asked: Listing | Related) -> str:
        told = msgspec.json.encode(place)
        padded = told.ljust(-(-len(told) // _PADDED_TO) * _PADDED_TO)
        return self._seal.sealed(padded, _bound_to(login, asked))

    def place(self, token: str, login: str, asked: Listing | Related) -> Place | None:
        """The place in a token, None in an empty one; raises Invalid for what was not made for this list."""
        if not token:
            return None
        try:
            if len(token) > _MAX_CHARACTERS:
                raise ValueError
            return msgspec.json.decode(self._seal.opened(token, _bound_to(login, asked)), type=Place)
        except ValueError as error:
            raise Invalid(
                "`page_token` is not one that this list answered: ask for the first page", field="page_token"
            ) from error


def _bound_to(login: str, asked: Listing | Related) -> bytes:
    return msgspec.json.encode((_PURPOSE, login, astuple(asked)))
