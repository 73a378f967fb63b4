"""Facilities and rules on PostgreSQL: who may, what is refused, what is said and audited."""

import asyncio
from uuid import UUID, uuid4

import pytest

from kernel.errors import Conflict, Denied, Invalid, NotFound, ReadroomError
from kernel.ids import FacilityId, RuleId
from kernel.reach import Reach
from services.routing.domain import Facility, FacilitySettings, Model, new_rule
from services.routing.usecases import FACILITY_ADMIN
from tests.routing.builders import EVERYWHERE
from tests.routing.conftest import ADMIN, Routing
from tests.wait import eventually


async def names(routing: Routing, after: Facility | None = None, limit: int = 100) -> list[str]:
    position = (after.name.casefold(), after.id) if after else None
    return [each.name for each in await routing.facilities.list_facilities(ADMIN, position, limit)]


# Facilities


async def test_a_facility_is_created_changed_told_and_audited(routing: Routing) -> None:
    created = await routing.facility("Lakeside", time_zone="Europe/Amsterdam")
    changed = await routing.facility("Lakeside Clinic", Model.ENDPOINT, facility_id=created.id)
    assert await routing.facilities.describe_facility(created.id) == changed
    assert changed == Facility(created.id, "Lakeside Clinic", "Europe/Amsterdam", Model.ENDPOINT, None, 2)
    assert await routing.facts() == [("facility.changed.v1", 1), ("facility.changed.v1", 2)]
    rows = await routing.query("select actor, action, object, outcome from audit_rows order by id")
    assert [tuple(row) for row in rows] == [(ADMIN, "facility.saved", f"facility:{created.id}", "done")] * 2


async def test_a_save_that_changes_nothing_says_nothing(routing: Routing) -> None:
    created = await routing.facility("Lakeside")
    assert await routing.facility("Lakeside", facility_id=created.id) == created
    assert len(await routing.facts()) == 1


async def test_two_facilities_have_no_name_in_common_whatever_its_letters(routing: Routing) -> None:
    await routing.facility("Klinik Süß")
    other = await routing.facility("Hillside")
    with pytest.raises(Conflict) as created:
        await routing.facility("KLINIK SÜSS")
    with pytest.raises(Conflict) as renamed:
        await routing.facility("klinik süss", facility_id=other.id)
    assert created.value.field == renamed.value.field == "name"
    assert await names(routing) == ["Hillside", "Klinik Süß"]


@pytest.mark.proves("A68", part="facilities")
async def test_a_facility_is_saved_only_from_the_version_that_is_stored(routing: Routing) -> None:
    """B loads it, A renames it, B saves: A's change is not overwritten unseen."""
    loaded = await routing.facility("Lakeside")
    changed = await routing.facility("Lakeside North", facility_id=loaded.id)
    for made_from in (loaded.version, 0, changed.version + 1):
        with pytest.raises(Conflict, match=f"the facility `Lakeside North` .*by `{ADMIN}`") as conflict:
            await routing.facility("Hillside", facility_id=loaded.id, made_from=made_from)
        assert conflict.value.field == "version"
    assert await names(routing) == ["Lakeside North"]
    with pytest.raises(Conflict):
        await routing.facility("New", made_from=1)
    saved = await routing.facility("Hillside", facility_id=loaded.id, made_from=changed.version)
    assert (saved.name, saved.version) == ("Hillside", 3)


@pytest.mark.proves("A68", part="facilities")
async def test_of_two_who_save_at_once_one_is_told_of_the_other(routing: Routing) -> None:
    loaded = await routing.facility("Lakeside")
    results = await asyncio.gather(
        *(routing.facility(name, facility_id=loaded.id, made_from=1) for name in ("North", "South")),
        return_exceptions=True,
    )
    assert sorted(type(result).__name__ for result in results) == ["Conflict", "Facility"]


