"""The session file: as whom `readroom login` logged in."""

import os
import secrets
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from kernel.errors import Unauthenticated
from plumbing.files import write_private


@dataclass(frozen=True, slots=True)
class Session:
    """A login session.

    Attributes:
        login: the user.
        session: id of the session.
        ends_at: when it ends; None for one that the version before began, which never ends.
    """

    login: str
    session: str
    ends_at: datetime | None = None

    @classmethod
    def begin(cls, login: str, ends_at: datetime | None = None) -> "Session":
        """A new session of `login`."""
        return cls(login, secrets.token_urlsafe(18), ends_at)

    @classmethod
    def read(cls, path: Path, now: datetime) -> "Session":
        """The session in the file; raises Unauthenticated if there is none that counts."""
        try:
            session = msgspec.json.decode(read_private(path), type=cls)
        except FileNotFoundError:
            raise Unauthenticated(
                "nobody is logged in at this terminal: say `readroom login LOGIN` first"
            ) from None
        except msgspec.MsgspecError:
            raise Unauthenticated(f"`{path}` is not a session: say `readroom login LOGIN` again") from None
        if session.ends_at is not None and session.ends_at <= now:
            ended = f"{session.ends_at.astimezone():%Y-%m-%d %H:%M %Z}"
            raise Unauthenticated(
                f"the session of `{session.login}` ended at {ended}: "
                f"say `readroom login {session.login}` again"
            )
        return session

    def write(self, path: Path) -> None:
        """Puts the session into a file that only its owner can read."""
        write_private(path, msgspec.json.encode(self))


def read_private(path: Path) -> bytes:
    """The content of a file that nobody but its owner may reach; raises Unauthenticated if others may."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            raise Unauthenticated(f"`{path}` can be reached by other users: its mode must be 0600")
        return file.read()
