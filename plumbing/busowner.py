"""The owner of the bus: makes the stream and the consumers, and mends what was changed in them.

Only `python -m services migrate` and the launcher of a laptop have the user who may. Each run finds what is
there and changes what differs, so that it may be repeated at any time. A stream that may have lost facts, or
cannot be changed, is made anew: every outbox fills a stream that it has not seen before (`outbox.py`).
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from kernel.errors import Conflict
from kernel.events import HEARS, Fact
from plumbing import log, timers
from plumbing.bus import Bus
from plumbing.permissions import SETUP
from plumbing.stream import MAY_HAVE_LOST, STREAM, Config, consumer, differing, stream

LOOK_INTERVAL_S = 5.0
"""How long the bus of a laptop stays lost or changed; the relays look as often (`outbox.py`)."""

_log = log.get()


async def set_up(bus: Bus, hears: Mapping[str, Collection[type[Fact]]] = HEARS) -> list[str]:
    """Makes and mends stream and consumers; answers what was done, nothing if all was as wanted.

    Raises Unavailable if NATS does not answer, Conflict if it refuses what is wanted.
    """
    done = await _set_up_stream(bus)
    for name, facts in hears.items():
        done += await _set_up_consumer(bus, consumer(name, facts))
    done += await _remove_others(bus, hears)
    return done


async def set_up_once(
    url: str, hears: Mapping[str, Collection[type[Fact]]] = HEARS, *, ca: Path | None = None
) -> list[str]:
    """Connects as the set-up user for one run."""
    bus = await Bus.connect(url, SETUP, ca)
    try:
        return await set_up(bus, hears)
    finally:
        await bus.close()


async def keep_up(
    url: str, hears: Mapping[str, Collection[type[Fact]]] = HEARS, *, ca: Path | None = None
) -> None:
    """Repeats the set-up until it is cancelled, also after NATS was away or has lost everything (R10)."""
    bus = await Bus.connect(url, SETUP, ca)

    async def mend() -> None:
        for done in await set_up(bus, hears):
            _log.warning("the bus was mended", how=done)

    try:
        await timers.every(LOOK_INTERVAL_S, mend)
    finally:
        await bus.close()


async def _set_up_stream(bus: Bus) -> list[str]:
    wanted = stream()
    found = await bus.ask(f"STREAM.INFO.{STREAM}")
    if found is None:
        await _must(bus, f"STREAM.CREATE.{STREAM}", wanted)
        return [f"made the stream `{STREAM}`"]
    differences = differing(wanted, found["config"])
    if not differences:
        return []
    kept: Config = {name: value for name, value in found["config"].items() if name == "num_replicas"}
    changed = None
    if not MAY_HAVE_LOST.intersection(differences):
        changed = await bus.ask(f"STREAM.UPDATE.{STREAM}", wanted | kept)
    if changed is None or "error" in changed:  # lost what it had, or NATS cannot change it
        await _must(bus, f"STREAM.DELETE.{STREAM}")
        await _must(bus, f"STREAM.CREATE.{STREAM}", wanted | kept)
        return [
            f"made the stream `{STREAM}` anew, for the outboxes to fill it: {_named(differences)} differed"
        ]
    if left := differing(wanted, changed["config"]):
        raise Conflict(f"NATS does not change {_named(left)} of the stream `{STREAM}`")
    return [f"changed the stream `{STREAM}`: {_named(differences)} differed"]


async def _set_up_consumer(bus: Bus, wanted: Config) -> list[str]:
    name = wanted["name"]
    request = {"stream_name": STREAM, "config": wanted}
    found = await bus.ask(f"CONSUMER.INFO.{STREAM}.{name}")
    if found is None:
        await _must(bus, f"CONSUMER.CREATE.{STREAM}.{name}", request)
        return [f"made the consumer `{name}`"]
    differences = differing(wanted, found["config"])
    if not differences:
        return []
    changed = await bus.ask(f"CONSUMER.CREATE.{STREAM}.{name}", request)
    if changed is None or "error" in changed or differing(wanted, changed["config"]):
        # It hears the whole stream again, and knows what it has applied.
        await bus.ask(f"CONSUMER.DELETE.{STREAM}.{name}")
        await _must(bus, f"CONSUMER.CREATE.{STREAM}.{name}", request)
    return [f"changed the consumer `{name}`: {_named(differences)} differed"]


async def _remove_others(bus: Bus, hears: Collection[str]) -> list[str]:
    """Removes consumers of no service: somebody else would hear by them, or have facts pushed elsewhere."""
    found = await _must(bus, f"CONSUMER.NAMES.{STREAM}")
    others = sorted(set(found["consumers"] or ()) - set(hears))
    for name in others:
        await bus.ask(f"CONSUMER.DELETE.{STREAM}.{name}")
    return [f"removed the consumer `{name}`, which belongs to no service" for name in others]


async def _must(bus: Bus, request: str, body: Config | None = None) -> dict[str, Any]:
    """The answer to a request without which the bus is not as wanted."""
    answer = await bus.ask(request, body)
    if answer is None:
        raise Conflict(f"NATS does not know what `{request}` names")
    if error := answer.get("error"):
        raise Conflict(f"NATS refuses `{request}`: {error.get('description')}")
    if body and (differences := differing(body.get("config", body), answer["config"])):
        raise Conflict(f"NATS does not keep to what `{request}` asks: {_named(differences)}")
    return answer


def _named(settings: Collection[str]) -> str:
    return ", ".join(f"`{each}`" for each in settings)
