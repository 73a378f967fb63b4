"""Whatever is cut off in the middle: after one repair sight is where shares are, and nowhere else.

The process ends before or after a call to access; what it had committed by then is all that is left. The
steps in between are transactions, which happen or do not.
"""

import asyncio
from datetime import timedelta

import pytest

from kernel.errors import Conflict, NotFound, ReadroomError, Unavailable
from kernel.events import ShareCreated, ShareRevoked
from kernel.ids import CaseId
from plumbing.answers import BadAnswer
from services.sharing import events
from services.sharing.domain import Act, Bucket, State
from services.sharing.validity import Validity, end_of
from services.sharing.wanted import Recipient
from tests.sharing.system import (
    ABANDON_AFTER,
    AMSTERDAM,
    FURTHER,
    Crash,
    Sharing,
    act,
    error_of,
    extend,
    in_days,
    till,
    wanted,
)

pytestmark = pytest.mark.asyncio(loop_scope="package")

CREATED, REVOKED = ShareCreated.subject, ShareRevoked.subject
AWAY = Unavailable("access does not answer")
CUTS = [
    pytest.param("before", Crash(), id="the process ends before access is asked"),
    pytest.param("after", Crash(), id="the process ends after access has answered"),
    pytest.param("before", AWAY, id="access is away"),
    pytest.param("after", AWAY, id="the answer of access is lost"),
]


def cut(sharing: Sharing, when: str, verb: str, error: Exception) -> None:
    getattr(sharing.access, when)[verb] = error


async def agree(sharing: Sharing, case_id: CaseId) -> dict[str, bool]:
    """Who sees the case; asserts that these are exactly those who have an active bucket of it."""
    rows = await sharing.query(
        """
        select recipient_login, state, accepted_version = version as accepted
        from buckets join share_cases using (share_id) where case_id = $1
        """,
        case_id,
    )
    logins = ("rita", "rob", "ron")
    active = {row["recipient_login"] for row in rows if row["state"] == "active"}
    sees = {login: await sharing.world.sees(login, case_id) for login in logins}
    assert {login: login in active for login in logins} == sees
    assert all(row["accepted"] for row in rows if row["state"] != "pending")
    assert "pending" not in {row["state"] for row in rows}
    return sees


@pytest.mark.parametrize(("when", "error"), CUTS)
async def test_a_share_that_was_cut_off_gives_no_sight_for_longer_than_a_repair(
    sharing: Sharing, when: str, error: Exception
) -> None:
    case_id = await sharing.world.case()
    cut(sharing, when, "grant", error)

    with pytest.raises(type(error)):
        await sharing.share("vos", [case_id], "rita", "rob")

    assert when == "after" or not await sharing.world.sees("rita", case_id)
    await sharing.repair()  # perhaps somebody is at work on it still
    rows = await sharing.query("select share_id from share_cases where case_id = $1", case_id)
    (share_id,) = {row["share_id"] for row in rows}
    stored = await sharing.stored(share_id)
    assert stored is not None
    assert [State.PENDING] * 2 == await sharing.states(stored)
    sharing.clock.pass_by(ABANDON_AFTER)
    await sharing.repair()
    assert {"rita": False, "rob": False, "ron": False} == await agree(sharing, case_id)
    assert CREATED not in {
        subject for subject, _ in await sharing.facts(*[each.id for each in stored.buckets])
    }


async def test_a_grant_that_comes_after_the_repair_opens_nothing(sharing: Sharing) -> None:
    case_id = await sharing.world.case()
    cut(sharing, "before", "grant", Crash())
    with pytest.raises(Crash):
        await sharing.share("vos", [case_id], "rita")
    rows = await sharing.query("select share_id from share_cases where case_id = $1", case_id)
    share = await sharing.stored(rows[0]["share_id"])
    assert share is not None
    sharing.clock.pass_by(ABANDON_AFTER)
    await sharing.repair()

    act("vos")
    with pytest.raises(Conflict):
        await sharing.access.grant(share)

    assert not (await agree(sharing, case_id))["rita"]


