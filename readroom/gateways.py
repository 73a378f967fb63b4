"""Commands on gateways, and on what was refused."""

import json
from datetime import datetime
from pathlib import Path

import click
from google.protobuf.message import Message

from kernel.errors import Invalid, NotFound
from readroom import names
from readroom.acting import acting, listing
from readroom.client import Readroom
from readroom.enrol import CONFIGURATION, LISTEN, HospitalSide, enrol_gateway
from readroom.pages import every, first, newest
from readroom.show import Column, Output, Table, Value, instant
from readroom.words import REFUSED
from wire.ingest.v1.ingest_pb2 import (
    AETitleBinding,
    DiscardQuarantinedRequest,
    Gateway,
    ListQuarantinedRequest,
    ListRefusalsRequest,
    Quarantined,
    Refusal,
    RevokeGatewayRequest,
    SaveGatewayRequest,
)


@click.group()
def gateway() -> None:
    """Our software at the sites."""


async def gateway_table(readroom: Readroom) -> Table[Gateway]:
    """The columns of a gateway."""
    name = await names.facility_name(readroom)
    return (
        Column("name", lambda g: g.name),
        Column("ae_titles", lambda g: [f"{b.ae_title}={name(b.facility_id)}" for b in g.ae_titles]),
        Column("last_heard", lambda g: _at(g.contact, "heard_at")),
        Column("last_image", lambda g: _at(g.contact, "stored_at")),
        Column("waiting", lambda g: _told(g, g.contact.waiting_studies)),
        Column("waiting_since", lambda g: _at(g.contact, "waiting_since")),
        Column("software", lambda g: _told(g, g.contact.software_version)),
        Column("told_at", lambda g: _at(g.contact, "told_at"), json_only=True),
        Column("certificate_ends", lambda g: _at(g, "certificate_ends_at")),
        Column("revoked_at", lambda g: _at(g, "revoked_at")),
        Column("gateway_id", lambda g: g.gateway_id),
        Column("enrolled_at", lambda g: instant(g.enrolled_at), json_only=True),
        Column("version", lambda g: g.version, json_only=True),
        Column("certificate_sha256", lambda g: g.certificate_sha256, json_only=True),
    )


def _at(message: Message, field: str) -> datetime | None:
    return instant(getattr(message, field)) if message.HasField(field) else None


def _told(gateway: Gateway, value: Value) -> Value:
    """What a gateway tells of itself; nothing while it has told nothing."""
    return value if gateway.contact.HasField("told_at") else None


@gateway.command("enrol")
@click.argument("name")
@click.option(
    "--ae-title",
    "ae_titles",
    multiple=True,
    required=True,
    metavar="TITLE=FACILITY",
    help="A calling AE title and its receiving facility; may be repeated.",
)
@click.option("--to", type=click.Path(path_type=Path), required=True, help="Folder to make for the gateway.")
@click.option("--listen", default=LISTEN, show_default=True, help="Where modalities send over TLS.")
@click.option("--plain-listen", help="Where registered modalities send that cannot speak TLS.")
@click.option(
    "--modality",
    "modalities",
    multiple=True,
    metavar="TITLE@ADDRESS",
    help="A registered modality: AE title and IP address; may be repeated.",
)
@acting
async def enrol(
    readroom: Readroom,
    out: Output,
    name: str,
    ae_titles: tuple[str, ...],
    to: Path,
    listen: str,
    plain_listen: str | None,
    modalities: tuple[str, ...],
) -> None:
    """Enrol a gateway: its key is made here and never leaves; `python -m gateway` runs it."""
    pairs = [_pair(text, "=", "an AE title with its facility") for text in ae_titles]
    titles = [(title, await names.facility_id(readroom, facility)) for title, facility in pairs]
    registered = [_pair(text, "@", "an AE title with its address") for text in modalities]
    hospital = HospitalSide(listen, plain_listen, registered)
    enrolled = await enrol_gateway(readroom, name, titles, to, hospital)
    out.item(await gateway_table(readroom), enrolled)
    if not out.as_json:
        out.done(f"run it with: python -m gateway --config {to / CONFIGURATION}")


def _pair(text: str, sign: str, noun: str) -> tuple[str, str]:
    left, found, right = text.partition(sign)
    if not (left and found and right):
        raise Invalid(f"`{text}` is not {noun}: expected `{sign}` between them")
    return left, right


