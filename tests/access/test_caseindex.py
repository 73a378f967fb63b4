"""The case index: what owners say, in any order, as often as they like."""

from dataclasses import replace
from datetime import timedelta
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import Unavailable
from kernel.ids import CaseId
from kernel.reading import PrivilegeLevel
from services.access.caseindex import IndexedCase, ListedCase, Placement
from services.access.domain import NO_SIGHT, Facility, User
from services.access.received import ReceivedStudy, StudyAttributes
from tests.access.builders import a_facility, a_placement, a_study, confirmed
from tests.access.conftest import ADMIN, Access
from tests.clocks import NOON
from tests.healing import heal


async def shown(access: Access, user: User) -> ListedCase:
    (case,) = await access.questions.list_cases(user.login, None, 10, at_least=0)
    return case


async def a_viewer(access: Access, *facilities: Facility) -> User:
    user = await access.user()
    for facility in facilities:
        await access.give(user, facility, PrivilegeLevel.VIEW)
    return user


@given(st.permutations([1, 2, 3, 3, 1]), st.permutations([1, 2, 3, 2, 1]))
def test_the_newest_of_each_owner_wins_in_any_order(placed: list[int], told: list[int]) -> None:
    study = a_study()
    placement = a_placement(a_facility().id, study)
    facilities = {version: a_facility().id for version in (1, 2, 3)}

    def placement_at(version: int) -> Placement:
        return replace(placement, version=version, facility_id=facilities[version])

    first = IndexedCase.first(replace(placement, version=0), [])
    case = first
    for version, study_version in zip(placed, told, strict=True):
        case = case.hear(
            placement_at(version),
            [replace(study, version=study_version, settled=study_version == 3)],
        )

    assert (3, facilities[3]) == (case.placement.version, case.placement.facility_id)
    assert [(3, True)] == [(each.version, each.settled) for each in case.studies]
    assert first.received_at == case.received_at


@pytest.mark.parametrize("settled", [(), (False,), (True,), (True, False), (True, True)])
def test_a_case_has_settled_once_each_study_has(settled: tuple[bool, ...]) -> None:
    studies = [a_study(settled=each) for each in settled]
    case = IndexedCase.first(a_placement(a_facility().id, *studies), studies)

    assert case.summary().settled == (settled in {(True,), (True, True)})


def test_a_case_whose_study_was_not_heard_has_not_settled_and_is_empty() -> None:
    summary = IndexedCase.first(a_placement(a_facility().id, a_study()), []).summary()

    assert (False, 0, StudyAttributes()) == (
        summary.settled,
        summary.instance_count,
        summary.attributes,
    )


async def test_a_placed_case_is_on_the_worklist_with_what_ingest_says(access: Access) -> None:
    facility = await access.facility("MS44")
    user = await a_viewer(access, facility)
    study = a_study(
        ("1.1", "CT", 3),
        attributes=StudyAttributes(
            "Doe^Jane", "4711", "19700101", "F", "20261101", "101500", "CT head", "A1", "Roe"
        ),
        received_at=NOON - timedelta(hours=1),
    )
    placement = a_placement(facility.id, study, undistributed=True)
    await access.hear(study, placement)

    case = await shown(access, user)

    assert (placement.case_id, facility.id, "MS44") == (case.case_id, case.facility_id, case.facility_name)
    assert (study.received_at, placement.study_instance_uid) == (case.received_at, case.study_instance_uid)
    assert study.attribute_sets[1] == case.summary.attributes
    assert (1, 3, ("CT",)) == (
        case.summary.series_count,
        case.summary.instance_count,
        case.summary.modalities_in_study,
    )
    assert case.undistributed


async def test_a_change_of_a_study_is_counted_and_received_at_stays(access: Access) -> None:
    facility = await access.facility()
    user = await a_viewer(access, facility)
    study = a_study(("1.1", "CT", 1))
    await access.hear(study, a_placement(facility.id, study))

    grown = a_study(
        ("1.1", "CT", 9), id=study.id, version=2, settled=True, received_at=NOON - timedelta(days=1)
    )
    await access.hear(grown)

    case = await shown(access, user)
    assert (9, "READY_TO_READ") == (case.summary.instance_count, case.study_status_id)
    assert study.received_at == case.received_at


async def test_what_is_older_changes_nothing(access: Access) -> None:
    facility, other = await access.facility(), await access.facility()
    user = await a_viewer(access, facility, other)
    study = a_study(("1.1", "CT", 9), version=5)
    placement = a_placement(facility.id, study, version=5)
    await access.hear(study, placement)
    before = await access.query("select * from cases")

    await access.hear(a_study(("1.1", "CT", 1), id=study.id, version=4))
    await access.hear(replace(placement, version=4, facility_id=other.id))
    await access.hear(replace(facility, name="Older", version=0))
    await access.hear(study, placement)

    assert before == await access.query("select * from cases")
    assert facility.name == (await shown(access, user)).facility_name


async def test_facts_in_any_order_end_alike(access: Access) -> None:
    facility, hub = await access.facility(), await access.facility()
    user = await a_viewer(access, facility)
    ends = set()
    for order in permutations(range(4)):
        study = a_study(("1.1", "CT", 1))
        grown = a_study(("1.1", "CT", 1), ("1.2", "MR", 2), id=study.id, version=2)
        placement = a_placement(hub.id, study, case_id=CaseId(study.id))
        access.owners.add(study, placement)
        told: list[Placement | ReceivedStudy] = [
            placement,
            grown,
            replace(placement, facility_id=facility.id, version=2),
            replace(placement, facility_id=facility.id, version=3, studies=(confirmed(grown, *grown.parts),)),
        ]
        for index in order:
            thing = told[index]
            # Who asks an owner gets the newest that there is.
            newest = (
                access.owners.placements[thing.case_id]
                if isinstance(thing, Placement)
                else access.owners.studies[thing.id]
            )
            await access.hear(max(thing, newest, key=lambda each: each.version))
        row = (await access.query("select * from cases where case_id = $1", placement.case_id))[0]
        ends.add(
            (row["facility_id"], row["series_count"], row["instance_count"], *row["modalities_in_study"])
        )
        await access.query("truncate cases, case_studies cascade")

    assert {(facility.id, 2, 3, "CT", "MR")} == ends
    assert [] == await access.worklist(user)


