"""Placing, holding and distributing on PostgreSQL: in any order, twice, and side by side."""

import asyncio
from dataclasses import replace
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernel.errors import Conflict, Denied, Invalid, NotFound, Unavailable
from kernel.ids import CaseId, FacilityId, StudyId
from services.routing.domain import Facility, Model, Placement, Reason, Study
from services.routing.parts import Held, HeldKind, HeldReason
from services.routing.store import RoutingTransaction
from tests.healing import heal
from tests.routing.builders import EVERYWHERE, a_study, a_uid
from tests.routing.conftest import ADMIN, Routing

VALUES = st.sampled_from([None, "MS44", "ms44 ", "MS55", "other", "MS44\\MS55"])
OBJECTS = st.lists(st.tuples(st.sampled_from(["1.1", "1.2", "1.3"]), VALUES), min_size=1, max_size=6)


async def a_hub_with_two_endpoints(routing: Routing) -> tuple[Facility, Facility, Facility]:
    hub = await routing.facility("North Hub", Model.HUB)
    lakeside = await routing.facility("Lakeside", Model.ENDPOINT)
    hillside = await routing.facility("Hillside", Model.ENDPOINT)
    await routing.rule(hub, "MS44", lakeside)
    await routing.rule(hub, "MS55", hillside)
    return hub, lakeside, hillside


def grown(study: Study, *objects: tuple[str, str | None], settled: bool = False) -> Study:
    """The next snapshot of the study, which has received `objects` in all."""
    return a_study(
        study.receiving_facility_id,
        *objects,
        study_id=study.id,
        study_instance_uid=study.study_instance_uid,
        version=study.version + 1,
        settled=settled,
    )


# Facts that come twice, late, or out of order


async def test_a_snapshot_that_comes_again_changes_nothing(routing: Routing) -> None:
    hub, _, _ = await a_hub_with_two_endpoints(routing)
    study = a_study(hub.id, ("1.1", "MS44"))
    await routing.place(study, study, study)
    (case,) = await routing.cases()
    assert case.version == 1
    assert [fact for fact in await routing.facts() if fact[0].startswith("case")] == [("case.placed.v1", 1)]


async def test_a_snapshot_fetched_before_a_newer_one_and_written_after_it_changes_nothing(
    routing: Routing,
) -> None:
    hub, _, _ = await a_hub_with_two_endpoints(routing)
    old = a_study(hub.id, ("1.1", "MS44"))
    await routing.place(grown(old, ("1.1", "MS44"), ("1.2", "MS44")))
    before = await routing.cases()
    await routing.place(old)
    assert await routing.cases() == before


async def outcome(routing: Routing, study_id: StudyId) -> tuple[object, ...]:
    rows = await routing.query("select case_id from received_studies where study_id = $1", study_id)
    case_id = rows[0]["case_id"] if rows else None
    held = sorted(
        (each.kind, each.reason, each.series_instance_uid or "")
        for each in await routing.held()
        if each.study_id == study_id
    )
    if case_id is None:
        return (held,)
    case = await routing.placements.describe_placement(case_id)
    return (
        case.facility_id,
        case.received_via_facility_id,
        case.reason,
        case.studies[0].series_instance_uids,
        held,
    )


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(objects=OBJECTS, deliveries=st.lists(st.integers(0, 6), max_size=8))
async def test_placing_does_not_depend_on_order_or_repetition(
    routing: Routing, objects: list[tuple[str, str | None]], deliveries: list[int]
) -> None:
    hub = await routing.facility(f"Hub {uuid4()}", Model.HUB)
    for text in ("MS44", "MS55"):
        await routing.rule(hub, text, await routing.facility(f"{text} {uuid4()}", Model.ENDPOINT))
    history = [a_study(hub.id, *objects[:1])]
    for count in range(2, len(objects) + 1):
        history.append(grown(history[-1], *objects[:count]))
    history.append(grown(history[-1], *objects, settled=True))
    last = history[-1]

    await routing.place(*(history[min(number, len(history) - 1)] for number in deliveries), last)
    # The same study once more, of which only the last snapshot was ever heard.
    twin = replace(last, id=StudyId(uuid4()), study_instance_uid=a_uid())
    await routing.place(twin)
    assert await outcome(routing, last.id) == await outcome(routing, twin.id)


