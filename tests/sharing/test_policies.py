"""A policy is saved from the version that its saver saw (A68)."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from kernel.errors import Conflict, ReadroomError
from kernel.ids import FacilityId
from services.sharing.validity import Policy
from tests.sharing.system import Sharing, System, act, error_of
from wire.sharing.v1 import sharing_pb2 as pb

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def described(sharing: Sharing, facility_id: FacilityId) -> Policy:
    act("adam")
    return await sharing.policies.describe_policy("adam", facility_id)


@pytest.mark.proves("A68", part="policies of sharing")
async def test_a_policy_that_somebody_changed_meanwhile_is_not_overwritten(sharing: Sharing) -> None:
    north = FacilityId(UUID(sharing.world.north))
    loaded = await described(sharing, north)
    act("adam")
    first = await sharing.policies.save_policy("adam", Policy(north, default_days=7, version=loaded.version))
    at = sharing.clock.now()

    stale = Policy(north, unlimited_allowed=False, version=loaded.version)
    error = await error_of(sharing.policies.save_policy("adam", stale))

    assert (Conflict, "version") == (type(error), error.field)
    assert "the policy of this facility" in error.sentence
    assert "by `adam`" in error.sentence
    assert any(f"{at - timedelta(seconds=s):%Y-%m-%d at %H:%M:%S} UTC" in error.sentence for s in range(10))
    assert loaded.version + 1 == first.version
    assert first == await described(sharing, north)
    assert ("adam", "policy.saved", "refused") in await sharing.audited(f"facility:{north}")
    await sharing.save_policy()


async def test_a_policy_that_was_never_saved_has_version_0_and_is_saved_once(sharing: Sharing) -> None:
    south = FacilityId(UUID(sharing.world.south))
    assert 0 == (await described(sharing, south)).version
    assert isinstance(
        await error_of(sharing.policies.save_policy("adam", Policy(south, version=1))), Conflict
    )

    saved = await asyncio.gather(
        *(sharing.policies.save_policy("adam", Policy(south, default_days=days)) for days in (1, 2, 3, 4)),
        return_exceptions=True,
    )

    (only,) = [each for each in saved if isinstance(each, Policy)]
    assert {Conflict} == {type(each) for each in saved if isinstance(each, ReadroomError)}
    assert (only, 1) == (await described(sharing, south), only.version)


async def test_what_the_version_before_saved_has_version_1_and_tells_nobody(sharing: Sharing) -> None:
    old = FacilityId(UUID(await sharing.world.access.facility("Old")))
    await sharing.query(
        """
        insert into policies (facility_id, default_days, maximum_days, unlimited_allowed,
            further_sharing_allowed)
        values ($1, 7, 0, true, true)
        """,
        old,
    )

    assert Policy(old, default_days=7, version=1) == await described(sharing, old)
    error = await error_of(sharing.policies.save_policy("adam", Policy(old)))
    assert (Conflict, False) == (type(error), "by `" in error.sentence)
    await sharing.policies.save_policy("adam", Policy(old, version=1))


async def test_over_the_wire_a_policy_carries_its_version(system: System) -> None:
    facility_id = await system.world.access.facility("Wired")
    stub = system.acting("adam")

    async def save(**values: Any) -> pb.Policy:
        request = pb.SavePolicyRequest(policy=pb.Policy(facility_id=facility_id, **values))
        return (await stub.SavePolicy(request)).policy

    assert 1 == (await save(default_days=7)).version
    assert isinstance(await error_of(save(default_days=8)), Conflict)
    assert 2 == (await save(default_days=8, version=1)).version
    answer = await stub.DescribePolicy(pb.DescribePolicyRequest(facility_id=facility_id))
    assert 2 == answer.policy.version