async def test_a_case_that_moves_moves_from_one_worklist_to_the_other(access: Access) -> None:
    hub, endpoint = await access.facility(), await access.facility()
    at_hub, at_endpoint = await a_viewer(access, hub), await a_viewer(access, endpoint)
    study = a_study()
    placement = a_placement(hub.id, study, undistributed=True)
    await access.hear(study, placement)
    revision = await access.revision()

    await access.hear(replace(placement, facility_id=endpoint.id, undistributed=False, version=2))

    assert NO_SIGHT == await access.check(at_hub, placement.case_id)
    assert [placement.case_id] == await access.worklist(at_endpoint)
    assert revision + 1 == await access.revision()


async def test_an_arrival_bumps_no_revision(access: Access) -> None:
    facility = await access.facility()
    revision = await access.revision()

    await access.case(facility)

    assert revision == await access.revision()


async def test_a_study_of_no_case_is_not_even_asked_for(access: Access) -> None:
    await access.hear(a_study())

    assert [] == access.owners.asked
    assert [] == await access.query("select * from case_studies")


async def test_ingest_is_asked_of_no_version_that_is_in_the_index(access: Access) -> None:
    study = a_study(version=2)
    placement = a_placement((await access.facility()).id, study)
    access.owners.add(study, placement)
    snapshots = await access.index.fetch_case(placement.case_id)
    assert await access.index.fetch_study(study.id, 1) == study, "it is expected, and not there yet"
    async with access.database.transaction() as transaction:
        await access.index.index_case(transaction, placement.case_id, snapshots)
    assert await access.index.fetch_study(study.id, 2) is None
    assert await access.index.fetch_study(study.id, 3) == study
    assert await access.index.fetch_study(study.id) == study, "healing asks whatever is known"


async def test_a_change_told_while_its_case_is_being_indexed_is_not_lost(access: Access) -> None:
    """Ingest answers, then the study grows and says so, and only then the case is committed."""
    facility = await access.facility()
    user = await a_viewer(access, facility)
    study = a_study(("1.1", "CT", 1))
    placement = a_placement(facility.id, study)
    access.owners.add(study, placement)
    snapshots = await access.index.fetch_case(placement.case_id)

    grown = a_study(("1.1", "CT", 2), id=study.id, version=2)
    with pytest.raises(Unavailable):
        await access.hear(grown)
    async with access.database.transaction() as transaction:
        await access.index.index_case(transaction, placement.case_id, snapshots)
    await access.hear(grown)

    assert 2 == (await shown(access, user)).summary.instance_count


async def test_a_case_that_routing_no_longer_knows_is_forgotten(access: Access) -> None:
    facility = await access.facility()
    user = await a_viewer(access, facility)
    study = a_study()
    placement = a_placement(facility.id, study)
    await access.hear(study, placement)
    await access.folders.grant_case(ADMIN, placement.case_id, user.id)
    await access.folders.put_in_folder(ADMIN, await access.folder(user), placement.case_id)
    del access.owners.placements[placement.case_id]

    snapshots = await access.index.fetch_case(placement.case_id)
    async with access.database.transaction() as transaction:
        await access.index.index_case(transaction, placement.case_id, snapshots)

    assert [] == await access.worklist(user)
    assert [] == await access.query("select * from case_studies")


async def test_of_a_known_case_nothing_is_asked_twice(access: Access) -> None:
    facility = await access.facility()
    study = a_study()
    placement = a_placement(facility.id, study)
    await access.hear(study, placement)

    access.owners.asked.clear()
    await access.hear(replace(placement, version=2))

    assert [study.id] == access.owners.asked


async def test_what_no_fact_told_heals(access: Access) -> None:
    facility = a_facility("North")
    study = a_study(("1.1", "CT", 1))
    unplaced = a_study()
    placement = a_placement(facility.id, study)
    access.owners.add(facility, study, unplaced, placement)

    assert 2 == await heal(
        access.database, access.index.kinds()
    )  # facility and case; the study comes with its case
    user = await a_viewer(access, facility)
    assert (facility.name, 1) == (
        (await shown(access, user)).facility_name,
        (await shown(access, user)).summary.instance_count,
    )

    access.owners.add(
        replace(facility, name="Renamed", version=2), a_study(("1.1", "CT", 2), id=study.id, version=2)
    )
    assert 2 == await heal(access.database, access.index.kinds())
    case = await shown(access, user)
    assert ("Renamed", 2) == (case.facility_name, case.summary.instance_count)
    assert 0 == await heal(access.database, access.index.kinds())


async def test_healing_goes_through_every_page(access: Access) -> None:
    facilities = [a_facility(f"F{number}") for number in range(501)]
    access.owners.add(*facilities)

    assert 501 == await heal(access.database, access.index.kinds())


async def test_text_that_looks_like_sql_is_text(access: Access) -> None:
    facility = await access.facility()
    user = await a_viewer(access, facility)
    name = "O'Brien^\"; drop table cases; --%_\\"
    study = a_study(attributes=StudyAttributes(patient_name=name))
    await access.hear(study, a_placement(facility.id, study))

    assert name == (await shown(access, user)).summary.attributes.patient_name
