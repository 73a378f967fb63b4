"""`python -m gateway --config FILE` runs a gateway; the other options act on one and end."""

import argparse
import os
import sys
from datetime import date
from pathlib import Path

from gateway import commands, settings
from gateway.main import run
from gateway.studies import Search
from kernel.errors import ReadroomError


def main(arguments: list[str]) -> int:
    """Answers the exit code."""
    parser = argparse.ArgumentParser(prog="python -m gateway", description="The on-premises gateway.")
    parser.add_argument("--config", type=Path, required=True, help="settings file, TOML")
    command = parser.add_mutually_exclusive_group()
    command.add_argument(
        "--status",
        action="store_true",
        help="show listeners, disk, queue, final failures and what was refused, and end",
    )
    command.add_argument(
        "--kept",
        action="store_true",
        help="list the studies that can be exported, with their patients, and end",
    )
    command.add_argument(
        "--export",
        nargs="+",
        metavar="STUDY",
        help="send these kept studies, by Study Instance UID, to Central server once more, and end: "
        "of each instance what came last",
    )
    shown = parser.add_argument_group("of --status and --kept")
    shown.add_argument("--json", action="store_true", help="for a program")
    shown.add_argument(
        "--all", action="store_true", help=f"every row, not only {commands.SHOWN} of each table"
    )
    search = parser.add_argument_group("of --kept")
    search.add_argument("--patient", metavar="NAME", help="words of the name, or their beginnings")
    search.add_argument("--id", metavar="ID", dest="patient_id", help="beginning of the patient ID")
    search.add_argument("--accession", metavar="NUMBER", help="beginning of the accession number")
    search.add_argument("--date", metavar="DAY[..DAY]", type=_days, help="days of the study, as 2026-11-28")
    chosen = parser.parse_args(arguments)
    if (chosen.json or chosen.all) and not (chosen.status or chosen.kept):
        parser.error("`--json` and `--all` go with `--status` or `--kept`")
    if (chosen.patient or chosen.patient_id or chosen.accession or chosen.date) and not chosen.kept:
        parser.error("`--patient`, `--id`, `--accession` and `--date` go with `--kept`")
    if not (chosen.status or chosen.kept or chosen.export):
        return run(chosen.config)
    try:
        told = settings.load(chosen.config)
        how = {"as_json": chosen.json, "everything": chosen.all}
        if chosen.export:
            lines = commands.export(told, chosen.export)
        elif chosen.kept:
            days = chosen.date or (None, None)
            lines = commands.kept(
                told, Search(chosen.patient, chosen.patient_id, chosen.accession, *days), **how
            )
        else:
            lines = commands.status(told, **how)
        for line in lines:
            sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except ReadroomError as error:
        sys.stderr.write(f"gateway: {error.sentence}\n")
        return 1
    except BrokenPipeError:
        # Whoever read our output has gone, as `head` does: there is nobody to tell, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def _days(text: str) -> tuple[date, date]:
    first, _, last = text.partition("..")
    try:
        return date.fromisoformat(first), date.fromisoformat(last or first)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"`{text}` is no day: write 2026-11-28, or 2026-11-01..2026-11-28"
        ) from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
