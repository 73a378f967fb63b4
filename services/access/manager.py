"""What an administrator may give (A13).

Whoever holds `access.admin` everywhere may give anything, to themself too. Whoever holds it for single
facilities is a delegated manager: they manage the users whose home is one of them, and give only what they
have, for what is stored counts and not what it amounts to today (`account.py`):

    at a facility of theirs          what differs lies within their own level, read types, expiry, side and
                                     permissions there, before and after; or it only becomes less. Whom they
                                     give a first level there see no images or reports that they do not
    at any other facility            nothing differs
    role, activity, home, global     differ wherever the account has anything: all of it, before and after,
    permissions                      lies within what they hold at facilities of theirs
    e-mail, mobile number            theirs to say for a new user only
    how a user signs in              nobody signs in as them yet, and all of the account lies within theirs
"""

from dataclasses import dataclass, replace
from datetime import datetime

from kernel.errors import Denied, Invalid, lacks
from kernel.ids import FacilityId, UserId
from kernel.reading import PrivilegeLevel, Side
from services.access.account import Account, Extent
from services.access.contact import NO_CONTACT, REACH_FIELDS, Contact, changed_fields
from services.access.domain import ROLES, CompiledUser, Permission, PermissionGrant, Role, User, no_user
from services.access.names import MAX_USER_NAME_CHARACTERS, canonical_login, checked_name


