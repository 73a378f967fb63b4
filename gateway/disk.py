"""The disk under the spool: what receiving may fill, and a reserve in which forwarding goes on.

Forwarding writes a little for each instance. On a disk without room it would stop, and the gateway could
never give away what fills it. So a file of the reserve's size lies in the spool, and is given up when
forwarding finds no room (`spend`). Receiving goes on once the file is whole again (`tend`).
"""

import errno
import os
import threading
from pathlib import Path

from plumbing import log

MARGIN_BYTES = 1 << 20
"""What receiving leaves beside the reserve, for rows and the file system's own books."""

_log = log.get()


class Disk:
    """The file system that holds the spool. Every process of a gateway may have one at once."""

    def __init__(self, spool: Path, *, reserve_bytes: int) -> None:
        self._spool = spool
        self._file = spool / "reserve"
        self._reserve_bytes = reserve_bytes
        self._lock = threading.Lock()
        self._told_full = False

    @property
    def path(self) -> Path:
        """The folder by which a person knows the disk."""
        return self._spool

    @property
    def total_bytes(self) -> int:
        disk = os.statvfs(self._spool)
        return disk.f_blocks * disk.f_frsize

    @property
    def free_bytes(self) -> int:
        """What a process without privileges may still write; the reserve is not part of it."""
        disk = os.statvfs(self._spool)
        return disk.f_bavail * disk.f_frsize

    @property
    def held_bytes(self) -> int:
        """How much of the reserve lies there now."""
        try:
            return min(self._file.stat().st_size, self._reserve_bytes)
        except FileNotFoundError:
            return 0

    @property
    def has_room(self) -> bool:
        """Whether receiving may go on."""
        return self.held_bytes == self._reserve_bytes and self.free_bytes > MARGIN_BYTES

    @property
    def lacking_bytes(self) -> int:
        """What must become free before receiving may go on; 0 while it may."""
        if self.has_room:
            return 0
        return max(1, self._reserve_bytes - self.held_bytes + 2 * MARGIN_BYTES - self.free_bytes)

    def must_have_room(self) -> None:
        """Raise OSError (ENOSPC) unless receiving may go on."""
        if not self.has_room:
            raise OSError(errno.ENOSPC, f"the disk of `{self._spool}` is full")

    def spend(self) -> bool:
        """Give the reserve up; answer whether that freed anything."""
        with self._lock:
            held = self.held_bytes
            if held:
                os.truncate(self._file, 0)
                _log.error("forwarding uses the reserve", disk=str(self._spool), bytes=held)
            return held > 0

    def tend(self) -> None:
        """Make the reserve whole as far as there is room, and tell once when the disk is full or has room."""
        with self._lock:
            missing = self._reserve_bytes - self.held_bytes
            if missing > 0 and self.free_bytes > missing + MARGIN_BYTES:
                self._allocate()
            is_full = not self.has_room
            if is_full != self._told_full:
                self._told_full = is_full
                tell = _log.error if is_full else _log.info
                tell(
                    "the disk is full: modalities are answered A700 until it has room"
                    if is_full
                    else "the disk has room again",
                    disk=str(self._spool),
                    free_bytes=self.free_bytes,
                    total_bytes=self.total_bytes,
                )

    def _allocate(self) -> None:
        descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self._reserve_bytes)
        except OSError as error:
            os.ftruncate(descriptor, 0)
            _log.warning("the reserve cannot be made", disk=str(self._spool), cause=error.strerror)
        finally:
            os.close(descriptor)
