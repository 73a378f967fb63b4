"""Commands on what notify owns: how far mails have come."""

import click

from readroom.acting import acting
from readroom.client import Readroom
from readroom.pages import every, first, newest
from readroom.show import Column, Output, instant
from readroom.words import DELIVERIES
from wire.notify.v1.notify_pb2 import Delivery, ListDeliveriesRequest, ResendRequest

DELIVERY = (
    Column[Delivery]("asked_at", lambda d: instant(d.asked_at)),
    Column[Delivery]("message", lambda d: d.message),
    Column[Delivery]("state", lambda d: DELIVERIES.word(d.state)),
    Column[Delivery]("attempts", lambda d: d.attempts),
    Column[Delivery]("sent_at", lambda d: instant(d.sent_at) if d.HasField("sent_at") else None),
    Column[Delivery]("last_error", lambda d: d.last_error or None),
    Column[Delivery]("intent", lambda d: d.intent),
    Column[Delivery]("notice_id", lambda d: d.notice_id),
)


@click.command()
@newest
@acting
async def deliveries(readroom: Readroom, out: Output, limit: int) -> None:
    """List mails and how far they have come, newest first."""
    request = ListDeliveriesRequest(page_size=min(limit, 500))
    found = every(readroom.notify.ListDeliveries, request, lambda page: page.deliveries)
    out.items(DELIVERY, await first(found, limit))


@click.command()
@click.argument("notice_id")
@acting
async def resend(readroom: Readroom, out: Output, notice_id: str) -> None:
    """Try a mail again that was given up, or of which nobody knows whether it was taken."""
    out.item(DELIVERY, (await readroom.notify.Resend(ResendRequest(notice_id=notice_id))).delivery)


COMMANDS = (deliveries, resend)
