"""The journey of a reading, end to end: reporting decides, access lists, and each side obtains its own."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from demo.cast import CENTRAL, ENDPOINT, MARSH, OKAFOR, VOS, Person
from demo.dicom_files import SyntheticCT
from demo.reading import (
    FINAL,
    PRE_READ,
    PRELIMINARY,
    Obtained,
    completes,
    drafts,
    locks,
    refusal,
)
from demo.world import World
from kernel.errors import Conflict, Denied, NotFound
from readroom.fetch import fetch_case
from tests.e2e.silent import Silent
from tests.e2e.test_journey import seen, send, small
from tests.reporting.test_non_interference import Canon
from tests.wait import eventually
from wire.access.v1.access_pb2 import LEVEL_DRAFT, LEVEL_REPORT, Case, Level, ListCasesRequest
from wire.reporting.v1.reporting_pb2 import (
    AddAddendumRequest,
    BreakLockRequest,
    ListReportsRequest,
    ReopenRequest,
    Report,
    UnlockRequest,
)

GROUP, FACILITY = (MARSH, VOS), (OKAFOR,)


@pytest.fixture
def reading(world: World, readers: None) -> World:
    """The world in which people read."""
    return world


async def arrived(world: World, study: SyntheticCT, folder: Path) -> Case:
    """The study's case, once it is ready to read."""
    await send(world, CENTRAL, study, folder)
    await seen(world, VOS.login, study)

    async def ready() -> Case | None:
        case = await world.case(VOS.login, study.study_instance_uid)
        return case if case and case.study_status_id == "READY_TO_READ" else None

    case = await eventually(ready, within=30.0)
    assert case
    return case


async def obtain(world: World, case: Case, people: Sequence[Person], *expected: str) -> None:
    """Waits until each of the people obtains exactly this."""
    for person in people:
        told: tuple[str, ...] = ()

        async def so(person: Person = person) -> bool:
            nonlocal told
            told = (await Obtained.by(world, person, case.study_instance_uid)).told
            assert told == expected, person.login
            return True

        await eventually(so, within=10.0)


async def reports(world: World, person: Person, case: Case) -> Sequence[Report]:
    readroom = await world.acting_as(person.login)
    return (await readroom.reporting.ListReports(ListReportsRequest(case_id=case.case_id))).reports


@pytest.mark.proves("REP-13", part="list and reports end to end")
@pytest.mark.proves("REP-12", part="list and reports end to end")
@pytest.mark.proves("REP-3", part="list and reports end to end")
@pytest.mark.proves("REP-4", part="list and reports end to end")
@pytest.mark.proves("ACC-6")
async def test_a_case_is_pre_read_then_read_and_each_side_obtains_its_own(
    reading: World, tmp_path: Path
) -> None:
    world, everybody = reading, (*GROUP, *FACILITY)
    case = await arrived(world, small("journey-of-a-reading", "MS44"), tmp_path)
    await obtain(world, case, everybody, "READY_TO_READ")

    await locks(VOS)(world, case.case_id)
    held = ("READY_TO_READ, locked by Dr Eva Vos", "lock of Dr Eva Vos")
    await obtain(world, case, everybody, *held)
    assert isinstance(await refusal(locks(MARSH)(world, case.case_id)), Conflict)

    await drafts(VOS, "nodule?")(world, case.case_id)
    dictated = ("DICTATED, locked by Dr Eva Vos", "lock of Dr Eva Vos")
    await obtain(world, case, GROUP, *dictated, "draft of Dr Eva Vos “nodule?”")
    await obtain(world, case, FACILITY, *held)

    pre_read = "report pre-read of Dr Eva Vos “nodule”"
    await completes(VOS, PRE_READ, "nodule")(world, case.case_id)
    await obtain(world, case, GROUP, "READY_TO_READ, pre-read", pre_read)
    await obtain(world, case, FACILITY, "READY_TO_READ")

    preliminary = "report preliminary of Dr Iris Marsh “first look”"
    await locks(MARSH)(world, case.case_id)
    await completes(MARSH, PRELIMINARY, "first look")(world, case.case_id)
    await obtain(world, case, GROUP, "READ, preliminary, pre-read", pre_read, preliminary)
    await obtain(world, case, FACILITY, "READ, preliminary", preliminary)

    final = "report final of Dr Iris Marsh “nodule, benign”"
    await locks(MARSH)(world, case.case_id)
    await completes(MARSH, FINAL, "nodule, benign")(world, case.case_id)
    await obtain(world, case, GROUP, "READ, preliminary, final, pre-read", pre_read, preliminary, final)
    await obtain(world, case, FACILITY, "READ, preliminary, final", preliminary, final)

    marsh = await world.acting_as(MARSH.login)
    *_, last = await reports(world, OKAFOR, case)
    addendum = AddAddendumRequest(case_id=case.case_id, report_id=last.report_id, text="6 mm")
    await marsh.reporting.AddAddendum(addendum)
    added = (preliminary, final, "addendum final of Dr Iris Marsh “6 mm”")
    await obtain(world, case, FACILITY, "READ, preliminary, final", *added)
    await marsh.reporting.Reopen(ReopenRequest(case_id=case.case_id))
    await obtain(world, case, FACILITY, "READY_TO_READ, preliminary, final", *added)

    # Okafor may view only: they write nothing, and fetch the images when they may view studies, too.
    for act in (locks(OKAFOR), drafts(OKAFOR, "x")):
        assert isinstance(await refusal(act(world, case.case_id)), Denied)
    okafor = await world.acting_as(OKAFOR.login)
    fetch = fetch_case(okafor, case.case_id, tmp_path / "not fetched", Silent())
    assert isinstance(await refusal(fetch), NotFound)
    await world.permit(OKAFOR, "study.view_images", ENDPOINT)
    assert len(await fetch_case(okafor, case.case_id, tmp_path / "fetched", Silent())) == case.instance_count


