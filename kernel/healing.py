"""What a service keeps of another, so that what no fact has told can be found (`plumbing/healing.py`)."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

Versions = Sequence[tuple[UUID, int]]
"""Ids with the version that their owner has of each."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of thing that a service keeps of its owner.

    Attributes:
        name: tells the kind in the log.
        versions: asks the owner for the next page of ids and versions, in the order of ids; an empty one is
            the last.
        stale: those of which we know no version, or an older one.
        catch_up: asks the owner for one of them and keeps what is newer; answers whether there was something.
    """

    name: str
    versions: Callable[[UUID | None], Awaitable[Versions]]
    stale: Callable[[Mapping[UUID, int]], Awaitable[Collection[Any]]]
    catch_up: Callable[[Any], Awaitable[bool]]
