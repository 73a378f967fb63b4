"""Two people edit one thing: who saves what they loaded before the other saved overwrites nothing (A68)."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from google.protobuf.message import Message

from demo.cast import ADMIN, ENDPOINT, HUB
from demo.world import World
from kernel.errors import Conflict, Invalid
from readroom.client import Readroom
from tests.e2e.test_deactivated import methods
from wire.access.v1 import access_pb2 as access
from wire.ingest.v1 import ingest_pb2 as ingest
from wire.routing.v1 import routing_pb2 as routing
from wire.sharing.v1 import sharing_pb2 as sharing

NO_EDIT = {"reporting.SaveDraft", "identities.SaveIdentity"}
"""Nobody but the holder of the lock writes a draft, and the lock is one; an identity is bound or not."""


class Edited(NamedTuple):
    """What several people may edit.

    Attributes:
        thing: as it is saved first; None: what there is already.
        edits: what two people make of it.
    """

    request: Callable[[Any], Message]
    thing: Any
    edits: tuple[Mapping[str, Any], Mapping[str, Any]]


async def somebody_who_shares(world: World) -> Readroom:
    """Who has a policy to edit; the first administrator has not."""
    admin, login = await world.acting_as(ADMIN), f"s{uuid4().hex[:8]}"
    user = access.User(login=login, name="Sharer", role=access.ROLE_ADMINISTRATOR)
    await admin.access.SaveUser(access.SaveUserRequest(user=user))
    return await world.acting_as(login)


async def the_table(world: World, sharer: Readroom) -> Mapping[str, Edited]:
    """Every save but those of rules, which are added and removed and never changed."""
    admin, name = await world.acting_as(ADMIN), f"Edited {uuid4().hex[:8]}"
    facility = routing.Facility(name=name, model=routing.TRANSMISSION_MODEL_STANDARD)
    user = access.User(login=f"u{uuid4().hex[:8]}", name="First", role=access.ROLE_RADIOLOGIST)
    user_id = (await admin.access.SaveUser(access.SaveUserRequest(user=user))).user.user_id
    at = world.facility_ids[ENDPOINT]
    gateway = (await admin.ingest.ListGateways(ingest.ListGatewaysRequest())).gateways[0]
    length = await admin.ingest.ReadSettleLength(ingest.ReadSettleLengthRequest(facility_id=at))
    policy = await sharer.sharing.DescribePolicy(sharing.DescribePolicyRequest(facility_id=at))
    two_names = ({"name": f"{name} 2"}, {"name": f"{name} 3"})
    return {
        "access.SaveUser": Edited(
            lambda it: access.SaveUserRequest(user=it),
            access.User(login=f"v{uuid4().hex[:8]}", name="First", role=access.ROLE_RADIOLOGIST),
            two_names,
        ),
        "access.SavePrivilege": Edited(
            lambda it: access.SavePrivilegeRequest(privilege=it),
            access.Privilege(user_id=user_id, facility_id=at, level=access.LEVEL_VIEW),
            ({"level": access.LEVEL_DRAFT}, {"level": access.LEVEL_UNSPECIFIED}),
        ),
        "access.SaveFilter": Edited(
            lambda it: access.SaveFilterRequest(filter=it),
            access.Filter(user_id=user_id, expression="Modality = 'CT'"),
            ({"expression": "Modality = 'MR'"}, {"expression": ""}),
        ),
        "access.SaveFolder": Edited(
            lambda it: access.SaveFolderRequest(folder=it), access.Folder(name=name), two_names
        ),
        "routing.SaveFacility": Edited(
            lambda it: routing.SaveFacilityRequest(facility=it), facility, two_names
        ),
        "ingest.SaveGateway": Edited(
            lambda it: ingest.SaveGatewayRequest(gateway=it), gateway, ({"name": name}, {"name": "another"})
        ),
        "ingest.SaveSettleLength": Edited(
            lambda it: ingest.SaveSettleLengthRequest(settle_length=it),
            length.settle_length,
            ({"settle_after.seconds": 7}, {"settle_after.seconds": 9}),
        ),
        "sharing.SavePolicy": Edited(
            lambda it: sharing.SavePolicyRequest(policy=it),
            policy.policy,
            ({"default_days": 3}, {"default_days": 4}),
        ),
    }


def edited(thing: Any, edit: Mapping[str, Any]) -> Any:
    """The thing as somebody loaded it, with an edit."""
    copy = type(thing)()
    copy.CopyFrom(thing)
    for path, value in edit.items():
        *outer, name = path.split(".")
        place = copy
        for each in outer:
            place = getattr(place, each)
        setattr(place, name, value)
    return copy


@pytest.mark.proves("A68")
async def test_whoever_saves_what_another_has_changed_since_is_told_who_and_when(world: World) -> None:
    admin = await world.acting_as(ADMIN)
    sharer = await somebody_who_shares(world)
    table = await the_table(world, sharer)
    saves = {f"{name}.{method.name}" for name, method in methods() if method.name.startswith("Save")}
    assert saves == {*table, "routing.SaveRule", *NO_EDIT}

    for verb, (request, thing, edits) in table.items():
        service, method = verb.split(".")
        call = getattr(getattr(sharer if service == "sharing" else admin, service), method)

        async def save(it: Any, call: Any = call, request: Any = request) -> Any:
            answer = await call(request(it))
            return next(value for _, value in answer.ListFields() if isinstance(value, type(it)))

        first = await save(thing) if not thing.version else thing
        second = await save(edited(first, edits[0]))
        assert second.version > first.version, verb
        for version in {0, first.version}:
            late = edited(first, {**edits[1], "version": version})
            with pytest.raises(Conflict, match=r" by `\w+` on .* UTC") as refusal:
                await save(late)
            assert "version" == refusal.value.field, verb
        last = await save(edited(second, edits[1]))  # nothing of it was overwritten
        if thing.version:
            await save(edited(thing, {"version": last.version}))  # others of this system go on with it


@pytest.mark.proves("A68", part="rules")
async def test_a_rule_is_added_and_never_changed(world: World) -> None:
    admin = await world.acting_as(ADMIN)
    hub = world.facility_ids[HUB]
    rule = (await admin.routing.ListRules(routing.ListRulesRequest(facility_id=hub))).rules[0]

    with pytest.raises(Invalid):
        await admin.routing.SaveRule(routing.SaveRuleRequest(rule=edited(rule, {"text": "Another"})))
    with pytest.raises(Conflict):
        await admin.routing.SaveRule(routing.SaveRuleRequest(rule=edited(rule, {"rule_id": ""})))
