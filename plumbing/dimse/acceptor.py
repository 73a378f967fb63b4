"""Listens, and gives every connection to a thread or a process; the accept loop waits for nobody (SEC-3)."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

from plumbing import log
from plumbing.dimse.association import Association, Serving
from plumbing.dimse.handler import AcceptorHandler, Limits
from plumbing.dimse.places import Places

_log = log.get()

_BACKLOG = 128
_ANSWERED_WITHIN_S = 0.5  # the message under way when a drain has taken its time
_PAUSE_S = 0.1  # after a failed accept, as when file descriptors have run out
_ACCEPT_ENDS_WITHIN_S = 2.0  # where shutting a listener down does not wake who accepts from it


class Served(Protocol):
    """A connection that was accepted, wherever it is served; its methods may be called from any thread."""

    @property
    def handler(self) -> object | None:
        """What was accepted, once an association is established."""
        ...

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
        """Ends it between two messages: a message under way is answered first."""
        ...

    def give_way(self) -> None:
        """Ends it for a newcomer, without a word."""
        ...


S = TypeVar("S", bound=Served)


class Listening(Generic[S]):
    """Accepts connections on one address and gives each a place."""

    def __init__(self, listen: str, limits: Limits) -> None:
        """`listen`: `host:port`."""
        host, _, port = listen.rpartition(":")
        self._address = (host.strip("[]"), int(port))
        self._listener: socket.socket | None = None
        self._accepting: threading.Thread | None = None
        self._stopping = False
        self._places: Places[S] = Places(limits)

    def _open(self, connection: socket.socket, remote: tuple[str, int]) -> S:
        """Whoever will serve the connection."""
        raise NotImplementedError

    def start(self) -> int:
        """Listens from here on; answers the port."""
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        listener = socket.create_server(self._address, family=family, backlog=_BACKLOG)
        self._listener = listener
        self._accepting = threading.Thread(
            target=self._accept, args=(listener,), name="dimse accept", daemon=True
        )
        self._accepting.start()
        port: int = listener.getsockname()[1]
        return port

    @property
    def accepts(self) -> bool:
        """Whether associations are accepted."""
        return self._accepting is not None and self._accepting.is_alive() and not self._stopping

    async def ready(self) -> bool:
        """The same, as a probe asks."""
        return self.accepts

    def drain(self, seconds: float) -> None:
        """Accepts nobody any more, and waits so long for those who are connected to release by themselves.

        Who has not is aborted then; a message under way is answered first, if that takes no half second.
        """
        self._close()
        self._wait(seconds)
        for association in self._places.all():
            association.leave()
        self._wait(_ANSWERED_WITHIN_S)

    def stop(self, timeout_s: float = 2.0) -> None:
        """Ends all associations and waits for them, at most `timeout_s` together."""
        self._close()
        for association in self._places.all():
            association.abort()
        self._wait(timeout_s)

    def _close(self) -> None:
        self._stopping = True
        if self._listener is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes the accept loop
            self._listener.close()
        if self._accepting is not None:
            self._accepting.join(_ACCEPT_ENDS_WITHIN_S)  # so that whoever has a place has a thread

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        for association in self._places.all():
            association.join(max(0.0, deadline - time.monotonic()))

    def abort(self, predicate: Callable[[object], bool]) -> int:
        """Aborts the established associations whose handler answers true; says how many."""
        aborted = 0
        for association in self._places.all():
            handler = association.handler
            if handler is not None and predicate(handler):
                association.abort()
                aborted += 1
        return aborted

    def handlers(self) -> list[object]:
        """What was accepted of each association that is established now."""
        handlers = (each.handler for each in self._places.all())
        return [handler for handler in handlers if handler is not None]

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
        association = self._open(connection, (host, port))
        oldest = self._places.enter(association, host)
        if oldest is not None:
            oldest.give_way()
        try:
            association.start()
        except BaseException:
            self._places.leave(association)
            raise


class Acceptor(Listening[Association]):
    """Serves each association in a thread of this process."""

    def __init__(
        self,
        listen: str,
        *,
        context: ssl.SSLContext | None,
        handler: AcceptorHandler,
        called_ae_titles: Collection[str] | None,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        private_classes: bool = True,
    ) -> None:
        """Prepare to listen.

        Args:
            listen: `host:port`.
            context: every connection speaks TLS if there is one.
            handler: judges who asks, and takes what is sent.
            called_ae_titles: None leaves the judgement to the handler.
            limits: how much of the process it may take.
            private_classes: whether objects of vendors' own storage classes are taken too.
        """
        super().__init__(listen, limits)
        self._serving = Serving(context, handler, called_ae_titles, limits, private_classes)

    def _open(self, connection: socket.socket, remote: tuple[str, int]) -> Association:
        return Association(connection, remote, self._serving, self._places)
