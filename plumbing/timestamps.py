"""Instants as the contracts write them."""

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp


def timestamp(at: datetime | None) -> Timestamp | None:
    """For a field of a message; None leaves it unset."""
    if at is None:
        return None
    made = Timestamp()
    made.FromDatetime(at)
    return made
