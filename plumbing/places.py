"""Who may be connected: places for strangers, of whom the oldest gives way, and for peers that are known."""

import threading
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


@dataclass(frozen=True, slots=True)
class Room:
    """How many connections one listener has places for (SEC-3, SEC-5).

    A peer is a certificate; on a plain listener, and where none is asked for, a remote address.

    Attributes:
        handshakes: connections whose peer is not known yet. A newcomer is never refused: beyond the limit
            the oldest silent one is dropped for it.
        handshakes_per_address: the same from one remote address, behind which there may be many.
        connections: of known peers at once; more are refused.
        connections_per_peer: the same of one peer.
        connections_reserved: of `connections`, for peers that have none.
    """

    handshakes: int = 256
    handshakes_per_address: int = 64
    connections: int = 256
    connections_per_peer: int = 64
    connections_reserved: int = 64


class Connection(Protocol):
    """What has a place."""

    @property
    def silent(self) -> bool:
        """Whether not a byte of it has come, and it has had the time."""
        ...


C = TypeVar("C", bound=Connection)


class Places(Generic[C]):
    """The connections of one listener, by how far they have come; used by many threads."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._lock = threading.Lock()
        self._strangers: dict[C, str] = {}  # address, oldest first
        self._known: dict[C, str] = {}  # peer

    def enter(self, connection: C, address: str) -> C | None:
        """Gives a stranger a place. Answers the one that gives way to it, and has no place any more."""
        room = self._room
        with self._lock:
            neighbours = [each for each, theirs in self._strangers.items() if theirs == address]
            if len(neighbours) < room.handshakes_per_address:
                neighbours = list(self._strangers) if len(self._strangers) >= room.handshakes else []
            oldest = next((each for each in neighbours if each.silent), neighbours[0] if neighbours else None)
            if oldest is not None:
                del self._strangers[oldest]
            self._strangers[connection] = address
        return oldest

    def settle(self, connection: C, peer: str) -> bool:
        """Gives a stranger that has become known one of the places of peers, if there is one for it."""
        room = self._room
        with self._lock:
            own = sum(theirs == peer for theirs in self._known.values())
            free = room.connections - len(self._known)
            if own >= room.connections_per_peer or free <= (room.connections_reserved if own else 0):
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