@pytest.mark.drill
@pytest.mark.proves("REP-18", part="end to end")
@pytest.mark.proves("ACC-7", part="end to end")
async def test_who_loses_the_right_while_he_reads_keeps_his_text_as_a_draft(
    reading: World, tmp_path: Path
) -> None:
    world = reading
    case = await arrived(world, small("right-is-lost", "MS44"), tmp_path)
    await locks(VOS)(world, case.case_id)
    try:
        await set_level(world, VOS, LEVEL_DRAFT)
        refused = await refusal(completes(VOS, FINAL, "written before")(world, case.case_id))
    finally:
        await set_level(world, VOS, LEVEL_REPORT)

    assert isinstance(refused, Denied)
    await obtain(world, case, GROUP, "DICTATED", "draft of Dr Eva Vos “written before”")
    await obtain(world, case, FACILITY, "READY_TO_READ")


async def set_level(world: World, person: Person, level: "Level.ValueType") -> None:
    await world.set_privilege(
        person.login, ENDPOINT, level, read_types=[FINAL, PRE_READ] if level == LEVEL_REPORT else ()
    )


@pytest.mark.drill
async def test_only_who_may_breaks_a_lock_and_its_holder_is_told(reading: World, tmp_path: Path) -> None:
    world = reading
    case = await arrived(world, small("lock-is-broken", "MS44"), tmp_path)
    await locks(VOS)(world, case.case_id)
    okafor = await world.acting_as(OKAFOR.login)

    refused = await refusal(okafor.reporting.BreakLock(BreakLockRequest(case_id=case.case_id)))

    assert isinstance(refused, Denied)
    assert await refusal(drafts(OKAFOR, "mine")(world, case.case_id))
    await obtain(world, case, FACILITY, "READY_TO_READ, locked by Dr Eva Vos", "lock of Dr Eva Vos")


async def answers(world: World, case: Case) -> list[bytes]:
    """What Okafor obtains of a case, its ids and times replaced by the order in which they appear."""
    canon = Canon()
    found = await Obtained.by(world, OKAFOR, case.study_instance_uid)
    found.case.study_instance_uid = found.case.case_id  # an id, too, though the sender's
    return [canon.message(message) for message in (found.case, found.written)]


async def page(world: World) -> bytes:
    """Okafor's worklist, as it travels."""
    okafor = await world.acting_as(OKAFOR.login)
    return (await okafor.access.ListCases(ListCasesRequest(page_size=500))).SerializeToString()


@pytest.mark.proves("BEY-11", part="list and reports end to end")
async def test_two_cases_that_differ_only_by_a_pre_read(reading: World, tmp_path: Path) -> None:
    world = reading
    twins = [small(name, "MS44") for name in ("twin", "other-twin")]
    having, without = await asyncio.gather(*(arrived(world, twin, tmp_path) for twin in twins))
    pre_reader, reader = [await world.acting_as(person.login) for person in (VOS, MARSH)]
    untouched = await page(world)

    async def compare(*told: str) -> None:
        for case in (having, without):
            await obtain(world, case, FACILITY, *told)
        assert await answers(world, having) == await answers(world, without)

    await compare("READY_TO_READ")
    for case in (having, without):
        await locks(VOS)(world, case.case_id)
    held = ("READY_TO_READ, locked by Dr Eva Vos", "lock of Dr Eva Vos")
    await compare(*held)
    await drafts(VOS, "nodule?")(world, having.case_id)
    await compare(*held)
    await completes(VOS, PRE_READ, "nodule")(world, having.case_id)
    await pre_reader.reporting.Unlock(UnlockRequest(case_id=without.case_id))
    await obtain(world, having, GROUP, "READY_TO_READ, pre-read", "report pre-read of Dr Eva Vos “nodule”")
    await compare("READY_TO_READ")
    assert await page(world) == untouched, "order and everything else of their worklist is what it was"

    (pre_read,) = await reports(world, MARSH, having)
    tries = [AddAddendumRequest(case_id=c.case_id, report_id=pre_read.report_id) for c in (having, without)]
    okafor = await world.acting_as(OKAFOR.login)
    for wanted in tries:
        wanted.text = "?"
    one, other = [await refusal(okafor.reporting.AddAddendum(wanted)) for wanted in tries]
    assert (type(one), str(one)) == (type(other), str(other))

    for case in (having, without):
        await locks(MARSH)(world, case.case_id)
        await completes(MARSH, FINAL, "benign")(world, case.case_id)
    await compare("READ, final", "report final of Dr Iris Marsh “benign”")
    for case in (having, without):
        await reader.reporting.Reopen(ReopenRequest(case_id=case.case_id))
    await compare("READY_TO_READ, final", "report final of Dr Iris Marsh “benign”")
