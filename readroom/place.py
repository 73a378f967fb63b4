"""Where the command line works: the data directory of a system, and the session of a login."""

import os
from dataclasses import dataclass
from pathlib import Path

from kernel.errors import Invalid
from readroom.shortids import is_of_ids

CHECKOUT = Path(__file__).parents[1]
DATA = "data"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the command line works.

    Attributes:
        data: data directory of the system on embedded servers.
        session_file: the session that `login` begins here: of this terminal, or the file that somebody named.
        shared_file: the session that counts where a terminal has none of its own; None: none does.
    """

    data: Path
    session_file: Path
    shared_file: Path | None = None

    @property
    def current_file(self) -> Path:
        """The session that counts now."""
        shared = self.shared_file
        return shared if shared and shared.exists() and not self.session_file.exists() else self.session_file


def place(data: Path | None, session_file: Path | None) -> Place:
    """Where a command works that was told these, or neither; raises Invalid for a file that is no session."""
    if session_file is not None and is_of_ids(session_file):
        raise Invalid(f"`{session_file.name}` is the name of a list of ids: give the session another name")
    data = data or data_folder()
    if session_file is not None:
        return Place(data, session_file)
    return Place(data, data / "sessions" / f"{terminal()}.json", data / "session.json")


def data_folder(here: Path | None = None, checkout: Path = CHECKOUT) -> Path:
    """The data directory where nobody names one: `data` in this folder, else the one that `make up` makes."""
    near = (here or Path()) / DATA
    return near if near.is_dir() or not (checkout / DATA).is_dir() else checkout / DATA


def terminal() -> str:
    """Names the terminal that a command runs in: the process that leads its session, and when that began.

    The number alone would name another terminal later.
    """
    leader = os.getsid(0)
    try:
        stat = Path(f"/proc/{leader}/stat").read_text()
    except OSError:  # another system than Linux, or a leader outside of this container
        return str(leader)
    # A program's name stands in parentheses and may hold anything; field 22 is the start (proc_pid_stat(5)).
    return f"{leader}-{stat.rpartition(')')[2].split()[19]}"
