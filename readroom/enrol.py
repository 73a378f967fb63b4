"""Enrols a gateway: its key is made here and stays here; what comes back makes a folder it can run from."""

from collections.abc import Mapping
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from kernel.errors import Conflict
from plumbing.processes import write_private
from readroom.client import Readroom
from wire.ingest.v1.ingest_pb2 import AETitleBinding, EnrolGatewayRequest, EnrolGatewayResponse, Gateway

CONFIGURATION = "gateway.toml"


async def enrol_gateway(
    readroom: Readroom, name: str, facility_ids: Mapping[str, str], folder: Path
) -> Gateway:
    """Enrols a gateway and writes its folder: key, certificate, CA and `gateway.toml`.

    Args:
        readroom: acts for somebody with `gateway.admin`.
        name: display name.
        facility_ids: the receiving facility of each calling AE title.
        folder: is made; Conflict if it holds anything already.
    """
    _make(folder)
    key = ec.generate_private_key(ec.SECP256R1())
    enrolled = await readroom.ingest.EnrolGateway(
        EnrolGatewayRequest(
            name=name,
            ae_titles=[AETitleBinding(ae_title=t, facility_id=f) for t, f in facility_ids.items()],
            certificate_request_pem=_request(key),
        )
    )
    _write(folder, key, enrolled)
    return enrolled.gateway


def _request(key: ec.EllipticCurvePrivateKey) -> str:
    # Only the key counts: the one who signs gives the names.
    builder = x509.CertificateSigningRequestBuilder(subject_name=x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def _make(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise Conflict(f"`{folder}` is not empty")


def _write(folder: Path, key: ec.EllipticCurvePrivateKey, enrolled: EnrolGatewayResponse) -> None:
    write_private(
        folder / "gateway.key", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
