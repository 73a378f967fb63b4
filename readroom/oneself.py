"""Commands on the session of a terminal: who one is, and what one may do."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from kernel.errors import Unauthenticated
from readroom.acting import acting
from readroom.client import Readroom, connect
from readroom.endpoints import Endpoints
from readroom.pages import every
from readroom.place import Place
from readroom.session import Session
from readroom.shortids import ids_file
from readroom.show import Column, Output, clock, harmless
from readroom.words import LANGUAGES, LEVELS, READ_TYPES, ROLES, SIDES
from wire.access.v1.access_pb2 import CheckPermissionRequest, ListPrivilegesRequest, Privilege
from wire.access.v1.identity_pb2 import DescribeMeRequest, DescribeMeResponse, HeldPermission

HOURS = 12
"""How long a session lasts unless somebody says otherwise: a working day, and no night."""


@click.command("login")
@click.argument("login")
@click.option(
    "--hours",
    type=click.FloatRange(min=0, min_open=True, max=24 * 30),
    default=HOURS,
    show_default=True,
    help="End the session after so many hours.",
)
@click.option(
    "--all-terminals", is_flag=True, help="Log in at every terminal that has no session of its own."
)
@click.pass_obj
def log_in(place: Place, login: str, hours: float, all_terminals: bool) -> None:
    """Log in as LOGIN with the development issuer.

    It exists only with embedded servers: whoever can read the issuer's key in the data directory may be
    anybody. Each terminal has a session of its own; READROOM_SESSION names another file for it.
    """
    now = datetime.now(UTC)
    session = Session.begin(login, now + timedelta(hours=hours))

    async def prove() -> None:
        async with connect(Endpoints.read(place.data), session) as readroom:
            await readroom.access.CheckPermission(CheckPermissionRequest(permission="operator"))

    try:
        asyncio.run(prove())
    except Unauthenticated:
        raise Unauthenticated(f"`{login}` cannot log in: there is no active user with this login") from None
    file = place.shared_file if all_terminals and place.shared_file else place.session_file
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _forget_ended(file.parent, now)
    session.write(file)
    click.echo(harmless(f"logged in as `{login}`"))


def _forget_ended(folder: Path, now: datetime) -> None:
    """Removes the sessions of terminals that nobody has any more."""
    if folder.name == "sessions":
        for file in folder.glob("*.json"):
            try:
                Session.read(file, now)
            except Unauthenticated:
                for each in (file, ids_file(file)):
                    each.unlink(missing_ok=True)


@click.command("logout")
@click.pass_obj
def log_out(place: Place) -> None:
    """End the session of this terminal."""
    file = place.current_file
    ids_file(file).unlink(missing_ok=True)
    try:
        file.unlink()
    except FileNotFoundError:
        click.echo("nobody was logged in")
    else:
        click.echo("logged out")


@dataclass(frozen=True, slots=True)
class Oneself:
    """Who acts at this terminal.

    Attributes:
        ends_at: when their session ends; None: never.
    """

    me: DescribeMeResponse
    privileges: list[Privilege]
    ends_at: datetime | None


def _where(held: HeldPermission) -> list[str]:
    if held.everywhere:
        return [held.permission]
    named = [f"{held.permission}@{each.name}" for each in held.facilities]
    left_out = held.facilities_left_out
    return [*named, f"{held.permission}@({left_out} more)"] if left_out else named


def _held(privilege: Privilege) -> str:
    """A privilege in a line, as `report at Maple Street until 2099-01-01 (final)`."""
    level = LEVELS.word(privilege.effective_level)
    stored = LEVELS.word(privilege.level)
    said = f"{level} at {privilege.facility_name}"
    if stored != level:
        said += f" ({stored} until {privilege.expires_on})"
    elif privilege.expires_on:
        said += f" until {privilege.expires_on}"
    types = [READ_TYPES.word(each) for each in privilege.read_types]
    return f"{said}: {', '.join(types)}" if types else said


ONESELF = (
    Column[Oneself]("login", lambda o: o.me.login),
    Column[Oneself]("name", lambda o: o.me.name),
    Column[Oneself]("role", lambda o: ROLES.word(o.me.role)),
    Column[Oneself]("side", lambda o: SIDES.word(o.me.side) or None),
    Column[Oneself]("home_facility", lambda o: o.me.home_facility.name or None),
    Column[Oneself]("highest_level", lambda o: LEVELS.word(o.me.highest_level)),
    Column[Oneself]("facilities", lambda o: o.me.facility_count),
    Column[Oneself]("permissions", lambda o: [each for p in o.me.permissions for each in _where(p)]),
    Column[Oneself]("privileges", lambda o: list(map(_held, o.privileges))),
    Column[Oneself]("time_zone", lambda o: o.me.time_zone),
    Column[Oneself]("language", lambda o: LANGUAGES.word(o.me.language) or None),
    Column[Oneself]("has_filter", lambda o: o.me.has_filter),
    Column[Oneself]("session_ends_at", lambda o: o.ends_at),
    Column[Oneself]("user_id", lambda o: o.me.user_id, json_only=True),
)


@click.command("whoami")
@acting
async def who_am_i(readroom: Readroom, out: Output) -> None:
    """Show who you are, until when, and what you may do."""
    me = await readroom.identities.DescribeMe(DescribeMeRequest())
    request = ListPrivilegesRequest(user_id=me.user_id)
    found = every(readroom.access.ListPrivileges, request, lambda page: page.privileges)
    place = click.get_current_context().obj
    session = Session.read(place.current_file, datetime.now(UTC))
    oneself = Oneself(me, [each async for each in found], session.ends_at)
    if out.as_json:
        out.item(ONESELF, oneself)
    else:
        out.told(lines(oneself), None)


def lines(oneself: Oneself) -> Iterator[str]:
    """What a person reads: one fact a line."""
    me = oneself.me
    of = f", {me.home_facility.name}" if me.home_facility.name else ""
    yield f"{me.name} (`{me.login}`), {ROLES.word(me.role)}{of}"
    if oneself.ends_at:
        yield f"logged in until {clock(oneself.ends_at)}"
    for privilege in oneself.privileges:
        yield f"privilege   {_held(privilege)}"
    if not oneself.privileges:
        yield "privilege   none: you see only what a grant, a folder or a share shows you"
    for permission in me.permissions:
        for each in _where(permission):
            yield f"permission  {each}"
    if me.has_filter:
        yield "filter      yes: it narrows what your privileges show you"


COMMANDS = (log_in, log_out, who_am_i)
