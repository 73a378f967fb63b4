"""P4: WADO-RS of a study of 1,000 CT images, its metadata, one frame of many, and 20 series at once.

Over TLS, beside Orthanc with its DICOMweb plug-in, which is asked with the same requests but without TLS. The
client is the same Python program for both, and counts what it receives. The first request after receiving
reads each instance whole, to compare its digest: it is told apart.
"""

import asyncio
import contextlib
import os
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from ssl import SSLContext

from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, MultiFrameGrayscaleWordSecondaryCaptureImageStorage

from bench import peers, studies
from bench.results import Due, Result, median, spread, times_the_peer
from bench.sender import store
from bench.site import AE_TITLE, LOGIN, Site, running
from plumbing import minting
from plumbing.clocks import clock_of
from plumbing.tls import TLSFiles, client_context
from wire.access.v1.access_pb2 import ListCasesRequest

INSTANCES = int(os.environ.get("BENCH_P4_INSTANCES", "1000"))
RUNS = int(os.environ.get("BENCH_RUNS", "5"))
SERIES = 20
FRAMES, FRAME, FRAME_BYTES = 1000, 900, 40_000
ON_THE_WORKLIST_S = 120.0
PIECE_BYTES = 1 << 20
OBJECTS = 'multipart/related; type="application/dicom"; transfer-syntax=*'
PIXELS = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
JSON = "application/dicom+json"
WHOLE = "the whole study"
DUE: Mapping[str, Due] = {
    WHOLE: times_the_peer(1.2),
    "metadata": times_the_peer(20),
    "metadata, gzip": times_the_peer(20),
}


@dataclass(frozen=True, slots=True)
class Server:
    """Where DICOMweb is.

    Attributes:
        address: `host:port`.
        context: none: without TLS.
        root: before `/studies`, by Study Instance UID.
        headers: of a request, beside what it asks for.
    """

    name: str
    address: str
    context: SSLContext | None
    root: Callable[[str], str]
    headers: Callable[[], Mapping[str, str]]

    def get(self, study: str, path: str, accept: str, encoding: str = "identity") -> int:
        """Asks for what is below a study; answers how many bytes came."""
        host, _, port = self.address.rpartition(":")
        connect = partial(HTTPSConnection, context=self.context) if self.context else HTTPConnection
        with contextlib.closing(connect(host, int(port), timeout=300)) as connection:
            headers = {"Accept": accept, "Accept-Encoding": encoding, **self.headers()}
            connection.request("GET", f"{self.root(study)}/studies/{study}{path}", headers=headers)
            answer = connection.getresponse()
            piece, length = memoryview(bytearray(PIECE_BYTES)), 0
            while count := answer.readinto(piece):
                length += count
            if answer.status != 200:
                raise RuntimeError(f"{self.name} answered {answer.status} to {path or 'the study'}")
            return length


async def measure() -> Sequence[Result]:
    lacking = peers.missing("Orthanc")
    if lacking or not peers.DICOMWEB.exists():
        print("P4 is left out: Orthanc or its DICOMweb plug-in is not installed (make debian)")
        return []
    async with running() as site:
        study = studies.write_study(site.folder / "study", INSTANCES, studies.SIDE_526_KB, series=SERIES)
        frames = [_multi_frame(site.folder / "frames.dcm")]
        with peers.orthanc(site.folder / "orthanc", site.gateway, tuned=True, web=True) as orthanc:
            for paths in (study, frames):
                await asyncio.to_thread(store, site.endpoints.dicom, site.gateway, AE_TITLE, paths)
                await asyncio.to_thread(peers.upload, orthanc, paths)
            cases = await complete(site, {study_of(paths): len(paths) for paths in (study, frames)})
            servers = (ours(site, cases), _theirs(orthanc))
            return await asyncio.to_thread(_measure, servers, study, frames[0])