async def test_consumers_side_by_side_place_a_study_once(routing: Routing) -> None:
    hub, _, _ = await a_hub_with_two_endpoints(routing)
    first = a_study(hub.id, ("1.1", "MS44"))
    second = grown(first, ("1.1", "MS44"), ("1.2", None))
    await asyncio.gather(*(routing.place(each) for each in [first, second] * 4))
    (case,) = await routing.cases()
    assert case.studies[0].series_instance_uids == ("1.1", "1.2")
    # Facts of transactions side by side may stand in any order: whoever hears them goes by version.
    facts = sorted(fact for fact in await routing.facts() if fact[0].startswith("case"))
    assert facts == [("case.placed.v1", version) for version in range(1, case.version + 1)]


@pytest.mark.parametrize("turn", range(5))
async def test_never_two_live_cases_of_a_study_at_a_facility(routing: Routing, turn: int) -> None:
    hub, lakeside, _ = await a_hub_with_two_endpoints(routing)
    study_uid = a_uid()
    ways = [
        a_study(hub.id, ("1.1", "MS44"), study_instance_uid=study_uid),
        a_study(lakeside.id, ("1.1", None), study_instance_uid=study_uid),
        a_study(lakeside.id, ("1.9", None), study_instance_uid=study_uid),
    ]
    await asyncio.gather(*(routing.place(study) for study in ways))
    (case,) = await routing.cases()
    assert len(case.studies) == 1
    held = await routing.held()
    assert {each.study_id for each in held} == {study.id for study in ways} - {case.studies[0].id}
    assert {(each.kind, each.reason, each.case_id) for each in held} == {
        (HeldKind.STUDY, HeldReason.SECOND_STUDY, case.case_id)
    }


async def test_a_held_copy_stays_held_while_the_case_lives_and_never_joins_it(routing: Routing) -> None:
    hub, lakeside, _ = await a_hub_with_two_endpoints(routing)
    direct = a_study(lakeside.id, ("1.1", None))
    copy = a_study(hub.id, ("1.1", "MS44"), study_instance_uid=direct.study_instance_uid)
    await routing.place(direct, copy, grown(copy, ("1.1", "MS44"), ("1.2", "MS44"), settled=True))
    (case,) = await routing.cases()
    assert [study.id for study in case.studies] == [direct.id]
    (held,) = await routing.held()
    assert (held.study_id, held.facility_id, held.case_id) == (copy.id, hub.id, case.case_id)


async def test_the_same_study_at_two_facilities_is_two_cases(routing: Routing) -> None:
    _, lakeside, hillside = await a_hub_with_two_endpoints(routing)
    here = a_study(lakeside.id, ("1.1", None))
    await routing.place(here, a_study(hillside.id, ("1.1", None), study_instance_uid=here.study_instance_uid))
    assert {case.facility_id for case in await routing.cases()} == {lakeside.id, hillside.id}
    assert await routing.held() == []


# What is said


async def test_more_images_of_what_is_known_say_nothing(routing: Routing) -> None:
    _, lakeside, _ = await a_hub_with_two_endpoints(routing)
    study = a_study(lakeside.id, ("1.1", None))
    await routing.place(study, grown(study, ("1.1", None), ("1.2", None), settled=True))
    (case,) = await routing.cases()
    assert case.version == 1


async def test_a_case_says_what_becomes_of_it_once_for_each_version(routing: Routing) -> None:
    hub, lakeside, _ = await a_hub_with_two_endpoints(routing)
    study = a_study(hub.id, ("1.1", "unknown"))
    more = grown(study, ("1.1", "unknown"), ("1.2", "unknown"))
    settled = grown(more, ("1.1", "unknown"), ("1.2", "unknown"), settled=True)
    await routing.place(study, more, settled)
    (case,) = await routing.cases()
    await routing.moves.distribute(ADMIN, case.case_id, lakeside.id)
    assert [fact for fact in await routing.facts() if fact[0].startswith("case")] == [
        ("case.undistributed.v1", 1),
        ("case.placed.v1", 2),
        ("case.moved.v1", 3),
    ]


async def test_nothing_that_is_told_or_audited_holds_a_mapping_value(routing: Routing) -> None:
    hub = await routing.facility("Hub by patient", Model.HUB, tag="PatientID")
    endpoint = await routing.facility("Lakeside", Model.ENDPOINT)
    study = a_study(hub.id, ("1.1", "DOE-4711"), ("1.2", "ROE-4712"), tag="PatientID", settled=True)
    await routing.place(study)
    (case,) = await routing.cases()
    await routing.moves.distribute(ADMIN, case.case_id, endpoint.id)
    for table in ("outbox", "audit_rows", "held_parts", "placements"):
        told = str([dict(row) for row in await routing.query(f"select * from {table}")]).casefold()
        assert told != "[]"
        assert "4711" not in told
        assert "4712" not in told


