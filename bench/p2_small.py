"""P2: C-STORE over mutual TLS, durable and indexed, 39 kB instances: one association, and four at once."""

import os
import shutil
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench import peers, studies
from bench.p1_store import RUNS, beside_peers, pids
from bench.results import Due, Result, median, spread, times_the_peer
from bench.site import AE_TITLE, Site

INSTANCES = int(os.environ.get("BENCH_P2_INSTANCES", "2000"))
FOUR = 4
DUE = {1: times_the_peer(1.5), FOUR: times_the_peer(1.2)}
DUE_FOUR_TO_ONE = times_the_peer(1.5)


async def measure() -> Sequence[Result]:
    return await beside_peers("P2", _measure)


def _measure(site: Site) -> Sequence[Result]:
    port = int(site.endpoints.dicom.rpartition(":")[2])
    ours = peers.Receiver("Readroom", port, "READROOM", pids(site))
    seconds: dict[tuple[str, int], list[float]] = defaultdict(list)
    with (
        peers.orthanc(site.folder / "orthanc", site.gateway, tuned=True) as orthanc,
        peers.storescp(site.folder / "storescp", site.gateway, tuned=True) as storescp,
    ):
        for _ in range(RUNS):
            for at_once in (1, FOUR):
                folders = [site.folder / f"study{number}" for number in range(at_once)]
                for folder in folders:
                    studies.write_study(folder, INSTANCES // at_once, studies.SIDE_39_KB)
                for receiver in (ours, orthanc, storescp):
                    took = _send(receiver, site, folders)
                    seconds[receiver.name, at_once].append(took)
                    print(f"  P2 {at_once} at once: {receiver.name} {took:.2f} s", flush=True)
                for folder in folders:
                    shutil.rmtree(folder)
    return _results(seconds)


def _send(receiver: peers.Receiver, site: Site, folders: Sequence[Path]) -> float:
    """Sends each folder in an association of its own, all at once; returns the seconds it took."""

    def send(folder: Path) -> None:
        peers.storescu(receiver, site.gateway, AE_TITLE, folder, tuned=True)

    began = time.perf_counter()
    with ThreadPoolExecutor(len(folders)) as pool:
        list(pool.map(send, folders))
    return time.perf_counter() - began


def _results(seconds: Mapping[tuple[str, int], Sequence[float]]) -> Sequence[Result]:
    what = f"{INSTANCES} instances of 39 kB"

    def result(at_once: int, peer_name: str, peer: Sequence[float], due: Due | None) -> Result:
        ours = seconds["Readroom", at_once]
        return Result(
            id="P2",
            what=f"{what}, {'one association' if at_once == 1 else 'four at once'}, against {peer_name}",
            ours=median(ours),
            unit="s",
            runs=len(ours),
            spread=spread(ours, peer),
            peer=median(peer),
            peer_name=peer_name,
            ratio=median(peer) / median(ours),
            due=due,
        )

    return [
        *(
            result(at_once, peer, seconds[peer, at_once], DUE[at_once] if peer == "Orthanc" else None)
            for at_once in (1, FOUR)
            for peer in ("Orthanc", "storescp")
        ),
        result(FOUR, "Readroom with one association", seconds["Readroom", 1], DUE_FOUR_TO_ONE),
    ]
