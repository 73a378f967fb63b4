"""One association, in a thread of its own: handshake, negotiation, messages (PS3.8 9, PS3.7 9.1.1, 9.1.5).

The way of an image's bytes: `recv_into` one large buffer, P-DATA parsed in place, each fragment given to
the sink as a view. A message is answered before the next is read; a sender that pipelines waits in TCP.
"""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol, TypeVar

from kernel.dicom import parse_ae_title
from kernel.errors import Invalid
from plumbing import log
from plumbing.dimse.connections import Plain, Secured, left
from plumbing.dimse.handler import (
    CALLED_AE_TITLE_NOT_RECOGNIZED,
    CALLING_AE_TITLE_NOT_RECOGNIZED,
    LOCAL_LIMIT_EXCEEDED,
    Aborted,
    AcceptorHandler,
    AssociationHandler,
    AssociationRequest,
    End,
    Limits,
    Refusal,
    RefusedConnection,
    Rejected,
)
from plumbing.dimse.items import FIXED_LENGTH, Request, Titles, Unreadable, read_request, read_titles
from plumbing.dimse.messages import Messages
from plumbing.dimse.negotiation import APPLICATION_CONTEXT, Context, answer, write_acceptance
from plumbing.dimse.pdus import (
    ABORT,
    ASSOCIATE_RJ,
    ASSOCIATE_RQ,
    INVALID_PARAMETER,
    KNOWN_PDUS,
    MAX_ASSOCIATE_BYTES,
    MAX_PDU_LENGTH,
    NOT_SPECIFIED,
    P_DATA,
    PDU_HEADER,
    RELEASE_RP,
    RELEASE_RQ,
    UNEXPECTED_PDU,
    UNRECOGNIZED_PDU,
    Reader,
    Violation,
    abort_pdu,
)
from plumbing.sockets import is_silent, shut
from plumbing.tls import Contexts

R = TypeVar("R")

_log = log.get()

# A-ASSOCIATE-RJ, PS3.8 9.3.4.
_APPLICATION_CONTEXT_NOT_SUPPORTED = (1, 1, 2)
_PROTOCOL_VERSION_NOT_SUPPORTED = (1, 2, 2)
_TEMPORARY_CONGESTION = (2, 3, 1)

_NO_TITLE = "no title"  # cause of a refusal

_TLS_HANDSHAKE = b"\x16"  # first byte of a TLS connection (RFC 8446 5.1)


class _Ended(Exception):
    def __init__(self, how: End) -> None:
        self.how = how


class _NotAssociated(Exception):
    def __init__(self, kind: Refusal, cause: str, reason: str) -> None:
        self.kind, self.cause, self.reason = kind, cause, reason


def _crowded() -> Rejected:
    return Rejected(*LOCAL_LIMIT_EXCEEDED, "too many associations")


@dataclass(frozen=True, slots=True)
class Serving:
    """How the associations of a listener are served; the arguments of `Acceptor`."""

    contexts: Contexts | None
    handler: AcceptorHandler
    called_ae_titles: Collection[str] | None
    limits: Limits
    private_classes: bool


class PlaceOf(Protocol):
    """Where an association has its place; raises Unavailable where that cannot be said."""

    def settle(self, connection: "Association", peer: str) -> bool:
        """Gives it one of the places of peers, if there is one for it."""
        ...

    def leave(self, connection: "Association") -> None:
        """It has ended."""
        ...


