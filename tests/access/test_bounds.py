"""Every answer fits into one message, whatever was sent, saved or stored by the version before."""

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.dicom import MAX_ATTRIBUTE_CHARACTERS, MAX_CHARACTERS, MAX_VALUE_CHARACTERS
from kernel.errors import Exhausted
from local.embedded import EmbeddedServers
from local.pki import Pki
from plumbing import pages, rpc
from services.access import cursors
from services.access.acts import CaseAct
from services.access.administration import MAX_DESCRIBED_USERS, VERSIONS_PAGE
from services.access.buckets import MAX_CASES
from services.access.caseindex import CaseSummary
from services.access.clients import MAX_KEYWORD_CHARACTERS, MAX_NOTES
from services.access.domain import Permission
from services.access.explained import (
    MAX_CLAUSE_CHARACTERS,
    MAX_CLAUSES,
    MAX_FOLDERS,
    MAX_NEAR,
    MAX_NEAR_CHARACTERS,
    MAX_SHOWN_CHARACTERS,
    MAX_VALUES,
)
from services.access.filter import grammar, searching
from services.access.filter.fields import FIELDS
from services.access.filter.form import MAX_ENTRIES
from services.access.identity import MAX_IDENTITIES
from services.access.linking import MAX_GAINS, MAX_RECORDS
from services.access.linting import MAX_CAUTIONS, SAMPLES
from services.access.listed import MAX_PART_BYTES
from services.access.live import MAX_ROWS
from services.access.me import MAX_NAMED_FACILITIES
from services.access.moves import MAX_NAMED
from services.access.names import MAX_FOLDER_NAME_CHARACTERS, MAX_USER_NAME_CHARACTERS
from services.access.received import LISTED, MAX_MODALITIES, ReceivedSeries, StudyAttributes
from services.access.usecases import MAX_CHECKED_CASES
from tests.access.service import Service, serve
from wire.access.v1 import access_pb2 as pb
from wire.access.v1 import identity_pb2

NAME = "\N{GRINNING FACE}"
"""As many bytes as a character may take."""

