"""People say whose held images are: who may, what follows, and what a deletion waits for."""

import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from kernel.errors import Denied, Invalid, NotFound, Unavailable
from kernel.ids import CaseId, FacilityId, StudyId
from kernel.reach import Reach
from services.routing.domain import Facility, Model, PlacedStudy, Placement, Study
from services.routing.heldparts import STUDY_CORRECT, Verdicts
from services.routing.parts import HeldKind, HeldReason
from services.routing.usecases import Sight
from tests.healing import heal
from tests.routing.builders import EVERYWHERE, JOHN, Object, a_study, of_series
from tests.routing.conftest import ADMIN, Routing

NOWHERE = Reach()


async def received(routing: Routing, study: Study) -> Study:
    """Ingest has it, and routing has heard so."""
    routing.archive.add(study)
    await routing.place(study)
    return study


async def two_patients(routing: Routing, *more: tuple[str, str | None]) -> tuple[Study, Placement]:
    """A study at a standard facility: an image of Jane, one of John, and what else John has."""
    facility = await routing.facility("City Hospital")
    others = [(uid, value, JOHN) for uid, value in (("1.1", None), *more)]
    study = await received(routing, a_study(facility.id, ("1.1", None), *others))
    (case,) = await routing.cases()
    may_correct(routing, case)
    return study, case


def may_correct(routing: Routing, case: Placement) -> None:
    routing.permissions.held[STUDY_CORRECT] = Reach(False, frozenset({case.facility_id}))
    routing.permissions.seen[case.case_id] = Sight(by_privilege=True, facility_id=case.facility_id)


async def the_held(routing: Routing) -> UUID:
    (held,) = await routing.held()
    return held.id


async def shown(routing: Routing) -> tuple[int, ...]:
    (case,) = await routing.cases()
    (study,) = case.studies
    assert study.parts is not None
    return study.parts


# Release and discard


@pytest.mark.proves("BEY-7", part="release of what is held")
async def test_a_released_part_belongs_to_its_case_and_the_case_says_so(routing: Routing) -> None:
    study, case = await two_patients(routing)
    assert case.another_patient_held == 1
    (held,) = await routing.held()
    assert (held.kind, held.reason, held.part) == (
        HeldKind.ANOTHER_PATIENT,
        HeldReason.ANOTHER_PATIENT,
        study.parts[1].number,
    )
    assert held.differs == ("PatientID", "PatientName")

    said = await routing.held_parts.release_part(ADMIN, held.id, preview=False)

    assert said == Verdicts(case.case_id, study.id, (study.parts[1].number,))
    (after,) = await routing.cases()
    assert (after.another_patient_held, after.version) == (0, case.version + 1)
    assert await shown(routing) == tuple(part.number for part in study.parts)
    assert await routing.held() == []
    assert (await routing.facts())[-1] == ("case.placed.v1", after.version)
    (row,) = await routing.query("select * from audit_rows where action = 'part.released'")
    assert (row["actor"], row["object"], row["outcome"]) == (ADMIN, f"case:{case.case_id}", "done")


async def test_a_preview_says_which_parts_and_does_nothing(routing: Routing) -> None:
    study, case = await two_patients(routing, ("1.2", "MS44"))
    for held in await routing.held():
        for act in (routing.held_parts.release_part, routing.held_parts.discard_part):
            said = await act(ADMIN, held.id, preview=True)
            assert said.parts == tuple(part.number for part in study.parts[1:])
    assert [case] == await routing.cases()
    assert await routing.query("select * from audit_rows where action like 'part.%'") == []


async def test_who_says_that_two_identities_are_one_patient_says_it_of_all_parts(routing: Routing) -> None:
    study, _ = await two_patients(routing, ("1.2", "MS44"), ("1.3", "MS55"))
    await routing.held_parts.release_part(ADMIN, (await routing.held())[0].id, preview=False)
    assert await routing.held() == []
    values = (None, "MS44", "MS55", "MS66")
    objects: list[Object] = [("1.1", None), *((f"1.{n}", value, JOHN) for n, value in enumerate(values))]
    await received(routing, replace(a_study(study.receiving_facility_id, *objects), id=study.id, version=2))
    assert len(await shown(routing)) == 5


@pytest.mark.proves("BEY-7", part="nothing is discarded but by a person")
async def test_a_discarded_part_is_never_shown_and_more_images_for_it_wait_again(routing: Routing) -> None:
    study, _ = await two_patients(routing)
    await routing.held_parts.discard_part(ADMIN, await the_held(routing), preview=False)
    assert await routing.held() == []
    (after,) = await routing.cases()
    assert (after.another_patient_held, await shown(routing)) == (0, (study.parts[0].number,))

    settled = replace(study, version=2, settled=True)
    await received(routing, settled)
    assert await routing.held() == []
    more = replace(study.parts[1], instance_count=2)
    await received(routing, replace(settled, version=3, parts=(study.parts[0], more)))
    (held,) = await routing.held()
    assert (held.part, held.instance_count) == (more.number, 2)
    assert [
        (row["verdict"], row["judged_by"]) for row in await routing.query("select * from judged_parts")
    ] == [("discarded", ADMIN)]
    assert (await routing.cases())[0].another_patient_held == 1


