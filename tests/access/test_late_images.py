"""Images that come after the report: counted for each side, in any order of facts, by access's own clock."""

from dataclasses import replace
from datetime import timedelta
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.reading import PrivilegeLevel, ReadType
from services.access.caseindex import IndexedCase, Placement
from services.access.domain import Facility, Role, User
from services.access.late import LateImages
from services.access.reading import NOT_READ, Projection, Reading
from services.access.received import FIRST_PART, ReceivedStudy
from services.access.status import ReadingState
from tests.access.builders import a_facility, a_part, a_placement, a_reading, a_study, confirmed
from tests.access.conftest import Access
from tests.clocks import NOON

MINUTE = timedelta(minutes=1)


def final(instance_count: int | None) -> Projection:
    return Projection(
        ReadingState.FINAL, None, frozenset({ReadType.FINAL}), NOON, instance_count=instance_count
    )


def pre_read(instance_count: int | None) -> Projection:
    return Projection(
        read_types=frozenset({ReadType.PRE_READ}), reported_at=NOON, instance_count=instance_count
    )


def grown(study: ReceivedStudy, instance_count: int, version: int, **changes: object) -> ReceivedStudy:
    return a_study(("1.1", "CT", instance_count), id=study.id, version=version, **changes)


async def late(access: Access, facility: Facility) -> list[LateImages | None]:
    """What the lists of the group side and of the facility side say of the only case, and Check too."""
    found = []
    for role in (Role.RADIOLOGIST, Role.REFERRING_PHYSICIAN):
        user = await a_viewer(access, facility, role)
        (case,) = await access.questions.list_cases(user.login, None, 10, at_least=0)
        decision, _ = await access.questions.check(
            user.login, case.case_id, images=False, at_least=0, late_images=True
        )
        assert case.late == decision.late
        found.append(case.late)
    return found


async def a_viewer(access: Access, facility: Facility, role: Role) -> User:
    user = await access.user(role)
    await access.give(user, facility, PrivilegeLevel.VIEW)
    return user


async def grown_facts(access: Access) -> list[tuple[str, int]]:
    return [(id_, version) for subject, id_, version in await access.facts() if subject == "case.grown.v1"]


async def test_what_comes_after_the_report_is_counted_until_a_report_has_seen_it(access: Access) -> None:
    facility = await access.facility()
    study = a_study(("1.1", "CT", 10))
    case_id = await access.case(facility, study)
    await access.hear(a_reading(case_id, final(10)))
    assert [None, None] == await late(access, facility)

    access.clock.pass_by(MINUTE)
    since = access.clock.now()
    await access.hear(grown(study, 12, 2))
    access.clock.pass_by(MINUTE)
    await access.hear(grown(study, 15, 3))
    assert [LateImages(5, since)] * 2 == await late(access, facility)

    # A report that has not seen all of them leaves the others.
    access.clock.pass_by(MINUTE)
    await access.hear(a_reading(case_id, final(14), version=2))
    assert [LateImages(1, access.clock.now())] * 2 == await late(access, facility)

    await access.hear(a_reading(case_id, final(15), version=3))
    assert [None, None] == await late(access, facility)


async def test_a_case_says_once_for_each_report_that_it_has_grown(access: Access) -> None:
    facility = await access.facility()
    study = a_study(("1.1", "CT", 10))
    case_id = await access.case(facility, study)
    await access.hear(a_reading(case_id, final(10)))
    assert [] == await grown_facts(access)

    await access.hear(grown(study, 12, 2))
    await access.hear(grown(study, 15, 3))
    first = await grown_facts(access)
    assert [str(case_id)] == [id_ for id_, _ in first]

    await access.hear(a_reading(case_id, final(15), version=2))
    assert first == await grown_facts(access)
    await access.hear(grown(study, 16, 4))
    second = await grown_facts(access)
    assert [str(case_id)] * 2 == [id_ for id_, _ in second]
    assert second[0][1] < second[1][1]


@pytest.mark.proves("REP-12", part="images since the report")
async def test_a_pre_read_counts_for_the_group_alone_and_only_before_a_public_report(access: Access) -> None:
    facility = await access.facility()
    study = a_study(("1.1", "CT", 10))
    case_id = await access.case(facility, study)
    await access.hear(a_reading(case_id, group=pre_read(10), facility=NOT_READ))
    await access.hear(grown(study, 12, 2))

    assert [LateImages(2, NOON), None] == await late(access, facility)


