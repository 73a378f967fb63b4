"""Lint: what a filter would do, on a database of cases."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest

from kernel.errors import Denied, NotFound
from kernel.events import CasePlaced
from kernel.ids import UserId
from kernel.reading import PrivilegeLevel, ReadType
from services.access.domain import Facility, Role, User
from services.access.filter.faults import FilterError
from services.access.filter.form import Form
from services.access.filter.reader import Reader
from services.access.filter.tree import Constant
from services.access.linting import MAX_COUNTED, SAMPLES, Counted, Draft, Linted
from services.access.reading import NOT_READ, Projection
from services.access.received import StudyAttributes
from tests.access.builders import a_lock, a_reading, a_study
from tests.access.conftest import ADMIN, Access
from tests.access.service import Service
from tests.clocks import NOON
from tests.wait import eventually
from wire.access.v1 import access_pb2 as pb


async def linted(
    access: Access, expression: str = "", user: User | None = None, by: str = ADMIN, **form: Any
) -> Linted:
    return await access.linting.lint(by, "", Draft(user.id if user else None, form, expression))


async def a_case(access: Access, facility: Facility, **attributes: str) -> Any:
    return await access.case(facility, a_study(attributes=StudyAttributes(**attributes)))


async def everywhere(access: Access, *facilities: Facility) -> None:
    """The administrator sees these facilities' cases."""
    async with access.database.statements() as statements:
        user = (await statements.users_called([], [ADMIN]))[0]
    for facility in facilities:
        await access.give(user, facility, PrivilegeLevel.VIEW)


@pytest.mark.proves("BEY-4", part="count and sample rows")
async def test_it_counts_what_the_filter_shows_and_shows_the_newest(access: Access) -> None:
    north, south = await access.facility("North"), await access.facility("South")
    await everywhere(access, north, south)
    old, new = [
        await access.case(
            where,
            a_study(
                attributes=StudyAttributes(patient_name="Doe^Jane", study_description="Knee left"),
                received_at=NOON + timedelta(minutes=minute),
            ),
        )
        for minute, where in enumerate((north, south))
    ]
    await a_case(access, north, patient_name="Roe^Jane", study_description="Chest")
    await a_case(access, north, patient_name="Roe^Jane")

    found = await linted(access, "StudyDescription contains 'KNEE'")

    assert found.fault is None
    assert found.reading == "studies whose description contains `KNEE`, in any case"
    assert found.counted is not None
    assert (found.counted.cases, found.counted.shown, found.counted.are_all) == (4, 2, True)
    assert found.counted.filled == {"StudyDescription": 3}
    assert [case.case_id for case in found.samples] == [new, old]
    assert [case.summary.attributes.study_description for case in found.samples] == ["Knee left"] * 2
    assert {case.level for case in found.samples} == {PrivilegeLevel.VIEW}


async def test_no_more_rows_are_shown_than_one_looks_through(access: Access) -> None:
    facility = await access.facility()
    await everywhere(access, facility)
    for _ in range(SAMPLES + 1):
        await access.case(facility)

    found = await linted(access, "true")

    assert found.counted is not None
    assert (found.counted.shown, len(found.samples)) == (SAMPLES + 1, SAMPLES)


async def test_what_one_does_not_see_takes_no_place_of_what_one_sees(access: Access) -> None:
    facility = await access.facility()
    manager = await access.manager(facility)
    seen = await access.case(facility, a_study(received_at=NOON - timedelta(days=1)))
    for _ in range(SAMPLES):
        await access.case(facility)
    await access.folders.grant_case(ADMIN, seen, manager.id)

    found = await linted(access, "true", by=manager.login)

    assert [case.case_id for case in found.samples] == [seen]


@pytest.mark.proves("BEY-4", part="position, quotes repaired, nearest name")
async def test_what_cannot_be_read_is_answered_with_its_place_and_its_repair(access: Access) -> None:
    fault = (await linted(access, "Modality in (‘CT', MR’)")).fault

    assert isinstance(fault, FilterError)
    assert (fault.line, fault.column) == (1, 14)
    assert fault.picture == "Modality in (‘CT', MR’)\n             ^"
    assert fault.repaired == "Modality in ('CT', 'MR')"


async def test_a_name_that_nobody_has_is_answered_with_the_nearest(access: Access) -> None:
    await access.user(login="okafor")
    await access.facility("North")

    said = [
        str((await linted(access, text)).fault)
        for text in ("AssignedToUser = 'okafour'", "Facility = 'Norht'")
    ]

    assert said == [
        "line 1, column 18: there is no user `okafour`; the nearest is `okafor`",
        "line 1, column 12: there is no facility `Norht`; the nearest is `North`",
    ]


async def test_names_are_read_back_as_they_are_today(access: Access) -> None:
    facility = await access.facility("Maple Street")
    await access.user(login="okafor")

    found = await linted(
        access, "facility = 'MAPLE STREET' and LockedBy = 'Okafor'", facilities=[str(facility.id)]
    )

    assert found.reading.splitlines()[1:] == [
        "- cases whose facility is `Maple Street`",
        "- all of:",
        "  - cases whose facility is `Maple Street`",
        "  - cases whose lock holder is `okafor`",
    ]
    assert found.form_says == "Facility in ('Maple Street')"


