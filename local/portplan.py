"""Which port everything has on one machine: the same in every new data directory."""

from collections.abc import Mapping

from plumbing.components import COMPONENTS, PROCESSES

BASE = 8400
"""The pages; whatever else there is follows. Below the range of outgoing connections."""

_FOR_PEOPLE = ("web_pages", "ingest_dicom", "ingest_gateways", "ingest_dicomweb")
_SERVERS = ("postgres", "nats", "valkey", "sink", "texts")


def plan(base: int = BASE) -> Mapping[str, int]:
    """The port of each edge by the name that a data directory keeps it under."""
    edges = [f"{name}_{edge}" for edge in ("http", "grpc") for name in PROCESSES]
    more = [f"{name}_{edge}" for name in PROCESSES for edge in COMPONENTS[name].ports]
    names = dict.fromkeys((*_FOR_PEOPLE, *_SERVERS, *edges, *more))
    return {name: base + place for place, name in enumerate(names)}
