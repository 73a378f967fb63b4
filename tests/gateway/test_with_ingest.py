"""A gateway and the real ingest: enrolled, sending, killed, repeated, revoked."""

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import ExplicitVRLittleEndian

from demo.dicom_files import CATALOGUE
from services.ingest.office import CONTEXTS_REFUSED, ODD
from tests.gateway.system import Gateway, digest
from tests.ingest.builders import a_uid
from tests.ingest.objects import CT, a_ct, with_other_bytes
from tests.ingest.system import (
    ADMIN,
    HARBOUR,
    RIVERSIDE,
    DicomObject,
    EnrolledGateway,
    Ingest,
    Sender,
    sent_objects,
    store_object,
)
from tests.ingest.test_deletion import a_case, begin_transfer, delete
from tests.odd_data_sets import TAKEN, store
from tests.ports import free_port
from tests.wait import eventually
from wire.ingest.v1 import ingest_pb2 as pb

PATIENT_ID = 0x0010_0020


@pytest.fixture
async def enrolled(ingest: Ingest) -> EnrolledGateway:
    """A gateway of two facilities: RIVERSIDE and RIVERSIDE1."""
    return await ingest.enrol("RIVERSIDE", RIVERSIDE, HARBOUR)


@asynccontextmanager
async def a_gateway(ingest: Ingest, enrolled: EnrolledGateway, folder: Path) -> AsyncIterator[Gateway]:
    gateway = Gateway(
        folder,
        ingest.pki,
        dicom_address=ingest.address("dicom"),
        gateway_address=ingest.address("gateways"),
        identity=enrolled.tls,
        titles=("RIVERSIDE", "RIVERSIDE1"),
    )
    # Not in the loop: ingest runs in it.
    await asyncio.to_thread(gateway.start)
    try:
        yield gateway
    finally:
        gateway.kill()


@pytest.mark.proves("GWY-1", part="through the gateway")
@pytest.mark.proves("GWY-19")
async def test_what_a_modality_sends_is_stored_at_its_facility_byte_for_byte(
    ingest: Ingest, enrolled: EnrolledGateway, tmp_path: Path
) -> None:
    objects = [DicomObject.of(sample.path) for sample in CATALOGUE]
    async with a_gateway(ingest, enrolled, tmp_path / "gateway") as gateway:
        answers = await sent_objects(gateway.modality(), *objects)
        assert {answer.status for answer in answers} == {0}
        expected = {each.sop_instance_uid: digest(each) for each in objects}
        await eventually(lambda: _equal(ingest, expected), within=30)
        facilities = await ingest.rows("select distinct receiving_facility_id, calling_ae_title from studies")
        assert [(row["receiving_facility_id"], row["calling_ae_title"]) for row in facilities] == [
            (RIVERSIDE, "RIVERSIDE")
        ]
        transfers = await ingest.one("select count(*) from transfers")
        assert transfers >= await ingest.one("select count(*) from studies")


@pytest.mark.proves("BEY-7", part="an odd data set that can be filed reaches the cloud unchanged")
async def test_odd_data_sets_are_stored_byte_for_byte(
    ingest: Ingest, enrolled: EnrolledGateway, tmp_path: Path
) -> None:
    async with a_gateway(ingest, enrolled, tmp_path / "gateway") as gateway:
        expected, counted = {}, ODD._value.get()
        for odd in TAKEN.values():
            made = odd.made()
            status = await asyncio.to_thread(
                store, gateway.ports["plain"], made, odd.transfer_syntax_uid, called="RIVERSIDE"
            )
            assert status == 0, odd
            expected[made[0]] = hashlib.sha256(made[1]).hexdigest()
        await eventually(lambda: _equal(ingest, expected), within=30)
        noted = sum(bool(odd.notes) for odd in TAKEN.values())
        await eventually(lambda: ODD._value.get() == counted + noted)


@pytest.mark.proves("BEY-7", part="objects of vendors' own classes are kept")
async def test_an_object_of_a_vendors_own_class_is_stored_byte_for_byte(
    ingest: Ingest, enrolled: EnrolledGateway, tmp_path: Path
) -> None:
    raw = "1.3.12.2.1107.5.9.1"
    sending = replace(a_ct(more={0x0008_0016: ("UI", raw)}), sop_class_uid=raw)
    async with a_gateway(ingest, enrolled, tmp_path / "gateway") as gateway:
        (answer,) = await sent_objects(gateway.modality(), sending)
        assert answer.status == 0
        await eventually(lambda: _equal(ingest, {sending.sop_instance_uid: digest(sending)}), within=30)


async def test_a_site_may_keep_vendors_own_classes_out(ingest: Ingest, enrolled: EnrolledGateway) -> None:
    await ingest.stop()
    ingest.environ["READROOM_INGEST_PRIVATE_CLASSES"] = "false"
    await ingest.start()
    sender, raw = Sender.of(ingest, enrolled), "1.3.12.2.1107.5.9.1"

    def accepted() -> list[str]:
        with sender.association([(CT, ExplicitVRLittleEndian), (raw, ExplicitVRLittleEndian)]) as opened:
            return [str(context.abstract_syntax) for context in opened.accepted_contexts]

    assert await asyncio.to_thread(accepted) == [CT]


