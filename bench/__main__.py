"""`python -m bench [ID …]`: measures, prints, and writes bench/results.json and bench/README.md."""

import asyncio
import sys

from bench import p1_store, p7_check, p10_worklist, p11_mail, p12_start, p14_huge, peers
from bench.results import Result, save

MEASUREMENTS = {
    "P1": p1_store.measure,
    "P7": p7_check.measure,
    "P10": p10_worklist.measure,
    "P11": p11_mail.measure,
    "P12": p12_start.measure,
    "P14": p14_huge.measure,
}


def main(wanted: list[str]) -> int:
    unknown = [name for name in wanted if name not in MEASUREMENTS]
    if unknown:
        print(f"no measurement {unknown[0]}: there are {', '.join(MEASUREMENTS)}", file=sys.stderr)
        return 2
    results: list[Result] = []
    for name in wanted or MEASUREMENTS:
        print(f"{name} ...", flush=True)
        results += asyncio.run(MEASUREMENTS[name]())
    for result in results:
        peer = f"  {result.peer_name} {result.peer:.3g}, ratio {result.ratio:.2f}" if result.peer else ""
        print(f"{result.id:4} {result.what}: {result.ours:.3g} {result.unit}{peer}  (due {result.goal})")
    save(results, peers.versions())
    return 1 if any(result.met is False for result in results) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
