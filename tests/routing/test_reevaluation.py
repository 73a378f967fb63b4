"""Without a hand: a first value that comes late, and rules that were made after the study (A19, A20)."""

from dataclasses import replace
from uuid import uuid4

import pytest

from kernel.errors import Conflict, NotFound, Unavailable
from kernel.ids import CaseId, FacilityId
from services.routing.domain import Facility, Model, Placement, Reason, Study
from services.routing.moves import Move
from services.routing.parts import HeldKind, HeldReason
from services.routing.reevaluation import CHANGED, MAX_CHANGES, Change
from tests.healing import heal
from tests.routing.builders import JANE, JOHN, Object, a_study
from tests.routing.conftest import ADMIN, Routing


class Scene:
    """A hub with two endpoints, of which one has a rule."""

    def __init__(self, routing: Routing) -> None:
        self.routing = routing

    async def set(self) -> "Scene":
        routing = self.routing
        self.hub = await routing.facility("North Hub", Model.HUB)
        self.lakeside = await routing.facility("Lakeside", Model.ENDPOINT)
        self.hillside = await routing.facility("Hillside", Model.ENDPOINT)
        await routing.rule(self.hub, "MS44", self.lakeside)
        return self

    async def received(self, *objects: Object, **more: object) -> Study:
        study = a_study(self.hub.id, *objects, settled=True, **more)  # type: ignore[arg-type]
        await self.routing.receive(study)
        return study

    async def grown(self, study: Study, *objects: Object) -> Study:
        return await self.received(
            *objects,
            study_id=study.id,
            study_instance_uid=study.study_instance_uid,
            version=study.version + 1,
        )

    async def case_of(self, study: Study) -> Placement:
        (row,) = await self.routing.query(
            "select case_id from received_studies where study_id = $1", study.id
        )
        return await self.routing.placements.describe_placement(row["case_id"])

    async def waits(self) -> list[tuple[HeldKind, HeldReason]]:
        return [(each.kind, each.reason) for each in await self.routing.held()]

    async def preview(self, hub: Facility | None = None) -> list[Change]:
        found, after = await self.routing.reevaluation.reevaluate(ADMIN, (hub or self.hub).id, [], None)
        assert after is None
        return list(found)

    async def apply(self, *changes: Change) -> list[str]:
        made, _ = await self.routing.reevaluation.reevaluate(ADMIN, self.hub.id, changes)
        return [each.why_not for each in made]


@pytest.fixture
async def scene(routing: Routing) -> Scene:
    return await Scene(routing).set()


# A first value that comes late


@pytest.mark.proves("A19", part="a first value that comes late")
@pytest.mark.proves("RTE-9", part="from what came later, too")
async def test_a_study_that_came_without_a_value_goes_where_a_rule_knows_its_first_one(
    routing: Routing, scene: Scene
) -> None:
    report = await scene.received(("1.1", None))
    assert (Reason.NO_VALUE, scene.hub.id) == (
        (await scene.case_of(report)).reason,
        (await scene.case_of(report)).facility_id,
    )

    await scene.grown(report, ("1.1", None), ("1.2", "MS44"))

    case = await scene.case_of(report)
    assert (scene.lakeside.id, scene.hub.id, Reason.RULE) == (
        case.facility_id,
        case.received_via_facility_id,
        case.reason,
    )
    (move,) = routing.movers.begun
    assert (move.id, False) == (case.last_move_id, move.by_hand)
    assert [] == await scene.waits()
    assert not case.moved_by_hand
    (placed,) = case.studies
    assert placed.parts is not None
    assert 2 == len(placed.parts)


async def test_what_somebody_has_touched_waits_for_a_person_and_grows_all_the_same(
    routing: Routing, scene: Scene
) -> None:
    report = await scene.received(("1.1", None))
    routing.movers.why_not = Conflict("somebody has worked with the case: a person must move it")

    await scene.grown(report, ("1.1", None), ("1.2", "MS44"))

    case = await scene.case_of(report)
    assert (scene.hub.id, 2) == (case.facility_id, len(case.studies[0].parts or ()))
    assert [(HeldKind.UNDISTRIBUTED, HeldReason.NO_VALUE)] == await scene.waits()


