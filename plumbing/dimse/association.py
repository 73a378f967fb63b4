"""One association, in a thread of its own: handshake, negotiation, messages (PS3.8 9, PS3.7 9.1.1, 9.1.5).

The way of an image's bytes: `recv_into` one large buffer, P-DATA parsed in place, each fragment given to
the sink as a view. A message is answered before the next is read; a sender that pipelines waits in TCP.
"""

import socket
import ssl
import time
from collections.abc import Callable, Collection
from contextlib import suppress

from kernel.dicom import parse_ae_title
from kernel.errors import Invalid
from plumbing import log
from plumbing.dimse.handler import (
    CALLED_AE_TITLE_NOT_RECOGNIZED,
    CALLING_AE_TITLE_NOT_RECOGNIZED,
    LOCAL_LIMIT_EXCEEDED,
    AcceptorHandler,
    AssociationHandler,
    AssociationRequest,
    End,
    Limits,
    Refusal,
    Rejected,
)
from plumbing.dimse.messages import Messages
from plumbing.dimse.negotiation import (
    APPLICATION_CONTEXT,
    Context,
    Proposal,
    Unreadable,
    read_proposal,
    write_acceptance,
)
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
    close,
    left,
    shut,
)

_log = log.get()

# A-ASSOCIATE-RJ, PS3.8 9.3.4.
_APPLICATION_CONTEXT_NOT_SUPPORTED = (1, 1, 2)
_PROTOCOL_VERSION_NOT_SUPPORTED = (1, 2, 2)
_TEMPORARY_CONGESTION = (2, 3, 1)

_TLS_HANDSHAKE = b"\x16"  # first byte of a TLS connection (RFC 8446 5.1)


class _Ended(Exception):
    def __init__(self, how: End) -> None:
        self.how = how


class _NotAssociated(Exception):
    def __init__(self, kind: Refusal, reason: str, request: AssociationRequest | None = None) -> None:
        self.kind, self.reason, self.request = kind, reason, request


