"""Links of patients: who may say that two records are one person, what that changes, and taking it back."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest

from kernel.errors import Conflict, Denied, NotFound, ReadroomError, Unavailable
from kernel.events import SightChanged
from kernel.ids import CaseId
from kernel.reading import PrivilegeLevel
from services.access import linking
from services.access.accessfilter import Historical
from services.access.domain import Facility, Role, User
from services.access.filtering import FilterSettings
from services.access.linking import Known, Linked
from services.access.patients import Link, LinkId, RecordId, persons
from services.access.received import StudyAttributes
from tests.access.builders import a_placement, a_study
from tests.access.conftest import ADMIN, Access
from tests.access.test_patients import JANE, JOHN, a_case, of, purge

SESSION = "s"


@pytest.fixture
async def north(access: Access) -> Facility:
    return await a_facility(access, "North")


@pytest.fixture
async def south(access: Access) -> Facility:
    return await a_facility(access, "South")


async def a_facility(access: Access, name: str) -> Facility:
    """One whose cases the first administrator sees."""
    facility = await access.facility(name)
    await access.give(access.admin, facility, PrivilegeLevel.VIEW)
    return facility


async def link(
    access: Access, one: CaseId, other: CaseId, by: str = ADMIN, *, preview: bool = False
) -> Linked:
    linked, _ = await access.linking.link_patients(by, SESSION, one, other, preview=preview)
    return linked


async def link_id(access: Access, one: CaseId, other: CaseId) -> LinkId:
    made = (await link(access, one, other)).link
    assert made is not None
    return made.id


async def everything(access: Access) -> list[Any]:
    """What a link may change: the persons, and nothing of it stays after it is taken back."""
    return [
        await access.query("select * from patients order by patient_record_id"),
        await access.query("select * from patient_links"),
        await access.query("select case_id, patient_record_id, person_id from cases order by case_id"),
    ]


async def test_a_link_makes_one_person_of_two_records_and_names_both(
    access: Access, north: Facility, south: Facility
) -> None:
    one, other = await a_case(access, north.id), await a_case(access, south.id, JOHN)
    beside = await a_case(access, south.id)
    revision = await access.revision()

    linked = await link(access, one, other)

    assert ("Doe^Jane", "Roe^John") == (linked.one.patient.name, linked.other.patient.name)
    (_, person), (_, same), (_, another) = await of(access, one, other, beside)
    assert person == same
    assert another not in {None, person}
    assert revision + 1 == await access.revision()
    changed = {of_case for subject, of_case, _ in await access.facts() if subject == SightChanged.subject}
    assert {str(one), str(other)} == changed
    assert (ADMIN, "patient.linked", "done") == (await access.audited())[-1]


async def test_what_comes_later_of_a_linked_record_is_of_the_person(
    access: Access, north: Facility, south: Facility
) -> None:
    one, other = await a_case(access, north.id), await a_case(access, south.id)
    await link(access, one, other)

    later = await a_case(access, south.id)

    assert 1 == len({person for _, person in await of(access, one, other, later)})


async def test_a_link_that_is_taken_back_leaves_nothing(
    access: Access, north: Facility, south: Facility
) -> None:
    one, other = await a_case(access, north.id), await a_case(access, south.id)
    before = await everything(access)
    made = await link_id(access, one, other)
    assert before != await everything(access)

    records, _ = await access.linking.unlink_patients(ADMIN, made)

    assert {north.id, south.id} == {record.patient.key.facility_id for record in records}
    assert before == await everything(access)
    with pytest.raises(NotFound):
        await access.linking.unlink_patients(ADMIN, made)


async def test_links_are_taken_back_in_any_order(access: Access, north: Facility) -> None:
    """A chain of four: what is left is what the other links join."""
    said = [replace(JANE, patient_id=f"P-{number}") for number in range(4)]
    cases = [await a_case(access, north.id, each) for each in said]
    before = await everything(access)
    made = [await link_id(access, one, other) for one, other in pairwise(cases)]
    assert 1 == len({person for _, person in await of(access, *cases)})

    await access.linking.unlink_patients(ADMIN, made[1])
    persons = [person for _, person in await of(access, *cases)]
    assert persons[0] == persons[1] != persons[2] == persons[3]

    await access.linking.unlink_patients(ADMIN, made[0])
    await access.linking.unlink_patients(ADMIN, made[2])
    assert before == await everything(access)


async def test_a_preview_changes_nothing(access: Access, north: Facility, south: Facility) -> None:
    one, other = await a_case(access, north.id), await a_case(access, south.id)
    before, revision = await everything(access), await access.revision()

    linked = await link(access, one, other, preview=True)

    assert linked.link is None
    assert (before, revision) == (await everything(access), await access.revision())
    assert "patient.linked" not in {action for _, action, _ in await access.audited()}


# Who may


async def refusal(act: Any) -> ReadroomError:
    with pytest.raises(ReadroomError) as refused:
        await act
    return refused.value


async def a_manager(access: Access, at: Facility, *sees: Facility) -> User:
    manager = await access.manager(at)
    for facility in (at, *sees):
        await access.give(manager, facility, PrivilegeLevel.VIEW)
    return manager


async def test_a_manager_of_one_of_the_facilities_may_not_link_and_may_take_back(
    access: Access, north: Facility, south: Facility
) -> None:
    manager = await a_manager(access, north, south)
    one, other = await a_case(access, north.id), await a_case(access, south.id)

    assert isinstance(await refusal(link(access, one, other, manager.login)), Denied)
    assert isinstance(await refusal(link(access, one, other, manager.login, preview=True)), Denied)

    made = await link_id(access, one, other)
    await access.linking.unlink_patients(manager.login, made)
    assert [] == await access.query("select * from patient_links")


async def test_a_manager_of_a_third_facility_learns_nothing_of_a_link(
    access: Access, north: Facility, south: Facility
) -> None:
    stranger = await a_manager(access, await access.facility("West"))
    made = await link_id(access, await a_case(access, north.id), await a_case(access, south.id))

    absent = await refusal(access.linking.unlink_patients(stranger.login, LinkId(uuid4())))
    foreign = await refusal(access.linking.unlink_patients(stranger.login, made))
    assert type(absent) is type(foreign) is NotFound
    assert absent.sentence.partition("`")[0] == foreign.sentence.partition("`")[0]


async def test_however_many_cases_a_patient_has_no_stranger_takes_a_link_of_theirs_back(
    access: Access, north: Facility, south: Facility, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of whose cases not all are read, the owner is not taken for nobody."""
    monkeypatch.setattr(linking, "MAX_CASES", 3)
    stranger = await a_manager(access, await access.facility("West"))

    async def a_case_of(facility: Facility, said: StudyAttributes, number: int) -> CaseId:
        return await access.case(facility, a_study(attributes=said), case_id=CaseId(UUID(int=number)))

    made = await link_id(access, await a_case_of(north, JANE, 1), await a_case_of(south, JOHN, 9))
    for number in range(2, 6):
        await a_case_of(north, JANE, number)

    assert isinstance(await refusal(access.linking.unlink_patients(stranger.login, made)), NotFound)
    await access.linking.unlink_patients((await a_manager(access, south)).login, made)


