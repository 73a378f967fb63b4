"""Routing's decisions, without a database."""

from collections.abc import Mapping
from typing import Any
from uuid import uuid4
from zoneinfo import available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import Conflict, Invalid, Unavailable
from kernel.ids import FacilityId, RuleId
from services.routing.domain import (
    UNDISTRIBUTED,
    Destination,
    Facility,
    FacilitySettings,
    Model,
    PlacedStudy,
    Reason,
    Study,
    new_rule,
    place,
    save_facility,
)
from services.routing.parts import HeldReason, KnownStudy, first_value
from tests.routing.builders import TAG, a_facility, a_study

ZONES = available_timezones()
HUB = a_facility(Model.HUB)
ENDPOINTS = [a_facility(Model.ENDPOINT) for _ in range(3)]
RULES = {"ms44": ENDPOINTS[0].id, "ms55": ENDPOINTS[1].id, "süss": ENDPOINTS[2].id}

VALUES = st.sampled_from(
    [
        None,
        "",
        "  ",
        "MS44",
        " ms44 ",
        "MS55",
        "Süß",
        "other",
        "MS44\\MS55",
        "MS55\\MS44",
        "MS44\\other",
        "\\",
    ]
)
OBJECTS = st.lists(st.tuples(st.sampled_from(["1.1", "1.2", "1.3"]), VALUES), min_size=1, max_size=8)


# Facilities


def save(
    name: str = "Lakeside",
    time_zone: str | None = None,
    model: Model | None = None,
    mapping_tag: str | None = None,
    *,
    current: Facility | None = None,
    is_in_rules: bool = False,
) -> Facility:
    return save_facility(
        FacilitySettings(name, time_zone, model, mapping_tag),
        current,
        current.id if current else FacilityId(uuid4()),
        is_in_rules=is_in_rules,
        time_zones=ZONES,
    )


@pytest.mark.proves("RTE-2")
def test_a_new_facility_is_standard_and_in_utc_unless_told_otherwise() -> None:
    facility = save()
    assert (facility.model, facility.time_zone, facility.mapping_tag) == (Model.STANDARD, "UTC", None)
    assert facility.version == 1


@pytest.mark.proves("RTE-5")
@pytest.mark.parametrize("mapping_tag", [None, "PixelData", "institutionname", "0008,0080"])
def test_a_hub_needs_a_mapping_tag_of_the_list(mapping_tag: str | None) -> None:
    with pytest.raises(Invalid) as error:
        save(model=Model.HUB, mapping_tag=mapping_tag)
    assert error.value.field == "mapping_tag"


@pytest.mark.parametrize("model", [None, Model.STANDARD, Model.ENDPOINT])
def test_only_a_hub_has_a_mapping_tag(model: Model | None) -> None:
    with pytest.raises(Invalid) as error:
        save(model=model, mapping_tag=TAG)
    assert error.value.field == "mapping_tag"


def test_a_change_keeps_what_is_not_told_and_counts_the_version() -> None:
    current = save("Lakeside", "Europe/Amsterdam", Model.ENDPOINT)
    changed = save("Lakeside Clinic", current=current)
    assert (changed.model, changed.time_zone, changed.version) == (Model.ENDPOINT, "Europe/Amsterdam", 2)


def test_a_save_that_changes_nothing_is_the_same_facility() -> None:
    current = save("Lakeside")
    assert save("  Lakeside ", current=current) == current


