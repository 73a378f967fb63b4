"""Routing's decisions, without a database."""

import random
from collections import Counter
from dataclasses import replace
from typing import Any
from uuid import uuid4
from zoneinfo import available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import Conflict, Invalid
from kernel.ids import FacilityId, RuleId
from services.routing.domain import (
    UNDISTRIBUTED,
    Facility,
    FacilitySettings,
    Model,
    Reason,
    new_rule,
    place,
    save_facility,
)
from services.routing.parts import HELD_SENTENCES, HeldKind, HeldReason, agree
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


@pytest.mark.proves("ING-1")
@given(objects=OBJECTS, facility=st.sampled_from([HUB, ENDPOINTS[0], a_facility()]))
def test_every_settled_study_belongs_to_a_facility_that_received_it_or_has_its_rule(
    objects: list[tuple[str, str | None]], facility: Facility
) -> None:
    destination = place(a_study(facility.id, *objects, settled=True), facility, RULES)
    assert destination is not None
    if facility.model is Model.HUB and destination.reason is Reason.RULE:
        assert destination.facility_id in RULES.values()
        assert destination.received_via_facility_id == HUB.id
    else:
        assert destination.facility_id == facility.id
        assert destination.received_via_facility_id is None
        assert (facility.model is Model.HUB) == (destination.reason in UNDISTRIBUTED)


@given(objects=OBJECTS, seed=st.integers())
def test_the_order_in_which_series_are_listed_does_not_matter(
    objects: list[tuple[str, str | None]], seed: int
) -> None:
    study = a_study(HUB.id, *objects, settled=True)
    shuffled = replace(study, series=tuple(random.Random(seed).sample(study.series, len(study.series))))
    assert place(study, HUB, RULES) == place(shuffled, HUB, RULES)


@given(objects=OBJECTS, more=OBJECTS)
def test_once_a_value_has_decided_later_objects_change_nothing(
    objects: list[tuple[str, str | None]], more: list[tuple[str, str | None]]
) -> None:
    first = place(a_study(HUB.id, *objects), HUB, RULES)
    later = place(a_study(HUB.id, *objects, *more), HUB, RULES)
    assert first is None or first == later


@given(
    objects=OBJECTS, reason=st.sampled_from(Reason), decided_by=st.sampled_from([None, "ms44", "ms44\\ms55"])
)
def test_each_series_either_belongs_or_is_held_and_none_belongs_with_another_value(
    objects: list[tuple[str, str | None]], reason: Reason, decided_by: str | None
) -> None:
    study = a_study(HUB.id, *objects)
    agreement = agree(study, TAG, decided_by, reason)
    held = [each.series_instance_uid for each in agreement.waiting if each.kind is HeldKind.SERIES]
    shown = list(agreement.study.series_instance_uids)
    assert Counter([*shown, *held]) == Counter(each.series_instance_uid for each in study.series)
    for series in study.series:
        belongs = series.values_of(TAG) in ({agreement.mapping_value}, set())
        assert belongs == (series.series_instance_uid in shown)
    if decided_by:
        assert agreement.mapping_value == decided_by


def test_values_of_other_tags_count_for_nothing() -> None:
    study = a_study(HUB.id, ("1.1", "MS44"), tag="StationName")
    assert place(study, HUB, RULES) is None


def test_a_decision_asks_for_its_own_value_only_however_many_rules_there_are() -> None:
    class Counting(dict[str, FacilityId]):
        asked = 0

        def __contains__(self, key: object) -> bool:
            self.asked += 1
            return super().__contains__(key)

    rules = Counting({f"text {number}": ENDPOINTS[0].id for number in range(10_000)} | RULES)
    assert place(a_study(HUB.id, ("1.1", "MS44")), HUB, rules) is not None
    assert rules.asked == 1


def test_every_reason_has_a_sentence_and_undistributed_reasons_are_shared() -> None:
    assert set(HELD_SENTENCES) == set(HeldReason)
    assert {HeldReason(reason.value) for reason in UNDISTRIBUTED} < set(HeldReason)
