"""P1: C-STORE over mutual TLS, durable and indexed, one association, 526 kB instances."""

import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench import peers, studies
from bench.results import Result, at_most, median, spread, times_the_peer
from bench.site import AE_TITLE, Site, running

INSTANCES = int(os.environ.get("BENCH_P1_INSTANCES", "1000"))
RUNS = int(os.environ.get("BENCH_RUNS", "5"))
DUE = {
    ("tuned", "Orthanc"): times_the_peer(2),
    ("as shipped", "Orthanc"): times_the_peer(20),
}
DUE_PROCESSOR = at_most(4)  # seconds per GB


async def measure() -> Sequence[Result]:
    return await beside_peers("P1", _measure)


async def beside_peers(name: str, measured: Callable[[Site], Sequence[Result]]) -> Sequence[Result]:
    """What is measured at a running system; nothing where a peer is not installed."""
    lacking = peers.missing("storescu", "storescp", "Orthanc")
    if lacking:
        print(f"{name} is left out: {', '.join(lacking)} not installed (make debian)")
        return []
    async with running() as site:
        return measured(site)


def _measure(site: Site) -> Sequence[Result]:
    results: list[Result] = []
    port = int(site.endpoints.dicom.rpartition(":")[2])
    ours = peers.Receiver("Readroom", port, "READROOM", pids(site))
    for sender in ("tuned", "as shipped"):
        tuned = sender == "tuned"
        seconds: dict[str, list[float]] = defaultdict(list)
        cpu: dict[str, list[float]] = defaultdict(list)
        with (
            peers.orthanc(site.folder / f"orthanc {sender}", site.gateway, tuned=tuned) as orthanc,
            peers.storescp(site.folder / f"storescp {sender}", site.gateway, tuned=tuned) as storescp,
        ):
            for _ in range(RUNS):
                study = site.folder / "study"
                gigabytes = sum(path.stat().st_size for path in _written(study)) / 1e9
                for receiver in (ours, orthanc, storescp):
                    before = peers.processor_seconds(receiver.pids)
                    took = peers.storescu(receiver, site.gateway, AE_TITLE, study, tuned=tuned)
                    seconds[receiver.name].append(took)
                    cpu[receiver.name].append((peers.processor_seconds(receiver.pids) - before) / gigabytes)
                    print(f"  P1 {sender}: {receiver.name} {took:.2f} s", flush=True)
                shutil.rmtree(study)
        results += _results(sender, seconds, cpu)
    return results


def _written(study: Path) -> Sequence[Path]:
    return studies.write_study(study, INSTANCES, studies.SIDE_526_KB)


def _results(
    sender: str, seconds: Mapping[str, Sequence[float]], cpu: Mapping[str, Sequence[float]]
) -> Sequence[Result]:
    what = f"{INSTANCES} instances of 526 kB, one association, sender {sender}"
    ours = seconds["Readroom"]
    rows = [
        Result(
            id="P1",
            what=f"{what}, against {peer}",
            ours=median(ours),
            unit="s",
            runs=len(ours),
            spread=spread(ours, seconds[peer]),
            peer=median(seconds[peer]),
            peer_name=peer,
            ratio=median(seconds[peer]) / median(ours),
            due=DUE.get((sender, peer)),
        )
        for peer in ("Orthanc", "storescp")
    ]
    ours, theirs = cpu["Readroom"], cpu["Orthanc"]
    processor = Result(
        id="P1",
        what=f"processor seconds of the receiver per GB, sender {sender}",
        ours=median(ours),
        unit="s/GB",
        runs=len(ours),
        spread=spread(ours, theirs),
        peer=median(theirs),
        peer_name="Orthanc",
        ratio=median(theirs) / median(ours),
        due=DUE_PROCESSOR,
    )
    return [*rows, processor]


def pids(site: Site) -> tuple[int, ...]:
    """ingest with its workers, and PostgreSQL's processes of this moment, which do its work."""
    ingest, postgres = site.system.service_pid("ingest"), site.system.servers.postgres.pid
    return (ingest, *_children(ingest), postgres, *_children(postgres))


def _children(pid: int) -> tuple[int, ...]:
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    return tuple(int(child) for thread in threads for child in thread.read_text().split())
