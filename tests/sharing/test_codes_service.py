"""One-time codes over the wire: the service as its process builds it, and the access that gives sight."""

from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from kernel.errors import Conflict, Denied, Exhausted, Invalid, NotFound
from kernel.ids import CaseId
from tests.sharing.system import System, error_of
from tests.wait import eventually
from wire.access.v1 import access_pb2
from wire.sharing.v1 import sharing_pb2 as pb

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def a_recipient(system: System) -> str:
    """A referring physician with a number of their own, so that no text of another test counts for them."""
    login, number = f"physician-{uuid4().hex[:8]}", f"+31612{uuid4().int % 10**6:06}"
    user = access_pb2.User(
        login=login,
        name="Dr P",
        role=access_pb2.Role.ROLE_REFERRING_PHYSICIAN,
        home_facility_id=system.world.north,
        mobile_number=number,
        email=f"{login}@example.org",
        language=access_pb2.LANGUAGE_FR,
    )
    await system.world.access.stub.SaveUser(access_pb2.SaveUserRequest(user=user))
    return login


async def a_bucket(system: System, login: str, *case_ids: CaseId) -> str:
    request = pb.ShareRequest(
        case_ids=map(str, case_ids),
        recipients=[pb.Recipient(login=login, two_factor=True)],
        rights=pb.RIGHTS_READ_REPORT,
        reason="second opinion",
        patient_agreed=True,
        message="about the left knee",
    )
    (bucket,) = (await system.acting("vos").Share(request)).share.buckets
    return bucket.bucket_id


async def a_code(system: System, login: str, session: str, bucket_id: str) -> str:
    await system.acting(login, session).SendCode(pb.SendCodeRequest(bucket_id=bucket_id))
    return system.notify.texts[-1].code


def redeem(system: System, login: str, session: str, bucket_id: str, code: str) -> Any:
    request = pb.RedeemRequest(bucket_id=bucket_id, code=code)
    return system.acting(login, session).Redeem(request)


async def received(system: System, login: str, session: str) -> pb.Received:
    answer = await system.acting(login, session).ListReceived(pb.ListReceivedRequest())
    (only,) = answer.received
    return only


def another(code: str) -> str:
    return f"{(int(code) + 1) % 10**6:06}"


@pytest.mark.proves("SHR-8", part="not for whom no text message can be sent to")
@pytest.mark.proves("SEC-10", part="two-factor is refused to a country that is not served")
async def test_a_code_is_refused_to_who_cannot_be_sent_one_and_nothing_is_shared(system: System) -> None:
    login, case_id = await a_recipient(system), await system.world.case()
    system.notify.countries = ["BE", "FR"]
    error = await error_of(a_bucket(system, login, case_id))
    assert (Invalid, "two_factor") == (type(error), error.field)
    assert error.sentence == (
        f"we send no text messages to the country of the mobile number of `{login}`, only to BE, FR: "
        "share without a code (`two_factor`)"
    )
    listed = await system.acting("vos").ListShares(pb.ListSharesRequest())
    assert str(case_id) not in str(listed)


async def test_while_notify_does_not_answer_a_share_with_a_code_is_made(system: System) -> None:
    login, case_id = await a_recipient(system), await system.world.case()
    system.notify.is_away = True
    assert await a_bucket(system, login, case_id)


@pytest.mark.proves("SHR-8")
@pytest.mark.proves("A57")
async def test_a_code_gives_sight_in_the_login_session_that_redeemed_it(system: System) -> None:
    world = system.world
    login, case_id = await a_recipient(system), await world.case()
    bucket_id = await a_bucket(system, login, case_id)

    before = await received(system, login, "phone")
    assert (True, "", []) == (before.code_needed, before.message, list(before.case_ids))
    assert not await world.sees(login, case_id, "phone")
    code = await a_code(system, login, "phone", bucket_id)
    assert access_pb2.LANGUAGE_FR == system.notify.texts[-1].language
    assert isinstance(await error_of(redeem(system, login, "phone", bucket_id, another(code))), Denied)
    opened = (await redeem(system, login, "phone", bucket_id, code)).received

    assert (False, "about the left knee", [str(case_id)]) == (
        opened.code_needed,
        opened.message,
        list(opened.case_ids),
    )
    assert await world.sees(login, case_id, "phone")
    assert not await world.sees(login, case_id, "laptop")
    assert (await received(system, login, "laptop")).code_needed


