"""Where the chain of audit rows is anchored, outside the database (SEC-15)."""

import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import msgspec

from plumbing.audit import Link

_TAIL_BYTES = 1 << 20
"""Of a file that grows for years: some days of one service, or hours of all."""


class Anchor(msgspec.Struct, frozen=True):
    """A place in the chain as it was once: a line of the file."""

    service: str
    number: int
    seal: str
    at: datetime


class AnchorFile:
    """Lines of JSON that are added and never changed. Keep it where the database's keeper cannot write."""

    def __init__(self, path: Path, service: str) -> None:
        self._path = path
        self._service = service

    def add(self, link: Link, at: datetime) -> None:
        """Returns when it is on the disk; raises OSError. A line that was cut off stays as it is."""
        line = msgspec.json.encode(Anchor(self._service, link.number, link.seal.hex(), at)) + b"\n"
        made = not self._path.exists()
        with os.fdopen(os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600), "r+b", 0) as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                line = line if file.read(1) == b"\n" else b"\n" + line
            file.write(line)
            os.fsync(file.fileno())
        if made:
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def last(self) -> Link | None:
        """The highest place of this service among the last lines; raises OSError."""
        size = self.size()
        for begin in dict.fromkeys((max(0, size - _TAIL_BYTES), 0)):
            links = [Link(each.number, bytes.fromhex(each.seal)) for each in self.read(size, begin)]
            if links:
                return max(links, key=lambda link: link.number)
        return None

    def size(self) -> int:
        """How many bytes it has now."""
        return self._path.stat().st_size if self._path.exists() else 0

    def read(self, size: int, begin: int = 0) -> Iterator[Anchor]:
        """Those of this service from byte `begin` to byte `size`, without a line that is cut off."""
        if not size:
            return
        with self._path.open("rb") as file:
            file.seek(begin)
            while (left := size - file.tell()) > 0 and (line := file.readline(left)):
                with suppress(msgspec.MsgspecError):
                    anchor = msgspec.json.decode(line, type=Anchor)
                    if anchor.service == self._service:
                        yield anchor
