# ruff: noqa: S608  statements are put together from constants of this file
"""Access's tables: SQL beside the function that runs it, rows to domain values and back."""

from collections.abc import Collection
from datetime import date
from uuid import UUID

import asyncpg
import msgspec

from kernel.errors import Conflict
from kernel.ids import CaseId, FacilityId, UserId
from kernel.language import Language
from kernel.reading import PrivilegeLevel, ReadType
from kernel.versions import NEVER_SAVED, Change
from plumbing import locks
from plumbing.locks import LockClass
from services.access.accessfilter import AccessFilter
from services.access.bucketstore import BucketStore
from services.access.caserows import CaseRows
from services.access.casestore import CaseStore
from services.access.changestore import ChangeStore
from services.access.contact import Contact
from services.access.domain import (
    NO_PRIVILEGE,
    CompiledUser,
    Facility,
    Permission,
    PermissionGrant,
    Privilege,
    Role,
    User,
    compile_user,
    reader_of,
)
from services.access.explainstore import ExplainStore
from services.access.filterstore import FilterStore, saved_filter
from services.access.folderstore import FolderStore
from services.access.identitystore import IdentityStore
from services.access.lintstore import LintStore
from services.access.listings import Listings
from services.access.patientstore import PatientStore
from services.access.readingstore import ReadingStore
from services.access.showings import Showings
from services.access.sightings import Sightings

_PERMISSIONS = """coalesce((
    select jsonb_agg(jsonb_build_array(p.permission, p.facility_id)) from permissions p
    where p.user_id = u.user_id
), '[]') as permissions"""

# A privilege without a change was given by a version that counted none; what it was given as is its first.
_FIRST_VERSION = 1
_PRIVILEGES = f"""
    select p.*, f.*, coalesce(c.version, {_FIRST_VERSION}) as privilege_version
    from privileges p join facilities f using (facility_id)
        left join privilege_changes c using (user_id, facility_id)
"""

_COMPILED = f"""
    select u.*, {_PERMISSIONS},
        array(select m.folder_id from folder_members m where m.user_id = u.user_id) as folders,
        coalesce((
            select jsonb_agg(jsonb_build_array(
                f.facility_id, f.name, f.time_zone, f.version, p.level, p.expires_on, p.read_types
            ))
            from privileges p join facilities f using (facility_id) where p.user_id = u.user_id
        ), '[]') as privileges,
        x.form, x.expression, x.historical, coalesce(h.time_zone, 'UTC') as time_zone
    from users u
    left join user_filters x using (user_id)
    left join facilities h on h.facility_id = u.home_facility_id
    where u.login = $1
"""