async def test_a_late_value_that_no_rule_has_is_why_it_waits_from_then_on(scene: Scene) -> None:
    report = await scene.received(("1.1", None))

    await scene.grown(report, ("1.1", None), ("1.2", "nobody's"))

    assert Reason.NO_RULE is (await scene.case_of(report)).reason
    assert [(HeldKind.UNDISTRIBUTED, HeldReason.NO_RULE)] == await scene.waits()


async def test_where_access_does_not_answer_the_snapshot_waits(routing: Routing, scene: Scene) -> None:
    report = await scene.received(("1.1", None))
    routing.movers.why_not = Unavailable("access does not answer")

    with pytest.raises(Unavailable):
        await scene.grown(report, ("1.1", None), ("1.2", "MS44"))
    routing.movers.why_not = None
    assert 1 == await heal(routing.database, routing.arrivals.kinds())

    assert scene.lakeside.id == (await scene.case_of(report)).facility_id


async def test_a_late_value_moves_no_case_that_a_person_has_moved(routing: Routing, scene: Scene) -> None:
    report = await scene.received(("1.1", None))
    case = await scene.case_of(report)
    await routing.moves.distribute(ADMIN, case.case_id, scene.hillside.id)
    await routing.moves.move_on(ADMIN, case.case_id, scene.hub.id)

    await scene.grown(report, ("1.1", None), ("1.2", "MS44"))

    assert (scene.hub.id, 2) == ((await scene.case_of(report)).facility_id, len(routing.movers.begun))


async def test_the_value_of_another_patient_moves_nothing(routing: Routing, scene: Scene) -> None:
    report = await scene.received(("1.1", None, JANE))

    await scene.grown(report, ("1.1", None, JANE), ("1.2", "MS44", JOHN))

    assert scene.hub.id == (await scene.case_of(report)).facility_id
    assert [] == routing.movers.begun


# Rules that were made later


@pytest.mark.proves("A20", part="re-evaluate with a preview")
async def test_what_waits_goes_where_a_new_rule_sends_it_and_only_what_was_previewed(
    routing: Routing, scene: Scene
) -> None:
    first = await scene.received(("1.1", "MS55"))
    other = await scene.received(("1.1", "nobody's"))
    await routing.rule(scene.hub, "MS55", scene.hillside)
    assert scene.hub.id == (await scene.case_of(first)).facility_id, "a rule moves nothing by itself"

    (change,) = await scene.preview()
    later = await scene.received(("1.1", "MS56"))
    await routing.rule(scene.hub, "MS56", scene.hillside)
    assert [""] == await scene.apply(change)

    case = await scene.case_of(first)
    assert (case.case_id, scene.hillside.id, Reason.RULE) == (
        change.case_id,
        case.facility_id,
        case.reason,
    )
    for study in (other, later):
        assert scene.hub.id == (await scene.case_of(study)).facility_id
    rows = await routing.query("select actor from audit_rows where action = 'case.reevaluated'")
    assert [ADMIN] == [row["actor"] for row in rows]


@pytest.mark.proves("A20", part="exactly the previewed versions")
async def test_what_has_changed_since_the_preview_stays(routing: Routing, scene: Scene) -> None:
    grown, ruled = await scene.received(("1.1", "MS55")), await scene.received(("1.1", "MS56"))
    await routing.rule(scene.hub, "MS55", scene.hillside)
    rule = await routing.rule(scene.hub, "MS56", scene.hillside)
    changes = await scene.preview()
    await scene.grown(grown, ("1.1", "MS55"), ("1.2", None))
    await routing.rules.remove_rule(ADMIN, rule.id)

    assert [CHANGED, CHANGED] == await scene.apply(*changes)

    for study in (grown, ruled):
        assert scene.hub.id == (await scene.case_of(study)).facility_id
    assert [] == routing.movers.begun


async def test_what_changes_while_access_is_asked_stays(routing: Routing, scene: Scene) -> None:
    study = await scene.received(("1.1", "MS55"))
    rule = await routing.rule(scene.hub, "MS55", scene.hillside)

    async def somebody_removes_the_rule(move: Move) -> None:
        await routing.rules.remove_rule(ADMIN, rule.id)

    (change,) = await scene.preview()
    routing.movers.meanwhile = somebody_removes_the_rule

    assert [CHANGED] == await scene.apply(change)
    assert scene.hub.id == (await scene.case_of(study)).facility_id