async def test_of_many_who_create_one_name_one_succeeds(routing: Routing) -> None:
    results = await asyncio.gather(*(routing.facility("Lakeside") for _ in range(5)), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["Conflict"] * 4 + ["Facility"]


@pytest.mark.proves("RTE-5")
async def test_a_hub_without_a_mapping_tag_is_not_stored(routing: Routing) -> None:
    standard = await routing.facility("Lakeside")
    for facility_id in (None, standard.id):
        with pytest.raises(Invalid) as error:
            await routing.facilities.save_facility(
                ADMIN,
                facility_id,
                FacilitySettings("North Hub", None, Model.HUB, None),
                1 if facility_id else 0,
            )
        assert error.value.field == "mapping_tag"
    assert await names(routing) == ["Lakeside"]


async def test_a_hub_or_an_endpoint_with_rules_stays_one(routing: Routing) -> None:
    hub = await routing.facility("North Hub", Model.HUB)
    endpoint = await routing.facility("Lakeside", Model.ENDPOINT)
    rule = await routing.rule(hub, "MS44", endpoint)

    async def become_standard(facility: Facility) -> Facility:
        return await routing.facility(facility.name, Model.STANDARD, facility_id=facility.id)

    for facility in (hub, endpoint):
        with pytest.raises(Conflict) as error:
            await become_standard(facility)
        assert error.value.field == "model"
    with pytest.raises(Conflict) as error:
        await routing.facility(hub.name, Model.HUB, tag="StationName", facility_id=hub.id)
    assert error.value.field == "mapping_tag"
    assert (await routing.facility("South Hub", Model.HUB, facility_id=hub.id)).name == "South Hub"
    await routing.rules.remove_rule(ADMIN, rule.id)
    assert (await become_standard(hub)).mapping_tag is None
    assert (await become_standard(endpoint)).model is Model.STANDARD


async def test_a_facility_cannot_change_while_a_rule_of_it_is_being_made(routing: Routing) -> None:
    hub = await routing.facility("North Hub", Model.HUB)
    endpoint = await routing.facility("Lakeside", Model.ENDPOINT)

    async def waits() -> bool:
        return bool(await routing.query("select from pg_locks where not granted"))

    async with routing.database.transaction() as transaction:
        found = await transaction.hold_facilities({hub.id, endpoint.id})
        rule = new_rule(RuleId(uuid4()), found[endpoint.id], found[hub.id], "MS44")
        change = asyncio.create_task(routing.facility(endpoint.name, Model.STANDARD, facility_id=endpoint.id))
        await eventually(waits)
        await transaction.insert_rule(rule)
    with pytest.raises(Conflict):
        await change


async def test_facilities_are_listed_by_name_page_by_page(routing: Routing) -> None:
    for name in ("delta", "Alpha", "charlie", "Bravo"):
        await routing.facility(name)
    first = await routing.facilities.list_facilities(ADMIN, None, 3)
    assert [each.name for each in first] == ["Alpha", "Bravo", "charlie"]
    assert await names(routing, after=first[-1]) == ["delta"]


async def test_one_sees_the_facilities_at_which_he_administers_something(routing: Routing) -> None:
    facilities = [await routing.facility(name) for name in ("Alpha", "Bravo", "Charlie", "Delta")]
    held = {"facility.admin": 0, "gateway.admin": 1, "access.admin": 2}
    routing.permissions.held = {
        permission: Reach(facilities=frozenset({facilities[number].id}))
        for permission, number in held.items()
    }
    assert await names(routing) == ["Alpha", "Bravo", "Charlie"]
    for permission in held:
        routing.permissions.held = {permission: EVERYWHERE}
        assert len(await names(routing)) == 4
    routing.permissions.held = {"study.delete": EVERYWHERE}
    with pytest.raises(Denied):
        await names(routing)


async def test_versions_of_all_facilities_are_listed_by_id(routing: Routing) -> None:
    created = [await routing.facility(name) for name in ("Charlie", "Alpha", "Bravo")]
    assert await routing.facilities.list_versions(UUID(int=0)) == [(each.id, 1) for each in created]
    assert await routing.facilities.list_versions(created[-1].id) == []


async def test_without_the_permission_nothing_is_said_about_what_exists(routing: Routing) -> None:
    here, there = await routing.facility("Here"), await routing.facility("There")
    absent = FacilityId(uuid4())

    async def refusal(facility_id: FacilityId | None) -> tuple[type[ReadroomError], str, str | None]:
        with pytest.raises(ReadroomError) as error:
            await routing.facility("Elsewhere", facility_id=facility_id)
        return type(error.value), error.value.sentence, error.value.field

    routing.only_at(here.id)
    assert await refusal(there.id) == await refusal(absent)
    assert (await refusal(there.id))[0] is NotFound
    assert (await refusal(None))[0] is Denied
    routing.only_at()
    assert await refusal(there.id) == await refusal(absent)
    assert (await refusal(there.id))[0] is Denied

    routing.permissions.held[FACILITY_ADMIN] = EVERYWHERE
    assert await names(routing) == ["Here", "There"]
    rows = await routing.query("select count(*) from audit_rows where outcome = 'refused'")
    assert rows[0]["count"] == 7


async def test_who_administers_a_facility_changes_it(routing: Routing) -> None:
    here = await routing.facility("Here")
    routing.only_at(here.id)
    assert (await routing.facility("Here and now", facility_id=here.id)).version == 2


async def test_a_facility_that_is_not_there_is_not_found(routing: Routing) -> None:
    with pytest.raises(NotFound):
        await routing.facilities.describe_facility(FacilityId(uuid4()))


# Rules


@pytest.mark.proves("RTE-7")
async def test_a_rule_is_a_hub_and_a_text_and_its_text_is_unique_in_the_hub(routing: Routing) -> None:
    hub, other_hub = [await routing.facility(name, Model.HUB) for name in ("North Hub", "South Hub")]
    endpoint = await routing.facility("Lakeside", Model.ENDPOINT)
    rule = await routing.rule(hub, " MS44 ", endpoint)
    assert (rule.text, rule.hub_facility_id, rule.endpoint_facility_id) == ("MS44", hub.id, endpoint.id)
    with pytest.raises(Conflict) as error:
        await routing.rule(hub, "ms44", endpoint)
    assert error.value.field == "text"
    assert (await routing.rule(other_hub, "MS44", endpoint)).hub_facility_id == other_hub.id
    rows = await routing.query(
        "select object, outcome from audit_rows where action = 'rule.saved' order by id"
    )
    assert rows[0]["object"] == f"rule:{rule.id}"
    assert [row["outcome"] for row in rows] == ["done", "refused", "done"]


@pytest.mark.proves("RTE-7")
async def test_a_rule_names_a_hub_and_an_endpoint(routing: Routing) -> None:
    hub = await routing.facility("North Hub", Model.HUB)
    endpoint = await routing.facility("Lakeside", Model.ENDPOINT)
    standard = await routing.facility("City Hospital")
    for wrong_hub in (standard, endpoint):
        with pytest.raises(Invalid) as error:
            await routing.rule(wrong_hub, "MS44", endpoint)
        assert error.value.field == "hub_facility_id"
    for wrong_endpoint in (standard, hub):
        with pytest.raises(Invalid) as error:
            await routing.rule(hub, "MS44", wrong_endpoint)
        assert error.value.field == "endpoint_facility_id"
    assert await routing.rules.list_rules(ADMIN, hub.id, None, 10) == []


async def test_rules_are_listed_from_either_side_by_text(routing: Routing) -> None:
    hub = await routing.facility("North Hub", Model.HUB)
    lakeside, hillside = [await routing.facility(name, Model.ENDPOINT) for name in ("Lakeside", "Hillside")]
    for text, endpoint in (("charlie", lakeside), ("Alpha", hillside), ("Bravo", lakeside)):
        await routing.rule(hub, text, endpoint)
    listed = await routing.rules.list_rules(ADMIN, hub.id, None, 10)
    assert [rule.text for rule in listed] == ["Alpha", "Bravo", "charlie"]
    assert await routing.rules.list_rules(ADMIN, hub.id, ("bravo", listed[1].id), 10) == listed[2:]
    assert [rule.text for rule in await routing.rules.list_rules(ADMIN, lakeside.id, None, 10)] == [
        "Bravo",
        "charlie",
    ]


async def test_a_removed_rule_is_gone_and_its_text_free(routing: Routing) -> None:
    hub = await routing.facility("North Hub", Model.HUB)
    endpoint = await routing.facility("Lakeside", Model.ENDPOINT)
    rule = await routing.rule(hub, "MS44", endpoint)
    await routing.rules.remove_rule(ADMIN, rule.id)
    assert await routing.rules.list_rules(ADMIN, hub.id, None, 10) == []
    with pytest.raises(NotFound):
        await routing.rules.remove_rule(ADMIN, rule.id)
    await routing.rule(hub, "MS44", endpoint)


async def test_who_makes_or_removes_a_rule_administers_both_sides(routing: Routing) -> None:
    hub = await routing.facility("North Hub", Model.HUB)
    endpoint = await routing.facility("Lakeside", Model.ENDPOINT)
    other = await routing.facility("Hillside", Model.ENDPOINT)
    rule = await routing.rule(hub, "MS44", endpoint)

    routing.only_at(hub.id)
    with pytest.raises(NotFound) as saved:
        await routing.rule(hub, "MS55", endpoint)
    assert saved.value.field == "endpoint_facility_id"
    with pytest.raises(Denied):
        await routing.rules.remove_rule(ADMIN, rule.id)
    assert await routing.rules.list_rules(ADMIN, hub.id, None, 10) == [rule]
    with pytest.raises(NotFound):
        await routing.rules.list_rules(ADMIN, endpoint.id, None, 10)

    routing.only_at(other.id)
    refusals = []
    for rule_id in (rule.id, RuleId(uuid4())):
        with pytest.raises(NotFound) as error:
            await routing.rules.remove_rule(ADMIN, rule_id)
        refusals.append((error.value.sentence, error.value.field))
    assert refusals[0] == refusals[1]

    routing.only_at(hub.id, endpoint.id)
    await routing.rules.remove_rule(ADMIN, rule.id)
