"""From a sender's first byte to its answer, on real servers over mutual TLS."""

import asyncio
import time
from io import BytesIO
from uuid import UUID, uuid4

import pytest
from google.protobuf.duration_pb2 import Duration
from pydicom import dcmread
from pydicom.uid import UID, ExplicitVRLittleEndian

from demo.dicom_files import CATALOGUE, CONFLICTING, JPEG_LS, digest, sample
from services.ingest.parts import whole_value
from tests.ingest.builders import a_uid
from tests.ingest.objects import CT, a_ct, with_other_bytes
from tests.ingest.system import (
    HARBOUR,
    RIVERSIDE,
    DicomObject,
    EnrolledGateway,
    Ingest,
    Sender,
    sent,
    sent_objects,
    sha256,
    store_object,
)
from tests.wait import eventually
from wire.ingest.v1 import ingest_pb2 as pb

CONFLICT = 0xC111


async def facts(ingest: Ingest) -> list[tuple[str, str]]:
    """What was said: subject and id, in order."""
    rows = await ingest.rows("select subject, payload ->> 'id' as about from outbox order by id")
    return [(row["subject"], row["about"]) for row in rows]


async def study_facts(ingest: Ingest) -> list[str]:
    return [subject for subject, _ in await facts(ingest) if subject.startswith("study.")]


async def settled(ingest: Ingest) -> bool:
    return not await ingest.rows("select from studies where settled_at is null")


@pytest.mark.proves("GWY-1", part="through the gateway")
async def test_every_kind_of_object_arrives_unchanged_in_its_transfer_syntax(ingest: Ingest) -> None:
    gateway = await ingest.enrol()
    paths = [each.path for each in CATALOGUE]
    answers = await sent(Sender.of(ingest, gateway), *paths)
    assert [a.status for a in answers] == [0] * len(paths)
    objects = [DicomObject.of(path) for path in paths]
    assert await ingest.stored() == {o.sop_instance_uid: sha256(o.data) for o in objects}
    rows = await ingest.rows("select sop_instance_uid, transfer_syntax_uid from instances")
    syntaxes = {row["sop_instance_uid"]: row["transfer_syntax_uid"] for row in rows}
    assert syntaxes == {o.sop_instance_uid: o.transfer_syntax_uid for o in objects}
    data = {o.sop_instance_uid: o.data for o in objects}
    for uid, head, pixels in await ingest.rows(
        "select sop_instance_uid, head_length, pixel_offset from instances"
    ):
        if UID(syntaxes[uid]).is_deflated:
            continue
        assert (pixels is None) is (head == len(data[uid]))
        # 24: behind a group length, which is retired (PS3.5 7.2).
        begins = set(data[uid][head : head + 2]) == {0x7F, 0xE0}
        assert pixels is None or (begins and pixels - head in (8, 12, 24))


@pytest.mark.proves("ING-1", "ING-2")
async def test_the_facility_follows_from_the_calling_ae_title(ingest: Ingest) -> None:
    gateway = await ingest.enrol("SITE", RIVERSIDE, HARBOUR)
    first, second = a_ct(), a_ct()
    await sent_objects(Sender.of(ingest, gateway, title="SITE"), first)
    await sent_objects(Sender.of(ingest, gateway, title="SITE1"), second)
    rows = await ingest.rows(
        "select sop_instance_uid, receiving_facility_id, studies.calling_ae_title, studies.gateway_id "
        "from instances join studies using (study_id)"
    )
    assert {row["sop_instance_uid"]: tuple(row)[1:] for row in rows} == {
        first.sop_instance_uid: (RIVERSIDE, "SITE", UUID(gateway.gateway_id)),
        second.sop_instance_uid: (HARBOUR, "SITE1", UUID(gateway.gateway_id)),
    }


async def test_one_study_at_two_facilities_is_two_studies_with_bytes_of_their_own(ingest: Ingest) -> None:
    """A23: neither can overwrite the other; the JPEG-LS variant is no conflict at the other facility."""
    gateway = await ingest.enrol("SITE", RIVERSIDE, HARBOUR)
    await sent(Sender.of(ingest, gateway, title="SITE"), sample("MR").path)
    (answer,) = await sent(Sender.of(ingest, gateway, title="SITE1"), JPEG_LS.path)
    assert answer.status == 0
    rows = await ingest.rows("select study_id, pack_id, sha256 from instances")
    assert {row["sha256"].hex() for row in rows} == {digest(sample("MR").path), digest(JPEG_LS.path)}
    assert len({row["study_id"] for row in rows}) == len({row["pack_id"] for row in rows}) == 2


