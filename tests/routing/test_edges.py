"""What comes over the wire and is wrong: ids, texts, tokens, pages, peers, users."""

from collections.abc import Callable
from uuid import uuid4

import pytest

from kernel.errors import Conflict, Denied, Invalid, NotFound, Unauthenticated
from kernel.reach import Reach
from tests.routing.builders import a_study
from tests.routing.system import System, a_hub, at
from wire.routing.v1 import routing_pb2 as pb

# Bad input


SOME_ID = str(uuid4())
LONG = "x" * 100_000
NO_ID = ["", "0", "nonsense", "00000000-0000-0000-0000-00000000000g", "../../etc/passwd", LONG, "\x00" * 36]
BAD_TOKENS = ["!", "e30", "W10=", "WyJhIl0=", "bnVsbA==", "eyJhIjoxfQ==", "WyJcdTAwMDAiLCAiIl0=", LONG]


@pytest.mark.parametrize(
    ("method", "request_of", "field"),
    [
        ("DescribeFacility", lambda bad: pb.DescribeFacilityRequest(facility_id=bad), "facility_id"),
        ("DescribePlacement", lambda bad: pb.DescribePlacementRequest(case_id=bad), "case_id"),
        ("ReleasePart", lambda bad: pb.ReleasePartRequest(held_id=bad), "held_id"),
        ("DiscardPart", lambda bad: pb.DiscardPartRequest(held_id=bad), "held_id"),
        ("ListRules", lambda bad: pb.ListRulesRequest(facility_id=bad), "facility_id"),
        ("RemoveRule", lambda bad: pb.RemoveRuleRequest(rule_id=bad), "rule_id"),
        ("Distribute", lambda bad: pb.DistributeRequest(case_id=bad, facility_id=str(uuid4())), "case_id"),
        (
            "Distribute",
            lambda bad: pb.DistributeRequest(case_id=str(uuid4()), facility_id=bad),
            "facility_id",
        ),
        (
            "SaveRule",
            lambda bad: pb.SaveRuleRequest(
                rule=pb.EndpointRule(endpoint_facility_id=bad, hub_facility_id=str(uuid4()), text="MS44")
            ),
            "endpoint_facility_id",
        ),
        (
            "SaveRule",
            lambda bad: pb.SaveRuleRequest(
                rule=pb.EndpointRule(endpoint_facility_id=str(uuid4()), hub_facility_id=bad, text="MS44")
            ),
            "hub_facility_id",
        ),
    ],
)
async def test_what_is_not_an_id_is_named(
    running: System, method: str, request_of: Callable[[str], object], field: str
) -> None:
    stub = running.stub("access") if method.startswith("Describe") else running.as_user()
    for bad in NO_ID:
        with pytest.raises(Invalid) as error:
            await getattr(stub, method)(request_of(bad))
        assert error.value.field == field
        assert len(error.value.sentence) < 200


@pytest.mark.parametrize("token", BAD_TOKENS)
async def test_a_page_token_that_is_not_ours_is_named(running: System, token: str) -> None:
    hub, _ = await a_hub(running)
    stub = running.as_user()
    for call in (
        stub.ListFacilities(pb.ListFacilitiesRequest(page_token=token)),
        stub.ListRules(pb.ListRulesRequest(page_token=token, facility_id=hub)),
        stub.ListHeld(pb.ListHeldRequest(page_token=token)),
    ):
        with pytest.raises(Invalid) as error:
            await call
        assert error.value.field == "page_token"


@pytest.mark.parametrize(
    ("facility", "field"),
    [
        (pb.Facility(), "name"),
        (pb.Facility(name=LONG), "name"),
        (pb.Facility(name="a\x00b"), "name"),
        (pb.Facility(name="a", model=9), "model"),  # type: ignore[arg-type]
        (pb.Facility(name="a", time_zone="Mars/Olympus"), "time_zone"),
        (pb.Facility(name="a", time_zone=LONG), "time_zone"),
        (pb.Facility(name="a", facility_id="1"), "facility_id"),
        (pb.Facility(name="a", model=pb.TRANSMISSION_MODEL_HUB), "mapping_tag"),
        (pb.Facility(name="a", mapping_tag="InstitutionName"), "mapping_tag"),
        (pb.Facility(name="a", model=pb.TRANSMISSION_MODEL_HUB, mapping_tag=LONG), "mapping_tag"),
    ],
)
async def test_a_bad_facility_names_its_field(running: System, facility: pb.Facility, field: str) -> None:
    with pytest.raises(Invalid) as error:
        await running.as_user().SaveFacility(pb.SaveFacilityRequest(facility=facility))
    assert error.value.field == field


@pytest.mark.proves("RTE-7")
async def test_a_bad_rule_names_its_field(running: System) -> None:
    hub, lakeside = await a_hub(running)
    city = await running.facility("City Hospital")
    rule = {"hub_facility_id": hub, "endpoint_facility_id": lakeside, "text": "MS55"}
    for wrong, word in (
        ({"endpoint_facility_id": city}, Invalid),
        ({"endpoint_facility_id": hub}, Invalid),
        ({"hub_facility_id": city}, Invalid),
        ({"hub_facility_id": lakeside}, Invalid),
        ({"text": ""}, Invalid),
        ({"text": LONG}, Invalid),
        ({"text": "\x1b[2J"}, Invalid),
        ({"text": "ms44"}, Conflict),
        ({"rule_id": SOME_ID}, Invalid),
    ):
        with pytest.raises(word) as error:
            await running.as_user().SaveRule(pb.SaveRuleRequest(rule=pb.EndpointRule(**(rule | wrong))))
        assert [error.value.field] == list(wrong)


