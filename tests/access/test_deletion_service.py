"""Deletion over the wire: ingest begins it for a user and asks again for itself; nobody else does."""

from uuid import UUID, uuid4

import pytest

from kernel.errors import Denied, Invalid, NotFound
from kernel.events import CaseDeleted, CasePlaced
from tests.access.service import Service
from tests.wait import eventually
from wire.access.v1 import access_pb2 as pb


async def a_deletable_case(service: Service) -> tuple[str, str, UUID]:
    north = await service.facility()
    jane = await service.user()
    jane.permissions.add(permission="study.delete", facility_id=north)
    await service.stub.SaveUser(pb.SaveUserRequest(user=jane, set_permissions=True))
    await service.give(jane, north, pb.LEVEL_VIEW)
    study_id = service.a_study(("1.1", "CT", 1))
    case_id = service.a_placement(north, study_id)
    await service.say(CasePlaced(case_id, 1))
    await eventually(lambda: service.listed())
    return north, study_id, case_id


@pytest.mark.proves("ING-6", part="from the verb to the purge")
async def test_ingest_begins_for_a_user_and_asks_again_for_itself(service: Service) -> None:
    north, study_id, case_id = await a_deletable_case(service)
    request = pb.BeginDeleteRequest(case_id=str(case_id), deletion_id=str(uuid4()))
    for_jane, for_itself = service.acting("jane", "ingest"), service.called_by("ingest", lambda: None)

    with pytest.raises(NotFound):
        await for_itself.BeginDelete(request)
    begun = await for_jane.BeginDelete(request)
    again = await for_itself.BeginDelete(request)

    assert ([study_id], north) == (list(begun.study_ids), begun.facility_id)
    assert (begun.study_ids, begun.facility_id) == (again.study_ids, again.facility_id)
    checked = await service.acting("jane").Check(
        pb.CheckRequest(case_id=str(case_id), at_least_revision=begun.revision)
    )
    assert pb.Decision(being_deleted=True) == checked.decision
    assert [] == await service.listed()

    service.ingest.deletions.add(str(case_id))
    await service.say(CaseDeleted(case_id, 1))

    async def is_gone() -> bool:
        answer = await service.acting("jane").Check(pb.CheckRequest(case_id=str(case_id)))
        return answer.decision == pb.Decision()

    await eventually(is_gone)


@pytest.mark.proves("ING-7", part="a fact alone purges nothing that nobody deletes: the worklist")
async def test_a_deletion_that_ingest_does_not_know_keeps_no_case_away(service: Service) -> None:
    """Also none that access has not heard of yet: a tombstone would keep it away for good."""
    case_id = uuid4()
    await service.say(CaseDeleted(case_id, 1))
    sharing = service.called_by("sharing", lambda: None)
    check = pb.CheckDeletionRequest(case_id=str(case_id))
    await eventually(lambda: service.ingest.asked_of.count(str(case_id)) > 1)  # refused, and tried again
    assert not (await sharing.CheckDeletion(check)).begun

    service.ingest.deletions.add(str(case_id))
    await service.say(CaseDeleted(case_id, 2))

    async def is_deleted() -> bool:
        return (await sharing.CheckDeletion(check)).begun

    await eventually(is_deleted)


@pytest.mark.parametrize("peer", ["bff", "routing", "sharing"])
async def test_nobody_but_ingest_may_begin_a_deletion(service: Service, peer: str) -> None:
    request = pb.BeginDeleteRequest(case_id=str(uuid4()), deletion_id=str(uuid4()))

    with pytest.raises(Denied):
        await service.acting("ada", peer).BeginDelete(request)
    with pytest.raises(Denied):
        await service.called_by(peer, lambda: None).BeginDelete(request)


@pytest.mark.parametrize("hostile", ["", "x", "'; drop table cases", "1" * 4000])
async def test_ids_that_are_none_are_refused_by_name(service: Service, hostile: str) -> None:
    ingest = service.acting("ada", "ingest")
    good = str(uuid4())

    for field, request in (
        ("case_id", pb.BeginDeleteRequest(case_id=hostile, deletion_id=good)),
        ("deletion_id", pb.BeginDeleteRequest(case_id=good, deletion_id=hostile)),
    ):
        with pytest.raises(Invalid) as refusal:
            await ingest.BeginDelete(request)
        assert field == refusal.value.field
