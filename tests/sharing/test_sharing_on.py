"""Sharing on what was received: never more than it, and no longer."""

import asyncio
from contextvars import copy_context
from typing import Any

import pytest

from kernel.errors import Conflict, Denied, NotFound, ReadroomError
from kernel.events import ShareCreated, ShareRevoked
from kernel.ids import CaseId
from services.sharing.asking import lock_tree
from services.sharing.domain import Act, Rights, Share, State
from services.sharing.validity import Validity, end_of
from services.sharing.wanted import Recipient
from tests.sharing.system import (
    AMSTERDAM,
    FURTHER,
    Sharing,
    act,
    block,
    error_of,
    extend,
    in_days,
    till,
    wanted,
)
from wire.access.v1 import access_pb2

pytestmark = pytest.mark.asyncio(loop_scope="package")

CREATED, REVOKED = ShareCreated.subject, ShareRevoked.subject


@pytest.mark.proves("SHR-24")
@pytest.mark.proves("A46")
async def test_a_recipient_shares_on_where_he_may_and_never_more_than_he_has(sharing: Sharing) -> None:
    world, case_id = sharing.world, await sharing.world.case()
    await sharing.share("vos", [case_id], "rita")
    assert isinstance(await error_of(sharing.share("rita", [case_id], "rob")), Denied)

    parent = await sharing.share("vos", [case_id], "rita", **FURTHER, **till(sharing, 5))
    fields = [
        (await error_of(sharing.share("rita", [case_id], "rob", **changes))).field
        for changes in (
            till(sharing, 6),
            {"validity": Validity(unlimited=True)},
            {"rights": Rights.WRITE_REPORT},
            {"patient_agreed": False},
            {"reason": ""},
        )
    ]
    assert ["valid_till", "unlimited", "rights", "patient_agreed", "reason"] == fields
    assert not await world.sees("rob", case_id)

    act("rita")
    prepared = await sharing.shares.prepare_share("rita", [case_id], ["rob"])
    assert (in_days(sharing, 5), in_days(sharing, 5), False) == (
        prepared.valid_till,
        prepared.valid_till_at_most,
        prepared.unlimited_allowed,
    )
    child = await sharing.share("rita", [case_id], "rob")
    assert (parent.buckets[0].id, parent.buckets[0].ends_at) == (
        child.parent_bucket_id,
        child.buckets[0].ends_at,
    )
    assert await world.sees("rob", case_id)
    assert isinstance(await error_of(sharing.share("rob", [case_id], "ron")), Denied)


@pytest.mark.proves("A46", part="two-factor")
async def test_what_was_received_by_two_factor_is_shared_on_by_two_factor(sharing: Sharing) -> None:
    world, case_id = sharing.world, await sharing.world.case()
    parent = await sharing.share("vos", [case_id], recipients=[Recipient("rita", two_factor=True)], **FURTHER)
    assert isinstance(await error_of(sharing.share("rita", [case_id], "rob")), NotFound)  # no code yet
    stub = world.access.called_by("sharing", lambda: None)
    await stub.RegisterSession(
        access_pb2.RegisterSessionRequest(bucket_id=str(parent.buckets[0].id), session="s")
    )

    assert "two_factor" == (await error_of(sharing.share("rita", [case_id], "rob"))).field
    child = await sharing.share("rita", [case_id], recipients=[Recipient("rob", two_factor=True)])

    assert child.buckets[0].two_factor
    act("rita", "another session")
    again = wanted([case_id], recipients=[Recipient("ron", two_factor=True)])
    assert isinstance(await error_of(sharing.shares.share("rita", again)), NotFound)


async def a_chain(sharing: Sharing, case_id: CaseId) -> list[Share]:
    """vos → rita → rob → ron."""
    return [
        await sharing.share(sender, [case_id], recipient, **FURTHER)
        for sender, recipient in (("vos", "rita"), ("rita", "rob"), ("rob", "ron"))
    ]


@pytest.mark.proves("A46", part="it dies with its parent")
@pytest.mark.proves("SHR-24", part="it dies with its parent")
async def test_whatever_was_shared_on_ends_with_what_it_came_from(sharing: Sharing) -> None:
    world, case_id = sharing.world, await sharing.world.case()
    first, second, third = await a_chain(sharing, case_id)
    beside = await sharing.share("vos", [case_id], "ray")

    await sharing.revoke("rita", share=second)
    assert [True, False, False] == [await world.sees(each, case_id) for each in ("rita", "rob", "ron")]
    assert [[State.ACTIVE], [State.REVOKED], [State.REVOKED]] == [
        await sharing.states(each) for each in (first, second, third)
    ]
    assert [(CREATED, 1), (REVOKED, 2)] == await sharing.facts(third.buckets[0].id)
    await sharing.revoke("vos", share=first)
    assert not await world.sees("rita", case_id)
    assert [(CREATED, 1), (REVOKED, 2)] == await sharing.facts(third.buckets[0].id)
    assert await world.sees("ray", case_id)
    assert [State.ACTIVE] == await sharing.states(beside)


