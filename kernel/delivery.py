"""Handing something over at most once: how far it has come, as a table of states, and when it is tried again.

It knows nothing of what is handed over, or to whom. `plumbing/delivering.py` does it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self
from uuid import UUID


class State(StrEnum):
    """How far a delivery has come."""

    WAITING = "waiting"
    UNKNOWN = "unknown"
    SENT = "sent"
    DEAD = "dead"
    CANCELLED = "cancelled"


class Event(StrEnum):
    """What happens to a delivery."""

    BEGIN = "begin"
    """The content is about to be handed over; committed before its first byte is."""
    TAKEN = "taken"
    """The receiver has taken it."""
    AWAY = "away"
    """There is no connection to the receiver, whatever the content."""
    LATER = "later"
    """It was not taken, and may be the next time."""
    REFUSED = "refused"
    """It was not taken, and will not be."""
    LOST = "lost"
    """The hand-over was begun and no answer came: it may have been taken."""
    CANCEL = "cancel"
    """There is nothing to deliver any more."""
    RESEND = "resend"
    """An operator wants it tried again."""


AFTER: Mapping[tuple[State, Event], State] = {
    (State.WAITING, Event.BEGIN): State.UNKNOWN,
    (State.WAITING, Event.AWAY): State.WAITING,
    (State.WAITING, Event.LATER): State.WAITING,
    (State.WAITING, Event.REFUSED): State.DEAD,
    (State.WAITING, Event.CANCEL): State.CANCELLED,
    (State.UNKNOWN, Event.TAKEN): State.SENT,
    (State.UNKNOWN, Event.LATER): State.WAITING,
    (State.UNKNOWN, Event.REFUSED): State.DEAD,
    (State.UNKNOWN, Event.LOST): State.UNKNOWN,
    (State.UNKNOWN, Event.RESEND): State.WAITING,
    (State.DEAD, Event.RESEND): State.WAITING,
}
"""The whole life of a delivery; what is absent does not happen. Nothing leads from UNKNOWN to WAITING but the
receiver's own word that it did not take the content, or an operator."""

HELD_FOR = timedelta(minutes=5)
"""How long an attempt holds its delivery: longer than a receiver may take over everything."""

SHORTEST_PAUSE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(minutes=30)
"""Longer than an attempt holds its delivery."""

GIVEN_UP_AFTER = timedelta(hours=48)
"""A receiver that is away over a weekend has lost nothing."""

GAVE_UP = "given up after 48 hours: "
BEGUN = "the hand-over was begun, and its end is not known"

MAX_ERROR_CHARACTERS = 500
"""What is kept of why an attempt failed."""


def pause(trying_since: datetime, now: datetime) -> timedelta:
    """How long to wait after a failed attempt: as long as it has been tried already, within bounds."""
    return min(max(now - trying_since, SHORTEST_PAUSE), LONGEST_PAUSE)


def is_given_up(trying_since: datetime, now: datetime) -> bool:
    return now - trying_since >= GIVEN_UP_AFTER


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One thing that is to be handed over to one receiver.

    Attributes:
        attempts: so far; the number of the attempt that holds the delivery, so that an earlier one that was
            thought dead can do nothing to it.
        held_until: until when nobody else takes it up.
        trying_since: when the first attempt was made, or the first after a resend.
    """

    id: UUID
    state: State
    attempts: int
    held_until: datetime
    trying_since: datetime | None = None
    sent_at: datetime | None = None
    last_error: str = ""

    def begun(self, now: datetime) -> Self:
        """It stands so from before the first byte of the content until the receiver's word."""
        state = AFTER[self.state, Event.BEGIN]
        return replace(self, state=state, held_until=now + HELD_FOR, last_error=BEGUN)

    def after(self, event: Event, reason: str, now: datetime) -> Self:
        """It stands so after an attempt."""
        since = self.trying_since or now
        if event in (Event.AWAY, Event.LATER) and is_given_up(since, now):
            event, reason = Event.REFUSED, GAVE_UP + reason
        state = AFTER[self.state, event]
        return replace(
            self,
            state=state,
            held_until=now + pause(since, now),
            sent_at=now if state is State.SENT else None,
            last_error=reason,
        )

    def resent(self, now: datetime) -> Self:
        """It stands so when an operator wants it tried again: its 48 hours begin anew."""
        return replace(self, state=AFTER[self.state, Event.RESEND], trying_since=None, held_until=now)

    @property
    def unanswered(self) -> Event:
        """What an attempt comes to that failed without the receiver's word."""
        return Event.LATER if self.state is State.WAITING else Event.LOST


class NotDue(Exception):
    """There is nothing to deliver any more; why is its only argument."""


class Undelivered(Exception):
    """The content was not taken, or it is not known whether it was.

    Attributes:
        event: AWAY, LATER, REFUSED or LOST.
        reason: without address and content.
    """

    def __init__(self, event: Event, reason: str) -> None:
        super().__init__(reason)
        self.event = event
        self.reason = reason
