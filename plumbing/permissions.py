"""What each service's user of NATS may do: say its own facts, and hear as itself.

A service that is in other hands cannot say what only another knows. What it still can: make or change the
stream, as every service does that finds it absent (`bus.py`), and confirm a purge in another's name.
"""

from kernel.events import SAYS
from plumbing.bus import JSZ, STREAM

SUBSCRIBE = ("_INBOX.>",)
"""What a user may subscribe to: answers to himself, and what he pulls."""


def publish(service: str) -> tuple[str, ...]:
    """What the user of a service may publish: facts, and requests to JetStream."""
    return (
        *(fact.subject for fact in SAYS[service]),
        JSZ,
        *(f"$JS.API.STREAM.{verb}.{STREAM}" for verb in ("INFO", "CREATE", "UPDATE")),
        f"$JS.API.CONSUMER.CREATE.{STREAM}.{service}",
        f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{service}",
        f"$JS.ACK.{STREAM}.{service}.>",
    )
