"""Position: a manager of one facility who guesses ids: a foreign one answers like an absent one, always.

They hold what can be held at a facility of their own, and nothing anywhere else.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from demo.cast import ADMIN, BRANDT, ENDPOINT, HUB, STANDARD, VOS, Person
from demo.setting import create_user
from demo.world import World
from kernel.errors import ReadroomError
from readroom.client import Readroom
from tests.e2e.test_deactivated import filled, methods
from tests.e2e.test_sharing import Shared, shared
from wire.access.v1.access_pb2 import (
    LEVEL_VIEW,
    READ_TYPE_FINAL,
    ROLE_FACILITY_MANAGER,
    Folder,
    GrantCaseRequest,
    PutInFolderRequest,
    SaveFolderRequest,
)
from wire.ingest.v1.ingest_pb2 import ListGatewaysRequest
from wire.reporting.v1.reporting_pb2 import CompleteRequest, LockRequest
from wire.routing.v1.routing_pb2 import ListRulesRequest
from wire.sharing.v1.sharing_pb2 import ListSharesRequest

__all__ = ["shared"]

MIA = Person("mia", "Mia Manager", ROLE_FACILITY_MANAGER, {STANDARD: LEVEL_VIEW}, STANDARD)
PERMISSIONS = ("share.admin", "facility.admin", "gateway.admin", "study.delete", "study.upload", "lock.break")

_ID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_REVISION = re.compile('revision: "[^"]*"')


def kind(name: str) -> str:
    """What an id of this name is an id of."""
    return next((each for each in ("facility", "user") if each in name), name.removesuffix("s"))


def id_fields(message: Message) -> Iterator[tuple[Message, str]]:
    """Each field of a request that names something by an id or a link, however deep."""
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for each in value if field.is_repeated else [value]:
                yield from id_fields(each)
        elif field.name.endswith(("_id", "_ids")) or field.name == "link":
            yield message, field.name


def put(message: Message, name: str, value: str) -> None:
    if message.DESCRIPTOR.fields_by_name[name].is_repeated:
        getattr(message, name)[:] = [value]
    else:
        setattr(message, name, value)


async def answer(readroom: Readroom, service: str, method: Any, request: Message) -> str:
    call = getattr(getattr(readroom, service), method.name)(request)
    try:
        if method.server_streaming:
            return f"{len([part async for part in call])} parts"
        said = str(await call)
    except ReadroomError as error:
        said = repr((type(error).__name__, error.sentence, error.field))
    return _REVISION.sub("", _ID.sub("(id)", said))


@pytest.fixture
async def foreign(shared: Shared) -> Mapping[str, list[str]]:
    """Ids of what there is at other facilities than the manager's."""
    world, case = shared.world, shared.case
    admin, vos = await world.acting_as(ADMIN), await world.acting_as(VOS.login)
    folder = Folder(name=f"Board {uuid4()}", member_user_ids=[world.user_ids[VOS.login]])
    folder = (await admin.access.SaveFolder(SaveFolderRequest(folder=folder))).folder
    put_in = PutInFolderRequest(folder_id=folder.folder_id, case_id=case.case_id)
    await admin.access.PutInFolder(put_in)
    to_brandt = GrantCaseRequest(case_id=case.case_id, user_id=world.user_ids[BRANDT.login])
    await admin.access.GrantCase(to_brandt)
    await vos.reporting.Lock(LockRequest(case_id=case.case_id))
    signed = CompleteRequest(case_id=case.case_id, read_type=READ_TYPE_FINAL, text="No fracture.")
    report = (await vos.reporting.Complete(signed)).report
    rules = await admin.routing.ListRules(ListRulesRequest(facility_id=world.facility_ids[HUB]))
    gateways = (await admin.ingest.ListGateways(ListGatewaysRequest())).gateways
    shares = (await vos.sharing.ListShares(ListSharesRequest())).shares
    return {
        "facility": [world.facility_ids[each] for each in (HUB, ENDPOINT)],
        "user": [world.user_ids[VOS.login]],
        "case_id": [case.case_id],
        "folder_id": [folder.folder_id],
        "share_id": [shares[0].share_id],
        "bucket_id": [each.bucket_id for each in shared.buckets.values()],
        "link": list(shared.links.values()),
        "report_id": [report.report_id],
        "rule_id": [each.rule_id for each in rules.rules],
        "gateway_id": [each.gateway_id for each in gateways if world.facility_ids[STANDARD] not in str(each)],
    }


@pytest.mark.proves("SEC-14", part="every method of every service")
async def test_what_is_foreign_answers_like_what_is_absent_whatever_is_asked(
    world: World, foreign: Mapping[str, list[str]]
) -> None:
    await create_user(world, MIA)
    for permission in PERMISSIONS:
        await world.permit(MIA, permission, STANDARD)
    mia = await world.acting_as(MIA.login)
    own = {"facility": world.facility_ids[STANDARD], "user": world.user_ids[MIA.login]}

    bases: list[dict[str, str]] = [{}, own]
    told, tried = [], set()
    for service, method in methods():
        for base in bases:
            request = filled(GetMessageClass(method.input_type)())
            fields = list(id_fields(request))
            for holder, name in fields:
                if kind(name) in base:
                    put(holder, name, base[kind(name)])
            for holder, name in fields:
                kept = getattr(holder, name)
                kept = kept[0] if holder.DESCRIPTOR.fields_by_name[name].is_repeated else kept
                put(holder, name, "x" * 43 if name == "link" else str(uuid4()))
                absent = await answer(mia, service, method, request)
                for each in foreign.get(kind(name), ()):
                    put(holder, name, each)
                    said = await answer(mia, service, method, request)
                    tried.add((method.name, name))
                    if said != absent:
                        told.append(f"{service}.{method.name} {name}: {absent} / {said}")
                put(holder, name, kept)
    assert not told, "\n".join(told)
    assert len(tried) > 55
