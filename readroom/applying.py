"""`readroom apply` and `readroom export`: many things at once, from a file and into one."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import TypeVar

import click

from kernel.errors import Invalid, NotFound, ReadroomError
from plumbing.files import write_private
from readroom import names
from readroom.acting import acting
from readroom.client import Readroom
from readroom.facilities import save_facility
from readroom.pages import every
from readroom.show import Output, harmless
from readroom.users import permission_grants
from readroom.wanted import (
    Wanted,
    WantedFacility,
    WantedGateway,
    WantedPrivilege,
    WantedRule,
    WantedUser,
    read,
    write,
)
from readroom.words import LANGUAGES, LEVELS, MODELS, READ_TYPES, ROLES, Words
from wire.access.v1.access_pb2 import (
    ListPrivilegesRequest,
    PermissionGrant,
    Privilege,
    SavePrivilegeRequest,
    SaveUserRequest,
    User,
)
from wire.ingest.v1.ingest_pb2 import AETitleBinding, Gateway, SaveGatewayRequest
from wire.routing.v1.routing_pb2 import EndpointRule, Facility, ListRulesRequest, SaveRuleRequest

AT_ONCE = 8
"""Calls under way: an installation of 80 users at 12 facilities takes seconds, and others get theirs."""

T = TypeVar("T")

Made = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Change:
    """Something that is not yet as the file wants it.

    Attributes:
        what: the kind and the name.
        fields: what changes of it; empty: it is new.
        make: makes it so.
    """

    what: str
    fields: tuple[str, ...]
    make: Made

    def __str__(self) -> str:
        return f"change  {self.what}: {', '.join(self.fields)}" if self.fields else f"create  {self.what}"


class Present:
    """What there is, by what people call it."""

    def __init__(self, readroom: Readroom) -> None:
        self.readroom = readroom
        self.facilities: dict[str, Facility] = {}
        self.users: dict[str, User] = {}
        self.gateways: dict[str, Gateway] = {}

    async def load(self) -> None:
        self.facilities = {f.name.casefold(): f async for f in names.facilities(self.readroom)}
        self.users = {u.login: u async for u in names.users(self.readroom)}

    async def load_gateways(self) -> None:
        live = [g async for g in names.gateways(self.readroom) if not g.HasField("revoked_at")]
        self.gateways = {g.name.casefold(): g for g in live}

    def facility(self, name: str) -> Facility:
        found = self.facilities.get(name.casefold())
        if found is None:
            raise NotFound(f"there is no facility `{name}`, and the file makes none")
        return found

    def facility_name(self, facility_id: str) -> str:
        named = (f.name for f in self.facilities.values() if f.facility_id == facility_id)
        return next(named, facility_id)

    def user(self, login: str) -> User:
        found = self.users.get(login.casefold())
        if found is None:
            raise NotFound(f"there is no user `{login}`, and the file makes none")
        return found

    async def rules(self, hub: Facility) -> list[EndpointRule]:
        request = ListRulesRequest(facility_id=hub.facility_id)
        listed = every(self.readroom.routing.ListRules, request, lambda page: page.rules)
        return [rule async for rule in listed if rule.hub_facility_id == hub.facility_id]

    async def privileges(self, user: User) -> list[Privilege]:
        request = ListPrivilegesRequest(user_id=user.user_id)
        listed = every(self.readroom.access.ListPrivileges, request, lambda page: page.privileges)
        return [each async for each in listed]

    def permissions(self, user: User) -> list[str]:
        return sorted(
            f"{p.permission}@{self.facility_name(p.facility_id)}" if p.facility_id else p.permission
            for p in user.permissions
        )


def _number(words: Words, word: str, place: str) -> int:
    if word not in words.sayable:
        raise Invalid(f"`{place}` cannot be `{word}`: take one of {', '.join(words.sayable)}")
    number: int = words.number(word)
    return number


def facility_changes(present: Present, wanted: Iterable[WantedFacility]) -> list[Change]:
    found = []
    for each in wanted:
        now = present.facilities.get(each.name.casefold())
        then = Facility()
        if now:
            then.CopyFrom(now)
        then.name = each.name
        if each.model:
            model = _number(MODELS, each.model, "model")
            if now and model != now.model:
                then.mapping_tag = ""  # belongs to a hub
            then.model = model  # type: ignore[assignment]
        then.mapping_tag = each.mapping_tag or then.mapping_tag
        then.time_zone = each.time_zone or then.time_zone
        fields = _differing(now, then, ("name", "model", "mapping_tag", "time_zone")) if now else ()
        if now is None or fields:

            async def make(then: Facility = then) -> None:
                saved = await save_facility(present.readroom, then)
                present.facilities[saved.name.casefold()] = saved

            found.append(Change(f"facility {each.name}", fields, make))
    return found


async def rule_changes(present: Present, wanted: Iterable[WantedRule]) -> list[Change]:
    found, by_hub = [], {}
    for each in wanted:
        hub, endpoint = present.facilities.get(each.hub.casefold()), each.endpoint
        if hub and hub.facility_id not in by_hub:
            by_hub[hub.facility_id] = {_text(r.text): r for r in await present.rules(hub)}
        known = by_hub[hub.facility_id].get(_text(each.text)) if hub else None
        if known and not names.same(present.facility_name(known.endpoint_facility_id), endpoint):
            other = present.facility_name(known.endpoint_facility_id)
            raise Invalid(
                f"`{each.text}` at `{each.hub}` leads to `{other}` already: a rule never changes, so remove "
                "that one first"
            )
        if known is None:

            async def make(each: WantedRule = each) -> None:
                rule = EndpointRule(
                    hub_facility_id=present.facility(each.hub).facility_id,
                    endpoint_facility_id=present.facility(each.endpoint).facility_id,
                    text=each.text,
                )
                await present.readroom.routing.SaveRule(SaveRuleRequest(rule=rule))

            found.append(Change(f"rule {each.hub}: {each.text} to {endpoint}", (), make))
    return found


def user_changes(present: Present, wanted: Iterable[WantedUser]) -> list[Change]:
    found = []
    for each in wanted:
        now = present.users.get(each.login.casefold())
        then = User(login=each.login, active=True)
        if now:
            then.CopyFrom(now)
        then.name = each.name or then.name
        if each.role:
            then.role = _number(ROLES, each.role, "role")  # type: ignore[assignment]
        if each.language:
            then.language = _number(LANGUAGES, each.language, "language")  # type: ignore[assignment]
        then.email = then.email if each.email is None else each.email
        then.mobile_number = then.mobile_number if each.mobile is None else each.mobile.replace(" ", "")
        then.active = then.active if each.active is None else each.active
        known = ("name", "role", "language", "email", "mobile_number", "active")
        fields = _differing(now, then, known) if now else ()
        if now and each.home and not names.same(present.facility_name(now.home_facility_id), each.home):
            fields += ("home",)
        held = present.permissions(now) if now else []
        if (
            now
            and each.permissions is not None
            and set(map(str.casefold, each.permissions)) != set(map(str.casefold, held))
        ):
            fields += ("permissions",)
        if now is None or fields:

            async def make(each: WantedUser = each, then: User = then) -> None:
                if each.home:
                    then.home_facility_id = present.facility(each.home).facility_id
                if each.permissions is not None:
                    grants: list[PermissionGrant] = await permission_grants(
                        present.readroom, tuple(each.permissions)
                    )
                    del then.permissions[:]
                    then.permissions.extend(grants)
                request = SaveUserRequest(user=then, set_permissions=each.permissions is not None)
                saved = (await present.readroom.access.SaveUser(request)).user
                present.users[saved.login] = saved

            found.append(Change(f"user {each.login}", fields, make))
    return found


async def privilege_changes(present: Present, wanted: Iterable[WantedPrivilege]) -> list[Change]:
    wanted = list(wanted)
    logins = dict.fromkeys(each.user.casefold() for each in wanted)
    known = [present.users[login] for login in logins if login in present.users]
    listed = await _at_once([partial(present.privileges, user) for user in known])
    held = {
        (user.login, present.facility_name(each.facility_id).casefold()): each
        for user, privileges in zip(known, listed, strict=True)
        for each in privileges
    }
    found = []
    for each in wanted:
        now = held.get((each.user.casefold(), each.facility.casefold()))
        level = _number(LEVELS, each.level, "level")
        read_types = sorted(_number(READ_TYPES, word, "read_types") for word in each.read_types)
        if each.level == "report" and not read_types:
            read_types = [READ_TYPES.number("final")]
        expires = each.expires.isoformat() if each.expires else ""
        then = Privilege(level=level, expires_on=expires, read_types=read_types)  # type: ignore[arg-type]
        fields: tuple[str, ...] = ()
        if now:
            then.version = now.version
            sorted_now = Privilege(
                level=now.level, expires_on=now.expires_on, read_types=sorted(now.read_types)
            )
            fields = _differing(sorted_now, then, ("level", "expires_on", "read_types"))
        if fields or (now is None and each.level != "none"):

            async def make(each: WantedPrivilege = each, then: Privilege = then) -> None:
                then.user_id = present.user(each.user).user_id
                then.facility_id = present.facility(each.facility).facility_id
                await present.readroom.access.SavePrivilege(SavePrivilegeRequest(privilege=then))

            found.append(Change(f"privilege of {each.user} at {each.facility}", fields, make))
    return found


def gateway_changes(present: Present, wanted: Iterable[WantedGateway]) -> list[Change]:
    found = []
    for each in wanted:
        now = present.gateways.get(each.name.casefold())
        if now is None:
            raise NotFound(
                f"there is no gateway `{each.name}`: enrol it first with `readroom gateway enrol`, which "
                "makes its key"
            )
        titles = {b.ae_title: present.facility_name(b.facility_id).casefold() for b in now.ae_titles}
        if titles != {title: name.casefold() for title, name in each.ae_titles.items()}:

            async def make(each: WantedGateway = each, now: Gateway = now) -> None:
                del now.ae_titles[:]
                now.ae_titles.extend(
                    AETitleBinding(ae_title=title, facility_id=present.facility(name).facility_id)
                    for title, name in each.ae_titles.items()
                )
                await present.readroom.ingest.SaveGateway(SaveGatewayRequest(gateway=now))

            found.append(Change(f"gateway {each.name}", ("ae_titles",), make))
    return found


def _text(text: str) -> str:
    """A text of a rule, as routing compares it."""
    return " ".join(text.split()).casefold()


def _differing(now: object, then: object, fields: Iterable[str]) -> tuple[str, ...]:
    return tuple(field for field in fields if getattr(now, field) != getattr(then, field))


async def _at_once(makes: Iterable[Callable[[], Awaitable[T]]]) -> list[T]:
    """What each makes, in order; a few at a time."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(make: Callable[[], Awaitable[T]]) -> T:
        async with places:
            return await make()

    return list(await asyncio.gather(*(one(make) for make in makes)))


