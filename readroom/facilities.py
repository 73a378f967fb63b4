"""Commands on facilities and how they receive, endpoint rules, and what waits for a person."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import click

from kernel.errors import NotFound, Unavailable
from readroom import names
from readroom.acting import acting, listing
from readroom.client import Readroom
from readroom.pages import every
from readroom.show import Column, Output
from readroom.words import MODELS
from wire.access.v1.access_pb2 import CheckPermissionRequest
from wire.ingest.v1.ingest_pb2 import ReadSettleLengthRequest, SaveSettleLengthRequest, SettleLength
from wire.routing.v1.routing_pb2 import (
    EndpointRule,
    Facility,
    ListRulesRequest,
    RemoveRuleRequest,
    SaveFacilityRequest,
    SaveRuleRequest,
)

KNOWN_WITHIN_S = 10
"""How long a new facility may take to be known everywhere; it takes well under a second."""

_ASK_EVERY_S = 0.05

FACILITY = (
    Column[Facility]("name", lambda f: f.name),
    Column[Facility]("model", lambda f: MODELS.word(f.model)),
    Column[Facility]("mapping_tag", lambda f: f.mapping_tag or None),
    Column[Facility]("time_zone", lambda f: f.time_zone),
    Column[Facility]("facility_id", lambda f: f.facility_id),
    Column[Facility]("version", lambda f: f.version, json_only=True),
)


async def save_facility(readroom: Readroom, facility: Facility) -> Facility:
    """Saves a facility and waits until access knows it, so that the next command may name it."""
    stored = (await readroom.routing.SaveFacility(SaveFacilityRequest(facility=facility))).facility
    asked = CheckPermissionRequest(permission="facility.admin", facility_id=stored.facility_id)
    try:
        async with asyncio.timeout(KNOWN_WITHIN_S):
            while True:
                try:
                    await readroom.access.CheckPermission(asked)
                    return stored
                except NotFound:
                    await asyncio.sleep(_ASK_EVERY_S)
    except TimeoutError:
        raise Unavailable(
            f"facility `{stored.name}` is saved, but access has not heard of it for {KNOWN_WITHIN_S} s"
        ) from None


@click.group()
def facility() -> None:
    """Sites, and how they receive studies."""


Command = Callable[..., None]


def _what_it_is(model: str, time_zone: str) -> Callable[[Command], Command]:
    """The options of what a facility is, with these words for what counts where they are left out."""
    options = (
        click.option(
            "--model",
            type=click.Choice(MODELS.sayable),
            help=f"How it receives studies: standard keeps what gateways send it, a hub hands on by rules, "
            f"an endpoint gets from hubs.  [default: {model}]",
        ),
        click.option(
            "--time-zone",
            default="",
            help=f"IANA time zone in which its days end, such as Europe/Amsterdam.  [default: {time_zone}]",
        ),
        click.option(
            "--mapping-tag",
            default="",
            help="Keyword of the tag that a hub's rules read, such as InstitutionName.",
        ),
    )

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


@facility.command("create")
@click.argument("name")
@_what_it_is("standard", "UTC")
@acting
async def create_facility(
    readroom: Readroom, out: Output, name: str, model: str | None, time_zone: str, mapping_tag: str
) -> None:
    """Create a facility."""
    wanted = Facility(name=name, time_zone=time_zone, mapping_tag=mapping_tag)
    if model:
        wanted.model = MODELS.number(model)
    out.item(FACILITY, await save_facility(readroom, wanted))


@facility.command("change")
@click.argument("facility")
@click.option("--name", help="Give the facility this name.")
@_what_it_is("as it is", "as it is")
@click.option(
    "--version",
    type=int,
    help="The version you looked at; if somebody changed it since, nothing is saved.  [default: the newest]",
)
@acting
async def change_facility(
    readroom: Readroom,
    out: Output,
    facility: str,
    name: str | None,
    model: str | None,
    time_zone: str,
    mapping_tag: str,
    version: int | None,
) -> None:
    """Change a facility; what is not named stays."""
    wanted = await names.facility(readroom, facility)
    if model and MODELS.number(model) != wanted.model:
        wanted.model = MODELS.number(model)
        wanted.mapping_tag = ""  # belongs to a hub
    wanted.version = wanted.version if version is None else version
    wanted.name = name or wanted.name
    wanted.time_zone = time_zone or wanted.time_zone
    wanted.mapping_tag = mapping_tag or wanted.mapping_tag
    out.item(FACILITY, await save_facility(readroom, wanted))


@facility.command("list")
@listing
async def list_facilities(readroom: Readroom, out: Output) -> None:
    """List the facilities."""
    out.items(FACILITY, [f async for f in names.facilities(readroom)])


@facility.command("settle")
@click.argument("facility")
@click.option(
    "--after",
    type=click.FloatRange(1, 3600),
    metavar="SECONDS",
    help="The new length, 1 to 3600 seconds.  [default: show the one that counts]",
)
@click.option(
    "--version",
    type=int,
    help="The version you looked at; if somebody changed it since, nothing is saved.  [default: the newest]",
)
@acting
async def settle_facility(
    readroom: Readroom, out: Output, facility: str, after: float | None, version: int | None
) -> None:
    """Show or change how long a study sent to FACILITY must be quiet before it is ready to read.

    FACILITY is where the gateway's AE title leads: of what comes through a hub, the hub's length counts.
    """
    facility_id = await names.facility_id(readroom, facility)
    request = ReadSettleLengthRequest(facility_id=facility_id)
    length = (await readroom.ingest.ReadSettleLength(request)).settle_length
    if after is not None:
        length.settle_after.FromTimedelta(timedelta(seconds=after))
        length.version = length.version if version is None else version
        wanted = SaveSettleLengthRequest(settle_length=length)
        length = (await readroom.ingest.SaveSettleLength(wanted)).settle_length
    name = await names.facility_name(readroom)
    table = (
        Column[SettleLength]("facility", lambda s: name(s.facility_id)),
        Column[SettleLength](
            "settles_after", lambda s: f"{s.settle_after.ToTimedelta().total_seconds():g} s"
        ),
        Column[SettleLength]("is_default", lambda s: s.version == 0),
        Column[SettleLength]("facility_id", lambda s: s.facility_id, json_only=True),
        Column[SettleLength]("version", lambda s: s.version, json_only=True),
    )
    out.item(table, length)


@click.group()
def rule() -> None:
    """Endpoint rules: a hub and a text, and the facility that receives what matches."""


async def rule_table(readroom: Readroom) -> tuple[Column[EndpointRule], ...]:
    """The columns of a rule."""
    name = await names.facility_name(readroom)
    return (
        Column("hub", lambda r: name(r.hub_facility_id)),
        Column("text", lambda r: r.text),
        Column("endpoint", lambda r: name(r.endpoint_facility_id)),
        Column("rule_id", lambda r: r.rule_id),
    )


@rule.command("create")
@click.argument("endpoint")
@click.option("--hub", required=True, help="The hub whose studies the rule looks at.")
@click.option("--text", required=True, help="The value of the hub's mapping tag that matches.")
@acting
async def create_rule(readroom: Readroom, out: Output, endpoint: str, hub: str, text: str) -> None:
    """Send studies of a hub whose mapping tag says TEXT to ENDPOINT.

    TEXT is compared whole, without regard to case and to how many blanks there are; `*` and `%` are literal.
    """
    wanted = EndpointRule(
        endpoint_facility_id=await names.facility_id(readroom, endpoint),
        hub_facility_id=await names.facility_id(readroom, hub),
        text=text,
    )
    await save_rule(readroom, out, wanted)


async def save_rule(readroom: Readroom, out: Output, wanted: EndpointRule) -> None:
    """Saves a rule and shows it, with what its text does not mean."""
    answer = await readroom.routing.SaveRule(SaveRuleRequest(rule=wanted))
    out.item(await rule_table(readroom), answer.rule)
    if answer.note:
        click.echo(f"note: {answer.note}", err=True)


@rule.command("list")
@click.argument("facility")
@listing
async def list_rules(readroom: Readroom, out: Output, facility: str) -> None:
    """List the rules of a hub or of an endpoint."""
    request = ListRulesRequest(facility_id=await names.facility_id(readroom, facility))
    rules = [r async for r in every(readroom.routing.ListRules, request, lambda page: page.rules)]
    out.items(await rule_table(readroom), rules)


@rule.command("remove")
@click.argument("rule_id")
@acting
async def remove_rule(readroom: Readroom, out: Output, rule_id: str) -> None:
    """Remove a rule; placed cases stay where they are."""
    await readroom.routing.RemoveRule(RemoveRuleRequest(rule_id=rule_id))
    out.done(f"rule {rule_id} is removed", rule_id=rule_id)


COMMANDS = (facility, rule)
