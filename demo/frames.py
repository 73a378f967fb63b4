"""What a viewer does: it asks DICOMweb for a frame, as the web asks for a user."""

import asyncio
from http.client import HTTPSConnection

import pydicom

from demo.cast import Person
from demo.world import World
from plumbing import minting
from plumbing.tls import TLSFiles, client_context
from wire.access.v1.access_pb2 import Case

_FRAME = "application/octet-stream; transfer-syntax=*"


async def look_at_a_frame(world: World, case: Case, site: str, person: Person, stranger: Person) -> None:
    """BEY-18: a frame is what the modality sent, and whoever does not see the case gets nothing."""
    path = min(world.on_disk[site])
    sent = await asyncio.to_thread(pydicom.dcmread, path)
    frame = (
        f"/cases/{case.case_id}/studies/{sent.StudyInstanceUID}/series/{sent.SeriesInstanceUID}"
        f"/instances/{sent.SOPInstanceUID}/frames/1"
    )
    status, pixels = await asyncio.to_thread(_ask, world, person.login, frame)
    world.stage.check(
        status == 200 and pixels == sent.PixelData,
        f"{person.name} looks at a frame by DICOMweb: the {len(pixels):,} bytes that the modality sent",
    )
    status, _ = await asyncio.to_thread(_ask, world, stranger.login, frame)
    world.stage.check(status == 404, f"{stranger.name} asks for it too: there is nothing")


def _ask(world: World, login: str, path: str) -> tuple[int, bytes]:
    endpoints = world.endpoints
    host, _, port = endpoints.dicomweb.rpartition(":")
    context = client_context(
        TLSFiles(endpoints.caller_certificate, endpoints.caller_key, endpoints.service_ca)
    )
    context.check_hostname = False  # the certificate names the service, not this machine
    token = minting.mint(
        endpoints.issuer_key.read_bytes(),
        login=login,
        session="viewer",
        audience="ingest",
        now=world.now(),
    )
    connection = HTTPSConnection(host, int(port), context=context, timeout=10)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}", "Accept": _FRAME})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
