"""What is played on a version, and what must still be so on the data that it left."""

import asyncio
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from demo.cast import (
    ADMIN,
    BRANDT,
    CENTRAL,
    ENDPOINT,
    HULL,
    MARSH,
    MODALITY,
    MOOR,
    OKAFOR,
    SITES,
    VOS,
    Person,
)
from demo.comparing import by_uid
from demo.deletion import DELETED, Retry, everybody_confirms, send_again
from demo.dicom_files import SyntheticCT, digest, uid, written_as
from demo.gateways import RunningGateway
from demo.modality import PynetdicomModality
from demo.reading import (
    FINAL,
    FINAL_REPORT,
    FIRST,
    HIS_PRE_READ,
    LAST,
    LOOK,
    PRE_READ,
    PRELIMINARY,
    PRELIMINARY_REPORT,
    Obtained,
    completes,
    let_them_read,
    locks,
)
from demo.setting import create_user, set_the_scene
from demo.sharing import wanted
from demo.stage import Stage
from demo.world import World
from local.system import ROOT, LocalSystem
from readroom import names
from readroom.fetch import fetch_case
from tests.e2e.silent import Silent
from tests.e2e.test_journey import seen, send, small
from tests.upgrade.archive import Story
from tests.upgrade.kinds import MANY, TWIN, as_said_today, play_kinds, the_kinds_are_there
from tests.wait import eventually
from wire.access.v1.access_pb2 import SaveUserRequest
from wire.audit.v1.audit_pb2 import VerifyAuditRequest
from wire.ingest.v1.ingest_pb2 import DeleteStudyRequest
from wire.routing.v1.routing_pb2 import ListHeldRequest
from wire.sharing.v1.sharing_pb2 import ListReceivedRequest

READ, GONE, WAITING, NEW, MIXED = (
    small(f"upgrade-{name}", "MS44") for name in ("read", "gone", "waiting", "new", "mixed")
)
"""Studies: one is read and shared, one is deleted, one waits in the gateway, one is sent later, and of one a
series of another institution is held."""
UNPLACED = small("upgrade-unplaced", "Nobody's")
"""It waits at the hub: no rule has its value."""


def a_world(system: LocalSystem, resources: AsyncExitStack) -> World:
    """The demo's world on this system; it tells nothing."""
    return World(Stage(Console(quiet=True)), system, resources)


async def play(world: World) -> None:
    """One study is read and shared, another is deleted; a report's fact and a third study are on their way.

    A series and a study wait at the hub. Of services and gateways nothing runs afterwards.
    """
    await set_the_scene(world)
    await let_them_read(world)
    for person in (BRANDT, MOOR):
        await create_user(world, person)
    await world.permit(MOOR, "study.delete", ENDPOINT)
    await _permit_everywhere(world, "audit.read")

    for study in (READ, GONE):
        await send(world, CENTRAL, study, world.folder / "sent")
    read, gone = [await seen(world, VOS.login, study) for study in (READ, GONE)]
    await locks(VOS)(world, read.case_id)
    await completes(VOS, PRE_READ, LOOK)(world, read.case_id)
    await locks(MARSH)(world, read.case_id)
    await completes(MARSH, PRELIMINARY, FIRST)(world, read.case_id)
    share = wanted(read, [BRANDT])
    share.recipients[0].two_factor = False
    await (await world.acting_as(VOS.login)).sharing.Share(share)
    await locks(MARSH)(world, read.case_id)
    moor = await world.acting_as(MOOR.login)
    deletion = (await moor.ingest.DeleteStudy(DeleteStudyRequest(case_id=gone.case_id))).deletion
    await everybody_confirms(world, deletion)

    await send(world, CENTRAL, MIXED, world.folder / "sent")
    await seen(world, VOS.login, MIXED)
    await _send_a_series_of_another_institution(world)
    await send(world, CENTRAL, UNPLACED, world.folder / "sent")
    await seen(world, HULL.login, UNPLACED)
    await play_kinds(world)

    world.system.servers.nats.stop()
    await completes(MARSH, FINAL, LAST)(world, read.case_id)
    world.system.stop_service("ingest")
    await send(world, CENTRAL, WAITING, world.folder / "sent")
    for gateway in world.gateways.values():
        gateway.process.end(15, 5.0)
    for service in world.system.names:
        world.system.stop_service(service)


async def _send_a_series_of_another_institution(world: World) -> None:
    """It belongs to the study and is held."""
    path = written_as(
        world.folder / "sent" / MIXED.name / "0001.dcm",
        world.folder / "other" / "0001.dcm",
        SOPInstanceUID=uid(MIXED.name, "another"),
        SeriesInstanceUID=uid(MIXED.name, "another series"),
        InstitutionName="Another",
    )
    called = world.gateways[CENTRAL.name].called
    await asyncio.to_thread(PynetdicomModality(MODALITY).send, [path], called, lambda: None)
    admin = await world.acting_as(ADMIN)

    async def held() -> bool:
        return any(each.case_id for each in (await admin.routing.ListHeld(ListHeldRequest())).held)

    await eventually(held)


async def _permit_everywhere(world: World, permission: str) -> None:
    readroom = await world.acting_as(ADMIN)
    admin = await names.user(readroom, ADMIN)
    admin.permissions.add(permission=permission)
    await readroom.access.SaveUser(SaveUserRequest(user=admin, set_permissions=True))