class Association:
    """Serves one connection to its end."""

    def __init__(
        self,
        connection: socket.socket,
        remote: str,
        *,
        context: ssl.SSLContext | None,
        handler: AcceptorHandler,
        called_ae_titles: Collection[str] | None,
        limits: Limits,
        admit: Callable[["Association"], bool],
    ) -> None:
        self.handler: AssociationHandler | None = None  # once it is established
        self._socket = connection
        self._remote = remote
        self._context = context
        self._acceptor_handler = handler
        self._called_ae_titles = called_ae_titles
        self._limits = limits
        self._admit = admit
        self._aborting = False

    def abort(self) -> None:
        """Ends it at once; from any thread."""
        self._aborting = True
        shut(self._socket, socket.SHUT_RD)  # wakes a waiting read; the A-ABORT can still be sent

    def serve(self) -> None:
        """Everything from the handshake to the close. Raises nothing."""
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
            close(self._socket)

    def _say_refused(self, refusal: _NotAssociated) -> None:
        try:
            self._acceptor_handler.refused(refusal.kind, refusal.reason, refusal.request, self._remote)
        except Exception:
            _log.exception("a refused association could not be told", remote=self._remote)

    def _establish(self) -> tuple[AssociationHandler, dict[int, Context], Reader]:
        deadline = time.monotonic() + self._limits.handshake_s
        reader = Reader(self._secure(deadline))
        request: AssociationRequest | None = None
        try:
            proposal = read_proposal(self._associate_pdu(reader, deadline))
            request = self._request(proposal)
            if self._called_ae_titles is not None and request.called_ae_title not in self._called_ae_titles:
                raise Rejected(
                    *CALLED_AE_TITLE_NOT_RECOGNIZED, f"nobody here is called `{request.called_ae_title}`"
                )
            if not self._admit(self):
                raise Rejected(*LOCAL_LIMIT_EXCEEDED, "too many associations")
            acceptance = write_acceptance(proposal)
            try:
                handler = self._acceptor_handler.associate(request)
            except Rejected:
                raise
            except Exception:
                _log.exception("an association could not be judged", remote=self._remote)
                raise Rejected(*_TEMPORARY_CONGESTION, "the association could not be judged") from None
        except Rejected as rejected:
            self._send_pdu(ASSOCIATE_RJ, bytes((0, rejected.result, rejected.source, rejected.reason)))
            raise _NotAssociated("association", rejected.sentence, request) from None
        except Unreadable:
            self._send_abort(INVALID_PARAMETER)
            raise _NotAssociated("association", "the association request cannot be read") from None
        except Violation as violation:
            self._send_abort(violation.reason)
            raise _NotAssociated("association", "no association request came first") from None
        except TimeoutError:
            raise _NotAssociated("association", "no association request came in time") from None
        except OSError:
            raise _Ended("lost") from None
        self.handler = handler
        try:
            self._socket.settimeout(self._limits.stalled_s)
            self._socket.sendall(acceptance)
        except OSError:
            pass  # the first read will say so, to the handler as well
        return handler, {context.context_id: context for context in proposal.contexts}, reader

    def _secure(self, deadline: float) -> socket.socket:
        """The connection, behind TLS unless this listener is a plain one."""
        if self._context is None:
            return self._socket
        try:
            self._socket.settimeout(left(deadline))
            first = self._socket.recv(1, socket.MSG_PEEK)
            if not first:
                raise _Ended("lost")
            if first != _TLS_HANDSHAKE:
                raise _NotAssociated("handshake", "plain text on a TLS listener")
            secured = self._context.wrap_socket(self._socket, server_side=True, do_handshake_on_connect=False)
            self._socket = secured
            secured.settimeout(left(deadline))
            secured.do_handshake()
        except TimeoutError:
            raise _NotAssociated("handshake", "no TLS handshake in time") from None
        except ssl.SSLError as error:
            why = (error.reason or "it was cut short").lower().replace("_", " ")
            raise _NotAssociated("handshake", f"the TLS handshake failed: {why}") from None
        except OSError:
            raise _NotAssociated("handshake", "the connection was lost in the TLS handshake") from None
        return secured

    def _associate_pdu(self, reader: Reader, deadline: float) -> bytes:
        kind, length = PDU_HEADER.unpack(reader.take(PDU_HEADER.size, deadline))
        if kind != ASSOCIATE_RQ:
            raise Violation(UNEXPECTED_PDU if kind in KNOWN_PDUS else UNRECOGNIZED_PDU)
        if length > MAX_ASSOCIATE_BYTES:
            raise Violation(INVALID_PARAMETER)
        return PDU_HEADER.pack(kind, length) + bytes(reader.take(length, deadline))

    def _request(self, proposal: Proposal) -> AssociationRequest:
        """Who asks; raises Rejected for what no handler needs to see."""
        certificate = None
        if isinstance(self._socket, ssl.SSLSocket):
            certificate = self._socket.getpeercert(binary_form=True)
        if not proposal.protocol_version & 1:
            raise Rejected(*_PROTOCOL_VERSION_NOT_SUPPORTED, "the protocol version is not supported")
        if proposal.application_context != APPLICATION_CONTEXT:
            raise Rejected(*_APPLICATION_CONTEXT_NOT_SUPPORTED, "the application context is not supported")
        try:
            calling = parse_ae_title(proposal.calling_ae_title, "calling AE title")
        except Invalid as error:
            raise Rejected(*CALLING_AE_TITLE_NOT_RECOGNIZED, error.sentence) from None
        try:
            called = parse_ae_title(proposal.called_ae_title, "called AE title")
        except Invalid as error:
            raise Rejected(*CALLED_AE_TITLE_NOT_RECOGNIZED, error.sentence) from None
        return AssociationRequest(calling, called, certificate, self._remote, proposal.identity)

    def _exchange(self, handler: AssociationHandler, contexts: dict[int, Context], reader: Reader) -> End:
        messages = Messages(handler, contexts, self._limits, self._send)
        try:
            while True:
                self._socket.settimeout(
                    self._limits.stalled_s if messages.unfinished else self._limits.idle_s
                )
                if self._aborting:
                    raise Violation(NOT_SPECIFIED)
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
            return "aborted"
        except TimeoutError:
            self._send_abort(NOT_SPECIFIED)
            return "lost"
        except OSError:
            if self._aborting:
                self._send_abort(NOT_SPECIFIED)
                return "aborted"
            return "lost"
        finally:
            messages.drop()

    def _send(self, data: bytes) -> None:
        self._socket.settimeout(self._limits.stalled_s)
        self._socket.sendall(data)

    def _send_pdu(self, kind: int, body: bytes) -> None:
        with suppress(OSError):
            self._send(PDU_HEADER.pack(kind, len(body)) + body)

    def _send_abort(self, reason: int) -> None:
        with suppress(OSError):
            self._send(abort_pdu(reason))
