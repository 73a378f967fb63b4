"""Commands on users and their privileges."""

from collections.abc import AsyncIterator

import click

from kernel.errors import Invalid
from readroom import names
from readroom.acting import acting, listing
from readroom.client import Readroom
from readroom.pages import every
from readroom.show import Column, Output, Table, instant
from readroom.words import LANGUAGES, LEVELS, READ_TYPES, ROLES
from wire.access.v1.access_pb2 import (
    ListPrivilegesRequest,
    PermissionGrant,
    Privilege,
    SavePrivilegeRequest,
    SaveUserRequest,
    User,
)


@click.group()
def user() -> None:
    """Accounts, their roles and permissions."""


async def user_table(readroom: Readroom) -> Table[User]:
    """The columns of a user."""
    name = await names.facility_name(readroom)

    def permission(grant: PermissionGrant) -> str:
        return f"{grant.permission}@{name(grant.facility_id)}" if grant.facility_id else grant.permission

    return (
        Column("login", lambda u: u.login),
        Column("name", lambda u: u.name),
        Column("role", lambda u: ROLES.word(u.role)),
        Column("active", lambda u: u.active),
        Column("home_facility", lambda u: name(u.home_facility_id) or None),
        Column("permissions", lambda u: [permission(grant) for grant in u.permissions]),
        Column("email", lambda u: u.email or None),
        Column("mobile_number", lambda u: u.mobile_number or None, json_only=True),
        Column("language", lambda u: LANGUAGES.word(u.language) or None, json_only=True),
        Column("user_id", lambda u: u.user_id, json_only=True),
        Column("version", lambda u: u.version, json_only=True),
    )


async def permission_grants(readroom: Readroom, permissions: tuple[str, ...]) -> list[PermissionGrant]:
    """What `PERMISSION` and `PERMISSION@FACILITY` mean."""
    grants = []
    for text in permissions:
        permission, _, facility = text.partition("@")
        facility_id = await names.facility_id(readroom, facility) if facility else ""
        grants.append(PermissionGrant(permission=permission, facility_id=facility_id))
    return grants


_role = click.Choice(ROLES.sayable)
_permission = click.option(
    "--permission",
    "permissions",
    multiple=True,
    metavar="PERMISSION[@FACILITY]",
    help="Replaces all that the user has; may be repeated.  [default for a new user: their role's]",
)
_give = click.option(
    "--give",
    multiple=True,
    metavar="PERMISSION[@FACILITY]",
    help="Give this permission, and leave the others; may be repeated.",
)
_take = click.option(
    "--take",
    multiple=True,
    metavar="PERMISSION[@FACILITY]",
    help="Take this permission away, and leave the others; may be repeated.",
)
_home = click.option("--home", default="", help="The facility the user belongs to.")


_email = click.option("--email", help="Where mails go; empty for nowhere.")
_mobile = click.option("--mobile", help="Number for one-time codes, with country code; empty for none.")
_language = click.option(
    "--language", type=click.Choice(LANGUAGES.sayable), help="The language of what Readroom sends to them."
)


made_from = click.option(
    "--version",
    type=int,
    help="The version you looked at; if somebody changed it since, nothing is saved.  [default: the newest]",
)


@user.command("create")
@click.argument("login")
@click.option("--name", required=True, help="Display name.")
@click.option("--role", type=_role, required=True)
@_email
@_mobile
@_language
@_home
@_permission
@acting
async def create_user(
    readroom: Readroom,
    out: Output,
    login: str,
    name: str,
    role: str,
    email: str | None,
    mobile: str | None,
    language: str | None,
    home: str,
    permissions: tuple[str, ...],
) -> None:
    """Create a user."""
    wanted = User(login=login, name=name, role=ROLES.number(role), active=True)
    _reach(wanted, email, mobile, language)
    await _save_user(readroom, out, wanted, home, await permission_grants(readroom, permissions) or None)


@user.command("change")
@click.argument("login")
@click.option("--name", help="Display name.")
@click.option("--role", type=_role)
@click.option("--active/--inactive", default=None, help="Whether the account may do anything at all.")
@_email
@_mobile
@_language
@_home
@_give
@_take
@_permission
@click.option("--no-permissions", is_flag=True, help="Take every permission away.")
@made_from
@acting
async def change_user(
    readroom: Readroom,
    out: Output,
    login: str,
    name: str | None,
    role: str | None,
    active: bool | None,
    email: str | None,
    mobile: str | None,
    language: str | None,
    home: str,
    give: tuple[str, ...],
    take: tuple[str, ...],
    permissions: tuple[str, ...],
    no_permissions: bool,
    version: int | None,
) -> None:
    """Change a user; what is not named stays."""
    if permissions and no_permissions:
        raise Invalid("name either `--permission` or `--no-permissions`, not both")
    if (give or take) and (permissions or no_permissions):
        raise Invalid(
            "`--give` and `--take` change what the user has, and the others replace it: name one way"
        )
    wanted = await names.user(readroom, login)
    wanted.version = wanted.version if version is None else version
    wanted.name = name or wanted.name
    wanted.role = ROLES.number(role) if role else wanted.role
    wanted.active = wanted.active if active is None else active
    _reach(wanted, email, mobile, language)
    held: list[PermissionGrant] | None
    if give or take:
        held = await _held_after(readroom, wanted, give, take)
    else:
        held = await permission_grants(readroom, permissions) if permissions or no_permissions else None
    await _save_user(readroom, out, wanted, home, held)


