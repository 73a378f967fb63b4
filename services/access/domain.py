"""Who may see what: roles, privileges and the decision.

A user's privilege at a facility is a stored row. What it amounts to is computed at decision time:

    effective level = min(level after expiry, ceiling of the role)            (A1)

A user sees a case by one of these paths, and nothing forbids what one of them opens (A6):

    privilege   their effective level at the owning facility is at least VIEW, and their filter shows it
    historical  the first half of that, and their filter shows another study of the patient   gives VIEW only
    grant       the case was shown to them                  gives VIEW only
    folder      a folder that they are a member of has it   gives VIEW only
    share       an active bucket of theirs holds it         gives VIEW, images and reports; with write access
                                                            what their role can at most (A45)

A role whose ceiling is NONE opens no path at all: an operator supports the installation and sees no study.
Only a share ends with the time (SHR-29): the expiry of a privilege lowers REPORT to DRAFT and no further.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

import msgspec

from kernel.errors import Invalid, NotFound
from kernel.ids import CaseId, FacilityId, FolderId, StudyId, UserId
from kernel.reading import PUBLIC_READ_TYPES, PrivilegeLevel, ReadType, Side
from services.access.accessfilter import AccessFilter
from services.access.contact import NO_CONTACT, Contact
from services.access.filter.reader import Reader
from services.access.late import LateImages
from services.access.names import no_active_user

UTC_ZONE = ZoneInfo("UTC")


class Path(StrEnum):
    """A way by which a user sees a case."""

    PRIVILEGE = "privilege"
    GRANT = "grant"
    FOLDER = "folder"
    SHARE = "share"
    HISTORICAL = "historical"


class Permission(StrEnum):
    """A switch on an account (A63)."""

    VIEW_IMAGES = "study.view_images"
    VIEW_REPORT = "report.view"
    DELETE_STUDY = "study.delete"
    CORRECT_STUDY = "study.correct"
    UPLOAD_STUDY = "study.upload"
    ASSIGN_CASE = "case.assign"
    BREAK_LOCK = "lock.break"
    CREATE_SHARE = "share.create"
    ADMINISTER_SHARES = "share.admin"
    ADMINISTER_ACCESS = "access.admin"
    ADMINISTER_FACILITIES = "facility.admin"
    ADMINISTER_GATEWAYS = "gateway.admin"
    READ_AUDIT = "audit.read"
    OPERATOR = "operator"


class Role(StrEnum):
    """Decides side, ceiling and default permissions."""

    ADMINISTRATOR = "administrator"
    RADIOLOGIST = "radiologist"
    RADIOLOGY_ASSISTANT = "radiology_assistant"
    TRANSCRIPTIONIST = "transcriptionist"
    RADIOLOGY_SUPPORT = "radiology_support"
    FACILITY_MANAGER = "facility_manager"
    FACILITY_USER = "facility_user"
    REFERRING_PHYSICIAN = "referring_physician"

    @property
    def word(self) -> str:
        """As people type it."""
        return self.value.replace("_", "-")

    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class RoleTerms:
    """What a role means.

    Attributes:
        side: whom they work for (A32).
        ceiling: no privilege of theirs amounts to more (A1).
        defaults: permissions of a new user, everywhere.
        at_home: permissions of a new user at their home facility only; who has any must have a home.
    """

    side: Side
    ceiling: PrivilegeLevel
    defaults: frozenset[Permission]
    at_home: frozenset[Permission] = frozenset()


_IMAGES_AND_REPORTS = frozenset({Permission.VIEW_IMAGES, Permission.VIEW_REPORT})

# A63, with the ceilings of A1 and the sides of A32.
ROLES: Mapping[Role, RoleTerms] = {
    Role.ADMINISTRATOR: RoleTerms(
        Side.GROUP,
        PrivilegeLevel.REPORT,
        _IMAGES_AND_REPORTS | {Permission.ASSIGN_CASE, Permission.BREAK_LOCK, Permission.ADMINISTER_SHARES},
    ),
    Role.RADIOLOGIST: RoleTerms(
        Side.GROUP, PrivilegeLevel.REPORT, _IMAGES_AND_REPORTS | {Permission.CREATE_SHARE}
    ),
    Role.RADIOLOGY_ASSISTANT: RoleTerms(Side.GROUP, PrivilegeLevel.DRAFT, _IMAGES_AND_REPORTS),
    Role.TRANSCRIPTIONIST: RoleTerms(Side.GROUP, PrivilegeLevel.DRAFT, _IMAGES_AND_REPORTS),
    Role.RADIOLOGY_SUPPORT: RoleTerms(
        Side.GROUP, PrivilegeLevel.VIEW, _IMAGES_AND_REPORTS | {Permission.ASSIGN_CASE}
    ),
    Role.FACILITY_MANAGER: RoleTerms(
        Side.FACILITY,
        PrivilegeLevel.VIEW,
        _IMAGES_AND_REPORTS | {Permission.CREATE_SHARE},
        at_home=frozenset({Permission.ADMINISTER_SHARES, Permission.ADMINISTER_ACCESS}),
    ),
    Role.FACILITY_USER: RoleTerms(
        Side.FACILITY, PrivilegeLevel.VIEW, _IMAGES_AND_REPORTS | {Permission.UPLOAD_STUDY}
    ),
    Role.REFERRING_PHYSICIAN: RoleTerms(
        Side.FACILITY, PrivilegeLevel.VIEW, frozenset({Permission.VIEW_REPORT})
    ),
    Role.OPERATOR: RoleTerms(Side.NONE, PrivilegeLevel.NONE, frozenset({Permission.OPERATOR})),
}


# Users and what they are compiled to


@dataclass(frozen=True, slots=True)
class Facility:
    """What access keeps of a facility of routing."""

    id: FacilityId
    name: str
    time_zone: str
    version: int


class PermissionGrant(NamedTuple):
    """A permission that a user holds, at one facility or (None) at every one."""

    permission: Permission
    facility_id: FacilityId | None = None


@dataclass(frozen=True, slots=True)
class User:
    """An account.

    Attributes:
        contact_version: grows with each change of the e-mail address or the mobile number, and with a
            deactivation: a code that was sent under another one counts no more.
    """

    id: UserId
    login: str
    name: str
    role: Role
    active: bool
    permissions: frozenset[PermissionGrant]
    home_facility_id: FacilityId | None
    version: int
    contact: Contact = NO_CONTACT
    contact_version: int = 1

    def __post_init__(self) -> None:
        if ROLES[self.role].at_home and self.home_facility_id is None:
            raise Invalid(
                f"a user of role `{self.role.word}` needs a home facility: name the one that they belong to",
                field="home_facility_id",
            )


@dataclass(frozen=True, slots=True)
class Privilege:
    """The stored level of a user at a facility, and how far it goes.

    Attributes:
        version: which change of it this is; 0 for none. No part of what it gives.
    """

    level: PrivilegeLevel
    expires_on: date | None = None
    read_types: frozenset[ReadType] = frozenset()
    version: int = field(default=0, compare=False)


NO_PRIVILEGE = Privilege(PrivilegeLevel.NONE)


@dataclass(frozen=True, slots=True)
class EffectivePrivilege:
    """What a privilege amounts to under its role's ceiling.

    Attributes:
        level: before `expires_at`, or for ever without one.
        reverts_to: from `expires_at` on, that instant included (A2).
        read_types: what they may complete while the level is REPORT.
    """

    level: PrivilegeLevel
    reverts_to: PrivilegeLevel
    expires_at: datetime | None
    read_types: frozenset[ReadType]

    def at(self, now: datetime) -> PrivilegeLevel:
        """The effective level at an instant."""
        return self.level if self.expires_at is None or now < self.expires_at else self.reverts_to


NO_READ_TYPES: frozenset[ReadType] = frozenset()

ACTS_ON_CASES = frozenset(
    {
        Permission.VIEW_IMAGES,
        Permission.VIEW_REPORT,
        Permission.UPLOAD_STUDY,
        Permission.ASSIGN_CASE,
        Permission.CREATE_SHARE,
    }
)
"""They say what a user does with cases that they see. Held everywhere they tie nobody to any facility."""


@dataclass(frozen=True, slots=True)
class CompiledUser:
    """An account with everything about them that a decision needs and that does not hang on a case.

    Valid only while `version` is the one that the statement which fetches the case reads.

    Attributes:
        effective: what they are at each facility at which they are more than nothing.
        facilities: the facilities whose cases they see by privilege.
        grantee: their id where grants of single cases and shares count for them, else None.
        folders: the folders whose cases they see.
        filter: what narrows the facilities' cases, if anything does.
        zone: in which they read dates: that of their home facility, else UTC.
    """

    id: UserId
    login: str
    name: str
    active: bool
    version: int
    role: Role
    effective: Mapping[FacilityId, EffectivePrivilege]
    permissions: frozenset[PermissionGrant]
    facilities: tuple[FacilityId, ...]
    grantee: UserId | None
    folders: tuple[FolderId, ...]
    filter: AccessFilter | None = None
    zone: ZoneInfo = UTC_ZONE

    @property
    def side(self) -> Side:
        """Whom they work for."""
        return ROLES[self.role].side

    @property
    def reading_side(self) -> Side:
        """As which side they see what was read: whoever is not of the group, as the facility (A32)."""
        return Side.GROUP if self.side is Side.GROUP else Side.FACILITY

    @property
    def searches_as(self) -> Reader:
        """For whom a search of theirs is asked: of what follows a reading it is told as it is now."""
        return Reader(self.id, self.login, self.side is Side.GROUP, self.zone, as_of_lock=False)

    def level_at(self, facility_id: FacilityId, now: datetime) -> PrivilegeLevel:
        """Their effective level at a facility."""
        effective = self.effective.get(facility_id)
        return PrivilegeLevel.NONE if effective is None else effective.at(now)

    def holds(self, permission: Permission, facility_id: FacilityId | None = None) -> bool:
        """Whether they hold a permission at a facility; without one, at every facility."""
        return (
            PermissionGrant(permission) in self.permissions
            or PermissionGrant(permission, facility_id) in self.permissions
        )

    def holds_anywhere(self, permission: Permission) -> bool:
        """Whether they hold a permission at any facility."""
        return any(held.permission is permission for held in self.permissions)

    def holds_singly(self, permission: Permission) -> frozenset[FacilityId]:
        """The facilities for which they were given a permission singly."""
        return frozenset(
            held.facility_id
            for held in self.permissions
            if held.permission is permission and held.facility_id is not None
        )

    def knows(self, facility_id: FacilityId) -> bool:
        """Whether they may learn that a facility exists: they are something there, or administer it."""
        return (
            facility_id in self.effective
            or self.knows_every_facility
            or any(held.facility_id == facility_id for held in self.permissions)
        )

    @property
    def knows_every_facility(self) -> bool:
        """Whether they administer something everywhere, and so may learn which facilities there are."""
        return any(
            held.facility_id is None and held.permission not in ACTS_ON_CASES for held in self.permissions
        )

    def known_facilities(self, permission: Permission | None) -> frozenset[FacilityId] | None:
        """The facilities that they know, or those of them where they hold a permission; None: all."""
        if permission is not None and not self.holds(permission):
            return self.holds_singly(permission)
        if self.knows_every_facility:
            return None
        return frozenset(self.effective) | {held.facility_id for held in self.permissions if held.facility_id}


def expiry_instant(expires_on: date, time_zone: str) -> datetime:
    """The instant from which a privilege is expired: 00:00 of the date in the facility's zone (A2).

    Where that hour is skipped or happens twice, the earlier instant counts.
    """
    return datetime.combine(expires_on, time.min, ZoneInfo(time_zone)).astimezone(UTC)


def effective_privilege(privilege: Privilege, role: Role, time_zone: str) -> EffectivePrivilege:
    """What a privilege amounts to for a role (A1, ACC-8, ACC-10, ACC-12)."""
    ceiling = ROLES[role].ceiling
    return EffectivePrivilege(
        level=min(privilege.level, ceiling),
        reverts_to=min(privilege.level, PrivilegeLevel.DRAFT, ceiling),
        expires_at=None if privilege.expires_on is None else expiry_instant(privilege.expires_on, time_zone),
        read_types=privilege.read_types
        if min(privilege.level, ceiling) is PrivilegeLevel.REPORT
        else frozenset(),
    )


def compile_user(
    user: User,
    privileges: Iterable[tuple[Facility, Privilege]],
    folders: Iterable[FolderId],
    access_filter: AccessFilter | None = None,
    time_zone: str = "",
) -> CompiledUser:
    """Everything about a user that decisions need."""
    held = {f.id: effective_privilege(privilege, user.role, f.time_zone) for f, privilege in privileges}
    sees = ROLES[user.role].ceiling >= PrivilegeLevel.VIEW
    return CompiledUser(
        id=user.id,
        login=user.login,
        name=user.name,
        active=user.active,
        version=user.version,
        role=user.role,
        effective=held,
        permissions=user.permissions,
        facilities=tuple(f for f, effective in held.items() if effective.reverts_to >= PrivilegeLevel.VIEW),
        grantee=user.id if sees else None,
        folders=tuple(folders) if sees else (),
        filter=access_filter,
        zone=known_zone(time_zone) or UTC_ZONE,
    )


def reader_of(user: User, time_zone: str) -> Reader:
    """For whom an access filter of the user is asked; the zone is that of their home facility, else UTC."""
    is_of_group = ROLES[user.role].side is Side.GROUP
    zone = known_zone(time_zone) or UTC_ZONE
    return Reader(user.id, user.login, is_of_group, zone, as_of_lock=True)


def known_zone(time_zone: str) -> ZoneInfo | None:
    """The time zone of this name; None if there is none."""
    try:
        return ZoneInfo(time_zone)
    except (ValueError, KeyError, OSError):
        return None


# The decision


@dataclass(frozen=True, slots=True)
class ConfirmedStudy:
    """A received study of a case, with what of it belongs.

    Attributes:
        series_instance_uids: for the version before: the series that belong; None means every series.
        parts: the numbers of the parts that belong, sorted; None while only series were told.
    """

    study_id: StudyId
    series_instance_uids: tuple[str, ...] | None
    parts: tuple[int, ...] | None = None


class Sighting(msgspec.Struct, frozen=True):
    """What one statement found of a case that the user sees: by which paths, never none.

    Of one that is being deleted it tells who would see it; they are shown nothing of it (A60).

    Attributes:
        may_write: whether one of the shares gives write access to the report.
        instance_count: instances that belong to the case.
        untouched: whether nobody was shown its images so far, among other things (`moves.py`).
        late: those of them that came after the report, if they were asked for.
        may_share_on: whether one of the shares allows it, if that was asked for.
    """

    case_id: CaseId
    facility_id: FacilityId
    paths: tuple[Path, ...]
    may_write: bool = False
    being_deleted: bool = False
    instance_count: int = 0
    untouched: bool = False
    late: LateImages | None = None
    may_share_on: bool = False


class Found(msgspec.Struct, frozen=True):
    """A case as a statement found it before the user's filter was asked; they may not see it at all.

    Attributes:
        values: of the columns that the filter reads.
    """

    sighting: Sighting
    values: tuple[object, ...] = ()

    def through(self, access_filter: AccessFilter | None, now: datetime) -> Sighting | None:
        """The case as seen through the filter: it closes the path of the privilege and no other (A6)."""
        paths = self.sighting.paths
        if access_filter is None or Path.PRIVILEGE not in paths or access_filter.holds(self.values, now):
            return self.sighting
        paths = tuple(path for path in paths if path is not Path.PRIVILEGE)
        return msgspec.structs.replace(self.sighting, paths=paths) if paths else None


@dataclass(frozen=True, slots=True)
class Owned:
    """The owner of a case that somebody sees or administers; and whether their privilege shows it to them."""

    facility_id: FacilityId
    by_privilege: bool


A = TypeVar("A", covariant=True)
B = TypeVar("B")


class Answer(msgspec.Struct, Generic[A], frozen=True):
    """What one statement found for a user, with their version and the revision in the same snapshot."""

    user_version: int
    revision: int
    found: A

    def carrying(self, found: B) -> "Answer[B]":
        """The same of something else that follows from it."""
        return Answer(self.user_version, self.revision, found)


class Decision(msgspec.Struct, frozen=True):
    """What a user may do with a case now. Without sight nothing is set: absent and unseen are alike.

    Attributes:
        own_level: what they may do without any share; NONE if they see it by shares alone.
        own_read_types: what they complete without any share.
        being_deleted: whether they would see it, were it not being deleted; then nothing else is set.
        instance_count: instances that belong to the case; None where many cases were asked about.
        user_id, role: who the user is.
    """

    allowed: bool = False
    level: PrivilegeLevel = PrivilegeLevel.NONE
    own_level: PrivilegeLevel = PrivilegeLevel.NONE
    own_read_types: frozenset[ReadType] = frozenset()
    images: bool = False
    reports: bool = False
    paths: tuple[Path, ...] = ()
    side: Side = Side.NONE
    read_types: frozenset[ReadType] = frozenset()
    facility_id: FacilityId | None = None
    user_version: int = 0
    user_name: str = ""
    studies: tuple[ConfirmedStudy, ...] = ()
    being_deleted: bool = False
    instance_count: int | None = None
    late: LateImages | None = None
    user_id: UserId | None = None
    role: Role | None = None


NO_SIGHT = Decision()
BEING_DELETED = Decision(being_deleted=True)


def decide(
    user: CompiledUser,
    facility_id: FacilityId,
    paths: tuple[Path, ...],
    now: datetime,
    *,
    may_write: bool = False,
    studies: tuple[ConfirmedStudy, ...] = (),
    instance_count: int | None = None,
    late: LateImages | None = None,
) -> Decision:
    """What the user may do with a case of the facility that they see by these paths (A4, A6).

    What else is known of the case stands in the decision too, its studies where the user may see images.

    A share carries images and report, whatever their permissions (SHR-12, SHR-13); its write access ends
    where their role does, and at pre-reads (A45). What they may do without it is told apart.
    """
    own_level, own_read_types = PrivilegeLevel.NONE, NO_READ_TYPES
    if Path.PRIVILEGE in paths:
        own_level = user.level_at(facility_id, now)
    if own_level is PrivilegeLevel.REPORT:
        own_read_types = user.effective[facility_id].read_types
    if set(paths) != {Path.SHARE}:
        own_level = max(own_level, PrivilegeLevel.VIEW)
    level, read_types = max(own_level, PrivilegeLevel.VIEW), own_read_types
    if may_write:
        level = ROLES[user.role].ceiling
        if level is PrivilegeLevel.REPORT:
            read_types |= PUBLIC_READ_TYPES
    is_shared = Path.SHARE in paths
    images = is_shared or user.holds(Permission.VIEW_IMAGES, facility_id)
    return Decision(
        allowed=True,
        level=level,
        own_level=own_level,
        own_read_types=own_read_types,
        images=images,
        reports=is_shared or user.holds(Permission.VIEW_REPORT, facility_id),
        paths=paths,
        side=user.side,
        read_types=read_types,
        facility_id=facility_id,
        user_version=user.version,
        user_name=user.name,
        studies=studies if images else (),
        instance_count=instance_count,
        late=late,
        user_id=user.id,
        role=user.role,
    )


def no_user(user_id: UserId) -> NotFound:
    """The answer for a user who does not exist or is not the caller's to know."""
    return NotFound(f"there is no user `{user_id}`", field="user_id")


def no_case(case_id: CaseId) -> NotFound:
    """The answer for a case that does not exist or that the caller does not see."""
    return NotFound(f"there is no case `{case_id}`, or you do not see it", field="case_id")


def must_be_active(user: CompiledUser | None) -> CompiledUser:
    """The acting user; raises Unauthenticated for one who does not exist or is deactivated."""
    if user is None or not user.active:
        raise no_active_user()
    return user
