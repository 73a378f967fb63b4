"""An association carries many transfers, and a study is settled when the last of its transfers has ended."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pytest

from kernel.errors import Conflict, Denied, Exhausted, Invalid
from services.ingest.transfers import MAX_AT_ONCE
from tests.ingest.builders import a_uid
from tests.ingest.objects import a_ct
from tests.ingest.system import ADMIN, HARBOUR, EnrolledGateway, Ingest, Sender, sent_objects, store_object
from tests.ingest.test_deletion import DELETED, a_case, delete
from wire.ingest.v1 import ingest_pb2 as pb


def told(title: str, study: str, *, age_s: int = 0, transfer_id: str = "") -> Any:
    announcement = pb.BeginTransferRequest.Announcement(
        transfer_id=transfer_id or str(uuid4()), study_instance_uid=study, calling_ae_title=title
    )
    announcement.age.FromSeconds(age_s)
    return announcement


async def announce(ingest: Ingest, gateway: EnrolledGateway, announcements: Sequence[Any]) -> int:
    first, *further = announcements
    request = pb.BeginTransferRequest(
        transfer_id=first.transfer_id,
        study_instance_uid=first.study_instance_uid,
        calling_ae_title=first.calling_ae_title,
        age=first.age,
        further=further,
    )
    answer: pb.BeginTransferResponse = await ingest.gateway_service(gateway).BeginTransfer(request)
    return answer.announced


async def end(ingest: Ingest, gateway: EnrolledGateway, *ended: tuple[str, int]) -> None:
    await ingest.gateway_service(gateway).EndTransfer(
        pb.EndTransferRequest(
            ended=[pb.EndTransferRequest.Ended(transfer_id=id_, instances=number) for id_, number in ended]
        )
    )


async def settled(ingest: Ingest) -> set[str]:
    rows = await ingest.rows("select study_instance_uid from studies where settled_at is not null")
    return {row["study_instance_uid"] for row in rows}


async def test_an_association_carries_every_transfer_that_was_announced(ingest: Ingest) -> None:
    gateway = await ingest.enrol()
    announced = {study: told(gateway.title, study) for study in (a_uid() for _ in range(5))}
    assert await announce(ingest, gateway, list(announced.values())) == 5
    named = next(iter(announced.values())).transfer_id
    objects = [a_ct(study=study) for study in announced]
    stranger = a_ct()
    answers = await sent_objects(Sender.of(ingest, gateway, transfer_id=named), *objects, stranger)
    assert [answer.status for answer in answers] == [0] * 5 + [0xC112]
    packs = [path.read_bytes() for path in ingest.pack_files()]
    for study, announcement in announced.items():
        (pack,) = (
            each for each in packs if f"READROOM.transfer={announcement.transfer_id}\n".encode() in each
        )
        assert study.encode() in pack


@pytest.mark.proves("A26", part="late instances among those of other transfers")
async def test_in_one_association_each_study_is_judged_by_its_own_transfer(ingest: Ingest) -> None:
    """A26: one began before its study was deleted, one after, and the association's name says of neither."""
    gateway = await ingest.enrol()
    late, again, other = (a_uid() for _ in range(3))
    for study in (late, again):
        await sent_objects(Sender.of(ingest, gateway), a_ct(study=study))
        await delete(ingest, await a_case(ingest, study))
    announced = [
        told(gateway.title, other),
        told(gateway.title, late, age_s=3600),
        told(gateway.title, again),
    ]
    await announce(ingest, gateway, announced)
    sender = Sender.of(ingest, gateway, transfer_id=announced[0].transfer_id)
    objects = [a_ct(study=study) for study in (other, late, again, other)]
    answers = await sent_objects(sender, *objects)
    assert [answer.status for answer in answers] == [0, DELETED, 0, 0]
    # A transfer that the association names counts for its study, also where a newer one was announced.
    old = told(gateway.title, late, age_s=3600)
    await announce(ingest, gateway, [told(gateway.title, late), old])
    (answer,) = await sent_objects(Sender.of(ingest, gateway, transfer_id=old.transfer_id), a_ct(study=late))
    assert answer.status == DELETED


