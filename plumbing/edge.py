"""A small HTTP/1.1 edge in blocking threads (RFC 9112): h11 reads heads, files go out in large pieces.

It answers GET and HEAD. A thread serves one connection, one request after another. A body is a list of bytes,
of extents of files and of bytes that come from elsewhere meanwhile, so its length is known before the first
byte: ranges, HEAD and 304 are the same for every answer. Whoever reads too slowly, or sends a head too
slowly, is cut off.
"""

import os
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any

import h11

from kernel.errors import (
    Conflict,
    Denied,
    Exhausted,
    Expired,
    Invalid,
    NotFound,
    ReadroomError,
    Unauthenticated,
    Unavailable,
    code_of,
)
from plumbing import log
from plumbing.callers import STRANGER, Peer, peer_of

STATUSES: dict[type[ReadroomError], int] = {
    Invalid: 400,
    NotFound: 404,
    Denied: 403,
    Unauthenticated: 401,
    Conflict: 409,
    Expired: 410,
    Exhausted: 429,
    Unavailable: 503,
}
"""The status of each word (RFC 9110 15)."""

MAX_HEAD_BYTES = 32 << 10
PIECE_BYTES = 1 << 20
"""Of a file, sent at once: TLS is fastest so, and a reader who takes less than this in SEND_S is cut off."""
SEND_S = 60.0
HANDSHAKE_S = 10.0
IDLE_S = 75.0
"""For the next head to come, and to come whole; longer than proxies keep a connection."""
MAX_RANGE_DIGITS = 18
"""Of a position in a range: no body is longer."""
RETRY_AFTER_S = 2
GIVE_WAY_S = 1.0
"""For a connection without a certificate to end, whose place another one needs."""
_BACKLOG = 128
_READ_BYTES = 64 << 10
_GZIP_FROM_BYTES = 1024

_log = log.get()


@dataclass(frozen=True, slots=True)
class Extent:
    """Bytes of an open file."""

    file: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Flow:
    """Bytes that come from elsewhere while they are sent.

    Attributes:
        open: answers a run of them, by offset and length, in chunks.
    """

    open: Callable[[int, int], AbstractContextManager[Iterator[bytes]]]
    offset: int
    length: int


Piece = bytes | memoryview | Extent | Flow


def part(piece: Piece, first: int, last: int) -> Piece:
    """What lies between two positions of it."""
    if isinstance(piece, bytes | memoryview):
        return piece[first:last]
    return replace(piece, offset=piece.offset + first, length=last - first)


def length_of(piece: Piece) -> int:
    return len(piece) if isinstance(piece, bytes | memoryview) else piece.length


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked.

    Attributes:
        path: as it came, percent-encoded, without query.
        headers: by their names in lower case; of several with one name the values, joined by commas.
        abort: ends the connection at once; from any thread.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    peer: Peer
    abort: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Response:
    """What is answered.

    Attributes:
        tag: an entity tag of exactly these bytes (RFC 9110 8.8.3), without quotes; empty: there is none.
        compressible: whether gzip makes it shorter; only of a body without extents.
    """

    status: int
    content_type: str = ""
    body: Sequence[Piece] = ()
    headers: Sequence[tuple[str, str]] = ()
    tag: str = ""
    compressible: bool = False

    @property
    def length(self) -> int:
        return sum(map(length_of, self.body))


Handler = Callable[[Request], AbstractContextManager[Response]]
"""Answers; what it holds open is released when the answer has gone or was cut off. Raises a ReadroomError."""


def problem(error: ReadroomError) -> Response:
    """The answer that says why not."""
    status = code_of(error, STATUSES)
    headers = [("Retry-After", str(RETRY_AFTER_S))] if status in (429, 503) else []
    return Response(status, "text/plain; charset=utf-8", [f"{error.sentence}\n".encode()], headers)


class Edge:
    """Listens, and serves each connection in a thread of its own."""

    def __init__(
        self,
        listen: str,
        handler: Handler,
        *,
        context: ssl.SSLContext | None,
        max_connections: int = 256,
    ) -> None:
        """Prepare to listen.

        Args:
            listen: `host:port`.
            context: demands a client certificate; None: plain text, of which every peer is the STRANGER.
        """
        host, _, port = listen.rpartition(":")
        self._address = (host.strip("[]"), int(port))
        self._handler = handler
        self._context = context
        self._places = threading.BoundedSemaphore(max_connections)
        self._open: dict[_Connection, None] = {}  # the oldest first
        self._lock = threading.Lock()
        self._stopping = False
        self._listener: socket.socket | None = None
        self._accepting: threading.Thread | None = None

    def start(self) -> int:
        """Listens from here on; answers the port."""
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        listener = socket.create_server(self._address, family=family, backlog=_BACKLOG)
        self._listener = listener
        self._accepting = threading.Thread(
            target=self._accept, args=(listener,), name="http accept", daemon=True
        )
        self._accepting.start()
        port: int = listener.getsockname()[1]
        return port

    async def ready(self) -> bool:
        """Whether connections are accepted."""
        return self._accepting is not None and self._accepting.is_alive() and not self._stopping

    def drain(self, seconds: float) -> None:
        """Accepts nobody any more; answers end, within so long, and connections with them."""
        self._close()
        deadline = time.monotonic() + seconds
        for connection in self._connections():
            connection.leave()
        for connection in self._connections():
            connection.join(max(0.0, deadline - time.monotonic()))

    def stop(self, timeout_s: float = 2.0) -> None:
        """Ends all connections and waits for them."""
        self._close()
        deadline = time.monotonic() + timeout_s
        for connection in self._connections():
            connection.abort()
        for connection in self._connections():
            connection.join(max(0.0, deadline - time.monotonic()))

    def _close(self) -> None:
        self._stopping = True
        if self._listener is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        if self._accepting is not None:
            self._accepting.join(2.0)  # so that whoever has a place has a thread

    def _connections(self) -> "list[_Connection]":
        with self._lock:
            return list(self._open)

    def _accept(self, listener: socket.socket) -> None:
        while not self._stopping:
            try:
                accepted, _ = listener.accept()
            except OSError:
                if not self._stopping:
                    _log.exception("a connection could not be accepted")
                    time.sleep(0.1)
                continue
            if not self._has_place():
                accepted.close()
                continue
            connection = _Connection(accepted, self._context, self._handler, self._ended)
            with self._lock:
                self._open[connection] = None
            try:
                connection.start()
            except Exception:  # no thread to be had, for one
                _log.exception("a connection could not be served")
                accepted.close()
                self._ended(connection)

    def _has_place(self) -> bool:
        """Whether there is a place; the oldest of those who have shown no certificate yet gives way."""
        if self._places.acquire(blocking=False):
            return True
        oldest = next((each for each in self._connections() if not each.is_known), None)
        if oldest is None:
            return False
        oldest.abort()
        return self._places.acquire(timeout=GIVE_WAY_S)

    def _ended(self, connection: "_Connection") -> None:
        with self._lock:
            self._open.pop(connection, None)
        self._places.release()


