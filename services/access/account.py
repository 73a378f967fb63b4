"""An account as it is stored, and where it means anything.

A change is judged by this and not by what the account amounts to today: a role caps a level, a date ends it,
a deactivation silences all of it, and one save of the role, the date or the switch brings it back.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from kernel.ids import FacilityId
from kernel.reading import PrivilegeLevel, ReadType
from services.access.domain import CompiledUser, Facility, Permission, Privilege, User, expiry_instant


@dataclass(frozen=True, slots=True)
class Extent:
    """How far a privilege goes.

    Attributes:
        read_types, until: with REPORT only; without `until` it never ends.
    """

    level: PrivilegeLevel = PrivilegeLevel.NONE
    read_types: frozenset[ReadType] = frozenset()
    until: datetime | None = None

    @classmethod
    def stored(cls, privilege: Privilege, facility: Facility) -> "Extent":
        """What is stored, whatever a role or the time makes of it."""
        expires_on = privilege.expires_on
        until = None if expires_on is None else expiry_instant(expires_on, facility.time_zone)
        return cls(privilege.level, privilege.read_types, until)

    @classmethod
    def effective(cls, user: CompiledUser, facility_id: FacilityId, now: datetime) -> "Extent":
        """What somebody has at a facility now, after expiry and the ceiling of their role."""
        level = user.level_at(facility_id, now)
        if level is not PrivilegeLevel.REPORT:
            return cls(level)
        effective = user.effective[facility_id]
        return cls(level, effective.read_types, effective.expires_at)

    def beyond(self, bound: "Extent") -> str | None:
        """The field in which this exceeds a bound; None if it stays within."""
        if self.level > bound.level:
            return "level"
        if self.level is not PrivilegeLevel.REPORT:
            return None
        if self.read_types - bound.read_types:
            return "read_types"
        if bound.until is not None and (self.until is None or self.until > bound.until):
            return "expires_on"
        return None


NO_EXTENT = Extent()
_SHOWS = {Permission.VIEW_IMAGES, Permission.VIEW_REPORT}


@dataclass(frozen=True, slots=True)
class Account:
    """A user with all that others gave them.

    Attributes:
        extents: their stored privileges.
        shown: the facilities of cases that grants, folders and shares show them.
    """

    user: User
    extents: Mapping[FacilityId, Extent]
    shown: frozenset[FacilityId]

    @classmethod
    def of(
        cls, user: User, privileges: Iterable[tuple[Facility, Privilege]], shown: Iterable[FacilityId]
    ) -> "Account":
        extents = {facility.id: Extent.stored(privilege, facility) for facility, privilege in privileges}
        return cls(user, extents, frozenset(shown))

    def with_privilege(self, facility: Facility, privilege: Privilege) -> "Account":
        """The account if this were its privilege at a facility."""
        return replace(self, extents={**self.extents, facility.id: Extent.stored(privilege, facility)})

    def extent(self, facility_id: FacilityId) -> Extent:
        return self.extents.get(facility_id, NO_EXTENT)

    def permissions(self, facility_id: FacilityId | None) -> frozenset[Permission]:
        """The permissions given singly for a facility; None: for every one."""
        return frozenset(
            grant.permission for grant in self.user.permissions if grant.facility_id == facility_id
        )

    @property
    def facilities(self) -> frozenset[FacilityId]:
        """Where the account has anything of its own, however dormant."""
        singly = {grant.facility_id for grant in self.user.permissions if grant.facility_id}
        held = {facility_id for facility_id, extent in self.extents.items() if extent != NO_EXTENT}
        return self.shown | singly | held

    def gives_more_than(self, before: "Account") -> bool:
        """Whether this gives its user anything that the account before did not, however dormant."""
        if self.switched(before):
            return self.user.active
        return any(
            self.extent(facility_id).beyond(before.extent(facility_id))
            or self.permissions(facility_id) - before.permissions(facility_id)
            for facility_id in self.facilities
        )

    def shows_more_than(self, before: "Account") -> frozenset[FacilityId]:
        """Where cases are shown to its user one by one, and more of these than by the account before."""
        if self.switched(before):
            return self.shown if self.user.active else frozenset()
        return frozenset(
            facility_id
            for facility_id in self.shown
            if (self.permissions(facility_id) - before.permissions(facility_id)) & _SHOWS
        )

    def switched(self, other: "Account") -> str | None:
        """The field of the first difference that counts wherever either account has anything."""
        switches = {
            "role": self.user.role != other.user.role,
            "active": self.user.active != other.user.active,
            "home_facility_id": self.user.home_facility_id != other.user.home_facility_id,
            "permissions": self.permissions(None) != other.permissions(None),
        }
        return next((field for field, differs in switches.items() if differs), None)