async def test_a_part_held_for_its_mapping_value_is_released_alone(routing: Routing) -> None:
    hub = await routing.facility("North Hub", Model.HUB)
    lakeside = await routing.facility("Lakeside", Model.ENDPOINT)
    await routing.rule(hub, "MS44", lakeside)
    await received(routing, a_study(hub.id, ("1.1", "MS44"), ("1.1", "MS55"), ("1.1", "MS66")))
    (case,) = await routing.cases()
    may_correct(routing, case)
    first, second = await routing.held()
    routing.only_at(lakeside.id)
    with pytest.raises(Denied, match=r"`facility\.admin` at the hub"):
        await routing.held_parts.release_part(ADMIN, first.id, preview=False)
    routing.only_at(hub.id)
    await routing.held_parts.release_part(ADMIN, first.id, preview=False)
    assert await routing.held() == [second]
    assert len(await shown(routing)) == 2


async def test_of_two_who_decide_one_is_told_to_look_again(routing: Routing) -> None:
    await two_patients(routing)
    held_id = await the_held(routing)
    acts = [
        act(ADMIN, held_id, preview=False)
        for act in (routing.held_parts.release_part, routing.held_parts.discard_part) * 2
    ]
    done = await asyncio.gather(*acts, return_exceptions=True)
    assert len([each for each in done if isinstance(each, Verdicts)]) == 1
    assert all(isinstance(each, Verdicts | Unavailable | NotFound) for each in done)


async def test_what_grew_since_a_person_looked_is_not_discarded_with_it(routing: Routing) -> None:
    study, _ = await two_patients(routing)
    more = replace(study.parts[1], instance_count=5)
    routing.archive.add(replace(study, version=2, parts=(study.parts[0], more)))
    await routing.held_parts.discard_part(ADMIN, await the_held(routing), preview=False)
    (held,) = await routing.held()
    assert (held.part, held.instance_count) == (more.number, 5)


async def test_images_that_arrive_meanwhile_do_not_keep_a_person_from_deciding(routing: Routing) -> None:
    study, case = await two_patients(routing)
    held_id = await the_held(routing)
    newer = replace(study, version=2, settled=True)
    asked = routing.archive.describe_study

    async def overtaken(*question: Any) -> Study | None:
        answer = await asked(*question)
        await received(routing, newer)
        return answer

    routing.archive.describe_study = overtaken  # type: ignore[method-assign,assignment]
    said = await routing.held_parts.release_part(ADMIN, held_id, preview=False)
    assert said.case_id == case.case_id
    assert len(await shown(routing)) == 2


# Who may


async def test_only_who_corrects_there_and_sees_the_case_by_privilege_decides(routing: Routing) -> None:
    _, case = await two_patients(routing)
    held_id = await the_held(routing)
    here, elsewhere = (
        Reach(False, frozenset({case.facility_id})),
        Reach(False, frozenset({FacilityId(uuid4())})),
    )
    seen, shared = Sight(True, case.facility_id), Sight(False, case.facility_id)
    for corrects, sight, word in (
        (NOWHERE, seen, Denied),
        (elsewhere, seen, Denied),
        (here, shared, NotFound),
        (here, Sight(), NotFound),
        (EVERYWHERE, Sight(), NotFound),
    ):
        routing.permissions.held[STUDY_CORRECT] = corrects
        routing.permissions.seen[case.case_id] = sight
        for act in (routing.held_parts.release_part, routing.held_parts.discard_part):
            with pytest.raises(word):
                await act(ADMIN, held_id, preview=False)
    assert [case] == await routing.cases()
    rows = await routing.query("select outcome from audit_rows where action like 'part.%'")
    assert {row["outcome"] for row in rows} == {"refused"}


async def test_a_part_that_one_may_not_see_is_like_an_absent_one(routing: Routing) -> None:
    await two_patients(routing)
    routing.permissions.seen.clear()
    refusals = []
    for held_id in (await the_held(routing), uuid4()):
        with pytest.raises(NotFound) as error:
            await routing.held_parts.release_part(ADMIN, held_id, preview=False)
        refusals.append((error.value.sentence, error.value.field))
    assert refusals[0] == refusals[1]


async def test_who_corrects_where_the_case_is_finds_its_parts_in_the_list(routing: Routing) -> None:
    hub = await routing.facility("North Hub", Model.HUB)
    lakeside = await routing.facility("Lakeside", Model.ENDPOINT)
    await routing.rule(hub, "MS44", lakeside)
    await received(routing, a_study(hub.id, ("1.1", "MS44"), ("1.1", "MS44", JOHN)))
    await received(routing, a_study(hub.id, ("2.1", "MS99")))
    assert {"North Hub"} == {each.facility_name for each in await routing.held()}
    routing.permissions.held = {STUDY_CORRECT: Reach(False, frozenset({lakeside.id}))}
    assert [each.kind for each in await routing.held()] == [HeldKind.ANOTHER_PATIENT]
    assert [each.facility_name for each in await routing.held()] == [""], "the hub is not theirs to know"
    routing.permissions.held = {STUDY_CORRECT: Reach(False, frozenset({FacilityId(uuid4())}))}
    assert await routing.held() == []
    routing.permissions.held = {}
    with pytest.raises(Denied):
        await routing.held()


