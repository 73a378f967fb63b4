"""Moves of one case in any order of what routing does, what access hears and when it asks."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernel.errors import ReadroomError
from kernel.ids import FacilityId, MoveId
from kernel.reading import PrivilegeLevel
from services.access import events
from services.access.caseindex import Placement
from services.access.domain import Facility, Permission, PermissionGrant, Role, User
from services.access.moves import PATIENCE, Move
from tests.access.builders import a_placement, a_study
from tests.access.conftest import Access

STEPS = st.lists(
    st.sampled_from(["begin", "commit", "grow", "hear newest", "hear older", "ask", "grant"]), max_size=14
)


class Routing:
    """Routing by its contract: it makes a move that access began, unless access has asked first."""

    def __init__(self, access: Access, placement: Placement, facilities: Sequence[Facility]) -> None:
        self.access, self.facilities = access, facilities
        self.told = [placement]
        self.begun: Move | None = None

    @property
    def now(self) -> Placement:
        return self.told[-1]

    def elsewhere(self) -> Facility:
        here = next(i for i, each in enumerate(self.facilities) if each.id == self.now.facility_id)
        return self.facilities[1 - here]

    def tell(self, **changes: object) -> None:
        changed = replace(self.now, version=self.now.version + 1, **changes)  # type: ignore[arg-type]
        self.told.append(changed)
        self.access.owners.add(changed)

    def commit(self) -> None:
        """The third step of a move: whoever wrote its row first has decided."""
        move, self.begun = self.begun, None
        if move is None or move.from_facility_id != self.now.facility_id:
            return
        if move.id not in self.access.owners.given_up:
            self.access.owners.made.add(move.id)
            self.tell(facility_id=move.to_facility_id, last_move_id=move.id)


@pytest.mark.proves("A17", part="in any order of facts")
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
async def test_nobody_sees_a_case_where_it_no_longer_is_and_in_the_end_it_is_seen_where_it_is(
    access: Access, steps: list[str]
) -> None:
    facilities = [await access.facility() for _ in range(2)]
    mover, *watchers = await _people(access, facilities)
    study = a_study()
    routing = Routing(access, a_placement(facilities[0].id, study), facilities)
    await access.hear(study, routing.now)
    case_id = routing.now.case_id

    async def seen_at() -> list[FacilityId]:
        """By a list and by a question alike."""
        seen = []
        for facility, watcher in zip(facilities, watchers, strict=True):
            (checked,) = await access.questions.check_many(watcher.login, [case_id])
            assert checked.allowed == (case_id in await access.worklist(watcher))
            if checked.allowed:
                seen.append(facility.id)
        return seen

    for step in steps:
        match step:
            case "begin" if routing.begun is None:
                here, there = routing.now.facility_id, routing.elsewhere().id
                move = Move(MoveId(uuid4()), case_id, here, there, by_hand=True)
                try:
                    await access.moves.begin_for(mover.login, move, preview=False)
                except ReadroomError:
                    continue
                routing.begun = move
            case "commit":
                routing.commit()
            case "grow":
                routing.tell(undistributed=not routing.now.undistributed)
            case "hear newest" | "hear older":
                known = routing.told[-1 if step == "hear newest" else len(routing.told) // 2]
                await access.hear(known)
                access.owners.add(routing.now)
            case "ask":
                access.clock.pass_by(PATIENCE)
                await events.settle(access.moves)
            case "grant":
                await _try_to_grant(access, mover, case_id)
        assert {*await seen_at()} <= {routing.now.facility_id}, step

    routing.begun = None
    access.clock.pass_by(PATIENCE)
    await events.settle(access.moves)
    await access.hear(routing.now)
    assert [routing.now.facility_id] == await seen_at()


async def _people(access: Access, facilities: Sequence[Facility]) -> list[User]:
    """Who moves, and who sees cases at each of the facilities."""
    held = frozenset({PermissionGrant(Permission.ADMINISTER_FACILITIES)})
    people = [await access.user(Role.ADMINISTRATOR, permissions=held)]
    for facility in facilities:
        people.append(await access.user())
        await access.give(people[-1], facility, PrivilegeLevel.VIEW)
    return people


async def _try_to_grant(access: Access, user: User, case_id: object) -> None:
    """Somebody who moves it is shown the case meanwhile, if it can be shown."""
    try:
        await access.folders.grant_case("ada", case_id, user.id)  # type: ignore[arg-type]
    except ReadroomError:
        return
