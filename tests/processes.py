"""Looking at the processes of this machine."""

import os
from pathlib import Path


def processes_of(*places: Path) -> set[int]:
    """The processes, other than this one, that work in one of the places or were told its path."""
    told = [str(place).encode() for place in places]
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            known = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            known += os.fsencode((entry / "cwd").readlink())
        except OSError:  # it ended, or it is another user's
            continue
        if state not in "ZX" and any(path in known for path in told):
            found.add(int(entry.name))
    return found - {os.getpid()}
