"""The journey of a share, end to end: mail, link, code, images, and the ways it ends."""

import random
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, timedelta
from pathlib import Path

import pytest

from demo import comparing
from demo.cast import BRANDT, CARE, CENTRAL, MOOR, MULDER, OUTSIDE, VOS, Person
from demo.reading import refusal
from demo.sharing import LINK, MESSAGE, as_sent, inbox, other, redeem, the_code, the_mail, wanted
from demo.world import World
from kernel.errors import Denied, Exhausted, Invalid, NotFound, ReadroomError, Unavailable
from local.embedded.sink import Behaviour
from readroom.fetch import fetch_case
from tests.e2e.silent import Silent
from tests.e2e.test_journey import seen, send, small
from tests.wait import eventually
from wire.access.v1.access_pb2 import Case
from wire.notify.v1.notify_pb2 import ListDeliveriesRequest, Notice
from wire.sharing.v1.sharing_pb2 import (
    Bucket,
    ListReceivedRequest,
    OpenRequest,
    Received,
    RevokeRequest,
    UnblockRequest,
)


@dataclass(frozen=True, slots=True)
class Shared:
    """A case that Vos has shared with the two outside."""

    world: World
    case: Case
    sent: list[Path]
    buckets: dict[str, Bucket]
    links: dict[str, str]

    async def sees(self, person: Person) -> bool:
        return await self.world.case(person.login, self.case.study_instance_uid) is not None

    async def received(self, person: Person) -> Received | None:
        readroom = await self.world.acting_as(person.login)
        listed = (await readroom.sharing.ListReceived(ListReceivedRequest())).received
        return next((r for r in listed if r.bucket_id == self.bucket_id(person)), None)

    def bucket_id(self, person: Person) -> str:
        return self.buckets[person.login].bucket_id

    async def redeem(self, person: Person) -> str:
        """Has a code sent and shows it; answers it."""
        code = await the_code(self.world, person, self.bucket_id(person))
        await redeem(self.world, person, self.bucket_id(person), code)
        return code


numbers = iter(range(1000))


@pytest.fixture
async def shared(world: World, readers: None, outside: None, tmp_path: Path) -> Shared:
    """A case on nobody's worklist outside, shared with a code and a mail for each."""
    study = small(f"shared-{next(numbers)}", "MS44")
    sent = await send(world, CENTRAL, study, tmp_path)
    case = await seen(world, VOS.login, study)
    before = {person.login: len(inbox(world, person)) for person in OUTSIDE}
    share = (await (await world.acting_as(VOS.login)).sharing.Share(wanted(case))).share
    arrived = {p.login: await the_mail(world, p, before[p.login]) for p in OUTSIDE}
    links = {login: LINK.findall(mail.text)[0] for login, mail in arrived.items()}
    # A limit of codes counts by number, too: each share begins when the limits of the one before are over.
    world.move_clock(world.now() + timedelta(days=1))
    return Shared(world, case, sent, {b.recipient_login: b for b in share.buckets}, links)


@pytest.mark.proves("SHR-8", part="from the mail to the images")
@pytest.mark.proves("SHR-11", part="from the share to the mail")
@pytest.mark.proves("A57", part="end to end")
@pytest.mark.proves("SHR-25")
async def test_a_recipient_sees_the_study_only_in_the_session_in_which_he_showed_the_code(
    shared: Shared, tmp_path: Path
) -> None:
    brandt = await shared.world.acting_as(BRANDT.login)
    link = OpenRequest(link=shared.links[BRANDT.login])
    opened = (await brandt.sharing.Open(link)).received
    assert (opened.bucket_id, opened.code_needed) == (shared.bucket_id(BRANDT), True)
    assert not opened.case_ids
    assert not opened.message
    assert not await shared.sees(BRANDT)
    assert MESSAGE in inbox(shared.world, BRANDT)[-1].text

    await shared.redeem(BRANDT)
    assert await shared.sees(BRANDT)
    assert MESSAGE == (await brandt.sharing.Open(link)).received.message
    fetched = await fetch_case(brandt, shared.case.case_id, tmp_path / "fetched", Silent())
    originals, copies = comparing.by_uid(shared.sent), comparing.by_uid(fetched)
    assert originals.keys() == copies.keys()
    assert all(comparing.same_bytes(originals[uid], copies[uid]) for uid in originals)

    async with AsyncExitStack() as resources:
        another = replace(shared, world=shared.world.elsewhere(resources))
        assert not await another.sees(BRANDT)
        again = await another.received(BRANDT)
        assert again is not None
        assert again.code_needed


