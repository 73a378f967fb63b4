"""The texts that carry codes: how many there are, and what becomes of one that is not sent, or late."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from kernel.errors import Conflict, Denied, Exhausted, Invalid, Unavailable
from kernel.reach import Reach
from tests.databases import Databases
from tests.sharing.two_factor import (
    INSTANT,
    World,
    a_number,
    a_world,
    at_once,
    tried,
)

BLOCKED = "the share is blocked after five wrong codes"


@pytest.fixture(scope="module")
def url(clones: Databases) -> str:
    return clones.make("sharing")


@pytest.fixture
async def world(url: str) -> AsyncIterator[World]:
    async with a_world(url) as made:
        yield made


# How many texts


@pytest.mark.proves("SEC-10", part="per bucket")
async def test_texts_for_a_bucket_are_limited(world: World) -> None:
    mine = await world.bucket()
    await mine.send()
    with pytest.raises(Exhausted, match="you asked for too many codes: try again in 30 s"):
        await mine.send()
    world.clock.pass_by(timedelta(seconds=30) - INSTANT)
    with pytest.raises(Exhausted, match="try again in 1 s"):
        await world.on(mine, "laptop").send()
    world.clock.pass_by(INSTANT)
    await mine.send()
    world.clock.pass_by(timedelta(seconds=30))
    await mine.send()
    world.clock.pass_by(timedelta(minutes=1))
    with pytest.raises(Exhausted, match="try again in 480 s"):
        await mine.send()
    for _ in range(3):
        world.clock.pass_by(timedelta(minutes=10))
        await mine.send()
    world.clock.pass_by(timedelta(hours=12))
    with pytest.raises(Exhausted):
        await mine.send()
    assert 6 == len(world.texts.sent)


@pytest.mark.proves("SEC-10", part="per number")
async def test_texts_to_a_number_are_limited_whatever_they_are_for(world: World) -> None:
    number = a_number()
    buckets = [await world.bucket(number=number) for _ in range(8)]
    for bucket in buckets[:6]:
        await world.next_code(bucket)

    world.clock.pass_by(timedelta(hours=12))
    with pytest.raises(Exhausted):
        await buckets[6].send()
    await (await world.bucket()).send()
    world.clock.pass_by(timedelta(hours=12))
    await buckets[7].send()


@pytest.mark.proves("SEC-10", part="exact under parallel requests")
async def test_of_many_who_ask_at_once_one_is_sent_a_code(world: World) -> None:
    mine = await world.bucket()
    number = a_number()
    others = [await world.bucket(number=number) for _ in range(8)]

    errors = await at_once(*(world.on(mine, f"session {number}").send() for number in range(8)))
    assert (7, 1) == (sum(isinstance(error, Exhausted) for error in errors), errors.count(None))
    errors = await at_once(*(other.send() for other in others))
    assert (7, 1) == (sum(isinstance(error, Exhausted) for error in errors), errors.count(None))
    assert 2 == len(world.texts.sent)


async def test_a_clock_that_is_set_back_allows_no_more_texts(world: World) -> None:
    mine = await world.bucket()
    await mine.send()

    world.clock.pass_by(-timedelta(hours=1))
    assert isinstance(await tried(mine.send()), Exhausted)


async def test_texts_that_count_no_more_are_forgotten(world: World) -> None:
    mine = await world.bucket()
    await mine.send()

    for after, kept in ((timedelta(days=1) - INSTANT, 1), (INSTANT, 0)):
        world.clock.pass_by(after)
        await world.code_repairs.lapse()
        assert kept == len(await world.query("select from texts_sent where bucket_id = $1", mine.bucket_id))


# The text gateway


@pytest.mark.proves("SEC-9", part="fails closed")
async def test_a_text_that_was_not_sent_does_not_count_and_its_code_does_not_work(world: World) -> None:
    mine = await world.bucket()
    first = await mine.send()
    world.clock.pass_by(timedelta(seconds=30))
    world.texts.failing = Conflict("the text gateway does not answer")
    for _ in range(10):
        with pytest.raises(Unavailable, match="the text message could not be sent: try again"):
            await mine.send()
    unsent = world.texts.sent[-1].code
    assert ("code.unsent", "refused") == (await world.audited(mine))[-1][1:]

    world.texts.failing = None
    assert isinstance(await tried(mine.redeem(unsent)), Denied)
    await mine.redeem(first)  # the one before was sent, and is still good
    await world.on(mine, "laptop").send()


@pytest.mark.proves("SEC-10", part="a text that may have been sent counts")
async def test_a_text_of_which_nobody_knows_counts_and_its_code_does_not_work(world: World) -> None:
    mine = await world.bucket()
    await mine.send()
    world.texts.failing = Unavailable("the text gateway does not answer")
    for _ in range(5):
        world.clock.pass_by(timedelta(minutes=5))
        with pytest.raises(Unavailable, match="we do not know whether the text message was sent: try again"):
            await mine.send()
    unknown = world.texts.sent[-1].code

    world.texts.failing = None
    world.clock.pass_by(timedelta(hours=12))
    with pytest.raises(Exhausted):
        await mine.send()
    assert 6 == len(world.texts.sent)
    assert isinstance(await tried(mine.redeem(unknown)), Denied)


async def test_a_number_that_takes_no_texts_is_refused_without_naming_it(world: World) -> None:
    mine = await world.bucket(number="+870773111632")
    world.texts.failing = Invalid("`mobile_number` is of no country of the list", field="mobile_number")

    with pytest.raises(
        Denied,
        match=r"^we cannot send a text message to your registered number:",
    ):
        await mine.send()
    assert [] == list(await world.query("select from texts_sent where bucket_id = $1", mine.bucket_id))


async def test_a_code_that_comes_after_the_block_is_void(world: World) -> None:
    mine = await world.bucket()
    laptop = world.on(mine, "laptop")
    world.texts.meanwhile = lambda: laptop.miss(5)

    with pytest.raises(Denied, match=BLOCKED):
        await mine.send()
    world.access.permits = {"operator": Reach(everywhere=True)}
    await world.acting("ada", mine.bucket_id).unblock()
    assert isinstance(await tried(mine.redeem(world.texts.sent[-1].code)), Denied)


async def test_of_two_texts_the_later_one_counts_although_the_earlier_took_longer(world: World) -> None:
    mine = await world.bucket()

    async def ask_again() -> None:
        world.texts.meanwhile = None
        world.clock.pass_by(timedelta(seconds=30))
        await mine.send()

    world.texts.meanwhile = ask_again
    await mine.send()

    earlier, later = world.texts.sent
    assert isinstance(await tried(mine.redeem(earlier.code)), Denied)
    await mine.redeem(later.code)