@pytest.mark.parametrize(
    ("current", "change", "field"),
    [
        (HUB, {"model": Model.STANDARD}, "model"),
        (HUB, {"model": Model.ENDPOINT}, "model"),
        (HUB, {"mapping_tag": "StationName"}, "mapping_tag"),
        (ENDPOINTS[0], {"model": Model.STANDARD}, "model"),
        (ENDPOINTS[0], {"model": Model.HUB, "mapping_tag": TAG}, "model"),
    ],
)
def test_a_facility_in_rules_stays_what_they_need(
    current: Facility, change: dict[str, Any], field: str
) -> None:
    with pytest.raises(Conflict) as error:
        save(current.name, current=current, is_in_rules=True, **change)
    assert error.value.field == field
    assert save(current.name, current=current, is_in_rules=False, **change).version == 2


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": " \t "}, "name"),
        ({"name": "x" * 65}, "name"),
        ({"name": "a\x00b"}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "evil\u202ename"}, "name"),
        ({"time_zone": "Europe/Atlantis"}, "time_zone"),
        ({"time_zone": "../../etc/passwd"}, "time_zone"),
        ({"time_zone": "Europe"}, "time_zone"),
    ],
)
def test_a_bad_value_names_its_field(given: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as error:
        save(**given)
    assert error.value.field == field


# Rules


def test_a_rule_keeps_its_text_trimmed() -> None:
    rule = new_rule(RuleId(uuid4()), ENDPOINTS[0], HUB, "  MS44 ")
    assert (rule.text, rule.hub_facility_id, rule.endpoint_facility_id) == ("MS44", HUB.id, ENDPOINTS[0].id)


@pytest.mark.proves("RTE-7")
@pytest.mark.parametrize(
    ("endpoint", "hub", "text", "field"),
    [
        (a_facility(), HUB, "MS44", "endpoint_facility_id"),
        (a_facility(Model.HUB), HUB, "MS44", "endpoint_facility_id"),
        (HUB, HUB, "MS44", "endpoint_facility_id"),
        (ENDPOINTS[0], a_facility(), "MS44", "hub_facility_id"),
        (ENDPOINTS[0], ENDPOINTS[1], "MS44", "hub_facility_id"),
        (ENDPOINTS[0], HUB, "", "text"),
        (ENDPOINTS[0], HUB, "x" * 65, "text"),
        (ENDPOINTS[0], HUB, "MS44\x07", "text"),
        (ENDPOINTS[0], HUB, "MS44\\MS55", "text"),
    ],
)
def test_a_rule_needs_a_hub_an_endpoint_and_a_text(
    endpoint: Facility, hub: Facility, text: str, field: str
) -> None:
    with pytest.raises(Invalid) as error:
        new_rule(RuleId(uuid4()), endpoint, hub, text)
    assert error.value.field == field


# Placing


def where(study: Study, facility: Facility, rules: Mapping[str, FacilityId] = RULES) -> Destination | None:
    known = KnownStudy(0, None, None, None, PlacedStudy(study.id))
    return place(facility, first_value(study, known, facility.mapping_tag), rules, settled=study.settled)


@pytest.mark.proves("ING-1")
@given(objects=OBJECTS, facility=st.sampled_from([HUB, ENDPOINTS[0], a_facility()]))
def test_every_settled_study_belongs_to_a_facility_that_received_it_or_has_its_rule(
    objects: list[tuple[str, str | None]], facility: Facility
) -> None:
    destination = where(a_study(facility.id, *objects, settled=True), facility)
    assert destination is not None
    if facility.model is Model.HUB and destination.reason is Reason.RULE:
        assert destination.facility_id in RULES.values()
        assert destination.received_via_facility_id == HUB.id
    else:
        assert destination.facility_id == facility.id
        assert destination.received_via_facility_id is None
        assert (facility.model is Model.HUB) == (destination.reason in UNDISTRIBUTED)


@given(objects=OBJECTS, more=OBJECTS)
def test_once_a_value_has_decided_later_objects_change_nothing(
    objects: list[tuple[str, str | None]], more: list[tuple[str, str | None]]
) -> None:
    first = where(a_study(HUB.id, *objects), HUB)
    later = where(a_study(HUB.id, *objects, *more), HUB)
    assert first is None or first == later


def test_a_value_of_another_tag_than_the_hubs_is_never_taken_for_it() -> None:
    with pytest.raises(Unavailable):
        where(a_study(HUB.id, ("1.1", "MS44"), tag="StationName"), HUB)


def test_a_decision_asks_for_its_own_value_only_however_many_rules_there_are() -> None:
    class Counting(dict[str, FacilityId]):
        asked = 0

        def __contains__(self, key: object) -> bool:
            self.asked += 1
            return super().__contains__(key)

    rules = Counting({f"text {number}": ENDPOINTS[0].id for number in range(10_000)} | RULES)
    assert where(a_study(HUB.id, ("1.1", "MS44")), HUB, rules) is not None
    assert rules.asked == 1


def test_undistributed_reasons_are_reasons_to_wait() -> None:
    assert {HeldReason(reason.value) for reason in UNDISTRIBUTED} < set(HeldReason)
