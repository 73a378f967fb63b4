"""Why a user sees a case or does not: the trace that a help desk can read aloud (BEY-1). Pure.

It tells what decided, and decides nothing itself. What the user may do comes from the statement that answers
Check (`sightings.py`) and from `decide`. What stands beside, such as the privilege as stored or the end of a
share, is read in the same snapshot.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from kernel.errors import Denied
from kernel.ids import CaseId, FacilityId
from kernel.reading import PrivilegeLevel, Side
from services.access.domain import (
    BEING_DELETED,
    NO_SIGHT,
    ROLES,
    CompiledUser,
    Decision,
    EffectivePrivilege,
    Facility,
    Path,
    Permission,
    Privilege,
    Sighting,
    User,
    decide,
    effective_privilege,
)


class Obstacle(StrEnum):
    """What hides a case whatever path is open."""

    DEACTIVATED = "deactivated"
    BEING_DELETED = "being_deleted"
    BEING_MOVED = "being_moved"


class Reason(StrEnum):
    """Why a path is open or not."""

    OPEN = "open"
    ROLE = "role"  # the ceiling of the role is NONE: it opens no path at all
    NONE = "none"  # nothing shows the case to them by this path
    ENDED = "ended"
    CLOSED = "closed"
    CODE = "code"  # open only in sessions in which they have redeemed its code (A57)


@dataclass(frozen=True, slots=True)
class ExplainedCase:
    """A case as far as an explanation needs it, whoever sees it.

    Attributes:
        facility: the owner; its name is empty until routing has told it.
    """

    id: CaseId
    facility: Facility
    being_deleted: bool
    being_moved: bool


@dataclass(frozen=True, slots=True)
class ShownIn:
    """A folder that holds the case and has the user as member; without a name for who may not use it."""

    name: str


@dataclass(frozen=True, slots=True)
class SharedBy:
    """A bucket of the user's that holds the case.

    Attributes:
        ends_at: None for never.
        needs_code: whether it is open only in sessions in which a code was redeemed.
    """

    is_open: bool
    ends_at: datetime | None
    needs_code: bool
    may_write: bool

    def reason(self, now: datetime) -> Reason:
        """Why it gives sight to somebody in no session, or does not."""
        if self.ends_at is not None and self.ends_at <= now:
            return Reason.ENDED
        if not self.is_open:
            return Reason.CLOSED
        return Reason.CODE if self.needs_code else Reason.OPEN


@dataclass(frozen=True, slots=True)
class Showings:
    """What shows a case to a user beside their privilege, open or not."""

    is_granted: bool
    folders: Sequence[ShownIn]
    shares: Sequence[SharedBy]


@dataclass(frozen=True, slots=True)
class ExplainedPath:
    """One way by which a user might see the case.

    Attributes:
        ends_at: until when it is open, or was; None: it does not end by itself.
        folders: of the path FOLDER.
        may_write: of the path SHARE: whether it gives write access to the report (A45).
    """

    path: Path
    reason: Reason
    ends_at: datetime | None = None
    folders: Sequence[ShownIn] = ()
    may_write: bool = False


MOST_COUNTED = 10_000
"""Cases of a facility that are counted, the newest: enough to see what a filter does, in half a second."""


@dataclass(frozen=True, slots=True)
class Counted:
    """The newest cases of a facility, and how many of them a user sees."""

    cases: int
    shown: int
    has_more: bool


@dataclass(frozen=True, slots=True)
class ExplainedFacility:
    """How much of a facility a user sees."""

    facility: Facility
    level: PrivilegeLevel
    counted: Counted
    hidden_by_filter: int

    @classmethod
    def of(
        cls, user: CompiledUser, facility: Facility, counted: Counted, now: datetime
    ) -> "ExplainedFacility":
        """Of who sees the facility's cases by privilege nothing but their filter hides any."""
        is_privileged = facility.id in user.facilities
        hidden = counted.cases - counted.shown if is_privileged else 0
        return cls(facility, user.level_at(facility.id, now), counted, hidden)


@dataclass(frozen=True, slots=True)
class Explanation:
    """The trace.

    Attributes:
        decision: what Check answers them, in a session in which they have redeemed no code.
        privilege: as stored at the owning facility, and `effective` what their role makes of it.
        paths: every one, in the order of `Path`.
    """

    user: User
    case: ExplainedCase
    at: datetime
    obstacle: Obstacle | None
    decision: Decision
    privilege: Privilege
    effective: EffectivePrivilege
    holds: Mapping[Permission, bool]
    paths: Sequence[ExplainedPath]

    @property
    def side(self) -> Side:
        return ROLES[self.user.role].side

    @property
    def ceiling(self) -> PrivilegeLevel:
        return ROLES[self.user.role].ceiling