async def test_ingest_counts_contexts_that_it_does_not_accept(
    ingest: Ingest, enrolled: EnrolledGateway
) -> None:
    hanging_protocol = "1.2.840.10008.5.1.4.38.1"
    sender = Sender.of(ingest, enrolled)
    explicit = str(ExplicitVRLittleEndian)

    def propose() -> None:
        with sender.association([(CT, explicit), (hanging_protocol, explicit)]):
            pass

    before = CONTEXTS_REFUSED.labels(hanging_protocol)._value.get()
    await asyncio.to_thread(propose)
    assert CONTEXTS_REFUSED.labels(hanging_protocol)._value.get() == before + 1


@pytest.mark.proves("GWY-20")
async def test_one_gateway_serves_several_facilities_by_the_title_called(
    ingest: Ingest, enrolled: EnrolledGateway, tmp_path: Path
) -> None:
    sending = a_ct()
    async with a_gateway(ingest, enrolled, tmp_path / "gateway") as gateway:
        for title in ("RIVERSIDE", "RIVERSIDE1"):
            await sent_objects(gateway.modality(called=title), sending)
        await eventually(lambda: _count(ingest, 2), within=60)
        rows = await ingest.rows("select receiving_facility_id from studies")
        assert {row["receiving_facility_id"] for row in rows} == {RIVERSIDE, HARBOUR}


@pytest.mark.proves("GWY-16", part="the cloud records it, and the resend starts there")
async def test_a_study_is_sent_again_from_the_gateway_that_the_cloud_names(
    ingest: Ingest, enrolled: EnrolledGateway, tmp_path: Path
) -> None:
    """A technician asks the cloud which gateway it was, and finds the study there by its patient."""
    other = await ingest.enrol("ELSEWHERE", HARBOUR)
    study = a_uid()
    async with a_gateway(ingest, enrolled, tmp_path / "gateway") as gateway:
        await sent_objects(gateway.modality(), a_ct(study=study))
        await eventually(lambda: gateway.states() == ["done"], within=30)
        (row,) = await ingest.rows("select study_id from studies")
        told = await ingest.service("routing").DescribeStudy(
            pb.DescribeStudyRequest(study_id=str(row["study_id"]))
        )
        assert told.study.gateway_id == enrolled.gateway_id != other.gateway_id
        (kept,) = json.loads(gateway.acts("--kept", "--json", "--patient", "vermeer ada"))["kept"]["rows"]
        assert kept["study"] == study
        assert gateway.acts("--export", kept["study"]) == f"exporting {study} as RIVERSIDE: 1 instance\n"
        await eventually(lambda: gateway.states() == ["done", "done"], within=30)


@pytest.mark.proves("GWY-22")
async def test_a_second_gateway_with_the_same_identity_may_repeat_everything(
    ingest: Ingest, enrolled: EnrolledGateway, tmp_path: Path
) -> None:
    study = a_uid()
    sending = [a_ct(study=study) for _ in range(10)]
    expected = {each.sop_instance_uid: digest(each) for each in sending}
    async with (
        a_gateway(ingest, enrolled, tmp_path / "one") as one,
        a_gateway(ingest, enrolled, tmp_path / "two") as two,
    ):
        await sent_objects(one.modality(), *sending[:7])
        one.kill()
        # The modality fails over and sends its whole study to the other instance.
        await sent_objects(two.modality(), *sending)
        await asyncio.to_thread(one.start)
        await eventually(lambda: _equal(ingest, expected), within=60)
        await eventually(lambda: {*one.states(), *two.states()} == {"done"}, within=60)
    assert await ingest.one("select count(*) from studies") == 1
    assert await ingest.one("select count(*) from instances") == 10


async def test_a_conflict_is_final_for_that_instance_and_shown_on_the_gateway(
    ingest: Ingest, enrolled: EnrolledGateway, tmp_path: Path
) -> None:
    first = a_ct()
    async with a_gateway(ingest, enrolled, tmp_path / "gateway") as gateway:
        await sent_objects(gateway.modality(), first, with_other_bytes(first))
        await eventually(lambda: gateway.states() == ["done", "failed"], within=60)
        assert "delete in the cloud first" in gateway.status()
        assert await ingest.stored() == {first.sop_instance_uid: digest(first)}


