"""Moves by hand: access is asked first, and a move is made whole or not at all."""

from datetime import timedelta
from uuid import uuid4

import pytest

from kernel.errors import Conflict, Invalid, NotFound, Unavailable
from kernel.ids import MoveId
from services.routing.domain import Facility, Model, Placement, Reason
from services.routing.moves import Ending, Move
from services.routing.parts import HeldKind, HeldReason
from tests.clocks import NOON
from tests.healing import heal
from tests.routing.builders import a_study
from tests.routing.conftest import ADMIN, Routing

pytestmark = pytest.mark.proves("A17", part="a move by hand")


class Scene:
    """A hub with two endpoints, and a case that no rule took."""

    def __init__(self, routing: Routing) -> None:
        self.routing = routing

    async def set(self) -> "Scene":
        routing = self.routing
        self.hub = await routing.facility("North Hub", Model.HUB)
        self.lakeside = await routing.facility("Lakeside", Model.ENDPOINT)
        self.hillside = await routing.facility("Hillside", Model.ENDPOINT)
        self.study = a_study(self.hub.id, ("1.1", "unknown"))
        await routing.place(self.study)
        (self.case,) = await routing.cases()
        return self

    async def distribute(self, to: Facility, *, preview: bool = False) -> Placement:
        moved = await self.routing.moves.distribute(ADMIN, self.case.case_id, to.id, preview=preview)
        return moved.placement

    async def move_on(self, to: Facility, *, preview: bool = False) -> Placement:
        moved = await self.routing.moves.move_on(ADMIN, self.case.case_id, to.id, preview=preview)
        return moved.placement

    async def now(self) -> Placement:
        return await self.routing.placements.describe_placement(self.case.case_id)

    async def waits(self) -> list[tuple[HeldKind, HeldReason]]:
        return [(each.kind, each.reason) for each in await self.routing.held()]


@pytest.fixture
async def scene(routing: Routing) -> Scene:
    return await Scene(routing).set()


async def test_access_is_asked_which_case_goes_from_where_to_where(routing: Routing, scene: Scene) -> None:
    moved = await scene.distribute(scene.lakeside)

    (asked,) = routing.movers.begun
    assert moved.last_move_id == asked.id
    assert (scene.case.case_id, scene.hub.id, scene.lakeside.id, True) == (
        asked.case_id,
        asked.from_facility_id,
        asked.to_facility_id,
        asked.by_hand,
    )


async def test_what_access_refuses_stays_where_it_is(routing: Routing, scene: Scene) -> None:
    routing.movers.why_not = Conflict("the case is locked by `Dr. Roe`: wait")

    with pytest.raises(Conflict, match="locked"):
        await scene.distribute(scene.lakeside)

    assert scene.case == await scene.now()
    (row,) = await routing.query("select outcome from audit_rows where action = 'case.distributed'")
    assert row["outcome"] == "refused"


async def test_a_preview_tells_what_ends_and_moves_nothing(routing: Routing, scene: Scene) -> None:
    routing.movers.ending = Ending(1, 2, ("jane",), ("Board", "Team"))

    moved = await routing.moves.distribute(ADMIN, scene.case.case_id, scene.lakeside.id, preview=True)

    assert (scene.lakeside.id, routing.movers.ending) == (moved.placement.facility_id, moved.ending)
    assert ([], 1) == (routing.movers.begun, len(routing.movers.previewed))
    assert scene.case == await scene.now()


async def test_a_wrong_move_is_not_for_good(scene: Scene) -> None:
    await scene.distribute(scene.lakeside)

    on = await scene.move_on(scene.hillside)

    assert (scene.hillside.id, scene.hub.id, Reason.BY_HAND, scene.case.case_id) == (
        on.facility_id,
        on.received_via_facility_id,
        on.reason,
        on.case_id,
    )
    assert [] == await scene.waits()


async def test_what_a_rule_has_sent_to_the_wrong_place_moves_on_too(routing: Routing, scene: Scene) -> None:
    await routing.rule(scene.hub, "MS44", scene.lakeside)
    await routing.place(study := a_study(scene.hub.id, ("1.1", "MS44")))
    (row,) = await routing.query("select case_id from received_studies where study_id = $1", study.id)

    moved = await routing.moves.move_on(ADMIN, row["case_id"], scene.hillside.id)

    assert (scene.hillside.id, Reason.BY_HAND) == (moved.placement.facility_id, moved.placement.reason)


async def test_what_waited_beside_a_case_that_moves_on_gets_a_case_and_is_not_deleted_with_it(
    routing: Routing, scene: Scene
) -> None:
    await scene.distribute(scene.lakeside)
    direct = a_study(scene.lakeside.id, ("1.1", None), study_instance_uid=scene.case.study_instance_uid)
    await routing.receive(direct)
    assert [(HeldKind.STUDY, HeldReason.SECOND_STUDY)] == await scene.waits()

    await scene.move_on(scene.hillside)

    deletion = await routing.placements.fetch_deletion(scene.case.case_id)
    assert deletion is None
    routing.archive.deletions[scene.case.case_id] = NOON + timedelta(days=1)
    deletion = await routing.placements.fetch_deletion(scene.case.case_id)
    assert deletion is not None
    assert {} == deletion.beside
    assert 1 == await heal(routing.database, routing.arrivals.kinds())
    assert [] == await scene.waits()
    (row,) = await routing.query(
        "select facility_id, reason from placements join received_studies using (case_id) "
        "where study_id = $1",
        direct.id,
    )
    assert (scene.lakeside.id, Reason.DIRECT) == (row["facility_id"], row["reason"])
    assert 0 == await heal(routing.database, routing.arrivals.kinds())


