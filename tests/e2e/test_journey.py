"""The journey of a study, end to end: modality, gateway, ingest, routing, access, worklist, images."""

import asyncio
from pathlib import Path

import pytest

from demo import comparing, strangers
from demo.cast import ADEYEMI, ADMIN, CENTRAL, ENDPOINT, HUB, HULL, MODALITY, NORTHGATE, STANDARD, VOS, Site
from demo.dicom_files import SyntheticCT
from demo.modality import PynetdicomModality
from demo.setting import create_facility
from demo.world import World
from readroom.fetch import fetch_case
from readroom.pages import every
from tests.e2e.silent import Silent
from tests.wait import eventually
from wire.access.v1.access_pb2 import LEVEL_VIEW, Case
from wire.ingest.v1.ingest_pb2 import ListRefusalsRequest, Refusal
from wire.routing.v1.routing_pb2 import (
    TRANSMISSION_MODEL_ENDPOINT,
    EndpointRule,
    Facility,
    SaveRuleRequest,
)


async def send(world: World, site: Site, study: SyntheticCT, folder: Path) -> list[Path]:
    """A modality at the site sends the study to its gateway."""
    paths = await asyncio.to_thread(study.write, folder / study.name)
    called = world.gateways[site.name].called
    await asyncio.to_thread(PynetdicomModality(MODALITY).send, paths, called, lambda: None)
    return paths


async def seen(world: World, login: str, study: SyntheticCT) -> Case:
    """The case on the user's worklist, once it is complete there."""

    async def complete() -> Case | None:
        case = await world.case(login, study.study_instance_uid)
        return case if case and case.instance_count == study.slices else None

    case = await eventually(complete, within=20.0)
    assert case
    return case


def small(name: str, institution_name: str | None) -> SyntheticCT:
    return SyntheticCT(slices=3, size=64, name=name, institution_name=institution_name)


@pytest.mark.proves("RTE-8")
@pytest.mark.proves("GWY-1", part="through the gateway")
async def test_a_study_with_the_rules_text_travels_from_the_modality_to_the_endpoint_as_it_was_sent(
    world: World, tmp_path: Path
) -> None:
    study = small("ms44", " ms44 ")
    sent = await send(world, CENTRAL, study, tmp_path)

    case = await seen(world, VOS.login, study)
    fetched = await fetch_case(await world.acting_as(VOS.login), case.case_id, tmp_path / "fetched", Silent())

    assert (case.facility_name, case.patient_name, case.undistributed) == (
        ENDPOINT,
        study.patient_name,
        False,
    )
    assert await world.case(HULL.login, study.study_instance_uid) is None
    originals, copies = comparing.by_uid(sent), comparing.by_uid(fetched)
    assert originals.keys() == copies.keys()
    assert all(comparing.same_bytes(originals[uid], copies[uid]) for uid in originals)


@pytest.mark.proves("GWY-19")
async def test_a_standard_facility_transmits_directly_through_its_own_gateway(
    world: World, tmp_path: Path
) -> None:
    study = small("northgate", "MS44")
    await send(world, NORTHGATE, study, tmp_path)

    case = await seen(world, ADEYEMI.login, study)

    assert case.facility_name == STANDARD, "a rule of a hub is none of its business"
    assert await world.case(VOS.login, study.study_instance_uid) is None


@pytest.mark.proves("GWY-20")
@pytest.mark.proves("RTE-10")
@pytest.mark.proves("GWY-21")
async def test_one_gateway_serves_several_facilities_by_rules_that_act_on_the_next_study(
    world: World, tmp_path: Path
) -> None:
    gateway = world.gateways[CENTRAL.name]
    before, after, other = (
        small("ms12-before", "MS12"),
        small("ms12-after", "MS12"),
        small("ms44-too", "MS44"),
    )

    await send(world, CENTRAL, before, tmp_path)
    waiting = await seen(world, HULL.login, before)
    assert (waiting.facility_name, waiting.undistributed) == (HUB, True)

    await create_facility(world, Facility(name="Oak Street 12", model=TRANSMISSION_MODEL_ENDPOINT))
    await world.set_privilege(VOS.login, "Oak Street 12", LEVEL_VIEW)
    rule = EndpointRule(
        hub_facility_id=world.facility_ids[HUB],
        endpoint_facility_id=world.facility_ids["Oak Street 12"],
        text="MS12",
    )
    await (await world.acting_as(ADMIN)).routing.SaveRule(SaveRuleRequest(rule=rule))
    await send(world, CENTRAL, after, tmp_path)
    await send(world, CENTRAL, other, tmp_path)

    assert (await seen(world, VOS.login, after)).facility_name == "Oak Street 12"
    assert (await seen(world, VOS.login, other)).facility_name == ENDPOINT
    assert (await seen(world, HULL.login, before)).undistributed, "a rule acts on new arrivals only"
    assert gateway.process.exit_code is None, "the same process of the same gateway, as it was started"


@pytest.mark.proves("GWY-1", part="through the gateway")
async def test_whoever_is_no_gateway_reaches_ingest_by_no_way_and_is_listed(
    world: World, tmp_path: Path
) -> None:
    address = world.endpoints.dicom
    unknown = strangers.strangers_identity(tmp_path, world.endpoints.gateway_ca)
    central = world.gateways[CENTRAL.name].identity

    assert await asyncio.to_thread(strangers.tls_alert, address, unknown)
    assert await asyncio.to_thread(strangers.rejection, address, None, CENTRAL.ae_title)
    assert await asyncio.to_thread(strangers.rejection, address, central, NORTHGATE.ae_title) == "1,1,3"

    async def all_three() -> bool:
        admin = await world.acting_as(ADMIN)
        pages = every(admin.ingest.ListRefusals, ListRefusalsRequest(), lambda page: page.refusals)
        kinds = [refusal.kind async for refusal in pages]
        return kinds.count(Refusal.KIND_HANDSHAKE) >= 2 and Refusal.KIND_ASSOCIATION in kinds

    await eventually(all_three)
