"""Notify over the wire: facts in, mails and text messages out; and whoever should not get in."""

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from kernel.errors import Conflict, Denied, Invalid, NotFound, ReadroomError, Unauthenticated
from kernel.events import CaseDeleted, ShareCreated, ShareRevoked, UserChanged
from local.embedded import EmbeddedServers
from local.pki import Pki
from tests.notify.system import CLOCK, System, running
from tests.wait import eventually
from wire.access.v1 import access_pb2
from wire.notify.v1 import notify_pb2 as pb

MOBILE = "+31612345678"


@pytest.fixture
async def system(
    servers: EmbeddedServers, fresh_database: Callable[[str], str], pki: Pki
) -> AsyncIterator[System]:
    async with running(servers, fresh_database("notify"), pki) as made:
        yield made


async def deliveries(system: System, login: str = "olga") -> list[pb.Notice]:
    system.access.permissions["olga", "operator"] = []
    answer = await system.acting(login).ListDeliveries(pb.ListDeliveriesRequest())
    return list(answer.notices)


@pytest.mark.proves("NTF-2")
async def test_a_share_that_is_told_twice_becomes_one_mail(system: System) -> None:
    bucket = system.bucket(message="Look at this", urgent=True, language=access_pb2.LANGUAGE_NL)

    await system.say(ShareCreated(bucket, 1), ShareCreated(bucket, 1))
    await eventually(lambda: system.mails.received)

    (mail,) = system.mails.received
    assert "recipient@clinic.example" == mail.to
    assert mail.subject.startswith("Dringend: ")
    assert "Sender heeft een onderzoek met u gedeeld" in mail.text
    assert "J.D., CT thorax, 30 oktober 2026" in mail.text

    async def is_sent() -> bool:
        return [each.state for each in await deliveries(system)] == [pb.Notice.STATE_SENT]

    await eventually(is_sent)


@pytest.mark.proves("NTF-3")
@pytest.mark.proves("SEC-9", part="notify keeps nothing of it")
async def test_a_code_goes_out_as_a_text_message_and_nothing_of_it_stays(system: System) -> None:
    request = pb.SendTextRequest(mobile_number=MOBILE, code="123456", language=access_pb2.LANGUAGE_DE)

    await system.called_by("sharing").SendText(request)

    (taken,) = system.texts.taken
    assert (MOBILE, ["Bearer sesame"]) == (taken["to"], system.texts.tokens)
    assert "Ihr Code ist 123456." in taken["text"]
    assert [] == await deliveries(system)


@pytest.mark.proves("SEC-10", part="sharing is told where text messages go")
async def test_it_says_which_numbers_text_messages_are_sent_to(system: System) -> None:
    asked = [MOBILE, "+212612345678", "+31612345678", "nonsense"]
    answer = await system.called_by("sharing").CheckNumbers(pb.CheckNumbersRequest(mobile_numbers=asked))
    assert list(answer.served) == [True, False, True, False]
    assert {"BE", "NL"} < set(answer.countries)
    assert "MA" not in answer.countries
    with pytest.raises(Invalid):
        await system.called_by("sharing").CheckNumbers(pb.CheckNumbersRequest(mobile_numbers=[MOBILE] * 101))
    with pytest.raises(Denied):
        await system.called_by("access").CheckNumbers(pb.CheckNumbersRequest())


@pytest.mark.proves("NTF-3", part="a gateway that is down has taken nothing")
async def test_while_the_text_gateway_is_down_the_caller_is_told_to_try_again(system: System) -> None:
    request = pb.SendTextRequest(mobile_number=MOBILE, code="123456")
    stub = system.called_by("sharing")
    system.texts.status = 503
    with pytest.raises(Conflict, match="text gateway"):
        await stub.SendText(request)

    system.texts.status = 202
    await stub.SendText(request)
    assert "Your code is 123456." in system.texts.taken[0]["text"]