# Rules that change


@pytest.mark.proves("GWY-21")
async def test_a_changed_rule_routes_the_next_study_and_moves_none(routing: Routing) -> None:
    hub, lakeside, hillside = await a_hub_with_two_endpoints(routing)
    placed = a_study(hub.id, ("1.1", "MS44"))
    await routing.place(placed)
    (rule,) = [
        each for each in await routing.rules.list_rules(ADMIN, lakeside.id, None, 10) if each.text == "MS44"
    ]
    await routing.rules.remove_rule(ADMIN, rule.id)
    await routing.rule(hub, "MS44", hillside)
    await routing.place(
        grown(placed, ("1.1", "MS44"), ("1.2", "MS44"), settled=True), a_study(hub.id, ("2.1", "MS44"))
    )
    assert [case.facility_id for case in await routing.cases()] == [lakeside.id, hillside.id]


async def test_a_waiting_study_goes_by_the_rules_there_are_when_it_is_placed(
    routing: Routing,
) -> None:
    hub, lakeside, _ = await a_hub_with_two_endpoints(routing)
    waiting = a_study(hub.id, ("1.1", None))
    await routing.place(waiting)
    await routing.rule(hub, "MS66", lakeside)
    await routing.place(grown(waiting, ("1.1", "MS66")))
    (case,) = await routing.cases()
    assert case.facility_id == lakeside.id


async def test_the_tag_that_decided_goes_on_deciding_for_its_study(routing: Routing) -> None:
    hub = await routing.facility("North Hub", Model.HUB)
    study = a_study(hub.id, ("1.1", "MS44"))
    await routing.place(study)
    await routing.facility("North Hub", Model.HUB, tag="StationName", facility_id=hub.id)
    await routing.place(grown(study, ("1.1", "MS44"), ("1.2", "MS55")))
    (case,) = await routing.cases()
    assert case.studies[0].series_instance_uids == ("1.1",)


@pytest.mark.proves("RTE-10")
async def test_the_studies_of_several_facilities_pass_through_one_gateway(routing: Routing) -> None:
    hub, lakeside, hillside = await a_hub_with_two_endpoints(routing)
    await routing.place(
        *(a_study(hub.id, ("1.1", value)) for value in ("MS44", "MS55", "MS44", "none of them"))
    )
    owners = [case.facility_id for case in await routing.cases()]
    assert owners == [lakeside.id, hillside.id, lakeside.id, hub.id]


# Distribute


async def an_undistributed_case(routing: Routing, hub: Facility, study_uid: str | None = None) -> Placement:
    study = a_study(hub.id, ("1.1", "unknown"), study_instance_uid=study_uid)
    await routing.place(study)
    (row,) = await routing.query("select case_id from received_studies where study_id = $1", study.id)
    return await routing.placements.describe_placement(row["case_id"])


async def test_a_distributed_case_keeps_its_id_and_waits_no_more(routing: Routing) -> None:
    hub, lakeside, _ = await a_hub_with_two_endpoints(routing)
    case = await an_undistributed_case(routing, hub)
    moved = (await routing.moves.distribute(ADMIN, case.case_id, lakeside.id)).placement
    assert moved == replace(
        case,
        facility_id=lakeside.id,
        received_via_facility_id=hub.id,
        reason=Reason.BY_HAND,
        version=case.version + 1,
        moved_by_hand=True,
        last_move_id=routing.movers.begun[0].id,
    )
    assert await routing.placements.describe_placement(case.case_id) == moved
    assert await routing.held() == []
    (row,) = await routing.query("select * from audit_rows where action = 'case.distributed'")
    assert (row["actor"], row["object"], row["outcome"]) == (ADMIN, f"case:{case.case_id}", "done")


async def test_a_case_is_distributed_once_however_many_try(routing: Routing) -> None:
    hub, lakeside, hillside = await a_hub_with_two_endpoints(routing)
    case = await an_undistributed_case(routing, hub)
    tries = [
        routing.moves.distribute(ADMIN, case.case_id, endpoint.id) for endpoint in [lakeside, hillside] * 3
    ]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["Conflict"] * 5 + ["Moved"]
    facts = [fact for fact in await routing.facts() if fact[0] == "case.moved.v1"]
    assert facts == [("case.moved.v1", 2)]


