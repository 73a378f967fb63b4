"""Deletion as ingest sees it: the purge record, the purge, and what may be sent afterwards."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec
import nats
import pytest
from google.protobuf.duration_pb2 import Duration
from pydantic import SecretStr
from pydicom.uid import ExplicitVRLittleEndian

from kernel.errors import Denied, Invalid, NotFound, Unauthenticated, Unavailable
from kernel.events import CasePurged
from kernel.ids import UUID7
from plumbing.bus import Bus
from plumbing.config import ServiceSettings
from plumbing.db import Database
from plumbing.sealing import ANCHOR_EVERY_S, AuditTrail
from services.ingest.deletionstore import TABLES
from services.ingest.purgerecord import CONFIRM
from services.ingest.store import IngestTransaction
from tests.auditing import AUDIT_KEY
from tests.ingest.builders import a_uid
from tests.ingest.objects import CT, a_ct, with_other_bytes
from tests.ingest.system import (
    ADMIN,
    HARBOUR,
    READER,
    RIVERSIDE,
    DicomObject,
    EnrolledGateway,
    Ingest,
    Sender,
    sent_objects,
    store_object,
)
from tests.plumbing.test_sealing import UNLOCKED, Tampered, verification
from tests.wait import eventually
from wire.ingest.v1 import ingest_pb2 as pb

DELETED = 0xC113
ONE_INSTANCE = {
    "studies": 1,
    "series": 1,
    "instances": 1,
    "parts": 1,
    "part_series": 1,
    "identities": 1,
    "attribute_sets": 1,
    "packs": 1,
    "pack files": 1,
}
"""What is left of a study of one instance."""
KEPT = ("studies", *TABLES, "quarantined", "doomed_files")


async def a_case(ingest: Ingest, study: str) -> str:
    """The live study with this UID as a case that ADMIN may delete."""
    study_id = await ingest.one("select study_id from studies where study_instance_uid = $1", study)
    case_id = str(uuid4())
    ingest.access.cases[case_id] = [str(study_id)]
    return case_id


async def delete(ingest: Ingest, case_id: str, login: str = ADMIN) -> pb.Deletion:
    return (await ingest.acting(login).DeleteStudy(pb.DeleteStudyRequest(case_id=case_id))).deletion


async def deletions(ingest: Ingest, login: str = ADMIN) -> Sequence[pb.Deletion]:
    return (await ingest.acting(login).ListDeletions(pb.ListDeletionsRequest())).deletions


async def confirm(ingest: Ingest, case_id: str, by: str, *study_ids: UUID) -> None:
    """A service says that it keeps nothing of the case any more."""
    if by == "routing":
        ingest.routing.purged[case_id] = list(map(str, study_ids))
    fact = CasePurged(UUID(case_id), 1, by, study_ids)
    bus = await Bus.connect(ingest.servers.nats_url, by)
    try:
        await bus.publish(fact.subject, msgspec.json.encode(fact), uuid4(), {})
    finally:
        await bus.close()


async def left(ingest: Ingest) -> dict[str, int]:
    """Rows of received studies, and files, by where they are."""
    rows = {table: await ingest.one(f"select count(*) from {table}") for table in KEPT}
    rows["packs"] = await ingest.one("select count(*) from packs where study_id is not null")
    rows["pack files"] = len(ingest.pack_files())
    rows["quarantined files"] = len(list((ingest.packs / "quarantine").iterdir()))
    return {name: count for name, count in rows.items() if count}


async def begin_transfer(ingest: Ingest, gateway: EnrolledGateway, study: str, *, age_s: float = 0) -> Sender:
    """A sender of a transfer that is so old."""
    transfer_id = str(uuid4())
    age = Duration()
    age.FromMilliseconds(int(age_s * 1000))
    await ingest.gateway_service(gateway).BeginTransfer(
        pb.BeginTransferRequest(
            transfer_id=transfer_id, study_instance_uid=study, calling_ae_title=gateway.title, age=age
        )
    )
    return Sender.of(ingest, gateway, transfer_id=transfer_id)


@pytest.mark.proves("ING-6", part="ingest")
async def test_a_deleted_study_leaves_nothing_but_its_record(ingest: Ingest) -> None:
    gateway = await ingest.enrol()
    study, other = a_uid(), a_uid()
    kept = a_ct(study=study)
    other_object = a_ct(study=other)
    await sent_objects(Sender.of(ingest, gateway), kept, with_other_bytes(kept), a_ct(study=study))
    await sent_objects(Sender.of(ingest, gateway), other_object)
    case_id = await a_case(ingest, study)
    (study_id,) = ingest.access.cases[case_id]

    answer = await ingest.acting(ADMIN).DeleteStudy(pb.DeleteStudyRequest(case_id=case_id))
    deletion = answer.deletion
    assert answer.revision == "7"
    assert (deletion.case_id, deletion.facility_id, deletion.deleted_by) == (case_id, str(RIVERSIDE), ADMIN)
    assert deletion.state == pb.Deletion.STATE_BEGUN
    with pytest.raises(NotFound):
        await ingest.service("routing").DescribeStudy(pb.DescribeStudyRequest(study_id=study_id))
    versions = (await ingest.service("routing").ListVersions(pb.ListVersionsRequest())).versions
    assert study_id not in {each.study_id for each in versions}
    await eventually(lambda: only_left(ingest, **ONE_INSTANCE))
    assert set(await ingest.stored()) == {other_object.sop_instance_uid}
    said = await ingest.rows("select payload from outbox where subject = 'case.deleted.v1'")
    assert [json.loads(row["payload"]) for row in said] == [{"id": case_id, "version": 1}]
    audited = await ingest.rows("select * from audit_rows where action = 'case.deleted'")
    assert [(row["actor"], row["object"], row["outcome"]) for row in audited] == [
        (ADMIN, f"case:{case_id}", "done")
    ]
    assert json.loads(audited[0]["detail"])["study_instance_uids"] == study
    described = await ingest.service("routing").DescribeDeletion(pb.DescribeDeletionRequest(case_id=case_id))
    assert described.begun_at.ToDatetime() >= deletion.asked_at.ToDatetime()


async def only_left(ingest: Ingest, **expected: int) -> bool:
    found = await left(ingest)
    assert found == expected
    return True


@pytest.mark.proves("SEC-15")
async def test_who_deleted_what_stays_written_and_names_no_patient(ingest: Ingest, tmp_path: Path) -> None:
    study, name = a_uid(), "ZWOLVRITH"
    sending = [a_ct(study=study, more={0x0010_0010: ("PN", f"{name}^ADA")}) for _ in range(2)]
    await sent_objects(Sender.of(ingest, await ingest.enrol()), *sending)
    assert name in await ingest.one("select attributes::text from studies")
    case_id = await a_case(ingest, study)
    with pytest.raises(Denied):
        await delete(ingest, case_id, READER)
    await delete(ingest, case_id)
    kept = {
        table: str(await ingest.rows(f"select t::text from {table} t"))
        for table in ("audit_rows", "tombstones", "deletions")
    }
    assert all(study in kept[table] for table in ("audit_rows", "tombstones"))
    assert not [table for table in kept if name in kept[table]]

    # It is sealed and anchored, and whatever is done to it is refused, or found by who verifies.
    assert ANCHOR_EVERY_S <= 60
    settings = ServiceSettings.model_construct(
        audit_key=SecretStr(AUDIT_KEY), audit_anchor_file=tmp_path / "anchors"
    )
    database: Any = await Database.connect(
        ingest.database_url, IngestTransaction, clock=ingest.clock, new_id=UUID7(ingest.clock), pool_size=2
    )
    try:
        trail = AuditTrail(database, "ingest", settings, ingest.clock, anchor_every_s=0)
        while await trail.turn() or (await verification(trail)).unsealed:
            pass
        await trail.turn()
        found = await verification(trail)
        last = found.verified
        assert (None, 0, True) == (found.fault, found.unsealed, last >= 3)
        reorder = "update audit_rows set number = 3 - number where number in (1, 2)"
        for sql, number in (
            ("update audit_rows set actor = 'bob' where number = 2", 2),
            ("delete from audit_rows where number = 2", 2),
            (reorder, 1),
            (f"delete from audit_rows where number = {last}", last),
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await ingest.rows(sql)
            with suppress(ZeroDivisionError):  # taken back
                async with database.transaction() as transaction:
                    await transaction.connection.execute(f"{UNLOCKED} {sql}")
                    tampered: Any = Tampered(transaction)
                    fault = (await verification(AuditTrail(tampered, "ingest", settings, ingest.clock))).fault
                    assert (sql, number) == (sql, fault.number if fault else None)
                    raise ZeroDivisionError
    finally:
        await database.close()


@pytest.mark.proves("A60", part="closed when all have confirmed, with what routing held")
async def test_a_deletion_is_closed_when_everybody_has_confirmed(ingest: Ingest) -> None:
    """What routing held beside the case is purged too: the same study that came another way."""
    study = a_uid()
    await sent_objects(Sender.of(ingest, await ingest.enrol()), a_ct(study=study))
    case_id = await a_case(ingest, study)
    await sent_objects(Sender.of(ingest, await ingest.enrol("HARBOUR", HARBOUR)), a_ct(study=study))
    await delete(ingest, case_id)
    held = await ingest.one("select study_id from studies where study_instance_uid = $1", study)

    (open_,) = await deletions(ingest)
    assert set(open_.waiting_for) - {"ingest"} == set(CONFIRM)
    for by in CONFIRM[:-1]:
        await confirm(ingest, case_id, by, *([held] if by == "routing" else []))
    await confirm(ingest, case_id, "somebody")

    async def waits_for_the_last() -> bool:
        (found,) = await deletions(ingest)
        return list(found.waiting_for) == [CONFIRM[-1]]

    await eventually(waits_for_the_last)
    await eventually(lambda: only_left(ingest))
    await confirm(ingest, case_id, CONFIRM[-1])

    await eventually(lambda: is_closed(ingest))
    (found,) = await deletions(ingest)
    assert found.HasField("closed_at")
    # Asked again by who may delete there: the same record. By anybody else: no such case.
    assert (await delete(ingest, case_id)).deletion_id == found.deletion_id
    with pytest.raises(NotFound):
        await delete(ingest, case_id, READER)


@pytest.mark.proves("ING-7", part="a fact alone destroys nothing else")
async def test_whoever_confirms_has_nothing_purged_but_copies_of_what_was_deleted(ingest: Ingest) -> None:
    study, other = a_uid(), a_uid()
    gateway = await ingest.enrol()
    await sent_objects(Sender.of(ingest, gateway), a_ct(study=study), a_ct(study=other))
    case_id = await a_case(ingest, study)
    innocent = await ingest.one("select study_id from studies where study_instance_uid = $1", other)
    await delete(ingest, case_id)

    for by in ("routing", "somebody", *CONFIRM):
        await confirm(ingest, case_id, by, innocent)
    await eventually(lambda: is_closed(ingest))
    # Sent again, and then a late or forged fact: the deletion is over.
    await sent_objects(Sender.of(ingest, gateway), a_ct(study=study))
    again = await ingest.one("select study_id from studies where study_instance_uid = $1", study)
    await confirm(ingest, case_id, "routing", innocent, again)

    async def all_heard() -> bool:
        return bool(await ingest.one("select count(*) = 7 from heard"))  # nobody hears `somebody`

    await eventually(all_heard)
    assert {innocent, again} == {row["study_id"] for row in await ingest.rows("select study_id from studies")}


@pytest.mark.proves("ING-7", part="a confirmation is routing's only if routing says so")
async def test_a_forged_confirmation_of_routing_purges_no_copy_at_another_hospital(ingest: Ingest) -> None:
    """It names a study with the same Study Instance UID; routing has purged nothing yet."""
    study = a_uid()
    await sent_objects(Sender.of(ingest, await ingest.enrol()), a_ct(study=study))
    case_id = await a_case(ingest, study)
    await sent_objects(Sender.of(ingest, await ingest.enrol("HARBOUR", HARBOUR)), a_ct(study=study))
    await delete(ingest, case_id)
    harbours = await ingest.one("select study_id from studies where study_instance_uid = $1", study)
    forged = msgspec.json.encode(CasePurged(UUID(case_id), 1, "routing", (harbours,)))

    async def forge(subject: str) -> UUID:
        client = await nats.connect(ingest.servers.nats_url)
        event_id = uuid4()
        await client.jetstream().publish(subject, forged, headers={"Nats-Msg-Id": str(event_id)})
        await client.close()
        return event_id

    async def heard(count: int) -> bool:
        applied = await ingest.one("select count(*) from heard")
        return bool(applied + await ingest.one("select count(*) from dead_letters") == count)

    async def asked_in_vain() -> bool:
        return ingest.routing.asked_in_vain > 0

    async def is_heard() -> bool:
        return bool(await ingest.one("select exists (select from heard where event_id = $1)", truth))

    # As the version before said it, and as another service says it: the name in the payload does not count.
    await forge("case.purged.v1")
    await forge("case.purged.v1.access")
    await forge("case.purged.v1.routing")
    await eventually(lambda: heard(3))
    (letter,) = await ingest.rows("select sentence from dead_letters")
    assert letter["sentence"] == "routing has purged no such case"

    # Routing has purged the case, and held nothing beside it: its answer counts, not the payload.
    ingest.routing.is_away = True
    ingest.routing.purged[case_id] = []
    truth = await forge("case.purged.v1.routing")
    await eventually(asked_in_vain)
    ingest.routing.is_away = False
    await eventually(is_heard)
    assert harbours == await ingest.one("select study_id from studies where study_instance_uid = $1", study)
    (open_,) = await deletions(ingest)
    assert set(open_.waiting_for) - {"ingest"} == set(CONFIRM) - {"access", "routing"}


async def is_closed(ingest: Ingest) -> bool:
    (found,) = await deletions(ingest)
    return found.state == pb.Deletion.STATE_CLOSED and not found.waiting_for


@pytest.mark.proves("ING-7", part="ingest keeps to access's refusal")
async def test_what_access_refuses_is_not_begun(ingest: Ingest) -> None:
    gateway = await ingest.enrol()
    study = a_uid()
    await sent_objects(Sender.of(ingest, gateway), a_ct(study=study))
    case_id = await a_case(ingest, study)
    with pytest.raises(Denied, match=r"study\.delete"):
        await delete(ingest, case_id, READER)
    with pytest.raises(NotFound):
        await delete(ingest, str(uuid4()))
    with pytest.raises(Invalid):
        await delete(ingest, "a case")
    with pytest.raises(Denied):
        await deletions(ingest, READER)
    with pytest.raises(NotFound):
        await ingest.service("routing").DescribeDeletion(pb.DescribeDeletionRequest(case_id=case_id))
    assert not await deletions(ingest)
    assert await ingest.one("select count(*) from instances") == 1
    refused = await ingest.rows("select actor from audit_rows where action = 'case.deleted' order by id")
    assert [row["actor"] for row in refused] == [READER, ADMIN]


@pytest.mark.proves("ING-8", part="ingest")
async def test_a_late_retry_is_refused_and_a_new_transfer_makes_a_new_study(ingest: Ingest) -> None:
    gateway = await ingest.enrol()
    study, uid = a_uid(), a_uid()
    wrong = a_ct(study=study, uid=uid, more={0x0010_0020: ("LO", "WRONG")})
    late = a_ct(study=study, more={0x0010_0020: ("LO", "WRONG")})
    right = a_ct(study=study, uid=uid, more={0x0010_0020: ("LO", "RIGHT")})
    before = await begin_transfer(ingest, gateway, study)
    assert (await sent_objects(before, wrong))[0].status == 0
    old_id = await ingest.one("select study_id from studies")
    await delete(ingest, await a_case(ingest, study))

    async def refused(sender: Sender) -> None:
        (answer,) = await sent_objects(sender, late)
        assert (answer.status, answer.comment) == (DELETED, "deleted in the cloud: export the study again")

    await refused(before)  # the same transfer, tried again
    await refused(await begin_transfer(ingest, gateway, study, age_s=3600))  # announced late, begun before
    assert await ingest.one("select count(*) from studies") == 0

    assert (await sent_objects(await begin_transfer(ingest, gateway, study), right))[0].status == 0
    await refused(before)  # also now that the study is live again
    row = (await ingest.rows("select * from studies"))[0]
    assert row["study_id"] != old_id
    assert json.loads(row["attributes"])["PatientID"] == "RIGHT"
    assert set(await ingest.stored()) == {uid}
    listed = (await ingest.acting(ADMIN).ListRefusals(pb.ListRefusalsRequest())).refusals
    assert [each.status for each in listed] == [DELETED] * 3


@pytest.mark.proves("ING-6", part="an association that stores into the study")
async def test_an_association_that_is_open_while_its_study_is_deleted(ingest: Ingest) -> None:
    """Without a named transfer the association is the transfer (A26)."""
    gateway = await ingest.enrol()
    study, series = a_uid(), a_uid()
    loop = asyncio.get_running_loop()

    def send() -> list[int | None]:
        with Sender.of(ingest, gateway).association([(CT, ExplicitVRLittleEndian)]) as association:

            def store(sending: DicomObject) -> int | None:
                return store_object(association, sending).status

            statuses = [store(a_ct(study=study, series=series)) for _ in range(2)]

            async def delete_it() -> None:
                await delete(ingest, await a_case(ingest, study))

            asyncio.run_coroutine_threadsafe(delete_it(), loop).result(20)
            statuses += [store(a_ct(study=study, series=series)) for _ in range(2)]
            return [*statuses, store(a_ct())]

    assert await asyncio.to_thread(send) == [0, 0, DELETED, DELETED, 0]
    await eventually(lambda: only_left(ingest, **ONE_INSTANCE))


@pytest.mark.proves("ING-6", part="the answer of access is lost")
@pytest.mark.proves("A60", part="asked again at the next start")
async def test_a_deletion_whose_answer_was_lost_is_finished_at_the_next_start(ingest: Ingest) -> None:
    gateway = await ingest.enrol()
    study = a_uid()
    await sent_objects(Sender.of(ingest, gateway), a_ct(study=study))
    case_id = await a_case(ingest, study)
    ingest.access.answers_get_lost = True
    with pytest.raises(Unavailable):
        await delete(ingest, case_id)
    (asked,) = await deletions(ingest)
    assert (asked.state, list(asked.waiting_for)) == (pb.Deletion.STATE_ASKED, ["access"])
    await ingest.stop()
    ingest.access.answers_get_lost = False
    await ingest.start()
    await eventually(lambda: only_left(ingest))
    (begun,) = await deletions(ingest)
    assert (begun.deletion_id, begun.state) == (asked.deletion_id, pb.Deletion.STATE_BEGUN)


async def test_deletions_are_listed_in_pages_newest_first(ingest: Ingest) -> None:
    for number in range(3):
        ingest.access.cases[f"01900000-0000-7000-8000-00000000000{number}"] = [str(uuid4())]
        await delete(ingest, f"01900000-0000-7000-8000-00000000000{number}")
    stub = ingest.acting(ADMIN)
    seen, token = "", ""
    while True:
        page = await stub.ListDeletions(pb.ListDeletionsRequest(page_size=2, page_token=token))
        seen += "".join(each.case_id[-1] for each in page.deletions)
        if not (token := page.next_page_token):
            break
    assert seen == "210"
    for hostile in ("x", "AAAA", "'; drop table deletions; --"):
        with pytest.raises(Invalid, match="page_token"):
            await stub.ListDeletions(pb.ListDeletionsRequest(page_token=hostile))
    with pytest.raises(Invalid, match="page_size"):
        await stub.ListDeletions(pb.ListDeletionsRequest(page_size=501))
    case = pb.DescribeDeletionRequest(case_id=str(uuid4()))
    with pytest.raises(Denied):
        await ingest.service("sharing").DescribeDeletion(case)
    with pytest.raises(Unauthenticated):
        await ingest.service("bff").DeleteStudy(pb.DeleteStudyRequest(case_id=case.case_id))


@pytest.mark.proves("A60", part="a wish lapses")
async def test_a_wish_that_access_never_heard_of_lapses(ingest: Ingest) -> None:
    gateway = await ingest.enrol()
    study = a_uid()
    await sent_objects(Sender.of(ingest, gateway), a_ct(study=study))
    case_id = await a_case(ingest, study)
    ingest.access.failing.append(Unavailable("away"))
    with pytest.raises(Unavailable):
        await delete(ingest, case_id)
    assert len(await deletions(ingest)) == 1
    await ingest.stop()
    await ingest.start()

    async def lapsed() -> bool:
        return not await deletions(ingest)

    await eventually(lapsed)
    assert await ingest.one("select count(*) from instances") == 1
    assert (await delete(ingest, case_id)).state == pb.Deletion.STATE_BEGUN
