"""What gateways do: they are recognised, announce studies, tell how they are; and what is refused to them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from kernel.clock import Clock
from kernel.database import Database
from kernel.dicom import parse_ae_title
from kernel.errors import Denied, Exhausted, NotFound, Unavailable
from kernel.events import StudyChanged
from kernel.ids import GatewayId, NewId, TransferId, parse_id
from services.ingest.contacts import Contact, Contacts, told
from services.ingest.domain import (
    MAX_TRANSFER_AGE,
    Admission,
    Announcer,
    Limits,
    RecordedRefusal,
    Refusal,
    RefusalKind,
    Sender,
)
from services.ingest.enrolment import Access, administered
from services.ingest.gateway import Gateway, must_be_live
from services.ingest.refusals import RefusalWindows
from services.ingest.transfers import Announcement, Ended, must_be_the_same, must_count, must_differ, must_fit

if TYPE_CHECKING:
    from services.ingest.store import IngestTransaction

PRUNE_S = 60.0
PRUNED_AT_ONCE = 5_000
"""Rows of one statement."""
PRUNED_BATCHES = 20
"""Of each table every PRUNE_S: more than can come in between."""
HEARTBEATS_PER_MINUTE = 60
"""Of one gateway, which tells once a minute in each of its processes."""


class RateWindow(Protocol):
    """Counts what happens in a window of time."""

    async def allow(self, key: str, limit: int, window_s: int, *, times: int = 1) -> bool: ...


class Associations(Protocol):
    """The open associations of this process."""

    def admissions(self) -> Collection[Admission]: ...
    def abort(self, ended: Collection[Admission]) -> None: ...


class Gateways:
    """Our software at the sites: who may send, under which titles, for which facility.

    Args:
        too_many: hears of each announcement that is refused because its gateway announces too many.
    """

    def __init__(
        self,
        database: Database[IngestTransaction],
        access: Access,
        rates: RateWindow,
        limits: Limits,
        new_id: NewId,
        clock: Clock,
        too_many: Callable[[], None],
    ) -> None:
        self._too_many = too_many
        self._database = database
        self._access = access
        self._rates = rates
        self._clock = clock
        self._windows = RefusalWindows(limits.refusals_per_minute)
        self._limits = limits
        self._new_id = new_id
        self._announcing: set[GatewayId] = set()
        self.contacts = Contacts()

    async def list_refusals(self, before: UUID | None, limit: int) -> Sequence[RecordedRefusal]:
        """Refusals of such gateways; those of unknown senders for who administers every facility."""
        reach = await administered(self._access)
        async with self._database.statements() as statements:
            return await statements.refusals(reach, before, limit)

    def refuse(self, refusal: Refusal) -> Coroutine[Any, Any, None] | None:
        """What lists and audits a refusal; None if it is only counted, which any thread may do.

        Of one cause and sender a few a minute are listed, and the others as a number.
        """
        return self._list([refusal]) if self._windows.lists(refusal, self._clock.now()) else None

    async def list_suppressed(self) -> None:
        """Lists the refusals of the last minute that were only counted."""
        lines = self._windows.ended(self._clock.now())
        try:
            await self._list(lines)
        except Unavailable:
            self._windows.keep(lines)
            raise

    async def _list(self, refusals: Sequence[Refusal]) -> None:
        if not refusals:
            return
        async with self._database.transaction() as transaction:
            for refusal in refusals:
                if refusal.gateway_id is None and refusal.certificate_sha256:
                    gateway = await transaction.gateway_of_certificate(refusal.certificate_sha256)
                    refusal = replace(refusal, gateway_id=gateway.gateway_id if gateway else None)
                recorded = RecordedRefusal(self._new_id(), transaction.now, refusal)
                await transaction.insert_refusal(recorded)
                more = {"suppressed": refusal.suppressed} if refusal.suppressed else {}
                await transaction.record(
                    f"gateway:{refusal.gateway_id}" if refusal.gateway_id else "unknown",
                    f"{refusal.kind}.refused",
                    f"refusal:{recorded.refusal_id}",
                    "refused",
                    reason=refusal.reason,
                    **more,
                )

    async def recognize(self, certificate_sha256: str) -> Gateway:
        """The gateway of a certificate, which may ask for an association now (SEC-2).

        Raises Denied if there is none, or it is revoked; Exhausted if it comes too often, with whatever.
        """
        async with self._database.statements() as statements:
            gateway = await self._gateway_of(statements, certificate_sha256)
        self.contacts.note(gateway.gateway_id, Contact(heard_at=self._clock.now()))
        if not await self._rates.allow(
            f"associations:{gateway.gateway_id}", self._limits.associations_per_minute, 60
        ):
            raise Exhausted("the gateway opens too many associations")
        return gateway

    async def _gateway_of(self, statements: IngestTransaction, certificate_sha256: str) -> Gateway:
        return must_be_live(await statements.gateway_of_certificate(certificate_sha256))

    async def admit(
        self, certificate_sha256: str, calling_ae_title: str, transfer_id: str | None, remote_address: str
    ) -> Sender:
        """Who sends, if certificate, calling AE title and facility belong together (A22, SEC-2).

        Raises Denied; NotFound or Invalid for a transfer it did not begin.
        """
        async with self._database.statements() as statements:
            gateway = await self._gateway_of(statements, certificate_sha256)
            now, ours = await statements.clock(), self._clock.now()
            facility_id = gateway.receives_for(calling_ae_title)
            if facility_id is None:
                raise Denied("the calling AE title is not one of the gateway's")
            transfer = None
            if transfer_id is not None:
                transfer = await statements.transfer(TransferId(parse_id(transfer_id, "transfer_id")))
                if (
                    transfer is None
                    or transfer.gateway_id != gateway.gateway_id
                    or transfer.calling_ae_title != calling_ae_title
                ):
                    raise NotFound("the named transfer was not begun by this gateway under this title")
        return Sender(
            gateway.gateway_id,
            certificate_sha256,
            parse_ae_title(calling_ae_title, "calling_ae_title"),
            facility_id,
            transfer.transfer_id if transfer else TransferId(self._new_id()),
            transfer.study_instance_uid if transfer else None,
            transfer.begun_at if transfer else now,
            remote_address,
            now - ours,
        )

    async def begin_transfer(self, announcer: Announcer, announcements: Sequence[Announcement]) -> None:
        """Announces queue entries, all or none, again with the same effect; a newer entry of a study
        supersedes an older (A26).

        A gateway announces so many a minute, and of so many the newest are kept: what is older has to be
        announced again. An announcement under a certificate or a title that does not count is listed.
        """
        must_fit(announcements, "further")
        must_differ(announcements)
        try:
            await self._begin_transfer(announcer.gateway_id, announcements)
        except Denied as denied:
            refusal = Refusal(
                RefusalKind.ASSOCIATION,
                f"announced a study, but {denied.sentence}",
                announcer.remote_address,
                announcer.certificate_sha256,
                announcements[0].calling_ae_title,
                cause="announcement",
            )
            if (listing := self.refuse(refusal)) is not None:
                await listing
            raise

    async def _begin_transfer(self, gateway_id: GatewayId, announcements: Sequence[Announcement]) -> None:
        if not await self._rates.allow(
            f"transfers:{gateway_id}", self._limits.transfers_per_minute, 60, times=len(announcements)
        ):
            self._too_many()
            raise Exhausted("the gateway announces too many studies: announce this one again in a minute")
        self._announcing.add(gateway_id)
        async with self._database.transaction() as transaction:
            gateway = must_be_live(await transaction.gateway(gateway_id))
            self.contacts.note(gateway_id, Contact(heard_at=transaction.now))
            now = await transaction.clock()
            wanted = [each.transfer(gateway, now) for each in announcements]
            must_be_the_same(wanted, await transaction.begin_transfers(gateway_id, wanted))

    async def end_transfer(self, gateway_id: GatewayId, ended: Sequence[Ended]) -> None:
        """Notes transfers of which everything has its answer; a study that is whole now is settled (A55)."""
        must_fit(ended, "ended")
        must_differ(ended)
        must_count(ended)
        if not ended:
            return
        async with self._database.transaction() as transaction:
            must_be_live(await transaction.gateway(gateway_id))
            await transaction.end_transfers(gateway_id, ended)
            changes = await transaction.settle_ended(gateway_id, [each.transfer_id for each in ended])
            await transaction.say(*(StudyChanged(study_id, v) for study_id, v in changes.items()))

    async def heartbeat(
        self, announcer: Announcer, software_version: str, waiting_studies: int, oldest: timedelta | None
    ) -> bool:
        """Notes what a live gateway tells of itself; whether it should renew the certificate that it shows.

        PostgreSQL's clock says that: the clock of a site may be wrong.
        """
        gateway_id = announcer.gateway_id
        contact = told(software_version, waiting_studies, oldest, self._clock.now())
        if not await self._rates.allow(f"heartbeats:{gateway_id}", HEARTBEATS_PER_MINUTE, 60):
            raise Exhausted("the gateway tells too often how it is: tell it once a minute")
        async with self._database.statements() as statements:
            must_be_live(await statements.gateway(gateway_id))
            life = await statements.life_of_certificate(announcer.certificate_sha256)
            is_due = life is not None and life.is_due(await statements.clock())
        self.contacts.note(gateway_id, contact)
        return is_due

    async def save_contacts(self) -> None:
        """Saves what was noted of gateways since the last time."""
        if not (noted := self.contacts.take()):
            return
        try:
            async with self._database.statements() as statements:
                await statements.save_contacts(noted)
        except BaseException:
            self.contacts.keep(noted)
            raise

    async def abort_ended(self, associations: Associations) -> None:
        """Ends the open associations that nobody would admit now: their gateway was revoked, or does not have
        the title any more, or has it for another facility, wherever that was done (SEC-2)."""
        if not (open_ := associations.admissions()):
            return
        async with self._database.statements() as statements:
            ended = await statements.ended(open_)
        if ended:
            associations.abort(ended)

    async def prune(self) -> None:
        """Lets go of what has outlived its use: some at a time, and what is left the next time."""
        await self.list_suppressed()
        kept, kept_for = self._limits.refusals_kept, self._limits.refusals_kept_for
        prunings: tuple[Callable[[IngestTransaction], Awaitable[int]], ...] = (
            lambda t: t.prune_refusals(t.now - kept_for, kept, PRUNED_AT_ONCE),
            lambda t: t.prune_transfers(t.now - MAX_TRANSFER_AGE, PRUNED_AT_ONCE),
            lambda t: t.prune_tombstones(t.now - MAX_TRANSFER_AGE, PRUNED_AT_ONCE),
            lambda t: t.prune_packs(t.now - timedelta(hours=1), PRUNED_AT_ONCE),
        )
        announcing, self._announcing = self._announcing, set()
        kept_transfers = self._limits.transfers_kept
        prunings += tuple(
            partial(_prune_transfers, gateway_id=each, keep=kept_transfers) for each in announcing
        )
        for prune in prunings:
            for _ in range(PRUNED_BATCHES):
                async with self._database.statements() as statements:
                    if await prune(statements) < PRUNED_AT_ONCE:
                        break


async def _prune_transfers(transaction: IngestTransaction, gateway_id: GatewayId, keep: int) -> int:
    return await transaction.prune_transfers_of(gateway_id, keep, PRUNED_AT_ONCE)
