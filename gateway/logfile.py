"""A log file of the gateway that never fills the disk: it is renamed when it is full, and old ones go."""

import os
import threading
from pathlib import Path


class LogFile:
    """`gateway.log`, and before it `gateway.log.1` …, the newest first; nobody else may read them."""

    def __init__(self, path: Path, *, max_bytes: int, kept: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._kept = kept
        self._lock = threading.Lock()
        self._descriptor = self._open()

    def write(self, line: str) -> None:
        """Appends a line; on a full disk it is lost, and the gateway goes on."""
        data = f"{line}\n".encode(errors="replace")
        with self._lock:
            try:
                if os.fstat(self._descriptor).st_size + len(data) > self._max_bytes:
                    self._rotate()
                os.write(self._descriptor, data)
            except OSError:
                return

    def _rotate(self) -> None:
        for number in range(self._kept, 0, -1):
            older = self._numbered(number - 1)
            if older.exists():
                older.replace(self._numbered(number))
        self._path.unlink(missing_ok=True)  # where none is kept
        os.close(self._descriptor)
        self._descriptor = self._open()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