@pytest.mark.parametrize("page_size", [-1, 501, 2**31 - 1])
async def test_a_page_has_a_size(running: System, page_size: int) -> None:
    with pytest.raises(Invalid) as error:
        await running.as_user().ListFacilities(pb.ListFacilitiesRequest(page_size=page_size))
    assert error.value.field == "page_size"


async def test_versions_are_of_facilities_or_of_placements(running: System) -> None:
    with pytest.raises(Invalid) as error:
        await running.stub("access").ListVersions(pb.ListVersionsRequest())
    assert error.value.field == "kind"
    with pytest.raises(Invalid) as error:
        await running.stub("access").ListVersions(
            pb.ListVersionsRequest(kind=pb.ListVersionsRequest.KIND_FACILITY, after_id="x")
        )
    assert error.value.field == "after_id"


# Who may


USER_CALLS = {
    "SaveFacility": pb.SaveFacilityRequest(facility=pb.Facility(name="Mine")),
    "ListFacilities": pb.ListFacilitiesRequest(),
    "SaveRule": pb.SaveRuleRequest(
        rule=pb.EndpointRule(endpoint_facility_id=str(uuid4()), hub_facility_id=str(uuid4()), text="MS44")
    ),
    "ListRules": pb.ListRulesRequest(facility_id=str(uuid4())),
    "RemoveRule": pb.RemoveRuleRequest(rule_id=str(uuid4())),
    "ListHeld": pb.ListHeldRequest(),
    "SuggestRules": pb.SuggestRulesRequest(hub_facility_id=str(uuid4())),
    "Reevaluate": pb.ReevaluateRequest(hub_facility_id=str(uuid4())),
    "Distribute": pb.DistributeRequest(case_id=str(uuid4()), facility_id=str(uuid4())),
    "MoveOn": pb.MoveOnRequest(case_id=str(uuid4()), facility_id=str(uuid4())),
}
SERVICE_CALLS = {
    "DescribeFacility": pb.DescribeFacilityRequest(facility_id=str(uuid4())),
    "DescribePlacement": pb.DescribePlacementRequest(case_id=str(uuid4())),
    "EndMove": pb.EndMoveRequest(move_id=str(uuid4())),
    "ListVersions": pb.ListVersionsRequest(kind=pb.ListVersionsRequest.KIND_FACILITY),
}
ASKED_BY_INGEST = {"DescribeFacility"}


async def test_each_peer_calls_its_own_methods_only(running: System) -> None:
    for peer, calls in (
        ("access", USER_CALLS),
        ("ingest", USER_CALLS | SERVICE_CALLS),
        ("bff", SERVICE_CALLS),
    ):
        stub = running.stub(peer, token=lambda: running.token("ada"))
        for method, request in calls.items():
            if peer == "ingest" and method in ASKED_BY_INGEST:
                continue
            with pytest.raises(Denied):
                await getattr(stub, method)(request)


async def test_nobody_is_told_anything_without_a_valid_token(running: System) -> None:
    sentences = set()
    for token in (None, "nonsense", running.token("ada", audience="ingest")):
        stub = running.stub(token=lambda token=token: token)  # type: ignore[misc]
        for method, request in USER_CALLS.items():
            with pytest.raises(Unauthenticated) as error:
                await getattr(stub, method)(request)
            sentences.add(error.value.sentence)
    assert len(sentences) == 1


async def test_a_user_without_the_permission_learns_nothing(running: System) -> None:
    hub, lakeside = await a_hub(running)
    case = await running.case_of(await running.receive(a_study(at(hub), ("1.1", "unknown"))))
    eve = running.as_user("eve")
    calls = USER_CALLS | {"ListRules": pb.ListRulesRequest(facility_id=hub)}
    for method, request in calls.items():
        if method not in {"Distribute", "MoveOn"}:
            with pytest.raises(Denied):
                await getattr(eve, method)(request)
    for case_id in (case.case_id, str(uuid4())):
        with pytest.raises(NotFound) as error:
            await eve.Distribute(pb.DistributeRequest(case_id=case_id, facility_id=lakeside))
        assert error.value.field == "case_id"


async def test_a_local_administrator_sees_what_is_his(running: System) -> None:
    hub, lakeside = await a_hub(running)
    case = await running.case_of(await running.receive(a_study(at(hub), ("1.1", "unknown"))))
    running.access.reaches["lars"] = Reach(facilities=frozenset({at(lakeside)}))
    running.access.reaches["hanna"] = Reach(facilities=frozenset({at(hub), at(lakeside)}))
    lars, hanna = running.as_user("lars"), running.as_user("hanna")
    listed = (await lars.ListFacilities(pb.ListFacilitiesRequest())).facilities
    assert [each.facility_id for each in listed] == [lakeside]
    assert not (await lars.ListHeld(pb.ListHeldRequest())).held
    with pytest.raises(NotFound):
        await lars.Distribute(pb.DistributeRequest(case_id=case.case_id, facility_id=lakeside))
    assert len((await hanna.ListHeld(pb.ListHeldRequest())).held) == 1
    answer = await hanna.Distribute(pb.DistributeRequest(case_id=case.case_id, facility_id=lakeside))
    assert answer.placement.facility_id == lakeside
