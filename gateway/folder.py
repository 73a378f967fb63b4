"""The data sets on disk, each in a file named by the SHA-256 of its bytes (SEC-4)."""

import hashlib
import os
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkstemp
from typing import BinaryIO


class Folder:
    """`objects/ab/abcd…` for what is kept, `incoming/` for what is being received."""

    def __init__(self, root: Path) -> None:
        self._incoming = root / "incoming"
        self._objects = root / "objects"
        self._lock = threading.Lock()
        self._being_filed: Counter[str] = Counter()
        for folder in (self._incoming, self._objects):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for byte in range(256):
            (self._objects / f"{byte:02x}").mkdir(mode=0o700, exist_ok=True)
        _sync_folder(self._objects)
        _sync_folder(root)

    def begin(self) -> None:
        """Before anything is received: removes what the process before did not receive to its end."""
        for path in self._incoming.iterdir():
            path.unlink()

    def clean(self, unknown: Callable[[Sequence[str]], Collection[str]]) -> int:
        """Removes what was never acknowledged, while the gateway receives and sends; says how many.

        `unknown` answers those of some digests that have no row. The files are looked through a folder at a
        time: nothing waits for all of them.
        """
        gone = 0
        for folder in sorted(self._objects.iterdir()):
            names = [path.name for path in folder.iterdir()]
            for name in unknown(names) if names else ():
                with self._lock:
                    # Its row may have been committed meanwhile, or be about to.
                    if name not in self._being_filed and unknown([name]):
                        (folder / name).unlink(missing_ok=True)
                        gone += 1
        return gone

    def receive(self) -> "Incoming":
        """Room for one data set."""
        descriptor, path = mkstemp(dir=self._incoming)
        return Incoming(descriptor, Path(path), self._path)

    @contextmanager
    def filing(self, sha256: str) -> Iterator[None]:
        """Hold the file of this digest, from before it has its name until its row is committed."""
        with self._lock:
            self._being_filed[sha256] += 1
        try:
            yield
        finally:
            with self._lock:
                self._being_filed[sha256] -= 1
                if not self._being_filed[sha256]:
                    del self._being_filed[sha256]

    def remove(self, forget: Callable[[], Sequence[str]]) -> int:
        """Remove the files of the digests whose rows `forget` has removed; return how many.

        One that is being filed meanwhile stays: its row is about to be committed.
        """
        with self._lock:
            gone = [self._path(digest) for digest in forget() if digest not in self._being_filed]
            for path in gone:
                path.unlink(missing_ok=True)
        return len(gone)

    def size_bytes(self, sha256: str) -> int:
        """The size of a kept data set; 0 if its file is gone."""
        try:
            return self._path(sha256).stat().st_size
        except FileNotFoundError:
            return 0

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
        self.size_bytes = 0

    @property
    def sha256(self) -> str:
        """Of what was written so far."""
        return self._digest.hexdigest()

    def write(self, chunk: memoryview) -> None:
        """Appends."""
        self._digest.update(chunk)
        self.size_bytes += len(chunk)
        while chunk:
            chunk = chunk[os.write(self._descriptor, chunk) :]

    def keep(self) -> None:
        """Makes it durable under its SHA-256: the file first, then its name."""
        os.fsync(self._descriptor)
        target = self._final(self.sha256)
        self._path.rename(target)
        _sync_folder(target.parent)
        self._close()

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