async def test_a_share_that_took_too_long_is_refused_and_shows_nothing(sharing: Sharing) -> None:
    case_id = await sharing.world.case()

    async def repair() -> None:
        sharing.clock.pass_by(ABANDON_AFTER)
        await sharing.repair()

    sharing.access.meanwhile["grant"] = repair
    error = await error_of(sharing.share("vos", [case_id], "rita"))

    assert isinstance(error, Conflict)
    assert not (await agree(sharing, case_id))["rita"]


async def test_a_share_that_is_shortened_while_it_is_granted_opens_with_the_new_end(sharing: Sharing) -> None:
    """Access is told of a pending bucket once it is active: before, it would be closed there for good."""
    case_id = await sharing.world.case()
    day = in_days(sharing, 3)

    async def shorten_it() -> None:
        (row,) = await sharing.query("select bucket_id from buckets where state = 'pending'")
        await sharing.extending.extend("vos", row["bucket_id"], Validity(day.isoformat()))

    sharing.access.meanwhile["grant"] = shorten_it
    share = await sharing.share("vos", [case_id], "rita")
    await events.tell_access(sharing.repairs)

    assert end_of(day, AMSTERDAM) == share.buckets[0].ends_at
    assert (await agree(sharing, case_id))["rita"]


async def test_a_share_whose_case_is_deleted_meanwhile_is_refused_and_gone(sharing: Sharing) -> None:
    case_id = await sharing.world.case()

    async def purge() -> None:
        async with sharing.database.transaction() as transaction:
            await sharing.repairs.purge(transaction, case_id, 1)

    sharing.access.meanwhile["grant"] = purge
    error = await error_of(sharing.share("vos", [case_id], "rita"))

    assert isinstance(error, NotFound)
    assert not await sharing.query("select from share_cases where case_id = $1", case_id)


async def a_chain(sharing: Sharing, case_id: CaseId) -> list[Bucket]:
    chain = [
        await sharing.share(sender, [case_id], recipient, **FURTHER)
        for sender, recipient in (("vos", "rita"), ("rita", "rob"), ("rob", "ron"))
    ]
    return [share.buckets[0] for share in chain]


@pytest.mark.parametrize(("when", "error"), CUTS)
async def test_what_was_revoked_and_cut_off_is_over_after_a_repair(
    sharing: Sharing, when: str, error: Exception
) -> None:
    case_id = await sharing.world.case()
    buckets = await a_chain(sharing, case_id)
    cut(sharing, when, "change", error)

    with pytest.raises(type(error)) as raised:
        await sharing.revoke("vos", bucket=buckets[0])

    if error is AWAY:
        assert "it is saved, and takes effect as soon as access answers" == raised.value.sentence  # type: ignore[attr-defined]
    await sharing.repair()
    assert {"rita": False, "rob": False, "ron": False} == await agree(sharing, case_id)
    assert [(CREATED, 1), (REVOKED, 2)] == await sharing.facts(buckets[2].id)


@pytest.mark.parametrize("days", [2, 20])
@pytest.mark.parametrize(("when", "error"), [CUTS[0], CUTS[3]])
async def test_what_was_shortened_and_cut_off_ends_at_its_new_end_after_a_repair(
    sharing: Sharing, when: str, error: Exception, days: int
) -> None:
    case_id = await sharing.world.case()
    rita, rob, _ = await a_chain(sharing, case_id)
    cut(sharing, when, "change", error)

    with pytest.raises(type(error)):
        await extend(sharing, "vos", rita, till(sharing, days)["validity"])
    await sharing.repair()

    ends = {row["bucket_id"]: row["ends_at"] for row in await sharing.query("select * from buckets")}
    assert end_of(in_days(sharing, days), AMSTERDAM) == ends[rita.id]
    assert ends[rob.id] == min(ends[rita.id], rob.ends_at)
    # What access knows: sharing on till the new end is allowed, and not a day longer.
    share = await sharing.share("rita", [case_id], "ron", **till(sharing, days))
    assert ends[rita.id] == share.buckets[0].ends_at
    await agree(sharing, case_id)


