"""What recipients see: what they have received, and what a link names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from kernel.database import Database
from kernel.events import ShareOpened
from kernel.ids import CaseId
from services.sharing.asking import Access, active_user
from services.sharing.domain import Received, Sight, no_link
from services.sharing.links import link_digest
from services.sharing.usecases import CHECKED

if TYPE_CHECKING:
    from services.sharing.store import SharingTransaction


class Inbox:
    """What recipients see."""

    def __init__(self, database: Database[SharingTransaction], access: Access) -> None:
        self._database = database
        self._access = access

    async def list_received(
        self, actor: str, session: str, before: UUID | None, limit: int
    ) -> Sequence[Received]:
        """What the actor has received and has not ended, newest first (SHR-29)."""
        user = await active_user(self._access, actor)
        async with self._database.transaction() as transaction:
            await transaction.record(user.login, "received.listed", f"user:{user.login}", "done")
            received = await transaction.received(user, session, before, limit)
        return await as_seen(self._access, received)

    async def open(self, actor: str, session: str, link: str) -> Received:
        """The bucket that a link names, to its recipient alone (A56)."""
        user = await active_user(self._access, actor)
        async with self._database.audited(actor, "share.opened", "link"):
            async with self._database.transaction() as transaction:
                received = await transaction.received_by_link(link_digest(link), user, session)
            if received is None:
                raise no_link()
            (received,) = await as_seen(self._access, [received])
            async with self._database.transaction() as transaction:
                await transaction.record(actor, "share.opened", f"bucket:{received.bucket.id}", "done")
                return await open_bucket(transaction, received)


class Seeing(Protocol):
    """The service access, asked on behalf of the acting user."""

    async def check_many(self, case_ids: Sequence[CaseId]) -> Sequence[Sight]: ...


async def as_seen(access: Seeing, received: Sequence[Received]) -> list[Received]:
    """Without the cases that access does not show them now: they are being deleted, or their role sees none.

    It alone decides sight; a share of which it shows no case is withheld.
    """
    asked = list({case_id for each in received if not each.withheld for case_id in each.share.case_ids})
    seen: set[CaseId] = set()
    for begin in range(0, len(asked), CHECKED):
        part = asked[begin : begin + CHECKED]
        sights = await access.check_many(part)
        seen |= {case_id for case_id, sight in zip(part, sights, strict=True) if sight.allowed}
    return [each if each.withheld else each.with_cases(seen) for each in received]


async def open_bucket(transaction: SharingTransaction, received: Received) -> Received:
    """Notes the first time that the recipient is shown what they received."""
    bucket = received.bucket
    if received.withheld or not await transaction.note_opening(bucket.id):
        return received
    await transaction.say(ShareOpened(bucket.id, bucket.version))
    return replace(received, bucket=replace(bucket, opened_at=transaction.now))
