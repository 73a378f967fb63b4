"""A gateway as ingest knows it: by which certificate, under which calling AE titles, for which facilities."""

import hashlib
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from kernel.dicom import AETitle, parse_ae_title
from kernel.errors import Conflict, Denied, Invalid
from kernel.ids import FacilityId, GatewayId
from services.ingest.contacts import NEVER_HEARD, Contact

MAX_NAME_CHARACTERS = 64
"""A gateway's display name fits a column of a table."""
MAX_TITLES = 256
"""AE titles of one gateway: a multi-facility gateway serves tens of facilities, not hundreds (GWY-20)."""
MAX_CERTIFICATE_REQUEST_BYTES = 16 * 1024
"""A PKCS#10 request with a 4,096-bit RSA key takes 2 KiB."""


@dataclass(frozen=True, slots=True)
class AETitleBinding:
    """A calling AE title and the facility that receives what is sent under it (A62)."""

    ae_title: AETitle
    facility_id: FacilityId


@dataclass(frozen=True, slots=True)
class Gateway:
    """Our software at a site: one certificate, one or more calling AE titles (A62)."""

    gateway_id: GatewayId
    name: str
    bindings: tuple[AETitleBinding, ...]
    certificate_sha256: str
    enrolled_at: datetime
    revoked_at: datetime | None = None
    version: int = 1
    certificate_ends_at: datetime | None = None
    contact: Contact = NEVER_HEARD

    def change(self, name: str, bindings: "tuple[AETitleBinding, ...]") -> "Gateway":
        """The gateway with another name or other titles."""
        if self.revoked_at is not None:
            raise Conflict("the gateway was revoked: enrol a new one", field="gateway_id")
        return replace(self, name=name, bindings=bindings, version=self.version + 1)

    def revoke(self, now: datetime) -> "Gateway":
        """The gateway as it is from now on: its certificate is refused and its titles are free."""
        if self.revoked_at is not None:
            raise Conflict("the gateway was revoked already", field="gateway_id")
        return replace(self, revoked_at=now, version=self.version + 1)

    def receives_for(self, calling_ae_title: str) -> FacilityId | None:
        """The facility bound to the title; none if the gateway is revoked or the title is not its own."""
        if self.revoked_at is not None:
            return None
        return next((b.facility_id for b in self.bindings if b.ae_title == calling_ae_title), None)


def must_be_live(gateway: Gateway | None) -> Gateway:
    """The gateway, if there is one and it is not revoked; raises Denied."""
    if gateway is None:
        raise Denied("the certificate belongs to no gateway")
    if gateway.revoked_at is not None:
        raise Denied("the gateway is revoked")
    return gateway


def enrolment(
    name: str, bindings: Sequence[tuple[str, FacilityId]], request_pem: str
) -> tuple[AETitleBinding, ...]:
    """The titles a new gateway will have; raises Invalid, which names the field at fault."""
    result = settings(name, bindings)
    request_must_fit(request_pem)
    return result


def request_must_fit(request_pem: str) -> None:
    """Raises Invalid for a signing request that is empty or too long."""
    if not 1 <= len(request_pem) <= MAX_CERTIFICATE_REQUEST_BYTES:
        raise Invalid(
            f"`certificate_request_pem` must have 1 to {MAX_CERTIFICATE_REQUEST_BYTES} bytes",
            field="certificate_request_pem",
        )


def settings(name: str, bindings: Sequence[tuple[str, FacilityId]]) -> tuple[AETitleBinding, ...]:
    """The titles that a gateway of this name will have; raises Invalid, which names the field at fault."""
    if not 1 <= len(name.strip()) <= MAX_NAME_CHARACTERS or not name.isprintable():
        raise Invalid(
            f"a gateway's `name` must have 1 to {MAX_NAME_CHARACTERS} printable characters", field="name"
        )
    if not 1 <= len(bindings) <= MAX_TITLES:
        raise Invalid(f"name 1 to {MAX_TITLES} AE titles (`ae_titles`)", field="ae_titles")
    result = tuple(AETitleBinding(parse_ae_title(t, "ae_titles.ae_title"), f) for t, f in bindings)
    titles = [b.ae_title for b in result]
    for title in titles:
        if titles.count(title) > 1:
            raise Invalid(f"the AE title `{title}` is named twice", field="ae_titles.ae_title")
    return result


def certificate_sha256(pem: bytes) -> str:
    """The fingerprint by which a gateway is known: SHA-256 of the certificate's DER form."""
    body = b"".join(line for line in pem.splitlines() if not line.startswith(b"-----"))
    return hashlib.sha256(b64decode(body)).hexdigest()
