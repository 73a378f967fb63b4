"""One measurement, and the table they make."""

import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Due:
    """What is promised: our figure, or its ratio to the peer's, is at most or at least so much."""

    sign: Literal["<=", ">="]
    limit: float
    of: Literal["ours", "ratio"] = "ours"


def at_most(limit: float) -> Due:
    return Due("<=", limit)


def at_least(limit: float) -> Due:
    return Due(">=", limit)


def times_the_peer(limit: float) -> Due:
    return Due(">=", limit, "ratio")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was measured, against whom.

    Attributes:
        id: the promise, as in `P1`.
        what: what was done, with which sender or under which load.
        ours, peer: medians, in `unit`; `peer` is None where only a fixed limit exists.
        ratio: how many times better we are than the peer (above 1 is better).
        due: what is promised of the figure; None where it is reported only.
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
    due: Due | None = None

    @property
    def met(self) -> bool | None:
        """Whether what is due is reached; None if nothing is due."""
        if self.due is None:
            return None
        figure = self.ours if self.due.of == "ours" else self.ratio
        if figure is None:
            return False
        return figure <= self.due.limit if self.due.sign == "<=" else figure >= self.due.limit

    def row(self) -> "Row":
        """The measurement as results.json keeps it."""
        return Row(
            id=self.id,
            what=self.what,
            ours=self.ours,
            unit=self.unit,
            runs=self.runs,
            spread=self.spread,
            peer=self.peer,
            peer_name=self.peer_name,
            ratio=self.ratio,
            goal=self._goal(),
            met=self.met,
        )

    def _goal(self) -> str:
        if self.due is None:
            return "-"
        unit = f" {self.unit}" if self.due.of == "ours" else "x"
        return f"{self.due.sign} {self.due.limit:g}{unit}"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A line of results.json: a result with what is due in words, and whether it is met."""

    id: str
    what: str
    ours: float
    unit: str
    runs: int
    spread: str
    peer: float | None
    peer_name: str
    ratio: float | None
    goal: str
    met: bool | None

    @property
    def verdict(self) -> str:
        return {True: "met", False: "missed", None: "reported"}[self.met]


def report(results: Sequence[Result]) -> int:
    """Prints each figure and whether it is what is due; answers the exit code: 1 if one misses it."""
    for row in (result.row() for result in results):
        ratio = "" if row.ratio is None else f", ratio {row.ratio:.2f}"
        peer = "" if row.peer is None else f"  {row.peer_name} {row.peer:.3g}{ratio}"
        due = "" if row.met is None else f"  due {row.goal}: {row.verdict}"
        print(f"{row.id:4} {row.what}: {row.ours:.3g} {row.unit}{peer}{due}")
    return 1 if any(result.met is False for result in results) else 0


def median(runs: Sequence[float]) -> float:
    return statistics.median(runs)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1))]


def spread(*sides: Sequence[float]) -> str:
    return " / ".join(f"{min(side):.3g}-{max(side):.3g}" for side in sides if side)


def save(results: Sequence[Result], versions: str, folder: Path = FOLDER) -> None:
    """Replaces the rows of the ids measured and writes results.json and the table of README.md."""
    kept = folder / "results.json"
    old = msgspec.json.decode(kept.read_bytes(), type=list[Row]) if kept.exists() else []
    measured = {result.id for result in results}
    rows = [*(row for row in old if row.id not in measured), *(result.row() for result in results)]
    rows.sort(key=lambda row: (int(row.id[1:]), row.what))
    kept.write_bytes(msgspec.json.format(msgspec.json.encode(rows), indent=2) + b"\n")
    (folder / "README.md").write_text(_table(rows, versions))


def _table(rows: Sequence[Row], versions: str) -> str:
    lines = [
        "# Measurements",
        "",
        "Made by `make bench`: medians, both sides in one run on one machine. Peers come from Debian",
        "(`make debian`) or with the extra `bench`. A ratio above 1 says that we are better. `make bench`",
        "fails if a figure misses what is due.",
        "",
        f"Last machine: {platform.system()} {platform.machine()}, {_processors()}; {versions}.",
        "",
        "| id | what | ours | peer | ratio | due | verdict | runs | spread (ours / peer) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        peer = "-" if row.peer is None else f"{row.peer:.3g} {row.unit} ({row.peer_name})"
        ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
        verdict = f"**{row.verdict}**" if row.met is False else row.verdict
        lines.append(
            f"| {row.id} | {row.what} | {row.ours:.3g} {row.unit} | {peer} | {ratio} | {row.goal} "
            f"| {verdict} | {row.runs} | {row.spread} |"
        )
    return "\n".join(lines) + "\n"


def _processors() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else "processors unknown"
