"""Words of reading: what a user may do with a case, for whom they work, and kinds of reports."""

from enum import IntEnum, StrEnum


class PrivilegeLevel(IntEnum):
    """The level of a privilege, or what it amounts to: each includes those below it (ACC-1)."""

    NONE = 0
    VIEW = 1
    DRAFT = 2
    REPORT = 3


class Side(StrEnum):
    """Decides who may obtain anything of a pre-read (A32)."""

    NONE = "none"
    GROUP = "group"
    FACILITY = "facility"


class ReadType(StrEnum):
    """A kind of report (REP-1)."""

    PRELIMINARY = "preliminary"
    FINAL = "final"
    OTHER = "other"
    PRE_READ = "pre_read"


PUBLIC_READ_TYPES = frozenset(ReadType) - {ReadType.PRE_READ}
"""What a facility may be shown (REP-3)."""


def completable(level: PrivilegeLevel, read_types: frozenset[ReadType], side: Side) -> frozenset[ReadType]:
    """The types of which somebody may complete reports at a facility where all of them are active (A36).

    A pre-read is for the group alone (REP-4).

    Args:
        level: what they may do with the case.
        read_types: what they were given at its facility.
    """
    if level < PrivilegeLevel.REPORT:
        return frozenset()
    return read_types if side is Side.GROUP else read_types & PUBLIC_READ_TYPES


class DraftState(StrEnum):
    """Whose unsigned text waits to be signed: one that is newer than the last public report (A64)."""

    NONE = "none"
    DICTATED = "dictated"
    TRANSCRIBED = "transcribed"