# What a deletion waits for


async def test_what_waits_is_told_from_what_does_not(routing: Routing) -> None:
    study, _ = await two_patients(routing, ("1.2", "MS44"))
    confirmed, *waiting = [(study.id, part.number) for part in study.parts]
    asked = [*waiting, confirmed, (study.id, 0), (StudyId(uuid4()), 0)]
    assert await routing.held_parts.check_held(asked) == waiting
    await routing.held_parts.discard_part(ADMIN, (await routing.held())[0].id, preview=False)
    assert await routing.held_parts.check_held(asked) == []
    for parts in ([], [confirmed] * 101):
        with pytest.raises(Invalid):
            await routing.held_parts.check_held(parts)


async def test_the_parts_of_other_patients_are_named_until_a_person_has_decided(routing: Routing) -> None:
    study, case = await two_patients(routing, ("1.2", "MS44"))
    named = [(study.id, part.number) for part in study.parts[1:]]
    assert await routing.held_parts.list_undecided(case.case_id) == (2, named)
    assert await routing.held_parts.list_undecided(CaseId(uuid4())) == (0, [])
    await routing.held_parts.discard_part(ADMIN, (await routing.held())[0].id, preview=False)
    assert await routing.held_parts.list_undecided(case.case_id) == (0, [])


# What the version before left


async def as_the_version_before_left_it(
    routing: Routing, study: Study, case_id: CaseId, shown: PlacedStudy
) -> None:
    await routing.query(
        """
        update received_studies
        set parts = null, parts_version = 0, all_series = $2, series_instance_uids = $3 where study_id = $1
        """,
        study.id,
        shown.all_series,
        shown.series_instance_uids,
    )
    await routing.query("delete from held_parts")
    await routing.query(
        """
        insert into held values ($1, $2, 'series', '1.2', $3, $4, 'other_value', now())
        """,
        uuid4(),
        study.id,
        case_id,
        study.receiving_facility_id,
    )


async def a_hub_study(routing: Routing) -> tuple[Study, Facility, Placement]:
    hub = await routing.facility("North Hub", Model.HUB)
    lakeside = await routing.facility("Lakeside", Model.ENDPOINT)
    await routing.rule(hub, "MS44", lakeside)
    study = await received(routing, of_series(a_study(hub.id, ("1.1", "MS44"), ("1.2", "MS55"))))
    (case,) = await routing.cases()
    return study, lakeside, case


@pytest.mark.parametrize("newer", [False, True])
async def test_series_that_the_version_before_held_become_parts(routing: Routing, newer: bool) -> None:
    study, _, case = await a_hub_study(routing)
    shown = PlacedStudy(study.id, series_instance_uids=(study.series_instance_uids[0],))
    await as_the_version_before_left_it(routing, study, case.case_id, shown)
    assert [each.kind for each in await routing.held()] == [HeldKind.SERIES]
    (before,) = await routing.cases()
    assert before.studies[0].parts is None
    if newer:
        routing.archive.add(replace(study, version=2))

    assert await heal(routing.database, routing.placements.kinds()) == 1

    assert [(each.kind, each.part) for each in await routing.held()] == [(HeldKind.PART, 2)]
    (after,) = await routing.cases()
    assert after.studies[0].parts == (1,)
    assert after.version == before.version + 1
    assert await heal(routing.database, routing.placements.kinds()) == 0


async def test_what_a_worker_of_the_version_before_wrote_meanwhile_is_made_up_for(routing: Routing) -> None:
    study, _, _ = await a_hub_study(routing)
    newer = routing.archive.add(replace(study, version=2))
    await routing.query("update received_studies set study_version = 2")
    assert await heal(routing.database, routing.placements.kinds()) == 1
    rows = await routing.query("select study_version, parts_version from received_studies")
    assert [tuple(row) for row in rows] == [(2, newer.version)]


async def test_the_version_before_purges_a_study_of_whose_parts_it_knows_nothing(routing: Routing) -> None:
    study, case = await two_patients(routing, ("1.2", "MS44"))
    await routing.held_parts.discard_part(ADMIN, (await routing.held())[0].id, preview=False)
    await received(
        routing,
        replace(study, version=2, parts=tuple(replace(each, instance_count=9) for each in study.parts)),
    )
    await routing.query("delete from held where study_id = $1", study.id)
    await routing.query("delete from received_studies where study_id = $1", study.id)
    await routing.query("delete from placements where case_id = $1", case.case_id)
    for table in ("held_parts", "judged_parts"):
        assert await routing.query(f"select * from {table}") == []
