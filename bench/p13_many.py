"""P13: a hospital's day of X-rays: many studies of one image, through a gateway to the worklist.

The modality sends them in one association. The time runs from its first byte until the worklist counts every
study.
"""

import asyncio
import os
import socket
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from bench import studies
from bench.results import Result, at_least, median, spread
from bench.sender import store
from bench.site import AE_TITLE, Site, running
from local.processes import until
from local.system import ROOT
from plumbing.authority import CertificateAuthority
from plumbing.files import write_private
from plumbing.tls import TLSFiles
from wire.access.v1.access_pb2 import CountCasesRequest

STUDIES = int(os.environ.get("BENCH_P13_STUDIES", "400"))
ROUNDS = int(os.environ.get("BENCH_P13_ROUNDS", "3"))
DUE_A_SECOND = 40
SERVER_NAME = "gateway.bench"
WITHIN_S = 180
ASK_EVERY_S = 0.1
"""Each count of the worklist takes as much of access and PostgreSQL as part of a study does."""


async def measure() -> Sequence[Result]:
    async with running() as site:
        address, modality = _gateway(site)
        taken: list[float] = []
        rates: list[float] = []
        for number in range(ROUNDS):
            paths = [
                path
                for each in range(STUDIES)
                for path in studies.write_study(
                    site.folder / f"day{number}" / str(each), 1, studies.SIDE_39_KB
                )
            ]
            before = await _cases(site)
            began = time.perf_counter()
            acknowledged = await asyncio.to_thread(
                store, address, modality, "XRAY", paths, called_ae_title=AE_TITLE, server_name=SERVER_NAME
            )
            while await _cases(site) < before + STUDIES:
                if time.perf_counter() - began > WITHIN_S:
                    raise RuntimeError(f"the worklist does not have all studies after {WITHIN_S} s")
                await asyncio.sleep(ASK_EVERY_S)
            taken.append(acknowledged - began)
            rates.append(STUDIES / (time.perf_counter() - began))
    what = f"{STUDIES} studies of one image of 39 kB, modality to gateway"
    return [
        Result(
            id="P13",
            what=f"{what} to worklist",
            ours=median(rates),
            unit="studies/s",
            runs=ROUNDS,
            spread=spread(rates),
            due=at_least(DUE_A_SECOND),
        ),
        Result(id="P13", what=what, ours=median(taken), unit="s", runs=ROUNDS, spread=spread(taken)),
    ]


async def _cases(site: Site) -> int:
    counted = await site.readroom.access.CountCases(CountCasesRequest())
    return counted.count


def _gateway(site: Site) -> tuple[str, TLSFiles]:
    """Starts the enrolled gateway; where it listens, and the identity of a modality."""
    folder, port, now = site.folder / "gateway", _free_port(), datetime.now(UTC)
    hospital = CertificateAuthority.create("hospital", now)
    (folder / "hospital.pem").write_bytes(hospital.certificate_pem)
    for name, dns_names in (("listener", [SERVER_NAME]), ("modality", [])):
        certificate, key = hospital.issue(f"urn:{name}", dns_names, now)
        (folder / f"{name}.pem").write_bytes(certificate)
        write_private(folder / f"{name}.key", key)
    configuration = folder / "gateway.toml"
    told = configuration.read_text().partition("[listener]")[0]
    configuration.write_text(
        f'{told}[listener]\nlisten = "127.0.0.1:{port}"\ncertificate = "listener.pem"\n'
        'key = "listener.key"\nca = "hospital.pem"\n'
    )
    command = [sys.executable, "-m", "gateway", "--config", str(configuration)]
    process = site.system.servers.processes.spawn(
        "gateway-bench", command, environment=os.environ, folder=ROOT
    )
    if not until(lambda: process.exit_code is not None or _listens(port), 15) or not _listens(port):
        raise RuntimeError(f"the gateway does not start: {process.last_words()}")
    return f"127.0.0.1:{port}", TLSFiles(
        folder / "modality.pem", folder / "modality.key", folder / "hospital.pem"
    )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0
