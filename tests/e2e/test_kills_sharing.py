"""SIGKILL of any process in the middle of sharing: a share is whole or it is not, and its mail comes once.

Each share goes to two people of its own, one with a code: so whatever one of them sees or receives is of it.
What was answered is true afterwards; what was not answered has happened or it has not.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from demo.cast import CENTRAL, MOOR, VOS, Person
from demo.setting import create_user
from demo.sharing import CODE, LINK, inbox, other, wanted
from demo.world import World
from kernel.errors import Conflict, Denied, Exhausted, Unavailable
from local.embedded.sink import Behaviour
from readroom.client import Readroom
from readroom.pages import every
from readroom.received import mails, texts
from readroom.words import BUCKETS, NOTICES
from tests.e2e.kills import alone, dice, kill, once_all_are_back, order, query, strangers
from tests.e2e.test_journey import seen, send, small
from wire.access.v1.access_pb2 import Case
from wire.notify.v1.notify_pb2 import ListDeliveriesRequest, Notice
from wire.sharing.v1.sharing_pb2 import (
    Bucket,
    ListSharesRequest,
    OpenRequest,
    RedeemRequest,
    RevokeRequest,
    SendCodeRequest,
    Share,
)

ACTIVE, BLOCKED, REVOKED = Bucket.STATE_ACTIVE, Bucket.STATE_BLOCKED, Bucket.STATE_REVOKED
VICTIMS = ("sharing", "access", "notify", "ingest", "postgres", "nats")
AT_ONCE = 2
"""Shares that are begun just before each kill."""
UNTIL_GRANTED_AND_UNTIL_MAILED_S = (0.1, 0.6)
TRIES = 12
RESTED = timedelta(minutes=6)
"""After this nobody who was killed holds anything any more: no pending share, no notice."""
WITHIN_S = 60.0


@dataclass(slots=True)
class Attempt:
    """A share, and what those who act on it were answered.

    Attributes:
        one, two: its recipients; the second needs a code.
        wrong_codes: how many wrong ones they enter before the right one; after five there is none.
        share: what Vos was answered; None: nothing.
        wrong: how many codes they were told to be wrong.
        lost: after how many they were told nothing.
        redeemed: whether they were told that the right one was right.
        revoked: whether Vos was told that it has ended; None: she never asked, or was told nothing.
    """

    one: Person
    two: Person
    wrong_codes: int
    revokes: bool
    share: Share | None = None
    opened: bool = False
    wrong: int = 0
    lost: int = 0
    redeemed: bool = False
    revocation_begun: bool = False
    revoked: bool = False

    @property
    def people(self) -> tuple[Person, Person]:
        return self.one, self.two

    @property
    def reason(self) -> str:
        """What the share is known by, also where it was not answered."""
        return f"for {self.one.login}"

    def bucket(self, person: Person) -> Bucket:
        assert self.share
        return next(b for b in self.share.buckets if b.recipient_login == person.login)

    async def make(self, world: World, case: Case) -> None:
        """All that happens with it; whoever is told nothing tries again, but who shares."""
        vos = await world.acting_as(VOS.login)
        request = wanted(case, self.people, reason=self.reason)
        request.recipients[0].two_factor = False
        try:
            self.share = (await vos.sharing.Share(request)).share
        except Unavailable:
            return
        await asyncio.gather(self._open(world), self._redeem(world))
        if self.revokes:
            self.revocation_begun = True
            with suppress(Unavailable):
                await vos.sharing.Revoke(RevokeRequest(share_id=self.share.share_id))
                self.revoked = True

    async def _open(self, world: World) -> None:
        """By the link of the mail, if it comes in time."""
        for _ in range(TRIES):
            await asyncio.sleep(0.2)
            for mail in inbox(world, self.one)[:1]:
                link = OpenRequest(link=LINK.findall(mail.text)[0])
                with suppress(Unavailable):
                    received = (await (await world.acting_as(self.one.login)).sharing.Open(link)).received
                    assert received.bucket_id == self.bucket(self.one).bucket_id
                    self.opened = True
                    return

    async def _redeem(self, world: World) -> None:
        readroom = await world.acting_as(self.two.login)
        code = await self._code(world, readroom)
        if code is None:
            return
        for by in range(1, self.wrong_codes + 1):
            await self._enter(readroom, other(code, by))
        for _ in range(TRIES):
            if self.redeemed or self.wrong + self.lost >= 5:
                return
            await self._enter(readroom, code, right=True)

    async def _code(self, world: World, readroom: Readroom) -> str | None:
        """The code of which the service said that it was sent."""
        for _ in range(TRIES):
            with suppress(Unavailable, Exhausted):
                await readroom.sharing.SendCode(SendCodeRequest(bucket_id=self.bucket(self.two).bucket_id))
                text = [text for text in texts(world.endpoints) if text.to == self.two.mobile_number][-1]
                return str(CODE.findall(text.text)[0])
            await asyncio.sleep(0.2)
        return None

    async def _enter(self, readroom: Readroom, code: str, *, right: bool = False) -> None:
        request = RedeemRequest(bucket_id=self.bucket(self.two).bucket_id, code=code)
        try:
            await readroom.sharing.Redeem(request)
            assert right, "a wrong code has opened the share"
            self.redeemed = True
        except Conflict:
            assert right  # it was right before, and the answer was lost
            self.redeemed = True
        except Denied as denied:
            blocked = "is wrong" not in denied.sentence
            self.wrong += not blocked
            assert not right or (blocked and self.wrong + self.lost >= 5)
        except Unavailable:
            self.lost += 1
            await asyncio.sleep(0.2)


@dataclass(frozen=True, slots=True)
class Kept:
    """How things are in the end, as all of the services have them."""

    shares: dict[str, list[Share]]
    deliveries: dict[str, Notice]
    open_at_access: dict[str, bool]
    sessions: dict[str, set[str]]
    mails: Counter[str]
    sees: set[str]

    @classmethod
    async def of(cls, world: World, case: Case, attempts: Sequence[Attempt]) -> "Kept":
        vos, moor = [await world.acting_as(person.login) for person in (VOS, MOOR)]
        shares: dict[str, list[Share]] = {}
        async for share in every(vos.sharing.ListShares, ListSharesRequest(), lambda page: page.shares):
            shares.setdefault(share.reason, []).append(share)
        listed = every(moor.notify.ListDeliveries, ListDeliveriesRequest(), lambda page: page.notices)
        seeing = [
            person.login
            for attempt in attempts
            for person in attempt.people
            if await world.case(person.login, case.study_instance_uid)
        ]
        rows = await query(world, "access", "select bucket_id::text, open from buckets")
        sessions: dict[str, set[str]] = {}
        for service in ("sharing", "access"):
            table = "sessions" if service == "sharing" else "bucket_sessions"
            statement = f"select bucket_id::text, session from {table}"
            for bucket_id, session in await query(world, service, statement):
                sessions.setdefault(f"{service} {bucket_id}", set()).add(session)
        return cls(
            shares,
            {delivery.intent: delivery async for delivery in listed},
            {row["bucket_id"]: row["open"] for row in rows},
            sessions,
            Counter(mail.to for mail in mails(world.endpoints)),
            set(seeing),
        )

    def state_of(self, attempt: Attempt) -> str:
        """What became of the second recipient's part."""
        for share in self.shares.get(attempt.reason, []):
            return BUCKETS.word(share.buckets[1].state)
        return "absent"

    def verify(self, attempt: Attempt) -> None:
        """One share, whole, or none; all that was answered is true, and everybody knows the same."""
        shares = self.shares.get(attempt.reason, [])
        assert len(shares) <= 1, "shared twice"
        if attempt.share:
            assert [share.share_id for share in shares] == [attempt.share.share_id]
        if not shares:
            for person in attempt.people:
                assert (person.login in self.sees, self.mails[str(person.email)]) == (False, 0)
            return
        by_login = {bucket.recipient_login: bucket for bucket in shares[0].buckets}
        one, two = [by_login[person.login] for person in attempt.people]
        self._verify_states(attempt, one, two)
        for person, bucket in zip(attempt.people, (one, two), strict=True):
            self._verify_mail(person, bucket)
            assert self.open_at_access.get(bucket.bucket_id, False) == (bucket.state == ACTIVE)
            here, there = [self.sessions.get(f"{s} {bucket.bucket_id}") for s in ("sharing", "access")]
            assert here == there or bucket.state == REVOKED
            entered = not bucket.two_factor or bool(here)
            assert (person.login in self.sees) == (bucket.state == ACTIVE and entered)

    def _verify_states(self, attempt: Attempt, one: Bucket, two: Bucket) -> None:
        if attempt.revoked:
            assert (one.state, two.state) == (REVOKED, REVOKED)
        if attempt.share and not attempt.revocation_begun:
            assert one.state == ACTIVE
            assert two.state in (ACTIVE, BLOCKED)
        if REVOKED in (one.state, two.state):
            assert one.state == two.state, "half of a share was revoked"
        else:
            assert two.state in (ACTIVE, BLOCKED)
            assert (two.state == ACTIVE) or attempt.wrong + attempt.lost >= 5
            assert (two.state == BLOCKED) or attempt.wrong < 5
        if attempt.opened:
            assert one.HasField("opened_at")
        entered, forgotten = self.sessions.get(f"sharing {two.bucket_id}"), two.state == REVOKED
        if attempt.redeemed:
            assert two.wrong_codes == 0
            assert bool(entered) != forgotten
        elif not entered and not forgotten:
            assert attempt.wrong <= two.wrong_codes <= attempt.wrong + attempt.lost

    def _verify_mail(self, person: Person, bucket: Bucket) -> None:
        arrived, delivery = self.mails[person.email], self.deliveries.get(f"bucket:{bucket.bucket_id}")
        assert arrived <= 1, f"{arrived} mails to {person.login}"
        ended = bucket.state in (REVOKED, BLOCKED)  # before notify heard of it: then no mail is due
        if delivery is None:
            assert ended
            assert not arrived
            return
        assert delivery.state in (delivery.STATE_SENT, delivery.STATE_UNKNOWN) or ended
        assert delivery.state != delivery.STATE_WAITING
        assert arrived == 1 or delivery.state != delivery.STATE_SENT


