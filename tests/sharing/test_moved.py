"""A case that moves to another facility after it was shared, with the decisions of access as it runs."""

import pytest

from kernel.errors import Conflict
from kernel.events import CaseMoved
from services.sharing.domain import State
from services.sharing.validity import Validity, end_of
from tests.reporting.system import a_user
from tests.sharing.system import AMSTERDAM, Sharing, error_of, extend, in_days
from tests.wait import eventually
from wire.access.v1 import access_pb2

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def test_a_share_whose_case_moved_is_shortened_and_revoked_on_either_side_and_extended_on_none(
    sharing: Sharing,
) -> None:
    world, case_id = sharing.world, await sharing.world.case()
    to_hub, to_endpoint = [await sharing.share("vos", [case_id], "rita") for _ in range(2)]
    placement = world.access.routing.placements[str(case_id)]
    placement.facility_id, placement.version = world.south, 2
    await world.access.say(CaseMoved(case_id, 2))

    async def moved() -> bool:
        (owner,) = (await sharing.access.owners([case_id])).values()
        return str(owner.facility_id) == world.south

    await eventually(moved)
    south = await a_user(
        world.access,
        "seth",
        access_pb2.ROLE_ADMINISTRATOR,
        world.south,
        access_pb2.LEVEL_VIEW,
        "share.admin",
    )
    for login in ("vos", "adam", south.login):
        error = await error_of(extend(sharing, login, to_hub.buckets[0], Validity(unlimited=True)))
        assert (Conflict, True) == (type(error), "has moved to another facility" in error.sentence)
    for login in (south.login, "adam"):
        day = in_days(sharing, 5 if login == "adam" else 7)
        bucket = await extend(sharing, login, to_hub.buckets[0], Validity(day.isoformat()))
        assert end_of(day, AMSTERDAM) == bucket.ends_at == await sharing.ends_in_access(bucket.id)
    await sharing.revoke("adam", share=to_hub)
    await sharing.revoke(south.login, share=to_endpoint)
    assert [State.REVOKED] * 2 == [
        *await sharing.states(to_hub),
        *await sharing.states(to_endpoint),
    ]