@dataclass(frozen=True, slots=True)
class UserSettings:
    """A user as an administrator wants them to be.

    Attributes:
        user_id: None for a new user.
        version: the one that the settings were made from (A68); 0 for a new user.
        role: None keeps the role of an existing user.
        active: a new user always is.
        permissions: None gives a new user the defaults of their role, and keeps those of an existing one.
            Those that the manager is not shown stay as they are.
        contact: how they are reached.
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
        """The user as they would be; a new one has version 0."""
        login = canonical_login(self.login)
        if old is not None and login != old.login:
            raise Invalid(
                "a login never changes: make a new user with the other login (`login`)", field="login"
            )
        role = self.role or (old.role if old else None)
        if role is None:
            raise Invalid("a new user needs a role (`role`)", field="role")
        permissions = self.permissions
        if permissions is None:
            permissions = old.permissions if old else manager.default_permissions(role, self.home_facility_id)
        elif old:
            permissions |= old.permissions - manager.shown(old).permissions
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
            contact_version=self._contact_version(old),
        )

    def _contact_version(self, old: User | None) -> int:
        """A code proves who holds a telephone now: not after another contact, nor after a deactivation."""
        if old is None:
            return 1
        is_another = bool(changed_fields(old.contact, self.contact) & REACH_FIELDS)
        return old.contact_version + (is_another or (old.active and not self.active))


@dataclass(frozen=True, slots=True)
class Manager:
    """A user who holds `access.admin`, everywhere or at single facilities."""

    user: CompiledUser

    def __post_init__(self) -> None:
        if not self.everywhere and not self.facilities:
            raise lacks(Permission.ADMINISTER_ACCESS, at="a facility")

    @property
    def everywhere(self) -> bool:
        return self.user.holds(Permission.ADMINISTER_ACCESS)

    @property
    def facilities(self) -> frozenset[FacilityId]:
        return self.user.holds_singly(Permission.ADMINISTER_ACCESS)

    @property
    def homes(self) -> frozenset[FacilityId] | None:
        """The home facilities of the users whom they manage; None: of all."""
        return None if self.everywhere else self.facilities

    def administers(self, facility_id: FacilityId | None) -> bool:
        return self.everywhere or facility_id in self.facilities

    def must_administer(self, facility_id: FacilityId) -> None:
        """Raises Denied unless they administer a facility."""
        if not self.administers(facility_id):
            raise lacks(Permission.ADMINISTER_ACCESS, at="the facility")

    def must_administer_everything(self) -> None:
        """Raises Denied for a delegated manager."""
        if not self.everywhere:
            raise lacks(Permission.ADMINISTER_ACCESS, at="every facility")

    def must_manage(self, user: User) -> None:
        """Raises NotFound for a user who is not theirs, as for one who does not exist."""
        if not self.administers(user.home_facility_id):
            raise no_user(user.id)

    def shown(self, user: User) -> User:
        """A user as the manager may know them: of others nothing that they hold singly elsewhere."""
        if self.everywhere or user.id == self.user.id:
            return user
        known = frozenset(
            grant
            for grant in user.permissions
            if grant.facility_id is None or self.administers(grant.facility_id)
        )
        return replace(user, permissions=known)

    def sees_like(self, role: Role) -> bool:
        """Whether the role sees nothing of a case that their own does not: pre-reads are the group's."""
        return ROLES[role].side in (ROLES[self.user.role].side, Side.FACILITY)

    def default_permissions(self, role: Role, home: FacilityId | None) -> frozenset[PermissionGrant]:
        """The permissions of a new user; from a delegated manager only their own, and only at the home."""
        terms = ROLES[role]
        at_home = frozenset(PermissionGrant(p, home) for p in terms.at_home)
        if self.everywhere:
            return at_home | {PermissionGrant(p) for p in terms.defaults}
        at_home |= {PermissionGrant(p, home) for p in terms.defaults}
        return frozenset(grant for grant in at_home if self.user.holds(grant.permission, home))

    def must_create(self, account: Account, now: datetime) -> None:
        """Raises Denied unless they may make this new account."""
        if self.everywhere:
            return
        self._must_be_at_home(account.user)
        self._must_own(account, now, "permissions")

    def must_change(self, before: Account, after: Account, now: datetime) -> None:
        """Raises unless they may make one account of the other.

        Whatever differs at a facility must lie within what they hold there, before and after. What counts
        everywhere (role, activity, home, global permissions) differs wherever the account has anything. At
        their own facilities they may always reduce.
        """
        if self.everywhere:
            return
        self.must_manage(before.user)
        self._must_be_at_home(after.user)
        if moved := changed_fields(before.user.contact, after.user.contact) & REACH_FIELDS:
            raise lacks(
                Permission.ADMINISTER_ACCESS,
                at="every facility",
                to="change how an existing user is reached",
                field=min(moved),
            )
        if switched := before.switched(after):
            self._must_own(before, now, switched)
            self._must_own(after, now, switched)
            return
        for facility_id in sorted(before.facilities | after.facilities):
            self._must_change_at(facility_id, before, after, now)

    def must_invite(self, account: Account, now: datetime, *, signs_in: bool) -> None:
        """Raises Denied unless they may let somebody sign in as this account: who does has all of it.

        Args:
            signs_in: whether somebody does already.
        """
        if self.everywhere:
            return
        if signs_in:
            raise lacks(
                Permission.ADMINISTER_ACCESS,
                at="every facility",
                to=f"let `{account.user.login}`, who can sign in already, sign in another way",
                field="user_id",
            )
        self._must_own(account, now, "user_id")

    def must_hold_levels(self, account: Account, now: datetime) -> None:
        """Raises Denied unless every level of an account, with what it shows, lies within what they have."""
        if self.everywhere:
            return
        for facility_id, extent in sorted(account.extents.items()):
            self.must_administer(facility_id)
            self._must_hold(facility_id, extent, account.user.role, now)
            if extent.level is not PrivilegeLevel.NONE:
                self.must_see_as_much(account.user, facility_id)

    def must_see_as_much(self, user: User, facility_id: FacilityId) -> None:
        """Raises Denied if a user would see images or reports of a case there that the manager would not."""
        for permission in (Permission.VIEW_IMAGES, Permission.VIEW_REPORT):
            held = {PermissionGrant(permission), PermissionGrant(permission, facility_id)}
            if user.permissions & held and not self.user.holds(permission, facility_id):
                raise Denied(
                    f"`{user.login}` has `{permission}` at the facility and you do not: "
                    "you may show others only what you may see yourself"
                )

    def must_see_what_is_shown(self, before: Account, after: Account, now: datetime) -> None:
        """Raises Denied for more of what is shown one by one where the manager does not see every case.

        A grant, a folder or a share shows a case whatever the level and the filter of the user are.
        """
        if self.everywhere:
            return
        for facility_id in after.shows_more_than(before):
            if self.user.filter is not None or self.user.level_at(facility_id, now) < PrivilegeLevel.VIEW:
                raise Denied(
                    f"`{after.user.login}` is shown single cases at a facility of which you do not see every "
                    "case: ask somebody who sees them all, or who has `access.admin` at every facility"
                )

    def _must_be_at_home(self, user: User) -> None:
        if not self.administers(user.home_facility_id):
            raise Denied(
                "you may only administer users whose home is a facility of yours: name one of yours as the "
                "home facility",
                field="home_facility_id",
            )

    def _must_own(self, account: Account, now: datetime, field: str) -> None:
        """Raises Denied unless all of an account lies within what they hold at facilities of theirs."""
        role = account.user.role
        self._must_match(role)
        if account.permissions(None):
            raise lacks(
                Permission.ADMINISTER_ACCESS,
                at="every facility",
                to="change a user who has permissions at every facility",
                field=field,
            )
        for facility_id in sorted(account.facilities):
            if not self.administers(facility_id):
                raise lacks(
                    Permission.ADMINISTER_ACCESS,
                    at="every facility",
                    to="change a user who has something at a facility that you do not administer",
                    field=field,
                )
            self._must_hold(facility_id, account.extent(facility_id), role, now)
            self._must_hold_permissions(facility_id, account.permissions(facility_id))

    def _must_change_at(
        self, facility_id: FacilityId, before: Account, after: Account, now: datetime
    ) -> None:
        old, new = before.extent(facility_id), after.extent(facility_id)
        had, has = before.permissions(facility_id), after.permissions(facility_id)
        role = after.user.role
        if old != new:
            self.must_administer(facility_id)
        if new.beyond(old):
            self._must_hold(facility_id, old, role, now)
            self._must_hold(facility_id, new, role, now)
            if old.level is PrivilegeLevel.NONE:  # it shows cases
                self.must_see_as_much(before.user, facility_id)
        self._must_hold_permissions(facility_id, has - had if self.administers(facility_id) else has ^ had)
        if Permission.ADMINISTER_ACCESS in has - had:
            # They will give what they are and hold, so all of it must be the giver's.
            self._must_match(role)
            self._must_hold(facility_id, new, role, now)
            self._must_hold_permissions(facility_id, has | after.permissions(None))

    def _must_match(self, role: Role) -> None:
        """Raises Denied for a role that may do more, or see more of a case, than their own."""
        if ROLES[role].ceiling > ROLES[self.user.role].ceiling or not self.sees_like(role):
            raise Denied(
                f"you may not give or change the role `{role.word}`: it may do or see more than yours",
                field="role",
            )

    def _must_hold(self, facility_id: FacilityId, extent: Extent, role: Role, now: datetime) -> None:
        """Raises Denied if a privilege of such a role exceeds what they have at the facility themselves."""
        if beyond := extent.beyond(Extent.effective(self.user, facility_id, now)):
            raise Denied(_BEYOND[beyond], field=beyond)
        if extent.level is not PrivilegeLevel.NONE and not self.sees_like(role):
            raise Denied(
                f"a user of role `{role.word}` sees pre-reads and you do not: you may not give them a level",
                field="level",
            )

    def _must_hold_permissions(self, facility_id: FacilityId, permissions: frozenset[Permission]) -> None:
        for permission in sorted(permissions):
            if facility_id not in self.facilities or not self.user.holds(permission, facility_id):
                raise Denied(
                    f"you may give `{permission}` only at a facility that you administer "
                    "and where you have it yourself",
                    field="permissions",
                )


def must_suit_side(user: User, old: User | None) -> None:
    """Raises Invalid if somebody who is not of the group is to assign cases; who held it before keeps it.

    Only who may make the change is told: it says what the user holds, wherever that is.
    """
    if ROLES[user.role].side is Side.GROUP:
        return
    kept = old.permissions if old and ROLES[old.role].side is not Side.GROUP else frozenset()
    if any(each.permission is Permission.ASSIGN_CASE for each in user.permissions - kept):
        raise Invalid(
            f"`{Permission.ASSIGN_CASE}` is for the radiology group: a user of role "
            f"`{user.role.word}` cannot have it; take it from their permissions",
            field="permissions",
        )


_BEYOND = {
    "level": "you may not give or change a level above your own: ask somebody who has that level",
    "read_types": "you may give only the read types that you have yourself",
    "expires_on": "you may not give a level for longer than you have it yourself",
}
