"""What recipients see; and what is left of a deleted case."""

import asyncio
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from kernel.errors import NotFound
from kernel.events import CasePurged, ShareCreated, ShareOpened, ShareRevoked
from kernel.ids import CaseId, ShareId
from services.sharing import events
from services.sharing.asking import active_user
from services.sharing.otp import Redeemed
from services.sharing.validity import Validity
from services.sharing.wanted import Recipient
from tests.reporting.system import a_user
from tests.sharing.system import (
    DAY,
    FURTHER,
    Sharing,
    act,
    block,
    error_of,
    extend,
    till,
)
from wire.access.v1 import access_pb2

pytestmark = pytest.mark.asyncio(loop_scope="package")

CREATED, REVOKED = ShareCreated.subject, ShareRevoked.subject


# What recipients see


@pytest.mark.proves("SHR-25", part="the recipient sees the message")
async def test_the_recipient_opens_what_he_received_by_its_link(sharing: Sharing) -> None:
    case_id = await sharing.world.case()
    share = await sharing.share("vos", [case_id], "rita", message="look at the liver")
    (bucket,) = share.buckets

    opened = await asyncio.gather(*(sharing.open("rita", bucket) for _ in range(5)))

    assert {("look at the liver", False)} == {(each.share.message, each.withheld) for each in opened}
    assert [(CREATED, 1), (ShareOpened.subject, 1)] == await sharing.facts(bucket.id)
    stored = await sharing.stored(share.id)
    assert stored is not None
    assert stored.buckets[0].opened_at is not None


@pytest.mark.proves("SHR-8", part="before the code nothing is shown")
@pytest.mark.proves("SHR-9", part="a blocked bucket shows nothing")
async def test_until_the_code_is_entered_and_while_it_is_blocked_nothing_is_shown(sharing: Sharing) -> None:
    world, case_id = sharing.world, await sharing.world.case()
    share = await sharing.share("vos", [case_id], recipients=[Recipient("rita", two_factor=True)])
    (bucket,) = share.buckets

    received = await sharing.open("rita", bucket)
    assert (True, True, False) == (received.code_needed, received.withheld, received.blocked)
    assert not await world.sees("rita", case_id)
    stored = await sharing.stored(share.id)
    assert stored is not None
    assert stored.buckets[0].opened_at is None
    await block(sharing, bucket)
    received = await sharing.open("rita", bucket)
    assert (True, True) == (received.withheld, received.blocked)
    assert bucket.id in await sharing.received("rita")
    assert not await world.sees("rita", case_id)


@pytest.mark.proves("A56")
@pytest.mark.proves("SEC-11", part="to anyone else every link answers alike, stored is its digest")
async def test_to_anybody_else_every_link_answers_alike(sharing: Sharing) -> None:
    cases = [await sharing.world.case()]
    right, revoked, expired = [
        await sharing.share("vos", cases, "rita", **till(sharing, 1)) for _ in range(3)
    ]
    await sharing.revoke("vos", share=revoked)
    sharing.clock.pass_by(3 * DAY)
    await sharing.repair()
    again = await sharing.share("vos", cases, "rita", validity=Validity(unlimited=True))
    text = sharing.links.text

    async def refused(login: str, link: str) -> tuple[Any, ...]:
        act(login)
        error = await error_of(sharing.inbox.open(login, "s", link))
        return type(error), error.sentence, error.field

    answers = {
        await refused("rob", text(again.buckets[0].id)),
        await refused("vos", text(again.buckets[0].id)),
        await refused("adam", text(again.buckets[0].id)),
        *[await refused("rita", text(each.buckets[0].id)) for each in (right, revoked, expired)],
        *[await refused("rita", link) for link in ("", "x" * 43, "é" * 43, "x" * 100_000, "\0" * 43)],
        await refused("rita", text(again.buckets[0].id)[:42]),
        await refused("rita", str(again.buckets[0].id)),
    }

    assert 1 == len(answers)
    assert (await sharing.open("rita", again.buckets[0])).bucket.id == again.buckets[0].id
    digests = await sharing.query("select link_digest from buckets where bucket_id = $1", again.buckets[0].id)
    assert text(again.buckets[0].id).encode() not in digests[0]["link_digest"]