async def _held_after(
    readroom: Readroom, user: User, give: tuple[str, ...], take: tuple[str, ...]
) -> list[PermissionGrant]:
    """What a user has with some given and some taken; raises Invalid for what they never had."""
    has = {(each.permission, each.facility_id): each for each in user.permissions}
    for grant in await permission_grants(readroom, take):
        if has.pop((grant.permission, grant.facility_id), None) is None:
            where = "at that facility" if grant.facility_id else "at every facility"
            raise Invalid(
                f"`{user.login}` does not have `{grant.permission}` {where}: there is nothing to take"
            )
    for grant in await permission_grants(readroom, give):
        has[grant.permission, grant.facility_id] = grant
    return list(has.values())


def _reach(wanted: User, email: str | None, mobile: str | None, language: str | None) -> None:
    """How they are reached; what is not named stays."""
    wanted.email = wanted.email if email is None else email
    wanted.mobile_number = wanted.mobile_number if mobile is None else mobile
    wanted.language = LANGUAGES.number(language) if language else wanted.language


async def _save_user(
    readroom: Readroom, out: Output, wanted: User, home: str, permissions: list[PermissionGrant] | None
) -> None:
    """Saves a user with these permissions; None: they keep what they have."""
    if home:
        wanted.home_facility_id = await names.facility_id(readroom, home)
    if permissions is not None:
        del wanted.permissions[:]
        wanted.permissions.extend(permissions)
    request = SaveUserRequest(user=wanted, set_permissions=permissions is not None)
    saved = await readroom.access.SaveUser(request)
    out.item(await user_table(readroom), saved.user)
    out.warn(saved.warnings)


def _active_or_not(word: str, says: str, *, active: bool) -> None:
    @user.command(word, help=says)
    @click.argument("login")
    @acting
    async def switch(readroom: Readroom, out: Output, login: str) -> None:
        wanted = await names.user(readroom, login)
        wanted.active = active
        await _save_user(readroom, out, wanted, "", None)


_active_or_not(
    "deactivate",
    "Let LOGIN do nothing any more: their sessions end, and what they wrote stays.",
    active=False,
)
_active_or_not("activate", "Let LOGIN act again, with what they had before.", active=True)


@user.command("list")
@listing
async def list_users(readroom: Readroom, out: Output) -> None:
    """List the users."""
    out.items(await user_table(readroom), [u async for u in names.users(readroom)])


@click.group()
def privilege() -> None:
    """What a user may do at a facility."""


PRIVILEGE = (
    Column[Privilege]("facility", lambda p: p.facility_name),
    Column[Privilege]("level", lambda p: LEVELS.word(p.level)),
    Column[Privilege]("effective_level", lambda p: LEVELS.word(p.effective_level)),
    Column[Privilege]("expires_on", lambda p: p.expires_on or None),
    Column[Privilege]("expires_at", lambda p: instant(p.expires_at) if p.HasField("expires_at") else None),
    Column[Privilege]("read_types", lambda p: [READ_TYPES.word(t) for t in p.read_types]),
    Column[Privilege]("facility_id", lambda p: p.facility_id, json_only=True),
    Column[Privilege]("user_id", lambda p: p.user_id, json_only=True),
    Column[Privilege]("version", lambda p: p.version, json_only=True),
)
"""The columns of a privilege."""


@privilege.command("set")
@click.argument("login")
@click.argument("facility")
@click.argument("level", type=click.Choice(LEVELS.sayable))
@click.option(
    "--expires", default="", metavar="YYYY-MM-DD", help="With report only: from this date it is draft."
)
@click.option(
    "--read-types",
    default="",
    metavar="TYPE[,TYPE]",
    help=f"With report only: {', '.join(READ_TYPES.sayable)}.  [default: final]",
)
@made_from
@acting
async def set_privilege(
    readroom: Readroom,
    out: Output,
    login: str,
    facility: str,
    level: str,
    expires: str,
    read_types: str,
    version: int | None,
) -> None:
    """Set the one privilege of LOGIN at FACILITY."""
    types = [word.strip() for word in read_types.split(",") if word.strip()]
    if unknown := [word for word in types if word not in READ_TYPES.sayable]:
        raise Invalid(f"`{unknown[0]}` is not a read type: expected one of {', '.join(READ_TYPES.sayable)}")
    wanted = Privilege(
        user_id=await names.user_id(readroom, login),
        facility_id=await names.facility_id(readroom, facility),
        level=LEVELS.number(level),
        expires_on=expires,
        read_types=[READ_TYPES.number(word) for word in types],
    )
    wanted.version = await privilege_version(readroom, wanted) if version is None else version
    saved = await readroom.access.SavePrivilege(SavePrivilegeRequest(privilege=wanted))
    out.item(PRIVILEGE, saved.privilege)


async def privilege_version(readroom: Readroom, wanted: Privilege) -> int:
    """The version of what the user has at the facility now, 0 for none: the next save is made from it."""
    async for held in _privileges(readroom, wanted.user_id):
        if held.facility_id == wanted.facility_id:
            return held.version
    return 0


def _privileges(readroom: Readroom, user_id: str) -> AsyncIterator[Privilege]:
    return every(
        readroom.access.ListPrivileges, ListPrivilegesRequest(user_id=user_id), lambda page: page.privileges
    )


@privilege.command("list")
@click.argument("login")
@listing
async def list_privileges(readroom: Readroom, out: Output, login: str) -> None:
    """List the privileges of LOGIN, and what they amount to now."""
    found = _privileges(readroom, await names.user_id(readroom, login))
    out.items(PRIVILEGE, [p async for p in found])


COMMANDS = (user, privilege)
