"""P10: from the last acknowledgement to the case on the worklist with all its instances counted.

The sender releases after its last instance. Meanwhile another association stores instances of 39 kB at a
quarter of the rate that one association reaches alone, which is measured first.
"""

import asyncio
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydicom import dcmread

from bench import studies
from bench.results import Result, at_most, percentile, spread
from bench.sender import store
from bench.site import AE_TITLE, Site, running
from wire.access.v1.access_pb2 import ListCasesRequest

STUDIES = int(os.environ.get("BENCH_P10_STUDIES", "100"))
INSTANCES = 20
DUE_MS = 150


async def measure() -> Sequence[Result]:
    async with running() as site:
        warm = studies.write_study(site.folder / "rate", 300, studies.SIDE_39_KB)
        began = time.perf_counter()
        rate = len(warm) / (await _send(site, warm) - began)
        load = studies.write_study(site.folder / "load", 2000, studies.SIDE_39_KB)
        stopping = threading.Event()
        loading = asyncio.create_task(asyncio.to_thread(_load, site, load, rate / 4, stopping))
        delays = []
        try:
            for number in range(STUDIES):
                paths = studies.write_study(site.folder / f"study{number}", INSTANCES, studies.SIDE_39_KB)
                delays.append(await delay_of(site, paths))
                if loading.done():
                    loading.result()
                    raise RuntimeError("the load ended too early")
        finally:
            stopping.set()
            await loading
    what = f"last acknowledgement to worklist, {STUDIES} studies of {INSTANCES}, load {rate / 4:.0f}/s"
    in_ms = [1000 * delay for delay in delays]
    p50, p99 = percentile(in_ms, 0.5), percentile(in_ms, 0.99)
    median = Result(id="P10", what=f"{what}, p50", ours=p50, unit="ms", runs=STUDIES, spread=spread(in_ms))
    return [replace(median, what=f"{what}, p99", ours=p99, due=at_most(DUE_MS)), median]


async def delay_of(site: Site, paths: Sequence[Path]) -> float:
    """Seconds from the last acknowledgement of a study to its case, with all instances, on the worklist."""
    study_instance_uid = dcmread(paths[0], stop_before_pixels=True).StudyInstanceUID
    acknowledged = await _send(site, paths)
    deadline = time.perf_counter() + 30
    while time.perf_counter() < deadline:
        listed = await site.readroom.access.ListCases(ListCasesRequest(page_size=5))
        seen = time.perf_counter()
        for case in listed.cases:
            if case.study_instance_uid == study_instance_uid and case.instance_count == len(paths):
                return seen - acknowledged
    raise RuntimeError("the case did not come to the worklist within 30 s")


async def _send(site: Site, paths: Sequence[Path]) -> float:
    return await asyncio.to_thread(store, site.endpoints.dicom, site.gateway, AE_TITLE, paths)


class _Enough(Exception):
    """The load is no longer needed."""


def _load(site: Site, paths: Sequence[Path], rate: float, stopping: threading.Event) -> None:
    """Stores the same instances again and again, each in its turn, until told to stop.

    A repeated instance is received, digested and looked up like a new one.
    """
    due = time.perf_counter()

    def pace() -> None:
        nonlocal due
        if stopping.is_set():
            raise _Enough
        due += 1 / rate
        time.sleep(max(0.0, due - time.perf_counter()))

    try:
        while True:
            store(site.endpoints.dicom, site.gateway, AE_TITLE, paths, before_each=pace)
    except _Enough:
        return