def told(world: World) -> Story:
    """What must be known to look again."""
    version = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    sent = [
        path
        for study in (READ, GONE, WAITING, MIXED, UNPLACED, *(each.study for each in (MANY, TWIN)))
        for path in (world.folder / "sent" / study.name).iterdir()
    ]
    return Story(
        version=version.stdout.strip(),
        made_at=datetime.now(UTC),
        facility_ids=world.facility_ids,
        user_ids=world.user_ids,
        digests={uid: digest(path) for uid, path in by_uid(sent).items()},
    )


Further = Callable[[World, Story, Path], Awaitable[None]]


async def look_again(system: LocalSystem, story: Story, folder: Path, further: Further | None = None) -> None:
    """Everything is as it was left, what was on its way arrives, and the story can go on, and further."""
    async with AsyncExitStack() as resources:
        world = replace(a_world(system, resources), facility_ids=story.facility_ids, user_ids=story.user_ids)
        for site in SITES:
            world.gateways[site.name] = await asyncio.to_thread(
                RunningGateway.start,
                system,
                site.name,
                site.ae_title,
                world.folder / "gateways" / site.name,
                system.servers.kept.port(f"gateway_{site.name}"),
            )
        await _what_was_read_and_shared_is_there(world, story, folder)
        await the_kinds_are_there(world)
        await _what_waits_at_the_hub_still_waits(world, story, folder)
        await _what_waited_in_the_gateway_arrives(world, story, folder)
        await _what_was_deleted_stays_away(world, folder)
        await _the_audit_verifies(world)
        await _the_story_goes_on(world, folder)
        if further:
            await further(world, story, folder)


async def _what_was_read_and_shared_is_there(world: World, story: Story, folder: Path) -> None:
    for person, types, pre_reads in ((VOS, ", pre-read", (HIS_PRE_READ,)), (OKAFOR, "", ())):

        async def the_last_fact_is_heard(
            person: Person = person, types: str = types, pre_reads: Sequence[str] = pre_reads
        ) -> bool:
            obtained = await Obtained.by(world, person, READ.study_instance_uid)
            written = (*pre_reads, PRELIMINARY_REPORT, FINAL_REPORT)
            return as_said_today(obtained) == (f"READ, preliminary, final{types}", *written)

        await eventually(the_last_fact_is_heard)
    brandt = await world.acting_as(BRANDT.login)
    (received,) = (await brandt.sharing.ListReceived(ListReceivedRequest())).received
    case = await seen(world, BRANDT.login, READ)
    assert list(received.case_ids) == [case.case_id]
    for login in (VOS.login, BRANDT.login):
        await fetches(world, login, READ, story, folder / login)


async def fetches(world: World, login: str, study: SyntheticCT, story: Story, folder: Path) -> None:
    """The user gets every slice as it was sent, and nothing else."""
    case = await seen(world, login, study)
    fetched = by_uid(await fetch_case(await world.acting_as(login), case.case_id, folder, Silent()))
    assert len(fetched) == study.slices
    assert {uid: digest(path) for uid, path in fetched.items()}.items() <= story.digests.items()


async def _what_waits_at_the_hub_still_waits(world: World, story: Story, folder: Path) -> None:
    """A series is held beside its case, which has the others; a study is a case of the hub."""
    await seen(world, VOS.login, MIXED)
    await fetches(world, VOS.login, MIXED, story, folder / "mixed")
    assert (await seen(world, HULL.login, UNPLACED)).undistributed
    held = (await (await world.acting_as(ADMIN)).routing.ListHeld(ListHeldRequest())).held
    assert len(held) == 2


async def _what_waited_in_the_gateway_arrives(world: World, story: Story, folder: Path) -> None:
    await seen(world, VOS.login, WAITING)
    await fetches(world, VOS.login, WAITING, story, folder / "waited")


async def _what_was_deleted_stays_away(world: World, folder: Path) -> None:
    retry = Retry.of(world, GONE.study_instance_uid)
    path = GONE.write(folder / GONE.name)[0]
    status, _ = await asyncio.to_thread(send_again, world, retry, path)
    assert status == DELETED
    for person in (VOS, MARSH, MOOR, BRANDT):
        assert await world.case(person.login, GONE.study_instance_uid) is None


async def _the_audit_verifies(world: World) -> None:
    admin = await world.acting_as(ADMIN)
    for service, audit in admin.audit.items():
        answers = [answer async for answer in audit.VerifyAudit(VerifyAuditRequest())]
        assert answers[-1].done, service
        assert not answers[-1].HasField("fault"), (service, answers[-1].fault.sentence)


async def _the_story_goes_on(world: World, folder: Path) -> None:
    await send(world, CENTRAL, NEW, folder)
    case = await seen(world, VOS.login, NEW)
    await locks(MARSH)(world, case.case_id)
    await completes(MARSH, FINAL, LAST)(world, case.case_id)
    share = wanted(case, [BRANDT])
    share.recipients[0].two_factor = False
    await (await world.acting_as(VOS.login)).sharing.Share(share)
    await seen(world, BRANDT.login, NEW)
    moor = await world.acting_as(MOOR.login)

    async def shown() -> bool:
        obtained = await Obtained.by(world, VOS, NEW.study_instance_uid)
        return as_said_today(obtained)[0].startswith("READ") and not obtained.case.lock_holder_name

    await eventually(shown)
    deletion = (await moor.ingest.DeleteStudy(DeleteStudyRequest(case_id=case.case_id))).deletion
    await everybody_confirms(world, deletion)
    assert await world.case(BRANDT.login, NEW.study_instance_uid) is None