async def test_an_endpoint_that_has_a_case_of_the_study_takes_no_second(routing: Routing) -> None:
    hub, lakeside, _ = await a_hub_with_two_endpoints(routing)
    direct = a_study(lakeside.id, ("1.1", None))
    await routing.place(direct)
    case = await an_undistributed_case(routing, hub, direct.study_instance_uid)
    with pytest.raises(Conflict) as error:
        await routing.moves.distribute(ADMIN, case.case_id, lakeside.id)
    assert error.value.field == "facility_id"
    assert await routing.placements.describe_placement(case.case_id) == case
    assert [each.kind for each in await routing.held()] == [HeldKind.UNDISTRIBUTED]


@pytest.mark.parametrize("turn", range(3))
async def test_distributing_while_the_study_grows_loses_neither(routing: Routing, turn: int) -> None:
    hub, lakeside, _ = await a_hub_with_two_endpoints(routing)
    study = a_study(hub.id, ("1.1", "unknown"))
    await routing.place(study)
    (case,) = await routing.cases()
    await asyncio.gather(
        routing.place(grown(study, ("1.1", "unknown"), ("1.2", "unknown"))),
        routing.moves.distribute(ADMIN, case.case_id, lakeside.id),
    )
    (case,) = await routing.cases()
    assert (case.facility_id, case.version) == (lakeside.id, 3)
    assert case.studies[0].series_instance_uids == ("1.1", "1.2")
    assert await routing.held() == []


async def test_only_an_undistributed_case_is_distributed_and_only_to_an_endpoint(
    routing: Routing,
) -> None:
    hub, lakeside, hillside = await a_hub_with_two_endpoints(routing)
    standard = await routing.facility("City Hospital")
    case = await an_undistributed_case(routing, hub)
    for facility in (standard, hub):
        with pytest.raises(Invalid) as invalid:
            await routing.moves.distribute(ADMIN, case.case_id, facility.id)
        assert invalid.value.field == "facility_id"
    await routing.place(direct := a_study(hillside.id, ("1.1", None)))
    (row,) = await routing.query("select case_id from received_studies where study_id = $1", direct.id)
    with pytest.raises(Conflict) as conflict:
        await routing.moves.distribute(ADMIN, row["case_id"], lakeside.id)
    assert conflict.value.field == "case_id"


async def test_a_case_whose_hub_one_does_not_administer_is_the_same_as_absent(routing: Routing) -> None:
    hub, lakeside, hillside = await a_hub_with_two_endpoints(routing)
    case = await an_undistributed_case(routing, hub)
    refusals = []
    for administered, case_id, endpoint in (
        ([lakeside.id], case.case_id, lakeside.id),
        ([lakeside.id], CaseId(uuid4()), lakeside.id),
        ([], case.case_id, lakeside.id),
        ([hub.id, hillside.id], case.case_id, lakeside.id),
        ([hub.id, hillside.id], case.case_id, FacilityId(uuid4())),
    ):
        routing.only_at(*administered)
        with pytest.raises(NotFound) as error:
            await routing.moves.distribute(ADMIN, case_id, endpoint)
        said = error.value.sentence.replace(str(case_id), "CASE").replace(str(endpoint), "ENDPOINT")
        refusals.append((said, error.value.field))
    assert refusals[0] == refusals[1] == refusals[2]
    assert refusals[3] == refusals[4]
    assert await routing.placements.describe_placement(case.case_id) == case
    rows = await routing.query("select outcome from audit_rows where action = 'case.distributed'")
    assert [row["outcome"] for row in rows] == ["refused"] * 5
    routing.only_at(hub.id, lakeside.id)
    moved = await routing.moves.distribute(ADMIN, case.case_id, lakeside.id)
    assert moved.placement.reason is Reason.BY_HAND


# What waits


async def pages(routing: Routing, size: int) -> list[Held]:
    listed: list[Held] = []
    while page := await routing.held_parts.list_held(ADMIN, listed[-1].id if listed else None, size):
        listed += page
    return listed


async def test_the_list_of_what_waits_is_complete_oldest_first_and_keeps_its_order(routing: Routing) -> None:
    hub, _, _ = await a_hub_with_two_endpoints(routing)
    studies = [a_study(hub.id, ("1.1", f"unknown {n}"), ("1.2", "MS44")) for n in range(5)]
    await routing.place(*studies)
    listed = await pages(routing, 3)
    assert [(each.study_id, each.kind) for each in listed] == [
        (study.id, kind) for study in studies for kind in (HeldKind.UNDISTRIBUTED, HeldKind.PART)
    ]
    assert [each.held_at for each in listed] == sorted(each.held_at for each in listed)
    await routing.place(grown(studies[0], ("1.1", "unknown 0"), ("1.2", "MS44"), ("1.3", None)))
    assert await pages(routing, 3) == listed
    assert await routing.held_parts.count() == {
        HeldKind.UNDISTRIBUTED: 5,
        HeldKind.PART: 5,
        HeldKind.STUDY: 0,
        HeldKind.SERIES: 0,
        HeldKind.ANOTHER_PATIENT: 0,
    }


