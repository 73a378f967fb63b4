"""Bad input gets a clear error that names the field."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from kernel.errors import Conflict, Invalid, ReadroomError
from services.access.revision import RevisionTokens
from tests.access.service import Service
from wire.access.v1 import access_pb2 as pb

if TYPE_CHECKING:
    from wire.access.v1.access_pb2_grpc import AccessServiceAsyncStub


NOT_IDS = [
    "",
    "x",
    "1" * 36,
    "00000000-0000-0000-0000-00000000000g",
    "{" + "0" * 34 + "}",
    "'; --",
    "\x7f" * 36,
]


@pytest.mark.parametrize("text", NOT_IDS)
async def test_what_is_not_an_id_is_refused_by_name(service: Service, text: str) -> None:
    stub = service.stub
    some = str(uuid4())
    questions: dict[str, Awaitable[Any]] = {
        "case_id": stub.Check(pb.CheckRequest(case_id=text)),
        "case_ids": stub.CheckMany(pb.CheckManyRequest(case_ids=[some, text])),
        "user_id": stub.ListPrivileges(pb.ListPrivilegesRequest(user_id=text)),
        "folder_id": stub.PutInFolder(pb.PutInFolderRequest(folder_id=text, case_id=some)),
        "facility_id": stub.SavePrivilege(
            pb.SavePrivilegeRequest(privilege=pb.Privilege(user_id=some, facility_id=text))
        ),
        "other_case_id": stub.LinkPatients(pb.LinkPatientsRequest(case_id=some, other_case_id=text)),
        "link_id": stub.UnlinkPatients(pb.UnlinkPatientsRequest(link_id=text)),
        "member_user_ids": stub.SaveFolder(
            pb.SaveFolderRequest(folder=pb.Folder(name="x", member_user_ids=[text]))
        ),
    }
    for field_name, ask in questions.items():
        with pytest.raises(Invalid) as refusal:
            await ask
        assert field_name == refusal.value.field


UNKNOWN: Any = 99
"""A value that no enum has."""

BAD: dict[str, tuple[str, Callable[["AccessServiceAsyncStub"], Any]]] = {
    "page size": ("page_size", lambda s: s.ListCases(pb.ListCasesRequest(page_size=501))),
    "negative page size": ("page_size", lambda s: s.ListUsers(pb.ListUsersRequest(page_size=-1))),
    "page token": ("page_token", lambda s: s.ListCases(pb.ListCasesRequest(page_token="x"))),
    "page token of users": ("page_token", lambda s: s.ListCases(pb.ListCasesRequest(page_token="ImEi"))),
    "page token with NUL": (
        "page_token",
        lambda s: s.ListUsers(pb.ListUsersRequest(page_token="IlwUMDAwMCI=")),
    ),
    "long page token": ("page_token", lambda s: s.ListFolders(pb.ListFoldersRequest(page_token="A" * 9999))),
    "page token of grants": (
        "page_token",
        lambda s: s.ListGrants(pb.ListGrantsRequest(case_id=str(uuid4()), page_token="ImEi")),
    ),
    "grants of nothing": ("case_id", lambda s: s.ListGrants(pb.ListGrantsRequest())),
    "grants of two things": (
        "case_id",
        lambda s: s.ListGrants(pb.ListGrantsRequest(case_id=str(uuid4()), user_id=str(uuid4()))),
    ),
    "a folder of nothing": ("case_id", lambda s: s.ListFolderCases(pb.ListFolderCasesRequest())),
    "1001 members": (
        "member_user_ids",
        lambda s: s.SaveFolder(
            pb.SaveFolderRequest(
                folder=pb.Folder(name="x", member_user_ids=[str(uuid4()) for _ in range(1001)])
            )
        ),
    ),
    "revision": (
        "at_least_revision",
        lambda s: s.Check(pb.CheckRequest(case_id=str(uuid4()), at_least_revision="x")),
    ),
    "foreign revision": (
        "at_least_revision",
        lambda s: s.ListCases(pb.ListCasesRequest(at_least_revision=RevisionTokens("o" * 32).token(1))),
    ),
    "short revision": (
        "at_least_revision",
        lambda s: s.ListCases(pb.ListCasesRequest(at_least_revision="AAAA")),
    ),
    "no cases": ("case_ids", lambda s: s.CheckMany(pb.CheckManyRequest())),
    "1001 cases": ("case_ids", lambda s: s.CheckMany(pb.CheckManyRequest(case_ids=[str(uuid4())] * 1001))),
    "permission": ("permission", lambda s: s.CheckPermission(pb.CheckPermissionRequest(permission="root"))),
    "no permission": ("permission", lambda s: s.CheckPermission(pb.CheckPermissionRequest())),
    "given permission": (
        "permission",
        lambda s: s.SaveUser(
            pb.SaveUserRequest(
                user=pb.User(
                    login="x",
                    name="x",
                    role=pb.ROLE_RADIOLOGIST,
                    permissions=[pb.PermissionGrant(permission="root")],
                ),
                set_permissions=True,
            )
        ),
    ),
    "role": (
        "role",
        lambda s: s.SaveUser(pb.SaveUserRequest(user=pb.User(login="x", name="x", role=UNKNOWN))),
    ),
    "no role": ("role", lambda s: s.SaveUser(pb.SaveUserRequest(user=pb.User(login="x", name="x")))),
    "no user": ("login", lambda s: s.SaveUser(pb.SaveUserRequest())),
    "level": (
        "level",
        lambda s: s.SavePrivilege(pb.SavePrivilegeRequest(privilege=pb.Privilege(level=UNKNOWN))),
    ),
    "read type": ("read_types", lambda s: _privilege(s, read_types=[0])),
    "read types of a viewer": ("read_types", lambda s: _privilege(s, level=pb.LEVEL_VIEW, read_types=[2])),
    "expiry of a draft": (
        "expires_on",
        lambda s: _privilege(s, level=pb.LEVEL_DRAFT, expires_on="2027-01-01"),
    ),
    "expiry of nothing": ("expires_on", lambda s: _privilege(s, level=0, expires_on="2027-01-01")),
    "no date": ("expires_on", lambda s: _privilege(s, expires_on="01.01.2027")),
    "no such day": ("expires_on", lambda s: _privilege(s, expires_on="2027-02-29")),
    "the first day": ("expires_on", lambda s: _privilege(s, expires_on="0001-01-01")),
    "a week": ("expires_on", lambda s: _privilege(s, expires_on="2027-W01-1")),
}


def _privilege(stub: "AccessServiceAsyncStub", **changes: Any) -> Any:
    values: dict[str, Any] = {
        "user_id": str(uuid4()),
        "facility_id": str(uuid4()),
        "level": pb.LEVEL_REPORT,
    } | changes
    return stub.SavePrivilege(pb.SavePrivilegeRequest(privilege=pb.Privilege(**values)))


@pytest.mark.proves("ACC-11")
async def test_bad_input_gets_a_clear_error_that_names_the_field(service: Service) -> None:
    for what, (field_name, ask) in BAD.items():
        with pytest.raises(ReadroomError) as refusal:
            await ask(service.stub)
        assert (Invalid, field_name) == (type(refusal.value), refusal.value.field), what


async def test_a_second_user_with_the_login_is_a_conflict(service: Service) -> None:
    await service.user()

    with pytest.raises(Conflict) as refusal:
        await service.user(login="JANE")
    assert "login" == refusal.value.field


async def test_a_short_revision_key_is_refused_at_the_start() -> None:
    with pytest.raises(Invalid, match="revision_key"):
        RevisionTokens("short")
