"""What the stream of facts and its consumers are to be, and in what a given one differs from that. Pure.

`busowner.py` makes and mends them. Every service compares (`bus.py`), and tells a difference as an alert.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from kernel.events import FACTS, Fact, heard_subjects

STREAM = "FACTS"
JSZ = "$SYS.REQ.SERVER.PING.JSZ"
"""Where the server tells how its JetStream is set up."""
KEPT_S = 7 * 24 * 3600
"""How long the stream and the outbox keep what was published."""
ACK_WAIT_S = 10.0
"""A message in work without a sign of life is given to another after this; signs come at a third of it."""
DUPLICATE_WINDOW_S = 120.0
"""How long the stream recognises an event id it has: longer than a relay needs to come back and repeat."""

Config = dict[str, Any]
"""A configuration in the words of JetStream's API; durations are nanoseconds."""

_OPERATORS = {"num_replicas", "placement"}
"""Where the stream is kept: whoever runs the servers decides that."""
_IN_ANY_ORDER = {"subjects", "filter_subjects"}

MAY_HAVE_LOST = {
    "sealed",
    "storage",
    "retention",
    "max_age",
    "max_msgs",
    "max_bytes",
    "max_msgs_per_subject",
    "max_msg_size",
    "discard",
    "no_ack",
    "mirror",
    "sources",
}
"""Settings by which a stream loses facts that it has acknowledged, or never took: where one of them was
other than wanted, the stream has to be filled again."""


def stream() -> Config:
    """The stream; every setting that is not named here is off."""
    return {
        "name": STREAM,
        "subjects": sorted({f"{subject.split('.')[0]}.>" for subject in FACTS}),
        "storage": "file",
        "retention": "limits",
        "discard": "old",
        "max_age": KEPT_S * 10**9,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_msgs_per_subject": -1,
        "max_msg_size": -1,
        "max_consumers": -1,
        "duplicate_window": int(DUPLICATE_WINDOW_S * 1e9),
        "compression": "none",
    }


def consumer(name: str, facts: Collection[type[Fact]]) -> Config:
    """The durable consumer of a service: it pulls, and is given the facts that it hears and no others."""
    return {
        "name": name,
        "durable_name": name,
        "deliver_policy": "all",
        "replay_policy": "instant",
        "ack_policy": "explicit",
        "ack_wait": int(ACK_WAIT_S * 1e9),
        "max_deliver": -1,  # failures are counted in the database, and Unavailable is none
        "max_ack_pending": -1,  # facts that wait for another try hold up nobody
        "max_waiting": 512,
        "filter_subjects": heard_subjects(facts),
    }


def differing(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> Sequence[str]:
    """The names of the settings in which a configuration is not as wanted."""
    return sorted(
        name
        for name in (wanted.keys() | found.keys()) - _OPERATORS
        if _canonical(name, wanted.get(name)) != _canonical(name, found.get(name))
    )


def _canonical(name: str, value: Any) -> Any:
    """The value, with one form for everything that is off."""
    if name == "metadata":  # the server notes its version there
        value = {key: each for key, each in (value or {}).items() if not key.startswith("_nats.")}
    if name in _IN_ANY_ORDER:
        value = sorted(value or ())
    return value or None