# The longest text of each field that is answered, in characters of four bytes; ids and the like have fewer.
VALUE = {vr: MAX_VALUE_CHARACTERS[vr] for vr in MAX_CHARACTERS}
CHARACTERS = {
    "Case.patient_name": VALUE["PN"],
    "Case.patient_id": VALUE["LO"],
    "Case.patient_birth_date": VALUE["DA"],
    "Case.patient_sex": VALUE["CS"],
    "Case.study_instance_uid": VALUE["UI"] // 4,  # ingest takes digits and dots only
    "Case.study_date": VALUE["DA"],
    "Case.study_time": VALUE["TM"],
    "Case.study_description": VALUE["LO"],
    "Case.accession_number": VALUE["SH"],
    "Case.referring_physician_name": VALUE["PN"],
    "Case.modalities_in_study": VALUE["CS"],
    "Case.study_status_id": 4,
    "Case.written_differently": MAX_KEYWORD_CHARACTERS // 4,
    "AssignResponse.assignee_login": 32,
    "Assignable.hidden_by": 12,  # keywords are of ASCII
    "Assignable.login": 32,
    "BoundIdentity.bound_by": 32,
    "DescribeInvitationResponse.login": 32,
    "DescribeInvitationResponse.name": MAX_USER_NAME_CHARACTERS,
    "DescribeMeResponse.login": 32,
    "DescribeMeResponse.name": MAX_USER_NAME_CHARACTERS,
    "DescribeMeResponse.time_zone": 16,  # ASCII
    "HeldPermission.permission": 8,
    "Identity.issuer": 64,  # of 255 characters of ASCII
    "Identity.subject": 64,
    "Invitation.invited_by": 32,
    "InviteResponse.code": 16,
    "InviteResponse.login": 32,
    "InviteResponse.name": MAX_USER_NAME_CHARACTERS,
    "NamedFacility.name": 64,
    "NamedFacility.time_zone": 16,
    "RedeemInvitationResponse.login": 32,
    "RedeemInvitationResponse.name": MAX_USER_NAME_CHARACTERS,
    "ResolveIdentityResponse.login": 32,
    "ResolveIdentityResponse.name": MAX_USER_NAME_CHARACTERS,
    "Assignable.name": MAX_USER_NAME_CHARACTERS,
    "Case.assignee_login": 32,
    "Case.calling_ae_title": VALUE["AE"] // 4,  # ingest takes ASCII only
    "Case.lock_holder_name": MAX_USER_NAME_CHARACTERS,
    "BeginMoveResponse.folder_names": MAX_FOLDER_NAME_CHARACTERS,
    "BeginMoveResponse.grant_logins": 32,
    "CaseSummary.patient_initials": 6,
    "ReadSearchResponse.expression": searching.MAX_WORDS * 4 * 100 + 4 * searching.MAX_CHARACTERS,
    "SightGained.login": 32,
    "SaveUserResponse.warnings": 300,  # it names the countries
    "CaseSummary.study_date": VALUE["DA"],
    "CaseSummary.study_description": VALUE["LO"],
    "CaseSummary.time_zone": 64,
    "ConfirmedStudy.series_instance_uids": VALUE["UI"] // 4,
    "Decision.user_name": MAX_USER_NAME_CHARACTERS,
    "ExplainedClause.text": MAX_CLAUSE_CHARACTERS,
    "ExplainedClause.values": MAX_SHOWN_CHARACTERS,
    "ExplainedClause.near_misses": MAX_NEAR_CHARACTERS,
    "ExplainedPath.folder_names": MAX_FOLDER_NAME_CHARACTERS,
    "Filter.expression": grammar.MAX_CHARACTERS_IN_ALL,
    "Filter.login": 32,
    "Filter.fault": 200,  # it quotes 40 characters of the filter
    "FilteredUser.login": 32,
    "FilterForm.age_from": 8,
    "FilterForm.age_to": 8,
    "FilterForm.study_from": 8,
    "FilterForm.study_to": 8,
    "FilterForm.referring_physicians": grammar.MAX_CHARACTERS // MAX_ENTRIES,
    "FilterForm.modalities": grammar.MAX_CHARACTERS // MAX_ENTRIES,
    "FilterForm.description_words": grammar.MAX_CHARACTERS // MAX_ENTRIES,
    "FilterCaution.sentence": 300,
    "FilterFault.expected": 300,
    "FilterFault.field": 8,
    "FilterFault.picture": 200,
    "FilterFault.problem": 300,
    "FilterFault.repaired": grammar.MAX_CHARACTERS_IN_ALL,
    # Of facilities, and of the rest that is at most as long as an expression.
    "LintResponse.form_expression": grammar.MAX_FACILITIES * 68 + grammar.MAX_CHARACTERS,
    # At most twenty values of a list are read, and each condition in some 150 characters more.
    "LintResponse.reading": grammar.MAX_CHARACTERS + 200 * 150,
    "Folder.changed_by": 32,
    "CaseGrant.login": 32,
    "CaseGrant.name": MAX_USER_NAME_CHARACTERS,
    "FolderCase.folder_name": MAX_FOLDER_NAME_CHARACTERS,
    "Folder.name": MAX_FOLDER_NAME_CHARACTERS,
    "PatientLink.linked_by": 32,
    "PatientRecord.issuer": VALUE["LO"],
    "PatientRecord.patient_birth_date": VALUE["DA"],
    "PatientRecord.patient_id": VALUE["LO"],
    "PatientRecord.patient_name": VALUE["PN"],
    "PermissionGrant.permission": 8,
    "Privilege.expires_on": 3,
    "User.email": 64,
    "User.login": 32,
    "User.mobile_number": 4,
    "User.name": MAX_USER_NAME_CHARACTERS,
    "WatchCasesResponse.cursor": cursors.MAX_CHARACTERS // 4,
    "WatchCasesResponse.went": 9,  # ids
    "facility_name": 64,
    "changed_by": 32,
    "next_page_token": pages.MAX_TOKEN_CHARACTERS // 4,
    "previous_page_token": pages.MAX_TOKEN_CHARACTERS // 4,
    "revision": 16,
}

BY_REQUEST = rpc.MAX_REQUEST_BYTES // 38
"""Of ids that came in one request."""

