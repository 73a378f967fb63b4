"""Listens for associations, and gives each a thread; the accept loop waits for nobody (SEC-3)."""

import socket
from collections.abc import Callable, Collection
from typing import Protocol, TypeVar

from plumbing.dimse.association import Association, Serving
from plumbing.dimse.handler import AcceptorHandler, Limits
from plumbing.listening import Listening, Served
from plumbing.tls import Contexts

_ANSWERED_WITHIN_S = 0.5  # the message under way when a drain has taken its time


class ServedAssociation(Served, Protocol):
    """The same, of DICOM."""

    @property
    def handler(self) -> object | None:
        """What was accepted, once an association is established."""
        ...


A = TypeVar("A", bound=ServedAssociation)


class Associations(Listening[A]):
    """Accepts associations, wherever they are served."""

    def __init__(self, listen: str, limits: Limits) -> None:
        """`listen`: `host:port`."""
        super().__init__(listen, limits, "dimse")

    def drain(self, seconds: float) -> None:
        """Accepts nobody any more, and waits so long for those who are connected to release by themselves.

        Who has not is aborted then; a message under way is answered first, if that takes no half second.
        """
        self._close()
        self._wait(seconds)
        for association in self._places.all():
            association.leave()
        self._wait(_ANSWERED_WITHIN_S)

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


class Acceptor(Associations[Association]):
    """Serves each association in a thread of this process."""

    def __init__(
        self,
        listen: str,
        *,
        contexts: Contexts | None,
        handler: AcceptorHandler,
        called_ae_titles: Collection[str] | None,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        private_classes: bool = True,
    ) -> None:
        """Prepare to listen.

        Args:
            listen: `host:port`.
            contexts: every connection speaks TLS if there is one.
            handler: judges who asks, and takes what is sent.
            called_ae_titles: None leaves the judgement to the handler.
            limits: how much of the process it may take.
            private_classes: whether objects of vendors' own storage classes are taken too.
        """
        super().__init__(listen, limits)
        self._serving = Serving(contexts, handler, called_ae_titles, limits, private_classes)

    def _open(self, connection: socket.socket, remote: tuple[str, int]) -> Association:
        return Association(connection, remote, self._serving, self._places)