@pytest.mark.proves("SEC-12", part="numbers, codes, addresses and content are nowhere kept or logged")
async def test_nothing_that_was_told_is_kept_or_logged(
    system: System, capfd: pytest.CaptureFixture[str]
) -> None:
    bucket = system.bucket(message="secret message", case_ids=[system.case(study_description="secret exam")])
    await system.say(ShareCreated(bucket, 1))
    await eventually(lambda: system.mails.received)
    stub = system.called_by("sharing")
    await stub.SendText(pb.SendTextRequest(mobile_number=MOBILE, code="481516"))
    system.texts.status = 400
    system.mails.misbehave("RCPT", "550 5.1.1 <recipient@clinic.example> secret exam")
    with pytest.raises(Conflict):
        await stub.SendText(pb.SendTextRequest(mobile_number=MOBILE, code="481516"))
    await system.say(ShareCreated(system.bucket(), 1))

    async def is_dead() -> bool:
        return pb.Notice.STATE_DEAD in [each.state for each in await deliveries(system)]

    await eventually(is_dead)
    listed = str(await deliveries(system))
    kept = await dump(system)
    logged = capfd.readouterr().err
    assert "share_created" in kept
    for secret in ("secret", "clinic.example", "J.D.", "481516", "612345678", "L" * 43, "Recipient"):
        assert [] == [where for where in (listed, kept, logged) if secret in where]


async def dump(system: System) -> str:
    """Every row of every table of notify's database."""
    async with system.database.statements() as transaction:
        fetch = transaction.connection.fetch
        tables = await fetch("select relname from pg_class where relkind = 'r' and relnamespace = $1", 2200)
        rows = [await fetch(f'select t::text from "{table["relname"]}" t') for table in tables]
    return "\n".join(row[0] for table in rows for row in table)


@pytest.mark.proves("SHR-11", part="while the mail server is down the delivery page says so")
async def test_while_the_mail_server_is_down_the_list_says_so_and_nothing_is_lost(system: System) -> None:
    await system.mails.stop()
    await system.say(ShareCreated(system.bucket(), 1))

    async def waits() -> bool:
        found = [(each.state, each.last_error) for each in await deliveries(system)]
        return found == [(pb.Notice.STATE_WAITING, "the mail server cannot be reached")]

    await eventually(waits)
    await system.mails.start()
    await eventually(lambda: system.mails.received)


async def test_a_share_that_is_revoked_is_no_longer_told(system: System) -> None:
    await system.mails.stop()
    bucket = system.bucket()
    await system.say(ShareCreated(bucket, 1))
    await eventually(lambda: deliveries(system))
    system.sharing.buckets[str(bucket)].mail_due = False
    await system.say(ShareRevoked(bucket, 2))

    async def is_cancelled() -> bool:
        return [each.state for each in await deliveries(system)] == [pb.Notice.STATE_CANCELLED]

    await eventually(is_cancelled)


async def test_who_became_an_operator_is_not_told(system: System) -> None:
    olaf = system.user("Olaf", role=access_pb2.ROLE_OPERATOR)
    await system.say(ShareCreated(system.bucket(recipient_user_id=olaf.user_id), 1))

    async def is_cancelled() -> bool:
        return [each.state for each in await deliveries(system)] == [pb.Notice.STATE_CANCELLED]

    await eventually(is_cancelled)
    assert [] == system.mails.received


@pytest.mark.proves("NTF-1", part="from the fact to the mails")
async def test_whose_privilege_ends_soon_is_reminded_and_the_office_too(system: System) -> None:
    jane = system.user("Jane")
    privilege = access_pb2.Privilege(
        user_id=jane.user_id,
        facility_id=str(uuid4()),
        facility_name="North",
        expires_on="2026-12-01",
    )
    privilege.expires_at.FromDatetime(CLOCK.now() + timedelta(days=6))
    system.access.privileges.append(privilege)

    await system.say(UserChanged(UUID(jane.user_id), 1))
    await eventually(lambda: len(system.mails.received) == 2)

    assert {"jane@clinic.example", "office@group.example"} == {mail.to for mail in system.mails.received}
    assert {
        f"privilege:{jane.user_id}:{privilege.facility_id}:"
        f"{privilege.expires_at.ToDatetime():%Y-%m-%dT%H:%M}:7"
    } == {each.intent for each in await deliveries(system)}


async def test_of_a_deleted_case_it_says_at_once_that_nothing_is_left(system: System) -> None:
    case_id = uuid4()
    await system.say(CaseDeleted(case_id, 1), CaseDeleted(case_id, 2))

    async def purged() -> list[Any]:
        async with system.database.statements() as transaction:
            rows = await transaction.connection.fetch("select payload from outbox where subject like 'case%'")
        return [msgspec.json.decode(row["payload"]) for row in rows]

    async def both() -> bool:
        return len(await purged()) == 2

    await eventually(both)
    assert {(str(case_id), "notify")} == {(fact["id"], fact["by"]) for fact in await purged()}


# Who may look, and send again