async def share_under_fire(
    world: World, case: Case, victims: Sequence[str], chance: random.Random
) -> list[Attempt]:
    """Begins shares before each kill; answers all when there is nothing more to happen.

    The mail server is slow to say that it has taken a mail, so that some die waiting for its word.
    """
    attempts = [
        Attempt(next(strangers), next(strangers), number % 6, revokes=number % 4 == 3)
        for number in range(AT_ONCE * len(victims))
    ]
    for attempt in attempts:
        for person in attempt.people:
            await create_user(world, person)
    Behaviour(delay_s=0.3).set(world.endpoints.mail)
    making = []
    for number, victim in enumerate(victims):
        for attempt in attempts[AT_ONCE * number : AT_ONCE * (number + 1)]:
            making.append(asyncio.create_task(attempt.make(world, case)))
            await asyncio.sleep(chance.uniform(0.0, chance.choice(UNTIL_GRANTED_AND_UNTIL_MAILED_S)))
        await asyncio.to_thread(kill, world, victim)
    async with asyncio.timeout(WITHIN_S):
        await asyncio.gather(*making)
    Behaviour.unset(world.endpoints.mail)
    world.move_clock(world.now() + RESTED)
    return attempts


async def verify(world: World, case: Case, attempts: Sequence[Attempt]) -> Kept:
    """In the end all is as it was answered."""

    async def all_agree() -> Kept:
        kept = await Kept.of(world, case, attempts)
        for attempt in attempts:
            kept.verify(attempt)
        return kept

    return await once_all_are_back(all_agree)


