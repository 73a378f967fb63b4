"""Errors are words; every edge has one table that turns them into its codes.

A sentence starts in lower case, has no full stop, quotes user input in backticks, puts the cause after
a colon, and names no class and no patient.
"""

from collections.abc import Mapping
from typing import TypeVar

Code = TypeVar("Code")


class ReadroomError(Exception):
    """A failure that has a word. Raise one of the words below, never this.

    `sentence` is public; `field` names the request field at fault, where there is one.
    """

    def __init__(self, sentence: str, *, field: str | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.field = field


class Invalid(ReadroomError):
    """The request itself is wrong; asking again unchanged cannot help."""


class NotFound(ReadroomError):
    """It does not exist, or the caller may not know that it does."""


class Denied(ReadroomError):
    """The caller may know of it, but may not do this."""


class Unauthenticated(ReadroomError):
    """Nobody valid is asking. The sentence says nothing about what exists."""


class Conflict(ReadroomError):
    """The state of things forbids it now: a duplicate, a lock, a case being deleted."""


class Expired(ReadroomError):
    """It was valid once; its time has ended."""


class Exhausted(ReadroomError):
    """A limit is reached: rate, size, number."""


class Unavailable(ReadroomError):
    """A part we depend on does not answer; asking again later may help."""


EVERYWHERE = "every facility"
"""Where a permission is needed that is not for a single facility."""


def lacks(*permissions: str, at: str, to: str = "", field: str | None = None) -> Denied:
    """The refusal for want of a permission, or of any of several: the one wording of the product.

    Args:
        at: where it is needed: `every facility`, or a name, or words for one.
        to: what for, where the act does not say it by itself.
    """
    named = " or ".join(f"`{each}`" for each in permissions)
    need = f"to {to}, you need the permission {named}" if to else f"you need the permission {named}"
    giver = at if at == EVERYWHERE or at.startswith("`") else "that facility"
    return Denied(f"{need} at {at}; an administrator of {giver} can give it", field=field)


def code_of(error: ReadroomError, codes: Mapping[type[ReadroomError], Code]) -> Code:
    """The code that an edge's table gives to an error; a kind of a word has the code of that word."""
    return next(codes[kind] for kind in type(error).__mro__ if kind in codes)
