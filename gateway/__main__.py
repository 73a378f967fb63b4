"""`python -m gateway --config FILE` runs a gateway; the other options act on one and end."""

import argparse
import sys
from pathlib import Path

from gateway import commands, settings
from gateway.main import run
from kernel.errors import ReadroomError


def main(arguments: list[str]) -> int:
    """Answers the exit code."""
    parser = argparse.ArgumentParser(prog="python -m gateway", description="The on-premises gateway.")
    parser.add_argument("--config", type=Path, required=True, help="settings file, TOML")
    command = parser.add_mutually_exclusive_group()
    command.add_argument("--status", action="store_true", help="show listeners, queue and failures, and end")
    command.add_argument("--kept", action="store_true", help="list the studies that can be exported, and end")
    command.add_argument(
        "--export",
        nargs="+",
        metavar="STUDY",
        help="send these kept studies, by Study Instance UID, to Central server once more, and end: "
        "of each instance what came last",
    )
    chosen = parser.parse_args(arguments)
    if not (chosen.status or chosen.kept or chosen.export):
        return run(chosen.config)
    try:
        told = settings.load(chosen.config)
        if chosen.export:
            lines = commands.export(told, chosen.export)
        else:
            lines = commands.kept(told) if chosen.kept else commands.status(told)
        for line in lines:
            sys.stdout.write(f"{line}\n")
    except ReadroomError as error:
        sys.stderr.write(f"gateway: {error.sentence}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