@pytest.mark.proves("A55", part="settled as soon as a transfer has ended that names as many instances")
async def test_a_study_is_settled_as_soon_as_all_that_its_transfer_names_is_durable(ingest: Ingest) -> None:
    await ingest.stop()
    ingest.environ["READROOM_INGEST_SETTLE_AFTER_S"] = "3600"
    await ingest.start()
    gateway = await ingest.enrol()
    whole, short = a_uid(), a_uid()
    transfers = {study: told(gateway.title, study) for study in (whole, short)}
    await announce(ingest, gateway, list(transfers.values()))
    sending = [a_ct(study=study) for study in (whole, whole, short)]
    sender = Sender.of(ingest, gateway, transfer_id=transfers[whole].transfer_id)
    await sent_objects(sender, *sending)
    ended = {study: each.transfer_id for study, each in transfers.items()}
    before = await ingest.one("select version from studies where study_instance_uid = $1", whole)
    await end(ingest, gateway, (ended[whole], 2), (ended[short], 2))
    assert await settled(ingest) == {whole}
    assert await ingest.one("select version from studies where study_instance_uid = $1", whole) > before
    facts = await ingest.rows("select subject from outbox where subject = 'study.changed.v1'")
    assert facts
    # The rest comes: then it is whole.
    await sent_objects(Sender.of(ingest, gateway, transfer_id=ended[short]), a_ct(study=short))
    await end(ingest, gateway, (ended[short], 2))
    assert await settled(ingest) == {whole, short}


async def test_a_study_that_somebody_else_is_about_to_send_is_not_settled_by_an_end(ingest: Ingest) -> None:
    await ingest.stop()
    ingest.environ["READROOM_INGEST_SETTLE_AFTER_S"] = "3600"
    await ingest.start()
    one, other = await ingest.enrol("RIVERSIDE"), await ingest.enrol("OTHER")
    elsewhere = await ingest.enrol("HARBOUR", HARBOUR)
    study = a_uid()
    transfers = {each.title: told(each.title, study) for each in (one, other, elsewhere)}
    for gateway in (one, other, elsewhere):
        await announce(ingest, gateway, [transfers[gateway.title]])
    ids = {title: each.transfer_id for title, each in transfers.items()}
    await sent_objects(Sender.of(ingest, one, transfer_id=ids[one.title]), a_ct(study=study))
    await end(ingest, one, (ids[one.title], 1))
    assert not await settled(ingest)
    # Whose transfer it is counts, not who tells of it; and what is not known is passed over.
    await end(ingest, one, (ids[other.title], 0), (str(uuid4()), 7))
    assert not await settled(ingest)
    await end(ingest, other, (ids[other.title], 0))
    assert await settled(ingest) == {study}
    # Announced again it has not ended.
    await announce(ingest, other, [transfers[other.title]])
    assert await ingest.one("select count(*) from transfers where ended_at is not null") == 1


async def test_an_older_transfer_that_was_superseded_is_waited_for_too(ingest: Ingest) -> None:
    """It was interrupted, and still has images to send."""
    gateway, study = await ingest.enrol(), a_uid()
    older, newer = told(gateway.title, study, age_s=60), told(gateway.title, study)
    await announce(ingest, gateway, [older])
    await announce(ingest, gateway, [newer])
    await sent_objects(Sender.of(ingest, gateway, transfer_id=newer.transfer_id), a_ct(study=study))
    await end(ingest, gateway, (newer.transfer_id, 1))
    assert not await settled(ingest)
    await end(ingest, gateway, (older.transfer_id, 0))
    assert await settled(ingest) == {study}


