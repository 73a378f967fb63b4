"""One measurement, and the table they make."""

import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

RESULTS = Path(__file__).parent / "results.json"
TABLE = Path(__file__).parent / "README.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was measured, against whom.

    Attributes:
        id: the promise, as in `P1`.
        what: what was done, with which sender or under which load.
        ours, peer: medians, in `unit`; `peer` is None where only a fixed goal exists.
        ratio: how many times better we are than the peer (above 1 is better), or than the goal.
        goal: what is due, in words.
        met: whether it is; None where the figure is reported only.
        runs: number of runs behind each median.
        spread: lowest and highest run, ours then peer's.
    """

    id: str
    what: str
    ours: float
    unit: str
    runs: int
    spread: str
    peer: float | None = None
    peer_name: str = ""
    ratio: float | None = None
    goal: str = "-"
    met: bool | None = None


def median(runs: Sequence[float]) -> float:
    return statistics.median(runs)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1))]


def spread(*sides: Sequence[float]) -> str:
    return " / ".join(f"{min(side):.3g}-{max(side):.3g}" for side in sides if side)


def save(results: Sequence[Result], versions: str) -> None:
    """Replaces the rows of the ids measured and writes results.json and the table of README.md."""
    old = msgspec.json.decode(RESULTS.read_bytes(), type=list[Result]) if RESULTS.exists() else []
    measured = {result.id for result in results}
    rows = [*(row for row in old if row.id not in measured), *results]
    rows.sort(key=lambda row: (int(row.id[1:]), row.what))
    RESULTS.write_bytes(msgspec.json.format(msgspec.json.encode(rows), indent=2) + b"\n")
    TABLE.write_text(_table(rows, versions))


def _table(rows: Sequence[Result], versions: str) -> str:
    lines = [
        "# Measurements",
        "",
        "Made by `make bench`: medians, both sides in one run on one machine. Peers come from Debian",
        "(`make debian`). A ratio above 1 says that we are better.",
        "",
        f"Last machine: {platform.system()} {platform.machine()}, {_processors()}; {versions}.",
        "",
        "| id | what | ours | peer | ratio | due | met | runs | spread (ours / peer) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        peer = "-" if row.peer is None else f"{row.peer:.3g} {row.unit} ({row.peer_name})"
        ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
        met = {True: "yes", False: "**no**", None: "reported"}[row.met]
        lines.append(
            f"| {row.id} | {row.what} | {row.ours:.3g} {row.unit} | {peer} | {ratio} | {row.goal} | {met} "
            f"| {row.runs} | {row.spread} |"
        )
    return "\n".join(lines) + "\n"


def _processors() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else "processors unknown"
