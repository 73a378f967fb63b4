"""Why a user sees a case or does not: the trace that a help desk can read aloud (BEY-1). Pure.

It tells what decided, and decides nothing itself. What the user may do comes from the statement that answers
Check (`sightings.py`) and from `decide`. What stands beside, such as the privilege as stored or the end of a
share, is read in the same snapshot.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from kernel.errors import Denied
from kernel.ids import CaseId
from kernel.reading import PrivilegeLevel, Side
from services.access.accessfilter import AccessFilter, Historical
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
from services.access.filter.trace import Part, Values, named, trace
from services.access.filter.writing import write


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
    FILTER = "filter"  # their privilege would open it, and their filter hides the case
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


# Filters


@dataclass(frozen=True, slots=True)
class ExplainedClause:
    """One clause of a filter as it is told.

    Attributes:
        depth: how many clauses it lies within.
        truth: None: unknown, because the case does not have what it asks.
        text: of a predicate or a constant, as the filter writes it.
        values: of the case; empty where it has none, or the asker does not see the case.
        near: the same predicate changed a little, with each of which the filter would show the case.
    """

    part: Part
    depth: int
    truth: bool | None
    text: str
    values: Sequence[str]
    near: Sequence[str]


@dataclass(frozen=True, slots=True)
class ExplainedFilter:
    """The filter of the user, asked of the case.

    Attributes:
        is_broken: whether it no longer parses, and hides everything (A15); then there are no clauses.
        historical: which other studies of a patient it opens (A71).
        values_shown: whether the asker sees the case, and so its values (A73).
        clauses: in the order of its text.
    """

    is_broken: bool
    historical: Historical
    values_shown: bool
    clauses: Sequence[ExplainedClause]

    @property
    def shows(self) -> bool:
        return bool(self.clauses) and self.clauses[0].truth is True

    @classmethod
    def of(
        cls,
        asked: AccessFilter,
        values: Values,
        now: datetime,
        names: Mapping[UUID, str],
        *,
        values_shown: bool,
    ) -> "ExplainedFilter":
        """The filter with the values of the case, and today's names of users and facilities.

        A near miss tells a value, so it is told with the values or not at all.
        """
        if asked.is_broken:
            return cls(True, asked.historical, values_shown, ())
        clauses = [
            ExplainedClause(
                each.part,
                each.depth,
                each.truth,
                write(named(each.expression, names)) if each.part in (Part.PREDICATE, Part.CONSTANT) else "",
                each.values if values_shown else (),
                [write(named(other, names)) for other in each.misses] if values_shown else (),
            )
            for each in trace(asked.expression, asked.reader, values, now, names)
        ]
        return cls(False, asked.historical, values_shown, clauses)


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
        filter: None if they have none.
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
    filter: "ExplainedFilter | None"
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
            f"`{user.login}` belongs to the radiology group: what they see is explained only to people of "
            "the group"
        )


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one snapshot holds of a user and a case.

    Attributes:
        sighting: by which paths they see it, as Check has it; None: by none, or the case is being moved.
        privilege: as stored at the owning facility.
        filter: None if they have none.
    """

    user: User
    compiled: CompiledUser
    case: ExplainedCase
    sighting: Sighting | None
    privilege: Privilege
    showings: Showings
    filter: "ExplainedFilter | None"
    now: datetime

    @property
    def is_privileged(self) -> bool:
        """Whether their privilege alone would show the case."""
        return self.case.facility.id in self.compiled.facilities

    def is_open(self, path: Path) -> bool:
        return self.sighting is not None and path in self.sighting.paths


def explain(found: Evidence) -> Explanation:
    """The trace of what was found."""
    facility = found.case.facility
    return Explanation(
        user=found.user,
        case=found.case,
        at=found.now,
        obstacle=_obstacle(found.user, found.case),
        decision=_decision(found),
        privilege=found.privilege,
        effective=effective_privilege(found.privilege, found.user.role, facility.time_zone),
        holds={
            permission: found.compiled.holds(permission, facility.id)
            for permission in (Permission.VIEW_IMAGES, Permission.VIEW_REPORT)
        },
        filter=found.filter,
        paths=_paths(found),
    )


def _obstacle(user: User, case: ExplainedCase) -> Obstacle | None:
    hiding = {
        Obstacle.DEACTIVATED: not user.active,
        Obstacle.BEING_DELETED: case.being_deleted,
        Obstacle.BEING_MOVED: case.being_moved,
    }
    return next((obstacle for obstacle, is_so in hiding.items() if is_so), None)


def _decision(found: Evidence) -> Decision:
    sighting = found.sighting
    if sighting is None or not found.compiled.active:
        return NO_SIGHT
    if sighting.being_deleted:
        return BEING_DELETED
    facility_id = found.case.facility.id
    return decide(found.compiled, facility_id, sighting.paths, found.now, may_write=sighting.may_write)


def _paths(found: Evidence) -> list[ExplainedPath]:
    if found.compiled.grantee is None:
        return [ExplainedPath(path, Reason.ROLE) for path in Path]
    return [_TOLD[path](found) for path in Path]


def _by_privilege(found: Evidence) -> ExplainedPath:
    if not found.is_privileged:
        return ExplainedPath(Path.PRIVILEGE, Reason.NONE)
    passes = found.filter is None or found.filter.shows
    return ExplainedPath(Path.PRIVILEGE, Reason.OPEN if passes else Reason.FILTER)


def _by_grant(found: Evidence) -> ExplainedPath:
    return ExplainedPath(Path.GRANT, Reason.OPEN if found.showings.is_granted else Reason.NONE)


def _by_folder(found: Evidence) -> ExplainedPath:
    folders = found.showings.folders
    return ExplainedPath(Path.FOLDER, Reason.OPEN if folders else Reason.NONE, folders=folders)


_BEST_FIRST = (Reason.OPEN, Reason.CODE, Reason.CLOSED, Reason.ENDED)


def _by_share(found: Evidence) -> ExplainedPath:
    """Of several shares the one that opens most; of those alike, the one that ends last."""
    for reason in _BEST_FIRST:
        if alike := [each for each in found.showings.shares if each.reason(found.now) is reason]:
            ends = [each.ends_at for each in alike if each.ends_at is not None]
            return ExplainedPath(
                Path.SHARE,
                reason,
                ends_at=max(ends) if len(ends) == len(alike) else None,
                may_write=any(each.may_write for each in alike),
            )
    return ExplainedPath(Path.SHARE, Reason.NONE)


def _by_historical(found: Evidence) -> ExplainedPath:
    is_open = found.is_open(Path.HISTORICAL)
    return ExplainedPath(Path.HISTORICAL, Reason.OPEN if is_open else Reason.NONE)


_TOLD: Mapping[Path, Callable[[Evidence], ExplainedPath]] = {
    Path.PRIVILEGE: _by_privilege,
    Path.GRANT: _by_grant,
    Path.FOLDER: _by_folder,
    Path.SHARE: _by_share,
    Path.HISTORICAL: _by_historical,
}
