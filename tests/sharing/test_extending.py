"""A later end is granted anew by access, in the name of who acts; an earlier one needs no grant."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest

from kernel.errors import Conflict, Denied, Invalid, NotFound, ReadroomError, Unavailable
from kernel.ids import BucketId, CaseId
from services.sharing.domain import Bucket, Rights, Share, State
from services.sharing.validity import Policy, Validity, end_of, is_earlier, today_at
from tests.reporting import system
from tests.sharing.system import (
    ABANDON_AFTER,
    AMSTERDAM,
    DAY,
    FURTHER,
    Crash,
    Sharing,
    act,
    block,
    error_of,
    extend,
    in_days,
    till,
)
from wire.access.v1 import access_pb2

pytestmark = pytest.mark.asyncio(loop_scope="package")

FOR_EVER = Validity(unlimited=True)
NONE, VIEW, REPORT = access_pb2.LEVEL_UNSPECIFIED, access_pb2.LEVEL_VIEW, access_pb2.LEVEL_REPORT


async def give(sharing: Sharing, login: str, level: access_pb2.Level.ValueType) -> None:
    """The privilege of a user at North is this from now on."""
    user = access_pb2.User(user_id=sharing.world.ids[login])
    await system.give(sharing.world.access, user, sharing.world.north, level)


async def permit(sharing: Sharing, login: str, *permissions: str) -> None:
    """A user holds these permissions everywhere and no others from now on."""
    stub = sharing.world.access.stub
    (user,) = [
        user
        for user in (await stub.ListUsers(access_pb2.ListUsersRequest(page_size=500))).users
        if user.login == login
    ]
    del user.permissions[:]
    user.permissions.extend(access_pb2.PermissionGrant(permission=each) for each in permissions)
    await stub.SaveUser(access_pb2.SaveUserRequest(user=user, set_permissions=True))


RADIOLOGISTS = ("study.view_images", "report.view", "share.create")


@asynccontextmanager
async def lent(sharing: Sharing, *permissions: str) -> AsyncIterator[None]:
    """vos holds these permissions only, and afterwards those of their role again."""
    await permit(sharing, "vos", *permissions)
    try:
        yield
    finally:
        await permit(sharing, "vos", *RADIOLOGISTS)


async def ends(sharing: Sharing, share: Share) -> set[datetime | None]:
    """The ends of a share in both services."""
    stored = await sharing.stored(share.id)
    assert stored is not None
    return {bucket.ends_at for bucket in stored.buckets} | {
        await sharing.ends_in_access(bucket.id) for bucket in stored.buckets
    }


# Who


async def test_a_sender_who_lost_sight_of_images_and_reports_extends_nothing(sharing: Sharing) -> None:
    share = await sharing.share("vos", [await sharing.world.case()], "rita", **till(sharing, 5))
    (bucket,) = share.buckets

    for permissions in ((), ("share.create",), ("share.create", "study.view_images"), RADIOLOGISTS[:2]):
        async with lent(sharing, *permissions):
            for validity in (FOR_EVER, till(sharing, 6)["validity"], till(sharing, 5)["validity"]):
                assert isinstance(await error_of(extend(sharing, "vos", bucket, validity)), Denied)
    await give(sharing, "vos", NONE)
    try:
        assert isinstance(await error_of(extend(sharing, "vos", bucket, FOR_EVER)), NotFound)
        assert {bucket.ends_at} == await ends(sharing, share)
        await extend(sharing, "vos", bucket, till(sharing, 1)["validity"])
        await sharing.revoke("vos", share=share)
    finally:
        await give(sharing, "vos", REPORT)
    assert {end_of(in_days(sharing, 1), AMSTERDAM)} == await ends(sharing, share)


async def test_who_administers_shares_extends_only_what_they_could_share_themself(sharing: Sharing) -> None:
    share = await sharing.share("vos", [await sharing.world.case()], "rita", **till(sharing, 5))
    (bucket,) = share.buckets

    error = await error_of(extend(sharing, "adam", bucket, till(sharing, 6)["validity"]))
    assert (Denied, "`share.create`") == (type(error), f"`{error.sentence.split('`')[1]}`")
    await extend(sharing, "adam", bucket, till(sharing, 4)["validity"])
    assert {end_of(in_days(sharing, 4), AMSTERDAM)} == await ends(sharing, share)

    await permit(sharing, "adam", *RADIOLOGISTS, "share.admin")
    try:
        await extend(sharing, "adam", bucket, till(sharing, 6)["validity"])
    finally:
        await permit(sharing, "adam", "study.view_images", "report.view", "lock.break", "share.admin")
    assert {end_of(in_days(sharing, 6), AMSTERDAM)} == await ends(sharing, share)


async def test_nobody_extends_by_a_share_of_their_own_what_was_shared_by_privilege(sharing: Sharing) -> None:
    case_id = await sharing.world.case()
    share = await sharing.share("vos", [case_id], "rita", **FURTHER)
    await give(sharing, "vos", NONE)
    try:
        onward = await sharing.share("rita", [case_id], "vos", **FURTHER, **till(sharing, 3))
        assert await sharing.world.sees("vos", case_id)
        assert isinstance(await error_of(extend(sharing, "vos", share.buckets[0], FOR_EVER)), Denied)
        await sharing.revoke("vos", share=share)
    finally:
        await give(sharing, "vos", REPORT)
    assert not await sharing.world.sees("rita", case_id)
    assert [State.REVOKED] == await sharing.states(onward)


# Until when


@pytest.mark.proves("SHR-18", part="the maximum counts from the first day")
@pytest.mark.proves("A47", part="the maximum counts from the first day")
async def test_no_chain_of_extensions_outruns_the_maximum(sharing: Sharing) -> None:
    await sharing.save_policy(maximum_days=10, unlimited_allowed=False)
    try:
        share = await sharing.share("vos", [await sharing.world.case()], "rita", **till(sharing, 1))
        (bucket,) = share.buckets
        last = in_days(sharing, 10)
        for _ in range(3):
            sharing.clock.pass_by(2 * DAY)
            error = await error_of(extend(sharing, "vos", bucket, till(sharing, 10)["validity"]))
            assert (Invalid, "valid_till") == (type(error), error.field)
            assert str(last) in error.sentence
            assert "unlimited" == (await error_of(extend(sharing, "vos", bucket, FOR_EVER))).field
            await extend(sharing, "vos", bucket, Validity(in_days(sharing, 1).isoformat()))
        await extend(sharing, "vos", bucket, Validity(last.isoformat()))
    finally:
        sharing.clock.ahead = 0 * DAY
        await sharing.save_policy()
    assert {end_of(last, AMSTERDAM)} == await ends(sharing, share)


async def test_a_stricter_policy_lets_what_was_longer_be_shortened_only(sharing: Sharing) -> None:
    share = await sharing.share("vos", [await sharing.world.case()], "rita", validity=FOR_EVER)
    (bucket,) = share.buckets
    await sharing.save_policy(maximum_days=10, unlimited_allowed=False)
    try:
        await extend(sharing, "vos", bucket, till(sharing, 30)["validity"])
        await extend(sharing, "vos", bucket, till(sharing, 20)["validity"])
        assert isinstance(
            await error_of(extend(sharing, "vos", bucket, till(sharing, 21)["validity"])), Invalid
        )
        await extend(sharing, "vos", bucket, till(sharing, 8)["validity"])
        await extend(sharing, "vos", bucket, till(sharing, 10)["validity"])
    finally:
        await sharing.save_policy()
    assert {end_of(in_days(sharing, 10), AMSTERDAM)} == await ends(sharing, share)


async def test_where_sharing_on_is_not_allowed_any_more_nothing_shared_on_is_extended(
    sharing: Sharing,
) -> None:
    case_id = await sharing.world.case()
    await sharing.share("vos", [case_id], "rita", **FURTHER, **till(sharing, 9))
    onward = await sharing.share("rita", [case_id], "rob", **till(sharing, 5))
    await sharing.save_policy(further_sharing_allowed=False)
    try:
        for login in ("rita", "adam"):
            error = await error_of(extend(sharing, login, onward.buckets[0], till(sharing, 6)["validity"]))
            assert isinstance(error, Denied)
        await extend(sharing, "rita", onward.buckets[0], till(sharing, 4)["validity"])
    finally:
        await sharing.save_policy()
    await extend(sharing, "rita", onward.buckets[0], till(sharing, 9)["validity"])


# What stays as it is


async def test_what_is_blocked_stays_blocked_when_it_is_extended(sharing: Sharing) -> None:
    case_id = await sharing.world.case()
    share = await sharing.share("vos", [case_id], "rita", **till(sharing, 1))
    await block(sharing, share.buckets[0])

    await extend(sharing, "vos", share.buckets[0], till(sharing, 3)["validity"])
    assert [State.BLOCKED] == await sharing.states(share)
    assert not await sharing.world.sees("rita", case_id)


async def test_an_earlier_end_renews_nothing_that_has_expired(sharing: Sharing) -> None:
    """Not even when the clock was set back behind both ends; then it is granted anew or not at all."""
    case_id = await sharing.world.case()
    parent = await sharing.share("vos", [case_id], "rita", **FURTHER, **till(sharing, 4))
    onward = await sharing.share("rita", [case_id], "rob", **till(sharing, 3))
    sharing.clock.pass_by(6 * DAY)
    await sharing.repair()
    sharing.clock.ahead = 0 * DAY
    assert [State.EXPIRED] * 2 == [*await sharing.states(parent), *await sharing.states(onward)]

    async with lent(sharing):
        error = await error_of(extend(sharing, "vos", parent.buckets[0], till(sharing, 2)["validity"]))
        assert isinstance(error, Denied)
    await extend(sharing, "vos", parent.buckets[0], till(sharing, 2)["validity"])
    assert [State.ACTIVE, State.EXPIRED] == [*await sharing.states(parent), *await sharing.states(onward)]


# Whatever is cut off


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("error", [Crash(), Unavailable("access does not answer")])
async def test_an_extension_that_was_cut_off_is_undone_by_the_repair(
    sharing: Sharing, after: bool, error: Exception
) -> None:
    case_id = await sharing.world.case()
    share = await sharing.share("vos", [case_id], "rita", **till(sharing, 5))
    (bucket,) = share.buckets
    (sharing.access.after if after else sharing.access.before)["extend"] = error

    with pytest.raises(type(error)):
        await extend(sharing, "vos", bucket, FOR_EVER)
    await sharing.repair()  # perhaps somebody is at work on it still
    assert await sharing.ends_in_access(bucket.id) == (None if after else bucket.ends_at)
    sharing.clock.pass_by(ABANDON_AFTER)
    await sharing.repair()

    assert {bucket.ends_at} == await ends(sharing, share)
    assert await sharing.world.sees("rita", case_id)
    await extend(sharing, "vos", bucket, FOR_EVER)
    assert {None} == await ends(sharing, share)


async def test_who_was_cut_off_may_try_again_at_once(sharing: Sharing) -> None:
    share = await sharing.share("vos", [await sharing.world.case()], "rita", **till(sharing, 5))
    sharing.access.after["extend"] = Unavailable("access does not answer")
    await error_of(extend(sharing, "vos", share.buckets[0], FOR_EVER))

    await extend(sharing, "vos", share.buckets[0], till(sharing, 6)["validity"])
    sharing.clock.pass_by(ABANDON_AFTER)
    await sharing.repair()
    assert {end_of(in_days(sharing, 6), AMSTERDAM)} == await ends(sharing, share)


@pytest.mark.parametrize("what", ["revoked", "blocked", "expired", "given up", "shortened above"])
async def test_whatever_happens_to_a_share_while_it_is_extended_counts(sharing: Sharing, what: str) -> None:
    case_id = await sharing.world.case()
    parent = await sharing.share("vos", [case_id], "rita", **FURTHER, **till(sharing, 9))
    share = await sharing.share("rita", [case_id], "rob", **till(sharing, 1))
    (bucket,) = share.buckets

    async def happens() -> None:
        match what:
            case "revoked":
                await sharing.revoke("rita", share=share)
            case "blocked":
                await block(sharing, bucket)
            case "expired":
                sharing.clock.pass_by(3 * DAY)
                await sharing.repair()
            case "given up":
                sharing.clock.pass_by(ABANDON_AFTER)
                await sharing.repair()
            case "shortened above":
                await extend(sharing, "vos", parent.buckets[0], till(sharing, 2)["validity"])
        act("rita")

    sharing.access.meanwhile["extend"] = happens
    error = await error_of(extend(sharing, "rita", bucket, till(sharing, 8)["validity"]))

    assert isinstance(error, Conflict)
    await sharing.repair()
    assert {bucket.ends_at} == await ends(sharing, share)
    sees = await sharing.world.sees("rob", case_id)
    assert (what in ("given up", "shortened above")) is sees


async def test_extensions_at_once_leave_both_services_alike(sharing: Sharing) -> None:
    share = await sharing.share("vos", [await sharing.world.case()], "rita", **till(sharing, 5))
    (bucket,) = share.buckets

    days = [6, 3, 9, 4, 12, 2]
    await asyncio.gather(
        *(extend(sharing, "vos", bucket, till(sharing, each)["validity"]) for each in days),
        return_exceptions=True,
    )
    await sharing.repair()

    (end,) = await ends(sharing, share)
    assert end in {end_of(in_days(sharing, each), AMSTERDAM) for each in (*days, 5)}


# Whatever happens in whatever order


@dataclass
class Play:
    """Random acts on the shares of one case, and what must be true after each."""

    sharing: Sharing
    case_id: CaseId
    chance: random.Random
    level: Any = REPORT
    permissions: tuple[str, ...] = RADIOLOGISTS
    policy: Policy | None = None
    made: list[Share] = field(default_factory=list)
    lengthened: int = 0

    @property
    def vos_may_share(self) -> bool:
        return self.level != NONE and set(RADIOLOGISTS) <= set(self.permissions)

    async def act(self) -> None:
        chance = self.chance
        match chance.choice(["share", "share on", *["extend"] * 9, "policy", "rights", "time", "revoke"]):
            case "share":
                await self.share("vos", chance.choice(["rita", "rob"]))
            case "share on":
                await self.share(*chance.choice([("rita", "rob"), ("rob", "ron"), ("ron", "rita")]))
            case "extend" if self.made:
                await self.extend(
                    chance.choice([*["vos"] * 3, "adam", "rita", "rob"]), chance.choice(self.made)
                )
            case "policy":
                maximum = chance.choice([0, 5, 20])
                self.policy = await self.sharing.save_policy(
                    maximum_days=maximum,
                    default_days=min(maximum, 3),
                    unlimited_allowed=not maximum and chance.random() < 0.7,
                    further_sharing_allowed=chance.random() < 0.8,
                )
            case "rights":
                self.level = chance.choice([NONE, VIEW, REPORT, REPORT])
                await give(self.sharing, "vos", self.level)
                self.permissions = chance.choice([*[RADIOLOGISTS] * 4, RADIOLOGISTS[1:], ()])
                await permit(self.sharing, "vos", *self.permissions)
            case "time":
                self.sharing.clock.pass_by(chance.randint(0, 2) * DAY)
                await self.sharing.repair()
            case "revoke" if self.made and chance.random() < 0.3:
                await self.sharing.revoke("adam", share=chance.choice(self.made))

    def validity(self) -> Validity:
        days = self.chance.choice([None, 0, 1, 2, 3, 4, 6, 12, 25])
        return FOR_EVER if days is None else Validity(in_days(self.sharing, days).isoformat())

    async def share(self, sender: str, recipient: str) -> None:
        try:
            share = await self.sharing.share(
                sender,
                [self.case_id],
                recipient,
                rights=Rights.READ_REPORT,
                validity=self.validity(),
                **FURTHER,
            )
        except ReadroomError:
            return
        self.made.append(share)
        self.within_policy(share, share.buckets[0].ends_at)
        assert share.parent_bucket_id or self.vos_may_share

    async def extend(self, actor: str, share: Share) -> None:
        before = (await self.buckets())[share.buckets[0].id]
        try:
            after = await extend(self.sharing, actor, before, self.validity())
        except ReadroomError:
            return
        if is_earlier(after.ends_at, before.ends_at) and before.state is not State.EXPIRED:
            return
        by_privilege = actor == "vos" and self.vos_may_share
        assert by_privilege or (actor == share.sender_login and share.parent_bucket_id), actor
        self.within_policy(share, after.ends_at)
        self.lengthened += 1

    def within_policy(self, share: Share, ends_at: datetime | None) -> None:
        policy = self.policy or Policy(share.facility_id)
        if ends_at is None:
            assert policy.unlimited_allowed
        elif policy.maximum_days:
            first = today_at(share.shared_at, AMSTERDAM)
            assert ends_at <= end_of(first + policy.maximum_days * DAY, AMSTERDAM)

    async def buckets(self) -> dict[BucketId, Bucket]:
        stored = [await self.sharing.stored(share.id) for share in self.made]
        return {bucket.id: bucket for share in stored if share for bucket in share.buckets}

    async def check(self) -> None:
        buckets = await self.buckets()
        for share in self.made:
            bucket = buckets[share.buckets[0].id]
            if bucket.state is State.REVOKED:
                continue
            assert bucket.ends_at == await self.sharing.ends_in_access(bucket.id)
            if share.parent_bucket_id:
                assert not is_earlier(buckets[share.parent_bucket_id].ends_at, bucket.ends_at)


@pytest.mark.parametrize("seed", [1, 2, 3, *(pytest.param(n, marks=pytest.mark.drill) for n in range(4, 40))])
async def test_no_order_of_acts_gives_anybody_more_than_could_be_shared_now(
    sharing: Sharing, seed: int
) -> None:
    """Not an end after the maximum or after the parent's, nor a later one by who could not share it."""
    play = Play(sharing, await sharing.world.case(), random.Random(seed))
    try:
        await play.share("vos", "rita")
        await play.share("rita", "rob")
        for _ in range(40):
            await play.act()
            await play.check()
    finally:
        sharing.clock.ahead = 0 * DAY
        await give(sharing, "vos", REPORT)
        await permit(sharing, "vos", *RADIOLOGISTS)
        await sharing.save_policy()
    assert play.made
    assert play.lengthened or seed > 3