async def test_what_waits_elsewhere_is_left_out(routing: Routing) -> None:
    hub, lakeside, _ = await a_hub_with_two_endpoints(routing)
    other = await routing.facility("South Hub", Model.HUB)
    here, there = (a_study(each.id, ("1.1", "unknown"), ("1.2", "MS44")) for each in (hub, other))
    await routing.place(here, there, a_study(FacilityId(uuid4()), ("1.1", None)))
    routing.only_at(other.id, lakeside.id)
    assert {each.study_id for each in await pages(routing, 1)} == {there.id}
    routing.only_at()
    with pytest.raises(Denied):
        await routing.held_parts.list_held(ADMIN, None, 10)
    routing.permissions.held["facility.admin"] = EVERYWHERE
    assert len(await pages(routing, 1)) == 5


# Healing


async def test_healing_brings_what_was_missed_and_nothing_else(routing: Routing) -> None:
    _, lakeside, _ = await a_hub_with_two_endpoints(routing)
    studies = [routing.archive.add(a_study(lakeside.id, ("1.1", None))) for _ in range(5)]
    await routing.place(*studies[:2])
    routing.archive.add(grown(studies[0], ("1.1", None), ("1.2", None)))
    assert await heal(routing.database, routing.placements.kinds()) == 4
    assert len(await routing.cases()) == 5
    assert await heal(routing.database, routing.placements.kinds()) == 0


async def test_a_study_that_cannot_be_placed_does_not_keep_the_others_from_healing(routing: Routing) -> None:
    _, lakeside, _ = await a_hub_with_two_endpoints(routing)
    studies = sorted((routing.archive.add(a_study(lakeside.id)) for _ in range(3)), key=lambda each: each.id)
    routing.archive.add(replace(studies[0], study_instance_uid=None))  # type: ignore[arg-type]
    with pytest.raises(Unavailable, match=r"^1 could not be healed"):
        await heal(routing.database, routing.placements.kinds())
    assert len(await routing.cases()) == 2


async def test_a_study_that_has_gone_meanwhile_is_left_alone(routing: Routing) -> None:
    _, lakeside, _ = await a_hub_with_two_endpoints(routing)
    study = routing.archive.add(a_study(lakeside.id))

    async def gone(*_: object) -> None:
        return None

    routing.archive.describe_study = gone  # type: ignore[method-assign,assignment]
    assert await heal(routing.database, routing.placements.kinds()) == 0
    assert await routing.placements.fetch(study.id) is None
    assert await routing.cases() == []


async def test_ingest_is_asked_of_no_version_that_is_applied(routing: Routing) -> None:
    _, lakeside, _ = await a_hub_with_two_endpoints(routing)
    study = a_study(lakeside.id, version=2)
    await routing.receive(study)
    assert await routing.arrivals.fetch(study.id, 2) is None
    assert await routing.arrivals.fetch(study.id, 3) is not None
    assert await routing.arrivals.fetch(study.id) is not None, "healing asks whatever is known"


async def test_what_fails_halfway_leaves_nothing(routing: Routing) -> None:
    hub, _, _ = await a_hub_with_two_endpoints(routing)

    async def fail(transaction: RoutingTransaction) -> None:
        await routing.placements.place(transaction, a_study(hub.id, ("1.1", "MS44")))
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        async with routing.database.transaction() as transaction:
            await fail(transaction)
    assert await routing.cases() == []
    assert [fact for fact in await routing.facts() if fact[0].startswith("case")] == []


async def test_versions_of_all_cases_are_listed_by_id(routing: Routing) -> None:
    _, lakeside, _ = await a_hub_with_two_endpoints(routing)
    await routing.place(*(a_study(lakeside.id, ("1.1", None)) for _ in range(3)))
    cases = await routing.cases()
    after = cases[0].case_id
    assert await routing.placements.list_versions(after) == [(case.case_id, 1) for case in cases[1:]]


async def test_a_case_that_is_not_there_is_not_found(routing: Routing) -> None:
    with pytest.raises(NotFound):
        await routing.placements.describe_placement(CaseId(uuid4()))