async def test_a_share_administrator_is_listed_the_shares_of_his_facilities(system: System) -> None:
    north, south = str(uuid4()), str(uuid4())
    buckets = [system.bucket(facility_id=each) for each in (north, south, north)]
    for bucket in buckets:
        await system.say(ShareCreated(bucket, 1))
    jane = system.user("Jane")
    privilege = access_pb2.Privilege(user_id=jane.user_id, facility_id=north, expires_on="2026-12-01")
    privilege.expires_at.FromDatetime(CLOCK.now() + timedelta(days=1))
    system.access.privileges.append(privilege)
    await system.say(UserChanged(UUID(jane.user_id), 1))
    await eventually(lambda: len(system.mails.received) == 5)
    system.access.permissions |= {
        ("nora", "share.admin"): [north],
        ("ada", "share.admin"): [],
        ("sam", "share.admin"): [str(uuid4())],
    }

    def shares(*of: int) -> set[str]:
        return {f"bucket:{buckets[index]}" for index in of}

    assert 5 == len(await deliveries(system, "olga"))
    assert shares(0, 2) == {each.intent for each in await deliveries(system, "nora")}
    assert shares(0, 1, 2) == {each.intent for each in await deliveries(system, "ada")}
    assert [] == await deliveries(system, "sam")
    with pytest.raises(Denied):
        await deliveries(system, "mallory")


async def test_the_list_comes_in_pages_newest_first(system: System) -> None:
    for _ in range(5):
        await system.say(ShareCreated(system.bucket(), 1))
    await eventually(lambda: len(system.mails.received) == 5)
    everything = await deliveries(system)
    stub = system.acting("olga")

    pages, token = [], ""
    while True:
        answer = await stub.ListDeliveries(pb.ListDeliveriesRequest(page_size=2, page_token=token))
        pages.append([each.notice_id for each in answer.notices])
        if not (token := answer.next_page_token):
            break

    assert [2, 2, 1] == [len(page) for page in pages]
    assert [each.notice_id for each in everything] == [each for page in pages for each in page]
    for request in (
        pb.ListDeliveriesRequest(page_size=501),
        pb.ListDeliveriesRequest(page_size=-1),
        pb.ListDeliveriesRequest(page_token="not ours"),
    ):
        with pytest.raises(Invalid):
            await stub.ListDeliveries(request)


async def test_only_an_operator_sends_again(system: System) -> None:
    system.mails.misbehave("RCPT", "550 no")
    await system.say(ShareCreated(system.bucket(facility_id=(north := str(uuid4()))), 1))

    async def is_dead() -> bool:
        return [each.state for each in await deliveries(system)] == [pb.Notice.STATE_DEAD]

    await eventually(is_dead)
    (dead,) = await deliveries(system)
    request = pb.ResendRequest(notice_id=dead.notice_id)
    system.access.permissions["nora", "share.admin"] = [north]
    for login in ("nora", "mallory"):
        with pytest.raises(Denied):
            await system.acting(login).Resend(request)

    olga = system.acting("olga")
    again = (await olga.Resend(request)).notice
    assert (pb.Notice.STATE_WAITING, dead.notice_id) == (again.state, again.notice_id)
    await eventually(lambda: system.mails.received)
    errors: list[tuple[str, type[ReadroomError]]] = [
        (dead.notice_id, Conflict),
        (str(uuid4()), NotFound),
        ("nonsense", Invalid),
        ("", Invalid),
    ]

    async def is_sent() -> bool:
        return [each.state for each in await deliveries(system)] == [pb.Notice.STATE_SENT]

    await eventually(is_sent)
    for notice_id, error in errors:
        with pytest.raises(error):
            await olga.Resend(pb.ResendRequest(notice_id=notice_id))
    async with system.database.statements() as transaction:
        rows = await transaction.connection.fetch(
            "select actor, outcome from audit_rows where action = 'notice.resent' order by id"
        )
    assert [
        ("nora", "refused"),
        ("mallory", "refused"),
        ("olga", "done"),
        ("olga", "refused"),
        ("olga", "refused"),
    ] == [tuple(row) for row in rows]


async def test_nobody_but_sharing_sends_codes_and_nobody_lists_without_a_user(system: System) -> None:
    for peer in ("bff", "access", "ingest", "routing", "reporting"):
        stub = system.called_by(peer)
        with pytest.raises((Denied, Unauthenticated)):
            await stub.SendText(pb.SendTextRequest(mobile_number=MOBILE, code="123456"))
        with pytest.raises((Denied, Unauthenticated)):
            await stub.ListDeliveries(pb.ListDeliveriesRequest())
    assert 0 == system.texts.asked