@pytest.mark.proves("ING-8")
@pytest.mark.proves("A26")
@pytest.mark.proves("GWY-12", part="what the modality sends again after a deletion in the cloud")
async def test_a_late_retry_of_a_deleted_study_is_refused_and_its_export_is_a_new_study(
    ingest: Ingest, enrolled: EnrolledGateway, tmp_path: Path
) -> None:
    """And what the modality sends again, corrected, shows the corrected values only."""
    study, uid = a_uid(), a_uid()
    wrong, late = (a_ct(study=study, uid=u, more={PATIENT_ID: ("LO", "WRONG")}) for u in (uid, a_uid()))
    right = a_ct(study=study, uid=uid, more={PATIENT_ID: ("LO", "RIGHT")})
    async with a_gateway(ingest, enrolled, tmp_path / "gateway") as gateway:
        await sent_objects(gateway.modality(), wrong)
        await eventually(lambda: gateway.states() == ["done"])
        # Its queue gets stuck, then the study is deleted, then it goes on.
        acceptor_port, ingest.ports["dicom"] = ingest.ports["dicom"], free_port()
        await ingest.stop()
        await ingest.start()
        await sent_objects(gateway.modality(), late)
        await eventually(lambda: gateway.states() == ["done", "waiting"])
        await delete(ingest, await a_case(ingest, study))
        await ingest.stop()
        ingest.ports["dicom"] = acceptor_port
        await ingest.start()
        await eventually(lambda: gateway.states() == ["done", "failed"])
        assert gateway.rows("select reason from transfers where state = 'failed'") == [
            ("deleted in the cloud: export the study again",)
        ]
        assert await ingest.stored() == {}

        await sent_objects(gateway.modality(), right)
        await eventually(lambda: _equal(ingest, {uid: digest(right)}))
        described = await ingest.one("select attributes from studies")
        assert json.loads(described)["PatientID"] == "RIGHT"
        await delete(ingest, await a_case(ingest, study))
        await eventually(lambda: gateway.states() == ["done", "failed", "done"])
        assert gateway.acts("--export", study) == f"exporting {study} as RIVERSIDE: 2 instances\n"
        await eventually(lambda: _equal(ingest, {uid: digest(right), late.sop_instance_uid: digest(late)}))
        await eventually(lambda: gateway.states() == ["done", "failed", "done", "done"])
        # Of its entries the newest supersedes the others, and an association without one is the transfer.
        newest = "select transfer_id from transfers where superseded_by is null"
        ((exported,),) = gateway.rows("select id from transfers order by rowid desc limit 1")
        assert [exported] == [str(row["transfer_id"]) for row in await ingest.rows(newest)]
    answers = await around(ingest, enrolled, study, lambda: deleted(ingest, study))
    assert [(0, ""), (0xC113, "deleted in the cloud: export the study again")] == answers
    # Announced after the deletion, with an age that says it was begun before.
    (answer,) = await sent_objects(await begin_transfer(ingest, enrolled, study, age_s=3600), late)
    assert answer.status == 0xC113
    assert await ingest.stored() == {}


async def deleted(ingest: Ingest, study: str) -> None:
    await delete(ingest, await a_case(ingest, study))


async def around(
    ingest: Ingest, enrolled: EnrolledGateway, study: str, meanwhile: Callable[[], Coroutine[Any, Any, None]]
) -> list[tuple[int | None, str]]:
    """What one association is answered before and after something happens; it names no transfer."""
    loop = asyncio.get_running_loop()

    def send() -> list[tuple[int | None, str]]:
        with Sender.of(ingest, enrolled).association([(CT, ExplicitVRLittleEndian)]) as association:
            before = store_object(association, a_ct(study=study))
            asyncio.run_coroutine_threadsafe(meanwhile(), loop).result(20)
            after = store_object(association, a_ct(study=study))
            return [(each.status, each.comment or "") for each in (before, after)]

    return await asyncio.to_thread(send)


async def test_ingest_ends_and_comes_back_in_the_middle(
    ingest: Ingest, enrolled: EnrolledGateway, tmp_path: Path
) -> None:
    study = a_uid()
    sending = [a_ct(study=study, pixels=os.urandom(100_000)) for _ in range(40)]
    async with a_gateway(ingest, enrolled, tmp_path / "gateway") as gateway:
        await sent_objects(gateway.modality(), *sending[:20])
        await ingest.stop()
        answers = await sent_objects(gateway.modality(), *sending[20:])
        assert {answer.status for answer in answers} == {0}
        await ingest.start()
        expected = {each.sop_instance_uid: digest(each) for each in sending}
        await eventually(lambda: _equal(ingest, expected), within=30)
    assert await ingest.one("select count(*) from instances") == 40


async def test_a_revoked_gateway_keeps_what_it_has_and_says_why(
    ingest: Ingest, enrolled: EnrolledGateway, tmp_path: Path
) -> None:
    async with a_gateway(ingest, enrolled, tmp_path / "gateway") as gateway:
        await ingest.acting(ADMIN).RevokeGateway(pb.RevokeGatewayRequest(gateway_id=enrolled.gateway_id))
        (answer,) = await sent_objects(gateway.modality(), a_ct())
        assert answer.status == 0
        await eventually(lambda: "revoked" in gateway.rows("select reason from transfers")[0][0], within=60)
        assert len(gateway.files()["objects"]) == 1
    assert await ingest.stored() == {}


async def _equal(ingest: Ingest, expected: dict[str, str]) -> bool:
    return await ingest.stored() == expected


async def _count(ingest: Ingest, number: int) -> bool:
    return bool(await ingest.one("select count(*) from instances") == number)
