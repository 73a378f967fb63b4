"""Commands about who signs in as whom."""

import click

from readroom import names
from readroom.acting import acting, listing
from readroom.client import Readroom
from readroom.show import Column, Output, instant
from wire.access.v1.identity_pb2 import (
    BoundIdentity,
    Identity,
    InviteRequest,
    InviteResponse,
    ListIdentitiesRequest,
    RemoveIdentityRequest,
    SaveIdentityRequest,
)

_IDENTITY = (
    Column[BoundIdentity]("issuer", lambda b: b.identity.issuer),
    Column[BoundIdentity]("subject", lambda b: b.identity.subject),
    Column[BoundIdentity]("bound_by", lambda b: b.bound_by),
    Column[BoundIdentity]("bound_at", lambda b: instant(b.bound_at)),
)


@click.command("invite")
@click.argument("login")
@acting
async def invite(readroom: Readroom, out: Output, login: str) -> None:
    """Print the code by which LOGIN signs in first.

    It counts once, for 7 days, and an earlier one ends. Whoever has it becomes LOGIN: hand it to them alone.
    Where nobody can sign in yet, run `python -m services invite LOGIN` beside the database of access.
    """
    user_id = await names.user_id(readroom, login)
    invited = await readroom.identities.Invite(InviteRequest(user_id=user_id))
    out.item(
        (
            Column[InviteResponse]("login", lambda i: i.login),
            Column[InviteResponse]("ends_at", lambda i: instant(i.invitation.ends_at)),
            Column[InviteResponse]("code", lambda i: i.code),
        ),
        invited,
    )


@click.group()
def identity() -> None:
    """Which identity of which issuer signs in as whom."""


_issuer = click.argument("issuer")
_subject = click.argument("subject")


@identity.command("add")
@click.argument("login")
@_issuer
@_subject
@acting
async def save_identity(readroom: Readroom, out: Output, login: str, issuer: str, subject: str) -> None:
    """Let SUBJECT of ISSUER sign in as LOGIN."""
    request = SaveIdentityRequest(
        user_id=await names.user_id(readroom, login), identity=Identity(issuer=issuer, subject=subject)
    )
    out.item(_IDENTITY, (await readroom.identities.SaveIdentity(request)).bound)


@identity.command("remove")
@click.argument("login")
@_issuer
@_subject
@acting
async def remove_identity(readroom: Readroom, out: Output, login: str, issuer: str, subject: str) -> None:
    """Let SUBJECT of ISSUER no longer sign in as LOGIN."""
    request = RemoveIdentityRequest(
        user_id=await names.user_id(readroom, login), identity=Identity(issuer=issuer, subject=subject)
    )
    await readroom.identities.RemoveIdentity(request)
    out.done(f"`{subject}` of `{issuer}` no longer signs in as `{login}`")


@identity.command("list")
@click.argument("login")
@listing
async def list_identities(readroom: Readroom, out: Output, login: str) -> None:
    """List what signs in as LOGIN."""
    request = ListIdentitiesRequest(user_id=await names.user_id(readroom, login))
    out.items(_IDENTITY, (await readroom.identities.ListIdentities(request)).identities)


COMMANDS = (invite, identity)
