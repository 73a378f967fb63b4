"""Step 3: who sees what, by rule, by hand, by level, and by folder; and what they fetch."""

import asyncio
import secrets
import time

from demo import comparing, visitor
from demo.cast import (
    ADEYEMI,
    ADMIN,
    CENTRAL,
    CT,
    ENDPOINT,
    HUB,
    HULL,
    LIND,
    NORTHGATE,
    OKAFOR,
    STANDARD,
    VOS,
    Person,
    Site,
)
from demo.dicom_files import CATALOGUE, JPEG_LS, dataset_of
from demo.frames import look_at_a_frame
from demo.sending import Sent
from demo.world import Arrival, World
from readroom.fetch import fetch_case
from readroom.meter import bar
from readroom.pages import every, first
from readroom.words import LEVELS, REASONS
from wire.access.v1.access_pb2 import (
    LEVEL_DRAFT,
    LEVEL_REPORT,
    LEVEL_UNSPECIFIED,
    LEVEL_VIEW,
    Case,
    Folder,
    PutInFolderRequest,
    RemoveFromFolderRequest,
    SaveFolderRequest,
)
from wire.routing.v1.routing_pb2 import DistributeRequest, Held, ListHeldRequest

UNKNOWN_UID = str(dataset_of(JPEG_LS.path).StudyInstanceUID)


async def see(world: World, sent: Sent, arrival: Arrival) -> None:
    """The third step of the story."""
    await the_rule_distributed_it(world, sent, arrival)
    await distribute_by_hand(world)
    await a_standard_facility_has_its_own(world)
    await levels_change(world)
    await a_folder_shows_it(world, arrival.case)
    await fetch_and_compare(world, VOS, CENTRAL)
    await fetch_and_compare(world, ADEYEMI, NORTHGATE)
    await look_at_a_frame(world, arrival.case, CENTRAL.name, VOS, OKAFOR)
    await the_pages_show_it(world, arrival.case)


async def the_rule_distributed_it(world: World, sent: Sent, arrival: Arrival) -> None:
    """RTE-8: the study with the rule's text is the endpoint's, and not the hub's (A18)."""
    world.stage.check(
        arrival.case.facility_name == ENDPOINT and not arrival.case.undistributed,
        f"{VOS.name} sees {arrival.case.patient_name} of `{ENDPOINT}` "
        f"{arrival.first_at - sent.began_at:.2f} s after the modality began to send",
    )
    world.stage.check(
        arrival.case.instance_count == CT.slices,
        f"with all {CT.slices} images {arrival.complete_at - sent.ended_at:.2f} s after its last",
    )
    world.stage.check(
        await world.case(HULL.login, CT.study_instance_uid) is None,
        f"{HULL.name} of `{HUB}`, through which it came, does not",
    )


async def distribute_by_hand(world: World) -> None:
    """A17: what no rule distributes waits at its hub, shown as undistributed, until a person does."""
    admin = await world.acting_as(ADMIN)

    async def waiting() -> Held | None:
        held = await first(every(admin.routing.ListHeld, ListHeldRequest(), lambda page: page.held), 50)
        return next((h for h in held if h.kind == Held.KIND_UNDISTRIBUTED), None)

    async def at_the_hub() -> Case | None:
        case = await world.case(HULL.login, UNKNOWN_UID)
        return case if case and case.undistributed else None

    held = await world.stage.until(waiting, "the study with an unknown institution waits for a person")
    world.stage.tell(held.reason)
    case = await world.stage.until(at_the_hub, f"{HULL.name} sees it at `{HUB}`, marked undistributed")
    world.stage.check(await world.case(VOS.login, UNKNOWN_UID) is None, f"{VOS.name} does not see it")

    request = DistributeRequest(case_id=case.case_id, facility_id=world.facility_ids[ENDPOINT])
    placement = (await admin.routing.Distribute(request)).placement
    world.stage.check(
        placement.case_id == case.case_id and not placement.undistributed,
        f"the administrator distributes it to `{ENDPOINT}`: {REASONS.word(placement.reason)}",
    )
    await world.stage.until(
        lambda: world.case(VOS.login, UNKNOWN_UID), f"{VOS.name} has {case.patient_name} on her worklist"
    )
    world.stage.check(await world.case(HULL.login, UNKNOWN_UID) is None, f"{HULL.name} no longer sees it")


