"""Patient records: which cases are of one patient, and what becomes of a record (A7)."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kernel.ids import CaseId, DeletionId, FacilityId
from services.access.patients import MAX_SHARING, Link, LinkId, Patient, RecordId, persons
from services.access.received import StudyAttributes
from tests.access.builders import a_facility, a_placement, a_study
from tests.access.conftest import Access
from tests.clocks import NOON

CASES: list[dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parents[1] / "cases/patient_records.yaml").read_text()
)["cases"]
GIVEN = {"id": "P-1", "issuer": "", "name": "Doe^Jane", "born": "19700131"}
NORTH, SOUTH = a_facility("North").id, a_facility("South").id


def attributes(said: dict[str, str]) -> StudyAttributes:
    values = GIVEN | said
    return StudyAttributes(
        patient_name=values["name"],
        patient_id=values["id"],
        patient_birth_date=values["born"],
        issuer_of_patient_id=values["issuer"],
    )


JANE, JOHN = attributes({}), attributes({"name": "Roe^John", "born": "19500101", "id": "P-2"})


@pytest.mark.parametrize("entry", [pytest.param(each, id=each["case"]) for each in CASES])
def test_which_cases_are_of_one_patient(entry: dict[str, Any]) -> None:
    elsewhere = SOUTH if entry.get("facilities") == "two" else NORTH
    one = Patient.of(attributes(entry.get("first", {})), NORTH)
    other = Patient.of(attributes(entry.get("second", {})), elsewhere)

    agree = one is not None and other is not None and one.agrees(other)
    assert entry["one"] == agree
    assert agree == (one is not None and other is not None and other.agrees(one))


IDS = [RecordId(UUID(int=number)) for number in range(8)]


@given(st.lists(st.tuples(st.sampled_from(IDS), st.sampled_from(IDS)).filter(lambda pair: pair[0] < pair[1])))
def test_a_person_is_all_records_that_links_join_in_whatever_order(
    pairs: list[tuple[RecordId, RecordId]],
) -> None:
    links = [Link(LinkId(uuid4()), one, other, "ada", NOON) for one, other in pairs]
    found = persons(IDS, links)

    reached = {each: {each} for each in IDS}
    for _ in IDS:
        for one, other in pairs:
            reached[one] |= reached[other]
            reached[other] |= reached[one]
    assert {each: min(reached[each]) for each in IDS} == found
    assert found == persons(reversed(IDS), reversed(links))


# In the index


async def of(access: Access, *case_ids: CaseId) -> list[tuple[UUID | None, UUID | None]]:
    """Record and person of each case."""
    rows = await access.query("select case_id, patient_record_id, person_id from cases")
    found = {row[0]: (row[1], row[2]) for row in rows}
    return [found[case_id] for case_id in case_ids]


async def records(access: Access) -> set[tuple[str, str, UUID | None, str]]:
    rows = await access.query("select patient_id, issuer, facility_id, patient_name from patients")
    return {tuple(row) for row in rows}


async def a_case(access: Access, facility_id: FacilityId, said: StudyAttributes = JANE) -> CaseId:
    study = a_study(attributes=said)
    placement = a_placement(facility_id, study)
    await access.hear(study, placement)
    return placement.case_id


async def test_cases_of_a_patient_share_a_record_and_others_have_their_own(access: Access) -> None:
    north, south = await access.facility(), await access.facility()
    first, second = await a_case(access, north.id), await a_case(access, north.id)
    elsewhere, nobody = (
        await a_case(access, south.id),
        await a_case(access, north.id, StudyAttributes("Doe^Jane")),
    )

    (one, person), same, other, none = await of(access, first, second, elsewhere, nobody)
    assert (one, person) == same
    assert one is not None
    assert one == person
    assert other[0] not in {None, one}
    assert (None, None) == none


async def test_a_correction_files_a_case_anew_and_a_record_without_a_case_goes(access: Access) -> None:
    north = await access.facility()
    study = a_study(attributes=JANE)
    placement = a_placement(north.id, study)
    await access.hear(study, placement)

    await access.hear(replace(study, version=2, attribute_sets={1: JOHN}))

    assert {("P-2", "", north.id, "Roe^John")} == await records(access)
    ((record, person),) = await of(access, placement.case_id)
    assert record == person is not None

    await access.hear(replace(study, version=3, attribute_sets={1: StudyAttributes()}))
    assert set() == await records(access)
    assert [(None, None)] == await of(access, placement.case_id)


async def test_a_name_that_is_corrected_is_nowhere_any_more(access: Access) -> None:
    north = await access.facility()
    study = a_study(attributes=replace(JANE, patient_name="Doee^Jane"))
    placement = a_placement(north.id, study)
    await access.hear(study, placement)

    await access.hear(replace(study, version=2, attribute_sets={1: JANE}))

    assert {("P-1", "", north.id, "Doe^Jane")} == await records(access)


async def test_a_move_files_a_case_at_its_new_facility_unless_the_number_has_an_issuer(
    access: Access,
) -> None:
    north, south = await access.facility(), await access.facility()
    region = replace(JANE, issuer_of_patient_id="REGION")
    local, regional = a_study(attributes=JANE), a_study(attributes=region)
    at = [a_placement(north.id, study) for study in (local, regional)]
    await access.hear(local, regional, *at)
    before = await of(access, *(each.case_id for each in at))

    await access.hear(*(replace(each, facility_id=south.id, version=2) for each in at))

    after = await of(access, *(each.case_id for each in at))
    assert before[0] != after[0]
    assert before[1] == after[1]
    assert {("P-1", "", south.id, "Doe^Jane"), ("P-1", "REGION", None, "Doe^Jane")} == await records(access)


async def test_a_purged_case_takes_its_words_out_of_the_record_and_the_last_one_the_record(
    access: Access,
) -> None:
    north = await access.facility()
    first = await a_case(access, north.id, replace(JANE, patient_name="Planted^Jane"))
    second = await a_case(access, north.id)
    assert 1 == len(set(await of(access, first, second)))

    await purge(access, first)
    assert {("P-1", "", north.id, "Doe^Jane")} == await records(access)
    await purge(access, second)
    assert set() == await records(access)


async def test_a_case_that_routing_no_longer_knows_takes_its_record_with_it(access: Access) -> None:
    north = await access.facility()
    case_id = await a_case(access, north.id)
    del access.owners.placements[case_id]

    snapshots = await access.index.fetch_case(case_id)
    async with access.database.transaction() as transaction:
        await access.index.index_case(transaction, case_id, snapshots)

    assert set() == await records(access)


async def test_a_number_that_too_many_patients_share_says_nothing_of_any_more(access: Access) -> None:
    """Else each case of theirs would be compared with all that came before, while others wait."""
    north = await access.facility()
    await access.query(
        """
        insert into patients (patient_record_id, patient_id, issuer, facility_id, patient_name,
            patient_birth_date, person_id)
        select id, 'P-1', '', $1, 'Patient^' || number, '19000101', id
        from (select gen_random_uuid() as id, number from generate_series(1, $2::int) as n (number)) made
        """,
        north.id,
        MAX_SHARING - 1,
    )
    last = await a_case(access, north.id)
    one_more = await a_case(access, north.id, replace(JANE, patient_birth_date="19990101"))

    (record, _), none = await of(access, last, one_more)
    assert record is not None
    assert (None, None) == none
    assert [(record, record)] == await of(access, await a_case(access, north.id))


async def test_cases_of_one_patient_that_come_side_by_side_share_a_record(access: Access) -> None:
    north = await access.facility()

    cases = await asyncio.gather(*(a_case(access, north.id) for _ in range(6)))

    assert 1 == len(set(await of(access, *cases)))
    assert 1 == len(await records(access))


async def test_a_study_in_two_cases_whose_patient_is_corrected_files_both(access: Access) -> None:
    north = await access.facility()
    study = a_study(attributes=JANE)
    at = [a_placement(north.id, study) for _ in range(2)]
    await access.hear(study, *at)

    await access.hear(replace(study, version=2, attribute_sets={1: JOHN}))

    assert {("P-2", "", north.id, "Roe^John")} == await records(access)
    assert 1 == len(set(await of(access, *(each.case_id for each in at))))


async def purge(access: Access, case_id: CaseId) -> None:
    access.owners.deletions.add(case_id)
    async with access.database.transaction() as transaction:
        await transaction.connection.execute(
            "insert into deletions (case_id, deletion_id, facility_id, study_ids, begun_at) "
            "select case_id, $2, facility_id, '{}', $3 from cases where case_id = $1",
            case_id,
            DeletionId(uuid4()),
            transaction.now,
        )
        await access.deletions.purge(transaction, case_id, 1)
