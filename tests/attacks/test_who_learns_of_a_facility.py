"""Somebody tries ids of facilities, to learn which hospitals there are.

Position: any user with an account, and a manager of another facility. A facility that does not exist and one
at which they hold nothing answer the same: word, sentence, and questions asked of others.
"""

import importlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from kernel.errors import Denied, NotFound, ReadroomError
from local.embedded import EmbeddedServers
from local.pki import Pki
from plumbing import rpc
from tests.access.service import CLOCK, Service, serve
from tests.attacks.test_bad_answers import NEEDS
from tests.hosting import hosted
from tests.ingest.system import RIVERSIDE, Ingest, signing_request
from wire.access.v1 import access_pb2
from wire.ingest.v1 import ingest_pb2
from wire.reporting.v1 import reporting_pb2, reporting_pb2_grpc
from wire.routing.v1 import routing_pb2, routing_pb2_grpc
from wire.sharing.v1 import sharing_pb2, sharing_pb2_grpc

MANAGER, READER = "mia", "rita"
SERVICES = {
    "reporting": reporting_pb2_grpc.ReportingServiceStub,
    "routing": routing_pb2_grpc.RoutingServiceStub,
    "sharing": sharing_pb2_grpc.SharingServiceStub,
}

PERMISSIONS = ("gateway.admin", "share.admin", "facility.admin", "operator", "study.delete")

Ask = Callable[[Any, str], Awaitable[object]]


def _check(permission: str, stub: Any, facility_id: str) -> Awaitable[object]:
    request = access_pb2.CheckPermissionRequest(permission=permission, facility_id=facility_id)
    return stub.CheckPermission(request)  # type: ignore[no-any-return]


ASKS: dict[str, tuple[str, Ask]] = {
    **{f"CheckPermission {each}": ("access", partial(_check, each)) for each in PERMISSIONS},
    "SavePrivilege": (
        "access",
        lambda stub, facility: stub.SavePrivilege(
            access_pb2.SavePrivilegeRequest(
                privilege=access_pb2.Privilege(
                    user_id=str(uuid4()), facility_id=facility, level=access_pb2.LEVEL_VIEW
                )
            )
        ),
    ),
    "ListCases": (
        "access",
        lambda stub, facility: stub.ListCases(access_pb2.ListCasesRequest(facility_id=facility)),
    ),
    "CountCases": (
        "access",
        lambda stub, facility: stub.CountCases(access_pb2.CountCasesRequest(facility_id=facility)),
    ),
    "ActivateReadType": (
        "reporting",
        lambda stub, facility: stub.ActivateReadType(
            reporting_pb2.ActivateReadTypeRequest(
                facility_id=facility, read_type=access_pb2.READ_TYPE_FINAL, active=True
            )
        ),
    ),
    "ListReadTypes": (
        "reporting",
        lambda stub, facility: stub.ListReadTypes(reporting_pb2.ListReadTypesRequest(facility_id=facility)),
    ),
    "SavePolicy": (
        "sharing",
        lambda stub, facility: stub.SavePolicy(
            sharing_pb2.SavePolicyRequest(
                policy=sharing_pb2.Policy(facility_id=facility, default_days=1, maximum_days=2)
            )
        ),
    ),
    "DescribePolicy": (
        "sharing",
        lambda stub, facility: stub.DescribePolicy(sharing_pb2.DescribePolicyRequest(facility_id=facility)),
    ),
    "SaveFacility": (
        "routing",
        lambda stub, facility: stub.SaveFacility(
            routing_pb2.SaveFacilityRequest(facility=routing_pb2.Facility(facility_id=facility, name="X"))
        ),
    ),
    "ListRules": (
        "routing",
        lambda stub, facility: stub.ListRules(routing_pb2.ListRulesRequest(facility_id=facility)),
    ),
    "SaveRule": (
        "routing",
        lambda stub, facility: stub.SaveRule(
            routing_pb2.SaveRuleRequest(
                rule=routing_pb2.EndpointRule(
                    endpoint_facility_id=facility, hub_facility_id=str(uuid4()), text="X"
                )
            )
        ),
    ),
}
"""Every call that takes the id of a facility; those of ingest have tests of their own."""


@dataclass
class House:
    """Access, and the services that ask it, each as its process would be."""

    access: Service
    ports: dict[str, int]

    def stub(self, service: str, login: str) -> Any:
        if service == "access":
            return self.access.acting(login)
        channel = rpc.connect(
            f"127.0.0.1:{self.ports[service]}",
            service,
            self.access.pki.tls("bff"),
            token=lambda: self.access.token(login=login, audience=service),
        )
        self.access.resources.push_async_callback(channel.close)
        return SERVICES[service](channel)


