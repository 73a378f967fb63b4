"""The queue: transfers as a state machine, what a DICOM status means for an instance, and the pauses. Pure.

A transfer is the queue's entry for one study under one calling AE title (A26). Its id stays through every
retry; it ends when each of its items has an answer that is final. What arrives for the study while it is
open joins it, unless one of its items was refused already, or it holds other bytes under the same UID; what
arrives later makes a new one, and so does an Export (GWY-13).

    event              waiting    sending    done    failed
    begun              sending    -          -       -
    interrupted        -          waiting    -       -
    all acknowledged   -          done       -       -
    some refused       -          failed     -       -
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from kernel.dicom import UID, AETitle
from kernel.ids import TransferId


class State(StrEnum):
    """Where a transfer stands."""

    WAITING = "waiting"
    SENDING = "sending"
    DONE = "done"
    FAILED = "failed"


class Event(StrEnum):
    """What happens to a transfer."""

    BEGUN = "begun"
    INTERRUPTED = "interrupted"
    ALL_ACKNOWLEDGED = "all acknowledged"
    SOME_REFUSED = "some refused"


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.WAITING, Event.BEGUN): State.SENDING,
    (State.SENDING, Event.INTERRUPTED): State.WAITING,
    (State.SENDING, Event.ALL_ACKNOWLEDGED): State.DONE,
    (State.SENDING, Event.SOME_REFUSED): State.FAILED,
}
"""What is not here is illegal."""


class Illegal(Exception):
    """An event that a transfer in this state cannot meet: an error of ours."""


def after(state: State, event: Event) -> State:
    """The state after the event; raises Illegal."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise Illegal(f"{event} while {state}") from None


class Outcome(StrEnum):
    """Where an item stands."""

    WAITING = "waiting"
    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"


# PS3.4 B.2.3 and PS3.7 C; the first row that holds the status counts, any other status is final.
_OUTCOMES: tuple[tuple[range, Outcome], ...] = (
    (range(0x0002), Outcome.ACKNOWLEDGED),  # success; 0001 is a warning
    (range(0xB000, 0xC000), Outcome.ACKNOWLEDGED),  # warnings: stored
    (range(0xA700, 0xA800), Outcome.WAITING),  # out of resources
    (range(0x0110, 0x0111), Outcome.WAITING),  # processing failure: Central's trouble, not the instance's
)


def outcome(status: int) -> Outcome:
    """What a C-STORE status means for an item; WAITING: ask again later."""
    return next((meaning for statuses, meaning in _OUTCOMES if status in statuses), Outcome.REFUSED)


DELETED = 0xC113
"""The study was deleted in the cloud after the transfer had begun: final for each of its items (A26)."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """One entry of the queue."""

    id: TransferId
    study_instance_uid: UID
    calling_ae_title: AETitle
    created_at: datetime
    state: State


@dataclass(frozen=True, slots=True)
class Item:
    """One received data set of a transfer: the bytes with this SHA-256, under this UID."""

    sop_instance_uid: UID
    sha256: str
    sop_class_uid: UID
    transfer_syntax_uid: UID

    @property
    def context(self) -> tuple[str, str]:
        """What an association has to accept before it can be sent."""
        return self.sop_class_uid, self.transfer_syntax_uid


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses between tries: they double up to `at_most_s`, each shortened by chance by up to a half.

    `random` answers numbers in [0, 1); the chance keeps the queues of many sites from returning in step.
    """

    first_s: float
    at_most_s: float
    random: Callable[[], float]

    def pause_s(self, failures: int) -> float:
        """How long to wait after the `failures`-th failure in a row, from 1."""
        whole = min(self.at_most_s, self.first_s * 2.0 ** min(failures - 1, 32))
        return whole * (1 - self.random() / 2)
