"""Who changed a thing last, and what is said to somebody who saves it from an older version (A68)."""

from dataclasses import dataclass
from datetime import UTC, datetime

from kernel.errors import Conflict


@dataclass(frozen=True, slots=True)
class Change:
    """The last change of something that several people may edit.

    Attributes:
        version: what the change made of it; 0 where it does not exist.
        by: the login of who made it; empty where nobody knows.
        at: when; None where nobody knows.
    """

    version: int
    by: str = ""
    at: datetime | None = None


NEVER_SAVED = Change(0)


def must_be_current(what: str, named: int, last: Change) -> None:
    """Raise Conflict unless a save names the version that is stored: 0 for what does not exist yet.

    `what` begins the sentence and names no patient: "the user `jane`".
    """
    if named == last.version:
        return
    changed = "removed" if last.version == 0 else "changed"
    who = f" by `{last.by}`" if last.by else ""
    when = f" on {last.at.astimezone(UTC):%Y-%m-%d at %H:%M:%S} UTC" if last.at else ""
    if named == 0:
        said = f"{what} exists already and was last {changed}{who}{when}: load it and name its version"
    else:
        said = f"{what} was {changed}{who}{when} after you loaded it: load it again and repeat your change"
    raise Conflict(said, field="version")
