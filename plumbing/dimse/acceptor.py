"""Listens, and gives every connection a thread; the accept loop itself waits for nobody (SEC-3)."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress

from plumbing import log
from plumbing.dimse.association import Association
from plumbing.dimse.handler import AcceptorHandler, AssociationHandler, Limits
from plumbing.dimse.places import Places

_log = log.get()

_BACKLOG = 128
_ANSWERED_WITHIN_S = 0.5  # the message under way when a drain has taken its time
_PAUSE_S = 0.1  # after a failed accept, as when file descriptors have run out
_ACCEPT_ENDS_WITHIN_S = 2.0  # where shutting a listener down does not wake who accepts from it


class Acceptor:
    """Accepts associations on one address; every connection speaks TLS if there is a context."""

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
        host, _, port = listen.rpartition(":")
        self._address = (host.strip("[]"), int(port))
        self._context = context
        self._handler = handler
        self._called_ae_titles = called_ae_titles
        self._limits = limits
        self._private_classes = private_classes
        self._listener: socket.socket | None = None
        self._accepting: threading.Thread | None = None
        self._stopping = False
        self._places: Places[Association] = Places(limits)

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

    def abort(self, predicate: Callable[[AssociationHandler], bool]) -> int:
        """Aborts the established associations whose handler answers true; says how many."""
        aborted = 0
        for association in self._places.all():
            handler = association.handler
            if handler is not None and predicate(handler):
                association.abort()
                aborted += 1
        return aborted

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
        association = Association(
            connection,
            (host, port),
            context=self._context,
            handler=self._handler,
            called_ae_titles=self._called_ae_titles,
            limits=self._limits,
            places=self._places,
            private_classes=self._private_classes,
        )
        oldest = self._places.enter(association, host)
        if oldest is not None:
            oldest.give_way()
        try:
            association.start()
        except BaseException:
            self._places.leave(association)
            raise
