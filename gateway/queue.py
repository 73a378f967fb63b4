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

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

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
    (
        range(0xC112, 0xC113),
        Outcome.WAITING,
    ),  # Central has forgotten that it was announced: announce it again
)


def outcome(status: int) -> Outcome:
    """What a C-STORE status means for an item; WAITING: ask again later."""
    return next((meaning for statuses, meaning in _OUTCOMES if status in statuses), Outcome.REFUSED)


DELETED = 0xC113
"""The study was deleted in the cloud after the transfer had begun: final for each of its items (A26)."""


OLDEST = timedelta(days=90)
"""The oldest age that Central server takes, and what an age that cannot be told counts as: the transfer of a
study that was deleted meanwhile is then refused (C113), and an Export sends it again."""


@dataclass(frozen=True, slots=True)
class Aged:
    """How old a transfer is at least, by the time that the machine has been up.

    Attributes:
        seconds: its age when the machine had been up for `uptime_s` in the boot `boot_id`.
        boot_id: None for a transfer of a version that kept no such age.
        since_birth: whether it was made in that boot; else the time between the boots is missing.
    """

    seconds: float
    boot_id: str | None
    uptime_s: float
    since_birth: bool

    def at(self, boot_id: str, uptime_s: float) -> "Aged":
        """Return the same age, later: grown by what has passed, or after another boot as it was kept."""
        if boot_id != self.boot_id:
            return Aged(self.seconds, boot_id, uptime_s, since_birth=False)
        return Aged(self.seconds + max(0.0, uptime_s - self.uptime_s), boot_id, uptime_s, self.since_birth)


@dataclass(frozen=True, slots=True)
class Transfer:
    """One entry of the queue.

    Attributes:
        is_only: whether, when it was claimed, the queue had no other transfer of its study. Where an
            association carries several transfers, Central server goes by the study of each instance. So one
            of several transfers of a study has an association of its own, which names it.
    """

    id: TransferId
    study_instance_uid: UID
    calling_ae_title: AETitle
    created_at: datetime
    state: State
    aged: Aged
    is_only: bool = False

    def age(self, now: datetime) -> timedelta:
        """Return the age to announce: the larger of what wall clock and uptime say, at most OLDEST (A26).

        `aged` must be of now. Where the wall clock says less than nothing, the uptime alone tells the age if
        it does so since the birth of the transfer; else nobody can, and it is OLDEST.
        """
        by_wall = now - self.created_at
        if by_wall < timedelta() and not self.aged.since_birth:
            return OLDEST
        return min(OLDEST, max(by_wall, timedelta(seconds=self.aged.seconds)))


@dataclass(frozen=True, slots=True)
class End:
    """A transfer that has ended; `acknowledged` of its items were acknowledged."""

    transfer: Transfer
    state: State
    acknowledged: int


def transfer_of(row: Sequence[Any]) -> Transfer:
    """A transfer from its columns, in the order of its fields, those of `aged` last."""
    transfer_id, study, title, created_at, state, aged_s, aged_boot, aged_uptime_s, since_birth = row
    return Transfer(
        id=TransferId(UUID(transfer_id)),
        study_instance_uid=UID(study),
        calling_ae_title=AETitle(title),
        created_at=datetime.fromtimestamp(created_at, UTC),
        state=State(state),
        aged=Aged(aged_s, aged_boot, aged_uptime_s, bool(since_birth)),
    )


@dataclass(frozen=True, slots=True)
class Item:
    """One received data set of a transfer: the bytes with this SHA-256, under this UID.

    Attributes:
        size_bytes: of the data set; None where the version that received it kept no size.
    """

    sop_instance_uid: UID
    sha256: str
    sop_class_uid: UID
    transfer_syntax_uid: UID
    size_bytes: int | None = None

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