@pytest.mark.proves("R4", part="the same bytes again")
@pytest.mark.proves("GWY-22")
async def test_the_same_bytes_again_are_success_without_effect(ingest: Ingest) -> None:
    """Also from a second gateway process with the same identity, at the same time."""
    gateway = await ingest.enrol()
    study, series = a_uid(), a_uid()
    objects = [a_ct(study=study, series=series, pixels=bytes(20_000)) for _ in range(10)]
    both = await asyncio.gather(
        sent_objects(Sender.of(ingest, gateway), *objects),
        sent_objects(Sender.of(ingest, gateway), *reversed(objects)),
    )
    assert {a.status for answers in both for a in answers} == {0}
    assert await ingest.stored() == {o.sop_instance_uid: sha256(o.data) for o in objects}
    await eventually(lambda: settled(ingest))
    before = await facts(ingest)
    again = await sent_objects(Sender.of(ingest, gateway), *objects)
    assert {a.status for a in again} == {0}
    await eventually(lambda: len(ingest.pack_files()) <= 2)
    assert await facts(ingest) == before
    assert (await study_facts(ingest)).count("study.received.v1") == 1


@pytest.mark.proves("R4", part="other bytes under the same UID")
@pytest.mark.proves("A27", part="other bytes under the same UID")
async def test_other_bytes_under_a_stored_uid_are_refused_for_good_and_kept_once(ingest: Ingest) -> None:
    gateway = await ingest.enrol()
    sender = Sender.of(ingest, gateway)
    for _ in range(2):
        first, refused = await sent(sender, sample("MR").path, CONFLICTING.path)
        assert first.status == 0
        assert (refused.status, refused.comment) == (
            CONFLICT,
            "other bytes under a stored UID: delete in the cloud first",
        )
    assert set((await ingest.stored()).values()) == {digest(sample("MR").path)}
    ((kept, file),) = (await ingest.quarantine()).items()
    assert kept == digest(CONFLICTING.path)
    assert dcmread(BytesIO(file)) == dcmread(CONFLICTING.path)
    rows = await ingest.rows("select * from refusals")
    assert [(row["kind"], row["status"]) for row in rows] == [("instance", CONFLICT)] * 2
    assert {str(row["gateway_id"]) for row in rows} == {gateway.gateway_id}
    audited = await ingest.rows("select * from audit_rows where action = 'instance.refused'")
    assert [(row["actor"], row["outcome"]) for row in audited] == [
        (f"gateway:{gateway.gateway_id}", "refused")
    ] * 2


@pytest.mark.proves("A27", part="the quarantine is capped per gateway")
async def test_the_quarantine_of_a_gateway_is_bounded(ingest: Ingest) -> None:
    ingest.environ["READROOM_INGEST_QUARANTINE_INSTANCES"] = "2"
    await ingest.stop()
    await ingest.start()
    gateway = await ingest.enrol()
    original = a_ct()
    changed = [
        a_ct(uid=original.sop_instance_uid, study=a_study_of(original), pixels=bytes([n, n]) * 500)
        for n in range(4)
    ]
    answers = await sent_objects(Sender.of(ingest, gateway), original, *changed)
    assert [a.status for a in answers] == [0] + [CONFLICT] * 4
    assert len(await ingest.quarantine()) == 2
    assert await ingest.one("select count(*) from refusals") == 4


def a_study_of(sending: DicomObject) -> str:
    at = sending.data.index(bytes.fromhex("20000d00") + b"UI") + 8
    length = int.from_bytes(sending.data[at - 2 : at], "little")
    return sending.data[at : at + length].rstrip(b"\0").decode()


