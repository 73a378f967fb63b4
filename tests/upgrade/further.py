"""What happens next to what the version before left: more images, late ones, drafts. Nothing vanishes."""

import asyncio
from pathlib import Path

import asyncpg

from demo.cast import ADMIN, CENTRAL, MARSH, MODALITY, VOS
from demo.dicom_files import SyntheticCT, uid, written_as
from demo.modality import PynetdicomModality
from demo.world import World
from services.access.derived import DERIVED
from services.ingest.parts import DESCRIBED
from tests.e2e.test_journey import seen
from tests.upgrade.archive import Story
from tests.upgrade.kinds import MANY
from tests.upgrade.story import MIXED, READ, fetches
from tests.wait import eventually
from wire.routing.v1.routing_pb2 import Held, ListHeldRequest


async def go_further(world: World, story: Story, folder: Path) -> None:
    """To studies of the version before come images of another institution, of another patient, and late ones.

    A draft of the version before still waits, and a report of it still knows how many images it had.
    """
    await eventually(lambda: _all_is_described_again(world))
    before = len(await _held(world))
    await _send_one_more(world, READ, folder, InstitutionName="Another")
    await _send_one_more(world, MIXED, folder, PatientName="Somebody^Else", PatientID="MS44-0999")

    async def both_are_held() -> bool:
        return len(await _held(world)) == before + 2

    await eventually(both_are_held)
    for study, another_patient_held in ((READ, 0), (MIXED, 1)):

        async def is_told(study: SyntheticCT = study, held: int = another_patient_held) -> bool:
            return (await seen(world, VOS.login, study)).another_patient_held == held

        await eventually(is_told)
        case = await seen(world, VOS.login, study)
        assert case.patient_name == study.patient_name
        await fetches(world, VOS.login, study, story, folder / f"{study.name}-further")

    async def its_draft_waits() -> bool:
        case = await world.case(MARSH.login, MANY.study.study_instance_uid)
        return case is not None and case.study_status_id == "DICTATED"

    await eventually(its_draft_waits)
    await _send_one_more(world, READ, folder, "late")

    async def it_is_marked() -> bool:
        case = await world.case(VOS.login, READ.study_instance_uid)
        return case is not None and (case.images_since_report, case.study_status_id) == (1, "READ")

    await eventually(it_is_marked)
    await _every_case_is_described(world)


async def _every_case_is_described(world: World) -> None:
    """Everything that a filter asks for is kept of every case."""
    access = await asyncpg.connect(world.system.servers.database_url("access"))

    async def all_are() -> bool:
        undone = await access.fetchval(
            """
            select count(*) from cases
            where derived < $1 or plain_text is null or last_received_at is null or calling_ae_title = ''
                or institution_names = '{}' or (person_id is null) <> (patient_id = '')
            """,
            DERIVED,
        )
        return bool(undone == 0)

    await eventually(all_are, within=90)
    await access.close()


async def _send_one_more(
    world: World, study: SyntheticCT, folder: Path, name: str = "more", **elements: str
) -> None:
    """Into the series that the study has."""
    (first, *_) = study.write(folder / f"{study.name}-again")
    path = written_as(
        first, folder / f"{study.name}-{name}" / "0001.dcm", SOPInstanceUID=uid(study.name, name), **elements
    )
    called = world.gateways[CENTRAL.name].called
    await asyncio.to_thread(PynetdicomModality(MODALITY).send, [path], called, lambda: None)


async def _all_is_described_again(world: World) -> bool:
    connection = await asyncpg.connect(world.system.servers.database_url("ingest"))
    try:
        described = await connection.fetchval("select array_agg(distinct described) from parts")
        early = await connection.fetchval("select count(*) from studies where not by_parts")
    finally:
        await connection.close()
    return bool(described == [DESCRIBED] and not early)


async def _held(world: World) -> list[Held]:
    return list((await (await world.acting_as(ADMIN)).routing.ListHeld(ListHeldRequest())).held)
