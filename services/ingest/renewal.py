"""Renewing: a gateway that shows a live certificate gets another, and both are valid to their ends."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from kernel.database import Database
from kernel.errors import Denied, Exhausted, Invalid
from kernel.ids import GatewayId
from services.ingest.domain import Announcer
from services.ingest.gateway import certificate_sha256, must_be_live, request_must_fit

if TYPE_CHECKING:
    from services.ingest.store import IngestTransaction

RENEWALS_A_DAY = 10
"""Of one gateway: each of its processes renews by itself, and tries again where an answer was lost."""
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Life:
    """From when until when a certificate of a live gateway counts."""

    signed_at: datetime
    ends_at: datetime

    def is_due(self, now: datetime) -> bool:
        """Whether two thirds of it are over: it should be renewed."""
        return now >= self.signed_at + (self.ends_at - self.signed_at) * 2 / 3


@dataclass(frozen=True, slots=True)
class Renewed:
    """A certificate that a gateway got for a key of its own."""

    key_sha256: str
    gateway_id: GatewayId
    certificate_pem: str


class RateWindow(Protocol):
    """Counts what happens in a window of time."""

    async def allow(self, key: str, limit: int, window_s: int) -> bool: ...


class Authority(Protocol):
    """The certificate authority of gateways."""

    def sign(self, csr_pem: bytes, uri: str, now: datetime) -> bytes:
        """The certificate in PEM; raises Invalid for a bad request."""
        ...

    def ends_at(self, certificate_pem: bytes) -> datetime: ...
    def key_sha256(self, certificate_pem: bytes) -> str:
        """The digest of the public key of a certificate."""
        ...


class Renewals:
    """Certificates that gateways renew by themselves.

    Args:
        uri: the one name in a gateway's certificate, with `{gateway_id}` in it.
    """

    def __init__(
        self, database: Database[IngestTransaction], authority: Authority, rates: RateWindow, uri: str
    ) -> None:
        self._database = database
        self._authority = authority
        self._rates = rates
        self._uri = uri

    async def renew_certificate(self, announcer: Announcer, request_pem: str) -> str:
        """A further certificate in PEM for the gateway whose live certificate is shown, for another key.

        Whatever names the request asks for are ignored. Asked again for the same key, the answer is the same.
        Raises Denied, Invalid, or Exhausted.
        """
        gateway_id = announcer.gateway_id
        actor, object_ = f"gateway:{gateway_id}", f"gateway:{gateway_id}"
        async with self._database.audited(actor, "gateway.renewed", object_):
            request_must_fit(request_pem)
            if not await self._rates.allow(f"renewals:{gateway_id}", RENEWALS_A_DAY, DAY_S):
                raise Exhausted("the gateway renews its certificate too often: try again tomorrow")
            async with self._database.transaction() as transaction:
                must_be_live(await transaction.lock_gateway(gateway_id))
                shown = await transaction.gateway_of_certificate(announcer.certificate_sha256)
                if shown is None or shown.gateway_id != gateway_id:
                    raise Denied("the certificate belongs to no gateway")
                certificate_pem = self._sign(request_pem, gateway_id, transaction.now)
                key_sha256 = self._authority.key_sha256(certificate_pem)
                known = await transaction.renewed(key_sha256)
                if known is not None:
                    if known.gateway_id != gateway_id:
                        raise Denied("the key belongs to another gateway: renew with a key of your own")
                    return known.certificate_pem
                await transaction.renew_certificate(
                    Renewed(key_sha256, gateway_id, certificate_pem.decode()),
                    certificate_sha256(certificate_pem),
                    Life(transaction.now, self._authority.ends_at(certificate_pem)),
                )
                await transaction.record(
                    actor,
                    "gateway.renewed",
                    object_,
                    "done",
                    certificate_sha256=certificate_sha256(certificate_pem),
                )
                return certificate_pem.decode()

    def _sign(self, request_pem: str, gateway_id: GatewayId, now: datetime) -> bytes:
        try:
            return self._authority.sign(
                request_pem.encode("ascii", "replace"), self._uri.format(gateway_id=gateway_id), now
            )
        except Invalid as error:
            raise Invalid(error.sentence, field="certificate_request_pem") from error
