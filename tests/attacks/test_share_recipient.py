"""What a share gives to whom, and what it does not.

Positions: who received a share with write access; who hands one out without reporting themself; who holds the
telephone that was a recipient's, and their login session.

A facility manager sees cases and reports nothing. By A45 they may hand out write access; what the recipient
does with it is bounded: drafting and completing, and nothing of what others wrote.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from kernel.errors import Denied
from local.embedded import EmbeddedServers
from local.pki import Pki
from tests.access.service import serve
from tests.databases import Databases
from tests.reporting import system as reporting
from tests.reporting.system import a_user, give
from tests.sharing import system as sharing
from tests.sharing.test_codes_service import a_bucket, a_code, received, redeem
from tests.sharing.test_service import share
from wire.access.v1 import access_pb2
from wire.reporting.v1 import reporting_pb2 as pb
from wire.sharing.v1 import sharing_pb2

pytestmark = pytest.mark.asyncio(loop_scope="module")

FINAL = access_pb2.READ_TYPE_FINAL


@dataclass
class Place:
    """Access, sharing and reporting as they run, and people of the facility North."""

    sharing: sharing.System
    reporting: reporting.System

    async def a_case(self) -> str:
        return str(await self.sharing.world.case())

    async def shared(self, by: str, case_id: str, to: str, **changes: Any) -> sharing_pb2.Share:
        return await share(self.sharing, by, [case_id], to, **changes)  # type: ignore[list-item]

    async def complete(self, login: str, case_id: str, text: str) -> pb.Report:
        stub = self.reporting.acting(login)
        await stub.Lock(pb.LockRequest(case_id=case_id))
        request = pb.CompleteRequest(case_id=case_id, read_type=FINAL, text=text)
        return (await stub.Complete(request)).report

    async def reports(self, login: str, case_id: str) -> list[pb.Report]:
        request = pb.ListReportsRequest(case_id=case_id)
        return list((await self.reporting.acting(login).ListReports(request)).reports)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(servers: EmbeddedServers, clones: Databases, pki: Pki) -> AsyncIterator[Place]:
    urls = {name: clones.make(name) for name in ("access", "sharing", "reporting")}
    async for access in serve(servers, urls["access"], pki):
        async with AsyncExitStack() as resources:
            world = await sharing.a_world(access)
            await a_user(access, "mia", access_pb2.ROLE_FACILITY_MANAGER, world.north, access_pb2.LEVEL_VIEW)
            await a_user(
                access, "ann", access_pb2.ROLE_RADIOLOGY_ASSISTANT, world.south, access_pb2.LEVEL_DRAFT
            )
            yield Place(
                await resources.enter_async_context(sharing.running(servers, urls["sharing"], world)),
                await resources.enter_async_context(reporting.running(servers, urls["reporting"], access)),
            )


@pytest.mark.proves("A45", part="end to end")
@pytest.mark.proves("SHR-12", part="what write access is")
async def test_who_received_write_access_completes_and_leaves_the_reports_of_others_alone(
    place: Place,
) -> None:
    case_id = await place.a_case()
    report = await place.complete("vos", case_id, "nodule")
    await place.shared("mia", case_id, "ray", rights=sharing_pb2.RIGHTS_WRITE_REPORT)
    ray = place.reporting.acting("ray")

    with pytest.raises(Denied, match="a share lets you draft"):
        await ray.Reopen(pb.ReopenRequest(case_id=case_id))
    addendum = pb.AddAddendumRequest(case_id=case_id, report_id=report.report_id, text="no nodule")
    with pytest.raises(Denied, match="a share lets you draft"):
        await ray.AddAddendum(addendum)
    assert [report] == await place.reports("vos", case_id)

    await place.reporting.acting("vos").Reopen(pb.ReopenRequest(case_id=case_id))
    own = await place.complete("ray", case_id, "scar")
    added = pb.AddAddendumRequest(case_id=case_id, report_id=own.report_id, text="4 mm")
    assert ["4 mm"] == [each.text for each in (await ray.AddAddendum(added)).report.addenda]
    assert ["nodule", "scar"] == [each.text for each in await place.reports("vos", case_id)]


async def test_a_privilege_of_the_recipients_own_keeps_what_it_gives(place: Place) -> None:
    case_id = await place.a_case()
    await place.complete("vos", case_id, "nodule")
    access = place.sharing.world.access
    rhea = await a_user(
        access, "rhea", access_pb2.ROLE_RADIOLOGIST, place.sharing.world.south, access_pb2.LEVEL_VIEW
    )
    await place.shared("mia", case_id, "rhea", rights=sharing_pb2.RIGHTS_WRITE_REPORT)
    stub = place.reporting.acting("rhea")
    with pytest.raises(Denied, match="a share lets you draft"):
        await stub.Reopen(pb.ReopenRequest(case_id=case_id))

    await give(access, rhea, place.sharing.world.north, access_pb2.LEVEL_REPORT)
    await stub.Reopen(pb.ReopenRequest(case_id=case_id))


async def test_an_assistant_drafts_and_a_physician_does_neither(place: Place) -> None:
    case_id = await place.a_case()
    for login in ("ann", "rita"):
        await place.shared("mia", case_id, login, rights=sharing_pb2.RIGHTS_WRITE_REPORT)
    ann, rita = place.reporting.acting("ann"), place.reporting.acting("rita")

    with pytest.raises(Denied, match="`draft`"):
        await rita.Lock(pb.LockRequest(case_id=case_id))
    await ann.Lock(pb.LockRequest(case_id=case_id))
    await ann.SaveDraft(pb.SaveDraftRequest(case_id=case_id, text="nodule"))
    with pytest.raises(Denied, match="`report`"):
        await ann.Complete(pb.CompleteRequest(case_id=case_id, read_type=FINAL, text="nodule"))


async def test_an_administrator_whom_a_share_brought_breaks_nobodys_lock(place: Place) -> None:
    """They hold `lock.break` everywhere by their role, and no privilege at the facility."""
    case_id = await place.a_case()
    world = place.sharing.world
    await a_user(
        world.access, "anton", access_pb2.ROLE_ADMINISTRATOR, world.south, access_pb2.LEVEL_UNSPECIFIED
    )
    await place.shared("mia", case_id, "anton")
    await place.reporting.acting("vos").Lock(pb.LockRequest(case_id=case_id))

    with pytest.raises(Denied, match="a share does not let you break a lock"):
        await place.reporting.acting("anton").BreakLock(pb.BreakLockRequest(case_id=case_id))
    await place.reporting.acting("adam").BreakLock(pb.BreakLockRequest(case_id=case_id))


async def a_person(place: Place) -> access_pb2.User:
    login, number = f"r{uuid4().hex[:8]}", f"+3161{uuid4().int % 10**7:07}"
    user = access_pb2.User(
        login=login, name="Dr R", role=access_pb2.ROLE_REFERRING_PHYSICIAN, mobile_number=number
    )
    access = place.sharing.world.access
    return (await access.stub.SaveUser(access_pb2.SaveUserRequest(user=user))).user


async def another_number(place: Place, user: access_pb2.User) -> None:
    user.mobile_number = f"+3161{uuid4().int % 10**7:07}"
    await place.sharing.world.access.stub.SaveUser(access_pb2.SaveUserRequest(user=user))


@pytest.mark.proves("A57", part="end to end: a change of the number voids open codes and ends sessions")
async def test_a_code_and_a_session_of_the_former_number_open_nothing(place: Place) -> None:
    system, world = place.sharing, place.sharing.world
    case_id = await world.case()
    opened, waiting = await a_person(place), await a_person(place)
    buckets = {each.login: await a_bucket(system, each.login, case_id) for each in (opened, waiting)}
    codes = {login: await a_code(system, login, "phone", bucket) for login, bucket in buckets.items()}
    await redeem(system, opened.login, "phone", buckets[opened.login], codes[opened.login])
    assert await world.sees(opened.login, case_id, "phone")

    for user in (opened, waiting):
        await another_number(place, user)

    assert not await world.sees(opened.login, case_id, "phone")
    assert (await received(system, opened.login, "phone")).code_needed
    for _ in range(2):
        error = await sharing.error_of(
            redeem(system, waiting.login, "phone", buckets[waiting.login], codes[waiting.login])
        )
        assert "code" == error.field
    assert not await world.sees(waiting.login, case_id, "phone")
    (mine,) = [
        share
        for share in (await system.acting("vos").ListShares(sharing_pb2.ListSharesRequest())).shares
        if share.buckets[0].bucket_id == buckets[waiting.login]
    ]
    assert 1 == mine.buckets[0].wrong_codes  # the second time it was none any more
