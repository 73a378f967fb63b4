"""Protocol data units of the upper layer (PS3.8 9.3) and the buffer they are read into."""

from struct import Struct
from typing import Protocol

from plumbing.dimse.connections import left

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(0x01, 0x08)
KNOWN_PDUS = range(0x01, 0x08)

# A-ABORT by the service provider, reasons of PS3.8 9.3.8.
BY_PROVIDER = 2
NOT_SPECIFIED, UNRECOGNIZED_PDU, UNEXPECTED_PDU, UNEXPECTED_PARAMETER, INVALID_PARAMETER = 0, 1, 2, 5, 6

MAX_PDU_LENGTH = 128 * 1024
"""What we announce to receive (PS3.8 D.1): with 128 KiB no sender has to wait for an acknowledgement."""

MAX_ASSOCIATE_BYTES = 256 * 1024
"""128 contexts with every transfer syntax there is take 198 kB; with four each, as many send them, 18 kB."""

BUFFER_BYTES = 384 * 1024
"""Room for the largest request, and for two PDUs and a part of the next."""

PDU_HEADER = Struct(">BxL")
PDV_HEADER = Struct(">LBB")
COMMAND, LAST = 0x01, 0x02  # message control header (PS3.8 E.2)


class Violation(Exception):
    """The peer broke the protocol: it gets an A-ABORT with this reason."""

    def __init__(self, reason: int) -> None:
        self.reason = reason


def abort_pdu(reason: int) -> bytes:
    """An A-ABORT by the service provider."""
    return PDU_HEADER.pack(ABORT, 4) + bytes((0, 0, BY_PROVIDER, reason))


class Incoming(Protocol):
    """Where a reader reads."""

    def settimeout(self, seconds: float, /) -> None: ...
    def recv_into(self, view: memoryview, /) -> int: ...


class Reader:
    """Reads from a connection into one buffer and hands out views of it."""

    def __init__(self, connection: Incoming) -> None:
        self._connection = connection
        self._view = memoryview(bytearray(BUFFER_BYTES))
        self._start = self._end = 0

    def take(self, length: int, deadline: float | None = None) -> memoryview:
        """The next `length` bytes, valid until the next call. Raises OSError when the connection ends."""
        taken = self.peek(length, deadline)
        self._start += length
        return taken

    def peek(self, length: int, deadline: float | None = None) -> memoryview:
        """The same, and they come again."""
        while self._end - self._start < length:
            if deadline is not None:
                self._connection.settimeout(left(deadline))
            self._fill(length)
        return self._view[self._start : self._start + length]

    def _fill(self, length: int) -> None:
        if self._start == self._end:
            self._start = self._end = 0
        elif self._start + max(length, MAX_PDU_LENGTH) > BUFFER_BYTES:
            rest = self._end - self._start
            self._view[:rest] = self._view[self._start : self._end]
            self._start, self._end = 0, rest
        received = self._connection.recv_into(self._view[self._end :])
        if not received:
            raise ConnectionResetError
        self._end += received
