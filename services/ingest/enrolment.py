"""What administrators do with gateways: enrol, change and revoke them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from kernel.database import Database
from kernel.errors import Invalid, NotFound, lacks
from kernel.events import GatewayChanged
from kernel.ids import FacilityId, GatewayId, NewId
from kernel.reach import Reach
from kernel.versions import must_be_current
from services.ingest.gateway import Gateway, certificate_sha256, enrolment, settings

if TYPE_CHECKING:
    from services.ingest.store import IngestTransaction

GATEWAY_ADMIN = "gateway.admin"

Titles = Sequence[tuple[str, FacilityId]]
"""Calling AE titles as they were given, and their facilities."""


class Access(Protocol):
    """The service access, asked on behalf of the acting user."""

    async def holds(self, permission: str, facility_id: FacilityId) -> bool:
        """Whether they hold it there; raises NotFound for no facility, as for one where they hold nothing."""
        ...

    async def reach(self, permission: str) -> Reach: ...


class Authority(Protocol):
    """The certificate authority of gateways."""

    def sign(self, csr_pem: bytes, uri: str, now: datetime) -> bytes:
        """The certificate in PEM; raises Invalid for a bad request."""
        ...

    def ends_at(self, certificate_pem: bytes) -> datetime:
        """Until when a certificate that it signed is valid."""
        ...


class Enrolments:
    """Who may be a gateway, with which titles for which facilities.

    Args:
        uri: the one name in a gateway's certificate, with `{gateway_id}` in it.
    """

    def __init__(
        self,
        database: Database[IngestTransaction],
        access: Access,
        authority: Authority,
        new_id: NewId,
        uri: str,
    ) -> None:
        self._uri = uri
        self._database = database
        self._access = access
        self._authority = authority
        self._new_id = new_id

    async def enrol_gateway(
        self, actor: str, name: str, titles: Titles, request_pem: str
    ) -> tuple[Gateway, bytes]:
        """A new gateway and its certificate in PEM. Two live gateways never share a name or a title."""
        bindings = enrolment(name, titles, request_pem)
        gateway_id = GatewayId(self._new_id())
        await self._require(actor, "gateway.enrolled", gateway_id, [b.facility_id for b in bindings])
        async with self._database.transaction() as transaction:
            certificate_pem = self._sign(request_pem, gateway_id, transaction.now)
            gateway = Gateway(
                gateway_id,
                name.strip(),
                bindings,
                certificate_sha256(certificate_pem),
                transaction.now,
                certificate_ends_at=self._authority.ends_at(certificate_pem),
            )
            await transaction.insert_gateway(gateway, by=actor)
            await transaction.say(GatewayChanged(gateway_id, gateway.version))
            await transaction.record(actor, "gateway.enrolled", f"gateway:{gateway_id}", "done")
        return gateway, certificate_pem

    async def save_gateway(
        self, actor: str, gateway_id: GatewayId, name: str, titles: Titles, version: int
    ) -> Gateway:
        """Gives it another name or other titles, made from a version of it (A68)."""
        bindings = settings(name, titles)
        await self._administered(actor, "gateway.saved", gateway_id)
        await self._require(actor, "gateway.saved", gateway_id, [b.facility_id for b in bindings])
        async with self._database.transaction() as transaction:
            locked = await transaction.lock_gateway(gateway_id)
            assert locked is not None
            last = await transaction.gateway_change(gateway_id)
            must_be_current(f"the gateway `{locked.name}`", version, last)
            gateway = locked.change(name.strip(), bindings)
            await transaction.save_gateway(gateway, by=actor)
            await transaction.say(GatewayChanged(gateway_id, gateway.version))
            await transaction.record(
                actor,
                "gateway.saved",
                f"gateway:{gateway_id}",
                "done",
                version=gateway.version,
                ae_titles=" ".join(f"{each.ae_title}={each.facility_id}" for each in bindings),
            )
        return gateway

    async def revoke_gateway(self, actor: str, gateway_id: GatewayId) -> Gateway:
        """Its certificate is refused from now on, and its name and titles are free."""
        await self._administered(actor, "gateway.revoked", gateway_id)
        async with self._database.transaction() as transaction:
            locked = await transaction.lock_gateway(gateway_id)
            assert locked is not None
            gateway = locked.revoke(transaction.now)
            await transaction.revoke_gateway(gateway)
            await transaction.say(GatewayChanged(gateway_id, gateway.version))
            await transaction.record(actor, "gateway.revoked", f"gateway:{gateway_id}", "done")
        return gateway

    async def list_gateways(self, before: UUID | None, limit: int) -> Sequence[Gateway]:
        """Gateways of which the actor administers every facility, newest first."""
        reach = await administered(self._access)
        async with self._database.statements() as statements:
            return await statements.gateways(reach, before, limit)

    async def _administered(self, actor: str, action: str, gateway_id: GatewayId) -> None:
        """Raises NotFound where the actor does not administer every facility, as for an absent gateway."""
        reach = await self._access.reach(GATEWAY_ADMIN)
        async with self._database.statements() as statements:
            known = await statements.gateway(gateway_id)
        if known is None or not all(binding.facility_id in reach for binding in known.bindings):
            await self._database.refuse(actor, action, f"gateway:{gateway_id}")
            raise NotFound(
                "there is no such gateway, or you do not administer it (`gateway_id`)", field="gateway_id"
            )

    def _sign(self, request_pem: str, gateway_id: GatewayId, now: datetime) -> bytes:
        try:
            return self._authority.sign(
                request_pem.encode("ascii", "replace"), self._uri.format(gateway_id=gateway_id), now
            )
        except Invalid as error:
            raise Invalid(error.sentence, field="certificate_request_pem") from error

    async def _require(
        self, actor: str, action: str, gateway_id: GatewayId, facility_ids: Sequence[FacilityId]
    ) -> None:
        for facility_id in dict.fromkeys(facility_ids):
            try:
                allowed = await self._access.holds(GATEWAY_ADMIN, facility_id)
            except NotFound as error:
                await self._database.refuse(actor, action, f"gateway:{gateway_id}")
                raise NotFound(error.sentence, field="ae_titles.facility_id") from None
            if not allowed:
                await self._database.refuse(actor, action, f"gateway:{gateway_id}", facility=str(facility_id))
                raise lacks(GATEWAY_ADMIN, at=f"`{facility_id}`")


async def administered(access: Access) -> Reach:
    """Where the actor administers gateways; raises Denied if nowhere."""
    reach = await access.reach(GATEWAY_ADMIN)
    if not reach:
        raise lacks(GATEWAY_ADMIN, at="a facility")
    return reach
