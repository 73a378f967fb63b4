"""P14: a study of thousands of series arrives, and another facility waits no longer for its own.

One gateway sends a study of 2,000 series, one small image each, with protocol names of their own. Meanwhile
another facility's gateway sends studies of 20 instances of 39 kB, and the time from the last acknowledgement
to the case on the worklist is measured. At the end the huge study must be there, whole.
"""

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench import studies
from bench.p10_worklist import delay_of
from bench.results import Result, at_most, percentile, spread
from bench.sender import store
from bench.site import Site, add_facility, identity, running
from wire.access.v1.access_pb2 import ListCasesRequest

SERIES = int(os.environ.get("BENCH_P14_SERIES", "2000"))
SERIES_PER_S = 60
INSTANCES = 20
DUE_MS = 2000
WHOLE_WITHIN_S = 120


async def measure() -> Sequence[Result]:
    async with running() as site:
        huge = studies.write_study(site.folder / "huge", SERIES, studies.SIDE_1_KB, series=SERIES)
        await add_facility(site.readroom, "Huge", "HUGE", site.folder / "gateway-huge")
        sending = asyncio.create_task(asyncio.to_thread(_send_huge, site, huge))
        delays: list[float] = []
        while not sending.done():
            paths = studies.write_study(site.folder / f"study{len(delays)}", INSTANCES, studies.SIDE_39_KB)
            delays.append(await delay_of(site, paths))
        acknowledged = await sending
        whole = await _whole(site) - acknowledged
    in_ms = [1000 * delay for delay in delays]
    what = f"last acknowledgement to worklist, {len(delays)} studies beside one of {SERIES} series"
    p99 = percentile(in_ms, 0.99)
    result = Result(
        id="P14",
        what=f"{what}, p99",
        ours=p99,
        unit="ms",
        runs=len(delays),
        spread=spread(in_ms),
        due=at_most(DUE_MS),
    )
    median = replace(result, what=f"{what}, p50", ours=percentile(in_ms, 0.5), due=None)
    own = f"last acknowledgement of {SERIES} series to all of them on the worklist"
    return [result, median, Result(id="P14", what=own, ours=whole, unit="s", runs=1, spread="")]


def _send_huge(site: Site, paths: Sequence[Path]) -> float:
    began, sent = time.perf_counter(), 0

    def pace() -> None:
        nonlocal sent
        sent += 1
        time.sleep(max(0.0, began + sent / SERIES_PER_S - time.perf_counter()))

    gateway = identity(site.folder / "gateway-huge", site.endpoints)
    return store(site.endpoints.dicom, gateway, "HUGE", paths, before_each=pace)


async def _whole(site: Site) -> float:
    """When all series of the huge study are on the worklist, as a reading of time.perf_counter()."""
    deadline = time.perf_counter() + WHOLE_WITHIN_S
    while time.perf_counter() < deadline:
        token = ""
        while True:
            page = await site.readroom.access.ListCases(ListCasesRequest(page_size=500, page_token=token))
            if any(case.series_count == SERIES == case.instance_count for case in page.cases):
                return time.perf_counter()
            if not (token := page.next_page_token):
                break
        await asyncio.sleep(0.05)
    raise RuntimeError(
        f"the study of {SERIES} series was not whole on the worklist within {WHOLE_WITHIN_S} s"
    )
