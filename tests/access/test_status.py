"""StudyStatusID: tests/cases/status.yaml, from what reporting makes of acts to what both worklists show."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from kernel.ids import CaseId
from kernel.reading import DraftState, PrivilegeLevel, ReadType, Side
from services.access.caseindex import ListedCase
from services.access.domain import Facility, Role, User
from services.access.reading import NOT_READ, AtLock, Projection
from services.access.status import Known, ReadingState, Status, study_status_id
from services.reporting import domain as reporting
from services.reporting import projections
from services.reporting.sight import SIDES
from tests.access.builders import a_lock, a_placement, a_reading, a_study
from tests.access.conftest import Access
from tests.clocks import NOON

CASES: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parents[1] / "cases/status.yaml").read_text())

DICTATED = Projection(draft=DraftState.DICTATED)


async def both_sides(access: Access, facility: Facility) -> tuple[User, User]:
    """Somebody of the group, and somebody of the facility."""
    radiologist, physician = await access.user(), await access.user(Role.REFERRING_PHYSICIAN)
    for user in (radiologist, physician):
        await access.give(user, facility, PrivilegeLevel.VIEW)
    return radiologist, physician


async def shown(access: Access, user: User) -> ListedCase:
    (case,) = await access.questions.list_cases(user.login, None, 10, at_least=0)
    return case


async def stored(access: Access, *columns: str) -> tuple[Any, ...]:
    """What filters read of the only case."""
    (row,) = await access.query(f"select {', '.join(columns)} from cases")
    return tuple(row)


def written(case: Mapping[str, Any], case_id: CaseId) -> reporting.Reading:
    """The reading after these acts."""
    reading = reporting.Reading(case_id, draft=DraftState(case.get("draft", "none")))
    for name in ("reports", "reopened", "then"):
        if name == "reopened":
            reading = reading.reopen(NOON) if case.get(name) else reading
            continue
        for read_type in case.get(name, ()):
            reading = reading.issue(ReadType(read_type), NOON)
    return reading


def told(reading: reporting.Reading, side: Side) -> Projection:
    """What access makes of it for a side."""
    projection = projections.project(reading, SIDES[side])
    return Projection(
        ReadingState(projection.state),
        None,
        frozenset(projection.read_types),
        projection.reported_at,
        draft=projection.draft,
    )


@pytest.mark.proves("A64")
@pytest.mark.parametrize("case", [pytest.param(each, id=each["case"]) for each in CASES])
async def test_case(access: Access, case: dict[str, Any]) -> None:
    facility = await access.facility()
    radiologist, physician = await both_sides(access, facility)
    case_id = await access.case(
        facility, a_study(settled={"settled": True, "arriving": False}[case["images"]])
    )
    if case.get("assigned"):
        await access.query(
            "update cases set assignee_id = $1, assigned_at = $2", radiologist.id, access.clock.now()
        )
    reading = written(case, case_id)
    await access.hear(a_reading(case_id, told(reading, Side.GROUP), told(reading, Side.FACILITY)))

    expected = (case["group"], case["facility"])
    assert expected == tuple(
        [(await shown(access, each)).study_status_id for each in (radiologist, physician)]
    )
    assert expected == await stored(access, "status_group", "status_facility")


def test_every_case_is_another_and_every_status_is_met() -> None:
    assert len(CASES) == len({each["case"] for each in CASES})
    assert {*Status} == {Status(each["group"]) for each in CASES}
    of_the_facility = {Status.READ, Status.IN_TRANSMIT, Status.READY_TO_READ}
    assert of_the_facility == {Status(each["facility"]) for each in CASES}


@pytest.mark.proves("A59", part="drafts and assignees in the status")
def test_no_draft_and_no_assignee_changes_the_status_of_the_facility_side() -> None:
    for settled, state in product((False, True), ReadingState):
        bare = study_status_id(Known(settled, state))
        for draft, is_assigned in product(DraftState, (False, True)):
            assert bare is study_status_id(Known(settled, state, draft, is_assigned).to(Side.FACILITY))


async def test_what_follows_the_reading_is_kept_for_filters_of_each_side(access: Access) -> None:
    facility = await access.facility()
    case_id = await access.case(facility, a_study(settled=True))
    types = ("reported_types_group", "reported_types_facility")
    assert ([], []) == await stored(access, *types)

    public = Projection(ReadingState.FINAL, None, frozenset({ReadType.PRELIMINARY, ReadType.FINAL}), NOON)
    group = replace(public, read_types=public.read_types | {ReadType.PRE_READ})
    await access.hear(a_reading(case_id, group, public))

    assert (["FINAL", "PRELIMINARY", "PRE_READ"], ["FINAL", "PRELIMINARY"]) == await stored(access, *types)


@pytest.mark.parametrize("reading_first", [True, False])
async def test_case_and_reading_in_either_order_end_alike(access: Access, reading_first: bool) -> None:
    facility = await access.facility()
    study = a_study(settled=True)
    placement = a_placement(facility.id, study)
    reading = a_reading(placement.case_id, DICTATED, NOT_READ)
    access.owners.add(study)
    for thing in (reading, placement) if reading_first else (placement, reading):
        await access.hear(thing)

    assert ("DICTATED", "READY_TO_READ") == await stored(access, "status_group", "status_facility")


# The lock


@pytest.mark.proves("A64", part="as it was when the lock began")
async def test_for_the_holder_of_the_lock_it_is_kept_how_the_reading_stood(access: Access) -> None:
    facility = await access.facility()
    case_id = await access.case(facility, a_study(settled=True))
    lock = a_lock("Dr. Roe")
    stood = AtLock(ReadingState.PRELIMINARY, DraftState.NONE, frozenset({ReadType.PRELIMINARY}))
    group = Projection(ReadingState.PRELIMINARY, lock, stood.read_types, NOON, draft=DraftState.DICTATED)
    columns = ("status_group", "status_at_lock", "reported_types_at_lock", "locked_by", "locked_until")

    await access.hear(replace(a_reading(case_id, group), at_lock=stood))
    assert ("DICTATED", "READ", ["PRELIMINARY"], "dr. roe", lock.ends_at) == await stored(access, *columns)

    await access.hear(a_reading(case_id, replace(group, lock=None), version=2))
    assert ("DICTATED", None, [], "", None) == await stored(access, *columns)


async def test_where_reporting_knows_nothing_of_it_the_holder_has_what_is_so_now(access: Access) -> None:
    facility = await access.facility()
    case_id = await access.case(facility, a_study(settled=True))
    await access.hear(a_reading(case_id, replace(DICTATED, lock=a_lock())))

    assert ("DICTATED", "DICTATED") == await stored(access, "status_group", "status_at_lock")


# The version before


async def test_what_the_version_before_has_heard_is_heard_again(access: Access) -> None:
    """It keeps a reading and derives nothing from it; the status would stay what it was."""
    facility = await access.facility()
    case_id = await access.case(facility, a_study(settled=True))
    await access.hear(a_reading(case_id, NOT_READ, version=1))
    access.owners.add(a_reading(case_id, DICTATED, NOT_READ, version=2))
    await access.query("update readings set version = 2, drafted = true")

    assert [case_id] == await stale(access, case_id, 2)
    await access.hear(access.owners.readings[case_id])

    assert ("DICTATED",) == await stored(access, "status_group")
    assert [] == await stale(access, case_id, 2)


async def test_an_old_row_waits_for_its_turn_and_is_listed_with_its_status(access: Access) -> None:
    facility = await access.facility()
    radiologist, _ = await both_sides(access, facility)
    case_id = await access.case(facility, a_study(settled=True))
    final = Projection(ReadingState.FINAL, None, frozenset({ReadType.FINAL}), NOON)
    await access.hear(a_reading(case_id, final))
    await access.query("update readings set derived_version = null")
    await access.query("update cases set status_group = null, status_facility = null")

    assert Status.READ is (await shown(access, radiologist)).study_status_id
    assert [] == await stale(access, case_id, 1)


async def test_what_the_version_before_writes_of_a_case_leaves_no_status_until_it_is_derived_again(
    access: Access,
) -> None:
    """It says that the images have settled, and knows of no status: filters would ask for the old one."""
    facility = await access.facility()
    radiologist, _ = await both_sides(access, facility)
    case_id = await access.case(facility, a_study(settled=False))
    statuses = ("status_group", "status_facility")
    assert ("IN_TRANSMIT",) * 2 == await stored(access, *statuses)

    await access.query("update cases set settled = true, version = version + 1")

    assert (None, None) == await stored(access, *statuses)
    assert Status.READY_TO_READ is (await shown(access, radiologist)).study_status_id
    async with access.database.statements() as statements:
        assert [case_id] == await statements.outdated(None, 10)
    await access.index.describe_again(case_id)
    assert ("READY_TO_READ",) * 2 == await stored(access, *statuses)


async def test_a_move_that_the_version_before_heard_ends_the_assignment_too(access: Access) -> None:
    facility, other = await access.facility(), await access.facility()
    radiologist, _ = await both_sides(access, facility)
    await access.case(facility)
    await access.query("update cases set assignee_id = $1, assigned_at = $2", radiologist.id, NOON)
    await access.query("update cases set undistributed = true, version = version + 1")
    assert (radiologist.id,) == await stored(access, "assignee_id")

    await access.query("update cases set facility_id = $1, version = version + 1", other.id)

    assert (None, None) == await stored(access, "assignee_id", "assigned_at")


async def test_of_an_older_snapshot_nothing_is_taken(access: Access) -> None:
    facility = await access.facility()
    case_id = await access.case(facility, a_study(settled=True))
    await access.hear(a_reading(case_id, DICTATED, NOT_READ, version=2))
    await access.query("update readings set derived_version = null")

    await access.hear(a_reading(case_id, NOT_READ, version=1))

    assert ("DICTATED",) == await stored(access, "status_group")


async def test_a_lock_that_is_renewed_changes_no_version_of_the_case(access: Access) -> None:
    facility = await access.facility()
    case_id = await access.case(facility, a_study(settled=True))
    (before,) = await stored(access, "version")
    lock = a_lock()
    for version in (1, 2):
        lock = replace(lock, ends_at=lock.ends_at + timedelta(minutes=5))
        await access.hear(a_reading(case_id, replace(NOT_READ, lock=lock), version=version))

    assert (before, lock.ends_at) == await stored(access, "version", "locked_until")


async def stale(access: Access, case_id: CaseId, version: int) -> list[CaseId]:
    async with access.database.statements() as statements:
        return await statements.stale_readings({case_id: version})


def test_access_and_reporting_mean_the_same_states() -> None:
    assert {each.value for each in projections.State} == {each.value for each in ReadingState}