async def planned(present: Present, wanted: Wanted) -> list[list[Change]]:
    """What must change, in steps of which each needs those before it. Nothing is changed yet."""
    _must_be_known(present, wanted)
    return [
        facility_changes(present, wanted.facilities),
        await rule_changes(present, wanted.rules),
        user_changes(present, wanted.users),
        await privilege_changes(present, wanted.privileges),
        gateway_changes(present, wanted.gateways),
    ]


def _must_be_known(present: Present, wanted: Wanted) -> None:
    """Raises NotFound for a name that neither the system nor the file has."""
    facilities = present.facilities.keys() | {each.name.casefold() for each in wanted.facilities}
    users = present.users.keys() | {each.login.casefold() for each in wanted.users}
    named = [
        *(name for each in wanted.rules for name in (each.hub, each.endpoint)),
        *(each.home for each in wanted.users if each.home),
        *(each.facility for each in wanted.privileges),
        *(name for each in wanted.gateways for name in each.ae_titles.values()),
        *(p.partition("@")[2] for each in wanted.users for p in each.permissions or () if "@" in p),
    ]
    for name in named:
        if name.casefold() not in facilities:
            raise NotFound(f"there is no facility `{name}`, and the file makes none")
    for each in wanted.privileges:
        if each.user.casefold() not in users:
            raise NotFound(f"there is no user `{each.user}`, and the file makes none")


