"""How many instances the case had when it was reported: what came later is told apart from it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.reading import ReadType, Side
from services.reporting.domain import Reading
from services.reporting.projections import project
from services.reporting.sight import SIDES
from tests.clocks import NOON
from tests.reporting.builders import a_sight
from tests.reporting.conftest import Reporting, a_case

PRELIMINARY, FINAL, OTHER, PRE_READ = (
    ReadType.PRELIMINARY,
    ReadType.FINAL,
    ReadType.OTHER,
    ReadType.PRE_READ,
)


def counts(reading: Reading) -> tuple[int | None, int | None]:
    """Group side, facility side."""
    return (
        project(reading, SIDES[Side.GROUP]).instance_count,
        project(reading, SIDES[Side.FACILITY]).instance_count,
    )


@pytest.mark.parametrize(
    ("signed", "group", "facility"),
    [
        ([], None, None),
        ([(FINAL, 10)], 10, 10),
        ([(FINAL, None)], None, None),
        ([(PRE_READ, 10)], 10, None),
        ([(PRE_READ, 10), (FINAL, 12)], 12, 12),
        # The pre-read of a reopened case answers for nothing that the final report has not seen.
        ([(FINAL, 10), (PRE_READ, 12)], 10, 10),
        ([(FINAL, None), (PRE_READ, 12)], None, None),
        ([(PRELIMINARY, 10), (PRELIMINARY, 12), (OTHER, 11)], 12, 12),
        ([(FINAL, 10), (OTHER, None)], 10, 10),
    ],
)
def test_images_are_counted_from_the_last_report_that_counts(
    signed: list[tuple[ReadType, int | None]], group: int | None, facility: int | None
) -> None:
    reading = Reading(a_case())
    for read_type, count in signed:
        reading = reading.issue(read_type, NOON, count)

    assert (group, facility) == counts(reading)


@pytest.mark.proves("REP-9", part="images since the report")
@given(st.lists(st.tuples(st.sampled_from(ReadType), st.booleans(), st.none() | st.integers(1, 9))))
def test_no_pre_read_changes_from_where_the_facility_side_counts(
    signed: list[tuple[ReadType, bool, int | None]],
) -> None:
    having = without = Reading(a_case())
    for read_type, is_addendum, count in signed:
        for _ in "once", "or twice":
            having = having.add(read_type, count) if is_addendum else having.issue(read_type, NOON, count)
        if read_type is not PRE_READ:
            without = without.add(read_type, count) if is_addendum else without.issue(read_type, NOON, count)

    facility = SIDES[Side.FACILITY]
    assert project(replace(without, version=having.version), facility) == project(having, facility)


async def test_a_report_keeps_how_many_instances_access_named_at_its_commit(reporting: Reporting) -> None:
    vos = reporting.user("vos", a_sight(instance_count=10))
    await vos.lock()
    reporting.access.answers = [lambda: a_sight(instance_count=10), lambda: a_sight(instance_count=12)]
    report = await vos.complete(FINAL, "nodule")

    assert 12 == report.instance_count
    assert [12] == [row[0] for row in await reporting.query("select instance_count from reports")]
    described = await reporting.described()
    assert (12, 12) == (described.group.instance_count, described.facility.instance_count)


async def test_an_addendum_is_signed_with_the_images_that_came_and_is_told(reporting: Reporting) -> None:
    vos = reporting.user("vos", a_sight(instance_count=10))
    await vos.lock()
    report = await vos.complete(FINAL, "nodule")
    reporting.user("vos", a_sight(instance_count=15))
    before = await reporting.described()

    await vos.add_addendum(report.id, "the five new images show no more")

    after = await reporting.described()
    assert (10, 15) == (before.facility.instance_count, after.facility.instance_count)
    assert before.version + 1 == after.version
    assert after.version == (await reporting.facts())[-1][2]
    # The same again changes nothing that is told.
    await vos.add_addendum(report.id, "nor does the skull")
    assert after == await reporting.described()


async def test_what_access_does_not_say_nobody_knows(reporting: Reporting) -> None:
    vos = reporting.user("vos", a_sight())
    await vos.lock()
    report = await vos.complete(FINAL, "nodule")

    assert (await reporting.described()).group.instance_count is None
    await vos.add_addendum(report.id, "more")
    assert (await reporting.described()).group.instance_count is None
    reporting.user("vos", a_sight(instance_count=3))
    await vos.add_addendum(report.id, "and more")
    assert 3 == (await reporting.described()).group.instance_count


async def test_a_pre_read_and_its_addenda_move_the_count_of_the_group_alone(reporting: Reporting) -> None:
    vos = reporting.user("vos", a_sight(instance_count=10))
    await vos.lock()
    pre_read = await vos.complete(PRE_READ, "nodule?")
    reporting.user("vos", a_sight(instance_count=11))
    await vos.add_addendum(pre_read.id, "no")

    described = await reporting.described()
    assert (11, None) == (described.group.instance_count, described.facility.instance_count)