class Association:
    """Serves one connection to its end, in a thread of its own."""

    def __init__(
        self,
        connection: socket.socket,
        remote: tuple[str, int],
        serving: Serving,
        places: PlaceOf,
    ) -> None:
        self.handler: AssociationHandler | None = None  # once it is established
        self._began = time.monotonic()
        self._socket = connection
        self._connection = Plain(connection)
        self._address = remote[0]
        self._remote = f"{remote[0]}:{remote[1]}"
        self._contexts = serving.contexts
        self._acceptor_handler = serving.handler
        self._called_ae_titles = serving.called_ae_titles
        self._limits = serving.limits
        self._places = places
        self._private_classes = serving.private_classes
        self._certificate: bytes | None = None
        self._titles = Titles(0, "", "")
        self._aborting = self._gave_way = self._leaving = False
        self._messages: Messages | None = None  # once it is established
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, name=f"dimse {self._remote}", daemon=True)

    @property
    def silent(self) -> bool:
        """Whether not a byte of it has come, and it has had the time."""
        return is_silent(self._socket, self._began)

    @property
    def remote(self) -> str:
        """`address:port` of the peer."""
        return self._remote

    def start(self) -> None:
        """Everything from the handshake to the close. Raises RuntimeError where no thread is to be had."""
        try:
            self._thread.start()
        except BaseException:
            self._ended.set()
            raise

    def join(self, timeout_s: float) -> None:
        """Waits for its end, at most so long."""
        self._ended.wait(timeout_s)

    def abort(self) -> None:
        """Ends it at once; from any thread."""
        self._aborting = True
        shut(self._socket, socket.SHUT_RD)  # wakes a waiting read; the A-ABORT can still be sent

    def leave(self) -> None:
        """Ends it between two messages: a message under way is answered first; from any thread."""
        self._leaving = True
        messages = self._messages
        if messages is None or not messages.under_way:
            self.abort()

    def give_way(self) -> None:
        """Ends it for a newcomer, without a word; from any thread."""
        self._gave_way = True
        shut(self._socket)

    def _serve(self) -> None:
        try:
            handler, contexts, reader = self._establish()
        except _NotAssociated as refusal:
            self._say_refused(refusal)
        except _Ended:
            pass  # it came and went without a word, as health checks do
        except Exception:
            _log.exception("an association failed before it was established", remote=self._remote)
        else:
            how = self._exchange(handler, contexts, reader)
            self.handler = None
            try:
                handler.ended(how)
            except Exception:
                _log.exception("the end of an association could not be handled", remote=self._remote)
        finally:
            try:
                self._connection.close()
            finally:
                self._places.leave(self)
                self._ended.set()

    def _say_refused(self, refusal: _NotAssociated) -> None:
        if self._gave_way:
            refusal = _NotAssociated("handshake", "gave way", "it waited longest when too many came")
        refused = RefusedConnection(
            refusal.kind,
            refusal.cause,
            refusal.reason,
            self._remote,
            self._certificate,
            self._titles.calling,
            self._titles.called,
        )
        try:
            self._acceptor_handler.refused(refused)
        except Exception:
            _log.exception("a refused association could not be told", remote=self._remote)

    def _establish(self) -> tuple[AssociationHandler, Sequence[Context], Reader]:
        """Secures, recognizes and only then reads: who is not known gets no more of us than a rejection."""
        deadline = time.monotonic() + self._limits.handshake_s
        reader = Reader(self._secure(deadline))
        try:
            rejected = self._recognize()
            length = self._head(reader, deadline)
            if rejected is not None:
                raise rejected
            request = read_request(reader.take(length, deadline))
            if not self._certificate and not self._places.settle(self, self._address):
                raise _crowded()
            contexts = answer(request, private_classes=self._private_classes)
            asked = self._request(request, contexts)
            acceptance = write_acceptance(request, contexts)
            handler = self._judge(lambda: self._acceptor_handler.associate(asked))
        except Rejected as rejected:
            told = (rejected.result, rejected.source, rejected.reason)
            self._send_pdu(ASSOCIATE_RJ, bytes((0, *told)))
            raise _NotAssociated("association", rejected.cause, rejected.sentence) from None
        except Unreadable:
            self._send_abort(INVALID_PARAMETER)
            raise _NotAssociated(
                "association", "unreadable", "the association request cannot be read"
            ) from None
        except Violation as violation:
            self._send_abort(violation.reason)
            raise _NotAssociated("association", "no request", "no association request came first") from None
        except TimeoutError:
            raise _NotAssociated("association", "late", "no association request came in time") from None
        except OSError:
            raise self._lost() from None
        self.handler = handler
        with suppress(OSError):  # the first read will say so, to the handler as well
            self._send(acceptance)
        return handler, contexts, reader

    def _secure(self, deadline: float) -> Plain:
        """The connection, behind TLS unless this listener is a plain one."""
        if self._contexts is None:
            return self._connection
        try:
            self._socket.settimeout(left(deadline))
            first = self._socket.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            raise _NotAssociated("handshake", "late", "no TLS handshake in time") from None
        except OSError:
            raise self._lost() from None  # reset, as some health checks end
        if not first:
            raise self._lost()
        try:
            if first != _TLS_HANDSHAKE:
                raise _NotAssociated("handshake", "plain text", "plain text on a TLS listener")
            self._connection = secured = Secured(self._socket, self._contexts())
            secured.shake_hands(deadline)
        except TimeoutError:
            raise _NotAssociated("handshake", "late", "no TLS handshake in time") from None
        except ssl.SSLError as error:
            why = (error.reason or "it was cut short").lower().replace("_", " ")
            raise _NotAssociated("handshake", "failed", f"the TLS handshake failed: {why}") from None
        except OSError:
            raise _NotAssociated(
                "handshake", "lost", "the connection was lost in the TLS handshake"
            ) from None
        self._certificate = secured.certificate
        return secured

    def _lost(self) -> Exception:
        """A connection that ends is not worth a word, unless we ended it."""
        return _NotAssociated("handshake", "gave way", "") if self._gave_way else _Ended("lost")

    def _recognize(self) -> Rejected | None:
        """What to tell a peer that may not ask; one with a certificate gets its place before it asks."""
        certificate = self._certificate
        try:
            self._judge(lambda: self._acceptor_handler.recognize(certificate, self._remote))
        except Rejected as rejected:
            return rejected
        if certificate and not self._places.settle(self, sha256(certificate).hexdigest()):
            return _crowded()
        return None

    def _judge(self, ask: Callable[[], R]) -> R:
        """What the handler answers; raises Rejected."""
        try:
            return ask()
        except Rejected:
            raise
        except Exception:
            _log.exception("an association could not be judged", remote=self._remote)
            raise Rejected(*_TEMPORARY_CONGESTION, "the association could not be judged") from None

    def _head(self, reader: Reader, deadline: float) -> int:
        """Reads the titles of the request; answers how long it is without its header."""
        length: int
        kind, length = PDU_HEADER.unpack(reader.take(PDU_HEADER.size, deadline))
        if kind != ASSOCIATE_RQ:
            raise Violation(UNEXPECTED_PDU if kind in KNOWN_PDUS else UNRECOGNIZED_PDU)
        if not FIXED_LENGTH <= length <= MAX_ASSOCIATE_BYTES:
            raise Violation(INVALID_PARAMETER)
        self._titles = read_titles(reader.peek(FIXED_LENGTH, deadline))
        return length

    def _request(self, request: Request, contexts: Sequence[Context]) -> AssociationRequest:
        """Who asks; raises Rejected for what no handler needs to see."""
        if not request.titles.protocol_version & 1:
            raise Rejected(*_PROTOCOL_VERSION_NOT_SUPPORTED, "the protocol version is not supported")
        if request.application_context != APPLICATION_CONTEXT:
            raise Rejected(*_APPLICATION_CONTEXT_NOT_SUPPORTED, "the application context is not supported")
        try:
            calling = parse_ae_title(request.titles.calling, "calling AE title")
        except Invalid as error:
            raise Rejected(*CALLING_AE_TITLE_NOT_RECOGNIZED, error.sentence, _NO_TITLE) from None
        try:
            called = parse_ae_title(request.titles.called, "called AE title")
        except Invalid as error:
            raise Rejected(*CALLED_AE_TITLE_NOT_RECOGNIZED, error.sentence, _NO_TITLE) from None
        if self._called_ae_titles is not None and called not in self._called_ae_titles:
            raise Rejected(*CALLED_AE_TITLE_NOT_RECOGNIZED, f"nobody here is called `{called}`")
        return AssociationRequest(
            calling,
            called,
            self._certificate,
            self._remote,
            request.identity,
            self._still_open,
            [context for context in contexts if not context.accepted],
        )

    def _still_open(self) -> None:
        if self._aborting:
            raise Aborted

    def _exchange(self, handler: AssociationHandler, contexts: Sequence[Context], reader: Reader) -> End:
        by_id = {context.context_id: context for context in contexts}
        self._messages = messages = Messages(handler, by_id, self._limits, self._send, self._still_open)
        try:
            while True:
                self._connection.settimeout(
                    self._limits.stalled_s if messages.unfinished else self._limits.idle_s
                )
                self._still_open()
                if self._leaving and not messages.unfinished:
                    raise Aborted
                kind, length = PDU_HEADER.unpack(reader.take(PDU_HEADER.size))
                if length > MAX_PDU_LENGTH:
                    raise Violation(INVALID_PARAMETER if kind in KNOWN_PDUS else UNRECOGNIZED_PDU)
                body = reader.take(length)
                if kind == P_DATA:
                    messages.p_data(body)
                elif kind == RELEASE_RQ:
                    self._send_pdu(RELEASE_RP, bytes(4))
                    return "released"
                elif kind == ABORT:
                    return "aborted"
                else:
                    raise Violation(UNEXPECTED_PDU if kind in KNOWN_PDUS else UNRECOGNIZED_PDU)
        except Violation as violation:
            self._send_abort(violation.reason)
            broken = f"it broke the protocol, and was aborted for reason {violation.reason} of PS3.8 9.3.8"
            self._say_refused(_NotAssociated("association", "violation", broken))
            return "aborted"
        except Aborted:
            self._send_abort(NOT_SPECIFIED)
            return "aborted"
        except TimeoutError:
            self._send_abort(NOT_SPECIFIED)
            return "lost"
        except OSError:
            if self._aborting:
                self._send_abort(NOT_SPECIFIED)
                return "aborted"
            return "lost"
        except Exception:
            _log.exception("an association failed", remote=self._remote)
            self._send_abort(NOT_SPECIFIED)
            return "aborted"
        finally:
            messages.drop()

    def _send(self, data: bytes) -> None:
        self._connection.settimeout(self._limits.stalled_s)
        self._connection.sendall(data)

    def _send_pdu(self, kind: int, body: bytes) -> None:
        with suppress(OSError):
            self._send(PDU_HEADER.pack(kind, len(body)) + body)

    def _send_abort(self, reason: int) -> None:
        with suppress(OSError):
            self._send(abort_pdu(reason))