# How many of each repeated field an answer without pages has, or a row. 0: the answer is Exhausted where they
# would not fit; permissions came in one request, of 1 MiB at most.
COUNTS = {
    "Assignable.hidden_by": len(FIELDS),
    "BeginDeleteResponse.study_ids": 1000,
    "BeginMoveResponse.folder_names": MAX_NAMED,
    "BeginMoveResponse.grant_logins": MAX_NAMED,
    "Case.may": len(CaseAct),
    "Case.modalities_in_study": MAX_MODALITIES,
    "Case.written_differently": MAX_NOTES,
    "CheckManyResponse.decisions": MAX_CHECKED_CASES,
    "CheckPermissionResponse.facility_ids": BY_REQUEST,
    "CheckAgainResponse.studies": 0,
    "Decision.studies": 0,
    "DescribeCasesResponse.cases": MAX_CASES,
    "DescribeMeResponse.permissions": len(Permission),
    "HeldPermission.facilities": MAX_NAMED_FACILITIES,
    "ListIdentitiesResponse.identities": MAX_IDENTITIES,
    "DescribePatientResponse.linked": MAX_RECORDS,
    "DescribePatientResponse.links": MAX_RECORDS**2 // 2,
    "LinkPatientsResponse.gains": MAX_GAINS,
    "UnlinkPatientsResponse.records": 2,
    "Shown.case_ids": MAX_CASES,
    "PrepareGrantResponse.decisions": MAX_CASES,
    "PrepareGrantResponse.cases": MAX_CASES,
    "PrepareGrantResponse.users": MAX_DESCRIBED_USERS,
    "DescribeUsersResponse.users": MAX_DESCRIBED_USERS,
    "DescribeUsersResponse.privileges": 0,
    "ExplainedClause.values": MAX_VALUES,
    "ExplainedClause.near_misses": MAX_NEAR,
    "ExplainedFilter.clauses": MAX_CLAUSES,
    "ExplainedPath.folder_names": MAX_FOLDERS,
    "FilterForm.referring_physicians": MAX_ENTRIES,
    "FilterForm.modalities": MAX_ENTRIES,
    "FilterForm.description_words": MAX_ENTRIES,
    "FilterForm.facility_ids": grammar.MAX_FACILITIES,
    "LintResponse.cautions": MAX_CAUTIONS,
    "LintResponse.samples": SAMPLES,
    "Folder.member_user_ids": BY_REQUEST,
    "SaveUserResponse.warnings": 1,
    "ListVersionsResponse.versions": VERSIONS_PAGE,
    "User.permissions": 0,
    "WatchCasesResponse.rows": MAX_ROWS,
    "WatchCasesResponse.went": MAX_ROWS,
    "paths": 5,
    "read_types": 4,
    "own_read_types": 4,
    "reported_read_types": 4,
}


def the_largest(kind: Descriptor) -> Message:
    """A message whose every field is as large as it may be; a list with pages has one row."""
    message: Message = GetMessageClass(kind)()
    has_pages = "next_page_token" in kind.fields_by_name
    for field in kind.fields:
        if not field.is_repeated:
            set_largest(message, field)
            continue
        is_row = has_pages and field.message_type is not None
        for _ in range(1 if is_row else bound_of(COUNTS, kind, field)):
            set_largest(message, field)
    return message


def set_largest(message: Message, field: Any) -> None:
    value: Any
    match field.type:
        case FieldDescriptor.TYPE_MESSAGE if field.message_type.full_name == "google.protobuf.Timestamp":
            getattr(message, field.name).FromJsonString("9999-12-31T23:59:59.999999Z")
            return
        case FieldDescriptor.TYPE_MESSAGE:
            value = the_largest(field.message_type)
            target = getattr(message, field.name)
            target.append(value) if field.is_repeated else target.CopyFrom(value)
            return
        case FieldDescriptor.TYPE_STRING if field.name.endswith(("_id", "_ids")) and not is_bound(field):
            value = str(uuid4())
        case FieldDescriptor.TYPE_STRING:
            value = NAME * bound_of(CHARACTERS, field.containing_type, field)
        case FieldDescriptor.TYPE_BYTES:
            value = b"x" * MAX_PART_BYTES
        case FieldDescriptor.TYPE_BOOL:
            value = True
        case FieldDescriptor.TYPE_ENUM:
            value = field.enum_type.values[-1].number
        case FieldDescriptor.TYPE_INT32:
            value = 2**31 - 1
        case FieldDescriptor.TYPE_INT64:
            value = 2**63 - 1
        case _:
            raise AssertionError(f"{field.full_name} is of a kind that this test does not know")
    if field.is_repeated:
        getattr(message, field.name).append(value)
    else:
        setattr(message, field.name, value)


def is_bound(field: Any) -> bool:
    return f"{field.containing_type.name}.{field.name}" in CHARACTERS


