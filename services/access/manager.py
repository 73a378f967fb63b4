"""What an administrator may give (A13).

Whoever holds `access.admin` everywhere may give anything, to himself too. Whoever holds it for single
facilities is a delegated manager: he manages the users whose home is one of them, and gives only what he
has. That goes for what he takes away too: what he changes, old and new, must be something he could give.
"""

from dataclasses import dataclass
from datetime import datetime

from kernel.errors import Denied, Invalid
from kernel.ids import FacilityId, UserId
from services.access.contact import NO_CONTACT, Contact
from services.access.domain import (
    MAX_USER_NAME_CHARACTERS,
    ROLES,
    CompiledUser,
    Facility,
    Level,
    Permission,
    PermissionGrant,
    Privilege,
    Role,
    Side,
    User,
    canonical_login,
    checked_name,
    expiry_instant,
    no_user,
)


@dataclass(frozen=True, slots=True)
class UserSettings:
    """A user as an administrator wants him to be.

    Attributes:
        user_id: None for a new user.
        version: the one that the settings were made from (A68); 0 for a new user.
        role: None keeps the role of an existing user.
        active: a new user always is.
        permissions: None gives a new user the defaults of his role, and keeps those of an existing one.
        contact: how he is reached.
    """

    user_id: UserId | None
    version: int
    login: str
    name: str
    role: Role | None
    active: bool
    home_facility_id: FacilityId | None
    permissions: frozenset[PermissionGrant] | None
    contact: Contact = NO_CONTACT

    def applied(self, user_id: UserId, old: User | None, manager: "Manager") -> User:
        """The user as he would be; a new one has version 0."""
        login = canonical_login(self.login)
        if old is not None and login != old.login:
            raise Invalid("`login` never changes", field="login")
        role = self.role or (old.role if old else None)
        if role is None:
            raise Invalid("a new user needs a role", field="role")
        permissions = self.permissions
        if permissions is None:
            permissions = old.permissions if old else manager.default_permissions(role, self.home_facility_id)
        return User(
            id=user_id,
            login=login,
            name=checked_name(self.name, MAX_USER_NAME_CHARACTERS),
            role=role,
            active=self.active or old is None,
            permissions=permissions,
            home_facility_id=self.home_facility_id,
            version=old.version if old else 0,
            contact=self.contact,
            contact_version=_contact_version(old, self.contact),
        )


def _contact_version(old: User | None, contact: Contact) -> int:
    if old is None:
        return 1
    return old.contact_version + (not old.contact.reaches_as(contact))


@dataclass(frozen=True, slots=True)
class Manager:
    """A user who holds `access.admin`, everywhere or at single facilities."""

    user: CompiledUser

    def __post_init__(self) -> None:
        if not self.everywhere and not self.facilities:
            raise Denied("this needs the permission `access.admin`")

    @property
    def everywhere(self) -> bool:
        return self.user.holds(Permission.ADMINISTER_ACCESS)

    @property
    def facilities(self) -> frozenset[FacilityId]:
        return self.user.holds_singly(Permission.ADMINISTER_ACCESS)

    @property
    def homes(self) -> frozenset[FacilityId] | None:
        """The home facilities of the users whom he manages; None: of all."""
        return None if self.everywhere else self.facilities

    def administers(self, facility_id: FacilityId | None) -> bool:
        return self.everywhere or facility_id in self.facilities

    def must_administer(self, facility_id: FacilityId) -> None:
        """Raises Denied unless he administers a facility."""
        if not self.administers(facility_id):
            raise Denied("this needs the permission `access.admin` for the facility")

    def must_administer_everything(self) -> None:
        """Raises Denied for a delegated manager."""
        if not self.everywhere:
            raise Denied("this needs the permission `access.admin` for every facility")

    def must_manage(self, user: User) -> None:
        """Raises NotFound for a user who is not his, as for one who does not exist."""
        if not self.administers(user.home_facility_id):
            raise no_user(user.id)

    def default_permissions(self, role: Role, home: FacilityId | None) -> frozenset[PermissionGrant]:
        """The permissions of a new user; from a delegated manager only his own, and only at the home."""
        terms = ROLES[role]
        at_home = frozenset(PermissionGrant(p, home) for p in terms.at_home)
        if self.everywhere:
            return at_home | {PermissionGrant(p) for p in terms.defaults}
        at_home |= {PermissionGrant(p, home) for p in terms.defaults}
        return frozenset(grant for grant in at_home if self.user.holds(grant.permission, home))

    def must_give_user(self, old: User | None, new: User) -> None:
        """Raises unless he may make the old user (None: nobody) into the new one."""
        if self.everywhere:
            return
        if old is not None:
            self.must_manage(old)
        if not self.administers(new.home_facility_id):
            raise Denied(
                "you administer users of your own facilities only: name one as the home facility",
                field="home_facility_id",
            )
        own = ROLES[self.user.role]
        for role in {new.role} if old is None else {old.role, new.role}:
            terms = ROLES[role]
            if terms.ceiling > own.ceiling or terms.side not in (own.side, Side.FACILITY):
                raise Denied(f"you may not give or change the role `{role}`", field="role")
        for changed in new.permissions ^ (frozenset() if old is None else old.permissions):
            if changed.facility_id not in self.facilities or not self.user.holds(
                changed.permission, changed.facility_id
            ):
                raise Denied(
                    f"you may give `{changed.permission}` only at a facility that you administer "
                    "and where you hold it",
                    field="permissions",
                )

    def must_give_privilege(self, facility: Facility, old: Privilege, new: Privilege, now: datetime) -> None:
        """Raises unless he may change a privilege at a facility from old to new."""
        self.must_administer(facility.id)
        if self.everywhere:
            return
        own_level = self.user.level_at(facility.id, now)
        if max(old.level, new.level) > own_level:
            raise Denied("you may not give or change a level above your own", field="level")
        if new.level is not Level.REPORT:
            return
        own = self.user.standings[facility.id]
        if new.read_types - own.read_types:
            raise Denied("you may give only your own read types", field="read_types")
        if own.expires_at is not None and (
            new.expires_on is None or expiry_instant(new.expires_on, facility.time_zone) > own.expires_at
        ):
            raise Denied("you may not give a level for longer than you have it", field="expires_on")