async def test_a_facility_that_has_only_another_case_of_the_person_must_agree_too(
    access: Access, north: Facility, south: Facility
) -> None:
    region = replace(JANE, issuer_of_patient_id="REGION")
    one, other = await a_case(access, north.id, region), await a_case(access, north.id, JOHN)
    manager = await a_manager(access, north)
    await link(access, one, other, manager.login, preview=True)

    await a_case(access, south.id, region)

    assert isinstance(await refusal(link(access, one, other, manager.login)), Denied)


async def test_a_case_that_is_not_seen_does_not_exist(
    access: Access, north: Facility, south: Facility
) -> None:
    manager = await a_manager(access, north)
    mine, foreign = await a_case(access, north.id), await a_case(access, south.id)

    for other in (foreign, CaseId(uuid4())):
        assert isinstance(await refusal(link(access, mine, other, manager.login)), NotFound)
        assert isinstance(
            await refusal(access.linking.describe_patient(manager.login, SESSION, other)), NotFound
        )
    user = await access.user()
    await access.give(user, north, PrivilegeLevel.VIEW)
    assert isinstance(await refusal(link(access, mine, mine, user.login)), Denied)


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        (JANE, JANE, "already belong to one patient"),
        (JANE, StudyAttributes("Doe^Jane"), "has no patient ID"),
    ],
)
async def test_what_is_no_two_patients_is_not_linked(
    access: Access, north: Facility, first: StudyAttributes, second: StudyAttributes, says: str
) -> None:
    one, other = await a_case(access, north.id, first), await a_case(access, north.id, second)

    refused = await refusal(link(access, one, other))
    assert isinstance(refused, Conflict)
    assert says in refused.sentence


