"""Ports for the servers of tests: nobody else is given one between its choice and the start of its server."""

import socket
from collections import deque

from local.embedded.kept import reserve_any

_NEWEST = 200
"""More than one test needs, and far fewer than a process may have open files."""

_reserved: deque[socket.socket] = deque(maxlen=_NEWEST)


def free_port() -> int:
    """A loopback port at which nobody listens, kept for this process until it has taken 200 more."""
    _reserved.append(reserve_any())
    port: int = _reserved[-1].getsockname()[1]
    return port