@pytest.mark.proves("A28", part="nothing of a share is shown while its case is being deleted")
async def test_of_what_access_shows_no_more_neither_cases_nor_message_are_shown(sharing: Sharing) -> None:
    """It is being deleted, and sharing has not heard of it yet; or the recipient sees no studies any more."""
    world = sharing.world
    north, view, none = world.north, access_pb2.LEVEL_VIEW, access_pb2.LEVEL_UNSPECIFIED
    role = access_pb2.Role
    rex = await a_user(world.access, "rex", role.ROLE_REFERRING_PHYSICIAN, north, none)
    await a_user(world.access, "dora", role.ROLE_RADIOLOGIST, north, view, "study.delete")
    going, staying = await world.case(), await world.case()
    first = await sharing.share("vos", [going], "rex", message="Mr. Doe")
    both = await sharing.share("vos", [going, staying], "rex", message="two of them")

    stub = world.access.acting("dora", "ingest")
    await stub.BeginDelete(access_pb2.BeginDeleteRequest(case_id=str(going), deletion_id=str(uuid4())))
    act("rex")
    listed = {each.bucket.share_id: each for each in await sharing.inbox.list_received("rex", "s", None, 100)}
    opened = await sharing.open("rex", first.buckets[0])
    assert (True, True) == (listed[first.id].withheld, opened.withheld)
    assert opened.bucket.opened_at is None
    assert ((staying,), False) == (listed[both.id].share.case_ids, listed[both.id].withheld)

    rex.role = role.ROLE_OPERATOR
    await world.access.save_user(rex)
    act("rex")
    assert {True} == {each.withheld for each in await sharing.inbox.list_received("rex", "s", None, 100)}


# Deletion


async def purge(sharing: Sharing, case_id: CaseId) -> None:
    async with sharing.database.transaction() as transaction:
        await sharing.repairs.purge(transaction, case_id, 1)


async def test_nothing_is_kept_of_a_deleted_case_and_nothing_saved_again(sharing: Sharing) -> None:
    first, second = await sharing.world.case(), await sharing.world.case()
    both = await sharing.share("vos", [first, second], "rita", **FURTHER, message="the liver")
    alone = await sharing.share("vos", [first], "rita", "rob", message="the liver")
    onward = await sharing.share("rita", [first], "ron")

    await purge(sharing, first)
    await purge(sharing, first)

    stored = await sharing.stored(both.id)
    assert stored is not None
    assert (second,) == stored.case_ids
    assert (None, None) == (await sharing.stored(alone.id), await sharing.stored(onward.id))
    assert not await sharing.query("select from buckets where share_id = $1", alone.id)
    for bucket in alone.buckets:
        assert isinstance(await error_of(sharing.shares.describe_bucket(bucket.id)), NotFound)
    assert [(CasePurged.subject, 1)] * 2 == await sharing.facts(first)
    assert isinstance(await error_of(sharing.share("vos", [first, second], "rita")), NotFound)
    await purge(sharing, second)
    assert await sharing.stored(both.id) is None
    await purge(sharing, CaseId(uuid4()))  # of which nothing was held


async def test_a_case_that_is_deleted_while_it_is_shared_is_not_kept(sharing: Sharing) -> None:
    for number in range(8):
        case_id = await sharing.world.case()
        acts = [sharing.share("vos", [case_id], "rita"), purge(sharing, case_id)]

        await asyncio.gather(*(acts if number % 2 else acts[::-1]), return_exceptions=True)

        assert not await sharing.query("select from share_cases where case_id = $1", case_id)
    assert not await sharing.query(
        "select from shares where not exists (select from share_cases c where c.share_id = shares.share_id)"
    )


async def test_a_deletion_waits_for_what_is_just_being_saved(sharing: Sharing) -> None:
    """Else it would not see it, and leave it behind."""
    case_id, other = await sharing.world.case(), await sharing.world.case()
    share = await sharing.share("vos", [other], "rita")
    async with sharing.database.transaction() as transaction:
        assert await transaction.keep_from_deletion([case_id])
        deleting = asyncio.create_task(purge(sharing, case_id))
        await sharing.waits(deleting)
        saved = replace(share, id=ShareId(uuid4()), case_ids=(case_id,), buckets=())
        await transaction.insert_share(saved, {})

    await deleting
    assert not await sharing.query("select from shares where share_id = $1", saved.id)
    async with sharing.database.transaction() as transaction:
        assert not await transaction.keep_from_deletion([other, case_id])


@pytest.mark.proves("A57", part="a renewed share needs another code")
async def test_after_a_renewal_another_code_is_needed(sharing: Sharing) -> None:
    world, case_id = sharing.world, await sharing.world.case()
    to = [Recipient("rita", two_factor=True)]
    (bucket,) = (await sharing.share("vos", [case_id], recipients=to, **till(sharing, 1))).buckets
    contact_version = (await active_user(sharing.access, "rita")).contact_version
    redeemed = Redeemed(bucket.id, "s", contact_version)
    await sharing.access.register(redeemed)
    assert await world.sees("rita", case_id)

    sharing.clock.pass_by(2 * DAY)
    await sharing.repairs.expire()
    await events.tell_access(sharing.repairs)
    await extend(sharing, "vos", bucket, Validity(unlimited=True))
    assert not await world.sees("rita", case_id)
    await sharing.access.register(redeemed)
    assert await world.sees("rita", case_id)
