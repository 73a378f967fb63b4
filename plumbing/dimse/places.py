"""Who may be connected: places for strangers, of whom the oldest gives way, and for peers that are known."""

import threading
from typing import Generic, Protocol, TypeVar

from plumbing.dimse.handler import Limits


class Connection(Protocol):
    """What has a place."""

    @property
    def silent(self) -> bool:
        """Whether not a byte of it has come, and it has had the time."""
        ...


C = TypeVar("C", bound=Connection)


class Places(Generic[C]):
    """The connections of one listener, by how far they have come; used by many threads."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._strangers: dict[C, str] = {}  # address, oldest first
        self._known: dict[C, str] = {}  # peer

    def enter(self, connection: C, address: str) -> C | None:
        """Gives a stranger a place. Answers the one that gives way to it, and has no place any more."""
        limits = self._limits
        with self._lock:
            neighbours = [each for each, theirs in self._strangers.items() if theirs == address]
            if len(neighbours) < limits.handshakes_per_address:
                neighbours = list(self._strangers) if len(self._strangers) >= limits.handshakes else []
            oldest = next((each for each in neighbours if each.silent), neighbours[0] if neighbours else None)
            if oldest is not None:
                del self._strangers[oldest]
            self._strangers[connection] = address
        return oldest

    def settle(self, connection: C, peer: str) -> bool:
        """Gives a stranger that has become known one of the places of peers, if there is one for it."""
        limits = self._limits
        with self._lock:
            own = sum(theirs == peer for theirs in self._known.values())
            free = limits.associations - len(self._known)
            if own >= limits.associations_per_peer or free <= (limits.associations_reserved if own else 0):
                return False
            if self._strangers.pop(connection, None) is None:
                return False  # it has given way meanwhile
            self._known[connection] = peer
        return True

    def leave(self, connection: C) -> None:
        """The connection has ended."""
        with self._lock:
            self._strangers.pop(connection, None)
            self._known.pop(connection, None)

    def all(self) -> list[C]:
        """Every connection that has a place."""
        with self._lock:
            return [*self._strangers, *self._known]
