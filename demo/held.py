"""Step 4: images of two patients come as one study; the second one's are held until a person decides."""

import asyncio

from demo.cast import ADMIN, CENTRAL, ENDPOINT, MODALITY, VOS
from demo.dicom_files import SyntheticCT, uid, written_as
from demo.modality import modality
from demo.world import World
from readroom.fetch import fetch_case
from readroom.meter import bar
from readroom.pages import every
from wire.access.v1.access_pb2 import Case
from wire.routing.v1.routing_pb2 import Held, ListHeldRequest, ReleasePartRequest

STUDY = SyntheticCT(slices=3, size=64, name="two-patients", patient_name="Blom^Kees", patient_id="MS44-0002")
"""It has the rule's Institution Name; the console kept it open while the next patient lay down."""

NEXT = {"PatientID": "MS44-0003", "PatientName": "Haan^Piet", "SOPInstanceUID": str(uid(STUDY.name, "next"))}
"""What is other in the next image: study and series stay the same."""


async def hold_and_release(world: World) -> None:
    """The fourth step of the story."""
    first = await asyncio.to_thread(STUDY.write, world.folder / "modality" / STUDY.name)
    other = written_as(first[0], world.folder / "modality" / "next.dcm", **NEXT)
    sender = modality(MODALITY)
    for paths in (first, [other]):
        await asyncio.to_thread(sender.send, paths, world.gateways[CENTRAL.name].called, lambda: None)

    async def shown(instances: int, another: int) -> Case | None:
        case = await world.case(VOS.login, STUDY.study_instance_uid)
        is_so = case and (case.instance_count, case.another_patient_held) == (instances, another)
        return case if is_so else None

    case = await world.stage.until(
        lambda: shown(STUDY.slices, 1),
        f"{VOS.name} sees {STUDY.patient_name} with {STUDY.slices} images, marked: "
        "images of another patient are held",
    )
    admin, vos = await world.acting_as(ADMIN), await world.acting_as(VOS.login)
    waits = [h async for h in every(admin.routing.ListHeld, ListHeldRequest(), lambda page: page.held)]
    (held,) = [each for each in waits if each.kind == Held.KIND_ANOTHER_PATIENT]
    world.stage.tell(f"{held.reason} ({', '.join(held.differs)})")
    before = await _fetched(world, case, "held")
    world.stage.check(
        NEXT["SOPInstanceUID"] not in before and len(before) == STUDY.slices,
        f"{VOS.name} fetches {len(before)} images, and none of the other patient",
    )

    await world.permit(VOS, "study.correct", ENDPOINT)
    await vos.routing.ReleasePart(ReleasePartRequest(held_id=held.held_id))
    await world.stage.until(
        lambda: shown(STUDY.slices + 1, 0),
        f"{VOS.name}, who may correct studies there, says that both names are one patient: the image joins",
    )
    after = await _fetched(world, case, "released")
    world.stage.check(after - before == {NEXT["SOPInstanceUID"]}, "now they fetch it too")


async def _fetched(world: World, case: Case, name: str) -> set[str]:
    vos = await world.acting_as(VOS.login)
    with bar(f"   {VOS.login} fetches", world.stage.console) as meter:
        paths = await fetch_case(vos, case.case_id, world.folder / "fetched" / name, meter)
    return {path.stem for path in paths}
