"""Sharing over the wire, as its process builds it; and whoever should not get in."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio

from kernel.errors import Denied, Invalid, NotFound, ReadroomError, Unauthenticated
from kernel.events import CaseDeleted
from kernel.ids import CaseId
from tests.access.service import CLOCK
from tests.reporting.system import a_user
from tests.sharing.system import System, error_of
from tests.wait import Stopwatch, eventually
from wire.access.v1 import access_pb2
from wire.sharing.v1 import sharing_pb2 as pb

pytestmark = pytest.mark.asyncio(loop_scope="package")

State = pb.Bucket


def a_request(case_ids: list[CaseId], *to: str, **changes: Any) -> pb.ShareRequest:
    values: dict[str, Any] = {
        "case_ids": map(str, case_ids),
        "recipients": [pb.Recipient(login=login) for login in to],
        "rights": pb.RIGHTS_READ_REPORT,
        "reason": "second opinion",
        "patient_agreed": True,
    }
    return pb.ShareRequest(**values | changes)


async def share(system: System, login: str, case_ids: list[CaseId], *to: str, **changes: Any) -> pb.Share:
    return (await system.acting(login).Share(a_request(case_ids, *to, **changes))).share


async def received(system: System, login: str, bucket: pb.Bucket) -> list[pb.Received]:
    answer = await system.acting(login).ListReceived(pb.ListReceivedRequest(page_size=500))
    return [each for each in answer.received if each.bucket_id == bucket.bucket_id]


async def described(system: System, bucket: pb.Bucket) -> pb.DescribeBucketResponse:
    stub = system.called_by("notify", lambda: None)
    return await stub.DescribeBucket(pb.DescribeBucketRequest(bucket_id=bucket.bucket_id))


@pytest_asyncio.fixture(loop_scope="package")
async def rows(databases: dict[str, str]) -> AsyncIterator[Any]:
    """The database of the running service."""
    connection = await asyncpg.connect(databases["service"])
    yield connection
    await connection.close()


@pytest.mark.proves("SHR-14")
@pytest.mark.proves("SHR-25", part="the recipient sees the message")
@pytest.mark.proves("SHR-28", part="the link opens what was shared")
@pytest.mark.proves("SHR-1")
async def test_from_the_preparation_to_the_end(system: System, rows: Any) -> None:
    world = system.world
    case_id = await world.case()
    vos, rita = system.acting("VOS"), system.acting("rita")
    prepared = await vos.PrepareShare(pb.PrepareShareRequest(case_ids=[str(case_id)], logins=["rita"]))
    assert (access_pb2.LANGUAGE_NL, True) == (prepared.language, prepared.unlimited_allowed)

    answer = await vos.Share(
        a_request(
            [case_id],
            "Rita",
            reason="tumourboard",
            message="look at the liver",
            valid_till=prepared.valid_till,
            language=access_pb2.LANGUAGE_FR,
            recipients=[pb.Recipient(login="Rita", send_mail=True)],
            urgent=True,
        )
    )

    made = answer.share
    (bucket,) = made.buckets
    assert answer.revision
    assert ("vos", world.north, [str(case_id)], "tumourboard", "rita", State.STATE_ACTIVE) == (
        made.sender_login,
        made.facility_id,
        list(made.case_ids),
        made.reason,
        bucket.recipient_login,
        bucket.state,
    )
    (listed, *_) = (await vos.ListShares(pb.ListSharesRequest())).shares
    assert made == listed
    mail = await described(system, bucket)
    assert (True, True, "look at the liver", access_pb2.LANGUAGE_FR, world.ids["vos"], world.ids["rita"]) == (
        mail.mail_due,
        mail.urgent,
        mail.message,
        mail.language,
        mail.sender_user_id,
        mail.recipient_user_id,
    )
    opened = (await rita.Open(pb.OpenRequest(link=mail.link))).received
    assert [opened] == await received(system, "rita", bucket)
    assert ("vos", "Dr Vos", "look at the liver", [str(case_id)], pb.RIGHTS_READ_REPORT) == (
        opened.sender_login,
        opened.sender_name,
        opened.message,
        list(opened.case_ids),
        opened.rights,
    )
    for told in (opened, mail):
        assert b"tumourboard" not in told.SerializeToString()
    assert str(case_id) in await world.listed("rita")
    assert (await vos.ListShares(pb.ListSharesRequest())).shares[0].buckets[0].HasField("opened_at")
    ends_at = (await vos.Extend(pb.ExtendRequest(bucket_id=bucket.bucket_id, unlimited=True))).bucket
    assert not ends_at.HasField("ends_at")
    assert (await vos.Revoke(pb.RevokeRequest(share_id=made.share_id))).revision
    assert str(case_id) not in await world.listed("rita")
    assert not await received(system, "rita", bucket)
    assert not (await described(system, bucket)).mail_due

    # Nothing of it is said or written down outside its tables.
    for table in ("outbox", "audit_rows"):
        texts = " ".join(map(str, await rows.fetch(f"select * from {table}")))
        assert "liver" not in texts
        assert "tumourboard" not in texts

    async def is_published() -> bool:
        return not await rows.fetchval("select count(*) from outbox where published_at is null")

    await eventually(is_published)


@pytest.mark.proves("SHR-32", part="over the wire")
async def test_share_again(system: System) -> None:
    case_id = await system.world.case()
    first = await share(system, "vos", [case_id], "rita")

    again = await system.acting("vos").ShareAgain(
        pb.ShareAgainRequest(share_id=first.share_id, share=a_request([], "rob"))
    )

    assert [str(case_id)] == list(again.share.case_ids)
    assert await system.world.sees("rob", case_id)


@pytest.mark.proves("SHR-8", part="before the code nothing is told")
async def test_before_the_code_the_recipient_is_told_who_and_when(system: System) -> None:
    case_id = await system.world.case()
    made = await share(
        system,
        "vos",
        [case_id],
        recipients=[pb.Recipient(login="rita", two_factor=True, send_mail=True)],
        message="look at the liver",
    )

    (shown,) = await received(system, "rita", made.buckets[0])

    assert shown.code_needed
    assert ("", [], "vos") == (shown.message, list(shown.case_ids), shown.sender_login)
    assert not await system.world.sees("rita", case_id)
    link = (await described(system, made.buckets[0])).link
    assert shown == (await system.acting("rita").Open(pb.OpenRequest(link=link))).received


async def test_lists_come_in_pages(system: System) -> None:
    cases = [await system.world.case()]
    made = [(await share(system, "vos", cases, "ron")).share_id for _ in range(5)]
    vos, ron = system.acting("vos"), system.acting("ron")

    shares, token = [], ""
    for _ in range(3):
        page = await vos.ListShares(pb.ListSharesRequest(page_size=2, page_token=token))
        shares += [each.share_id for each in page.shares]
        token = page.next_page_token
    assert made[::-1] == shares[:5]

    buckets: list[str] = []
    token = ""
    while token or not buckets:
        answer = await ron.ListReceived(pb.ListReceivedRequest(page_size=2, page_token=token))
        buckets += [each.bucket_id for each in answer.received]
        token = answer.next_page_token
    assert len(buckets) == len(set(buckets)) >= 5
    assert buckets == sorted(buckets, reverse=True)


@pytest.mark.proves("R11", part="expiry of a share is recorded within a second")
async def test_expiry_is_recorded_by_itself(system: System, rows: Any) -> None:
    case_id = await system.world.case()
    made = await share(system, "vos", [case_id], "rita")

    ended = CLOCK.now() - timedelta(milliseconds=1)
    watch = Stopwatch()
    await rows.execute(
        "update buckets set ends_at = $2 where bucket_id = $1", made.buckets[0].bucket_id, ended
    )

    async def is_recorded() -> bool:
        state = await rows.fetchval(
            "select state from buckets where bucket_id = $1", made.buckets[0].bucket_id
        )
        return bool(state == "expired")

    await eventually(is_recorded)
    assert watch.seconds() < 1.0

    async def is_told() -> bool:
        return not await system.world.sees("rita", case_id)

    await eventually(is_told)


async def test_what_access_did_not_hear_is_told_by_itself(system: System, rows: Any) -> None:
    """As a crash leaves it behind, between the commit and the call."""
    case_id = await system.world.case()
    made = await share(system, "vos", [case_id], "rita")

    await rows.execute(
        "update buckets set state = 'revoked', version = 2 where bucket_id = $1", made.buckets[0].bucket_id
    )

    async def is_told() -> bool:
        accepted = await rows.fetchval(
            "select accepted_version from buckets where bucket_id = $1", made.buckets[0].bucket_id
        )
        return accepted == 2 and not await system.world.sees("rita", case_id)

    await eventually(is_told)


async def test_a_deleted_case_is_purged_and_that_is_said(system: System, rows: Any) -> None:
    gone, kept = await system.world.case(), await system.world.case()
    both = await share(system, "vos", [gone, kept], "rita")
    alone = await share(system, "vos", [gone], "rita")
    access, north, view = system.world.access, system.world.north, access_pb2.LEVEL_VIEW
    await a_user(access, "dolf", access_pb2.ROLE_RADIOLOGIST, north, view, "study.delete")
    begin = access_pb2.BeginDeleteRequest(case_id=str(gone), deletion_id=str(uuid4()))
    await access.acting("dolf", "ingest").BeginDelete(begin)

    await access.say(CaseDeleted(gone, 3))

    async def is_purged() -> bool:
        return not await rows.fetchval("select count(*) from share_cases where case_id = $1", gone)

    await eventually(is_purged)
    assert [str(kept)] == list((await described(system, both.buckets[0])).case_ids)
    assert isinstance(await error_of(described(system, alone.buckets[0])), NotFound)
    (payload,) = [
        row["payload"]
        for row in await rows.fetch("select payload from outbox where subject = 'case.purged.v1'")
        if str(gone) in row["payload"]
    ]
    assert '"sharing"' in payload
    error = await error_of(share(system, "vos", [gone], "rita"))
    assert isinstance(error, NotFound)


@pytest.mark.proves("ING-7", part="a fact alone purges nothing that nobody deletes: shares")
async def test_what_nobody_deletes_stays_shared_whatever_a_fact_says(system: System, rows: Any) -> None:
    case_id = await system.world.case()
    made = await share(system, "vos", [case_id], "rita")

    await system.world.access.say(CaseDeleted(case_id, 1))

    async def is_refused() -> bool:
        sql = "select exists (select from dead_letters where payload like '%' || $1 || '%')"
        return bool(await rows.fetchval(sql, str(case_id)))

    await eventually(is_refused)
    assert [str(case_id)] == list((await described(system, made.buckets[0])).case_ids)


# Whoever should not get in


@pytest.mark.proves("SEC-14", part="who may call sharing")
@pytest.mark.parametrize("peer", ["access", "ingest", "routing", "reporting", "notify"])
async def test_people_are_let_in_by_the_bff_alone(system: System, peer: str) -> None:
    def token() -> str:
        return system.world.access.token(login="vos", audience="sharing")

    stub = system.called_by(peer, token)
    assert isinstance(await error_of(stub.ListShares(pb.ListSharesRequest())), Denied)


async def test_the_snapshot_for_the_mail_is_for_notify_alone(system: System) -> None:
    made = await share(system, "vos", [await system.world.case()], "rita")
    request = pb.DescribeBucketRequest(bucket_id=made.buckets[0].bucket_id)
    for stub in (system.acting("vos"), system.called_by("access", lambda: None)):
        assert isinstance(await error_of(stub.DescribeBucket(request)), Denied)


async def test_message_and_link_are_told_only_while_a_mail_is_due(system: System) -> None:
    cases = [await system.world.case()]
    (silent,) = (await share(system, "vos", cases, "rita", message="look")).buckets
    to = pb.Recipient(login="rita", send_mail=True)
    (told,) = (await share(system, "vos", cases, recipients=[to], message="look")).buckets

    answers = [await described(system, silent), await described(system, told)]
    assert [(False, "", 0), (True, "look", 43)] == [
        (each.mail_due, each.message, len(each.link)) for each in answers
    ]
    await system.acting("vos").Revoke(pb.RevokeRequest(bucket_id=told.bucket_id))
    ended = await described(system, told)
    assert (False, "", "") == (ended.mail_due, ended.message, ended.link)


async def test_without_a_token_and_as_nobody_active_nothing_is_answered(system: System) -> None:
    case_id = await system.world.case()
    nobody = system.called_by("bff", lambda: None)
    for stub in (nobody, system.acting("ivan"), system.acting("stranger"), system.acting("a\u0000b")):
        for call in (
            stub.ListReceived(pb.ListReceivedRequest()),
            stub.ListShares(pb.ListSharesRequest()),
            stub.Open(pb.OpenRequest(link="x" * 43)),
            stub.Share(a_request([case_id], "rita")),
            stub.DescribePolicy(pb.DescribePolicyRequest(facility_id=system.world.north)),
        ):
            assert isinstance(await error_of(call), Unauthenticated)


MALFORMED: list[tuple[str, str, Any]] = [
    ("case_ids", "PrepareShare", pb.PrepareShareRequest()),
    ("case_ids", "PrepareShare", pb.PrepareShareRequest(case_ids=["x"])),
    ("recipients", "PrepareShare", pb.PrepareShareRequest(case_ids=[str(uuid4())], logins=["a b"])),
    ("case_ids", "Share", pb.ShareRequest()),
    ("case_ids", "Share", pb.ShareRequest(case_ids=["' or true --"])),
    ("case_ids", "Share", pb.ShareRequest(case_ids=[str(uuid4()) for _ in range(101)])),
    ("rights", "Share", a_request([CaseId(uuid4())], "rita", rights=99)),
    ("language", "Share", a_request([CaseId(uuid4())], "rita", language=99)),
    ("message", "Share", a_request([CaseId(uuid4())], "rita", message="x" * 2001)),
    ("share_id", "ShareAgain", pb.ShareAgainRequest()),
    ("page_size", "ListShares", pb.ListSharesRequest(page_size=501)),
    ("page_token", "ListShares", pb.ListSharesRequest(page_token="x")),
    ("page_token", "ListReceived", pb.ListReceivedRequest(page_token="IjEi")),
    ("bucket_id", "Revoke", pb.RevokeRequest()),
    ("bucket_id", "Revoke", pb.RevokeRequest(bucket_id=str(uuid4()), share_id=str(uuid4()))),
    ("share_id", "Revoke", pb.RevokeRequest(share_id="\0")),
    ("bucket_id", "Extend", pb.ExtendRequest(unlimited=True)),
    ("valid_till", "Extend", pb.ExtendRequest(bucket_id=str(uuid4()))),
    ("facility_id", "SavePolicy", pb.SavePolicyRequest()),
    (
        "default_days",
        "SavePolicy",
        pb.SavePolicyRequest(policy=pb.Policy(facility_id=str(uuid4()), default_days=-1)),
    ),
    ("facility_id", "DescribePolicy", pb.DescribePolicyRequest(facility_id="north")),
]


@pytest.mark.parametrize(("field", "verb", "request_"), MALFORMED)
async def test_bad_input_gets_a_clear_refusal(system: System, field: str, verb: str, request_: Any) -> None:
    error: ReadroomError = await error_of(getattr(system.acting("vos"), verb)(request_))

    assert (Invalid, field) == (type(error), error.field)
