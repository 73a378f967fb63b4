"""A user who was deactivated acts no more, although their token is valid for up to a minute.

Position: somebody whose login session is open while an administrator deactivates them, with every permission.
"""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from demo.cast import ADMIN
from demo.world import World
from kernel.errors import NotFound, ReadroomError, Unauthenticated
from readroom.client import Readroom
from wire.access.v1 import access_pb2, identity_pb2
from wire.auth.v1 import auth_pb2
from wire.ingest.v1 import ingest_pb2
from wire.notify.v1 import notify_pb2
from wire.reporting.v1 import reporting_pb2
from wire.routing.v1 import routing_pb2
from wire.sharing.v1 import sharing_pb2

SERVICES = {
    "access": access_pb2,
    "identities": identity_pb2,
    "ingest": ingest_pb2,
    "notify": notify_pb2,
    "reporting": reporting_pb2,
    "routing": routing_pb2,
    "sharing": sharing_pb2,
}


def methods() -> Iterator[tuple[str, Any]]:
    """What people may ask of each service."""
    for name, contract in SERVICES.items():
        for service in contract.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                if "bff" in method.GetOptions().Extensions[auth_pb2.callers].user:
                    yield name, method


WORDS = {
    "code": "123456",
    "columns": "patient_name",
    "permission": "share.create",
    "sha256": "0" * 64,
    "valid_till": "2999-01-01",
}
UNSAID = {"anonymize", "at_least_revision", "email", "expires_on", "mobile_number", "page_token", "unlimited"}
"""Fields in which nothing is said: what is wrong by itself is refused before anybody is asked."""

NOT_BOTH = {
    ("ListFolderCasesRequest", "case_id"),
    ("ListGrantsRequest", "case_id"),
    ("RevokeRequest", "share_id"),
    ("SaveRuleRequest", "rule.rule_id"),
    ("ShareAgainRequest", "share.case_ids"),
}


def filled(message: Any, outer: str = "", inside: str = "") -> Any:
    """The request with something in each field."""
    outer = outer or message.DESCRIPTOR.name
    for field in message.DESCRIPTOR.fields:
        if field.name in UNSAID or (outer, inside + field.name) in NOT_BOTH:
            continue
        value: Any = None
        if field.message_type is not None and field.message_type.full_name.startswith("wire."):
            nested = getattr(message, field.name)
            inner = nested.add() if field.is_repeated else nested
            filled(inner, outer, f"{inside}{field.name}.")
        elif field.enum_type is not None:
            value = field.enum_type.values[-1].number
        elif field.type == FieldDescriptor.TYPE_STRING:
            ids = ("_id", "_ids")
            uid = "1.2.3" if field.name.endswith("_uid") else WORDS.get(field.name, "x")
            value = str(uuid4()) if field.name.endswith(ids) else uid
        elif field.type == FieldDescriptor.TYPE_BOOL:
            value = True
        if value is not None and field.is_repeated:
            getattr(message, field.name).append(value)
        elif value is not None:
            setattr(message, field.name, value)
    return message


async def answer(readroom: Readroom, name: str, method: Any) -> str:
    stub = getattr(readroom, name)
    request = filled(GetMessageClass(method.input_type)())
    try:
        call = getattr(stub, method.name)(request)
        if method.server_streaming:
            async for _ in call:
                pass
        else:
            await call
    except ReadroomError as error:
        return repr((type(error), error.sentence))
    return "done"


@pytest.mark.proves("SEC-14", part="a deactivated user is refused at every method of every service")
async def test_whoever_was_deactivated_is_refused_whatever_they_ask(world: World) -> None:
    admin = await world.acting_as(ADMIN)
    user = access_pb2.User(login="leaver", name="Leaver", role=access_pb2.ROLE_ADMINISTRATOR)
    user = (await admin.access.SaveUser(access_pb2.SaveUserRequest(user=user))).user
    leaver = await world.acting_as("leaver")
    await leaver.access.ListCases(access_pb2.ListCasesRequest())
    user.active = False
    await admin.access.SaveUser(access_pb2.SaveUserRequest(user=user))

    answers = {f"{name}.{method.name}": await answer(leaver, name, method) for name, method in methods()}

    # It keeps the text of whom the lock is; of any other case there is nothing to be seen.
    assert repr((NotFound, "there is no such case, or you do not see it")) == answers.pop(
        "reporting.Complete"
    )
    refused = repr((Unauthenticated, "there is no active user with this login"))
    said = {asked: answered for asked, answered in answers.items() if answered != refused}
    assert not said, "\n".join(map(str, said.items()))
    assert len(answers) > 50
