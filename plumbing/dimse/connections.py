"""The connection of an association: TCP, or TLS that takes many records in one read.

`ssl.SSLSocket` asks the kernel twice for each record of at most 16 KiB (RFC 8446 5.1). Here OpenSSL reads
from memory, and the kernel is asked once for all that has come.
"""

import socket
import ssl
import time
from contextlib import suppress

READ_BYTES = 128 * 1024
"""Of one read, encrypted: a PDU of the largest size."""

_LINGER_S = 2.0  # for the peer to close first: ARTIM (PS3.8 9.1.5)
_LAST_BYTES = 128 * 1024  # of one read of what comes after our last word
_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)  # Linux


class Plain:
    """A connection without TLS; used by one thread, but for `shut`."""

    certificate: bytes | None = None
    """The peer's certificate, verified, as DER."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._seconds: float | None = None

    def settimeout(self, seconds: float) -> None:
        """How long each of the calls that follow may wait; beyond it they raise TimeoutError."""
        if seconds != self._seconds:
            self._socket.settimeout(seconds)
            self._seconds = seconds

    def recv_into(self, view: memoryview) -> int:
        """Reads what has come, at least one byte; answers how many, 0 at the end. Raises OSError."""
        received = self._socket.recv_into(view)
        self._acknowledge()
        return received

    def sendall(self, data: bytes) -> None:
        """Sends everything. Raises OSError."""
        self._socket.sendall(data)

    def close(self) -> None:
        """Closes after the peer did, which has read our last words then, or when it takes too long."""
        deadline = time.monotonic() + _LINGER_S
        last = memoryview(bytearray(_LAST_BYTES))
        with suppress(OSError, ValueError):
            for _ in range(16):  # what it may still have under way; not for ever
                self.settimeout(left(deadline))
                if not self.recv_into(last):
                    break
            self._say_goodbye()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # another process may hold the connection too
        self._socket.close()

    def _say_goodbye(self) -> None:
        pass

    def _acknowledge(self) -> None:
        # A sender with Nagle's algorithm waits for the acknowledgement of its last small segment.
        if _QUICKACK is not None:
            self._socket.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)


class Secured(Plain):
    """A connection behind TLS, as its server."""

    def __init__(self, connection: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__(connection)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._encrypted = memoryview(bytearray(READ_BYTES))

    def shake_hands(self, deadline: float) -> None:
        """Does the handshake, up to a reading of time.monotonic(). Raises OSError; SSLError is one."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self.settimeout(left(deadline))
                if not self._receive():
                    raise ConnectionResetError from None
            except ssl.SSLError:
                with suppress(OSError):
                    self._flush()  # the alert
                raise
            else:
                break
        self._flush()
        self.certificate = self._tls.getpeercert(binary_form=True)

    def recv_into(self, view: memoryview) -> int:
        read, room = 0, len(view)
        while read < room:
            try:
                record = self._tls.read(room - read, view[read:])
            except ssl.SSLWantReadError:
                if read or not self._receive():
                    break
                continue
            if not record:
                break
            read += int(record)
        return read

    def sendall(self, data: bytes) -> None:
        self._tls.write(data)
        self._flush()

    def _receive(self) -> int:
        # OpenSSL is not told of an end without a goodbye: it would not send our last words then.
        received = self._socket.recv_into(self._encrypted)
        if received:
            self._incoming.write(self._encrypted[:received])
            self._acknowledge()
        return received

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._socket.sendall(self._outgoing.read())

    def _say_goodbye(self) -> None:
        with suppress(ssl.SSLError):
            self._tls.unwrap()
        self._flush()


def left(deadline: float) -> float:
    """The seconds up to a reading of time.monotonic(); raises TimeoutError when there are none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
