"""The session file: as whom `readroom login` logged in."""

import os
import secrets
from dataclasses import dataclass
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
    """

    login: str
    session: str

    @classmethod
    def begin(cls, login: str) -> "Session":
        """A new session of `login`."""
        return cls(login, secrets.token_urlsafe(18))

    @classmethod
    def read(cls, path: Path) -> "Session":
        """The session in the file; raises Unauthenticated if there is none that can be trusted."""
        try:
            return msgspec.json.decode(read_private(path), type=cls)
        except FileNotFoundError:
            raise Unauthenticated("nobody is logged in: say `readroom login LOGIN` first") from None
        except msgspec.MsgspecError:
            raise Unauthenticated(f"`{path}` is not a session: say `readroom login LOGIN` again") from None

    def write(self, path: Path) -> None:
        """Puts the session into a file that only its owner can read."""
        write_private(path, msgspec.json.encode(self))


def read_private(path: Path) -> bytes:
    """The content of a file that nobody but its owner may reach; raises Unauthenticated if others may."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            raise Unauthenticated(f"`{path}` can be reached by other users: its mode must be 0600")
        return file.read()
