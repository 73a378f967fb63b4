"""P5: memory of ingest, with its workers: beside 200 associations, and while one receives 2 GB."""

import asyncio
import os
import threading
from collections.abc import Sequence
from pathlib import Path

from pydicom.filereader import read_file_meta_info

from bench import studies
from bench.results import Result, at_most
from bench.site import AE_TITLE, Site, add_facility, identity, running
from plumbing.dimse.requestor import Requestor
from plumbing.rpc import TLSFiles
from plumbing.tls import client_context

ASSOCIATIONS = int(os.environ.get("BENCH_P5_ASSOCIATIONS", "200"))
BYTES = int(os.environ.get("BENCH_P5_BYTES", str(2 * 10**9)))
OF_ONE_GATEWAY = 50  # below `max_associations_per_gateway`
FREE = 190  # a quarter of `max_associations` is kept for gateways that have none
DUE_MIB = 2  # an association
LOOK_S = 0.05
_META = 144  # PS3.10 7.1: where what (0002,0000) counts begins
_PIXELS = b"\xe0\x7f\x10\x00OW\x00\x00"


async def measure() -> Sequence[Result]:
    async with running() as site:
        pid = site.system.service_pid("ingest")
        gateways = [(AE_TITLE, site.gateway)]
        for number in range(1, _gateway(ASSOCIATIONS - 1) + 1):
            folder = site.folder / f"gateway{number}"
            await add_facility(site.readroom, f"Bench{number}", f"{AE_TITLE}{number}", folder)
            gateways.append((f"{AE_TITLE}{number}", identity(folder, site.endpoints)))
        began = private_mib(pid)
        beside = await asyncio.to_thread(_many, site, gateways, pid)
        large = await asyncio.to_thread(_large, site, pid)
    return [
        Result(
            id="P5",
            what=f"memory an association, {ASSOCIATIONS} that have each stored 39 kB",
            ours=(beside - began) / ASSOCIATIONS,
            unit="MiB",
            runs=1,
            spread="",
            due=at_most(DUE_MIB),
        ),
        Result(
            id="P5",
            what=f"memory of the association that brings one instance of {BYTES / 1e9:g} GB, at most",
            ours=large,
            unit="MiB",
            runs=1,
            spread="",
            due=at_most(DUE_MIB),
        ),
        Result(id="P5", what="memory at start-up, with workers", ours=began, unit="MiB", runs=1, spread=""),
    ]


def _gateway(association: int) -> int:
    """Which gateway has an association."""
    return (
        association // OF_ONE_GATEWAY
        if association < FREE
        else FREE // OF_ONE_GATEWAY + association - FREE + 1
    )


def private_mib(pid: int) -> float:
    """Private memory of a process and of those it started: what no file backs."""
    status = Path(f"/proc/{pid}/status").read_text().split()
    children = [
        int(child)
        for path in Path(f"/proc/{pid}/task").glob("*/children")
        for child in path.read_text().split()
    ]
    return int(status[status.index("RssAnon:") + 1]) / 1024 + sum(map(private_mib, children))


def _many(site: Site, gateways: Sequence[tuple[str, TLSFiles]], pid: int) -> float:
    """Opens the associations, stores an instance in each, and answers the memory while all are open."""
    opened = []
    for number in range(ASSOCIATIONS):
        title, tls = gateways[_gateway(number)]
        (path,) = studies.write_study(site.folder / f"small{number}", 1, studies.SIDE_39_KB)
        opened.append(_stored(site, title, tls, path))
    most = private_mib(pid)
    for association in opened:
        association.release()
    return most


def _large(site: Site, pid: int) -> float:
    """Stores one large instance; how much more memory there was meanwhile, at most."""
    (path,) = studies.write_study(site.folder / "large", 1, studies.SIDE_1_KB)
    content = path.read_bytes()
    pixels = content.rindex(_PIXELS) + len(_PIXELS)
    path.write_bytes(content[:pixels] + (BYTES - BYTES % 2).to_bytes(4, "little"))
    os.truncate(path, pixels + 4 + BYTES - BYTES % 2)
    stored, seen = threading.Event(), [private_mib(pid)]

    def look() -> None:
        while not stored.wait(LOOK_S):
            seen.append(private_mib(pid))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        _stored(site, AE_TITLE, site.gateway, path).release()
    finally:
        stored.set()
        looking.join()
    return max(seen) - seen[0]


def _stored(site: Site, title: str, tls: TLSFiles, path: Path) -> Requestor:
    """An association that has stored a file and is open still."""
    meta = read_file_meta_info(path)
    what = str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID)
    association = Requestor.associate(
        site.endpoints.dicom,
        context=client_context(tls),
        server_name="ingest.readroom",
        calling_ae_title=title,
        called_ae_title="READROOM",
        proposed=[what],
    )
    with path.open("rb") as file:
        file.seek(_META + int(meta.FileMetaInformationGroupLength))
        status, comment = association.store(what[0], str(meta.MediaStorageSOPInstanceUID), what[1], file)
    if status:
        raise RuntimeError(f"an instance was refused: {status:04X} {comment}")
    return association