async def test_two_who_are_linked_already_are_not_linked_again(
    access: Access, north: Facility, south: Facility
) -> None:
    one, other = await a_case(access, north.id), await a_case(access, south.id)
    await link(access, one, other)

    assert "already linked" in (await refusal(link(access, other, one))).sentence


async def test_side_by_side_two_links_of_one_record_make_one_person(access: Access, north: Facility) -> None:
    cases = [await a_case(access, north.id, replace(JANE, patient_id=f"P-{number}")) for number in range(4)]

    tried = await asyncio.gather(
        *(link(access, cases[0], other) for other in cases[1:]), return_exceptions=True
    )

    made = {id_ for (id_,) in await access.query("select link_id from patient_links")}
    assert {each.link.id for each in tried if isinstance(each, Linked) and each.link} == made
    reached = [
        cases[0],
        *(other for other, each in zip(cases[1:], tried, strict=True) if isinstance(each, Linked)),
    ]
    assert 1 == len({person for _, person in await of(access, *reached)})


async def test_side_by_side_the_same_link_is_made_once(
    access: Access, north: Facility, south: Facility
) -> None:
    one, other = await a_case(access, north.id), await a_case(access, south.id)

    tried = await asyncio.gather(*(link(access, one, other) for _ in range(5)), return_exceptions=True)

    assert 1 == len([each for each in tried if isinstance(each, Linked)])
    assert {Conflict} == {type(each) for each in tried if not isinstance(each, Linked)}
    assert 1 == len(await access.query("select * from patient_links"))


async def test_links_side_by_side_with_cases_that_come_go_and_are_corrected_end_right(
    access: Access, north: Facility
) -> None:
    """Whatever came first: a case is of the person of its record, and persons are what the links join."""
    said = [replace(JANE, patient_id=f"P-{number}") for number in range(4)]
    cases = [await a_case(access, north.id, each) for each in said]
    studies = [a_study(attributes=each) for each in said]
    for study in studies:
        await access.hear(study, a_placement(north.id, study))

    async def try_to(act: Any) -> None:
        with suppress(Conflict, NotFound, Unavailable):
            await act

    await asyncio.gather(
        *(try_to(link(access, one, other)) for one, other in pairwise(cases)),
        *(a_case(access, north.id, each) for each in said),
        *(
            try_to(access.hear(replace(study, version=2, attribute_sets={1: said[(number + 1) % 4]})))
            for number, study in enumerate(studies)
        ),
        try_to(purge(access, cases[3])),
    )

    records = {
        row[0]: row[1] for row in await access.query("select patient_record_id, person_id from patients")
    }
    links = [Link(*row) for row in await access.query("select * from patient_links")]
    assert persons([RecordId(each) for each in records], links) == records
    of_cases = await access.query("select patient_record_id, person_id from cases")
    assert all(records[record] == person for record, person in of_cases)
    assert {record for record, _ in of_cases} == set(records)


# What becomes of a link


async def test_a_link_ends_with_a_record_and_says_so(
    access: Access, north: Facility, south: Facility
) -> None:
    said = [replace(JANE, patient_id=f"P-{number}") for number in range(3)]
    cases = [await a_case(access, north.id, each) for each in said]
    await link(access, cases[0], cases[1])
    await link(access, cases[1], cases[2])

    await purge(access, cases[1])

    assert [] == await access.query("select * from patient_links")
    (_, one), (_, other) = await of(access, cases[0], cases[2])
    assert one != other
    ended = [each for each in await access.audited() if each[1] == "patient.unlinked"]
    assert 2 * [("service:access", "patient.unlinked", "done")] == ended


async def test_a_corrected_case_leaves_its_person(access: Access, north: Facility, south: Facility) -> None:
    study = a_study(attributes=JANE)
    placement = a_placement(north.id, study)
    await access.hear(study, placement)
    other = await a_case(access, south.id)
    await link(access, placement.case_id, other)

    await access.hear(replace(study, version=2, attribute_sets={1: JOHN}))

    (_, one), (record, two) = await of(access, placement.case_id, other)
    assert one != two
    assert record == two


# What is told


async def told(access: Access, case_id: CaseId, by: str = ADMIN) -> Known:
    return await access.linking.describe_patient(by, SESSION, case_id)


def numbers(records: Sequence[Any]) -> list[str]:
    return [record.patient.key.patient_id for record in records]