async def test_a_block_that_access_did_not_hear_of_counts_after_a_repair(sharing: Sharing) -> None:
    case_id = await sharing.world.case()
    share = await sharing.share("vos", [case_id], "rita")
    async with sharing.database.transaction() as transaction:
        (bucket,) = await transaction.lock_buckets([share.buckets[0].id])
        await transaction.save_buckets([bucket.after(Act.BLOCK, transaction.now)])

    cut(sharing, "before", "change", AWAY)
    with pytest.raises(Unavailable):
        await events.tell_access(sharing.repairs)
    assert await sharing.world.sees("rita", case_id)
    await sharing.repair()

    assert not (await agree(sharing, case_id))["rita"]


async def test_buckets_are_told_one_by_one_where_access_refuses_all_of_them(sharing: Sharing) -> None:
    """One of them may be to blame; it keeps none of the others."""
    case_id = await sharing.world.case()
    share = await sharing.share("vos", [case_id], "rita", "rob")
    async with sharing.database.transaction() as transaction:
        buckets = await transaction.lock_buckets([each.id for each in share.buckets])
        await transaction.save_buckets([each.after(Act.REVOKE, transaction.now) for each in buckets])

    cut(sharing, "before", "change", BadAnswer("`access` gave an answer that its contract does not allow"))

    assert await events.tell_access(sharing.repairs) == 2
    assert not any((await agree(sharing, case_id)).values())


async def test_what_is_told_late_does_not_undo_what_is_newer(sharing: Sharing) -> None:
    """Two changes overtake each other on their way to access."""
    case_id = await sharing.world.case()
    share = await sharing.share("vos", [case_id], "rita")
    cut(sharing, "before", "change", Crash())
    with pytest.raises(Crash):
        await extend(sharing, "vos", share.buckets[0], till(sharing, 3)["validity"])
    stored = await sharing.stored(share.id)
    assert stored is not None
    late = stored.buckets[0].change
    await sharing.revoke("vos", share=share)

    await sharing.access.change([late])

    assert not (await agree(sharing, case_id))["rita"]
    assert [State.REVOKED] == await sharing.states(share)


async def test_a_share_cut_off_beside_the_end_of_what_it_comes_from_ends_too(sharing: Sharing) -> None:
    case_id = await sharing.world.case()
    parent = await sharing.share("vos", [case_id], "rita", **FURTHER)
    cut(sharing, "after", "grant", Crash())
    with pytest.raises(Crash):
        await sharing.share("rita", [case_id], "rob")
    assert await sharing.world.sees("rob", case_id)

    await sharing.revoke("vos", share=parent)

    assert {"rita": False, "rob": False, "ron": False} == await agree(sharing, case_id)


async def test_many_at_once_leave_no_difference(sharing: Sharing) -> None:
    """Revoking, extending and sharing on at once, a third of it cut off."""
    case_id = await sharing.world.case()
    parent = await sharing.share("vos", [case_id], "rita", **FURTHER, **till(sharing, 9))
    other = await sharing.share("vos", [case_id], recipients=[Recipient("ron")])

    async def as_(number: int) -> None:
        login = "rita" if number % 3 == 0 else "vos"
        act(login)
        if number % 4 == 0:
            cut(sharing, "before" if number % 8 else "after", "change", Crash())
        try:
            if login == "rita":
                await sharing.shares.share("rita", wanted([case_id], "rob", **till(sharing, 3)))
            elif number % 5 == 0:
                await sharing.shares.revoke("vos", parent.buckets[0].id, None)
            else:
                validity = till(sharing, number % 7)["validity"]
                await sharing.extending.extend("vos", parent.buckets[0].id, validity)
        except (Crash, ReadroomError):
            pass

    await asyncio.gather(*map(as_, range(1, 25)))
    sharing.access.before.clear()
    sharing.access.after.clear()
    sharing.clock.pass_by(ABANDON_AFTER + timedelta(seconds=1))
    await sharing.repair()

    sees = await agree(sharing, case_id)
    assert {"rita": False, "rob": False, "ron": True} == sees
    assert [State.ACTIVE] == await sharing.states(other)
