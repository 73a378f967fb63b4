"""What may be asked of a TCP socket, and done to it, by whoever holds it beside the thread that uses it."""

import socket
import time
from contextlib import suppress
from struct import Struct

SILENT_S = 1.0
"""Whoever connects speaks first, and a long way takes some 0.3 s."""

_RECEIVED = Struct("=128xQ")  # tcpi_bytes_received of struct tcp_info (Linux)


def is_silent(connection: socket.socket, began: float) -> bool:
    """Whether not a byte has come, by the kernel's count, though there was time since `began` (monotonic)."""
    if time.monotonic() - began <= SILENT_S:
        return False
    try:
        told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RECEIVED.size)
    except OSError:
        return False  # it is closed
    return len(told) == _RECEIVED.size and _RECEIVED.unpack(told)[0] == 0


def shut(connection: socket.socket, how: int = socket.SHUT_RDWR) -> None:
    """Shuts down TCP; TLS stays as it is, for the thread that uses it (`SSLSocket.shutdown` drops it)."""
    with suppress(OSError):
        socket.socket.shutdown(connection, how)