def must_be_explained_to(asker: CompiledUser, user: CompiledUser) -> None:
    """Raises Denied unless a user of this side may be explained to the asker (A73)."""
    if asker.reading_side is Side.FACILITY and user.reading_side is Side.GROUP:
        raise Denied(
            f"`{user.login}` is of the group's side: what they see is explained to users of that side only"
        )


def explain(
    user: User,
    compiled: CompiledUser,
    case: ExplainedCase,
    sighting: Sighting | None,
    privilege: Privilege,
    showings: Showings,
    now: datetime,
) -> Explanation:
    """The trace of what one statement found, with what the same snapshot holds beside it.

    Args:
        sighting: None if no path is open, or the case is being moved.
        privilege: as stored at the owning facility.
    """
    return Explanation(
        user=user,
        case=case,
        at=now,
        obstacle=_obstacle(user, case),
        decision=_decision(compiled, case.facility.id, sighting, now),
        privilege=privilege,
        effective=effective_privilege(privilege, user.role, case.facility.time_zone),
        holds={
            permission: compiled.holds(permission, case.facility.id)
            for permission in (Permission.VIEW_IMAGES, Permission.VIEW_REPORT)
        },
        paths=_paths(compiled, case.facility.id, sighting, showings, now),
    )


def _obstacle(user: User, case: ExplainedCase) -> Obstacle | None:
    hiding = {
        Obstacle.DEACTIVATED: not user.active,
        Obstacle.BEING_DELETED: case.being_deleted,
        Obstacle.BEING_MOVED: case.being_moved,
    }
    return next((obstacle for obstacle, is_so in hiding.items() if is_so), None)


def _decision(
    compiled: CompiledUser, facility_id: FacilityId, sighting: Sighting | None, now: datetime
) -> Decision:
    if sighting is None or not compiled.active:
        return NO_SIGHT
    if sighting.being_deleted:
        return BEING_DELETED
    return decide(compiled, facility_id, sighting.paths, now, may_write=sighting.may_write)


def _paths(
    compiled: CompiledUser,
    facility_id: FacilityId,
    sighting: Sighting | None,
    showings: Showings,
    now: datetime,
) -> list[ExplainedPath]:
    if compiled.grantee is None:
        return [ExplainedPath(path, Reason.ROLE) for path in Path]
    return [tell(compiled, facility_id, sighting, showings, now) for tell in _TOLD.values()]


def _by_privilege(
    compiled: CompiledUser,
    facility_id: FacilityId,
    sighting: Sighting | None,
    showings: Showings,
    now: datetime,
) -> ExplainedPath:
    passes = compiled.filter is None or (sighting is not None and Path.PRIVILEGE in sighting.paths)
    is_open = facility_id in compiled.facilities and passes
    return ExplainedPath(Path.PRIVILEGE, Reason.OPEN if is_open else Reason.NONE)


def _by_grant(
    compiled: CompiledUser,
    facility_id: FacilityId,
    sighting: Sighting | None,
    showings: Showings,
    now: datetime,
) -> ExplainedPath:
    return ExplainedPath(Path.GRANT, Reason.OPEN if showings.is_granted else Reason.NONE)


def _by_folder(
    compiled: CompiledUser,
    facility_id: FacilityId,
    sighting: Sighting | None,
    showings: Showings,
    now: datetime,
) -> ExplainedPath:
    reason = Reason.OPEN if showings.folders else Reason.NONE
    return ExplainedPath(Path.FOLDER, reason, folders=showings.folders)


def _by_historical(
    compiled: CompiledUser,
    facility_id: FacilityId,
    sighting: Sighting | None,
    showings: Showings,
    now: datetime,
) -> ExplainedPath:
    is_open = sighting is not None and Path.HISTORICAL in sighting.paths
    return ExplainedPath(Path.HISTORICAL, Reason.OPEN if is_open else Reason.NONE)


_BEST_FIRST = (Reason.OPEN, Reason.CODE, Reason.CLOSED, Reason.ENDED)


def _by_share(
    compiled: CompiledUser,
    facility_id: FacilityId,
    sighting: Sighting | None,
    showings: Showings,
    now: datetime,
) -> ExplainedPath:
    """Of several shares the one that opens most; of those alike, the one that ends last."""
    for reason in _BEST_FIRST:
        if alike := [each for each in showings.shares if each.reason(now) is reason]:
            ends = [each.ends_at for each in alike if each.ends_at is not None]
            return ExplainedPath(
                Path.SHARE,
                reason,
                ends_at=max(ends) if len(ends) == len(alike) else None,
                may_write=any(each.may_write for each in alike),
            )
    return ExplainedPath(Path.SHARE, Reason.NONE)


_TOLD: Mapping[
    Path, Callable[[CompiledUser, FacilityId, Sighting | None, Showings, datetime], ExplainedPath]
] = {
    Path.PRIVILEGE: _by_privilege,
    Path.GRANT: _by_grant,
    Path.FOLDER: _by_folder,
    Path.SHARE: _by_share,
    Path.HISTORICAL: _by_historical,
}
