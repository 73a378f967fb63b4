"""A read that names a revision is as new as that: it waits for it briefly, or refuses (BEY-17)."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.descriptor import Descriptor

from kernel.errors import Invalid, Unavailable
from kernel.events import CasePlaced
from services.access.revision import RevisionTokens
from tests.access.service import Service
from tests.wait import eventually
from wire.access.v1 import access_pb2 as pb
from wire.auth.v1 import auth_pb2

READS: dict[str, Callable[[str], Any]] = {
    "Check": lambda case_id: pb.CheckRequest(case_id=case_id),
    "CheckMany": lambda case_id: pb.CheckManyRequest(case_ids=[case_id]),
    "CheckPermission": lambda _: pb.CheckPermissionRequest(permission="access.admin"),
    "ListCases": lambda _: pb.ListCasesRequest(),
    "CountCases": lambda _: pb.CountCasesRequest(),
    "DescribeCase": lambda case_id: pb.DescribeCaseRequest(case_id=case_id),
    "ListRelatedCases": lambda case_id: pb.ListRelatedCasesRequest(case_id=case_id),
    "WatchCases": lambda _: pb.WatchCasesRequest(),
    "ExportCases": lambda _: pb.ExportCasesRequest(),
}
"""By the name of the method: what jane asks of a case that she sees."""

OTHERS = {"PrepareGrant", "Explain", "Lint"}
"""They tell nobody what they see: what an act is decided on, and what another sees or would see."""


def tells_of_cases(message: Descriptor, within: frozenset[str] = frozenset()) -> bool:
    if message.name in ("Case", "Decision"):
        return True
    inner = [field.message_type for field in message.fields if field.message_type]
    return any(tells_of_cases(each, within | {message.name}) for each in inner if each.name not in within)


def test_each_read_of_cases_takes_a_revision() -> None:
    methods = pb.DESCRIPTOR.services_by_name["AccessService"].methods
    of_users = [each for each in methods if each.GetOptions().Extensions[auth_pb2.callers].user]
    assert {each.name for each in of_users if tells_of_cases(each.output_type)} - OTHERS <= READS.keys()
    taking = {each.name for each in methods if "at_least_revision" in each.input_type.fields_by_name}
    assert READS.keys() == taking


async def ask(service: Service, method: str, case_id: str, revision: str) -> None:
    request = READS[method](case_id)
    request.at_least_revision = revision
    answer = getattr(service.acting("jane"), method)(request, timeout=10)
    if method in ("WatchCases", "ExportCases"):
        async with aclosing(answer):
            async for _ in answer:
                if method == "WatchCases":
                    return
    else:
        await answer


async def ask_all(service: Service, case_id: str, revision: str) -> dict[str, BaseException | None]:
    """What each read fails with."""
    asked = (ask(service, method, case_id, revision) for method in READS)
    return dict(zip(READS, await asyncio.gather(*asked, return_exceptions=True), strict=True))


@pytest.mark.proves("BEY-17", part="a read that names a revision")
async def test_each_read_waits_for_the_revision_that_it_names_and_refuses_one_that_does_not_come(
    service: Service,
) -> None:
    facility_id = await service.facility()
    jane = await service.user()
    revision = await service.give(jane, facility_id, pb.LEVEL_VIEW)
    case_id = service.a_placement(facility_id, service.a_study(("1.2.3", "CT", 1)))
    await service.say(CasePlaced(case_id, 1))
    await eventually(service.listed)
    tokens = RevisionTokens("k" * 32)
    number = tokens.revision(revision, "")

    assert dict.fromkeys(READS) == await ask_all(service, str(case_id), revision)

    for error in (await ask_all(service, str(case_id), tokens.token(number + 1000))).values():
        assert isinstance(error, Unavailable)
        assert "has not arrived here yet" in str(error)
    for error in (await ask_all(service, str(case_id), str(uuid4()))).values():
        assert isinstance(error, Invalid)
        assert error.field == "at_least_revision"

    waiting = asyncio.create_task(ask_all(service, str(case_id), tokens.token(number + 1)))
    await asyncio.wait([waiting], timeout=0.2)
    assert not waiting.done()
    await service.give(jane, facility_id, pb.LEVEL_DRAFT)
    assert dict.fromkeys(READS) == await waiting