async def test_a_study_is_told_received_changed_and_settled(ingest: Ingest) -> None:
    """A55. Received with the first durable instance, changed while it grows, settled when it is quiet."""
    gateway = await ingest.enrol()
    study, series = a_uid(), a_uid()
    objects = [a_ct(study=study, series=series) for _ in range(3)]

    def send_and_look() -> None:
        with Sender.of(ingest, gateway).association([(CT, ExplicitVRLittleEndian)]) as association:
            for each in objects:
                assert store_object(association, each).status == 0
            assert asyncio.run(study_facts(ingest))[0] == "study.received.v1"
            assert not asyncio.run(settled(ingest))

    began = time.monotonic()
    await asyncio.to_thread(send_and_look)
    await eventually(lambda: settled(ingest))
    said = await study_facts(ingest)
    changed = len(said) - 1
    assert said == ["study.received.v1"] + ["study.changed.v1"] * changed
    at_its_end_and_settled = 2  # else once a second, and this machine may be slow
    assert 1 <= changed <= at_its_end_and_settled + 2 + int(time.monotonic() - began)
    version = await ingest.one("select version from studies")
    assert version == len(said)
    study_id = await ingest.one("select study_id from studies")
    answer = await ingest.service("routing").DescribeStudy(pb.DescribeStudyRequest(study_id=str(study_id)))
    assert (answer.study.version, answer.study.settled) == (version, True)
    assert [s.instance_count for s in answer.study.series] == [3]

    # A late instance unsettles it, and it settles again.
    await sent_objects(Sender.of(ingest, gateway), a_ct(study=study, series=series))
    await eventually(lambda: settled(ingest))
    assert await ingest.one("select version from studies") > version


async def test_a_study_left_unsettled_by_a_crash_settles_after_the_start(ingest: Ingest) -> None:
    gateway = await ingest.enrol()
    ct = a_ct()
    await sent_objects(Sender.of(ingest, gateway), ct)
    await eventually(lambda: settled(ingest))
    await ingest.stop()
    # As a kill leaves it: the pack open, with bytes behind its last commit, and an uncommitted pack.
    await ingest.rows("update packs set sealed_at = null")
    await ingest.rows("update studies set settled_at = null")
    (path,) = ingest.pack_files()
    end = await ingest.one("select committed_end from packs")
    with path.open("r+b") as file:
        file.truncate(end)
        file.seek(end)
        file.write(bytes(70_000))
    stray = path.with_name(f"{str(uuid4())[:-2]}{path.parent.name}.tar")
    stray.write_bytes(bytes(5000))
    await ingest.rows(
        "insert into packs select $1, null, 0, null, volume_id, writer_id, true from packs", UUID(stray.stem)
    )
    await ingest.start()
    assert ingest.pack_files() == [path]
    assert path.stat().st_size == end + 1024
    await eventually(lambda: settled(ingest))
    assert await ingest.stored() == {ct.sop_instance_uid: sha256(ct.data)}


async def test_what_is_indexed_is_decoded_and_the_first_value_wins(ingest: Ingest) -> None:
    gateway = await ingest.enrol()
    study, series, other_series = a_uid(), a_uid(), a_uid()
    latin: dict[int, tuple[str, bytes | str]] = {
        0x0008_0005: ("CS", b"ISO_IR 100"),
        0x0008_0080: ("LO", "MS44 "),
        0x0008_1030: ("LO", "Schädel\0".encode("latin-1")),
        0x0010_0010: ("PN", "Müller^Änne^^".encode("latin-1")),
        0x0010_0020: ("LO", "  4711"),
    }
    await sent_objects(
        Sender.of(ingest, gateway),
        a_ct(study=study, series=series, more={0x0008_0080: ("LO", "  ")}),
        a_ct(study=study, series=series, more=latin),
        a_ct(study=study, series=series, more={0x0008_0080: ("LO", "MS45"), 0x0010_0020: ("LO", "4712")}),
        a_ct(study=study, series=other_series, more={0x0008_0080: ("LO", "MS44")}),
    )
    study_id = await ingest.one("select study_id from studies")
    request = pb.DescribeStudyRequest(study_id=str(study_id))
    told = (await ingest.service("access").DescribeStudy(request)).study
    assert told.study_instance_uid == study
    assert told.attributes["PatientName"] == "Vermeer^Ada"
    assert told.attributes["PatientID"] == "4711"
    assert told.attributes["StudyDescription"] == "Schädel"
    assert [s.series_instance_uid for s in told.series] == [series, other_series]
    assert [s.instance_count for s in told.series] == [3, 1]
    assert told.series[0].attributes["Modality"] == "CT"
    assert told.series[0].attributes["InstitutionName"] == "MS44"
    mapped = [[v.value for v in s.mapping_values if v.keyword == "InstitutionName"] for s in told.series]
    assert mapped == [["MS44", "MS45"], ["MS44"]]
    ordinals = [v.ordinal for s in told.series for v in s.mapping_values]
    assert sorted(ordinals) == list(range(1, len(ordinals) + 1))