def bound_of(bounds: dict[str, int], kind: Descriptor, field: Any) -> int:
    for key in (f"{kind.name}.{field.name}", field.name):
        if key in bounds:
            return bounds[key]
    raise AssertionError(f"{kind.name}.{field.name} has no bound: give it one, and this test the bound")


METHODS = [
    *pb.DESCRIPTOR.services_by_name["AccessService"].methods,
    *identity_pb2.DESCRIPTOR.services_by_name["IdentityService"].methods,
]


@pytest.mark.parametrize("kind", [method.output_type for method in METHODS], ids=lambda kind: kind.name)
def test_the_largest_answer_fits_into_one_message(kind: Descriptor) -> None:
    """By reflection over the contract: whoever adds a field or a list gives it a bound."""
    largest = the_largest(kind).ByteSize()

    # A page ends where its rows take 3 MiB, so one row and the token are what must fit.
    assert largest < pages.MAX_PAGE_BYTES
    assert pages.MAX_PAGE_BYTES + pages.MAX_TOKEN_CHARACTERS + 64 < rpc.MAX_RESPONSE_BYTES


def test_a_page_of_the_largest_cases_is_not_cut_off_early() -> None:
    row = the_largest(pb.Case.DESCRIPTOR)
    rows, token = pages.fit([row] * (pages.MAX_SIZE + 1), pages.MAX_SIZE, lambda last: "x", lambda each: each)

    assert pages.MAX_SIZE == len(rows)
    assert token


@settings(max_examples=25)
@given(st.lists(st.integers(0, 60), max_size=40), st.integers(1, 20))
def test_pages_of_rows_of_any_size_are_complete_and_in_order(kilobytes: list[int], limit: int) -> None:
    everything = [
        (number, pb.User(name="x" * (size * 50_000))) for number, size in enumerate(kilobytes, start=1)
    ]
    seen: list[pb.User] = []
    after = 0
    while True:
        found = [each for each in everything if each[0] > after][: limit + 1]
        rows, token = pages.fit(found, limit, lambda last: last[0], lambda each: each[1])
        assert len(rows) <= limit
        assert sum(row.ByteSize() for row in rows) <= pages.MAX_PAGE_BYTES
        seen += rows
        if not token:
            break
        after = pages.after(token, int) or 0
    assert [user for _, user in everything] == seen


# What a sender writes


@given(st.fixed_dictionaries({name: st.text(max_size=600) for name in StudyAttributes.__slots__}))
def test_an_attribute_holds_no_more_than_its_value_representation_allows(values: dict[str, str]) -> None:
    attributes = StudyAttributes(**values)

    assert attributes == StudyAttributes(
        **{name: getattr(attributes, name) for name in StudyAttributes.__slots__}
    )
    largest = the_largest(pb.Case.DESCRIPTOR)
    for name, value in values.items():
        kept = getattr(attributes, name)
        assert len(kept) <= (len(getattr(largest, name)) if name in LISTED else MAX_ATTRIBUTE_CHARACTERS)
        assert kept == value or len(value) > MAX_CHARACTERS["AS"]


@given(st.lists(st.text(max_size=40), max_size=200), st.integers(0, 9))
def test_modalities_are_few_and_the_rest_is_counted(given: list[str], before: int) -> None:
    series = [ReceivedSeries("1.2.3", modality, 1) for modality in given]
    summary = CaseSummary(
        StudyAttributes(), tuple(each.modality for each in series), len(series), 0, True, before
    )

    shown = summary.modalities_in_study
    distinct = {modality[:16] for modality in given if modality}
    assert sorted(distinct)[:MAX_MODALITIES] == list(shown)
    assert before + len(distinct) == len(shown) + summary.modalities_left_out


# Over the wire


@pytest.fixture
async def stored(
    servers: EmbeddedServers, fresh_database: Callable[[str], str], pki: Pki
) -> AsyncIterator[tuple[Service, "asyncpg.Connection[Any]"]]:
    """The service, and what the version before may have left in its tables."""
    url = fresh_database("access")
    async for service in serve(servers, url, pki):
        connection = await asyncpg.connect(url)
        yield service, connection
        await connection.close()


async def every(ask: Callable[[str], Any], items: str) -> list[list[Any]]:
    """The pages, each of which has arrived."""
    found, token = [], ""
    while True:
        answer = await ask(token)
        found.append(list(getattr(answer, items)))
        token = answer.next_page_token
        if not token:
            return found


def flat(found: Iterable[list[Any]]) -> list[Any]:
    return [item for page in found for item in page]


