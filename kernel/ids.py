"""Ids: UUIDs of version 7 (RFC 9562, 5.7), so that newer rows sort after older ones."""

import secrets
from collections.abc import Callable
from typing import NewType
from uuid import UUID

from kernel.clock import Clock
from kernel.errors import Invalid

BucketId = NewType("BucketId", UUID)
CaseId = NewType("CaseId", UUID)
DeletionId = NewType("DeletionId", UUID)
MoveId = NewType("MoveId", UUID)
FacilityId = NewType("FacilityId", UUID)
FolderId = NewType("FolderId", UUID)
GatewayId = NewType("GatewayId", UUID)
NoticeId = NewType("NoticeId", UUID)
PackId = NewType("PackId", UUID)
ReportId = NewType("ReportId", UUID)
RuleId = NewType("RuleId", UUID)
ShareId = NewType("ShareId", UUID)
StudyId = NewType("StudyId", UUID)
TransferId = NewType("TransferId", UUID)
UserId = NewType("UserId", UUID)
VolumeId = NewType("VolumeId", UUID)
WriterId = NewType("WriterId", UUID)

NewId = Callable[[], UUID]
"""What mints ids; an argument wherever ids are minted."""


class UUID7:
    """Mints UUIDv7 from a clock and a source of random bytes."""

    def __init__(self, clock: Clock, random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> None:
        self._clock = clock
        self._random_bytes = random_bytes

    def __call__(self) -> UUID:
        milliseconds = int(self._clock.now().timestamp() * 1000) & 0xFFFF_FFFF_FFFF
        random = int.from_bytes(self._random_bytes(10), "big")
        high, low = random >> 68, random & 0x3FFF_FFFF_FFFF_FFFF
        return UUID(int=milliseconds << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low)


def parse_id(text: str, field: str) -> UUID:
    """The UUID in `text`, in its canonical 36 characters.

    Raises Invalid, which names `field`, for anything else.
    """
    if len(text) == 36:
        try:
            return UUID(text)
        except ValueError:
            pass
    raise Invalid(f"`{field}` is not an id: expected a UUID of 36 characters", field=field)
