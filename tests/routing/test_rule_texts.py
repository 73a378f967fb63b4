"""What a rule's text may be, which values it matches, and which rule is nearest to a value that none has."""

from uuid import uuid4

import pytest

from kernel.dicom import MAPPING_TAGS, MAX_VALUE_CHARACTERS
from kernel.errors import Conflict, Invalid, NotFound
from kernel.ids import FacilityId, RuleId
from services.routing.domain import (
    EndpointRule,
    Model,
    literal_wildcards,
    mapping_key,
    match_key,
    new_rule,
    rule_keys,
)
from services.routing.suggestions import Suggestions
from tests.routing.builders import a_facility, a_study
from tests.routing.conftest import ADMIN, Routing

ENDPOINT = a_facility(Model.ENDPOINT)
FIRST, SECOND = FacilityId(uuid4()), FacilityId(uuid4())


@pytest.mark.proves("RTE-7", part="a text as long as the tag allows")
@pytest.mark.parametrize("tag", sorted(MAPPING_TAGS))
def test_a_text_is_as_long_as_a_value_of_the_tag_may_be(tag: str) -> None:
    hub = a_facility(Model.HUB, mapping_tag=tag)
    longest = MAX_VALUE_CHARACTERS[MAPPING_TAGS[tag]]

    assert longest == len(new_rule(RuleId(uuid4()), ENDPOINT, hub, "x" * longest).text)
    with pytest.raises(Invalid, match=f"1 to {longest} characters: no value of {tag} is longer"):
        new_rule(RuleId(uuid4()), ENDPOINT, hub, "x" * (longest + 1))


@pytest.mark.parametrize(
    ("text", "value", "matches"),
    [
        ("Maple Street", "maple  street", True),
        ("Maple   Street", " MAPLE STREET ", True),
        ("Maple Street", "MapleStreet", False),
        ("MS*", "ms*", True),
        ("MS*", "MS44", False),
        ("%", "MS44", False),
        ("MS4?", "MS44", False),
        ("MS.4", "MS44", False),
        ("MS44", "MS44\\Oak Street", True),
    ],
)
@pytest.mark.proves("A16", part="blanks are folded, and no character stands for others")
def test_a_text_matches_a_value_that_differs_in_case_and_runs_of_blanks_only(
    text: str, value: str, matches: bool
) -> None:
    assert matches == (match_key(text) in rule_keys(mapping_key(value)))


def test_whoever_saves_a_text_with_a_wildcard_is_told_that_it_is_none() -> None:
    assert "" == literal_wildcards("Maple Street 44")
    assert literal_wildcards("MS*") == "`*` is taken literally: no character stands for others"
    assert literal_wildcards("%MS*").startswith("`*` and `%` are taken literally")


@pytest.mark.proves("A16", part="in the database")
async def test_a_rule_is_found_by_a_value_with_other_blanks_and_is_unique_all_the_same(
    routing: Routing,
) -> None:
    hub = await routing.facility("Hub", Model.HUB)
    endpoint = await routing.facility("Lakeside", Model.ENDPOINT)
    rule = await routing.rule(hub, "Maple   Street", endpoint)

    await routing.place(a_study(hub.id, ("1.1", " maple  STREET")))

    (case,) = await routing.cases()
    assert (endpoint.id, "Maple Street") == (case.facility_id, rule.text)
    with pytest.raises(Conflict):
        await routing.rule(hub, "maple street", endpoint)


async def test_rules_of_the_version_before_match_on_and_never_arbitrarily(routing: Routing) -> None:
    """It told runs of blanks apart, so that two rules may be alike now."""
    hub = await routing.facility("Hub", Model.HUB)
    first, second = [await routing.facility(name, Model.ENDPOINT) for name in ("Lakeside", "Hillside")]
    for text, endpoint in (("oak  street", first), ("elm street", first), ("elm  street", second)):
        await routing.query(
            "insert into endpoint_rules (rule_id, hub_facility_id, endpoint_facility_id, text, text_key) "
            "values ($1, $2, $3, $4, $4)",
            uuid4(),
            hub.id,
            endpoint.id,
            text,
        )

    await routing.place(a_study(hub.id, ("1.1", "Oak  Street")), a_study(hub.id, ("1.1", "Elm  Street")))

    assert [first.id, hub.id] == [case.facility_id for case in await routing.cases()]
    with pytest.raises(Conflict):
        await routing.rule(hub, "Oak Street", second)


def rules(*texts: str) -> Suggestions:
    return Suggestions(EndpointRule(RuleId(uuid4()), FIRST, SECOND, text) for text in texts)


@pytest.mark.parametrize(
    ("value", "nearest", "is_exact"),
    [
        ("MS44", "MS44", True),
        ("ms  44", "MS44", False),
        ("MS 44 Radiology", None, False),
        ("Mapel Street", "Maple Street", False),
        ("MAPLE STREET HOSPITAL", "Maple Street", False),
        ("oak\\MS44", "MS44", True),
        ("Northgate", None, False),
        ("", None, False),
    ],
)
def test_the_nearest_text_is_suggested_if_it_is_near(value: str, nearest: str | None, is_exact: bool) -> None:
    found = rules("MS44", "MS45", "Maple Street", "Elm Street").nearest(value)

    assert nearest == (found and found.rule.text)
    if found:
        assert is_exact == found.is_exact


def test_without_rules_nothing_is_suggested() -> None:
    assert rules().nearest("MS44") is None


async def test_who_administers_a_hub_is_told_the_nearest_rule_for_each_value(routing: Routing) -> None:
    hub, other = [await routing.facility(name, Model.HUB) for name in ("Hub", "Other Hub")]
    endpoint = await routing.facility("Lakeside", Model.ENDPOINT)
    rule = await routing.rule(hub, "Maple Street", endpoint)

    found = await routing.rules.suggest_rules(ADMIN, hub.id, ["Mapel Street", "Northgate", "Mapel Street"])

    assert [rule, None, rule] == [each and each.rule for each in found]
    with pytest.raises(Invalid):
        await routing.rules.suggest_rules(ADMIN, hub.id, ["x"] * 101)
    routing.only_at(other.id)
    with pytest.raises(NotFound):
        await routing.rules.suggest_rules(ADMIN, hub.id, ["Maple Street"])