@pytest.mark.proves("A46", part="it ends no later than its parent")
async def test_whatever_was_shared_on_is_shortened_with_it_and_not_lengthened(sharing: Sharing) -> None:
    case_id = await sharing.world.case()
    chain = await a_chain(sharing, case_id)
    month = chain[0].buckets[0].ends_at

    await extend(sharing, "vos", chain[0].buckets[0], till(sharing, 3)["validity"])
    ends = [each.buckets[0].ends_at for share in chain if (each := await sharing.stored(share.id))]
    assert [end_of(in_days(sharing, 3), AMSTERDAM)] * 3 == ends
    await extend(sharing, "vos", chain[0].buckets[0], Validity(unlimited=True))
    ends = [each.buckets[0].ends_at for share in chain if (each := await sharing.stored(share.id))]
    assert [None, *[end_of(in_days(sharing, 3), AMSTERDAM)] * 2] == ends
    await extend(sharing, "rita", chain[1].buckets[0], till(sharing, 9)["validity"])
    error = await error_of(extend(sharing, "rob", chain[2].buckets[0], till(sharing, 10)["validity"]))
    assert "valid_till" == error.field
    assert month is not None
    untold = await sharing.query(
        "select from buckets where accepted_version < version and state <> 'pending'"
    )
    assert not untold


async def test_what_comes_from_a_blocked_share_stays_and_is_not_extended(sharing: Sharing) -> None:
    """Whoever blocks somebody by wrong codes locks nobody else out (A40); the blocked gives nothing more."""
    case_id = await sharing.world.case()
    parent, child, _ = await a_chain(sharing, case_id)

    await block(sharing, parent.buckets[0])

    assert await sharing.world.sees("rob", case_id)
    await extend(sharing, "rita", child.buckets[0], till(sharing, 2)["validity"])
    for login in ("rita", "adam"):
        error = await error_of(extend(sharing, login, child.buckets[0], till(sharing, 3)["validity"]))
        assert isinstance(error, Conflict)
    assert isinstance(await error_of(sharing.share("rita", [case_id], "ron")), NotFound)
    await sharing.revoke("vos", share=parent)
    assert not await sharing.world.sees("rob", case_id)


async def test_a_facility_may_forbid_sharing_on_also_of_what_allows_it(sharing: Sharing) -> None:
    case_id = await sharing.world.case()
    await sharing.share("vos", [case_id], "rita", **FURTHER)
    await sharing.save_policy(further_sharing_allowed=False)
    try:
        assert isinstance(await error_of(sharing.share("rita", [case_id], "rob")), Denied)
        error = await error_of(sharing.share("vos", [case_id], "rita", **FURTHER))
        assert "allow_further_sharing" == error.field
    finally:
        await sharing.save_policy()
    await sharing.share("rita", [case_id], "rob")


async def test_of_several_shares_the_one_that_allows_most_is_shared_on(sharing: Sharing) -> None:
    case_id, other = await sharing.world.case(), await sharing.world.case()
    await sharing.share("vos", [case_id], "rita", **FURTHER, **till(sharing, 9))
    await sharing.share("vos", [other], "rita", **FURTHER, validity=Validity(unlimited=True))
    best = await sharing.share("vos", [other, case_id], "rita", **FURTHER, validity=Validity(unlimited=True))

    child = await sharing.share("rita", [case_id], "rob", validity=Validity(unlimited=True))

    assert best.buckets[0].id == child.parent_bucket_id


async def test_who_shares_on_while_it_is_revoked_shares_nothing(sharing: Sharing) -> None:
    world = sharing.world
    for number in range(6):
        case_id = await world.case()
        parent = await sharing.share("vos", [case_id], "rita", **FURTHER)

        async def as_(login: str, done: Any, *arguments: Any) -> Any:
            act(login)  # each task has a context of its own
            return await done(login, *arguments)

        acts = [
            as_("rita", sharing.shares.share, wanted([case_id], "rob")),
            as_("vos", sharing.shares.revoke, None, parent.id),
        ]
        answers = await asyncio.gather(*(acts if number % 2 else acts[::-1]), return_exceptions=True)

        assert all(not isinstance(each, BaseException) or isinstance(each, ReadroomError) for each in answers)
        await sharing.repair()
        assert not await world.sees("rob", case_id)
        assert not await world.sees("rita", case_id)
        states = await sharing.query(
            "select state from buckets join share_cases using (share_id) where case_id = $1", case_id
        )
        assert {"revoked"} == {row["state"] for row in states}


async def test_who_shares_on_waits_for_whoever_is_ending_it(sharing: Sharing) -> None:
    """Else the end would miss what comes from it, which access may grant before it hears of the end."""
    case_id = await sharing.world.case()
    parent = await sharing.share("vos", [case_id], "rita", **FURTHER)
    act("rita")
    elsewhere = copy_context()  # who shares on holds no connection
    async with sharing.database.transaction() as transaction:
        (bucket,) = await lock_tree(transaction, [parent.buckets[0].id])
        sharing_on = sharing.shares.share("rita", wanted([case_id], "rob"))
        onward = asyncio.create_task(sharing_on, context=elsewhere)

        await sharing.waits(onward)
        await transaction.save_buckets([bucket.after(Act.REVOKE, transaction.now)])

    assert isinstance(await error_of(onward), Denied)
    assert not await sharing.world.sees("rob", case_id)
    await sharing.repair()
