"""Where the command line works: the data directory of a system, and the session of a login."""

from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
DATA = "data"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the command line works.

    Attributes:
        data: data directory of the system on embedded servers.
        session_file: the session that `login` began.
    """

    data: Path
    session_file: Path


def data_folder(here: Path | None = None, checkout: Path = CHECKOUT) -> Path:
    """The data directory where nobody names one: `data` in this folder, else the one that `make up` makes."""
    near = (here or Path()) / DATA
    return near if near.is_dir() or not (checkout / DATA).is_dir() else checkout / DATA