async def test_a_preview_says_what_access_would_refuse(routing: Routing, scene: Scene) -> None:
    await scene.received(("1.1", "MS55"))
    await routing.rule(scene.hub, "MS55", scene.hillside)
    routing.movers.why_not = Conflict("a person must move it")

    (change,) = await scene.preview()

    assert "a person must move it" == change.why_not
    assert ["a person must move it"] == await scene.apply(replace(change, why_not=""))


async def test_nothing_that_a_rule_or_a_person_has_placed_is_touched(routing: Routing, scene: Scene) -> None:
    by_rule, by_hand, back = [await scene.received(("1.1", value)) for value in ("MS44", "MS55", "MS56")]
    for study in (by_hand, back):
        await routing.moves.distribute(ADMIN, (await scene.case_of(study)).case_id, scene.lakeside.id)
    await routing.moves.move_on(ADMIN, (await scene.case_of(back)).case_id, scene.hub.id)
    for text in ("MS55", "MS56"):
        await routing.rule(scene.hub, text, scene.hillside)

    assert [] == await scene.preview()
    forged = [
        Change(case.case_id, study.id, 0, case.version, scene.hillside.id)
        for study in (by_rule, by_hand, back)
        for case in [await scene.case_of(study)]
    ]
    assert [CHANGED] * 3 == await scene.apply(*forged)


@pytest.mark.proves("A20", part="parts held for mapping, never another patient's")
async def test_a_part_held_for_its_value_joins_where_rules_send_both_values(
    routing: Routing, scene: Scene
) -> None:
    study = await scene.received(("1.1", "MS44"), ("1.2", "MS45"), ("1.3", "MS46"), ("1.4", "MS45", JOHN))
    assert 1 == len((await scene.case_of(study)).studies[0].parts or ())
    await routing.rule(scene.hub, "MS45", scene.lakeside)
    await routing.rule(scene.hub, "MS46", scene.hillside)

    (change,) = await scene.preview()
    assert (2, scene.lakeside.id) == (change.part % 100, change.to_facility_id)
    assert [""] == await scene.apply(change)

    assert 2 == len((await scene.case_of(study)).studies[0].parts or ())
    assert {
        (HeldKind.PART, HeldReason.OTHER_VALUE),
        (HeldKind.ANOTHER_PATIENT, HeldReason.ANOTHER_PATIENT),
    } == {*await scene.waits()}
    assert [] == routing.movers.begun + routing.movers.previewed


@pytest.mark.proves("A20", part="parts held for mapping, never another patient's")
async def test_a_part_that_contradicts_what_came_after_it_is_another_patients_first(
    routing: Routing, scene: Scene
) -> None:
    """What came first names a patient without an id, and so contradicts neither."""
    nameless = replace(JANE, patient_id="")
    other = replace(JANE, patient_id="P-2")
    study = await scene.received(
        ("1.1", "MS44", nameless), ("1.2", "MS45", other), ("1.3", "MS44", JANE), ("1.4", "MS45", JANE)
    )
    await routing.rule(scene.hub, "MS45", scene.lakeside)

    assert {
        (HeldKind.ANOTHER_PATIENT, HeldReason.ANOTHER_PATIENT),
        (HeldKind.PART, HeldReason.OTHER_VALUE),
    } == {*await scene.waits()}
    assert [""] == await scene.apply(*await scene.preview())

    (placed,) = (await scene.case_of(study)).studies
    assert (3, 1) == (len(placed.parts or ()), placed.another_patient_held)


async def test_a_part_that_another_tag_lets_in_is_compared_with_what_came_after_it_too(
    routing: Routing, scene: Scene
) -> None:
    nameless, other = replace(JANE, patient_id=""), replace(JANE, patient_id="P-2")
    study = await scene.received(("1.1", "nobody's", nameless), ("1.2", "another", other))
    study = await scene.grown(
        study, ("1.1", "nobody's", nameless), ("1.2", "another", other), ("1.3", "nobody's", JANE)
    )
    await routing.query("delete from endpoint_rules")
    hub = await routing.facility("North Hub", Model.HUB, tag="StationName", facility_id=scene.hub.id)
    await routing.rule(hub, "S1", scene.hillside)
    parts = tuple(replace(part, mapping_values=("S1",)) for part in study.parts)
    study = replace(study, mapping_tag="StationName", parts=parts)
    routing.archive.add(study)
    assert [""] == await scene.apply(*await scene.preview())

    await routing.receive(replace(study, version=study.version + 1))

    (placed,) = (await scene.case_of(study)).studies
    assert (2, 1) == (len(placed.parts or ()), placed.another_patient_held)