@pytest.mark.proves("A56", part="end to end")
async def test_a_link_opens_for_its_recipient_and_is_any_link_to_everybody_else(shared: Shared) -> None:
    link = shared.links[BRANDT.login]
    others = [link[::-1], link[:-1] + ("A" if link[-1] != "A" else "B"), "".join(random.sample(link, 43))]

    async def answers(person: Person, text: str) -> ReadroomError | None:
        return await refusal(
            (await shared.world.acting_as(person.login)).sharing.Open(OpenRequest(link=text))
        )

    assert await answers(BRANDT, link) is None
    refused = [await answers(person, link) for person in (MULDER, VOS, MOOR)]
    refused += [await answers(BRANDT, text) for text in others]
    assert {(type(error), str(error)) for error in refused} == {(NotFound, str(refused[0]))}


@pytest.mark.proves("SHR-9", part="end to end")
@pytest.mark.proves("SHR-10", part="end to end")
@pytest.mark.proves("A42", part="end to end")
async def test_five_wrong_codes_block_one_recipient_until_the_sending_side_unblocks_him(
    shared: Shared,
) -> None:
    world, bucket = shared.world, shared.bucket_id(MULDER)
    code = await the_code(world, MULDER, bucket)
    for by in range(1, 6):
        assert await refusal(redeem(world, MULDER, bucket, other(code, by)))
    assert await refusal(redeem(world, MULDER, bucket, code)), "the right one comes too late"
    blocked = await shared.received(MULDER)
    assert blocked is not None
    assert blocked.blocked
    assert await refusal(the_code(world, MULDER, bucket))

    for person, error in ((MULDER, (Denied, NotFound)), (BRANDT, (Denied, NotFound))):
        readroom = await world.acting_as(person.login)
        assert isinstance(await refusal(readroom.sharing.Unblock(UnblockRequest(bucket_id=bucket))), error)
    await (await world.acting_as(MOOR.login)).sharing.Unblock(UnblockRequest(bucket_id=bucket))

    assert isinstance(await refusal(the_code(world, MULDER, bucket)), Exhausted), "limits outlive a block"
    world.move_clock(world.now() + timedelta(seconds=30))
    await shared.redeem(MULDER)
    assert await shared.sees(MULDER)


async def test_a_revoked_part_is_gone_with_the_next_call_and_the_other_stays(
    shared: Shared, tmp_path: Path
) -> None:
    vos, mulder = [await shared.world.acting_as(person.login) for person in (VOS, MULDER)]
    for person in OUTSIDE:
        await shared.redeem(person)

    await vos.sharing.Revoke(RevokeRequest(bucket_id=shared.bucket_id(MULDER)))

    assert not await shared.sees(MULDER)
    assert await shared.received(MULDER) is None
    fetch = fetch_case(mulder, shared.case.case_id, tmp_path / "fetched", Silent())
    assert isinstance(await refusal(fetch), NotFound)
    assert isinstance(
        await refusal(mulder.sharing.Open(OpenRequest(link=shared.links[MULDER.login]))), NotFound
    )
    assert await shared.sees(BRANDT)


@pytest.mark.proves("SHR-24", part="end to end")
@pytest.mark.proves("A46", part="end to end")
async def test_what_was_shared_on_ends_with_what_it_came_from(shared: Shared) -> None:
    world, case = shared.world, shared.case
    vos, mulder = [await world.acting_as(person.login) for person in (VOS, MULDER)]
    assert await refusal(mulder.sharing.Share(wanted(case, [BRANDT]))), "nobody allowed it"

    (parent,) = (await vos.sharing.Share(wanted(case, [MULDER], allow_further_sharing=True))).share.buckets
    await replace(shared, buckets={MULDER.login: parent}).redeem(MULDER)
    weaker = wanted(case, [BRANDT])
    weaker.recipients[0].two_factor = False
    assert isinstance(await refusal(mulder.sharing.Share(weaker)), Invalid), "a code was asked of them, too"
    (child,) = (await mulder.sharing.Share(wanted(case, [BRANDT]))).share.buckets
    await replace(shared, buckets={BRANDT.login: child}).redeem(BRANDT)
    assert await shared.sees(BRANDT)

    await vos.sharing.Revoke(RevokeRequest(bucket_id=parent.bucket_id))

    assert not await shared.sees(BRANDT)
    assert not await shared.sees(MULDER)


