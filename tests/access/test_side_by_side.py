"""Who waits for whom: acts on other things go side by side; nobody acts on a right that is being taken."""

import asyncio
from dataclasses import replace
from uuid import UUID

import pytest

from kernel.ids import BucketId, CaseId
from kernel.reading import PrivilegeLevel
from services.access.buckets import Share
from tests.access.conftest import ADMIN, Scene
from tests.wait import eventually

SOON_S = 5
"""An act that nobody holds up has ended by then, on a slow machine too."""


async def test_a_share_does_not_wait_for_another_of_another_case(scene: Scene) -> None:
    share, other = scene.a_share(), scene.a_share(scene.john, case_ids=(scene.cases[1],))
    async with scene.access.database.transaction() as transaction:  # a share that has not ended
        await transaction.hold_rights()
        await transaction.hold_buckets([grant.bucket_id for grant in share.grants])
        await transaction.hold_cases(share.case_ids)

        await asyncio.wait_for(scene.grant(_elsewhere(other, share)), SOON_S)

    assert scene.cases[1:] == await scene.sees(scene.john)


async def test_two_shares_of_the_same_cases_in_any_order_do_not_wait_for_each_other_for_ever(
    scene: Scene,
) -> None:
    first, second = scene.cases

    def shares(*case_ids: CaseId) -> list[Share]:
        return [scene.a_share(user, case_ids=case_ids) for user in (scene.jane, scene.john)]

    for _ in range(5):
        await asyncio.gather(*map(scene.grant, shares(first, second) + shares(second, first)))

    assert scene.cases == await scene.sees(scene.jane)


@pytest.mark.proves("ACC-3", part="at the moment of a share")
async def test_a_privilege_is_not_taken_while_somebody_acts_on_it(scene: Scene) -> None:
    access = scene.access
    async with access.database.transaction() as transaction:
        await transaction.hold_rights()
        taking = asyncio.create_task(access.give(scene.sender, scene.facility, PrivilegeLevel.NONE))
        await _until_it_waits(scene)
        assert not taking.done()
        compiled = await transaction.compiled_user(scene.sender.login)
        assert compiled is not None
        assert compiled.facilities
    await taking

    assert [] == await scene.sees(scene.sender)


async def test_a_case_that_is_being_shared_is_shown_to_another_afterwards(scene: Scene) -> None:
    async with scene.access.database.transaction() as transaction:
        await transaction.hold_rights()
        await transaction.hold_cases(scene.cases[:1])
        granting = asyncio.create_task(scene.access.folders.grant_case(ADMIN, scene.cases[0], scene.jane.id))
        await _until_it_waits(scene)
        assert not granting.done()
    await granting

    assert scene.cases[:1] == await scene.sees(scene.jane)


async def _until_it_waits(scene: Scene) -> None:
    """Until somebody waits for a lock."""

    async def waits() -> bool:
        return bool(await scene.access.query("select from pg_locks where not granted"))

    await eventually(waits)


def _elsewhere(share: Share, other: Share) -> Share:
    """The share under an id whose lock is not that of another."""
    (grant,), taken = share.grants, {each.bucket_id.int % 256 for each in other.grants}
    number = next(number for number in range(300) if number % 256 not in taken)
    return replace(share, grants=(replace(grant, bucket_id=BucketId(UUID(int=number))),))
