"""The yardstick of P7: the least a handler must do. Mutual TLS, the token verified, one SELECT.

Run as `python -m bench.minimal_check PORT CERTIFICATE KEY CA TOKEN_KEYS` with DATABASE_URL in the
environment; it answers `Check` with a constant decision after reading the case's facility.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import grpc

from kernel.clock import MonotonicClock
from plumbing import tls
from plumbing.tokenkeys import KeyFile
from plumbing.tokens import Verifier
from wire.access.v1.access_pb2 import CheckRequest, CheckResponse, Decision


def handler(pool: "asyncpg.Pool[asyncpg.Record]", verifier: Verifier) -> grpc.GenericRpcHandler:
    """Verifies the token, reads one row, answers."""

    async def check(request: CheckRequest, context: Any) -> CheckResponse:
        token = dict(context.invocation_metadata())["authorization"].removeprefix("Bearer ")
        verifier.verify(token, ("access",))
        statement = "select facility_id from cases where case_id = $1"
        row = await pool.fetchrow(statement, UUID(request.case_id))
        decision = Decision(allowed=row is not None, facility_id=str(row[0]) if row else "")
        return CheckResponse(decision=decision)

    method = grpc.unary_unary_rpc_method_handler(
        check,
        request_deserializer=CheckRequest.FromString,
        response_serializer=CheckResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler("wire.access.v1.AccessService", {"Check": method})


async def serve(port: str, files: tls.TLSFiles, token_keys: Path, database_url: str) -> None:
    pool = await asyncpg.create_pool(database_url, min_size=8, max_size=8)
    server = grpc.aio.server(handlers=[handler(pool, Verifier(KeyFile(token_keys), MonotonicClock()))])
    server.add_secure_port(f"127.0.0.1:{port}", tls.grpc_server_credentials(files))
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    listen, certificate, key, ca, issuer = sys.argv[1:]
    files = tls.TLSFiles(Path(certificate), Path(key), Path(ca))
    asyncio.run(serve(listen, files, Path(issuer), os.environ["DATABASE_URL"]))
