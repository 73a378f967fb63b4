"""Position: a delegated manager, who holds `access.admin` at their own hospital and nowhere else.

Mia is the facility manager of North. People whose home is North have something at South, which is not hers.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from kernel.errors import Conflict, Denied, Expired
from local.embedded import EmbeddedServers
from local.pki import Pki
from tests.access.service import ADMIN, CLOCK, Service, serve
from tests.reporting.system import System, a_case, a_user, give, running
from wire.access.v1 import access_pb2 as pb
from wire.reporting.v1 import reporting_pb2

FINAL, PRE_READ = pb.READ_TYPE_FINAL, pb.READ_TYPE_PRE_READ
NUMBER, OTHER_NUMBER = "+32470123456", "+32470654321"


@dataclass
class Hospitals:
    """Access and reporting as they run, a case of South, and people whose home is North."""

    reporting: System
    access: Service
    north: str
    south: str
    case_id: str

    async def person(self, login: str, role: pb.Role.ValueType, **changes: Any) -> pb.User:
        user = pb.User(login=login, name=login, role=role, home_facility_id=self.north, **changes)
        return (await self.access.stub.SaveUser(pb.SaveUserRequest(user=user, set_permissions=True))).user

    async def stored(self, login: str) -> pb.User:
        listed = await self.access.stub.ListUsers(pb.ListUsersRequest(page_size=500))
        return next(user for user in listed.users if user.login == login)

    async def tries(self, login: str, *, by: str = "mia", permissions: bool = False, **changes: Any) -> None:
        """As the manager does who loads a user, changes them and saves."""
        user = await self.stored(login)
        for field, value in changes.items():
            setattr(user, field, value)
        request = pb.SaveUserRequest(user=user, set_permissions=permissions)
        await self.access.acting(by).SaveUser(request)

    async def gives(self, user: pb.User, facility_id: str, level: pb.Level.ValueType, **changes: Any) -> None:
        listed = await self.access.stub.ListPrivileges(pb.ListPrivilegesRequest(user_id=user.user_id))
        versions = {each.facility_id: each.version for each in listed.privileges}
        privilege = pb.Privilege(user_id=user.user_id, facility_id=facility_id, level=level, **changes)
        privilege.version = versions.get(facility_id, 0)
        await self.access.acting("mia").SavePrivilege(pb.SavePrivilegeRequest(privilege=privilege))

    async def share(self, login: str, **changes: Any) -> str:
        """A bucket for somebody with the case of South."""
        bucket_id = str(uuid4())
        grant = pb.GrantBucketsRequest.Grant(bucket_id=bucket_id, recipient_login=login, **changes)
        request = pb.GrantBucketsRequest(case_ids=[self.case_id], grants=[grant])
        request.ends_at.FromDatetime(CLOCK.now() + timedelta(days=30))
        await self.access.acting("sam", "sharing").GrantBuckets(request)
        return bucket_id

    async def sees(self, login: str, session: str = "s") -> bool:
        stub = self.access.called_by("bff", lambda: self.access.token(login=login, session=session))
        answer = await stub.Check(pb.CheckRequest(case_id=self.case_id))
        return answer.decision.allowed


@pytest.fixture
async def hospitals(
    servers: EmbeddedServers, fresh_database: Callable[[str], str], pki: Pki
) -> AsyncIterator[Hospitals]:
    urls = {name: fresh_database(name) for name in ("access", "reporting")}
    async for access in serve(servers, urls["access"], pki):
        async with running(servers, urls["reporting"], access) as reporting:
            north, south = await access.facility("North"), await access.facility("South")
            await a_user(access, "probe", pb.ROLE_RADIOLOGY_SUPPORT, south, pb.LEVEL_VIEW)
            await a_user(
                access,
                "sam",
                pb.ROLE_RADIOLOGIST,
                south,
                pb.LEVEL_REPORT,
                "share.create",
                read_types=[FINAL, PRE_READ],
            )
            await a_user(
                access,
                "mia",
                pb.ROLE_FACILITY_MANAGER,
                north,
                pb.LEVEL_VIEW,
                "study.upload",
            )
            yield Hospitals(reporting, access, north, south, await a_case(access, south))


async def refused(attempt: Awaitable[object], *fields: str) -> None:
    with pytest.raises(Denied) as refusal:
        await attempt
    assert not fields or refusal.value.field in fields, refusal.value.sentence


@pytest.mark.proves("A13", part="against a manager of another hospital")
async def test_a_global_administrator_at_home_here_is_no_managers_to_change(hospitals: Hospitals) -> None:
    admin = await hospitals.stored(ADMIN)
    boss = await hospitals.person(
        "boss",
        pb.ROLE_ADMINISTRATOR,
        email="boss@example.org",
        mobile_number=NUMBER,
        permissions=admin.permissions,
    )

    await a_user(
        hospitals.access, "ann", pb.ROLE_ADMINISTRATOR, hospitals.north, pb.LEVEL_REPORT, "access.admin"
    )
    boss.ClearField("permissions")
    boss.permissions.add(permission="report.view", facility_id=hospitals.north)
    for by in ("mia", "ann"):
        for changes in (
            {"mobile_number": OTHER_NUMBER},
            {"mobile_number": ""},
            {"email": "eve@example.org"},
            {"email": ""},
            {"role": pb.ROLE_FACILITY_USER},
            {"active": False},
        ):
            await refused(hospitals.tries("boss", by=by, **changes), *changes, "role")
        request = pb.SaveUserRequest(user=boss, set_permissions=True)
        await refused(hospitals.access.acting(by).SaveUser(request), "permissions", "role")

    assert ("boss@example.org", NUMBER, pb.ROLE_ADMINISTRATOR, True, boss.version) == (
        (stored := await hospitals.stored("boss")).email,
        stored.mobile_number,
        stored.role,
        stored.active,
        stored.version,
    )
    assert admin.permissions == stored.permissions


@pytest.mark.proves("SHR-8", part="the code goes to the recipient whoever manages them")
async def test_nobody_redirects_the_code_of_another_hospitals_share(hospitals: Hospitals) -> None:
    guest = await hospitals.person("guest", pb.ROLE_REFERRING_PHYSICIAN, mobile_number=NUMBER)
    bucket_id = await hospitals.share("guest", two_factor=True)
    sharing = hospitals.access.called_by("sharing", lambda: None)

    async def sent_to() -> int:
        described = await sharing.DescribeUsers(pb.DescribeUsersRequest(logins=["guest"]))
        return described.users[0].contact_version

    async def redeems(session: str, contact_version: int) -> None:
        request = pb.RegisterSessionRequest(
            bucket_id=bucket_id, session=session, contact_version=contact_version
        )
        await sharing.RegisterSession(request)

    await refused(hospitals.tries("guest", mobile_number=OTHER_NUMBER), "mobile_number")
    await refused(hospitals.tries("guest", email="eve@example.org"), "email")
    before = await sent_to()
    await redeems("phone", before)
    assert await hospitals.sees("guest", "phone")

    # Nor do they silence who has something elsewhere, or make more of it.
    await refused(hospitals.tries("guest", active=False), "active")
    await refused(hospitals.tries("guest", role=pb.ROLE_FACILITY_USER), "role")
    assert await hospitals.sees("guest", "phone")

    # Who may change it ends what the old number has opened, and what was sent to it opens nothing any more.
    await hospitals.tries("guest", by=ADMIN, mobile_number=OTHER_NUMBER)
    assert not await hospitals.sees("guest", "phone")
    with pytest.raises(Expired):
        await redeems("phone", before)
    await redeems("laptop", await sent_to())
    assert await hospitals.sees("guest", "laptop")
    assert guest.contact_version == before


@pytest.mark.proves("A13", part="against a manager of another hospital")
@pytest.mark.proves("REP-7", part="no manager brings somebody to the group's side")
async def test_a_technologist_stays_one_whatever_is_stored_elsewhere(hospitals: Hospitals) -> None:
    reports = pb.PermissionGrant(permission="report.view", facility_id=hospitals.south)
    tom = await hospitals.person("tom", pb.ROLE_FACILITY_USER, permissions=[reports])
    await give(hospitals.access, tom, hospitals.south, pb.LEVEL_REPORT, [FINAL])
    sam = hospitals.reporting.acting("sam")
    admin = await hospitals.stored(ADMIN)
    for permission in ("facility.admin", "operator"):
        admin.permissions.add(permission=permission)
    await hospitals.access.save_user(admin, set_permissions=True)
    for facility_id in ("", hospitals.south):
        await hospitals.reporting.acting(ADMIN).ActivateReadType(
            reporting_pb2.ActivateReadTypeRequest(facility_id=facility_id, read_type=PRE_READ, active=True)
        )
    await sam.Lock(reporting_pb2.LockRequest(case_id=hospitals.case_id))
    await sam.Complete(
        reporting_pb2.CompleteRequest(case_id=hospitals.case_id, read_type=PRE_READ, text="PRE-READ")
    )

    for by in ("mia", "rob"):
        if by == "rob":  # a manager of the group's side, who may report at North
            await a_user(
                hospitals.access,
                "rob",
                pb.ROLE_RADIOLOGIST,
                hospitals.north,
                pb.LEVEL_REPORT,
                "access.admin",
                read_types=[FINAL, PRE_READ],
            )
        for role in (pb.ROLE_RADIOLOGIST, pb.ROLE_RADIOLOGY_SUPPORT, pb.ROLE_TRANSCRIPTIONIST):
            await refused(hospitals.tries("tom", by=by, role=role), "role")
        await refused(hospitals.tries("tom", by=by, role=pb.ROLE_REFERRING_PHYSICIAN), "role")
        await refused(hospitals.tries("tom", by=by, active=False), "active")
    await refused(hospitals.gives(tom, hospitals.south, pb.LEVEL_VIEW))
    await refused(hospitals.gives(tom, hospitals.north, pb.LEVEL_REPORT, read_types=[FINAL]), "level")
    await hospitals.gives(tom, hospitals.north, pb.LEVEL_VIEW)

    as_tom = hospitals.reporting.acting("tom")
    with pytest.raises(Denied):
        await as_tom.Lock(reporting_pb2.LockRequest(case_id=hospitals.case_id))
    shown = await as_tom.ListReports(reporting_pb2.ListReportsRequest(case_id=hospitals.case_id))
    assert [] == list(shown.reports)


async def test_a_manager_makes_no_more_of_themself_nor_of_a_second_account(hospitals: Hospitals) -> None:
    access, north, south = hospitals.access, hospitals.north, hospitals.south
    mia = await hospitals.stored("mia")

    for role in (pb.ROLE_RADIOLOGIST, pb.ROLE_ADMINISTRATOR, pb.ROLE_OPERATOR):
        await refused(hospitals.tries("mia", role=role), "role")
    await refused(hospitals.tries("mia", home_facility_id=south), "home_facility_id")
    await refused(hospitals.gives(mia, north, pb.LEVEL_REPORT, read_types=[FINAL]), "level")
    for facility_id in ("", south):
        mia.permissions.add(permission="access.admin", facility_id=facility_id)
        request = pb.SaveUserRequest(user=mia, set_permissions=True)
        await refused(access.acting("mia").SaveUser(request), "permissions")
        mia.permissions.pop()

    second = pb.User(login="second", name="Second", role=pb.ROLE_FACILITY_MANAGER, home_facility_id=north)
    made = (await access.acting("mia").SaveUser(pb.SaveUserRequest(user=second))).user
    assert {north} == {grant.facility_id for grant in made.permissions}
    mia.role = pb.ROLE_RADIOLOGIST
    with pytest.raises(Denied):
        await access.acting("second").SaveUser(pb.SaveUserRequest(user=mia))


@pytest.mark.proves("A68", part="over the wire")
async def test_what_was_loaded_before_another_saved_overwrites_nothing(hospitals: Hospitals) -> None:
    tom = await hospitals.person("tom", pb.ROLE_FACILITY_USER)
    await hospitals.gives(tom, hospitals.north, pb.LEVEL_VIEW)

    for version in (0, tom.version):
        tom.version = version
        with pytest.raises(Conflict, match=r"`tom` .* by `mia` on .* UTC") as refusal:
            await hospitals.access.stub.SaveUser(pb.SaveUserRequest(user=tom))
        assert "version" == refusal.value.field
    privilege = pb.Privilege(user_id=tom.user_id, facility_id=hospitals.north, level=pb.LEVEL_DRAFT)
    with pytest.raises(Conflict, match=r"the privilege of `tom` at `North` .* by `mia` on .* UTC"):
        await hospitals.access.stub.SavePrivilege(pb.SavePrivilegeRequest(privilege=privilege))
