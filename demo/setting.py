"""Step 1: a hub, an endpoint, a standard facility; two enrolled gateways; users of several roles."""

import asyncio

from demo.cast import ADMIN, ENDPOINT, FACILITIES, HUB, MODALITY, PEOPLE, RULE_TEXT, SITES, Person, Site
from demo.gateways import RunningGateway
from demo.world import World
from kernel.errors import Invalid
from readroom import names, words
from readroom.enrol import HospitalSide, enrol_gateway
from readroom.facilities import save_facility
from wire.access.v1.access_pb2 import PermissionGrant, SaveUserRequest, User
from wire.routing.v1.routing_pb2 import (
    TRANSMISSION_MODEL_HUB,
    EndpointRule,
    Facility,
    SaveFacilityRequest,
    SaveRuleRequest,
)


async def set_the_scene(world: World) -> None:
    """The first step of the story."""
    await let_the_administrator_do_more(world)
    for facility in FACILITIES:
        await create_facility(world, facility)
    await refuse_a_hub_without_mapping_tag(world)
    await create_rule(world)
    for person in PEOPLE:
        await create_user(world, person)
    for site in SITES:
        await enrol(world, site)


async def let_the_administrator_do_more(world: World) -> None:
    """The first administrator may only give permissions, also to themself (A13, A63)."""
    readroom = await world.acting_as(ADMIN)
    permissions = ("access.admin", "facility.admin", "gateway.admin")
    wanted = await names.user(readroom, ADMIN)
    del wanted.permissions[:]
    wanted.permissions.extend(PermissionGrant(permission=p) for p in permissions)
    saved = await readroom.access.SaveUser(SaveUserRequest(user=wanted, set_permissions=True))
    world.stage.check(
        {p.permission for p in saved.user.permissions} == {*permissions},
        f"the first administrator takes {' and '.join(permissions[1:])}",
    )


async def create_facility(world: World, wanted: Facility) -> None:
    stored = await save_facility(await world.acting_as(ADMIN), wanted)
    world.facility_ids[stored.name] = stored.facility_id
    tag = f" with mapping tag {stored.mapping_tag}" if stored.mapping_tag else ""
    world.stage.check(
        (stored.name, stored.model, stored.mapping_tag) == (wanted.name, wanted.model, wanted.mapping_tag),
        f"facility `{stored.name}`: {words.MODELS.word(stored.model)}{tag}",
    )


async def refuse_a_hub_without_mapping_tag(world: World) -> None:
    readroom = await world.acting_as(ADMIN)
    hub = Facility(name="Nowhere", model=TRANSMISSION_MODEL_HUB)
    try:
        await readroom.routing.SaveFacility(SaveFacilityRequest(facility=hub))
        world.stage.check(False, "a hub without mapping tag is refused")
    except Invalid as refusal:
        world.stage.check(refusal.field, f"a hub without mapping tag is refused: {refusal.sentence}")


async def create_rule(world: World) -> None:
    readroom = await world.acting_as(ADMIN)
    wanted = EndpointRule(
        hub_facility_id=world.facility_ids[HUB],
        endpoint_facility_id=world.facility_ids[ENDPOINT],
        text=RULE_TEXT,
    )
    stored = (await readroom.routing.SaveRule(SaveRuleRequest(rule=wanted))).rule
    world.stage.check(
        stored.rule_id and stored.text == RULE_TEXT, f"rule: `{RULE_TEXT}` at `{HUB}` goes to `{ENDPOINT}`"
    )


async def create_user(world: World, person: Person) -> None:
    readroom = await world.acting_as(ADMIN)
    wanted = User(
        login=person.login,
        name=person.name,
        role=person.role,
        active=True,
        home_facility_id=world.facility_ids[person.home] if person.home else "",
        email=person.email,
        mobile_number=person.mobile_number,
        language=person.language,
    )
    user = (await readroom.access.SaveUser(SaveUserRequest(user=wanted))).user
    world.user_ids[user.login] = user.user_id
    held = [await world.set_privilege(person.login, *level) for level in person.levels.items()]
    told = [
        f"{words.LEVELS.word(p.effective_level)} at `{f}`" for p, f in zip(held, person.levels, strict=True)
    ]
    world.stage.check(
        user.active and all(p.effective_level == p.level for p in held),
        f"{user.name}, {words.ROLES.word(user.role)}: {', '.join(told) or 'no privileges'}",
    )


async def enrol(world: World, site: Site) -> None:
    folder = world.folder / "gateways" / site.name
    port = world.system.servers.kept.port(f"gateway_{site.name}")
    titles = [(site.ae_title, world.facility_ids[site.facility])]
    hospital = HospitalSide(f"127.0.0.1:{port}", modalities=[(MODALITY, "127.0.0.1")])
    gateway = await enrol_gateway(await world.acting_as(ADMIN), site.name, titles, folder, hospital)
    start = RunningGateway.start
    running = await asyncio.to_thread(start, world.system, site.name, site.ae_title, folder, port)
    world.gateways[site.name] = running
    world.stage.check(
        running.identity.key.stat().st_mode & 0o077 == 0 and not gateway.HasField("revoked_at"),
        f"gateway `{gateway.name}` runs as {site.ae_title} of `{site.facility}`; its key stays there",
    )
