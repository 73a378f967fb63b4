"""The whole service: real PostgreSQL and NATS, gRPC over mutual TLS, user tokens."""

from uuid import uuid4

import pytest
from prometheus_client import REGISTRY

from kernel.errors import Denied, NotFound
from kernel.events import CasePlaced, StudyChanged, StudyReceived
from kernel.ids import StudyId
from tests.routing.builders import EVERYWHERE, JOHN, Object, a_study
from tests.routing.system import System, a_hub, at, facts_said
from tests.wait import eventually
from wire.access.v1 import access_pb2
from wire.routing.v1 import routing_pb2 as pb

# From fact to case


@pytest.mark.proves("RTE-8")
@pytest.mark.proves("RTE-9")
async def test_a_received_study_becomes_a_case_of_the_endpoint_and_says_so(running: System) -> None:
    hub, lakeside = await a_hub(running)
    study = await running.receive(a_study(at(hub), ("1.1", "ms44 "), ("1.2", "MS55"), ("1.3", None)))
    case = await running.case_of(study)
    assert (case.facility_id, case.received_via_facility_id) == (lakeside, hub)
    assert case.reason == pb.PLACEMENT_REASON_RULE
    assert not case.undistributed
    (placed,) = case.studies
    assert (placed.study_id, placed.all_series) == (str(study.id), False)
    assert list(placed.series_instance_uids) == ["1.1", "1.3"]

    async def said() -> bool:
        return (CasePlaced.subject, case.case_id, 1) in await facts_said(running)

    await eventually(said)


@pytest.mark.proves("RTE-3")
async def test_a_study_of_a_standard_facility_is_its_case_with_all_series(running: System) -> None:
    city = await running.facility("City Hospital")
    case = await running.case_of(await running.receive(a_study(at(city), ("1.1", "MS44"))))
    assert (case.facility_id, case.received_via_facility_id) == (city, "")
    assert case.reason == pb.PLACEMENT_REASON_DIRECT
    assert case.studies[0].all_series
    assert not case.studies[0].series_instance_uids


@pytest.mark.proves("RTE-6")
async def test_an_endpoint_gets_studies_both_ways(running: System) -> None:
    hub, lakeside = await a_hub(running)
    cases = [
        await running.case_of(await running.receive(a_study(at(each), ("1.1", "MS44"))))
        for each in (hub, lakeside)
    ]
    assert [case.facility_id for case in cases] == [lakeside, lakeside]
    assert [case.received_via_facility_id for case in cases] == [hub, ""]


@pytest.mark.proves("GWY-21")
async def test_the_next_study_goes_by_the_changed_rule_at_once(running: System) -> None:
    hub, lakeside = await a_hub(running)
    hillside = await running.facility("Hillside", pb.TRANSMISSION_MODEL_ENDPOINT)
    before = await running.case_of(await running.receive(a_study(at(hub), ("1.1", "MS44"))))
    (rule,) = (await running.as_user().ListRules(pb.ListRulesRequest(facility_id=hub))).rules
    await running.as_user().RemoveRule(pb.RemoveRuleRequest(rule_id=rule.rule_id))
    await running.rule(hub, "MS44", hillside)
    after = await running.case_of(await running.receive(a_study(at(hub), ("1.1", "MS44"))))
    assert (before.facility_id, after.facility_id) == (lakeside, hillside)
    assert (await running.described(before.case_id)).facility_id == lakeside


@pytest.mark.proves("RTE-4")
async def test_an_undistributed_study_is_listed_and_distributed_by_hand(running: System) -> None:
    hub, lakeside = await a_hub(running)
    study = await running.receive(a_study(at(hub), ("1.1", "unknown"), ("1.2", "MS44")))
    case = await running.case_of(study)
    assert (case.facility_id, case.undistributed) == (hub, True)
    assert case.reason == pb.PLACEMENT_REASON_NO_RULE
    held = (await running.as_user().ListHeld(pb.ListHeldRequest())).held
    assert {(each.kind, each.case_id, each.facility_id, each.part) for each in held} == {
        (pb.Held.KIND_UNDISTRIBUTED, case.case_id, hub, 0),
        (pb.Held.KIND_PART, case.case_id, hub, study.parts[1].number),
    }
    assert all(each.reason and "unknown" not in each.reason and "MS44" not in each.reason for each in held)
    answer = await running.as_user().Distribute(
        pb.DistributeRequest(case_id=case.case_id, facility_id=lakeside)
    )
    moved = answer.placement
    assert (moved.case_id, moved.facility_id, moved.received_via_facility_id) == (case.case_id, lakeside, hub)
    assert (moved.reason, moved.undistributed, moved.version) == (pb.PLACEMENT_REASON_BY_HAND, False, 2)
    assert moved.placed_at == case.placed_at
    assert list(moved.studies[0].series_instance_uids) == ["1.1"]
    assert await running.described(case.case_id) == moved