async def test_what_is_linked_is_told_where_the_administrator_administers(
    access: Access, north: Facility, south: Facility
) -> None:
    one = await a_case(access, north.id, replace(JANE, patient_id="N-1"))
    other = await a_case(access, south.id, replace(JANE, patient_id="S-1"))
    second = await a_case(access, north.id, replace(JANE, patient_id="N-2"))
    await link(access, one, other)
    near = await link_id(access, one, second)

    everywhere = await told(access, one)
    assert ["N-1"] == numbers([everywhere.record])
    assert {"S-1", "N-2"} == set(numbers(everywhere.others))
    assert (2, 0) == (len(everywhere.links), everywhere.left_out)

    manager = await a_manager(access, north, south)
    at_home = await told(access, one, manager.login)
    assert (["N-2"], [near], 1) == (
        numbers(at_home.others),
        [each.id for each in at_home.links],
        at_home.left_out,
    )
    assert isinstance(await refusal(told(access, other, manager.login)), Denied)


async def test_a_case_without_a_number_has_no_record(access: Access, north: Facility) -> None:
    assert Known(None) == await told(access, await a_case(access, north.id, StudyAttributes("Doe^Jane")))


# Who gains sight


async def with_historical(
    access: Access, expression: str, *facilities: Facility, historical: Historical = Historical.ALL, **of: Any
) -> User:
    """Who sees these facilities through a filter, and other studies of a patient beside what it shows."""
    user = await access.user(**of)
    for facility in facilities:
        await access.give(user, facility, PrivilegeLevel.VIEW)
    await access.filters.save_filter(ADMIN, FilterSettings(user.id, {}, expression, historical, 0))
    return user


REFERRED = replace(JANE, referring_physician_name="Roe^R", study_date="20261101")
EARLIER, LATER = (
    replace(JOHN, referring_physician_name="Poe^P", study_date=day) for day in ("20200101", "20270101")
)
ROE = "ReferringPhysicianName contains 'roe'"


@pytest.mark.proves("ACC-30", part="studies of a person whose records are linked")
async def test_who_gains_sight_is_told_before_and_is_what_comes_true_and_goes_with_the_link(
    access: Access, north: Facility, south: Facility
) -> None:
    everywhere = await with_historical(access, ROE, north, south)
    earlier = await with_historical(access, ROE, north, south, historical=Historical.EARLIER)
    off = await with_historical(access, ROE, north, south, historical=Historical.OFF)
    nothing = await with_historical(access, "false", north, south)
    at_north = await with_historical(access, ROE, north)
    inactive = await with_historical(access, ROE, north, south, active=False)
    one = await a_case(access, north.id, REFERRED)
    others = [await a_case(access, south.id, each) for each in (EARLIER, LATER)]
    users = [everywhere, earlier, off, nothing, at_north]

    async def seen() -> dict[str, set[CaseId]]:
        return {user.login: set(await access.worklist(user)) for user in users}

    before = await seen()
    previewed = await link(access, one, others[0], preview=True)
    assert before == await seen()
    assert [(everywhere.login, 2), (earlier.login, 1)] == [
        (gain.user.login, gain.cases) for gain in previewed.gains
    ]

    made = await link(access, one, others[0])
    assert made.gains == previewed.gains
    after = await seen()
    gained = {login: len(after[login] - before[login]) for login in after if after[login] != before[login]}
    assert {gain.user.login: gain.cases for gain in made.gains} == gained
    assert inactive.login not in gained

    assert made.link is not None
    await access.linking.unlink_patients(ADMIN, made.link.id)
    assert before == await seen()


async def test_a_manager_is_told_of_the_users_whom_they_manage_and_of_the_facility_side_only(
    access: Access, north: Facility
) -> None:
    manager = await a_manager(access, north)
    at_home: dict[str, Any] = {"home_facility_id": north.id}
    mine = await with_historical(access, ROE, north, role=Role.REFERRING_PHYSICIAN, **at_home)
    of_the_group = await with_historical(access, ROE, north, **at_home)
    foreign = await with_historical(access, ROE, north, role=Role.REFERRING_PHYSICIAN)
    one = await a_case(access, north.id, REFERRED)
    other = await a_case(access, north.id, EARLIER)

    told = await link(access, one, other, manager.login, preview=True)
    assert [mine.login] == [gain.user.login for gain in told.gains]

    told = await link(access, one, other, preview=True)
    assert {mine.login, of_the_group.login, foreign.login} == {gain.user.login for gain in told.gains}