class _Gone(Exception):
    """The peer has ended the connection, or is too slow."""


class _Connection:
    def __init__(
        self,
        accepted: socket.socket,
        context: ssl.SSLContext | None,
        handler: Handler,
        ended: Callable[["_Connection"], None],
    ) -> None:
        self._socket = accepted
        self._context = context
        self._handler = handler
        self._ended = ended
        self._leaving = self._busy = False
        self.is_known = context is None  # or has shown a certificate
        self._protocol = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._peer = STRANGER
        self._piece = bytearray()
        self._thread = threading.Thread(target=self._serve, name="http", daemon=True)

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
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._shake_hands()
            while not self._leaving and self._protocol.our_state is h11.IDLE:
                self._answer_next()
        except (_Gone, OSError, h11.LocalProtocolError):
            pass  # it came and went
        except Exception:
            _log.exception("a connection failed")
        finally:
            with suppress(OSError):
                self._socket.close()
            self._ended(self)

    def _shake_hands(self) -> None:
        if self._context is None:
            return
        self._socket.settimeout(HANDSHAKE_S)
        secured = self._context.wrap_socket(self._socket, server_side=True, do_handshake_on_connect=False)
        self._socket = secured  # before the handshake, which `abort` must be able to end
        secured.do_handshake()
        self.is_known = True
        names: Any = (secured.getpeercert() or {}).get("subjectAltName", ())
        self._peer = peer_of(tuple(uri.encode() for kind, uri in names if kind == "URI"))

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


def negotiated(asked: Request, response: Response) -> Response:
    """The same answer as a 304, a range of it, or compressed."""
    if response.status != 200:
        return response
    if response.compressible:
        response = replace(response, headers=[*response.headers, ("Vary", "Accept-Encoding")])
        if _takes_gzip(asked.headers.get("accept-encoding", "")) and response.length >= _GZIP_FROM_BYTES:
            packer = zlib.compressobj(1, wbits=31)
            packed = [packer.compress(each) for each in response.body if isinstance(each, bytes)]
            headers = [*response.headers, ("Content-Encoding", "gzip")]
            tag = f"{response.tag}-gzip" if response.tag else ""
            response = replace(response, body=[*packed, packer.flush()], headers=headers, tag=tag)
    if response.tag and _names(asked.headers.get("if-none-match", ""), response.tag):
        return replace(response, status=304, body=(), content_type="")
    if response.tag and not response.compressible:
        response = replace(response, headers=[*response.headers, ("Accept-Ranges", "bytes")])
        return _ranged(asked, response)
    return response


def _takes_gzip(accepted: str) -> bool:
    for each in accepted.lower().split(","):
        coding, _, quality = each.partition(";")
        if coding.strip() in ("gzip", "*"):
            return quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def _names(field_value: str, tag: str) -> bool:
    tags = [each.strip().removeprefix("W/") for each in field_value.split(",")]
    return "*" in tags or f'"{tag}"' in tags


def _ranged(asked: Request, response: Response) -> Response:
    """One range of bytes (RFC 9110 14); several, or another unit, are answered whole."""
    wanted = asked.headers.get("range", "")
    condition = asked.headers.get("if-range", "")
    if not wanted.startswith("bytes=") or (condition and condition != f'"{response.tag}"'):
        return response
    first, dash, last = wanted.removeprefix("bytes=").strip().partition("-")
    length = response.length
    numbers = [each for each in (first, last) if each]
    if not dash or not numbers or not all(each.isascii() and each.isdigit() for each in numbers):
        return response
    if any(len(each) > MAX_RANGE_DIGITS for each in numbers):
        return response
    start = int(first) if first else max(0, length - int(last))
    end = min(length, int(last) + 1) if first and last else length
    if start >= length or end <= start:
        headers = [*response.headers, ("Content-Range", f"bytes */{length}")]
        return replace(response, status=416, body=(), headers=headers, content_type="")
    headers = [*response.headers, ("Content-Range", f"bytes {start}-{end - 1}/{length}")]
    return replace(response, status=206, body=list(_slice(response.body, start, end)), headers=headers)


def _slice(body: Sequence[Piece], start: int, end: int) -> Iterator[Piece]:
    at = 0
    for piece in body:
        length = length_of(piece)
        first, last = max(start - at, 0), min(end - at, length)
        if first < last:
            yield part(piece, first, last)
        at += length