async def test_facts_that_come_twice_late_or_mixed_up_make_one_case(running: System) -> None:
    hub, lakeside = await a_hub(running)
    study = a_study(at(hub), ("1.1", "MS44"), version=3, settled=True)
    running.ingest.archive.add(study)
    event_id = uuid4()
    await running.tell(StudyChanged(study.id, 3), StudyReceived(study.id, 1), StudyChanged(study.id, 2))
    await running.tell(StudyChanged(study.id, 3), event_id=event_id)
    await running.tell(StudyChanged(study.id, 3), event_id=event_id)
    await running.tell(StudyChanged(study.id, 99), StudyReceived(StudyId(uuid4()), 1))
    marker = await running.case_of(await running.receive(a_study(at(hub), ("1.1", "MS44"))))
    case = await running.case_of(study)
    assert (case.facility_id, case.version) == (lakeside, 1)
    said = await eventually(lambda: facts_said(running))
    assert {each for each in said if each[0].startswith("case") and each[1] != marker.case_id} <= {
        (CasePlaced.subject, case.case_id, 1)
    }


async def test_a_lost_fact_heals(running: System) -> None:
    hub, lakeside = await a_hub(running)
    study = await running.receive(a_study(at(hub), ("1.1", "MS44")), tell=False)
    assert (await running.case_of(study)).facility_id == lakeside


async def test_what_was_said_while_routing_was_away_is_placed_when_it_is_back(system: System) -> None:
    async with system.running():
        hub, lakeside = await a_hub(system)
    study = await system.receive(a_study(at(hub), ("1.1", "MS44")))
    async with system.running():
        case = await system.case_of(study)
    assert case.facility_id == lakeside
    async with system.running():
        assert await system.described(case.case_id) == case


async def test_what_waits_for_a_person_is_counted(system: System) -> None:
    async with system.running():
        hub, _ = await a_hub(system)
        await system.case_of(await system.receive(a_study(at(hub), ("1.1", None), settled=True)))

    def counted() -> bool:
        return REGISTRY.get_sample_value("readroom_routing_held", {"kind": "undistributed"}) == 1

    async with system.running():  # counts when it starts
        await eventually(counted)


# Facilities and rules


@pytest.mark.proves("RTE-2")
@pytest.mark.proves("RTE-1", part="the setting, not its control on the page")
async def test_a_facility_is_standard_unless_told_otherwise_and_takes_every_model(running: System) -> None:
    stub = running.as_user()
    saved = (await stub.SaveFacility(pb.SaveFacilityRequest(facility=pb.Facility(name="Lakeside")))).facility
    assert (saved.model, saved.time_zone, saved.version) == (pb.TRANSMISSION_MODEL_STANDARD, "UTC", 1)
    for version, (model, tag) in enumerate(
        (
            (pb.TRANSMISSION_MODEL_HUB, "StationName"),
            (pb.TRANSMISSION_MODEL_ENDPOINT, ""),
            (pb.TRANSMISSION_MODEL_STANDARD, ""),
        ),
        2,
    ):
        wanted = pb.Facility(
            facility_id=saved.facility_id,
            name="Lakeside",
            model=model,
            mapping_tag=tag,
            version=version - 1,
        )
        await stub.SaveFacility(pb.SaveFacilityRequest(facility=wanted))
        request = pb.DescribeFacilityRequest(facility_id=saved.facility_id)
        facility = (await running.stub("access").DescribeFacility(request)).facility
        assert (facility.model, facility.mapping_tag, facility.version) == (model, tag, version)
    versions = await running.stub("access").ListVersions(
        pb.ListVersionsRequest(kind=pb.ListVersionsRequest.KIND_FACILITY)
    )
    assert [(each.id, each.version) for each in versions.versions] == [(saved.facility_id, 4)]