@gateway.command("change")
@click.argument("gateway")
@click.option("--name", help="Give the gateway this name.")
@click.option(
    "--ae-title",
    "ae_titles",
    multiple=True,
    metavar="TITLE=FACILITY",
    help="Add a calling AE title, or give one another facility; may be repeated.",
)
@click.option(
    "--remove-title",
    "removed",
    multiple=True,
    metavar="TITLE",
    help="Take this AE title away; may be repeated.",
)
@click.option(
    "--version",
    type=int,
    help="The version you looked at; if somebody changed it since, nothing is saved.  [default: the newest]",
)
@acting
async def change(
    readroom: Readroom,
    out: Output,
    gateway: str,
    name: str | None,
    ae_titles: tuple[str, ...],
    removed: tuple[str, ...],
    version: int | None,
) -> None:
    """Change name and AE titles of a gateway; what is not named stays."""
    wanted = await names.gateway(readroom, gateway)
    wanted.name = name or wanted.name
    wanted.version = wanted.version if version is None else version
    titles = {each.ae_title: each.facility_id for each in wanted.ae_titles}
    before = set(titles)
    for title in removed:
        if titles.pop(title, None) is None:
            raise NotFound(f"`{title}` is not a title of `{wanted.name}`")
    pairs = [_pair(text, "=", "an AE title with its facility") for text in ae_titles]
    if twice := [title for title, _ in pairs if [each for each, _ in pairs].count(title) > 1]:
        raise Invalid(f"the AE title `{twice[0]}` is named twice")
    for title, facility in pairs:
        titles[title] = await names.facility_id(readroom, facility)
    del wanted.ae_titles[:]
    wanted.ae_titles.extend(AETitleBinding(ae_title=t, facility_id=f) for t, f in titles.items())
    saved = (await readroom.ingest.SaveGateway(SaveGatewayRequest(gateway=wanted))).gateway
    out.item(await gateway_table(readroom), saved)
    now = [each.ae_title for each in saved.ae_titles]
    if before != set(now) and not out.as_json:
        out.done(f"put `ae_titles = {json.dumps(now)}` into its {CONFIGURATION}, and start it again")


@gateway.command("revoke")
@click.argument("gateway")
@acting
async def revoke(readroom: Readroom, out: Output, gateway: str) -> None:
    """Revoke a gateway: its associations end, its name and its AE titles become free."""
    request = RevokeGatewayRequest(gateway_id=await names.gateway_id(readroom, gateway))
    out.item(await gateway_table(readroom), (await readroom.ingest.RevokeGateway(request)).gateway)


@gateway.command("list")
@listing
async def list_gateways(readroom: Readroom, out: Output) -> None:
    """List the gateways, live and revoked.

    LAST HEARD is when it announced, sent or told anything; a gateway tells once a minute how many studies
    wait in its queue. What is empty is not known.
    """
    out.items(await gateway_table(readroom), [g async for g in names.gateways(readroom)])


@gateway.command("quarantine")
@newest
@listing
async def quarantine(readroom: Readroom, out: Output, limit: int) -> None:
    """List refused instances of which the bytes are kept, newest first."""
    name = {g.gateway_id: g.name async for g in names.gateways(readroom)}
    table = (
        Column[Quarantined]("quarantined_at", lambda q: instant(q.quarantined_at)),
        Column[Quarantined]("gateway", lambda q: name.get(q.gateway_id, q.gateway_id)),
        Column[Quarantined]("reason", lambda q: q.reason or None),
        Column[Quarantined]("length", lambda q: q.length),
        Column[Quarantined]("sha256", lambda q: q.sha256),
        Column[Quarantined]("study_instance_uid", lambda q: q.study_instance_uid or None),
        Column[Quarantined]("sop_instance_uid", lambda q: q.sop_instance_uid, json_only=True),
        Column[Quarantined]("sop_class_uid", lambda q: q.sop_class_uid, json_only=True),
        Column[Quarantined]("pack_id", lambda q: q.pack_id or None, json_only=True),
    )
    request = ListQuarantinedRequest(page_size=min(limit, 500))
    found = every(readroom.ingest.ListQuarantined, request, lambda page: page.quarantined)
    out.items(table, await first(found, limit))


@gateway.command("discard")
@click.argument("sha256")
@acting
async def discard(readroom: Readroom, out: Output, sha256: str) -> None:
    """Remove a refused instance from the quarantine for good."""
    await readroom.ingest.DiscardQuarantined(DiscardQuarantinedRequest(sha256=sha256))
    out.done("it is removed", sha256=sha256)


@click.command()
@newest
@listing
async def refusals(readroom: Readroom, out: Output, limit: int) -> None:
    """List refused associations, announcements and instances, newest first."""
    name = {g.gateway_id: g.name async for g in names.gateways(readroom)}
    table = (
        Column[Refusal]("refused_at", lambda r: instant(r.refused_at)),
        Column[Refusal]("kind", lambda r: REFUSED.word(r.kind)),
        Column[Refusal]("calling_ae_title", lambda r: r.calling_ae_title or None),
        Column[Refusal]("gateway", lambda r: name.get(r.gateway_id, r.gateway_id) or None),
        Column[Refusal]("remote_address", lambda r: r.remote_address),
        Column[Refusal]("status", lambda r: f"{r.status:04X}" if r.status else None),
        Column[Refusal]("reason", lambda r: r.reason),
        Column[Refusal]("sop_instance_uid", lambda r: r.sop_instance_uid or None, json_only=True),
        Column[Refusal]("certificate_sha256", lambda r: r.certificate_sha256 or None, json_only=True),
    )
    request = ListRefusalsRequest(page_size=min(limit, 500))
    found = every(readroom.ingest.ListRefusals, request, lambda page: page.refusals)
    out.items(table, await first(found, limit))


COMMANDS = (gateway, refusals)
