"""Of each kind of what a version keeps, one: shown by a grant and in a folder, drafted, pre-read, and more.

Änne is a child, a patient at two facilities. One of her studies has three series of other modalities and body
parts than the demo's CT, and names that ASCII has not.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from demo.cast import (
    ADEYEMI,
    ADMIN,
    CENTRAL,
    ENDPOINT,
    HULL,
    LIND,
    MARSH,
    MODALITY,
    NORTHGATE,
    OKAFOR,
    STANDARD,
    VOS,
    Site,
)
from demo.dicom_files import SyntheticCT, uid, written_as
from demo.modality import PynetdicomModality
from demo.reading import FINAL, LAST, LOOK, Obtained, completes, drafts, locks
from demo.world import World
from readroom import names
from readroom.pages import every
from tests.e2e.test_journey import seen
from tests.wait import eventually
from wire.access.v1.access_pb2 import (
    LEVEL_REPORT,
    Case,
    Folder,
    GrantCaseRequest,
    ListPrivilegesRequest,
    PutInFolderRequest,
    SaveFolderRequest,
)

FOLDER = "Bespreking Łódź"
UNTIL = "2060-01-31"
"""Until the day before it Vos may report at Northgate Clinic."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A study of Änne's, and where it is sent.

    Attributes:
        elements: what all slices have.
        series: what each slice has besides: each is a series of its own.
    """

    study: SyntheticCT
    site: Site
    elements: dict[str, str]
    series: tuple[dict[str, str], ...]


CHILD = {
    "PatientName": "Müller^Änne^^^=Мюллер^Энне",
    "PatientID": "Ä-2019/7",
    "PatientBirthDate": "20190704",
    "ReferringPhysicianName": "Ångström^Åse\\Okafor^Ben",
    "InstitutionalDepartmentName": "Straße 9",
}


def _three_slices(name: str, institution_name: str) -> SyntheticCT:
    return SyntheticCT(
        slices=3, size=64, name=name, patient_name=CHILD["PatientName"], institution_name=institution_name
    )


MANY = Sent(
    _three_slices("upgrade-many", "MS44"),
    CENTRAL,
    {**CHILD, "StudyDate": "20260131", "StudyDescription": "PET/CT Ganzkörper", "PatientAge": "006Y"},
    (
        {"Modality": "CT", "BodyPartExamined": "CHEST"},
        {"Modality": "PT", "BodyPartExamined": "WHOLEBODY"},
        {"Modality": "MR", "BodyPartExamined": ""},
    ),
)
TWIN = Sent(
    _three_slices("upgrade-twin", "Northgate"),
    NORTHGATE,
    {**CHILD, "StudyDate": "20210630", "StudyDescription": "Röntgen Hand", "PatientAge": "023M"},
    ({"Modality": "DX", "BodyPartExamined": "HAND"},) * 3,
)
"""Two years before: she was not quite two."""


async def play_kinds(world: World) -> None:
    """Sends the studies, and does of each kind one."""
    many, twin = [await _send(world, each) for each in (MANY, TWIN)]
    await locks(MARSH)(world, many.case_id)
    await drafts(MARSH, LOOK)(world, many.case_id)
    await locks(ADEYEMI)(world, twin.case_id)
    await completes(ADEYEMI, FINAL, LAST)(world, twin.case_id)

    access = (await world.acting_as(ADMIN)).access
    members = [world.user_ids[person.login] for person in (LIND, HULL)]
    folder = (
        await access.SaveFolder(SaveFolderRequest(folder=Folder(name=FOLDER, member_user_ids=members)))
    ).folder
    await access.PutInFolder(PutInFolderRequest(folder_id=folder.folder_id, case_id=many.case_id))
    await access.GrantCase(GrantCaseRequest(user_id=world.user_ids[OKAFOR.login], case_id=twin.case_id))
    await world.set_privilege(VOS.login, STANDARD, LEVEL_REPORT, expires_on=UNTIL)


async def the_kinds_are_there(world: World) -> None:
    """Each is as it was left; the lock has ended, and its draft has not."""
    for login, sent, facility in (
        (MARSH.login, MANY, ENDPOINT),
        (LIND.login, MANY, ENDPOINT),
        (VOS.login, TWIN, STANDARD),
        (OKAFOR.login, TWIN, STANDARD),
    ):
        case = await seen(world, login, sent.study)
        shown = (case.patient_name, case.patient_id, case.facility_name)
        assert shown == (CHILD["PatientName"], CHILD["PatientID"], facility)
        assert case.study_description == sent.elements["StudyDescription"]
        assert {*case.modalities_in_study} == {each["Modality"] for each in sent.series}
    assert await world.case(LIND.login, TWIN.study.study_instance_uid) is None

    async def the_draft_is_there() -> bool:
        obtained = await Obtained.by(world, MARSH, MANY.study.study_instance_uid)
        return f"draft of {MARSH.name} “{LOOK}”" in obtained.told

    await eventually(the_draft_is_there)

    async def the_report_is_there() -> bool:
        obtained = await Obtained.by(world, OKAFOR, TWIN.study.study_instance_uid)
        return as_said_today(obtained) == ("READ, final", f"report final of {ADEYEMI.name} “{LAST}”")

    await eventually(the_report_is_there)
    access = (await world.acting_as(ADMIN)).access
    request = ListPrivilegesRequest(user_id=world.user_ids[VOS.login])
    held = [each async for each in every(access.ListPrivileges, request, lambda page: page.privileges)]
    assert {each.expires_on for each in held} == {"", UNTIL}
    assert (await names.folder(await world.acting_as(ADMIN), FOLDER)).name == FOLDER


async def _send(world: World, sent: Sent) -> Case:
    paths = await asyncio.to_thread(_written, sent, world.folder / "sent" / sent.study.name)
    called = world.gateways[sent.site.name].called
    await asyncio.to_thread(PynetdicomModality(MODALITY).send, paths, called, lambda: None)
    reader = {CENTRAL: MARSH, NORTHGATE: ADEYEMI}[sent.site]
    return await seen(world, reader.login, sent.study)


def _written(sent: Sent, folder: Path) -> list[Path]:
    plain = sent.study.write(folder.with_name(f"{folder.name}-plain"))
    return [
        written_as(
            path,
            folder / path.name,
            **sent.elements,
            **series,
            SeriesInstanceUID=uid(sent.study.name, "series", number),
            SeriesNumber=str(number),
        )
        for number, (path, series) in enumerate(zip(plain, sent.series, strict=True), start=1)
    ]


def as_said_today(obtained: Obtained) -> tuple[str, ...]:
    """What was obtained; the version that landed says FINAL of a case that is READ."""
    worklist, *opened = obtained.told
    return (worklist.replace("FINAL", "READ", 1), *opened)