@pytest.mark.proves("A20", part="by the value of what the case shows")
@pytest.mark.parametrize(
    ("values", "goes"),
    [
        (("S1", "S1", "S2"), True),
        ((None, "S1", "S2"), True),
        (("S2", "S2", "S1"), False),
        ((None, None, "S1"), False),
        (("S1", "S3", "S1"), False),
    ],
)
async def test_where_the_hub_has_another_tag_now_what_the_case_shows_decides_and_nothing_that_is_held(
    routing: Routing, scene: Scene, values: tuple[str | None, ...], goes: bool
) -> None:
    study = await scene.received(("1.1", None), ("1.2", "nobody's"), ("1.3", "another"))
    await routing.query("delete from endpoint_rules")
    hub = await routing.facility("North Hub", Model.HUB, tag="StationName", facility_id=scene.hub.id)
    await routing.rule(hub, "S1", scene.hillside)
    parts = tuple(
        replace(part, mapping_values=(value,) if value else ())
        for part, value in zip(study.parts, values, strict=True)
    )
    routing.archive.add(replace(study, mapping_tag="StationName", parts=parts))

    await scene.apply(*await scene.preview())

    expected = scene.hillside.id if goes else scene.hub.id
    case = await scene.case_of(study)
    assert (expected, 2) == (case.facility_id, len(case.studies[0].parts or ()))


async def test_who_does_not_administer_hub_and_endpoint_changes_nothing(
    routing: Routing, scene: Scene
) -> None:
    study = await scene.received(("1.1", "MS55"))
    await routing.rule(scene.hub, "MS55", scene.hillside)
    (change,) = await scene.preview()

    routing.only_at(scene.hub.id)
    (seen,) = await scene.preview()
    assert "you need the permission `facility.admin`" in seen.why_not
    assert "you need the permission `facility.admin`" in (await scene.apply(change))[0]
    routing.only_at(scene.hillside.id)
    for act in (scene.preview(), scene.apply(change)):
        with pytest.raises(NotFound):
            await act
    assert scene.hub.id == (await scene.case_of(study)).facility_id


async def test_only_a_hub_is_reevaluated_and_what_nobody_knows_is_not_changed(
    routing: Routing, scene: Scene
) -> None:
    with pytest.raises(Conflict, match="not a hub"):
        await scene.preview(scene.lakeside)
    with pytest.raises(NotFound):
        await routing.reevaluation.reevaluate(ADMIN, FacilityId(uuid4()), [], None)
    study = await scene.received(("1.1", "MS55"))
    await routing.rule(scene.hub, "MS55", scene.hillside)
    (change,) = await scene.preview()
    assert [CHANGED, CHANGED] == await scene.apply(
        replace(change, case_id=CaseId(uuid4())), replace(change, part=7)
    )
    assert scene.hub.id == (await scene.case_of(study)).facility_id


async def test_a_facility_that_has_the_study_already_gets_no_second(routing: Routing, scene: Scene) -> None:
    study = await scene.received(("1.1", "MS55"))
    await routing.rule(scene.hub, "MS55", scene.hillside)
    await routing.receive(
        a_study(scene.hillside.id, ("1.1", None), study_instance_uid=study.study_instance_uid)
    )

    assert [] == await scene.preview()


async def test_a_long_queue_is_previewed_page_by_page(routing: Routing, scene: Scene) -> None:
    studies = [await scene.received(("1.1", "MS55")) for _ in range(MAX_CHANGES + 2)]
    await routing.rule(scene.hub, "MS55", scene.hillside)

    first, after = await routing.reevaluation.reevaluate(ADMIN, scene.hub.id, [], None)
    rest, last = await routing.reevaluation.reevaluate(ADMIN, scene.hub.id, [], after)

    assert (MAX_CHANGES, 2, None) == (len(first), len(rest), last)
    assert {study.id for study in studies} == {change.study_id for change in [*first, *rest]}
