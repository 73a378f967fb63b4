"""Both ends of an association for tests: a handler that writes everything down, a peer that writes PDUs."""

import hashlib
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from plumbing.dimse import (
    Acceptor,
    AssociationRequest,
    Limits,
    RefusedConnection,
    RefusedInstance,
    StoreCommand,
)
from plumbing.dimse.negotiation import write_proposal
from plumbing.tls import TLSFiles, client_context, server_contexts
from tests.ingest.objects import CT
from tests.ingest.system import Sender

EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"
VERIFICATION = "1.2.840.10008.1.1"
FIND = "1.2.840.10008.5.1.4.1.2.2.1"


@dataclass
class Listening:
    """An acceptor whose handler writes everything down."""

    port: int = 0
    acceptor: Acceptor = field(init=False)
    tls: TLSFiles | None = None
    requests: list[AssociationRequest] = field(default_factory=list)
    stored: list[tuple[StoreCommand, str, int]] = field(default_factory=list)
    refused_connections: list[RefusedConnection] = field(default_factory=list)
    refused_instances: list[RefusedInstance] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    discarded: int = 0
    chunks: int = 0
    known: Callable[[bytes | None], None] = lambda certificate: None
    judge: Callable[[AssociationRequest], None] = lambda request: None
    begin: Callable[[StoreCommand], None] = lambda command: None
    write: Callable[[memoryview], None] = lambda chunk: None
    finish: Callable[[StoreCommand], tuple[int, str]] = lambda command: (0, "")

    @property
    def refusals(self) -> list[tuple[str, str]]:
        return [(each.kind, each.reason) for each in self.refused_connections]

    def recognize(self, certificate_der: bytes | None, remote: str) -> None:
        self.known(certificate_der)

    def associate(self, request: AssociationRequest) -> "_Association":
        self.judge(request)
        self.requests.append(request)
        return _Association(self, request)

    def refused(self, refused: RefusedConnection) -> None:
        self.refused_connections.append(refused)

    def sender(self, title: str = "CT1", **more: Any) -> Sender:
        return Sender(self.port, title, self.tls, more.pop("called", "READROOM"), **more)


@dataclass
class _Association:
    listening: Listening
    request: AssociationRequest

    def store(self, command: StoreCommand) -> "_Sink":
        self.listening.begin(command)
        return _Sink(self.listening, command)

    def refused(self, refused: RefusedInstance) -> None:
        self.listening.refused_instances.append(refused)

    def ended(self, how: str) -> None:
        self.listening.ends.append(how)


class _Sink:
    def __init__(self, listening: Listening, command: StoreCommand) -> None:
        self.listening, self.command = listening, command
        self.digest = hashlib.sha256()
        self.length = 0

    def write(self, chunk: memoryview) -> None:
        self.listening.write(chunk)
        self.listening.chunks += 1
        self.digest.update(chunk)
        self.length += len(chunk)

    def finish(self) -> tuple[int, str]:
        answer = self.listening.finish(self.command)
        self.listening.stored.append((self.command, self.digest.hexdigest(), self.length))
        return answer

    def discard(self) -> None:
        self.listening.discarded += 1


@contextmanager
def listening(
    tls: TLSFiles | None = None,
    *,
    limits: Limits = Limits(),  # noqa: B008
    called: tuple[str, ...] | None = ("READROOM",),
    private_classes: bool = True,
) -> Iterator[Listening]:
    handler = Listening(tls=tls)
    contexts = server_contexts(tls) if tls else None
    handler.acceptor = Acceptor(
        "127.0.0.1:0",
        contexts=contexts,
        handler=handler,
        called_ae_titles=called,
        limits=limits,
        private_classes=private_classes,
    )
    handler.port = handler.acceptor.start()
    try:
        yield handler
    finally:
        handler.acceptor.stop()


class ByHand:
    """A peer that writes its PDUs itself."""

    def __init__(
        self,
        port: int,
        *,
        associate: bool = True,
        calling: str = "CT1",
        called: str = "READROOM",
        tls: TLSFiles | None = None,
    ):
        plain = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.socket = client_context(tls).wrap_socket(plain, server_hostname="localhost") if tls else plain
        if associate:
            self.socket.sendall(
                write_proposal(
                    calling, called, [(CT, EXPLICIT), (VERIFICATION, IMPLICIT), (FIND, EXPLICIT)], None
                )
            )
            assert self.pdu()[0] == 0x02

    def pdu(self) -> tuple[int, bytes]:
        """The next PDU; (0, b"") when the connection has ended."""
        head = self._read(6)
        if len(head) < 6:
            return 0, b""
        kind, length = struct.unpack(">BxL", head)
        return kind, self._read(length)

    def _read(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            try:
                more = self.socket.recv(length - len(data))
            except (ConnectionResetError, ssl.SSLError):
                break
            if not more:
                break
            data += more
        return data

    def send(self, kind: int, body: bytes) -> None:
        self.socket.sendall(struct.pack(">BxL", kind, len(body)) + body)

    def fragment(self, data: bytes, *, command: bool, last: bool = True, context: int = 1) -> "ByHand":
        control = (1 if command else 0) | (2 if last else 0)
        self.send(0x04, struct.pack(">LBB", len(data) + 2, context, control) + data)
        return self

    def command(
        self,
        command_field: int,
        *,
        sop_class: str = CT,
        instance: str = "1.2.3",
        data_set: int = 1,
        context: int = 1,
        message_id: int = 9,
    ) -> "ByHand":
        return self.fragment(
            command_set(
                {
                    0x0002: text(sop_class),
                    0x0100: struct.pack("<H", command_field),
                    0x0110: struct.pack("<H", message_id),
                    0x0700: struct.pack("<H", 0),
                    0x0800: struct.pack("<H", data_set),
                    0x1000: text(instance),
                }
            ),
            command=True,
            context=context,
        )

    def status(self) -> int:
        kind, body = self.pdu()
        assert kind == 0x04, (kind, body)
        at = body.index(struct.pack("<HHL", 0, 0x0900, 2))
        return int(struct.unpack_from("<H", body, at + 8)[0])

    def aborted(self) -> tuple[int, int]:
        """Source and reason of the A-ABORT that comes next, before the end."""
        kind, body = self.pdu()
        assert kind == 0x07, (kind, body)
        self.close()
        return body[2], body[3]

    def close(self) -> None:
        self.socket.close()


def rejection(port: int, **more: str) -> tuple[int, ...]:
    """Result, source and reason with which an association is rejected."""
    peer = ByHand(port, associate=False)
    peer.socket.sendall(
        write_proposal(more.get("calling", "CT1"), more.get("called", "READROOM"), [(CT, EXPLICIT)], None)
    )
    kind, body = peer.pdu()
    peer.close()
    assert kind == 0x03, (kind, body)
    return tuple(body[1:])


def text(value: str) -> bytes:
    return value.encode() + b"\0" * (len(value) % 2)


def command_set(values: dict[int, bytes]) -> bytes:
    body = b"".join(struct.pack("<HHL", 0, e, len(v)) + v for e, v in values.items())
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def checked_by_a_balancer(port: int, times: int = 40) -> None:
    """Connects and says nothing, as TCP checks of balancers do: half end with FIN, half with RST."""
    for number in range(times):
        with socket.create_connection(("127.0.0.1", port), 5) as check:
            if number % 2:
                check.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