async def test_parts_that_are_released_after_the_report_count(access: Access) -> None:
    facility = await access.facility()
    study = a_study(a_part(instance_count=3), a_part(FIRST_PART + 1, series=(2,), instance_count=4))
    placement = a_placement(facility.id, confirmed(study, study.parts[0]))
    await access.hear(study, placement, a_reading(placement.case_id, final(3)))
    assert [None, None] == await late(access, facility)

    await access.hear(replace(placement, version=2, studies=(confirmed(study, *study.parts),)))

    assert [LateImages(4, NOON)] * 2 == await late(access, facility)


@pytest.mark.parametrize("told", [None, 0])
async def test_of_a_report_whose_count_nobody_knows_nothing_is_said(access: Access, told: int | None) -> None:
    facility = await access.facility()
    study = a_study(("1.1", "CT", 10))
    case_id = await access.case(facility, study)
    await access.hear(a_reading(case_id, final(None if told is None else 10)))
    await access.hear(a_reading(case_id, final(None), version=2))
    await access.hear(grown(study, 11, 2))

    expected = None if told is None else LateImages(1, NOON)
    assert [expected] * 2 == await late(access, facility)


async def test_fewer_images_than_at_the_report_are_not_late(access: Access) -> None:
    """Access heard of twelve when the report was signed, was restored from a backup, and hears again."""
    facility = await access.facility()
    study = a_study(("1.1", "CT", 10))
    case_id = await access.case(facility, study)
    await access.hear(a_reading(case_id, final(12)))

    assert [None, None] == await late(access, facility)
    await access.hear(grown(study, 13, 2))
    assert [LateImages(1, NOON)] * 2 == await late(access, facility)


async def test_facts_in_any_order_and_again_end_alike(access: Access) -> None:
    """Also with owners that answer late, so that an older snapshot is heard after a newer one."""
    facility = await access.facility()
    study = a_study(("1.1", "CT", 10))
    placement = a_placement(facility.id, study)
    things: list[Reading | Placement | ReceivedStudy] = [
        placement,
        a_reading(placement.case_id, final(10), version=1),
        a_reading(placement.case_id, final(12), version=2),
        grown(study, 15, 2),
    ]
    for order in permutations(range(len(things))):
        access.owners.add(study)
        for index in (*order, *order):
            await access.hear(things[index])
        assert [LateImages(3, NOON)] * 2 == await late(access, facility), order
        assert await grown_facts(access), order
        await access.query("truncate cases, case_studies, readings, outbox cascade")


# What had settled once


def settled(case: IndexedCase) -> bool:
    return case.summary().settled


@pytest.mark.proves("A55", part="what comes later changes a count, no status")
async def test_a_case_that_was_ready_to_read_stays_so_when_more_images_come(access: Access) -> None:
    facility = await access.facility()
    user = await a_viewer(access, facility, Role.RADIOLOGIST)
    study = a_study(("1.1", "CT", 10), settled=True)
    await access.case(facility, study)

    async def shown() -> tuple[str, int]:
        (case,) = await access.questions.list_cases(user.login, None, 10, at_least=0)
        return case.study_status_id, case.summary.instance_count

    assert ("READY_TO_READ", 10) == await shown()
    await access.hear(grown(study, 12, 2, settled=False))
    assert ("READY_TO_READ", 12) == await shown()
    await access.hear(grown(study, 12, 3, settled=True))
    assert ("READY_TO_READ", 12) == await shown()


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(1, 5), st.booleans()), max_size=12))
def test_a_case_never_goes_back_and_ends_by_the_newest_snapshots(
    told: list[tuple[int, int, bool]],
) -> None:
    """An owner's version has one content; what is heard in the end has settled, whatever came before."""
    studies = [a_study() for _ in range(2)]
    content: dict[tuple[int, int], bool] = {}
    case = IndexedCase.first(a_placement(a_facility().id, *studies), [])
    for index, version, has_settled in told:
        has_settled = content.setdefault((index, version), has_settled)
        before = settled(case)
        case = case.hear(None, [replace(studies[index], version=version, settled=has_settled)])
        assert settled(case) >= before
    case = case.hear(None, [replace(study, version=9, settled=True) for study in studies])
    assert settled(case)


async def test_a_study_that_joins_a_case_that_was_ready_leaves_it_ready(access: Access) -> None:
    facility = await access.facility()
    user = await a_viewer(access, facility, Role.RADIOLOGIST)
    study, other = a_study(settled=True), a_study()
    placement = a_placement(facility.id, study)
    await access.hear(study, placement)

    await access.hear(
        other,
        replace(
            placement, version=2, studies=(confirmed(study, *study.parts), confirmed(other, *other.parts))
        ),
    )

    (case,) = await access.questions.list_cases(user.login, None, 10, at_least=0)
    assert ("READY_TO_READ", 2) == (case.study_status_id, case.summary.instance_count)