async def test_mapping_values_are_bounded(ingest: Ingest) -> None:
    gateway = await ingest.enrol()
    study, series = a_uid(), a_uid()
    addresses = [f"{number:02}" * 600 for number in range(12)]
    objects = [a_ct(study=study, series=series, more={0x0008_0081: ("ST", each)}) for each in addresses]
    answers = await sent_objects(Sender.of(ingest, gateway), *objects)
    assert {a.status for a in answers} == {0}
    rows = await ingest.rows("select value from mapping_values order by ordinal")
    assert [row["value"] for row in rows] == [whole_value(each, "ST") for each in addresses[:8]]


async def announce(
    ingest: Ingest, gateway: EnrolledGateway, study: str, *, age_s: int = 0, transfer_id: str | None = None
) -> str:
    transfer_id = transfer_id or str(uuid4())
    await ingest.gateway_service(gateway).BeginTransfer(
        pb.BeginTransferRequest(
            transfer_id=transfer_id,
            study_instance_uid=study,
            calling_ae_title=gateway.title,
            age=Duration(seconds=age_s),
        )
    )
    return transfer_id


async def test_an_association_carries_the_transfer_that_was_announced(ingest: Ingest) -> None:
    gateway = await ingest.enrol()
    study = a_uid()
    transfer_id = await announce(ingest, gateway, study)
    assert await announce(ingest, gateway, study, transfer_id=transfer_id) == transfer_id
    good, foreign = a_ct(study=study), a_ct()
    answers = await sent_objects(Sender.of(ingest, gateway, transfer_id=transfer_id), good, foreign)
    assert [a.status for a in answers] == [0, 0xC112]
    assert set(await ingest.stored()) == {good.sop_instance_uid}
    (path,) = ingest.pack_files()
    assert f"READROOM.transfer={transfer_id}\n".encode() in path.read_bytes()


@pytest.mark.parametrize("age_s", [-5, 1_800 * 86_400])
async def test_a_transfer_of_a_gateway_with_a_wrong_clock_is_taken(ingest: Ingest, age_s: int) -> None:
    gateway = await ingest.enrol()
    study = a_uid()
    sending = a_ct(study=study)
    transfer_id = await announce(ingest, gateway, study, age_s=age_s)
    (answer,) = await sent_objects(Sender.of(ingest, gateway, transfer_id=transfer_id), sending)
    assert answer.status == 0


async def test_a_newer_entry_of_the_queue_supersedes_the_older(ingest: Ingest) -> None:
    """A26: newer by the entries' ages, in whatever order they are announced."""
    gateway = await ingest.enrol()
    study = a_uid()
    new = await announce(ingest, gateway, study, age_s=10)
    old = await announce(ingest, gateway, study, age_s=1000)
    rows = await ingest.rows("select transfer_id, superseded_by from transfers")
    assert {str(r["transfer_id"]): r["superseded_by"] for r in rows} == {new: None, old: UUID(new)}
    # What the superseded entry still sends is stored: nothing was deleted.
    (answer,) = await sent_objects(Sender.of(ingest, gateway, transfer_id=old), a_ct(study=study))
    assert answer.status == 0


async def test_a_study_of_many_series_and_packs_keeps_the_counts(ingest: Ingest) -> None:
    """More studies in one association than packs are held open."""
    gateway = await ingest.enrol()
    studies = [a_uid() for _ in range(20)]
    objects = [a_ct(study=study) for _ in range(2) for study in studies]
    answers = await sent_objects(Sender.of(ingest, gateway), *objects)
    assert {a.status for a in answers} == {0}
    await eventually(lambda: settled(ingest))
    assert await ingest.one("select count(*) from instances") == 40
    assert await ingest.one("select count(*) from studies") == 20
    assert len(ingest.pack_files()) == await ingest.one("select count(*) from packs")


async def test_other_bytes_never_replace_what_is_stored_within_one_association(ingest: Ingest) -> None:
    gateway = await ingest.enrol()
    original = a_ct()
    answers = await sent_objects(Sender.of(ingest, gateway), original, with_other_bytes(original), original)
    assert [a.status for a in answers] == [0, CONFLICT, 0]
