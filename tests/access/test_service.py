"""Access over the wire: cases that arrive, what is answered, and whoever should not get in."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest

from kernel.errors import Conflict, Denied, Invalid, NotFound, Unauthenticated
from kernel.events import (
    CaseMoved,
    CasePlaced,
    CaseUndistributed,
    FacilityChanged,
    ReadingChanged,
    StudyChanged,
)
from local.pki import token_key
from plumbing.minting import mint
from services.access.received import FIRST_PART
from services.access.revision import RevisionTokens
from tests.access.service import ADMIN, CLOCK, FINAL, Service
from tests.wait import eventually
from wire.access.v1 import access_pb2 as pb
from wire.reporting.v1 import reporting_pb2

# The journey


@pytest.mark.proves("ACC-1")
@pytest.mark.proves("ACC-3")
async def test_a_placed_case_comes_to_the_worklist_of_who_may_see_it(service: Service) -> None:
    facility_id = await service.facility("MS44")
    jane, john = await service.user(), await service.user(login="john")
    await service.give(jane, facility_id, pb.LEVEL_VIEW)
    study_id = service.a_study(("1.1", "CT", 2))
    case_id = service.a_placement(facility_id, study_id)

    await service.say(CasePlaced(case_id, 1))

    (case,) = await eventually(service.listed)
    assert (str(case_id), "MS44", "Doe^Jane", "20261101") == (
        case.case_id,
        case.facility_name,
        case.patient_name,
        case.study_date,
    )
    assert (["CT"], 1, 2, "IN_TRANSMIT", pb.LEVEL_VIEW) == (
        list(case.modalities_in_study),
        case.series_count,
        case.instance_count,
        case.study_status_id,
        case.level,
    )
    assert [] == await service.listed("john")

    service.a_study(("1.1", "CT", 2), ("1.2", "MR", 5), study_id=study_id, version=2, settled=True)
    service.a_placement(facility_id, study_id, case_id=str(case_id), version=2)
    await service.say(StudyChanged(UUID(study_id), 2), CasePlaced(case_id, 2))

    async def is_ready() -> bool:
        (case,) = await service.listed()
        return (case.instance_count, case.study_status_id) == (7, "READY_TO_READ")

    await eventually(is_ready)
    assert john.login == "john"


async def test_facts_late_repeated_and_out_of_order_do_no_harm(service: Service) -> None:
    hub, endpoint = await service.facility("Hub"), await service.facility("Endpoint")
    jane = await service.user()
    await service.give(jane, endpoint, pb.LEVEL_VIEW)
    study_id = service.a_study(("1.1", "CT", 1), version=3)
    case_id = service.a_placement(endpoint, study_id, version=2)
    event_id = uuid4()

    await service.say(StudyChanged(UUID(study_id), 3), StudyChanged(uuid4(), 1), CasePlaced(uuid4(), 1))
    await service.say(CaseMoved(case_id, 2), CaseUndistributed(case_id, 1), event_id=event_id)
    await service.say(CaseMoved(case_id, 2), CasePlaced(case_id, 1), CaseMoved(case_id, 2))
    await eventually(service.listed)

    # An owner restored from an old backup says old things.
    service.a_placement(hub, study_id, case_id=str(case_id), version=1)
    service.a_study(study_id=study_id, version=1)
    last = await service.facility("Later")
    await service.say(CaseMoved(case_id, 1), StudyChanged(UUID(study_id), 1), FacilityChanged(UUID(last), 1))
    await service.facility("Last")

    (case,) = await service.listed()
    assert (endpoint, 1) == (case.facility_id, case.instance_count)


async def test_a_fact_waits_for_an_owner_that_is_away(service: Service) -> None:
    facility_id = await service.facility()
    await service.give(await service.user(), facility_id, pb.LEVEL_VIEW)
    case_id = service.a_placement(facility_id, service.a_study(("1.1", "CT", 1)))
    ask = service.routing.DescribePlacement

    async def away(request: Any, context: Any) -> Any:
        service.routing.DescribePlacement = ask  # type: ignore[method-assign]
        await context.abort(grpc.StatusCode.UNAVAILABLE, "away")

    service.routing.DescribePlacement = away  # type: ignore[method-assign]
    await service.say(CasePlaced(case_id, 1))

    await eventually(service.listed)


@pytest.mark.proves("REP-13", part="worklist")
async def test_how_far_a_case_was_read_comes_to_the_worklist_of_each_side(service: Service) -> None:
    facility_id = await service.facility()
    await service.give(await service.user(), facility_id, pb.LEVEL_VIEW)
    await service.give(await service.user(pb.ROLE_FACILITY_USER, "tim"), facility_id, pb.LEVEL_VIEW)
    case_id = service.a_placement(facility_id, service.a_study(("1.1", "CT", 1), settled=True))
    lock = service.a_lock("Dr. Roe")
    pre_read = service.a_projection(lock, pb.READ_TYPE_PRE_READ)
    service.a_reading(case_id, group=pre_read, facility=service.a_projection(lock))
    await service.say(ReadingChanged(case_id, 1), CasePlaced(case_id, 1))

    (there,), (here,) = await eventually(service.listed), await service.listed("tim")
    assert (lock.holder_name, lock.ends_at) == (there.lock_holder_name, there.lock_ends_at)
    assert ([pb.READ_TYPE_PRE_READ], pre_read.reported_at) == (
        list(there.reported_read_types),
        there.reported_at,
    )
    assert (lock.holder_name, lock.ends_at) == (here.lock_holder_name, here.lock_ends_at)
    for case in (there, here):
        assert lock.since == case.lock_since
    assert ([], False) == (list(here.reported_read_types), here.HasField("reported_at"))
    assert {"READY_TO_READ"} == {there.study_status_id, here.study_status_id}

    final = service.a_projection(None, pb.READ_TYPE_FINAL, state=FINAL)
    service.a_reading(case_id, group=final, facility=final, version=2)
    await service.say(ReadingChanged(case_id, 2))

    async def is_final() -> bool:
        return {case.study_status_id for case in await service.listed("tim")} == {"READ"}

    await eventually(is_final)
    (here,) = await service.listed("tim")
    assert ("", False) == (here.lock_holder_name, here.HasField("lock_ends_at"))
    assert not here.HasField("lock_since")
    assert ([pb.READ_TYPE_FINAL], final.reported_at) == (list(here.reported_read_types), here.reported_at)


@pytest.mark.proves("A64", part="what access hears over the wire")
@pytest.mark.proves("A74", part="over the wire")
async def test_drafts_and_pre_reads_that_reporting_tells_of_come_to_status_and_assignment(
    service: Service,
) -> None:
    facility_id, told = await service.facility(), reporting_pb2.DescribeReadingResponse
    await service.give(await service.user(), facility_id, pb.LEVEL_REPORT)
    await service.give(await service.user(pb.ROLE_RADIOLOGY_SUPPORT, "silva"), facility_id, pb.LEVEL_VIEW)
    case_id = service.a_placement(facility_id, service.a_study(("1.1", "CT", 1), settled=True))
    await service.say(CasePlaced(case_id, 1))
    await eventually(service.listed)

    async def says(*expected: str) -> None:
        async def so() -> bool:
            (case,) = await service.listed()
            return expected == (case.study_status_id, case.assignee_login)

        await eventually(so)

    silva = service.acting("silva")
    (jane,) = (await silva.ListAssignable(pb.ListAssignableRequest(case_id=str(case_id)))).users
    assert ("jane", False, pb.LEVEL_REPORT) == (jane.login, jane.is_assignee, jane.level)
    assign = pb.AssignRequest(case_id=str(case_id), assignee_login="jane")
    answer = await silva.Assign(assign)
    assert ("jane", pb.LEVEL_REPORT) == (answer.assignee_login, answer.assignee_level)
    await says("ASSIGNED", "jane")

    dictated = service.a_projection(service.a_lock("Jane"))
    dictated.draft = told.DRAFT_STATE_TRANSCRIBED
    dictated.at_lock.CopyFrom(told.AtLock(draft=told.DRAFT_STATE_DICTATED))
    service.a_reading(case_id, group=dictated, facility=service.a_projection(None))
    await service.say(ReadingChanged(case_id, 1))
    await says("TRANSCRIBED", "jane")

    pre_read = service.a_projection(None, pb.READ_TYPE_PRE_READ)
    pre_read.reports.add(
        read_type=pb.READ_TYPE_PRE_READ, author_login="jane", completed_at=pre_read.reported_at
    )
    service.a_reading(case_id, 2, group=pre_read, facility=service.a_projection(None))
    await service.say(ReadingChanged(case_id, 2))
    await says("READY_TO_READ", "")

    priority = pb.SetPriorityRequest(case_id=str(case_id), priority=pb.PRIORITY_STAT)
    token = (await silva.SetPriority(priority)).revision
    listed = await service.acting("jane").ListCases(pb.ListCasesRequest(at_least_revision=token))
    assert [pb.PRIORITY_STAT] == [case.priority for case in listed.cases]
    await silva.Assign(assign)
    assert (await silva.Unassign(pb.UnassignRequest(case_id=str(case_id)))).revision
    await says("READY_TO_READ", "")


async def test_a_user_reads_what_an_administrator_gave(service: Service) -> None:
    facility_id = await service.facility(time_zone="Europe/Amsterdam")
    jane = await service.user()
    privilege = pb.Privilege(
        user_id=jane.user_id,
        facility_id=facility_id,
        level=pb.LEVEL_REPORT,
        expires_on="2099-12-01",
        read_types=[pb.READ_TYPE_FINAL, pb.READ_TYPE_PRELIMINARY],
    )

    saved = await service.stub.SavePrivilege(pb.SavePrivilegeRequest(privilege=privilege))
    listed = await service.acting("jane").ListPrivileges(pb.ListPrivilegesRequest(user_id=jane.user_id))

    assert [saved.privilege] == list(listed.privileges)
    assert (pb.LEVEL_REPORT, "2099-12-01", [pb.READ_TYPE_PRELIMINARY, pb.READ_TYPE_FINAL]) == (
        saved.privilege.effective_level,
        saved.privilege.expires_on,
        list(saved.privilege.read_types),
    )
    assert "2099-11-30T23:00:00Z" == saved.privilege.expires_at.ToJsonString()
    assert "North" == saved.privilege.facility_name


async def test_a_decision_tells_images_reports_ways_and_studies(service: Service) -> None:
    facility_id = await service.facility()
    jane = await service.user()
    given = await service.give(jane, facility_id, pb.LEVEL_REPORT)
    study_id = service.a_study(("1.1", "CT", 1))
    case_id = service.a_placement(facility_id, study_id)
    await service.say(CasePlaced(case_id, 1))
    await eventually(service.listed)

    # Ingest forwards the user's token, whose audience is the peer that forwards it.
    keys = RevisionTokens("k" * 32)
    for peer, audience in (
        ("bff", "access"),
        ("ingest", "ingest"),
        ("routing", "access"),
        ("reporting", "reporting"),
    ):
        stub = service.called_by(peer, partial(service.token, login="jane", audience=audience))
        answer = await stub.Check(pb.CheckRequest(case_id=str(case_id), images=True))
        assert answer.decision == pb.Decision(
            allowed=True,
            level=pb.LEVEL_REPORT,
            images=True,
            reports=True,
            paths=[pb.PATH_PRIVILEGE],
            side=pb.SIDE_GROUP,
            read_types=[pb.READ_TYPE_FINAL],
            facility_id=facility_id,
            user_version=2,
            user_name="jane",
            user_id=jane.user_id,
            role=pb.ROLE_RADIOLOGIST,
            own_level=pb.LEVEL_REPORT,
            own_read_types=[pb.READ_TYPE_FINAL],
            studies=[
                pb.ConfirmedStudy(study_id=study_id, all_series=True, by_parts=True, parts=[FIRST_PART])
            ],
            instance_count=1,
        )
        assert keys.revision(answer.revision, "") == keys.revision(given, "")


@pytest.mark.proves("ACC-4")
@pytest.mark.proves("ACC-5")
async def test_folders_and_grants_over_the_wire(service: Service) -> None:
    facility_id = await service.facility()
    jane = await service.user()
    case_id = str(service.a_placement(facility_id, service.a_study(("1.1", "CT", 1))))
    await service.say(CasePlaced(UUID(case_id), 1))
    stub = service.stub

    async def put() -> pb.PutInFolderResponse | None:
        with suppress(NotFound):
            return await stub.PutInFolder(pb.PutInFolderRequest(folder_id=folder_id, case_id=case_id))
        return None

    folder = pb.Folder(name="Tumour board", member_user_ids=[jane.user_id])
    saved = await stub.SaveFolder(pb.SaveFolderRequest(folder=folder))
    folder_id = saved.folder.folder_id
    await eventually(put)
    assert [saved.folder] == list((await stub.ListFolders(pb.ListFoldersRequest())).folders)
    assert [case_id] == [case.case_id for case in await service.listed()]
    await stub.GrantCase(pb.GrantCaseRequest(case_id=case_id, user_id=jane.user_id))
    entry = pb.FolderCase(
        folder_id=folder_id,
        case_id=case_id,
        facility_id=facility_id,
        folder_name="Tumour board",
        facility_name="North",
    )
    for held in (
        await stub.ListFolderCases(pb.ListFolderCasesRequest(folder_id=folder_id)),
        await stub.ListFolderCases(pb.ListFolderCasesRequest(case_id=case_id)),
    ):
        assert [entry] == list(held.folder_cases)
    grant = pb.CaseGrant(
        case_id=case_id,
        user_id=jane.user_id,
        facility_id=facility_id,
        login=jane.login,
        name=jane.name,
        facility_name="North",
    )
    for granted in (
        await stub.ListGrants(pb.ListGrantsRequest(case_id=case_id)),
        await stub.ListGrants(pb.ListGrantsRequest(user_id=jane.user_id)),
    ):
        assert [grant] == list(granted.grants)
    await stub.RemoveFromFolder(pb.RemoveFromFolderRequest(folder_id=folder_id, case_id=case_id))
    assert [case_id] == [case.case_id for case in await service.listed()]
    await stub.RevokeGrant(pb.RevokeGrantRequest(case_id=case_id, user_id=jane.user_id))
    assert [] == await service.listed()

    changed = pb.Folder(folder_id=folder_id, name="Board", version=saved.folder.version)
    again = await stub.SaveFolder(pb.SaveFolderRequest(folder=changed))
    assert (2, ADMIN) == (again.folder.version, again.folder.changed_by)
    changed.name = "Other"
    with pytest.raises(Conflict, match=f"changed by `{ADMIN}`"):
        await stub.SaveFolder(pb.SaveFolderRequest(folder=changed))


async def test_grants_come_in_pages(service: Service) -> None:
    facility_id = await service.facility()
    jane = await service.user()
    placed = [str(service.a_placement(facility_id, service.a_study(("1.1", "CT", 1)))) for _ in range(3)]
    await service.say(*(CasePlaced(UUID(case_id), 1) for case_id in placed))

    async def granted() -> bool:
        with suppress(NotFound):
            for case_id in placed:
                await service.stub.GrantCase(pb.GrantCaseRequest(case_id=case_id, user_id=jane.user_id))
            return True
        return False

    await eventually(granted)
    ask = pb.ListGrantsRequest(user_id=jane.user_id, page_size=2)
    first = await service.stub.ListGrants(ask)
    ask.page_token = first.next_page_token
    second = await service.stub.ListGrants(ask)

    assert set(placed) == {each.case_id for each in [*first.grants, *second.grants]}
    assert (2, 1, "") == (len(first.grants), len(second.grants), second.next_page_token)


async def test_users_and_folders_come_in_pages(service: Service) -> None:
    for number in range(5):
        await service.user(login=f"user{number}")
        await service.stub.SaveFolder(pb.SaveFolderRequest(folder=pb.Folder(name=f"Größe {number}")))

    async def pages(ask: Callable[[str], Awaitable[Any]], items: str) -> list[Any]:
        found: list[Any] = []
        token = ""
        while True:
            answer = await ask(token)
            found += getattr(answer, items)
            token = answer.next_page_token
            if not token:
                return found

    users = await pages(
        lambda token: service.stub.ListUsers(pb.ListUsersRequest(page_size=2, page_token=token)), "users"
    )
    folders = await pages(
        lambda token: service.stub.ListFolders(pb.ListFoldersRequest(page_size=2, page_token=token)),
        "folders",
    )
    assert [ADMIN, *(f"user{number}" for number in range(5))] == [user.login for user in users]
    assert [f"Größe {number}" for number in range(5)] == [folder.name for folder in folders]


async def test_the_worklist_comes_in_pages_without_a_token_after_the_last(service: Service) -> None:
    facility_id = await service.facility()
    await service.give(await service.user(), facility_id, pb.LEVEL_VIEW)
    placed = [service.a_placement(facility_id, service.a_study(("1.1", "CT", 1))) for _ in range(4)]
    await service.say(*(CasePlaced(case_id, 1) for case_id in placed))

    async def all_arrived() -> bool:
        return len(await service.listed()) == 4

    await eventually(all_arrived)
    stub = service.acting("jane")
    first = await stub.ListCases(pb.ListCasesRequest(page_size=2))
    second = await stub.ListCases(pb.ListCasesRequest(page_size=2, page_token=first.next_page_token))

    assert {str(case_id) for case_id in placed} == {case.case_id for case in [*first.cases, *second.cases]}
    assert "" == second.next_page_token


@pytest.mark.proves("GWY-16", part="whoever sees the case sees it")
async def test_the_worklist_names_the_gateway_from_which_a_case_came(service: Service) -> None:
    facility_id = await service.facility()
    await service.give(await service.user(), facility_id, pb.LEVEL_VIEW)
    gateway_id = str(uuid4())
    study_id = service.a_study(("1.1", "CT", 1), calling_ae_title="RIVERSIDE", gateway_id=gateway_id)
    await service.say(CasePlaced(service.a_placement(facility_id, study_id), 1))
    [case] = await eventually(service.listed)
    assert (case.calling_ae_title, case.gateway_id) == ("RIVERSIDE", gateway_id)


# Revisions


async def test_a_write_answers_a_revision_that_reads_accept_and_nobody_can_count(service: Service) -> None:
    facility_id = await service.facility()
    jane = await service.user()
    first = await service.give(jane, facility_id, pb.LEVEL_VIEW)
    second = await service.give(jane, facility_id, pb.LEVEL_VIEW)  # changes nothing

    assert first != second
    assert len(first) == len(second)
    keys = RevisionTokens("k" * 32)
    assert keys.revision(first, "") == keys.revision(second, "") > 0
    for token in (first, second):
        await service.stub.Check(pb.CheckRequest(case_id=str(uuid4()), at_least_revision=token))
        await service.stub.ListCases(pb.ListCasesRequest(at_least_revision=token))


# Whoever should not get in


@pytest.mark.proves("SEC-14", part="access: tokens and callers")
@pytest.mark.parametrize(
    "token",
    ["absent", "expired", "foreign audience", "foreign issuer", "garbage", "unknown user", "quoted user"],
)
async def test_without_a_valid_token_of_a_user_there_is_no_answer(service: Service, token: str) -> None:
    tokens: dict[str, Callable[[], str | None]] = {
        "absent": lambda: None,
        "expired": lambda: service.token(now=CLOCK.now() - timedelta(minutes=5)),
        "foreign audience": lambda: service.token(audience="ingest"),
        "foreign issuer": lambda: mint(
            token_key()[0], login=ADMIN, session="s", audience="access", now=CLOCK.now()
        ),
        "garbage": lambda: "e30.e30.e30",
        "unknown user": lambda: service.token(login="mallory"),
        "quoted user": lambda: service.token(login="ada' or '1'='1"),
    }
    stub = service.called_by(token=tokens[token])

    for ask in (
        lambda: stub.Check(pb.CheckRequest(case_id=str(uuid4()))),
        lambda: stub.ListCases(pb.ListCasesRequest()),
        lambda: stub.ListUsers(pb.ListUsersRequest()),
        lambda: stub.SaveUser(pb.SaveUserRequest(user=pb.User(login="x", name="x"))),
    ):
        with pytest.raises(Unauthenticated):
            await ask()


@pytest.mark.proves("SEC-14", part="access: tokens and callers")
@pytest.mark.parametrize("peer", ["ingest", "routing", "reporting", "access"])
async def test_a_service_calls_only_what_the_contract_lets_it(service: Service, peer: str) -> None:
    stub = service.acting(ADMIN, peer)

    for ask in (
        lambda: stub.CountCases(pb.CountCasesRequest()),
        lambda: stub.SaveUser(pb.SaveUserRequest(user=pb.User(login="x", name="x"))),
        lambda: stub.SavePrivilege(pb.SavePrivilegeRequest()),
        lambda: stub.GrantCase(pb.GrantCaseRequest()),
    ):
        with pytest.raises(Denied):
            await ask()


async def test_the_pages_of_people_pass_over_nothing_and_those_of_ingest_do(service: Service) -> None:
    facility_id = await service.facility("North")
    await service.give(await service.user(), facility_id, pb.LEVEL_VIEW)
    request = pb.ListCasesRequest(skip=1)

    assert [] == list((await service.acting("jane", "ingest").ListCases(request)).cases)
    with pytest.raises(Invalid) as refused:
        await service.acting("jane").ListCases(request)
    assert refused.value.field == "skip"
    assert not (await service.acting("jane").CountCases(pb.CountCasesRequest())).count
