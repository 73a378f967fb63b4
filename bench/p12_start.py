"""P12: the whole system ready, on a machine that has the packages: the first start and later ones."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.results import Result, at_most, median, spread

RUNS = int(os.environ.get("BENCH_RUNS", "5"))
DUE_S = 10.0


async def measure() -> Sequence[Result]:
    first, later = [], []
    for _ in range(RUNS):
        with tempfile.TemporaryDirectory(prefix="readroom-bench-") as folder:
            first.append(_start(Path(folder)))
            later.append(_start(Path(folder)))
    return [_result("first start, databases made", first), _result("later start", later)]


def _result(what: str, runs: Sequence[float]) -> Result:
    took = median(runs)
    return Result(
        id="P12", what=what, ours=took, unit="s", runs=len(runs), spread=spread(runs),
        due=at_most(DUE_S))  # fmt: skip


def _start(data: Path) -> float:
    """Seconds from the command to its word that everything is ready."""
    command = [sys.executable, "-m", "local", "--data", str(data), "--first-admin", "bench", "--ports", "any"]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "is ready" in line:
                return time.perf_counter() - began
        raise RuntimeError(f"the system ended with {process.wait()} instead of becoming ready")
    finally:
        process.terminate()
        process.wait(30)
