"""Gateways are named and titled without doubt, and the list tells how each of them is."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from google.protobuf.duration_pb2 import Duration
from pydicom.uid import ExplicitVRLittleEndian

from kernel.errors import Conflict, Denied, Exhausted, Invalid, NotFound
from tests.ingest.builders import a_uid
from tests.ingest.conftest import ingest
from tests.ingest.objects import CT, a_ct
from tests.ingest.system import (
    ADMIN,
    HARBOUR,
    RIVERSIDE,
    EnrolledGateway,
    Ingest,
    Sender,
    sent_objects,
    store_object,
)
from tests.ingest.test_hostile import enrol_as, refusals, rejection
from tests.wait import eventually
from wire.ingest.v1 import ingest_pb2 as pb

__all__ = ["ingest"]


async def listed(ingest: Ingest, gateway: EnrolledGateway) -> pb.Gateway:
    page = await ingest.acting(ADMIN).ListGateways(pb.ListGatewaysRequest())
    return next(each for each in page.gateways if each.gateway_id == gateway.gateway_id)


async def save(ingest: Ingest, wanted: pb.Gateway, login: str = ADMIN) -> pb.Gateway:
    return (await ingest.acting(login).SaveGateway(pb.SaveGatewayRequest(gateway=wanted))).gateway


def titles(gateway: pb.Gateway) -> dict[str, str]:
    return {each.ae_title: each.facility_id for each in gateway.ae_titles}


def with_titles(gateway: pb.Gateway, **facilities: object) -> pb.Gateway:
    wanted = pb.Gateway()
    wanted.CopyFrom(gateway)
    del wanted.ae_titles[:]
    wanted.ae_titles.extend(
        pb.AETitleBinding(ae_title=title, facility_id=str(facility)) for title, facility in facilities.items()
    )
    return wanted


async def test_two_live_gateways_never_share_a_name(ingest: Ingest) -> None:
    first, second = await ingest.enrol("FIRST"), await ingest.enrol("SECOND")
    with pytest.raises(Conflict) as conflict:
        await enrol_as(ingest, ADMIN, "THIRD", RIVERSIDE, name="first")
    assert conflict.value.field == "name"
    assert conflict.value.sentence.startswith("there is already a gateway named `first`")
    wanted = await listed(ingest, second)
    wanted.name = "First"
    with pytest.raises(Conflict):
        await save(ingest, wanted)
    await ingest.acting(ADMIN).RevokeGateway(pb.RevokeGatewayRequest(gateway_id=first.gateway_id))
    assert (await save(ingest, wanted)).name == "First"


async def test_titles_are_added_moved_and_taken_away(ingest: Ingest) -> None:
    gateway, other = await ingest.enrol("MAIN"), await ingest.enrol("OTHER")
    loaded = await listed(ingest, gateway)
    saved = await save(ingest, with_titles(loaded, MAIN=HARBOUR, SECOND=RIVERSIDE))
    assert titles(saved) == {"MAIN": str(HARBOUR), "SECOND": str(RIVERSIDE)}
    assert (saved.version, saved.certificate_sha256) == (loaded.version + 1, loaded.certificate_sha256)
    await sent_objects(Sender.of(ingest, EnrolledGateway(gateway.gateway_id, "SECOND", gateway.tls)), a_ct())
    await sent_objects(Sender.of(ingest, gateway), a_ct())
    received = await ingest.rows("select receiving_facility_id from studies order by received_at")
    assert [row[0] for row in received] == [RIVERSIDE, HARBOUR]

    with pytest.raises(Conflict) as stale:
        await save(ingest, loaded)
    assert "the gateway `MAIN` was changed by `admin` on " in stale.value.sentence
    assert stale.value.sentence.endswith("load it again and repeat your change")
    with pytest.raises(Conflict) as taken:
        await save(ingest, with_titles(saved, OTHER=RIVERSIDE))
    assert taken.value.sentence.startswith("another gateway already has the AE title `OTHER`")
    for wrong in (with_titles(saved), with_titles(saved, **{"A\\B": RIVERSIDE})):
        with pytest.raises(Invalid):
            await save(ingest, wrong)
    assert titles(await listed(ingest, gateway)) == titles(saved)
    assert titles(await listed(ingest, other)) == {"OTHER": str(RIVERSIDE)}

    await ingest.acting(ADMIN).RevokeGateway(pb.RevokeGatewayRequest(gateway_id=gateway.gateway_id))
    with pytest.raises(Conflict, match="the gateway was revoked"):
        await save(ingest, await listed(ingest, gateway))


async def test_who_does_not_administer_every_facility_changes_no_gateway(ingest: Ingest) -> None:
    ingest.access.administered["half"] = {HARBOUR}
    both = await listed(ingest, await ingest.enrol("BOTH", RIVERSIDE, HARBOUR))
    own = (await enrol_as(ingest, "half", "OWN", HARBOUR)).gateway
    absent = with_titles(both, OWN2=HARBOUR)
    absent.gateway_id = str(uuid4())
    said = []
    for wanted in (both, absent):
        with pytest.raises(NotFound) as refusal:
            await save(ingest, wanted, "half")
        said.append(refusal.value.sentence)
    assert len(set(said)) == 1
    with pytest.raises(NotFound):
        await save(ingest, with_titles(own, OWN=RIVERSIDE), "half")
    assert titles(await save(ingest, with_titles(own, OWN=HARBOUR, OWN3=HARBOUR), "half")).keys() == {
        "OWN",
        "OWN3",
    }


@pytest.mark.proves("SEC-2", part="an association under a title that was taken away ends within 5 s")
async def test_an_association_ends_when_its_title_is_taken_away(ingest: Ingest) -> None:
    gateway = await ingest.enrol("GONE", RIVERSIDE, RIVERSIDE)  # GONE and GONE1
    kept = EnrolledGateway(gateway.gateway_id, "GONE1", gateway.tls)
    loaded = await listed(ingest, gateway)
    loop = asyncio.get_running_loop()

    def send() -> float:
        contexts = [(CT, ExplicitVRLittleEndian)]
        with (
            Sender.of(ingest, kept).association(contexts) as unconcerned,
            Sender.of(ingest, gateway).association(contexts) as association,
        ):
            assert store_object(association, a_ct()).status == 0
            saving = save(ingest, with_titles(loaded, GONE1=RIVERSIDE))
            asyncio.run_coroutine_threadsafe(saving, loop).result(5)
            saved_at = time.monotonic()
            while association.is_established and time.monotonic() < saved_at + 6:
                time.sleep(0.01)
            ended_after = time.monotonic() - saved_at
            assert store_object(unconcerned, a_ct()).status == 0
            return ended_after

    assert await asyncio.to_thread(send) < 5
    assert await rejection(Sender.of(ingest, gateway)) == [(1, 1, 3)]


async def announce(ingest: Ingest, gateway: EnrolledGateway, title: str) -> None:
    await ingest.gateway_service(gateway).BeginTransfer(
        pb.BeginTransferRequest(transfer_id=str(uuid4()), study_instance_uid=a_uid(), calling_ae_title=title)
    )


@pytest.mark.proves("BEY-7", part="refused announcements are listed")
async def test_the_refused_announcements_of_a_revoked_gateway_are_listed(ingest: Ingest) -> None:
    gateway = await ingest.enrol("MAIN")
    with pytest.raises(Denied):
        await announce(ingest, gateway, "FOREIGN")
    await ingest.acting(ADMIN).RevokeGateway(pb.RevokeGatewayRequest(gateway_id=gateway.gateway_id))
    with pytest.raises(Denied):
        await announce(ingest, gateway, "MAIN")
    assert await refusals(ingest) == [
        ("association", "announced a study, but `FOREIGN` is not an AE title of this gateway"),
        ("association", "announced a study, but the gateway is revoked"),
    ]
    (newest, _) = (await ingest.acting(ADMIN).ListRefusals(pb.ListRefusalsRequest())).refusals
    assert newest.gateway_id == gateway.gateway_id
    assert newest.calling_ae_title == "MAIN"
    certificate = x509.load_pem_x509_certificate(gateway.tls.certificate.read_bytes())
    assert newest.certificate_sha256 == certificate.fingerprint(hashes.SHA256()).hex()
    assert newest.remote_address.startswith("127.0.0.1:")


async def heartbeat(ingest: Ingest, gateway: EnrolledGateway, **told: object) -> None:
    request = pb.HeartbeatRequest(**told)  # type: ignore[arg-type]
    await ingest.gateway_service(gateway).Heartbeat(request)


@pytest.mark.proves("GWY-15", part="the gateway reports its version, and the list shows it")
async def test_the_list_tells_how_a_gateway_is(ingest: Ingest) -> None:
    gateway, silent = await ingest.enrol("MAIN"), await ingest.enrol("SILENT")
    begun = datetime.now(UTC)
    certificate = x509.load_pem_x509_certificate(gateway.tls.certificate.read_bytes())
    ends_at = (await listed(ingest, gateway)).certificate_ends_at
    assert ends_at.ToDatetime(UTC) == certificate.not_valid_after_utc

    minute = Duration(seconds=60)
    await heartbeat(ingest, gateway, software_version="0.1.0", waiting_studies=3, oldest_waits=minute)

    found = await eventually(lambda: told_of(ingest, gateway))
    assert (found.software_version, found.waiting_studies) == ("0.1.0", 3)
    since = found.waiting_since.ToDatetime(UTC)
    assert begun - timedelta(seconds=61) < since < begun - timedelta(seconds=50)
    assert not found.HasField("stored_at")

    await sent_objects(Sender.of(ingest, gateway), a_ct())

    async def stored() -> bool:
        return (await listed(ingest, gateway)).contact.HasField("stored_at")

    await eventually(stored)
    found = (await listed(ingest, gateway)).contact
    assert found.heard_at.ToDatetime(UTC) >= begun
    assert (found.software_version, found.waiting_studies) == ("0.1.0", 3), "what it told stays"
    assert (await listed(ingest, silent)).contact == pb.Gateway.Contact()

    await heartbeat(ingest, gateway, software_version="0.1.0")

    async def emptied() -> bool:
        contact = (await listed(ingest, gateway)).contact
        return contact.waiting_studies == 0 and not contact.HasField("waiting_since")

    await eventually(emptied)


async def told_of(ingest: Ingest, gateway: EnrolledGateway) -> pb.Gateway.Contact:
    contact = (await listed(ingest, gateway)).contact
    assert contact.HasField("told_at")
    return contact


async def test_a_gateway_that_tells_nonsense_or_too_often_is_refused(ingest: Ingest) -> None:
    gateway = await ingest.enrol("MAIN")
    for nonsense in ({"software_version": "x" * 65}, {"software_version": "a\nb"}, {"waiting_studies": -1}):
        with pytest.raises(Invalid):
            await heartbeat(ingest, gateway, **nonsense)
    told = 0

    async def tell_too_often() -> None:
        nonlocal told
        while told <= 2 * 60:  # the minute may turn once
            await heartbeat(ingest, gateway)
            told += 1

    with pytest.raises(Exhausted):
        await tell_too_often()
    assert told >= 60
    await ingest.acting(ADMIN).RevokeGateway(pb.RevokeGatewayRequest(gateway_id=gateway.gateway_id))
