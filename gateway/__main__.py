"""`python -m gateway --config FILE` runs a gateway, `--status` shows one."""

import argparse
import sys
from pathlib import Path

from gateway import settings, status
from gateway.main import run
from kernel.errors import ReadroomError


def main(arguments: list[str]) -> int:
    """Answers the exit code."""
    parser = argparse.ArgumentParser(prog="python -m gateway", description="The on-premises gateway.")
    parser.add_argument("--config", type=Path, required=True, help="settings file, TOML")
    parser.add_argument("--status", action="store_true", help="show listeners, queue and failures, and end")
    chosen = parser.parse_args(arguments)
    if not chosen.status:
        return run(chosen.config)
    try:
        for line in status.lines(settings.load(chosen.config)):
            sys.stdout.write(f"{line}\n")
    except ReadroomError as error:
        sys.stderr.write(f"gateway: {error.sentence}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
