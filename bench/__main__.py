"""`python -m bench [ID …]`: measures, prints, and writes bench/results.json and bench/README.md.

The exit code is 1 if a figure misses what is due.
"""

import asyncio
import sys

from bench import (
    p1_store,
    p2_small,
    p4_dicomweb,
    p5_memory,
    p6_decision,
    p7_check,
    p8_worklist,
    p9_routing,
    p10_worklist,
    p11_mail,
    p12_start,
    p13_many,
    p14_huge,
    p17_live,
    p18_command_line,
    p19_through_the_web,
    peers,
)
from bench.results import Result, report, save

MEASUREMENTS = {
    "P1": p1_store.measure,
    "P2": p2_small.measure,
    "P4": p4_dicomweb.measure,
    "P5": p5_memory.measure,
    "P6": p6_decision.measure,
    "P7": p7_check.measure,
    "P8": p8_worklist.measure,
    "P9": p9_routing.measure,
    "P10": p10_worklist.measure,
    "P11": p11_mail.measure,
    "P12": p12_start.measure,
    "P13": p13_many.measure,
    "P14": p14_huge.measure,
    "P17": p17_live.measure,
    "P18": p18_command_line.measure,
    "P19": p19_through_the_web.measure,
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
    save(results, peers.versions())
    return report(results)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
