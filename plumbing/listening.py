"""Listens, and gives every connection a place and who serves it; the accept loop waits for nobody (SEC-3)."""

import socket
import threading
import time
from typing import Generic, Protocol, TypeVar

from plumbing import log
from plumbing.places import Places, Room
from plumbing.sockets import shut

_log = log.get()

_BACKLOG = 128
_PAUSE_S = 0.1  # after a failed accept, as when file descriptors have run out
_ACCEPT_ENDS_WITHIN_S = 2.0  # where shutting a listener down does not wake who accepts from it


class Served(Protocol):
    """A connection that was accepted, wherever it is served; its methods may be called from any thread."""

    @property
    def silent(self) -> bool:
        """Whether not a byte of it has come, and it has had the time."""
        ...

    def start(self) -> None:
        """Serves it, elsewhere; raises OSError or RuntimeError where that cannot be."""
        ...

    def join(self, timeout_s: float) -> None:
        """Waits for its end, at most so long."""
        ...

    def abort(self) -> None:
        """Ends it at once."""
        ...

    def leave(self) -> None:
        """Ends it once what is under way has been answered; at once where nothing is."""
        ...

    def give_way(self) -> None:
        """Ends it for a newcomer, without a word."""
        ...


S = TypeVar("S", bound=Served)


class Listening(Generic[S]):
    """Accepts connections on one address and gives each a place."""

    def __init__(self, listen: str, room: Room, name: str) -> None:
        """`listen`: `host:port`; `name`: of the protocol, for the thread that accepts."""
        host, _, port = listen.rpartition(":")
        self._address = (host.strip("[]"), int(port))
        self._listener: socket.socket | None = None
        self._accepting: threading.Thread | None = None
        self._stopping = False
        self._name = name
        self._places: Places[S] = Places(room)

    def _open(self, connection: socket.socket, remote: tuple[str, int]) -> S:
        """Whoever will serve the connection."""
        raise NotImplementedError

    def start(self) -> int:
        """Listens from here on; answers the port."""
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        listener = socket.create_server(self._address, family=family, backlog=_BACKLOG)
        self._listener = listener
        self._accepting = threading.Thread(
            target=self._accept, args=(listener,), name=f"{self._name} accept", daemon=True
        )
        self._accepting.start()
        port: int = listener.getsockname()[1]
        return port

    @property
    def accepts(self) -> bool:
        """Whether connections are accepted."""
        return self._accepting is not None and self._accepting.is_alive() and not self._stopping

    async def ready(self) -> bool:
        """The same, as a probe asks."""
        return self.accepts

    def drain(self, seconds: float) -> None:
        """Accepts nobody any more, and lets those who are connected come to an end, within about so long."""
        raise NotImplementedError

    def stop(self, timeout_s: float = 2.0) -> None:
        """Ends all connections and waits for them, at most `timeout_s` together."""
        self._close()
        for connection in self._places.all():
            connection.abort()
        self._wait(timeout_s)

    def _close(self) -> None:
        self._stopping = True
        if self._listener is not None:
            shut(self._listener)  # wakes the accept loop
            self._listener.close()
        if self._accepting is not None:
            self._accepting.join(_ACCEPT_ENDS_WITHIN_S)  # so that whoever has a place has a thread

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        for connection in self._places.all():
            connection.join(max(0.0, deadline - time.monotonic()))

    def _accept(self, listener: socket.socket) -> None:
        while not self._stopping:
            try:
                connection, address = listener.accept()
            except OSError:
                if not self._stopping:
                    _log.exception("a connection could not be accepted")
                    time.sleep(_PAUSE_S)
                continue
            try:
                self._serve(connection, address[0], address[1])
            except Exception:  # no thread to be had, for one
                _log.exception("a connection could not be served")
                connection.close()

    def _serve(self, connection: socket.socket, host: str, port: int) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        served = self._open(connection, (host, port))
        oldest = self._places.enter(served, host)
        if oldest is not None:
            oldest.give_way()
        try:
            served.start()
        except BaseException:
            self._places.leave(served)
            raise