async def test_a_study_that_an_unannounced_association_still_sends_is_not_settled_by_an_end(
    ingest: Ingest,
) -> None:
    gateway, study = await ingest.enrol(), a_uid()
    transfer, first, second = told(gateway.title, study), a_ct(study=study), a_ct(study=study)
    contexts = [(first.sop_class_uid, first.transfer_syntax_uid)]

    def sends_beside() -> None:
        with Sender.of(ingest, gateway, title=gateway.title).association(contexts) as unannounced:
            assert store_object(unannounced, first).status == 0
            going.set()
            assert goes_on.wait(20)

    going, goes_on = threading.Event(), threading.Event()
    beside = asyncio.create_task(asyncio.to_thread(sends_beside))
    assert await asyncio.to_thread(going.wait, 20)
    await announce(ingest, gateway, [transfer])
    carried = Sender.of(ingest, gateway, transfer_id=transfer.transfer_id)

    def carries() -> None:
        with carried.association(contexts) as announced:
            assert store_object(announced, second).status == 0
            ending.set()
            assert goes_on.wait(20)

    ending = threading.Event()
    carrying = asyncio.create_task(asyncio.to_thread(carries))
    assert await asyncio.to_thread(ending.wait, 20)
    await end(ingest, gateway, (transfer.transfer_id, 1))
    assert not await settled(ingest)
    goes_on.set()
    await beside
    await carrying


@pytest.mark.proves("SEC-2", part="announcements and ends are of the gateway's own transfers")
async def test_what_is_announced_together_is_announced_as_a_whole_or_not_at_all(ingest: Ingest) -> None:
    gateway, other = await ingest.enrol("RIVERSIDE"), await ingest.enrol("OTHER")
    foreign = told(other.title, a_uid())
    await announce(ingest, other, [foreign])
    good = told(gateway.title, a_uid())
    for spoilt, word in (
        (told(other.title, a_uid()), Denied),
        (told(gateway.title, a_uid(), transfer_id=foreign.transfer_id), Conflict),
        (told(gateway.title, "1.2/../3"), Invalid),
        (told("BACK\\SLASH", a_uid()), Invalid),
        (told(gateway.title, a_uid(), transfer_id="no id"), Invalid),
    ):
        with pytest.raises(word):
            await announce(ingest, gateway, [good, spoilt])
    with pytest.raises(Invalid, match="several calls"):
        await announce(ingest, gateway, [told(gateway.title, a_uid()) for _ in range(MAX_AT_ONCE + 1)])
    assert await ingest.one("select count(*) from transfers") == 1
    with pytest.raises(Invalid, match="several calls"):
        await end(ingest, gateway, *((str(uuid4()), 1) for _ in range(MAX_AT_ONCE + 1)))
    for twice in (
        announce(ingest, gateway, [good, good]),
        end(ingest, gateway, *[(good.transfer_id, 1)] * 2),
    ):
        with pytest.raises(Invalid, match="stands twice"):
            await twice
    endless = told(gateway.title, a_uid())
    endless.age.seconds = 1 << 62
    with pytest.raises(Invalid, match="length of time"):
        await announce(ingest, gateway, [endless])
    with pytest.raises(Invalid, match="negative"):
        await end(ingest, gateway, (good.transfer_id, -1))
    assert await announce(ingest, gateway, [told(gateway.title, a_uid()) for _ in range(MAX_AT_ONCE)]) == 100
    await ingest.acting(ADMIN).RevokeGateway(pb.RevokeGatewayRequest(gateway_id=gateway.gateway_id))
    with pytest.raises(Denied):
        await end(ingest, gateway, (good.transfer_id, 1))


@pytest.mark.proves("SEC-3", part="announcements of a gateway")
async def test_each_announcement_of_a_call_counts(ingest: Ingest) -> None:
    await ingest.stop()
    ingest.environ["READROOM_INGEST_TRANSFERS_PER_MINUTE"] = "30"
    await ingest.start()
    gateway = await ingest.enrol()
    with pytest.raises(Exhausted):
        await announce(ingest, gateway, [told(gateway.title, a_uid()) for _ in range(31)])
    assert await ingest.one("select count(*) from transfers") == 0