@pytest.mark.proves("ACC-18", part="what the form says")
async def test_form_and_expression_are_tried_together(access: Access) -> None:
    facility = await access.facility()
    for physician, sex in (("BRONSTEIN^John", "F"), ("Bronstein^Ada", "M"), ("Okafor^Chi", "F"), ("", "F")):
        await a_case(access, facility, referring_physician_name=physician, patient_sex=sex)

    physicians: Any = {"referring_physicians": ["bronstein\nokafor"]}
    counts = [
        (await linted(access, **physicians)).counted,
        (await linted(access, "PatientSex = 'F'", **physicians)).counted,
    ]

    assert [counted.shown for counted in counts if counted] == [3, 2]


async def test_an_expression_that_a_form_says_is_offered_as_that_form(access: Access) -> None:
    facility = await access.facility("North")
    text = "Facility = 'north' and Modality in ('CT', 'MR') and PatientAge <= '17Y'"

    assert (await linted(access, text)).offered == Form(
        facilities=(str(facility.id),), modalities=("CT", "MR"), age_to="17Y"
    )
    assert (await linted(access, text, modalities=["CT"])).offered is None
    assert (await linted(access, f"{text} or false")).offered is None


async def test_cautions_tell_of_a_field_that_most_cases_lack(access: Access) -> None:
    facility = await access.facility()
    for sex in ("F", "", ""):
        await a_case(access, facility, patient_sex=sex)

    found = await linted(access, "PatientSex = 'F'")

    assert [caution.sentence for caution in found.cautions] == [
        "1 of 3 cases have a value of `PatientSex`; the others are hidden"
    ]


@pytest.mark.parametrize(
    ("expression", "filled_in", "field"),
    [
        ("", {}, "expression"),
        ("  ", {}, "expression"),
        ("", {"age_to": "18"}, "age_to"),
        ("true", {"facilities": ["North"]}, "facilities"),
    ],
)
async def test_a_fault_names_the_field_where_it_is(
    access: Access, expression: str, filled_in: dict[str, Any], field: str
) -> None:
    found = await linted(access, expression, **filled_in)

    assert found.fault is not None
    assert found.fault.field == field
    assert found.counted is None


async def test_user_means_whom_the_filter_is_for(access: Access) -> None:
    facility = await access.facility()
    jane, john = await access.user(), await access.user()
    await everywhere(access, facility)
    locked = [await access.case(facility) for _ in (jane, john)]
    for case_id, holder in zip(locked, (jane, john), strict=True):
        await access.hear(a_reading(case_id, Projection(lock=a_lock(holder_login=holder.login))))

    for user, of_the_other in zip((jane, john), reversed(locked), strict=True):
        found = await linted(access, "LockedBy != '$user'", user)
        assert [case.case_id for case in found.samples] == [of_the_other]


# Who may ask, and what they are told (A73)


async def test_it_needs_to_administer_something(access: Access) -> None:
    user = await access.user(Role.RADIOLOGIST)

    with pytest.raises(Denied, match=r"access\.admin"):
        await linted(access, "true", by=user.login)


@pytest.mark.proves("A73", part="lint")
async def test_a_manager_counts_their_facilities_and_sees_rows_of_cases_that_they_see(access: Access) -> None:
    north, south = await access.facility("North"), await access.facility("South")
    manager = await access.manager(north)
    await access.give(manager, south, PrivilegeLevel.VIEW)
    here, there = await access.case(north), await access.case(south)

    unseen = await linted(access, "true", by=manager.login)
    await access.give(manager, north, PrivilegeLevel.VIEW)
    seen = await linted(access, "true", by=manager.login)

    assert unseen.counted is not None
    assert (unseen.counted.shown, unseen.samples) == (1, [])
    assert [case.case_id for case in seen.samples] == [here]
    assert there not in [case.case_id for case in seen.samples]


@pytest.mark.proves("A73", part="lint")
async def test_a_manager_is_told_nothing_of_whom_and_what_they_do_not_know(access: Access) -> None:
    north, elsewhere = await access.facility("North"), await access.facility("Elm Park")
    manager = await access.manager(north)
    stranger = await access.user(login="stranger", home_facility_id=elsewhere.id)

    for text, hidden, absent in (
        ("LockedBy = '{}'", "stranger", "strangel"),
        ("LockedBy = '{}'", "stranget", "strangel"),
        ("Facility = '{}'", "Elm Park", "Elm Pork"),
        ("Facility = '{}'", "Elm Perk", "Elm Pork"),
    ):
        of_hidden, of_absent = [
            str((await linted(access, text.format(name), by=manager.login)).fault)
            for name in (hidden, absent)
        ]
        assert of_hidden.replace(hidden, absent) == of_absent
        assert "nearest" not in of_hidden
    with pytest.raises(NotFound):
        await linted(access, "true", stranger, by=manager.login)
    with pytest.raises(NotFound):
        await access.linting.lint(manager.login, "", Draft(UserId(north.id), {}, "true"))