@pytest.fixture
async def house(
    servers: EmbeddedServers, pki: Pki, fresh_database: Callable[[str], str]
) -> AsyncIterator[House]:
    async for access in serve(servers, fresh_database("access"), pki):
        async with AsyncExitStack() as resources:
            address, nowhere = f"127.0.0.1:{access.port}", "127.0.0.1:1"
            ports = {}
            for name in SERVICES:
                main = importlib.import_module(f"services.{name}.main")
                peers = {
                    field.upper(): address if field == "access_address" else nowhere
                    for field in main.Settings.model_fields
                    if field.endswith("_address") and field != "otlp_address"
                }
                told = {**NEEDS[name], **peers}
                url = fresh_database(name)
                ports[name] = await hosted(name, main, servers, pki, url, CLOCK, told, resources)
            yield House(access, ports)


async def answer(asked: Awaitable[object], facility_id: str) -> tuple[type, str]:
    """The word and the sentence, without the id that was asked about."""
    try:
        await asked
    except ReadroomError as error:
        return type(error), error.sentence.replace(facility_id, "…")
    return type(None), ""


@pytest.mark.proves("SEC-14", part="nobody learns which facilities there are")
async def test_an_absent_facility_answers_like_a_foreign_one(house: House) -> None:
    own, foreign = await house.access.facility("North"), await house.access.facility("South")
    manager = access_pb2.User(
        login=MANAGER, name="Mia", role=access_pb2.ROLE_FACILITY_MANAGER, home_facility_id=own
    )
    await house.access.stub.SaveUser(access_pb2.SaveUserRequest(user=manager))
    await house.access.user(access_pb2.ROLE_RADIOLOGIST, READER)
    for login in (MANAGER, READER):
        for name, (service, ask) in ASKS.items():
            stub = house.stub(service, login)
            absent = str(uuid4())
            told = {facility: await answer(ask(stub, facility), facility) for facility in (absent, foreign)}
            assert told[absent] == told[foreign], (login, name)
            if name not in ("ListCases", "CountCases"):  # the answer is an empty list, and its number
                assert told[foreign][0] in (NotFound, Denied), (login, name)
    # Where they hold something they are told what they lack.
    stub = house.stub("access", MANAGER)
    for permission, allowed in (("share.admin", True), ("gateway.admin", False)):
        request = access_pb2.CheckPermissionRequest(permission=permission, facility_id=own)
        assert (await stub.CheckPermission(request)).allowed is allowed
    assert (await answer(ASKS["ListReadTypes"][1](house.stub("reporting", MANAGER), own), own))[0] in (
        type(None),
        Denied,
    )


@pytest.mark.proves("SEC-14", part="nobody learns which facilities there are")
async def test_enrolling_and_revoking_tell_nothing_either(ingest: Ingest) -> None:
    ingest.access.administered["mia"] = set()
    csr, _ = signing_request()

    async def enrol(facility: str) -> tuple[type, str]:
        request = ingest_pb2.EnrolGatewayRequest(
            name="Mine",
            ae_titles=[ingest_pb2.AETitleBinding(ae_title="MINE", facility_id=facility)],
            certificate_request_pem=csr.decode(),
        )
        return await answer(ingest.acting("mia").EnrolGateway(request), facility)

    absent = str(uuid4())
    assert await enrol(absent) == await enrol(str(RIVERSIDE))
    assert (await enrol(absent))[0] is NotFound
    ingest.access.known[str(RIVERSIDE)] = {"mia"}
    assert (await enrol(str(RIVERSIDE)))[0] is Denied

    foreign = (await ingest.enrol()).gateway_id
    told = {
        gateway: await answer(
            ingest.acting("mia").RevokeGateway(ingest_pb2.RevokeGatewayRequest(gateway_id=gateway)), gateway
        )
        for gateway in (absent, foreign)
    }
    assert told[absent] == told[foreign]
    refused = "select action, count(*) from audit_rows where outcome = 'refused' group by 1 order by 1"
    rows = await ingest.rows(refused)
    assert [tuple(row) for row in rows] == [("gateway.enrolled", 4), ("gateway.revoked", 2)]


@pytest.mark.proves("SEC-14", part="nobody learns which facilities there are")
async def test_a_settle_length_tells_nothing_either(ingest: Ingest) -> None:
    ingest.access.administered["mia"] = set()
    stub, absent = ingest.acting("mia"), str(uuid4())

    async def answers(facility: str) -> list[tuple[type, str]]:
        length = ingest_pb2.SettleLength(facility_id=facility)  # no length at all: that is looked at later
        save = ingest_pb2.SaveSettleLengthRequest(settle_length=length)
        return [
            await answer(
                stub.ReadSettleLength(ingest_pb2.ReadSettleLengthRequest(facility_id=facility)), facility
            ),
            await answer(stub.SaveSettleLength(save), facility),
        ]

    assert await answers(absent) == await answers(str(RIVERSIDE))
    assert {NotFound} == {word for word, _ in await answers(absent)}