@pytest.mark.proves("SHR-29", part="end to end")
@pytest.mark.proves("R11", part="a share, end to end")
async def test_a_share_ends_at_the_last_instant_of_its_last_day_and_is_recorded_as_expired(
    shared: Shared,
) -> None:
    world, bucket = shared.world, shared.buckets[BRANDT.login]
    ends_at = bucket.ends_at.ToDatetime(UTC)
    await shared.redeem(BRANDT)

    world.move_clock(ends_at - timedelta(minutes=1))
    assert await shared.sees(BRANDT)
    assert await shared.received(BRANDT)
    world.move_clock(ends_at)
    assert not await shared.sees(BRANDT)
    assert await shared.received(BRANDT) is None

    async def expired() -> bool:
        return (await as_sent(world, bucket)).state == Bucket.STATE_EXPIRED

    await eventually(expired)


@pytest.mark.proves("SHR-28", part="end to end")
async def test_deliveries_say_of_each_mail_that_it_was_sent_once(shared: Shared) -> None:
    moor = await shared.world.acting_as(MOOR.login)

    deliveries = (await moor.notify.ListDeliveries(ListDeliveriesRequest())).notices

    sent = {d.intent: d.attempts for d in deliveries if d.state == d.STATE_SENT}
    intents = [f"bucket:{shared.bucket_id(person)}" for person in OUTSIDE]
    assert [sent.get(intent) for intent in intents] == [1, 1]


@pytest.mark.proves("BEY-20", part="the mail server is down, end to end")
async def test_while_the_mail_server_refuses_the_share_stands_and_its_mail_waits(shared: Shared) -> None:
    world, sink = shared.world, shared.world.system.servers.sink
    vos, care = [await world.acting_as(login) for login in (VOS.login, CARE.login)]
    before = len(inbox(world, BRANDT))

    async def delivery(bucket: Bucket, state: "Notice.State.ValueType") -> Notice | None:
        listed: list[Notice] = list((await care.notify.ListDeliveries(ListDeliveriesRequest())).notices)
        found = next((d for d in listed if d.intent == f"bucket:{bucket.bucket_id}"), None)
        return found if found and found.state == state else None

    async def refused(bucket: Bucket) -> str:
        waiting = await delivery(bucket, Notice.STATE_WAITING)
        return waiting.last_error if waiting else ""

    Behaviour(at="rcpt", refuse=451).set(sink.mail)
    try:
        (bucket,) = (await vos.sharing.Share(wanted(shared.case, [BRANDT]))).share.buckets
        assert BRANDT.email not in await eventually(lambda: refused(bucket))
        assert await shared.received(BRANDT), "the share stands"
        assert len(inbox(world, BRANDT)) == before
    finally:
        Behaviour.unset(sink.mail)
    await eventually(lambda: delivery(bucket, Notice.STATE_SENT))
    assert len(inbox(world, BRANDT)) == before + 1


@pytest.mark.proves("NTF-3", part="the text gateway is down, end to end")
async def test_a_text_that_could_not_be_sent_counts_for_nothing(shared: Shared) -> None:
    world, sink, bucket = shared.world, shared.world.system.servers.sink, shared.bucket_id(MULDER)

    Behaviour(refuse=503).set(sink.texts)
    try:
        refused = await refusal(the_code(world, MULDER, bucket))
    finally:
        Behaviour.unset(sink.texts)

    assert isinstance(refused, Unavailable)
    assert "try again" in refused.sentence
    await shared.redeem(MULDER)  # at once: there are 30 s between codes that were sent
    assert await shared.sees(MULDER)