async def a_standard_facility_has_its_own(world: World) -> None:
    """RTE-3: what the standard facility's gateway sends belongs to it."""
    studies = {dataset_of(sample.path).StudyInstanceUID for sample in CATALOGUE}

    async def complete() -> list[Case] | None:
        cases = await world.worklist(ADEYEMI.login)
        return cases if sum(case.instance_count for case in cases) == len(CATALOGUE) else None

    cases = await world.stage.until(
        complete, f"{ADEYEMI.name} has all {len(CATALOGUE)} objects of `{STANDARD}` on their worklist"
    )
    world.stage.check(
        {case.study_instance_uid for case in cases} == studies
        and {case.facility_name for case in cases} == {STANDARD},
        f"they are {len(studies)} cases, and nobody else's are among them",
    )


async def levels_change(world: World) -> None:
    """ACC-1 … ACC-3: what a level lets one user do; a role's ceiling holds against what is set (A1)."""
    expected = {
        LEVEL_UNSPECIFIED: None,
        LEVEL_VIEW: LEVEL_VIEW,
        LEVEL_DRAFT: LEVEL_DRAFT,
        LEVEL_REPORT: LEVEL_DRAFT,
    }
    for level, effective in expected.items():
        await world.set_privilege(LIND.login, ENDPOINT, level)
        seen = await world.case(LIND.login, CT.study_instance_uid)
        sees = f"sees the study and may {LEVELS.word(seen.level)}" if seen else "sees nothing"
        world.stage.check(
            (seen.level if seen else None) == effective,
            f"{LIND.name}, transcriptionist, with level {LEVELS.word(level)}: {sees}",
        )
    await world.set_privilege(LIND.login, ENDPOINT, LEVEL_UNSPECIFIED)


async def a_folder_shows_it(world: World, case: Case) -> None:
    """ACC-5: a shared folder shows a case to members who have no privilege, and only to view."""
    admin = await world.acting_as(ADMIN)
    wanted = Folder(name="Tumour board", member_user_ids=[world.user_ids[OKAFOR.login]])
    folder = (await admin.access.SaveFolder(SaveFolderRequest(folder=wanted))).folder
    world.stage.check(
        not await world.worklist(OKAFOR.login), f"{OKAFOR.name}, referring physician, sees nothing"
    )

    put = PutInFolderRequest(folder_id=folder.folder_id, case_id=case.case_id)
    await admin.access.PutInFolder(put)
    seen = await world.case(OKAFOR.login, case.study_instance_uid)
    world.stage.check(
        seen and seen.level == LEVEL_VIEW,
        f"in folder `{folder.name}` they see the case, to view only",
    )
    remove = RemoveFromFolderRequest(folder_id=folder.folder_id, case_id=case.case_id)
    await admin.access.RemoveFromFolder(remove)
    world.stage.check(not await world.worklist(OKAFOR.login), "taken out of it, they see nothing again")


async def fetch_and_compare(world: World, user: Person, site: Site) -> None:
    """What a user fetches is what the modality sent, data set for data set."""
    readroom = await world.acting_as(user.login)
    cases = await world.worklist(user.login)
    folder = world.folder / "fetched" / user.login
    began = time.perf_counter()
    with bar(f"   {user.login} fetches", world.stage.console) as meter:
        for case in cases:
            await fetch_case(readroom, case.case_id, folder, meter)
    took = time.perf_counter() - began
    on_disk = await asyncio.to_thread(comparing.by_uid, world.on_disk[site.name])
    sent, fetched = (
        {path.stem: path for path in each.glob("*.dcm")} for each in (world.sent(site.name), folder)
    )
    world.stage.check(
        fetched.keys() == sent.keys() == on_disk.keys(),
        f"{user.name} fetches the {len(fetched)} objects of {len(cases)} cases, each by its digest",
        took,
    )
    world.stage.check(
        all(comparing.same_bytes(fetched[uid], sent[uid]) for uid in sent),
        "to the byte they are the data sets that the modality put on the wire",
    )
    world.stage.check(
        all(comparing.same_elements(fetched[uid], on_disk[uid]) for uid in on_disk),
        "element for element they are the data sets on its disk",
    )


async def the_pages_show_it(world: World, case: Case) -> None:
    """The door that people use: an invitation, a password, the worklist."""
    pages, password = world.endpoints.pages, secrets.token_urlsafe(12)
    cookie = await visitor.choose_password(pages, await visitor.invited(world, VOS.login), password)
    family = case.patient_name.partition("^")[0].upper()
    shown = await visitor.first_page(pages, cookie)
    world.stage.check(
        case.case_id in shown and family in shown, f"{VOS.name} signs in at {pages}, and the case is listed"
    )
    if visitor.CHROMIUM:
        heading = await visitor.case_in_chromium(pages, VOS.login, password, family)
        world.stage.check(family in heading.upper(), f"in Chromium they open it, and its page says {heading}")