async def test_lists_come_in_pages_that_are_complete(running: System) -> None:
    hub, lakeside = await a_hub(running)
    for number in range(4):
        await running.rule(hub, f"Text {number}", lakeside)
    studies = [await running.receive(a_study(at(hub), ("1.1", f"unknown {n}"))) for n in range(3)]
    for study in studies:
        await running.case_of(study)
    stub = running.as_user()
    for method, request, item, expected in (
        (stub.ListFacilities, pb.ListFacilitiesRequest(page_size=1), "facilities", 2),
        (stub.ListRules, pb.ListRulesRequest(page_size=2, facility_id=hub), "rules", 5),
        (stub.ListHeld, pb.ListHeldRequest(page_size=2), "held", 3),
    ):
        listed: list[str] = []
        while True:
            answer = await method(request)
            page = getattr(answer, item)
            assert 0 < len(page) <= request.page_size
            listed += map(str, page)
            if not answer.next_page_token:
                break
            request.page_token = answer.next_page_token
        assert len(listed) == len(set(listed)) == expected


# Parts


@pytest.mark.proves("RTE-9", part="by parts")
async def test_a_study_of_many_parts_is_read_page_by_page_and_placed_by_part(running: System) -> None:
    hub, lakeside = await a_hub(running)
    objects: list[Object] = [("1.1", "MS44"), *(("1.1", f"other {n}") for n in range(6)), ("1.2", None)]
    study = await running.receive(a_study(at(hub), *objects))
    case = await running.case_of(study)
    (placed,) = case.studies
    assert (case.facility_id, placed.by_parts) == (lakeside, True)
    assert placed.parts == [study.parts[0].number, study.parts[-1].number]
    assert (placed.all_series, list(placed.series_instance_uids)) == (False, ["1.2"])


async def test_an_ingest_of_the_version_before_tells_series_and_each_is_a_part(running: System) -> None:
    running.ingest.knows_no_parts = True
    hub, lakeside = await a_hub(running)
    study = await running.receive(a_study(at(hub), ("1.1", "MS44"), ("1.2", "MS55"), ("1.3", None)))
    case = await running.case_of(study)
    (placed,) = case.studies
    assert (case.facility_id, list(placed.parts), placed.by_parts) == (lakeside, [1, 3], True)
    assert list(placed.series_instance_uids) == ["1.1", "1.3"]


async def test_a_person_releases_images_of_another_patient(running: System) -> None:
    city = await running.facility("City Hospital")
    study = await running.receive(a_study(at(city), ("1.1", None), ("1.1", None, JOHN)))
    case = await running.case_of(study)
    assert case.another_patient_held == 1
    told = await running.stub("ingest").ListUndecided(pb.ListUndecidedRequest(case_id=case.case_id))
    assert [(each.study_id, each.part) for each in told.parts] == [(str(study.id), study.parts[1].number)]
    (held,) = (await running.as_user().ListHeld(pb.ListHeldRequest())).held
    assert (held.kind, held.part, held.instance_count) == (
        pb.Held.KIND_ANOTHER_PATIENT,
        study.parts[1].number,
        1,
    )
    assert list(held.differs) == ["PatientID", "PatientName"]
    request = pb.ReleasePartRequest(held_id=held.held_id)
    with pytest.raises(Denied):
        await running.as_user().ReleasePart(request)
    running.access.held["ada", "study.correct"] = EVERYWHERE
    decision = access_pb2.Decision(allowed=True, facility_id=city, paths=[access_pb2.PATH_GRANT])
    running.access.seen["ada", case.case_id] = decision
    with pytest.raises(NotFound):
        await running.as_user().ReleasePart(request)
    decision.paths.append(access_pb2.PATH_PRIVILEGE)
    said = await running.as_user().ReleasePart(request)
    assert (said.case_id, list(said.parts)) == (case.case_id, [study.parts[1].number])
    after = await running.described(case.case_id)
    assert (after.another_patient_held, after.studies[0].all_series) == (0, True)
    assert (
        await running.stub("ingest").ListUndecided(pb.ListUndecidedRequest(case_id=case.case_id))
    ).count == 0