class AccessTransaction(
    Sightings,
    Listings,
    CaseRows,
    Showings,
    CaseStore,
    ReadingStore,
    BucketStore,
    FolderStore,
    PatientStore,
    ExplainStore,
    FilterStore,
    IdentityStore,
    LintStore,
    ChangeStore,
):
    """A transaction over access's database."""

    async def lock_administration(self) -> None:
        """Nobody else changes what users are compiled from, and nobody acts on what their user is."""
        await locks.hold(self.connection, LockClass.ADMINISTRATION)

    async def hold_rights(self) -> None:
        """Nobody changes what users are compiled from until the end of the transaction."""
        await locks.hold_together(self.connection, LockClass.ADMINISTRATION)

    async def revision(self) -> int:
        value: int = await self.connection.fetchval("select value from revision")
        return value

    async def bump_revision(self) -> int:
        """The next revision. The last statement of its transaction: the row stays locked until the end."""
        value: int = await self.connection.fetchval("update revision set value = value + 1 returning value")
        return value

    # Users

    async def compiled_user(self, login: str) -> CompiledUser | None:
        """The user with everything that decisions need, in one snapshot; None if absent."""
        row = await self.connection.fetchrow(_COMPILED, login)
        if row is None:
            return None
        privileges = msgspec.json.decode(row["privileges"], type=list[_PrivilegeRow])
        held = (
            (
                Facility(FacilityId(p.facility_id), p.name, p.time_zone, p.version),
                Privilege(p.level, p.expires_on, p.read_types),
            )
            for p in privileges
        )
        user = _user(row)
        access_filter = await self._filter(user, row)
        return compile_user(user, held, row["folders"], access_filter, row["time_zone"])

    async def _filter(self, user: User, row: asyncpg.Record) -> AccessFilter | None:
        if row["expression"] is None:
            return None
        saved, reader = saved_filter(row), reader_of(user, row["time_zone"])
        # Logins never change: they may be read apart.
        named = saved.user_ids(is_of_group=reader.is_of_group)
        return saved.bound(reader, await self.logins_of(named) if named else {})

    async def user(self, user_id: UserId) -> User | None:
        row = await self.connection.fetchrow(
            f"select u.*, {_PERMISSIONS} from users u where u.user_id = $1", user_id
        )
        return _user(row) if row else None

    async def users(self, homes: Collection[FacilityId] | None, after: str, limit: int) -> list[User]:
        """Users by login, after this one; of these home facilities, or (None) all."""
        rows = await self.connection.fetch(
            f"""
            select u.*, {_PERMISSIONS} from users u
            where login > $1 and ($2::uuid[] is null or home_facility_id = any($2))
            order by login limit $3
            """,
            after,
            None if homes is None else list(homes),
            limit,
        )
        return [_user(row) for row in rows]

    async def users_called(self, user_ids: Collection[UserId], logins: Collection[str]) -> list[User]:
        """Those that exist of these ids and logins, by login."""
        rows = await self.connection.fetch(
            f"""
            select u.*, {_PERMISSIONS} from users u where user_id = any($1) or login = any($2) order by login
            """,
            list(user_ids),
            list(logins),
        )
        return [_user(row) for row in rows]

    async def user_versions(self, after: UserId | None, limit: int) -> list[tuple[UserId, int]]:
        """Ids and versions of all users by id, after this one."""
        rows = await self.connection.fetch(
            """
            select user_id, version from users where $1::uuid is null or user_id > $1
            order by user_id limit $2
            """,
            after,
            limit,
        )
        return [(row["user_id"], row["version"]) for row in rows]

    async def known_users(self, user_ids: Collection[UserId]) -> set[UserId]:
        """Those that exist."""
        rows = await self.connection.fetch(
            "select user_id from users where user_id = any($1)", list(user_ids)
        )
        return {row["user_id"] for row in rows}

    async def there_are_users(self) -> bool:
        return bool(await self.connection.fetchval("select exists (select from users)"))

    async def somebody_administers(self) -> bool:
        """Whether an active user holds `access.admin` everywhere."""
        return bool(
            await self.connection.fetchval(
                """
                select exists (
                    select from permissions join users using (user_id)
                    where permission = $1 and facility_id is null and active
                )
                """,
                Permission.ADMINISTER_ACCESS,
            )
        )

    async def last_change_of_user(self, user_id: UserId) -> Change:
        """Their version, and who made it when."""
        row = await self.connection.fetchrow(
            "select version, changed_by, changed_at from users where user_id = $1", user_id
        )
        return Change(*row) if row else NEVER_SAVED

    async def save_user(self, user: User, *, by: str) -> None:
        """Inserts or replaces a user and their permissions; raises Conflict if another has the login."""
        try:
            await self.connection.execute(
                """
                insert into users (user_id, login, name, role, active, home_facility_id, version,
                    email, mobile_number, language, contact_version, changed_by, changed_at)
                values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
                on conflict (user_id) do update set name = excluded.name, role = excluded.role,
                    active = excluded.active, home_facility_id = excluded.home_facility_id,
                    version = excluded.version, email = excluded.email,
                    mobile_number = excluded.mobile_number, language = excluded.language,
                    contact_version = excluded.contact_version, changed_by = excluded.changed_by,
                    changed_at = excluded.changed_at
                """,
                user.id,
                user.login,
                user.name,
                user.role,
                user.active,
                user.home_facility_id,
                user.version,
                user.contact.email,
                user.contact.mobile_number,
                user.contact.language or "",
                user.contact_version,
                by,
                self.now,
            )
        except asyncpg.UniqueViolationError as error:
            raise Conflict(f"there is already a user `{user.login}`", field="login") from error
        await self.connection.execute("delete from permissions where user_id = $1", user.id)
        await self.connection.executemany(
            "insert into permissions (user_id, permission, facility_id) values ($1, $2, $3)",
            [(user.id, grant.permission, grant.facility_id) for grant in user.permissions],
        )

    async def bump_users(self, user_ids: Collection[UserId], *, by: str) -> list[tuple[UserId, int]]:
        """Ends the validity of what these users were compiled to; answers their versions."""
        rows = await self.connection.fetch(
            """
            update users set version = version + 1, changed_by = $2, changed_at = $3
            where user_id = any($1) returning user_id, version
            """,
            list(user_ids),
            by,
            self.now,
        )
        return [(row["user_id"], row["version"]) for row in rows]

    # Privileges

    async def privilege(self, user_id: UserId, facility_id: FacilityId) -> Privilege:
        row = await self.connection.fetchrow(
            f"{_PRIVILEGES} where p.user_id = $1 and p.facility_id = $2", user_id, facility_id
        )
        return _privilege(row) if row else NO_PRIVILEGE

    async def privileges(self, user_id: UserId) -> list[tuple[Facility, Privilege]]:
        """The user's privileges above none, by facility."""
        rows = await self.connection.fetch(
            f"{_PRIVILEGES} where p.user_id = $1 order by f.name, f.facility_id", user_id
        )
        return [(_facility(row), _privilege(row)) for row in rows]

    async def privileges_of(self, user_ids: Collection[UserId]) -> list[tuple[UserId, Facility, Privilege]]:
        """The privileges above none of these users, by user and facility."""
        rows = await self.connection.fetch(
            f"{_PRIVILEGES} where p.user_id = any($1) order by p.user_id, f.facility_id", list(user_ids)
        )
        return [(row["user_id"], _facility(row), _privilege(row)) for row in rows]

    async def logins_with_level(
        self, facility_id: FacilityId, level: PrivilegeLevel, after: str, limit: int
    ) -> list[str]:
        """The active users of whom this level is stored at a facility, by login after this one."""
        rows = await self.connection.fetch(
            """
            select u.login from privileges p join users u using (user_id)
            where p.facility_id = $1 and p.level = $2 and u.active and u.login > $3 order by u.login limit $4
            """,
            facility_id,
            level,
            after,
            limit,
        )
        return [row["login"] for row in rows]

    async def last_change_of_privilege(self, user_id: UserId, facility_id: FacilityId) -> Change:
        """The version of what is stored, 0 for none, and who changed it last."""
        stored = await self.privilege(user_id, facility_id)
        row = await self.connection.fetchrow(
            "select * from privilege_changes where user_id = $1 and facility_id = $2", user_id, facility_id
        )
        return Change(stored.version, row["changed_by"], row["changed_at"]) if row else Change(stored.version)

    async def save_privilege(
        self, user_id: UserId, facility_id: FacilityId, privilege: Privilege, *, by: str
    ) -> int:
        """Answers its version, 0 for none."""
        version: int = await self.connection.fetchval(
            """
            insert into privilege_changes as c (user_id, facility_id, version, changed_by, changed_at)
            values ($1, $2, $3, $4, $5)
            on conflict (user_id, facility_id) do update set version = c.version + 1,
                changed_by = excluded.changed_by, changed_at = excluded.changed_at
            returning version
            """,
            user_id,
            facility_id,
            _FIRST_VERSION + 1,
            by,
            self.now,
        )
        if privilege.level is PrivilegeLevel.NONE:
            await self.connection.execute(
                "delete from privileges where user_id = $1 and facility_id = $2", user_id, facility_id
            )
            return 0
        await self.connection.execute(
            """
            insert into privileges (user_id, facility_id, level, expires_on, read_types)
            values ($1, $2, $3, $4, $5)
            on conflict (user_id, facility_id) do update set level = excluded.level,
                expires_on = excluded.expires_on, read_types = excluded.read_types
            """,
            user_id,
            facility_id,
            privilege.level,
            privilege.expires_on,
            sorted(privilege.read_types),
        )
        return version

    async def facilities_shown(self, user_id: UserId) -> set[FacilityId]:
        """The facilities of cases that grants, folders and shares show a user, or may show again."""
        rows = await self.connection.fetch(
            """
            select facility_id from cases join case_grants using (case_id) where user_id = $1
            union
            select facility_id from cases join folder_cases using (case_id)
                join folder_members using (folder_id) where user_id = $1
            union
            select facility_id from buckets where user_id = $1 and ends_at > $2
            """,
            user_id,
            self.now,
        )
        return {row["facility_id"] for row in rows}

    # Facilities

    async def facility(self, facility_id: FacilityId) -> Facility | None:
        row = await self.connection.fetchrow("select * from facilities where facility_id = $1", facility_id)
        return _facility(row) if row else None

    async def known_facilities(self, facility_ids: Collection[FacilityId]) -> set[FacilityId]:
        """Those that exist."""
        rows = await self.connection.fetch(
            "select facility_id from facilities where facility_id = any($1)", list(facility_ids)
        )
        return {row["facility_id"] for row in rows}

    async def save_facility(self, facility: Facility) -> None:
        await self.connection.execute(
            """
            insert into facilities (facility_id, name, time_zone, version) values ($1, $2, $3, $4)
            on conflict (facility_id) do update set name = excluded.name, time_zone = excluded.time_zone,
                version = excluded.version
            """,
            facility.id,
            facility.name,
            facility.time_zone,
            facility.version,
        )

    async def rezone(self, facility_id: FacilityId) -> None:
        """Notes that what depends on the time zone of a facility is to be derived again."""
        await self.connection.execute(
            """
            insert into rezoned (facility_id, since) values ($1, $2)
            on conflict (facility_id) do update set since = excluded.since,
                after_received_at = null, after_case_id = null
            """,
            facility_id,
            self.now,
        )

    async def users_at(self, facility_id: FacilityId) -> list[UserId]:
        """The users who are compiled from its time zone: for their privilege there, or for their filter."""
        rows = await self.connection.fetch(
            """
            select user_id from privileges where facility_id = $1
            union select user_id from users join user_filters using (user_id) where home_facility_id = $1
            """,
            facility_id,
        )
        return [row["user_id"] for row in rows]

    # Cases

    async def bump_case(self, case_id: CaseId) -> int:
        """The next version of a case, because who sees it changed."""
        ((_, version),) = await self.bump_cases([case_id])
        return version

    async def bump_cases(self, case_ids: Collection[CaseId]) -> list[tuple[CaseId, int]]:
        """The next versions of cases, because who sees them changed; locked in the order of their ids."""
        rows = await self.connection.fetch(
            """
            with locked as (select case_id from cases where case_id = any($1) order by case_id for update)
            update cases set version = version + 1 from locked where cases.case_id = locked.case_id
            returning cases.case_id, version
            """,
            list(case_ids),
        )
        return sorted((row["case_id"], row["version"]) for row in rows)


class _PrivilegeRow(msgspec.Struct, array_like=True):
    facility_id: UUID
    name: str
    time_zone: str
    version: int
    level: PrivilegeLevel
    expires_on: date | None
    read_types: frozenset[ReadType]


def _user(row: asyncpg.Record) -> User:
    permissions = msgspec.json.decode(row["permissions"], type=list[tuple[Permission, UUID | None]])
    return User(
        id=row["user_id"],
        login=row["login"],
        name=row["name"],
        role=Role(row["role"]),
        active=row["active"],
        permissions=frozenset(
            PermissionGrant(p, None if f is None else FacilityId(f)) for p, f in permissions
        ),
        home_facility_id=row["home_facility_id"],
        version=row["version"],
        contact=Contact(
            row["email"], row["mobile_number"], Language(row["language"]) if row["language"] else None
        ),
        contact_version=row["contact_version"],
    )


def _facility(row: asyncpg.Record) -> Facility:
    return Facility(row["facility_id"], row["name"], row["time_zone"], row["version"])


def _privilege(row: asyncpg.Record) -> Privilege:
    return Privilege(
        PrivilegeLevel(row["level"]),
        row["expires_on"],
        frozenset(map(ReadType, row["read_types"])),
        row["privilege_version"],
    )