@pytest.mark.proves("A73", part="lint")
async def test_an_id_that_nobody_has_is_tried_like_one_that_the_asker_does_not_know(access: Access) -> None:
    north, south = await access.facility("North"), await access.facility("South")
    manager = await access.manager(north)
    await access.case(north)

    of_hidden, of_absent = [
        await linted(access, f"Facility != '#{facility_id}'", by=manager.login)
        for facility_id in (south.id, uuid4())
    ]

    assert of_hidden.counted == of_absent.counted
    assert of_hidden.reading == f"cases whose facility is not #{south.id}"


@pytest.mark.proves("BEY-11", part="lint")
async def test_the_facility_side_asks_for_its_side_and_as_its_side(access: Access) -> None:
    north = await access.facility("North")
    manager = await access.manager(north)
    of_the_group = await access.user(Role.RADIOLOGIST, home_facility_id=north.id)
    await access.give(manager, north, PrivilegeLevel.VIEW)
    case_id = await access.case(north)
    await access.hear(
        a_reading(case_id, Projection(read_types=frozenset({ReadType.PRE_READ})), facility=NOT_READ)
    )

    with pytest.raises(Denied, match="belongs to the radiology group"):
        await linted(access, "true", of_the_group, by=manager.login)
    for text, says in (("AssignedToUser is null", "no field"), ("ReportedTypes = 'PRE_READ'", "no value")):
        assert says in str((await linted(access, text, by=manager.login)).fault)
    reported = await linted(access, "ReportedTypes is not null", by=manager.login)
    of_group = await linted(access, "ReportedTypes = 'PRE_READ'", of_the_group)

    assert reported.counted is not None
    assert (reported.counted.shown, reported.counted.filled) == (0, {"ReportedTypes": 0})
    assert of_group.counted is not None
    assert of_group.counted.shown == 1


async def test_many_facilities_share_what_is_tried(access: Access) -> None:
    """Each is counted, and the whole stays small."""
    facilities = [await access.facility(f"Facility {n}") for n in range(3)]
    for facility in facilities:
        for _ in range(3):
            await access.case(facility)

    few, all_of_them, none = [
        await counted(access, among, limit)
        for among, limit in ((facilities, 6), (facilities, MAX_COUNTED), ([], 6))
    ]

    assert (few.cases, few.are_all) == (6, False)
    assert (all_of_them.cases, all_of_them.are_all) == (9, True)
    assert (none.cases, none.are_all) == (0, True)


async def counted(access: Access, facilities: Sequence[Facility], limit: int) -> Counted:
    anybody = Reader(UserId(uuid4()), "anybody", is_of_group=True, zone=ZoneInfo("UTC"), as_of_lock=True)
    async with access.database.transaction() as transaction:
        return await transaction.try_filter(
            Constant(True), anybody, [facility.id for facility in facilities], [], limit
        )


@pytest.mark.proves("BEY-4")
async def test_over_the_wire_a_fault_has_its_place_and_a_filter_its_meaning(service: Service) -> None:
    facility_id = await service.facility("North")
    (ada,) = (await service.stub.ListUsers(pb.ListUsersRequest())).users
    await service.give(ada, facility_id, pb.LEVEL_VIEW)
    case_id = service.a_placement(facility_id, service.a_study(("1.1", "CT", 1)))
    await service.say(CasePlaced(case_id, 1))
    await eventually(lambda: service.listed(ADMIN))

    async def lint(expression: str = "", **form: Any) -> pb.LintResponse:
        request = pb.LintRequest(expression=expression, form=pb.FilterForm(**form))
        return await service.stub.Lint(request)

    fault = (await lint("true and\nCallingAETitle in (‘A’, 'B')")).fault
    assert (fault.field, fault.line, fault.column, fault.length) == ("expression", 2, 20, 1)
    assert fault.picture == "CallingAETitle in (‘A’, 'B')\n                   ^"
    assert fault.problem == "`‘` is not the quote of this language"
    assert fault.expected == "write `'A'`"
    assert fault.repaired == "true and\nCallingAETitle in ('A', 'B')"
    assert "ReferringPhysicianName" in (await lint("RefPhysName = 'X'")).fault.expected

    fault = (await lint(age_to="18")).fault
    assert (fault.field, fault.line, fault.picture) == ("age_to", 0, "")
    assert fault.problem.startswith("`18` has no unit")

    text = "Modality = 'CT' or\nStudyDescription like 'KNEE_L%' or PatientSex = 'Q'"
    found = await lint(text, facility_ids=[facility_id])
    assert found.reading.splitlines()[:2] == ["all of:", "- cases whose facility is `North`"]
    assert found.form_expression == "Facility in ('North')"
    (caution,) = [
        each for each in found.cautions if each.sentence.startswith("`_` stands for any one character")
    ]
    assert (caution.line, caution.column, caution.length) == (2, 23, 9)
    assert (found.tried_on, found.shown, found.tried_on_all) == (1, 1, True)
    assert [case.case_id for case in found.samples] == [str(case_id)]
    assert not found.HasField("fault")
    assert not found.HasField("offered_form")

    assert list((await lint("Facility = 'north'")).offered_form.facility_ids) == [facility_id]
