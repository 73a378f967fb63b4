"""A code counts for the contact that it was sent to, and for no later one of the same person."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from kernel.errors import Denied, Expired, ReadroomError, Unavailable
from services.sharing import events
from services.sharing.asking import active_user
from tests.databases import Databases
from tests.sharing.two_factor import Actor, World, a_world, tried

OUTDATED = "the code was sent to an earlier contact of yours: ask for another code"


@pytest.fixture(scope="module")
def url(clones: Databases) -> str:
    return clones.make("sharing")


@pytest.fixture
async def world(url: str) -> AsyncIterator[World]:
    async with a_world(url) as made:
        yield made


def outdated(error: ReadroomError | None) -> bool:
    return isinstance(error, Expired) and (error.sentence, error.field) == (OUTDATED, "code")


async def tries(world: World, actor: Actor) -> list[Any]:
    return await world.query("select tries, wrong_codes from buckets where bucket_id = $1", actor.bucket_id)


async def code_needed(world: World, actor: Actor) -> bool:
    user = await active_user(world.access, actor.login)
    async with world.database.transaction() as transaction:
        received = await transaction.received_bucket(actor.bucket_id, user, actor.session)
    assert received is not None
    return received.code_needed


@pytest.mark.proves("A57", part="a code that went to an earlier contact opens nothing")
async def test_a_code_that_went_to_an_earlier_contact_is_void_and_no_wrong_one(world: World) -> None:
    mine = await world.bucket()
    code = await mine.send()
    before = await tries(world, mine)
    world.access.move(mine.login)

    assert outdated(await tried(mine.redeem(code)))

    assert [] == world.access.registered
    assert before == await tries(world, mine)
    assert (mine.login, "code.outdated", "refused") in await world.audited(mine)
    assert isinstance(await tried(mine.redeem(code)), Denied)  # used up, so wrong from now on
    await mine.redeem(await world.next_code(mine))
    assert [(mine.bucket_id, "phone")] == world.access.registered


async def test_a_contact_that_changes_while_a_code_is_redeemed_opens_nothing(world: World) -> None:
    mine = await world.bucket()
    code = await mine.send()
    world.access.before_registering = lambda: world.access.move(mine.login)

    assert outdated(await tried(mine.redeem(code)))

    world.access.before_registering = None
    assert await code_needed(world, mine)
    assert 0 == await events.register(world.code_repairs)
    await mine.redeem(await world.next_code(mine))


async def test_what_access_was_not_told_in_time_is_forgotten_by_the_repair(world: World) -> None:
    mine = await world.bucket()
    code = await mine.send()
    world.access.failing = Unavailable("access does not answer")
    assert isinstance(await tried(mine.redeem(code)), Unavailable)
    world.access.failing = None
    world.access.move(mine.login)

    await events.register(world.code_repairs)

    assert [] == world.access.registered
    assert not await world.query("select from sessions where bucket_id = $1", mine.bucket_id)


async def test_after_a_change_the_same_login_session_needs_and_gets_another_code(world: World) -> None:
    mine = await world.bucket()
    await mine.redeem(await mine.send())
    assert not await code_needed(world, mine)

    world.access.move(mine.login)

    assert await code_needed(world, mine)
    await mine.redeem(await world.next_code(mine))
    assert not await code_needed(world, mine)


async def test_codes_and_sessions_of_the_version_before_went_to_the_first_contact(world: World) -> None:
    """As its processes still write them, and as they stood when the column came."""
    mine = await world.bucket()
    await mine.send()
    digest = world.pepper.of_code(mine.bucket_id, "laptop", "123456")
    laptop, desktop = world.on(mine, "laptop"), world.on(mine, "desktop")
    await world.query(
        """
        insert into codes (bucket_id, session, otp_digest, created_at, lapsed)
        values ($1, $2, $3, $4, false)
        """,
        mine.bucket_id,
        "laptop",
        digest,
        world.clock.now() - timedelta(seconds=1),
    )
    await world.query(
        "insert into sessions (bucket_id, session, redeemed_at, accepted) values ($1, $2, $3, true)",
        mine.bucket_id,
        "desktop",
        world.clock.now(),
    )

    assert not await code_needed(world, desktop)
    await laptop.redeem("123456")
    world.access.move(mine.login)
    assert await code_needed(world, desktop)
