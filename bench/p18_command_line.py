"""P18: how long somebody at a terminal waits for `--help`, and for a call to a system that runs."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.results import Result, at_most, median, spread
from local.system import LocalSystem

RUNS = int(os.environ.get("BENCH_RUNS", "15"))
HELP_DUE_S = 0.25
CALL_DUE_S = 0.45


async def measure() -> Sequence[Result]:
    with tempfile.TemporaryDirectory(prefix="readroom-bench-") as folder:
        data = Path(folder) / "data"
        system = LocalSystem(data, first_admin="bench", durable=False)
        system.start()
        try:
            _run(data, "login", "bench")
            asked = [_run(data, "--help") for _ in range(RUNS)]
            called = [_run(data, "me") for _ in range(RUNS)]
        finally:
            system.stop()
    return [
        Result(
            id="P18", what="`readroom --help`", ours=median(asked), unit="s", runs=RUNS, spread=spread(asked),
            due=at_most(HELP_DUE_S)),
        Result(
            id="P18", what="`readroom me`, one call", ours=median(called), unit="s", runs=RUNS,
            spread=spread(called), due=at_most(CALL_DUE_S)),
    ]  # fmt: skip


def _run(data: Path, *arguments: str) -> float:
    """Seconds from the command to its end."""
    command = [sys.executable, "-m", "readroom", "--data", str(data), *arguments]
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began