async def _made(change: Change) -> None:
    """Makes a change; an error says of what."""
    try:
        await change.make()
    except ReadroomError as error:
        error.sentence = f"{change.what}: {error.sentence}"
        raise


@click.command("apply")
@click.option(
    "--file",
    "-f",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="What you want, in YAML, or in CSV with a line of column names; `readroom export` writes one.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@click.option("--yes", is_flag=True, help="Do not ask before changing anything.")
@acting
async def apply(readroom: Readroom, out: Output, file: Path, dry_run: bool, yes: bool) -> None:
    """Make facilities, rules, users, privileges and titles of gateways as a file wants them.

    What the file does not name stays. It says what would change, and asks.
    The same file again changes nothing.
    """
    wanted, present = read(file), Present(readroom)
    await present.load()
    if wanted.gateways:
        await present.load_gateways()
    steps = await planned(present, wanted)
    changes = [change for step in steps for change in step]
    told = [{"what": change.what, "fields": list(change.fields)} for change in changes]
    out.told(map(str, changes) if changes else ["everything is as the file wants it"], told)
    if dry_run or not changes:
        return
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("add --yes to make these changes where nobody can be asked, or --dry-run")
        click.confirm(f"Make these {len(changes)} changes?", abort=True, err=True)
    for step in steps:
        await _at_once([partial(_made, change) for change in step])
    click.echo(f"made {len(changes)} {'change' if len(changes) == 1 else 'changes'}", err=True)


@click.command("export")
@click.option(
    "--to", type=click.Path(dir_okay=False, path_type=Path), help="File to write.  [default: the terminal]"
)
@acting
async def export(readroom: Readroom, out: Output, to: Path | None) -> None:
    """Write what `apply` makes, as it is now, into a file that it takes."""
    present = Present(readroom)
    await present.load()
    await present.load_gateways()
    text = write(await _as_wanted(present))
    if to is None:
        click.echo("\n".join(map(harmless, text.splitlines())))
        return
    await asyncio.to_thread(write_private, to, text.encode())  # it holds addresses and numbers of people
    out.done(f"saved to `{to}`", file=str(to))


async def _as_wanted(present: Present) -> Wanted:
    hubs = [each for each in present.facilities.values() if each.mapping_tag]
    rules = await _at_once([partial(present.rules, hub) for hub in hubs])
    users = list(present.users.values())
    held = await _at_once([partial(present.privileges, user) for user in users])
    return Wanted(
        facilities=[
            WantedFacility(
                name=f.name, model=MODELS.word(f.model), mapping_tag=f.mapping_tag, time_zone=f.time_zone
            )
            for f in present.facilities.values()
        ],
        rules=[
            WantedRule(hub=hub.name, text=r.text, endpoint=present.facility_name(r.endpoint_facility_id))
            for hub, of_hub in zip(hubs, rules, strict=True)
            for r in of_hub
        ],
        users=[
            WantedUser(
                login=u.login,
                name=u.name,
                role=ROLES.word(u.role),
                home=present.facility_name(u.home_facility_id) if u.home_facility_id else "",
                email=u.email or None,
                mobile=u.mobile_number or None,
                language=LANGUAGES.word(u.language),
                active=u.active,
                permissions=present.permissions(u),
            )
            for u in users
        ],
        privileges=[
            WantedPrivilege(
                user=user.login,
                facility=p.facility_name,
                level=LEVELS.word(p.level),
                expires=date.fromisoformat(p.expires_on) if p.expires_on else None,
                read_types=[READ_TYPES.word(each) for each in p.read_types],
            )
            for user, privileges in zip(users, held, strict=True)
            for p in privileges
            if p.level
        ],
        gateways=[
            WantedGateway(
                name=g.name,
                ae_titles={b.ae_title: present.facility_name(b.facility_id) for b in g.ae_titles},
            )
            for g in present.gateways.values()
        ],
    )


COMMANDS = (apply, export)
