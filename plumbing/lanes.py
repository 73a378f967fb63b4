"""Lanes: facts about one thing are heard one after the other, and the newest stands for the older ones. Pure.

A fact is a nudge: what is asked and written because of it depends on nothing in it but its id. So of several
that differ in their version only, one effect is enough: the one of the newest.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar
from uuid import UUID

from kernel.events import Fact

M = TypeVar("M")

MOST_PARKED = 1000
"""Messages that wait for their lane here. NATS keeps the others, and gives them again later."""


@dataclass(frozen=True)
class Held(Generic[M]):
    """A fact in the hands of this process, with the message that brought it."""

    fact: Fact
    event_id: UUID
    message: M


@dataclass
class Lane(Generic[M]):
    """What is held about one thing.

    Attributes:
        in_work: the newest first, and after it those for which it stands.
        parked: those that come next, in the same form.
    """

    in_work: list[Held[M]]
    parked: list[list[Held[M]]] = field(default_factory=list)

    @property
    def held(self) -> Sequence[Held[M]]:
        """All of them."""
        return [each for group in (self.in_work, *self.parked) for each in group]

    def park(self, held: Held[M]) -> None:
        for group in self.parked:
            if covers(held.fact, group[0].fact):
                group.insert(0, held)
                return
            if covers(group[0].fact, held.fact):
                group.append(held)
                return
        self.parked.append([held])


class Lanes(Generic[M]):
    """The lanes in which there is something to do, each with one worker."""

    def __init__(self, most_parked: int = MOST_PARKED) -> None:
        self._lanes: dict[UUID, Lane[M]] = {}
        self._room = most_parked

    def enter(self, held: Held[M]) -> Lane[M] | None:
        """The lane, if it was free: who is given it works in it until `advance` says that it is empty.

        None: another worker is in it. Then the fact is parked where `parks` allows it.
        """
        lane = self._lanes.get(held.fact.id)
        if lane is None:
            lane = self._lanes[held.fact.id] = Lane([held])
            return lane
        self._room -= 1
        lane.park(held)
        return None

    def parks(self, fact: Fact) -> bool:
        """Whether the fact can be entered now."""
        return self._room > 0 or fact.id not in self._lanes

    def advance(self, lane: Lane[M]) -> bool:
        """Takes the next into work; False: there is none, and the lane is free."""
        if not lane.parked:
            del self._lanes[lane.in_work[0].fact.id]
            return False
        lane.in_work = lane.parked.pop(0)
        self._room += len(lane.in_work)
        return True

    def leave(self, lane: Lane[M]) -> None:
        """Frees the lane, unless it is free or another's already: its worker does nothing more."""
        if self._lanes.get(lane.in_work[0].fact.id) is lane:
            while self.advance(lane):
                pass


def covers(newer: Fact, older: Fact) -> bool:
    """Whether the effect of `newer` is that of `older` too: it says the same, and is not older."""
    return (
        type(newer) is type(older)
        and newer.version >= older.version
        and replace(older, version=newer.version) == newer
    )