async def test_the_largest_worklist_page_arrives_also_of_rows_of_the_version_before(
    stored: tuple[Service, "asyncpg.Connection[Any]"],
) -> None:
    service, connection = stored
    facility_id = await service.facility("North")
    await service.give(await service.user(), facility_id, pb.LEVEL_VIEW)
    texts = ", ".join(f"repeat('{NAME}', 1020)" for _ in LISTED)
    await connection.execute(
        f"""
        insert into cases (case_id, facility_id, received_at, study_instance_uid, undistributed, placed_at,
            placement_version, modalities_in_study, series_count, instance_count, settled, version,
            {", ".join(LISTED)})
        select gen_random_uuid(), $1, now() + number * interval '1 s', repeat('1', 64), true, now(), 1,
            array(select number || repeat('{NAME}', 40) from generate_series(1, 40) as s (number)),
            9, 9, true, 1, {texts}
        from generate_series(1, 501) as n (number)
        """,
        facility_id,
    )

    found = await every(
        lambda token: service.acting("jane").ListCases(
            pb.ListCasesRequest(page_size=pages.MAX_SIZE, page_token=token)
        ),
        "cases",
    )

    assert [500, 1] == [len(page) for page in found]
    assert {(MAX_MODALITIES, 8)} == {
        (len(case.modalities_in_study), case.modalities_left_out) for case in flat(found)
    }
    assert {MAX_CHARACTERS["PN"]} == {len(case.patient_name) for case in flat(found)}  # of one group


async def test_folders_arrive_whole_however_many_members_they_have(
    stored: tuple[Service, "asyncpg.Connection[Any]"],
) -> None:
    service, connection = stored
    await connection.execute(
        """
        insert into users (user_id, login, name, role, active, version)
        select gen_random_uuid(), 'user' || number, 'x', 'radiologist', true, 1
        from generate_series(1, 999) as n (number);
        insert into folders (folder_id, name, name_folded)
        select gen_random_uuid(), 'Folder' || number, 'folder' || number
        from generate_series(1, 90) as n (number);
        insert into folder_members (folder_id, user_id)
        select folder_id, user_id from folders cross join users
        """
    )

    found = await every(
        lambda token: service.stub.ListFolders(pb.ListFoldersRequest(page_size=500, page_token=token)),
        "folders",
    )

    assert 2 == len(found)  # of 90 times 38 kB
    names = [folder.name.casefold() for folder in flat(found)]
    assert 90 == len(names)
    assert sorted(set(names)) == names
    assert {1000} == {len(folder.member_user_ids) for folder in flat(found)}


async def test_privileges_come_in_pages_and_what_has_none_says_that_it_is_too_much(
    stored: tuple[Service, "asyncpg.Connection[Any]"],
) -> None:
    service, connection = stored
    await connection.execute(
        """
        insert into facilities (facility_id, name, time_zone, version)
        select gen_random_uuid(), repeat('\U0001f600', 61) || number, 'UTC', 1
        from generate_series(1, 120) as n (number);
        insert into users (user_id, login, name, role, active, version)
        select gen_random_uuid(), 'user' || number, 'x', 'radiologist', true, 1
        from generate_series(1, 100) as n (number);
        insert into privileges (user_id, facility_id, level, expires_on, read_types)
        select user_id, facility_id, 3, '2999-01-01', '{final}' from facilities cross join users
        """
    )
    rows = await connection.fetch("select user_id::text from users where login like 'user%'")
    user_ids = [row["user_id"] for row in rows]

    async def ask(token: str, size: int) -> pb.ListPrivilegesResponse:
        return await service.stub.ListPrivileges(
            pb.ListPrivilegesRequest(user_id=user_ids[0], page_token=token, page_size=size)
        )

    whole = flat(await every(lambda token: ask(token, 0), "privileges"))
    pages_of_50 = await every(lambda token: ask(token, 50), "privileges")
    assert [50, 50, 20] == [len(page) for page in pages_of_50]
    assert whole == flat(pages_of_50)
    assert 120 == len({each.facility_id for each in whole})

    notify = service.called_by("notify", lambda: None)
    with pytest.raises(Exhausted, match="ask for fewer users"):
        await notify.DescribeUsers(pb.DescribeUsersRequest(user_ids=user_ids))
    half = await notify.DescribeUsers(pb.DescribeUsersRequest(user_ids=user_ids[:50]))
    assert 50 * 120 == len(half.privileges)
