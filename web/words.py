"""What pages call the values of the contracts."""

from collections.abc import Mapping
from dataclasses import dataclass

from wire.access.v1 import access_pb2 as pb
from wire.sharing.v1.sharing_pb2 import Bucket

READ_TYPES: Mapping[int, str] = {
    pb.READ_TYPE_PRELIMINARY: "preliminary",
    pb.READ_TYPE_FINAL: "final",
    pb.READ_TYPE_OTHER: "other",
    pb.READ_TYPE_PRE_READ: "pre-read",
}

PRIORITIES: Mapping[int, str] = {pb.PRIORITY_URGENT: "urgent", pb.PRIORITY_STAT: "stat"}
"""What is normal needs no word."""

WAITS_FOR: Mapping[int, str] = {
    pb.WAITS_FOR_DISTRIBUTION: "distribution",
    pb.WAITS_FOR_IMAGES: "images",
    pb.WAITS_FOR_READING: "reading",
    pb.WAITS_FOR_SIGNATURE: "signature",
}

LEVELS: Mapping[int, str] = {
    pb.LEVEL_VIEW: "view",
    pb.LEVEL_DRAFT: "draft",
    pb.LEVEL_REPORT: "report",
}


SHARES: Mapping[int, str] = {
    Bucket.STATE_PENDING: "being sent",
    Bucket.STATE_ACTIVE: "active",
    Bucket.STATE_BLOCKED: "blocked",
    Bucket.STATE_EXPIRED: "ended",
    Bucket.STATE_REVOKED: "revoked",
}
"""How a recipient's part of a share stands."""


ACTS: Mapping[int, str] = {
    pb.CASE_ACT_OPEN: "open",
    pb.CASE_ACT_DRAFT: "draft",
    pb.CASE_ACT_REPORT: "report",
    pb.CASE_ACT_DELETE: "delete",
}
"""What pages offer of what somebody may do with a case, as menus name it."""


def acts_of(case: pb.Case) -> str:
    """What a menu of the case offers."""
    return " ".join(ACTS[each] for each in case.may if each in ACTS)


def is_free(case: pb.Case) -> bool:
    """Whether its reader may begin: it waits for somebody who writes, and nobody has locked it."""
    writes = pb.CASE_ACT_DRAFT in case.may or pb.CASE_ACT_REPORT in case.may
    waits = case.waits_for in (pb.WAITS_FOR_READING, pb.WAITS_FOR_SIGNATURE)
    return writes and waits and not case.lock_holder_name


@dataclass(frozen=True, slots=True)
class State:
    """How far a case has come: the name of its icon, and its word."""

    icon: str
    word: str


STATES: Mapping[str, State] = {
    "IN_TRANSMIT": State("arriving", "images arrive"),
    "READY_TO_READ": State("ready", "ready to read"),
    "ASSIGNED": State("assigned", "assigned"),
    "DICTATED": State("draft", "dictated"),
    "TRANSCRIBED": State("draft", "transcribed"),
    "READ": State("read", "read"),
}
"""By Study Status ID, as access answers it (A64)."""

UNDISTRIBUTED = State("undistributed", "to be distributed")


def signs() -> list[State]:
    """Every icon of a state once, with all that it means."""
    meant: dict[str, list[str]] = {}
    for state in (UNDISTRIBUTED, *STATES.values()):
        meant.setdefault(state.icon, []).append(state.word)
    return [State(icon, " or ".join(each)) for icon, each in meant.items()]


def state_of(case: pb.Case) -> State:
    """The state of a case; one that a later version adds is told by its own word."""
    if case.undistributed:
        return UNDISTRIBUTED
    status = case.study_status_id
    return STATES.get(status, State("ready", status.replace("_", " ").lower()))
