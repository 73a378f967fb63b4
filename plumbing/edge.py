"""A small HTTP/1.1 edge in blocking threads (RFC 9112): h11 reads heads, files go out in large pieces.

It answers GET and HEAD. A thread serves one connection, one request after another; what is answered is in
responses.py. Whoever reads too slowly, or sends a head too slowly, is cut off.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import h11

from kernel.errors import ReadroomError
from plumbing import log
from plumbing.callers import STRANGER, peer_of
from plumbing.listening import Listening
from plumbing.places import Places, Room
from plumbing.responses import Extent, Flow, Request, Response, negotiated, problem
from plumbing.sockets import is_silent, shut
from plumbing.tls import Contexts

MAX_HEAD_BYTES = 32 << 10
PIECE_BYTES = 1 << 20
"""Of a file, sent at once: TLS is fastest so, and a reader who takes less than this in SEND_S is cut off."""
SEND_S = 60.0
HANDSHAKE_S = 10.0
IDLE_S = 75.0
"""For the next head to come, and to come whole; longer than proxies keep a connection."""
ROOM = Room(
    handshakes=256,
    handshakes_per_address=256,
    connections=256,
    connections_per_peer=256,
    connections_reserved=0,
)
"""One peer, the web pages, may have all, and open them at the same moment."""
_READ_BYTES = 64 << 10

_log = log.get()


Handler = Callable[[Request], AbstractContextManager[Response]]
"""Answers; what it holds open is released when the answer has gone or was cut off. Raises a ReadroomError."""


class Edge(Listening["_Connection"]):
    """Listens, and serves each connection in a thread of its own."""

    def __init__(
        self, listen: str, handler: Handler, *, contexts: Contexts | None, room: Room = ROOM
    ) -> None:
        """Prepare to listen.

        Args:
            listen: `host:port`.
            contexts: demand a client certificate; None: plain text, of which every peer is the STRANGER.
        """
        super().__init__(listen, room, "http")
        self._handler = handler
        self._contexts = contexts

    def drain(self, seconds: float) -> None:
        """Accepts nobody any more; answers end, within so long, and connections with them."""
        self._close()
        for connection in self._places.all():
            connection.leave()
        self._wait(seconds)

    def _open(self, connection: socket.socket, remote: tuple[str, int]) -> "_Connection":
        return _Connection(connection, self._contexts, self._handler, remote[0], self._places)


class _Gone(Exception):
    """The peer has ended the connection, or is too slow."""


class _Connection:
    def __init__(
        self,
        accepted: socket.socket,
        contexts: Contexts | None,
        handler: Handler,
        address: str,
        places: "Places[_Connection]",
    ) -> None:
        self._began = time.monotonic()
        self._socket = accepted
        self._address = address
        self._contexts = contexts
        self._handler = handler
        self._places = places
        self._leaving = self._busy = False
        self._protocol = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._peer = STRANGER
        self._piece = bytearray()
        self._thread = threading.Thread(target=self._serve, name="http", daemon=True)

    @property
    def silent(self) -> bool:
        """Whether not a byte of it has come, and it has had the time."""
        return is_silent(self._socket, self._began)

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def leave(self) -> None:
        """Ends it when no answer is under way; from any thread."""
        self._leaving = True
        if not self._busy:
            self.abort()

    def abort(self) -> None:
        """Ends it at once; from any thread."""
        shut(self._socket)

    give_way = abort

    def _serve(self) -> None:
        try:
            known_as = self._shake_hands()
            if not self._places.settle(self, known_as):
                return
            while not self._leaving and self._protocol.our_state is h11.IDLE:
                self._answer_next()
        except (_Gone, OSError, h11.LocalProtocolError):
            pass  # it came and went
        except Exception:
            _log.exception("a connection failed")
        finally:
            with suppress(OSError):
                self._socket.close()
            self._places.leave(self)

    def _shake_hands(self) -> str:
        """Who has the place: a caller by their name; an address, where nobody shows a certificate."""
        if self._contexts is None:
            return self._address
        self._socket.settimeout(HANDSHAKE_S)
        secured = self._contexts().wrap_socket(self._socket, server_side=True, do_handshake_on_connect=False)
        self._socket = secured  # before the handshake, which `abort` must be able to end
        secured.do_handshake()
        names: Any = (secured.getpeercert() or {}).get("subjectAltName", ())
        self._peer = peer_of(tuple(uri.encode() for kind, uri in names if kind == "URI"))
        return self._peer.name

    def _answer_next(self) -> None:
        asked = self._next_head()
        if asked is None:
            return
        self._busy = True
        began = time.monotonic()
        status: int | None = None  # of an answer that was cut off
        try:
            with self._handled(asked) as response:
                status = self._send(asked, response)
        finally:
            self._busy = False
            _log.info(
                "answered",
                peer=self._peer.name,
                method=asked.method,
                status=status,
                ms=round(1000 * (time.monotonic() - began), 2),
            )
        if self._protocol.our_state is h11.DONE and self._protocol.their_state is h11.DONE:
            self._protocol.start_next_cycle()

    def _next_head(self) -> Request | None:
        """None where what came was no request: it has been answered."""
        deadline = time.monotonic() + IDLE_S
        try:
            while (event := self._protocol.next_event()) is h11.NEED_DATA:
                self._read(deadline)
            if not isinstance(event, h11.Request):
                raise _Gone
            if _has_body(event):
                raise h11.RemoteProtocolError("no body is expected", error_status_hint=413)
            while not isinstance(self._protocol.next_event(), h11.EndOfMessage):
                self._read(deadline)
        except h11.RemoteProtocolError as error:
            if self._protocol.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                self._send_head(Response(error.error_status_hint), [("Connection", "close")])
                self._protocol.send(h11.EndOfMessage())
            raise _Gone from error
        target = event.target.decode("ascii", "replace")
        path, _, query = target.partition("?")
        headers: dict[str, str] = {}
        for name, value in event.headers:
            key, text = name.decode(), value.decode("latin-1")
            headers[key] = f"{headers[key]}, {text}" if key in headers else text
        return Request(event.method.decode(), path, query, headers, self._peer, self.abort)

    def _read(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise _Gone
        self._socket.settimeout(left)
        data = self._socket.recv(_READ_BYTES)
        self._protocol.receive_data(data)
        if not data and self._protocol.their_state is h11.IDLE:
            raise _Gone

    def _handled(self, asked: Request) -> "AbstractContextManager[Response]":
        if asked.method not in ("GET", "HEAD"):
            return nullcontext(Response(405, headers=[("Allow", "GET, HEAD")]))
        return _Answered(self._handler, asked)

    def _send(self, asked: Request, response: Response) -> int:
        response = negotiated(asked, response)
        self._send_head(response, [("Connection", "close")] if self._leaving else [])
        if asked.method != "HEAD" and response.status not in (204, 304):
            for piece in response.body:
                if isinstance(piece, Extent):
                    self._send_extent(piece)
                elif isinstance(piece, Flow):
                    self._send_flow(piece)
                else:
                    self._count(memoryview(piece))
                    self._send_bytes(piece)
        self._protocol.send(h11.EndOfMessage())
        return response.status

    def _send_head(self, response: Response, more: Sequence[tuple[str, str]]) -> None:
        headers = [("Cache-Control", "private, no-cache"), *response.headers, *more]
        if response.content_type:
            headers.append(("Content-Type", response.content_type))
        if response.tag:
            headers.append(("ETag", f'"{response.tag}"'))
        if response.status not in (204, 304):
            headers.append(("Content-Length", str(response.length)))
        head = self._protocol.send(h11.Response(status_code=response.status, headers=headers))
        self._send_bytes(head or b"")

    def _send_bytes(self, data: bytes | memoryview) -> None:
        self._socket.settimeout(SEND_S)
        for at in range(0, len(data), PIECE_BYTES):  # so long for each, and not for all together
            self._socket.sendall(memoryview(data)[at : at + PIECE_BYTES])

    def _send_extent(self, extent: Extent) -> None:
        offset, left = extent.offset, extent.length
        self._socket.settimeout(SEND_S)
        if not self._piece:
            self._piece = bytearray(PIECE_BYTES)
        while left:
            piece = memoryview(self._piece)[: min(left, PIECE_BYTES)]
            count = os.preadv(extent.file, [piece], offset)
            if not count:
                raise _Gone  # the file ends too early: Content-Length makes it visible
            self._count(piece[:count])
            self._socket.sendall(piece[:count])
            offset, left = offset + count, left - count

    def _send_flow(self, flow: Flow) -> None:
        left = flow.length
        try:
            with flow.open(flow.offset, flow.length) as chunks:
                for chunk in chunks:
                    self._count(memoryview(chunk))
                    self._send_bytes(chunk)
                    left -= len(chunk)
        except ReadroomError as error:
            _log.warning("an answer broke off", why=error.sentence)
            raise _Gone from error
        if left:
            raise _Gone  # as where a file ends too early

    def _count(self, piece: memoryview) -> None:
        """Lets h11 count what goes out beside it."""
        self._protocol.send_with_data_passthrough(h11.Data(piece))  # type: ignore[arg-type]


class _Answered(AbstractContextManager[Response]):
    """What a handler answers; why not, if it raises before it has answered."""

    def __init__(self, handler: Handler, asked: Request) -> None:
        self._handler, self._asked = handler, asked
        self._inner: AbstractContextManager[Response] | None = None

    def __enter__(self) -> Response:
        try:
            inner = self._handler(self._asked)
            response = inner.__enter__()
        except ReadroomError as error:
            return problem(error)
        except Exception:
            _log.exception("a request failed")
            return Response(500)
        self._inner = inner
        return response

    def __exit__(self, *why: object) -> None:
        if self._inner is not None:
            self._inner.__exit__(*why)  # type: ignore[arg-type]


def _has_body(request: h11.Request) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0"))
        for name, value in request.headers
    )
