"""Opens an association and sends data sets as they are, over mutual TLS only (GWY-3)."""

import socket
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, BinaryIO

from kernel.errors import Unavailable
from plumbing.dimse.commands import MalformedCommand, read_response, write_store
from plumbing.dimse.connections import left
from plumbing.dimse.items import Unreadable, read_acceptance
from plumbing.dimse.negotiation import write_proposal
from plumbing.dimse.pdus import (
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    COMMAND,
    LAST,
    MAX_ASSOCIATE_BYTES,
    MAX_PDU_LENGTH,
    P_DATA,
    PDU_HEADER,
    PDV_HEADER,
    RELEASE_RP,
    RELEASE_RQ,
    Reader,
)
from plumbing.sockets import shut

MAX_CONTEXTS = 128
"""Odd ids of one byte (PS3.8 9.3.2.2)."""

_CONNECT_S = 10.0  # from TCP to the accepted association
_ANSWER_S = 30.0
_HEAD = PDU_HEADER.size + PDV_HEADER.size


class Requestor:
    """One association, used by one thread; `abort` may come from any."""

    def __init__(
        self, connection: ssl.SSLSocket, reader: Reader, contexts: dict[tuple[str, str], int], room: int
    ) -> None:
        self._socket = connection
        self._reader = reader
        self._contexts = contexts
        self._fragment = room - PDV_HEADER.size
        self._message_id = 0

    @classmethod
    def associate(
        cls,
        address: str,
        *,
        context: ssl.SSLContext,
        server_name: str,
        calling_ae_title: str,
        called_ae_title: str,
        proposed: Sequence[tuple[str, str]],
        identity: str | None = None,
    ) -> "Requestor":
        """Opens an association that carries `identity` (User Identity type 1).

        The server must show a certificate of the context's CA for `server_name`. `proposed` are (SOP class,
        transfer syntax), each a context of its own. Raises Unavailable, with the reason.
        """
        host, _, port = address.rpartition(":")
        deadline = time.monotonic() + _CONNECT_S
        try:
            plain = socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S)
        except OSError as error:
            raise Unavailable(f"`{address}` cannot be reached: {error.strerror or 'no answer'}") from None
        connection: socket.socket = plain
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.settimeout(left(deadline))
            connection = secured = context.wrap_socket(plain, server_hostname=server_name)
            reader = Reader(secured)
            proposal = write_proposal(calling_ae_title, called_ae_title, proposed[:MAX_CONTEXTS], identity)
            secured.sendall(proposal)
            accepted, room = cls._answer(reader, deadline)
        except ssl.SSLCertVerificationError as error:
            connection.close()
            raise Unavailable(f"the certificate of `{address}` is refused: {error.verify_message}") from None
        except (OSError, Unreadable) as error:
            connection.close()
            why = type(error).__name__ if isinstance(error, Unreadable | TimeoutError) else str(error)
            raise Unavailable(f"no association with `{address}`: {why}") from None
        except Unavailable:
            connection.close()
            raise
        contexts = {
            pair: 2 * i + 1 for i, pair in enumerate(proposed[:MAX_CONTEXTS]) if 2 * i + 1 in accepted
        }
        return cls(secured, reader, contexts, min(room or MAX_PDU_LENGTH, MAX_PDU_LENGTH))

    @staticmethod
    def _answer(reader: Reader, deadline: float) -> tuple[frozenset[int], int]:
        kind, length = PDU_HEADER.unpack(reader.take(PDU_HEADER.size, deadline))
        if length > MAX_ASSOCIATE_BYTES:
            raise Unreadable
        body = reader.take(length, deadline)
        if kind == ASSOCIATE_RJ and length == 4:
            raise Unavailable(f"the association was rejected ({body[1]},{body[2]},{body[3]})")
        if kind != ASSOCIATE_AC:
            raise Unavailable("the association was aborted")
        return read_acceptance(body)

    def takes(self, sop_class_uid: str, transfer_syntax_uid: str) -> bool:
        """Whether the peer accepted this context."""
        return (sop_class_uid, transfer_syntax_uid) in self._contexts

    def store(
        self, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, data_set: BinaryIO
    ) -> tuple[int, str]:
        """Sends one data set, bytes unchanged, and answers status and comment.

        Only in a context that the peer `takes`. Raises Unavailable when the association is lost.
        """
        context_id = self._contexts[sop_class_uid, transfer_syntax_uid]
        self._message_id = self._message_id % 0xFFFF + 1
        command = write_store(self._message_id, sop_class_uid, sop_instance_uid)
        try:
            self._socket.settimeout(_ANSWER_S)
            head = PDV_HEADER.pack(len(command) + 2, context_id, COMMAND | LAST)
            self._socket.sendall(PDU_HEADER.pack(P_DATA, len(head) + len(command)) + head + command)
            self._send(data_set, context_id)
            return self._response()
        except (OSError, MalformedCommand) as error:
            raise Unavailable(f"the association was lost: {error or type(error).__name__}") from None

    def _send(self, data_set: BinaryIO, context_id: int) -> None:
        # Read one fragment ahead: the last one has to say that it is the last.
        buffers = [bytearray(_HEAD + self._fragment) for _ in range(2)]
        views = [memoryview(buffer) for buffer in buffers]
        reading: Any = data_set
        size = reading.readinto(views[0][_HEAD:])
        while True:
            following = reading.readinto(views[1][_HEAD:]) if size == self._fragment else 0
            PDU_HEADER.pack_into(buffers[0], 0, P_DATA, size + PDV_HEADER.size)
            control = 0 if following else LAST
            PDV_HEADER.pack_into(buffers[0], PDU_HEADER.size, size + 2, context_id, control)
            self._socket.sendall(views[0][: _HEAD + size])
            if not following:
                return
            size = following
            buffers.reverse()
            views.reverse()

    def _response(self) -> tuple[int, str]:
        response = bytearray()
        deadline = time.monotonic() + _ANSWER_S
        while True:
            kind, length = PDU_HEADER.unpack(self._reader.take(PDU_HEADER.size, deadline))
            if kind != P_DATA or not PDV_HEADER.size <= length <= MAX_PDU_LENGTH:
                raise MalformedCommand("the peer ended it" if kind != P_DATA else "a PDU of an odd length")
            body = self._reader.take(length, deadline)
            size, _, control = PDV_HEADER.unpack_from(body, 0)
            if size + 4 != length or not control & COMMAND:
                raise MalformedCommand("the answer is no command")
            response += body[PDV_HEADER.size :]
            if control & LAST:
                break
        message_id, status, comment = read_response(response)
        if message_id != self._message_id:
            raise MalformedCommand("the answer is to another message")
        return status, comment

    def release(self) -> None:
        """Ends it in good order; a peer that does not answer is left."""
        with suppress(OSError, ValueError):
            self._socket.settimeout(_CONNECT_S)
            self._socket.sendall(PDU_HEADER.pack(RELEASE_RQ, 4) + bytes(4))
            kind, _ = PDU_HEADER.unpack(self._reader.take(PDU_HEADER.size))
            if kind == RELEASE_RP:
                self._socket.unwrap()
        self._socket.close()

    def abort(self) -> None:
        """Ends it at once, from any thread; what waits in `store` raises."""
        shut(self._socket)
