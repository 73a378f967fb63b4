"""Step 5: what waits for a person is shown with its value and the nearest rule, and the queue is emptied."""

import asyncio

from demo.cast import ADMIN, CENTRAL, ENDPOINT, HUB, HULL, MODALITY, VOS
from demo.dicom_files import SyntheticCT
from demo.modality import modality
from demo.world import World
from readroom.held import Row, queue
from wire.access.v1.access_pb2 import Case
from wire.routing.v1.routing_pb2 import EndpointRule, ReevaluateRequest, SaveRuleRequest

STUDY = SyntheticCT(
    slices=1, size=64, name="queue", patient_name="Jong^Mia", patient_id="MS44-0004", institution_name="MS 44"
)
"""Somebody typed the Institution Name at the console with a blank, and no rule has it so."""


async def empty_the_queue(world: World) -> None:
    """The fifth step of the story."""
    admin = await world.acting_as(ADMIN)
    paths = await asyncio.to_thread(STUDY.write, world.folder / "modality" / STUDY.name)
    called = world.gateways[CENTRAL.name].called
    await asyncio.to_thread(modality(MODALITY).send, paths, called, lambda: None)

    async def waits() -> Row | None:
        return next((row for row in await queue(admin) if row.held.case_id), None)

    async def at_the_hub() -> Case | None:
        return await world.case(HULL.login, STUDY.study_instance_uid)

    row = await world.stage.until(waits, "a study with a misspelt institution waits at the hub")
    case = await world.stage.until(at_the_hub, f"{HULL.name} sees it there")
    (value,) = row.values
    world.stage.check(
        row.suggestion.rule.text == "MS44" and not row.part.shows_patient,
        f"the administrator of `{HUB}` is told its value, `{value}`, and the nearest rule, "
        f"`{row.suggestion.rule.text}`, and without a privilege there not whose it is",
    )

    rule = EndpointRule(
        hub_facility_id=row.held.facility_id, endpoint_facility_id=world.facility_ids[ENDPOINT], text=value
    )
    await admin.routing.SaveRule(SaveRuleRequest(rule=rule))
    hub_id = world.facility_ids[HUB]
    preview = await admin.routing.Reevaluate(ReevaluateRequest(hub_facility_id=hub_id))
    (change,) = preview.changes
    world.stage.check(
        change.case_id == case.case_id and await at_the_hub() is not None,
        f"they make a rule of it; what waits stays, and a preview says that it would go to `{ENDPOINT}`",
    )
    made = await admin.routing.Reevaluate(ReevaluateRequest(hub_facility_id=hub_id, changes=[change]))
    world.stage.check(
        made.changes[0].why_not == "" and not await queue(admin), "they apply it: nothing waits"
    )
    await world.stage.until(
        lambda: world.case(VOS.login, STUDY.study_instance_uid), f"{VOS.name} has it on their worklist"
    )
    world.stage.check(await at_the_hub() is None, f"{HULL.name} no longer sees it")