def _measure(servers: Sequence[Server], paths: Sequence[Path], multi_frame: Path) -> Sequence[Result]:
    study = study_of(paths)
    series = sorted({str(dcmread(path, stop_before_pixels=True).SeriesInstanceUID) for path in paths})
    one = dcmread(multi_frame, stop_before_pixels=True)
    frame = f"/series/{one.SeriesInstanceUID}/instances/{one.SOPInstanceUID}/frames/{FRAME}"

    def side_by_side(server: Server) -> int:
        with ThreadPoolExecutor(SERIES) as pool:
            asked = [pool.submit(server.get, study, f"/series/{uid}/metadata", JSON) for uid in series]
            return sum(each.result() for each in asked)

    asked: Mapping[str, Callable[[Server], int]] = {
        WHOLE: lambda server: server.get(study, "", OBJECTS),
        "metadata": lambda server: server.get(study, "/metadata", JSON),
        "metadata, gzip": lambda server: server.get(study, "/metadata", JSON, "gzip"),
        f"metadata of {SERIES} series at once": side_by_side,
        f"frame {FRAME} of {FRAMES}, JPEG 2000": lambda server: server.get(
            str(one.StudyInstanceUID), frame, PIXELS
        ),
    }
    results: list[Result] = []
    for what, ask in asked.items():
        seconds = timed("P4", what, ask, servers)
        first = what is WHOLE
        results += _results(what, seconds, first=first)
    return results


def timed(
    figure: str, what: str, ask: Callable[[Server], int], servers: Sequence[Server]
) -> Mapping[str, list[float]]:
    """Seconds of each run by server, the servers in turn; the run before the others is among them."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(1 + RUNS):
        for server in servers:
            began = time.perf_counter()
            length = ask(server)
            seconds[server.name].append(time.perf_counter() - began)
            print(
                f"  {figure} {what}: {server.name} {seconds[server.name][-1]:.3f} s, {length:,} bytes",
                flush=True,
            )
    return seconds


def _results(what: str, seconds: Mapping[str, Sequence[float]], *, first: bool) -> Iterator[Result]:
    (_name, ours), (peer, theirs) = seconds.items()
    told = [(what, ours[1:], theirs[1:], DUE.get(what))]
    if first:
        told.append((f"{what}, first request after receiving", ours[:1], theirs[:1], None))
    for line, own, other, due in told:
        yield Result(
            id="P4",
            what=f"{line}: TLS beside plain",
            ours=median(own),
            unit="s",
            runs=len(own),
            spread=spread(own, other),
            peer=median(other),
            peer_name=peer,
            ratio=median(other) / median(own),
            due=due,
        )


def ours(site: Site, cases: Mapping[str, str]) -> Server:
    endpoints = site.endpoints
    context = client_context(
        TLSFiles(endpoints.caller_certificate, endpoints.caller_key, endpoints.service_ca)
    )
    context.check_hostname = False  # the certificate names the service, not this machine
    key, clock = endpoints.issuer_key.read_bytes(), clock_of(endpoints.clock_offset_file)

    def headers() -> Mapping[str, str]:
        token = minting.mint(key, login=LOGIN, session="bench", audience="ingest", now=clock.now())
        return {"Authorization": f"Bearer {token}"}

    return Server("Readroom", endpoints.dicomweb, context, lambda study: f"/cases/{cases[study]}", headers)


def _theirs(orthanc: peers.Receiver) -> Server:
    return Server("Orthanc", f"127.0.0.1:{orthanc.web_port}", None, lambda _: "/dicom-web", dict)


async def complete(site: Site, instances: Mapping[str, int]) -> Mapping[str, str]:
    """The cases by study, once they are complete on the worklist."""
    async with asyncio.timeout(ON_THE_WORKLIST_S):
        while True:
            listed = (await site.readroom.access.ListCases(ListCasesRequest())).cases
            found = {
                each.study_instance_uid: each.case_id
                for each in listed
                if each.instance_count == instances.get(each.study_instance_uid)
            }
            if len(found) == len(instances):
                return found
            await asyncio.sleep(0.1)


def study_of(paths: Sequence[Path]) -> str:
    return str(dcmread(paths[0], stop_before_pixels=True).StudyInstanceUID)


def _multi_frame(path: Path) -> Path:
    """An image of many frames that says to be JPEG 2000; nobody decodes it."""
    image = dcmread(studies.write_study(path.parent / "one", 1, studies.SIDE_1_KB)[0])
    noise = random.Random(4)
    image.file_meta.TransferSyntaxUID = JPEG2000Lossless
    image.SOPClassUID = MultiFrameGrayscaleWordSecondaryCaptureImageStorage
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.Modality, image.NumberOfFrames, image.Rows, image.Columns = "OT", FRAMES, 512, 512
    image.PixelData = encapsulate([noise.randbytes(FRAME_BYTES) for _ in range(FRAMES)])
    image["PixelData"].VR = "OB"
    image["PixelData"].is_undefined_length = True
    image.save_as(path, enforce_file_format=True)
    return path
