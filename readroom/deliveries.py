"""Commands on what notify owns: how far mails have come."""

import click

from readroom.acting import acting, listing
from readroom.client import Readroom
from readroom.pages import every, first, newest
from readroom.show import Column, Output, instant
from readroom.words import NOTICES
from wire.notify.v1.notify_pb2 import ListDeliveriesRequest, Notice, ResendRequest

NOTICE = (
    Column[Notice]("asked_at", lambda d: instant(d.asked_at)),
    Column[Notice]("message", lambda d: d.message),
    Column[Notice]("state", lambda d: NOTICES.word(d.state)),
    Column[Notice]("attempts", lambda d: d.attempts),
    Column[Notice]("sent_at", lambda d: instant(d.sent_at) if d.HasField("sent_at") else None),
    Column[Notice]("last_error", lambda d: d.last_error or None),
    Column[Notice]("intent", lambda d: d.intent),
    Column[Notice]("notice_id", lambda d: d.notice_id),
)


@click.command()
@newest
@listing
async def deliveries(readroom: Readroom, out: Output, limit: int) -> None:
    """List mails and how far they have come, newest first."""
    request = ListDeliveriesRequest(page_size=min(limit, 500))
    found = every(readroom.notify.ListDeliveries, request, lambda page: page.notices)
    out.items(NOTICE, await first(found, limit))


@click.command()
@click.argument("notice_id")
@acting
async def resend(readroom: Readroom, out: Output, notice_id: str) -> None:
    """Try a mail again that was given up, or of which nobody knows whether it was taken."""
    out.item(NOTICE, (await readroom.notify.Resend(ResendRequest(notice_id=notice_id))).notice)


COMMANDS = (deliveries, resend)
