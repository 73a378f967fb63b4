"""What each user of NATS may do. A service says its own facts, and hears as itself; the set-up user makes
the stream and the consumers (`busowner.py`), and neither says nor hears.

A service that is in other hands cannot say what only another knows, and cannot touch the stream. What it
still can: `docs/decisions/0007-the-bus-has-an-owner.md`.
"""

from kernel.events import SAYS, wire_subject
from plumbing.stream import JSZ, STREAM

SETUP = "setup"
"""The set-up user."""


def inbox(user: str) -> str:
    """Where the answers to a user go. Nobody else may listen there."""
    return f"_INBOX.{user}"


def of(user: str) -> dict[str, tuple[str, ...]]:
    """What a user may do, as the configuration of NATS says it."""
    return {"publish": publish(user), "subscribe": subscribe(user)}


def subscribe(user: str) -> tuple[str, ...]:
    """What a user may subscribe to: answers to themselves, and what they pull."""
    return (f"{inbox(user)}.>",)


def publish(user: str) -> tuple[str, ...]:
    """What a user may publish."""
    if user == SETUP:
        return (
            JSZ,
            *(f"$JS.API.STREAM.{verb}.{STREAM}" for verb in ("INFO", "CREATE", "UPDATE", "DELETE")),
            f"$JS.API.CONSUMER.NAMES.{STREAM}",
            *(f"$JS.API.CONSUMER.{verb}.{STREAM}.*" for verb in ("INFO", "CREATE", "DELETE")),
        )
    return (
        *(wire_subject(fact.subject, user) for fact in SAYS[user]),
        JSZ,
        f"$JS.API.STREAM.INFO.{STREAM}",
        f"$JS.API.CONSUMER.INFO.{STREAM}.{user}",
        f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{user}",
        f"$JS.ACK.{STREAM}.{user}.>",
    )