@pytest.mark.proves("SHR-9")
@pytest.mark.proves("SHR-10")
async def test_a_block_takes_sight_from_every_session_until_somebody_else_ends_it(system: System) -> None:
    world = system.world
    login, case_id = await a_recipient(system), await world.case()
    bucket_id = await a_bucket(system, login, case_id)
    code = await a_code(system, login, "phone", bucket_id)
    await redeem(system, login, "phone", bucket_id, code)
    for number in range(5):
        guess = redeem(system, login, f"laptop {number}", bucket_id, another(code))
        assert isinstance(await error_of(guess), Denied)

    assert not await world.sees(login, case_id, "phone")
    shown = await received(system, login, "phone")
    assert (True, "", []) == (shown.blocked, shown.message, list(shown.case_ids))
    send = system.acting(login, "laptop").SendCode(pb.SendCodeRequest(bucket_id=bucket_id))
    assert isinstance(await error_of(send), Denied)
    blocked = await system.acting("adam").ListShares(pb.ListSharesRequest(blocked_only=True))
    assert bucket_id in [bucket.bucket_id for share in blocked.shares for bucket in share.buckets]

    unblock = pb.UnblockRequest(bucket_id=bucket_id)
    assert isinstance(await error_of(system.acting(login).Unblock(unblock)), Denied)
    assert isinstance(await error_of(system.acting("rob").Unblock(unblock)), NotFound)
    bucket = (await system.acting("adam").Unblock(unblock)).bucket
    assert (pb.Bucket.STATE_ACTIVE, 0) == (bucket.state, bucket.wrong_codes)
    assert isinstance(await error_of(system.acting("olaf").Unblock(unblock)), Conflict)
    assert await world.sees(login, case_id, "phone")


async def test_the_service_desk_ends_a_block(system: System) -> None:
    login = await a_recipient(system)
    bucket_id = await a_bucket(system, login, await system.world.case())
    for _ in range(5):
        await error_of(redeem(system, login, "phone", bucket_id, "000000"))

    bucket = (await system.acting("olaf").Unblock(pb.UnblockRequest(bucket_id=bucket_id))).bucket
    assert pb.Bucket.STATE_ACTIVE == bucket.state


async def test_a_second_code_has_to_wait(system: System) -> None:
    login = await a_recipient(system)
    bucket_id = await a_bucket(system, login, await system.world.case())
    await a_code(system, login, "phone", bucket_id)

    again = system.acting(login, "laptop").SendCode(pb.SendCodeRequest(bucket_id=bucket_id))
    assert isinstance(await error_of(again), Exhausted)


@pytest.mark.proves("SEC-11", part="to anybody else a bucket is unknown, with its code too")
async def test_nobody_but_the_recipient_learns_that_there_is_a_bucket(system: System) -> None:
    login = await a_recipient(system)
    bucket_id = await a_bucket(system, login, await system.world.case())
    code = await a_code(system, login, "phone", bucket_id)

    answers = []
    for who in ("rob", "vos", "olaf"):
        for its_id in (bucket_id, str(uuid4())):
            answers += [
                repr(await error_of(system.acting(who).SendCode(pb.SendCodeRequest(bucket_id=its_id)))),
                repr(await error_of(redeem(system, who, "s", its_id, code))),
            ]
    assert {"NotFound('there is no such share, or you do not see it')"} == set(answers)


@pytest.mark.parametrize("bucket_id", ["", "1", "x" * 36, "00000000-0000-0000-0000-00000000000g"])
async def test_what_is_no_bucket_id_is_refused(system: System, bucket_id: str) -> None:
    rob = system.acting("rob")

    for call in (
        rob.SendCode(pb.SendCodeRequest(bucket_id=bucket_id)),
        rob.Redeem(pb.RedeemRequest(bucket_id=bucket_id, code="123456")),
        rob.Unblock(pb.UnblockRequest(bucket_id=bucket_id)),
    ):
        error = await error_of(call)
        assert (Invalid, "bucket_id") == (type(error), error.field)


async def test_a_share_that_is_revoked_takes_its_code_along(system: System) -> None:
    world = system.world
    login, case_id = await a_recipient(system), await world.case()
    bucket_id = await a_bucket(system, login, case_id)
    code = await a_code(system, login, "phone", bucket_id)
    await system.acting("vos").Revoke(pb.RevokeRequest(bucket_id=bucket_id))

    assert isinstance(await error_of(redeem(system, login, "phone", bucket_id, code)), NotFound)
    assert not await world.sees(login, case_id, "phone")


async def test_the_timers_run(system: System, databases: dict[str, str]) -> None:
    login, case_id = await a_recipient(system), await system.world.case()
    bucket_id = await a_bucket(system, login, case_id)
    connection = await asyncpg.connect(databases["service"])
    try:
        await connection.execute(
            "insert into sessions values ($1, 'tv', now(), false)",  # as a crash leaves it
            bucket_id,
        )
    finally:
        await connection.close()

    async def is_seen() -> bool:
        return await system.world.sees(login, case_id, "tv")

    await eventually(is_seen)
