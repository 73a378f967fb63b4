"""A peer of ours that answers what no contract allows: a real gRPC server with a real certificate."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from local.pki import Pki
from plumbing import tls

SERVICES = {
    name: f"wire.{name}.v1.{name.capitalize()}Service"
    for name in ("access", "ingest", "notify", "reporting", "routing", "sharing")
}

STATUSES = [code.name for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
ANSWERS = ["undecodable", "nonsense", "empty"]

_MAX_DEPTH = 3


def nonsense(kind: Descriptor, depth: int = 0) -> Message:
    """A message in which every id is none, every enum value undefined and every instant missing."""
    message = message_factory.GetMessageClass(kind)()
    for part in kind.fields:
        if part.message_type is not None:
            if part.message_type.GetOptions().map_entry or part.message_type.full_name.startswith("google."):
                continue
            if depth < _MAX_DEPTH:
                inner = nonsense(part.message_type, depth + 1)
                if part.is_repeated:
                    getattr(message, part.name).append(inner)
                else:
                    getattr(message, part.name).CopyFrom(inner)
        else:
            value = _SCALARS[part.cpp_type]
            if part.is_repeated:
                getattr(message, part.name).append(value)
            else:
                setattr(message, part.name, value)
    return message


_SCALARS: dict[int, Any] = {
    FieldDescriptor.CPPTYPE_STRING: "nonsense\x00",
    FieldDescriptor.CPPTYPE_ENUM: 99,
    FieldDescriptor.CPPTYPE_BOOL: True,
    FieldDescriptor.CPPTYPE_INT32: -1,
    FieldDescriptor.CPPTYPE_INT64: -1,
    FieldDescriptor.CPPTYPE_UINT32: 2**32 - 1,
    FieldDescriptor.CPPTYPE_UINT64: 2**64 - 1,
    FieldDescriptor.CPPTYPE_DOUBLE: float("nan"),
    FieldDescriptor.CPPTYPE_FLOAT: float("nan"),
}


@dataclass
class BadPeers(grpc.GenericRpcHandler):
    """Answers every method of every contract in one way.

    Attributes:
        way: one of STATUSES or ANSWERS.
        asked: the methods that were called, as in `routing.ListVersions`.
    """

    way: str = "INTERNAL"
    asked: set[str] = field(default_factory=set)
    addresses: dict[str, str] = field(default_factory=dict)

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        _, service, method = str(details.method).split("/")
        name = service.split(".")[1]
        kind = descriptor_pool.Default().FindServiceByName(service).FindMethodByName(method).output_type
        return grpc.unary_unary_rpc_method_handler(self._answering(f"{name}.{method}", kind))

    def _answering(self, method: str, kind: Descriptor) -> Callable[[bytes, Any], Any]:
        async def answer(_request: bytes, context: Any) -> bytes:
            self.asked.add(method)
            if self.way == "undecodable":
                return b"\xff\xff\xff\xff"
            if self.way == "empty":
                return b""
            if self.way == "nonsense":
                return nonsense(kind).SerializeToString()
            await context.abort(grpc.StatusCode[self.way], "Doe^John")
            raise AssertionError("unreachable")

        return answer


@asynccontextmanager
async def bad_peers(pki: Pki) -> AsyncIterator[BadPeers]:
    """One server for each service, with that service's certificate."""
    peers = BadPeers()
    servers = []
    for name in SERVICES:
        server = grpc.aio.server(handlers=[peers])
        port = server.add_secure_port("127.0.0.1:0", tls.grpc_server_credentials(pki.tls(name)))
        await server.start()
        servers.append(server)
        peers.addresses[name] = f"127.0.0.1:{port}"
    try:
        yield peers
    finally:
        for server in servers:
            await server.stop(0)
