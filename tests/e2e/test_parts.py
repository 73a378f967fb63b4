"""Images of another patient, or with another institution, that come under the UIDs of a case."""

import asyncio
from pathlib import Path

import pytest

from demo.cast import ADEYEMI, ADMIN, CENTRAL, ENDPOINT, HUB, MODALITY, NORTHGATE, STANDARD, VOS, Site
from demo.dicom_files import SyntheticCT, uid, written_as
from demo.modality import PynetdicomModality
from demo.reading import locks
from demo.world import World
from kernel.errors import Conflict, Denied, NotFound
from readroom.fetch import fetch_case
from readroom.pages import every
from tests.e2e.silent import Silent
from tests.e2e.test_journey import seen, send, small
from tests.wait import eventually
from wire.access.v1.access_pb2 import Case
from wire.ingest.v1.ingest_pb2 import DeleteStudyRequest, DescribeHeldPartsRequest
from wire.routing.v1.routing_pb2 import DiscardPartRequest, Held, ListHeldRequest, ReleasePartRequest


async def one_more(
    world: World, site: Site, study: SyntheticCT, folder: Path, number: int, **elements: str
) -> Path:
    """The modality sends one more image into the study's only series, which says something else."""
    elements["SOPInstanceUID"] = str(uid(study.name, "one more", number))
    source = folder / study.name / "0001.dcm"
    path = written_as(source, folder / f"{study.name}-more" / f"{number}.dcm", **elements)
    called = world.gateways[site.name].called
    await asyncio.to_thread(PynetdicomModality(MODALITY).send, [path], called, lambda: None)
    return path


async def held_beside(world: World, case: Case, instances: int = 1) -> Held:
    """The part that is held of the case, once it has so many instances."""
    admin = await world.acting_as(ADMIN)

    async def listed() -> Held | None:
        held = [
            each async for each in every(admin.routing.ListHeld, ListHeldRequest(), lambda page: page.held)
        ]
        held = [each for each in held if each.case_id == case.case_id]
        return held[0] if [each.instance_count for each in held] == [instances] else None

    found = await eventually(listed, within=20.0)
    assert found
    return found


async def counted(world: World, login: str, study: SyntheticCT, instances: int, another: int) -> Case:
    """The case with so many images, and so many parts of another patient that are held."""

    async def so_many() -> Case | None:
        case = await world.case(login, study.study_instance_uid)
        is_so = case and (case.instance_count, case.another_patient_held) == (instances, another)
        return case if is_so else None

    case = await eventually(so_many, within=20.0)
    assert case
    return case


async def fetched(world: World, login: str, case: Case, folder: Path) -> set[str]:
    paths = await fetch_case(await world.acting_as(login), case.case_id, folder, Silent())
    return {path.stem for path in paths}


@pytest.mark.proves("BEY-7", part="another patient's images are held and released")
async def test_of_two_patients_in_one_series_the_second_is_held_until_a_person_decides(
    world: World, tmp_path: Path
) -> None:
    study = small("two-patients", None)
    await send(world, NORTHGATE, study, tmp_path)
    other = {"PatientID": "P-2", "PatientName": "Second^Person"}
    await one_more(world, NORTHGATE, study, tmp_path, 1, **other)
    case = await counted(world, ADEYEMI.login, study, study.slices, another=1)
    assert case.patient_name == study.patient_name
    held = await held_beside(world, case)
    assert (held.kind, list(held.differs)) == (Held.KIND_ANOTHER_PATIENT, ["PatientID", "PatientName"])
    others = str(uid(study.name, "one more", 1))
    assert others not in await fetched(world, ADEYEMI.login, case, tmp_path / "held")

    # The rest of the first patient still arrives, and the rest of the second waits with what is held.
    await one_more(world, NORTHGATE, study, tmp_path, 2)
    await one_more(world, NORTHGATE, study, tmp_path, 3, **other)
    case = await counted(world, ADEYEMI.login, study, study.slices + 1, another=1)
    await held_beside(world, case, instances=2)

    adeyemi = await world.acting_as(ADEYEMI.login)
    with pytest.raises((Denied, NotFound)):
        await adeyemi.routing.ReleasePart(ReleasePartRequest(held_id=held.held_id))
    for permission in ("study.correct", "study.delete"):
        await world.permit(ADEYEMI, permission, STANDARD)
    # Whose they are is told to who decides, and they do not go unseen with the case.
    told = await adeyemi.ingest.DescribeHeldParts(DescribeHeldPartsRequest(case_id=case.case_id))
    assert [[i.patient_name for i in part.identities] for part in told.parts] == [["Second^Person"]]
    assert [part.instance_count for part in told.parts] == [2]
    with pytest.raises(Conflict):
        await adeyemi.ingest.DeleteStudy(DeleteStudyRequest(case_id=case.case_id))
    await adeyemi.routing.ReleasePart(ReleasePartRequest(held_id=held.held_id))
    case = await counted(world, ADEYEMI.login, study, study.slices + 3, another=0)
    assert others in await fetched(world, ADEYEMI.login, case, tmp_path / "released")
    assert case.patient_name == study.patient_name


@pytest.mark.proves("BEY-7", part="what was discarded is never served")
async def test_what_a_person_discards_is_never_shown_or_served(world: World, tmp_path: Path) -> None:
    study = small("discarded", None)
    await send(world, NORTHGATE, study, tmp_path)
    await one_more(world, NORTHGATE, study, tmp_path, 1, PatientID="P-2", PatientName="Second^Person")
    case = await counted(world, ADEYEMI.login, study, study.slices, another=1)
    held = await held_beside(world, case)
    for permission in ("study.correct", "study.delete"):
        await world.permit(ADEYEMI, permission, STANDARD)
    adeyemi = await world.acting_as(ADEYEMI.login)
    delete = DeleteStudyRequest(case_id=case.case_id)
    with pytest.raises(Conflict, match="another patient"):
        await adeyemi.ingest.DeleteStudy(delete)

    await adeyemi.routing.DiscardPart(DiscardPartRequest(held_id=held.held_id))
    case = await counted(world, ADEYEMI.login, study, study.slices, another=0)
    assert len(await fetched(world, ADEYEMI.login, case, tmp_path / "kept")) == study.slices
    await adeyemi.ingest.DeleteStudy(delete)
    assert await world.case(ADEYEMI.login, study.study_instance_uid) is None


@pytest.mark.proves("RTE-9", part="a later image takes nothing away")
async def test_one_image_of_another_institution_takes_nothing_from_a_locked_case(
    world: World, readers: None, tmp_path: Path
) -> None:
    study = small("another-institution", "MS44")
    await send(world, CENTRAL, study, tmp_path)
    case = await seen(world, VOS.login, study)
    await locks(VOS)(world, case.case_id)
    await one_more(world, CENTRAL, study, tmp_path, 1, InstitutionName="Elsewhere")
    held = await held_beside(world, case)
    assert (held.kind, held.facility_id) == (Held.KIND_PART, world.facility_ids[HUB])
    after = await counted(world, VOS.login, study, study.slices, another=0)
    assert (after.case_id, after.facility_name) == (case.case_id, ENDPOINT)
    assert len(await fetched(world, VOS.login, case, tmp_path / "fetched")) == study.slices