async def a_case(world: World, name: str, folder: Path) -> Case:
    study = small(name, "MS44")
    await send(world, CENTRAL, study, folder)
    return await seen(world, VOS.login, study)


@pytest.mark.proves("R3", part="one SIGKILL each of sharing, notify and access while studies are shared")
async def test_a_kill_in_the_middle_of_sharing_leaves_no_half_and_no_second_mail(
    world: World, outside: None, tmp_path: Path
) -> None:
    case = await a_case(world, "shared-under-fire", tmp_path)

    attempts = await share_under_fire(world, case, ("sharing", "notify", "access"), random.Random(3))

    await verify(world, case, attempts)


@pytest.mark.drill
@pytest.mark.proves("R3", part="24 SIGKILLs in random order while studies are shared")
@pytest.mark.proves("NTF-2", part="SIGKILLs end to end")
async def test_kills_in_random_order_leave_every_share_whole_and_every_mail_single(tmp_path: Path) -> None:
    chance = dice()
    async with alone(tmp_path) as world:
        await create_user(world, MOOR)
        case = await a_case(world, "shared-under-fire", tmp_path)

        attempts = await share_under_fire(world, case, order(VICTIMS, 4, chance), chance)

        kept = await verify(world, case, attempts)
        became = Counter((bool(attempt.share), kept.state_of(attempt)) for attempt in attempts)
        for (answered, state), times in sorted(became.items()):
            print(f"{times} shares, {'' if answered else 'not '}answered: {state}")
        print(dict(Counter(NOTICES.word(each.state) for each in kept.deliveries.values())))
        assert {answered for answered, _ in became} == {True, False}
