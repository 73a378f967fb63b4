"""Enrols a gateway: its key is made here and stays here; what comes back makes a folder it can run from."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kernel.dicom import parse_ae_title
from kernel.errors import Conflict, Invalid
from plumbing.authority import signing_request
from plumbing.config import Address, IPAddress, valid
from plumbing.files import write_private
from readroom.client import Readroom
from wire.ingest.v1.ingest_pb2 import AETitleBinding, EnrolGatewayRequest, EnrolGatewayResponse, Gateway

CONFIGURATION = "gateway.toml"

# 2762 is the port that IANA registered for DICOM over TLS.
LISTEN = "0.0.0.0:2762"


@dataclass(frozen=True, slots=True)
class HospitalSide:
    """Where the gateway listens, and for whom.

    Attributes:
        listen: over TLS.
        plain_listen: without; an exception that only registered modalities may use (A54).
        modalities: AE titles of registered modalities with their IP addresses.
    """

    listen: str = LISTEN
    plain_listen: str | None = None
    modalities: Sequence[tuple[str, str]] = ()

    def check(self) -> None:
        """Raises Invalid for what the gateway would refuse to start with."""
        valid(Address, self.listen, "listen")
        if self.plain_listen is not None:
            valid(Address, self.plain_listen, "plain_listen")
            if self.plain_listen == self.listen:
                raise Invalid("`plain_listen` and `listen` are the same address: name another port")
        for title, address in self.modalities:
            parse_ae_title(title, "modality")
            valid(IPAddress, address, "modality")


async def enrol_gateway(
    readroom: Readroom,
    name: str,
    titles: Sequence[tuple[str, str]],
    folder: Path,
    hospital: HospitalSide = HospitalSide(),
) -> Gateway:
    """Enrols a gateway and writes its folder: key, certificate, CA and `gateway.toml`.

    Args:
        readroom: acts for somebody with `gateway.admin`.
        name: display name.
        titles: calling AE titles, each with the id of its receiving facility.
        folder: is made; Conflict if it holds anything already.
        hospital: goes into `gateway.toml`, where it can be changed.

    Raises Invalid before the name and the titles are taken, if the gateway would refuse its file.
    """
    hospital.check()
    bindings = [AETitleBinding(ae_title=parse_ae_title(t, "ae_title"), facility_id=f) for t, f in titles]
    _make(folder)
    request, key = signing_request()
    enrolled = await readroom.ingest.EnrolGateway(
        EnrolGatewayRequest(
            name=name,
            ae_titles=bindings,
            certificate_request_pem=request.decode(),
        )
    )
    write_private(folder / "gateway.key", key)
    write_private(folder / "gateway.pem", enrolled.certificate_pem.encode())
    write_private(folder / "ca.pem", enrolled.ca_pem.encode())
    write_private(folder / CONFIGURATION, configuration(enrolled, hospital).encode())
    return enrolled.gateway


def configuration(enrolled: EnrolGatewayResponse, hospital: HospitalSide) -> str:
    """The gateway's settings file; docs/gateway.md explains its keys."""
    tables: list[tuple[str, dict[str, str | list[str]]]] = [
        (
            "",
            {
                "certificate": "gateway.pem",
                "key": "gateway.key",
                "ca": "ca.pem",
                "ae_titles": [binding.ae_title for binding in enrolled.gateway.ae_titles],
                "spool": "spool",
            },
        ),
        (
            "[central]",
            {
                "dicom_address": enrolled.dicom_address,
                "gateway_address": enrolled.gateway_address,
                "ae_title": enrolled.called_ae_title,
            },
        ),
        ("[listener]", {"listen": hospital.listen}),
    ]
    if hospital.plain_listen:
        tables.append(("[plain_listener]", {"listen": hospital.plain_listen}))
    tables += [("[[modalities]]", {"ae_title": t, "address": a}) for t, a in hospital.modalities]
    # A JSON string or array of strings is one of TOML too.
    lines = [[head, *(f"{k} = {json.dumps(v)}" for k, v in values.items()), ""] for head, values in tables]
    return "\n".join(line for table in lines for line in table).lstrip()


def _make(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise Conflict(f"`{folder}` is not empty")
