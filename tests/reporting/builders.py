"""Access as far as reporting asks it, and texts."""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import uuid4

from kernel.ids import CaseId, FacilityId
from kernel.reading import PUBLIC_READ_TYPES, PrivilegeLevel, ReadType, Side
from services.reporting.sight import NO_SIGHT, Permit, Sight

LEASE = timedelta(minutes=5)
NORTH = FacilityId(uuid4())

ACTING: ContextVar[str] = ContextVar("acting")
"""On whose behalf access is asked; over the wire their token tells."""


def a_sight(level: PrivilegeLevel = PrivilegeLevel.REPORT, **changes: Any) -> Sight:
    """What a radiologist of the facility North may do, who completes every read type."""
    values: dict[str, Any] = {
        "allowed": True,
        "level": level,
        "reports": True,
        "side": Side.GROUP,
        "read_types": frozenset(ReadType) if level is PrivilegeLevel.REPORT else frozenset(),
        "facility_id": NORTH,
        "revision": "r1",
    }
    values |= changes
    own = {"own_level": values["level"], "own_read_types": values["read_types"]}
    return Sight(**own | values)


def a_sight_by_share(level: PrivilegeLevel = PrivilegeLevel.REPORT, **changes: Any) -> Sight:
    """What the same radiologist may do where they see the case by a share alone, with write access."""
    by_share = {
        "own_level": PrivilegeLevel.NONE,
        "own_read_types": frozenset(),
        "read_types": PUBLIC_READ_TYPES,
    }
    return a_sight(level, **by_share | changes)


def a_facility_sight(**changes: Any) -> Sight:
    return a_sight(PrivilegeLevel.VIEW, **{"side": Side.FACILITY} | changes)


@dataclass
class Access:
    """What each user may do, with every case alike."""

    sights: dict[str, Sight] = field(default_factory=dict)
    permits: dict[tuple[str, str], Permit] = field(default_factory=dict)
    answers: list[Callable[[], Sight]] = field(default_factory=list)
    """What the next questions are answered with, before the sights count again."""

    async def check(self, case_id: CaseId) -> Sight:
        if self.answers:
            return self.answers.pop(0)()
        return self.sights.get(ACTING.get(), NO_SIGHT)

    async def check_permission(self, permission: str, facility_id: FacilityId | None) -> Permit:
        return self.permits.get((ACTING.get(), permission), Permit(False, Side.NONE))

    async def holds_at(self, permission: str, facility_id: FacilityId | None) -> bool:
        return (await self.check_permission(permission, facility_id)).allowed

    def permit(self, login: str, permission: str, side: Side = Side.GROUP) -> None:
        self.permits[login, permission] = Permit(True, side)
