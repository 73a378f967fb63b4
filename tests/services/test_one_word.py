"""One word from the RPC to the act: who has read a contract finds the use case by its name."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor import FileDescriptor

from wire.access.v1 import access_pb2, identity_pb2
from wire.audit.v1 import audit_pb2
from wire.ingest.v1 import ingest_pb2
from wire.letters.v1 import letters_pb2
from wire.notify.v1 import notify_pb2
from wire.reporting.v1 import reporting_pb2
from wire.routing.v1 import routing_pb2
from wire.sharing.v1 import sharing_pb2

ROOT = Path(__file__).parents[2]

SERVED: dict[str, tuple[FileDescriptor, str]] = {
    **{
        name: (contract.DESCRIPTOR, f"services/{name}/api.py")
        for name, contract in (
            ("access", access_pb2),
            ("ingest", ingest_pb2),
            ("notify", notify_pb2),
            ("reporting", reporting_pb2),
            ("routing", routing_pb2),
            ("sharing", sharing_pb2),
        )
    },
    "identities": (identity_pb2.DESCRIPTOR, "services/access/identityapi.py"),
    "audit": (audit_pb2.DESCRIPTOR, "plumbing/verifying.py"),
    "dead letters": (letters_pb2.DESCRIPTOR, "plumbing/replaying.py"),
}
"""Each contract, and the file that serves it. The use cases stand in other files of the same folder."""


def snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def methods(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """The methods of classes, but for ports: what a port names, somebody else does."""
    for each in ast.walk(tree):
        if isinstance(each, ast.ClassDef) and "Protocol" not in map(ast.unparse, each.bases):
            yield from (one for one in each.body if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef)))


def test_a_name_of_several_words_is_one_name_in_snake_case() -> None:
    assert ["share", "describe_held_parts"] == [snake("Share"), snake("DescribeHeldParts")]


@pytest.mark.parametrize("name", SERVED)
def test_an_rpc_has_a_use_case_of_its_name_and_calls_it(name: str) -> None:
    contract, path = SERVED[name]
    rpcs = {method.name for service in contract.services_by_name.values() for method in service.methods}
    api = ROOT / path
    served = {each.name: each for each in methods(ast.parse(api.read_text())) if each.name in rpcs}
    acts = {
        each.name
        for other in api.parent.glob("*.py")
        if other != api and not other.stem.endswith(("store", "clients"))
        for each in methods(ast.parse(other.read_text()))
    }
    called = {
        rpc: {each.attr for each in ast.walk(method) if isinstance(each, ast.Attribute)}
        for rpc, method in served.items()
    }

    assert rpcs == served.keys()
    assert [] == sorted(rpc for rpc in rpcs if snake(rpc) not in acts)
    assert [] == sorted(rpc for rpc in rpcs if snake(rpc) not in called[rpc])