async def test_back_at_its_hub_a_case_waits_again(routing: Routing, scene: Scene) -> None:
    await scene.distribute(scene.lakeside)

    back = await scene.move_on(scene.hub)

    assert (scene.hub.id, None, Reason.RETURNED) == (
        back.facility_id,
        back.received_via_facility_id,
        back.reason,
    )
    assert back.undistributed
    assert [(HeldKind.UNDISTRIBUTED, HeldReason.RETURNED)] == await scene.waits()
    assert scene.hillside.id == (await scene.distribute(scene.hillside)).facility_id
    assert [] == await scene.waits()


async def test_a_case_that_was_moved_back_keeps_waiting_while_its_study_grows(
    routing: Routing, scene: Scene
) -> None:
    await scene.distribute(scene.lakeside)
    await scene.move_on(scene.hub)

    await routing.place(
        a_study(
            scene.hub.id,
            ("1.1", "unknown"),
            ("1.2", "unknown"),
            study_id=scene.study.id,
            study_instance_uid=scene.study.study_instance_uid,
            version=2,
        )
    )

    assert (await scene.now()).reason is Reason.RETURNED
    assert [(HeldKind.UNDISTRIBUTED, HeldReason.RETURNED)] == await scene.waits()


async def test_the_version_before_reads_a_case_that_was_moved_back(routing: Routing, scene: Scene) -> None:
    """It knows neither reason, and takes the case for one that no rule took."""
    await scene.distribute(scene.lakeside)
    await scene.move_on(scene.hub)

    (row,) = await routing.query(
        "select p.reason, h.reason as why from placements p join held h using (case_id)"
    )

    assert ("no_rule", "no_rule") == (row["reason"], row["why"])


async def test_only_what_came_through_a_hub_moves_on_and_only_elsewhere(
    routing: Routing, scene: Scene
) -> None:
    with pytest.raises(Conflict, match="distribute"):
        await scene.move_on(scene.lakeside)
    await scene.distribute(scene.lakeside)
    with pytest.raises(Conflict, match="already"):
        await scene.move_on(scene.lakeside)
    other_hub = await routing.facility("South Hub", Model.HUB)
    for facility in (other_hub, await routing.facility("City Hospital")):
        with pytest.raises(Invalid):
            await scene.move_on(facility)
    await routing.place(direct := a_study(scene.hillside.id, ("1.1", None)))
    (row,) = await routing.query("select case_id from received_studies where study_id = $1", direct.id)
    with pytest.raises(Conflict, match="sent the case, so it belongs there"):
        await routing.moves.move_on(ADMIN, row["case_id"], scene.lakeside.id)
    assert 1 == len(routing.movers.begun)


async def test_who_does_not_administer_both_ends_moves_nothing_on(routing: Routing, scene: Scene) -> None:
    await scene.distribute(scene.lakeside)
    for administered in ([scene.hub.id, scene.hillside.id], [scene.hub.id, scene.lakeside.id]):
        routing.only_at(*administered)
        with pytest.raises(NotFound):
            await scene.move_on(scene.hillside)
    assert 1 == len(routing.movers.begun)


async def test_a_facility_that_has_the_study_already_is_refused_before_access_hides_anything(
    routing: Routing, scene: Scene
) -> None:
    await scene.distribute(scene.lakeside)
    await routing.place(
        a_study(scene.hillside.id, ("1.1", None), study_instance_uid=scene.case.study_instance_uid)
    )

    with pytest.raises(Conflict, match="already has this study"):
        await scene.move_on(scene.hillside)
    assert 1 == len(routing.movers.begun)


async def test_a_move_that_access_has_given_up_is_never_made(routing: Routing, scene: Scene) -> None:
    async def access_asks(move: Move) -> None:
        assert not await routing.moves.end_move(move.id)

    routing.movers.meanwhile = access_asks
    with pytest.raises(Unavailable, match="try again"):
        await scene.distribute(scene.lakeside)

    assert scene.case == await scene.now()
    (move,) = routing.movers.begun
    assert not await routing.moves.end_move(move.id)


async def test_a_move_that_was_made_stays_made_and_one_that_nobody_knows_is_never_made(
    routing: Routing, scene: Scene
) -> None:
    await scene.distribute(scene.lakeside)

    (move,) = routing.movers.begun
    assert await routing.moves.end_move(move.id)
    assert not await routing.moves.end_move(MoveId(uuid4()))


async def test_what_has_moved_while_access_was_asked_is_not_moved_from_elsewhere(
    routing: Routing, scene: Scene
) -> None:
    async def somebody_else(move: Move) -> None:
        routing.movers.meanwhile = None
        await scene.distribute(scene.hillside)
        await scene.move_on(scene.hub)
        await scene.distribute(scene.hillside)

    routing.movers.meanwhile = somebody_else
    with pytest.raises(Conflict):
        await scene.distribute(scene.lakeside)

    assert scene.hillside.id == (await scene.now()).facility_id


async def test_no_connection_is_held_while_access_is_asked(routing: Routing, scene: Scene) -> None:
    async def counts(move: Move) -> None:
        rows = await routing.query(
            "select count(*) as open from pg_stat_activity "
            "where datname = current_database() and state = 'idle in transaction'"
        )
        assert 0 == rows[0]["open"]

    routing.movers.meanwhile = counts
    await scene.distribute(scene.lakeside)
