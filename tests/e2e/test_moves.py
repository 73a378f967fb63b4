"""Moves over the whole system: by hand, by a value that came late, and by rules that were made later."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from demo.cast import ADMIN, CENTRAL, ENDPOINT, HUB, HULL, MODALITY, VOS
from demo.modality import PynetdicomModality
from demo.setting import create_facility
from demo.world import World
from readroom.fetch import fetch_case
from tests.e2e.silent import Silent
from tests.e2e.test_journey import seen, send, small
from tests.wait import eventually
from wire.access.v1.access_pb2 import LEVEL_REPORT, LEVEL_VIEW, Case
from wire.routing.v1.routing_pb2 import (
    TRANSMISSION_MODEL_ENDPOINT,
    DistributeRequest,
    EndpointRule,
    Facility,
    MoveOnRequest,
    ReevaluateRequest,
    SaveRuleRequest,
)


async def an_endpoint(world: World, name: str, text: str = "") -> str:
    """An endpoint whose cases Vos sees, and a rule of the hub for it."""
    await create_facility(world, Facility(name=name, model=TRANSMISSION_MODEL_ENDPOINT))
    await world.set_privilege(VOS.login, name, LEVEL_VIEW)
    if text:
        rule = EndpointRule(
            hub_facility_id=world.facility_ids[HUB], endpoint_facility_id=world.facility_ids[name], text=text
        )
        await (await world.acting_as(ADMIN)).routing.SaveRule(SaveRuleRequest(rule=rule))
    return world.facility_ids[name]


async def seen_at(world: World, login: str, study_instance_uid: str, facility: str) -> Case:
    async def there() -> Case:
        case = await world.case(login, study_instance_uid)
        assert case
        assert case.facility_name == facility
        return case

    return await eventually(there, within=20.0)


@pytest.mark.proves("A17", part="a case that moves is nowhere seen where it was")
async def test_a_case_is_moved_by_hand_and_a_wrong_move_is_not_for_good(world: World, tmp_path: Path) -> None:
    study = small("moved-by-hand", "nobody knows it")
    await send(world, CENTRAL, study, tmp_path)
    case = await seen(world, HULL.login, study)
    wrong = await an_endpoint(world, "Wrong Lane")
    routing = (await world.acting_as(ADMIN)).routing

    preview = await routing.Distribute(
        DistributeRequest(case_id=case.case_id, facility_id=wrong, preview=True)
    )
    assert (preview.placement.facility_id, preview.ending.grant_count) == (wrong, 0)
    assert await world.case(HULL.login, study.study_instance_uid)

    await routing.Distribute(DistributeRequest(case_id=case.case_id, facility_id=wrong))
    assert await world.case(HULL.login, study.study_instance_uid) is None
    await seen_at(world, VOS.login, study.study_instance_uid, "Wrong Lane")

    right = world.facility_ids[ENDPOINT]
    await routing.MoveOn(MoveOnRequest(case_id=case.case_id, facility_id=right))
    on = await seen_at(world, VOS.login, study.study_instance_uid, ENDPOINT)
    assert on.case_id == case.case_id

    await routing.MoveOn(MoveOnRequest(case_id=case.case_id, facility_id=world.facility_ids[HUB]))
    back = await seen_at(world, HULL.login, study.study_instance_uid, HUB)
    assert back.undistributed
    assert await world.case(VOS.login, study.study_instance_uid) is None


@pytest.mark.proves("A17", part="a study that came first without a value")
@pytest.mark.proves("A19", part="a first value that comes late")
async def test_a_study_that_came_first_without_a_value_goes_where_a_rule_knows_its_images(
    world: World, tmp_path: Path
) -> None:
    """As when a structured report without an institution comes first."""
    study = small("late-value", "MS44")
    first, *_ = await asyncio.to_thread(replace(study, institution_name=None).write, tmp_path / "report")
    _, *others = await asyncio.to_thread(study.write, tmp_path / "images")
    modality, called = PynetdicomModality(MODALITY), world.gateways[CENTRAL.name].called
    await asyncio.to_thread(modality.send, [first], called, lambda: None)
    waiting = await seen_at(world, HULL.login, study.study_instance_uid, HUB)
    assert waiting.undistributed

    await asyncio.to_thread(modality.send, others, called, lambda: None)

    case = await seen_at(world, VOS.login, study.study_instance_uid, ENDPOINT)
    assert (case.case_id, case.undistributed) == (waiting.case_id, False)
    assert (await seen(world, VOS.login, study)).instance_count == study.slices
    assert await world.case(HULL.login, study.study_instance_uid) is None


@pytest.mark.proves("A20", part="re-evaluate with a preview")
async def test_rules_that_were_made_later_are_applied_to_what_waits_when_somebody_asks(
    world: World, tmp_path: Path
) -> None:
    untouched, looked_at = small("later-rule", "MS77"), small("later-rule-seen", "MS77")
    for study in (untouched, looked_at):
        await send(world, CENTRAL, study, tmp_path)
    waiting = [await seen(world, HULL.login, study) for study in (untouched, looked_at)]
    await world.permit(HULL, "study.view_images", HUB)
    await world.set_privilege(HULL.login, HUB, LEVEL_REPORT)
    await fetch_case(await world.acting_as(HULL.login), waiting[1].case_id, tmp_path / "f", Silent())
    there = await an_endpoint(world, "Oak Street 77", "MS77")
    routing = (await world.acting_as(ADMIN)).routing

    previewed = await routing.Reevaluate(ReevaluateRequest(hub_facility_id=world.facility_ids[HUB]))

    about = {change.case_id: change for change in previewed.changes}
    assert (there, "") == (about[waiting[0].case_id].to_facility_id, about[waiting[0].case_id].why_not)
    assert "a person must move it" in about[waiting[1].case_id].why_not
    assert await world.case(HULL.login, untouched.study_instance_uid)

    made = await routing.Reevaluate(
        ReevaluateRequest(
            hub_facility_id=world.facility_ids[HUB],
            changes=[about[case.case_id] for case in waiting],
        )
    )

    assert ["", True] == [made.changes[0].why_not, "a person must" in made.changes[1].why_not]
    moved = await seen_at(world, VOS.login, untouched.study_instance_uid, "Oak Street 77")
    assert moved.case_id == waiting[0].case_id
    assert (await world.case(HULL.login, looked_at.study_instance_uid)) is not None
