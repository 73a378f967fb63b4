"""What a service keeps of another, so that what no fact has told can be found (`plumbing/healing.py`)."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

Versions = Sequence[tuple[UUID, int]]
"""Ids with the version that their owner has of each."""


@dataclass(frozen=True, slots=True)
class Said:
    """A page of the facts that an owner has published since an instant.

    Attributes:
        versions: what they are about, and the version that each of them told; an id may come several times.
        token: asks for the next page; empty on the last.
        as_of: the owner's time.
        complete: whether the owner still has all that it published since then.
    """

    versions: Versions
    token: str
    as_of: datetime
    complete: bool


Saying = Callable[[datetime | None, str], Awaitable[Said]]
"""Asks an owner for a page of its facts of one kind, by the instant and the token of the page."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of thing that a service keeps of its owner.

    Attributes:
        name: tells the kind in the log, and keeps how far healing has come.
        said: asks the owner for the facts of this kind.
        versions: asks the owner for the next page of ids and versions, in the order of ids; an empty one is
            the last.
        stale: those of which we know no version, or an older one.
        catch_up: asks the owner for one of them and keeps what is newer; answers whether there was something.
    """

    name: str
    said: Saying
    versions: Callable[[UUID | None], Awaitable[Versions]]
    stale: Callable[[Mapping[UUID, int]], Awaitable[Collection[Any]]]
    catch_up: Callable[[Any], Awaitable[bool]]
