"""The data sets on disk, each in a file named by the SHA-256 of its bytes (SEC-4)."""

import hashlib
import os
from collections.abc import Callable, Collection
from pathlib import Path
from tempfile import mkstemp
from typing import BinaryIO


class Folder:
    """`objects/ab/abcd…` for what is kept, `incoming/` for what is being received."""

    def __init__(self, root: Path) -> None:
        self._incoming = root / "incoming"
        self._objects = root / "objects"
        for folder in (self._incoming, self._objects):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for byte in range(256):
            (self._objects / f"{byte:02x}").mkdir(mode=0o700, exist_ok=True)
        _sync_folder(self._objects)
        _sync_folder(root)

    def clean(self, known: Collection[str]) -> int:
        """After a restart: removes what was not received to its end or never acknowledged. Says how many."""
        kept = set(known)
        gone = [*self._incoming.iterdir()]
        gone += [path for path in self._objects.glob("??/*") if path.name not in kept]
        for path in gone:
            path.unlink()
        return len(gone)

    def receive(self) -> "Incoming":
        """Room for one data set."""
        descriptor, path = mkstemp(dir=self._incoming)
        return Incoming(descriptor, Path(path), self._path)

    def open(self, sha256: str) -> BinaryIO:
        """A kept data set."""
        return self._path(sha256).open("rb", buffering=0)

    def _path(self, sha256: str) -> Path:
        return self._objects / sha256[:2] / sha256


class Incoming:
    """A data set on its way to the disk. Its methods raise OSError; `discard` always follows an error."""

    def __init__(self, descriptor: int, path: Path, final: Callable[[str], Path]) -> None:
        self._descriptor = descriptor
        self._path = path
        self._final = final
        self._digest = hashlib.sha256()

    def write(self, chunk: memoryview) -> None:
        """Appends."""
        self._digest.update(chunk)
        while chunk:
            chunk = chunk[os.write(self._descriptor, chunk) :]

    def keep(self) -> str:
        """Makes it durable under its SHA-256, which is answered: the file first, then its name."""
        os.fsync(self._descriptor)
        sha256 = self._digest.hexdigest()
        target = self._final(sha256)
        self._path.rename(target)
        _sync_folder(target.parent)
        self._close()
        return sha256

    def discard(self) -> None:
        """Leaves nothing."""
        self._path.unlink(missing_ok=True)
        self._close()

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
