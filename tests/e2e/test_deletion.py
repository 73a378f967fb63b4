"""A deleted case, end to end: a word planted in every field is afterwards nowhere."""

import asyncio
from collections.abc import Awaitable, Iterator
from pathlib import Path

import pydicom
import pytest
from google.protobuf.message import Message

from demo.cast import ADMIN, BRANDT, CARE, CENTRAL, MARSH, MOOR, OKAFOR, OUTSIDE, VOS
from demo.deletion import DELETED, KEPT, Retry, send_again
from demo.dicom_files import SyntheticCT
from demo.reading import FINAL, PRE_READ, completes, drafts, locks, refusal
from demo.sharing import inbox, redeem, the_code, the_mail, wanted
from demo.traces import SPOOL, Words, search
from demo.world import World
from kernel.errors import Invalid, NotFound, ReadroomError
from readroom import names
from readroom.fetch import fetch_case
from tests.e2e.silent import Silent
from tests.e2e.test_journey import seen, send, small
from tests.wait import eventually
from wire.access.v1.access_pb2 import (
    Case,
    CheckRequest,
    Folder,
    ListCasesRequest,
    PutInFolderRequest,
    SaveFolderRequest,
    SaveUserRequest,
)
from wire.ingest.v1.ingest_pb2 import (
    DeleteStudyRequest,
    Deletion,
    ListDeletionsRequest,
    ListRefusalsRequest,
)
from wire.notify.v1.notify_pb2 import ListDeliveriesRequest
from wire.reporting.v1.reporting_pb2 import AddAddendumRequest, ListReportsRequest, UnlockRequest
from wire.routing.v1.routing_pb2 import ListHeldRequest
from wire.sharing.v1.sharing_pb2 import ListReceivedRequest, ListSharesRequest

WORD = "Quagfrix"
NAME = "Zwolvrith"
"""Of the patient: what only the archive may know, while a mail tells description and message (A52)."""

SAID = {"nats", "valkey", "logs", "texts"}
"""Facts, what is cached, log lines, text messages."""

FIELDS = {
    "AccessionNumber": WORD,
    "OtherPatientNames": f"{NAME}^Eve",
    "ReferringPhysicianName": f"{WORD}^Ben",
    "PatientComments": f"a comment on {WORD}",
    "StudyComments": f"{WORD} again",
    "StudyID": WORD,
    "SeriesDescription": f"{WORD} axial",
    "StationName": WORD,
    "PerformingPhysicianName": f"{WORD}^Ann",
    "OtherPatientIDs": NAME,
    "ImageComments": WORD,
}


def planted(folder: Path) -> Iterator[Path]:
    """Puts the word into every field that holds text."""
    for path in sorted(folder.glob("*.dcm")):
        dataset = pydicom.dcmread(path)
        for keyword, value in FIELDS.items():
            setattr(dataset, keyword, value)
        dataset.save_as(path, enforce_file_format=True)
        yield path


class Planted(SyntheticCT):
    """A study that is full of the word."""

    def write(self, folder: Path) -> list[Path]:
        super().write(folder)
        return list(planted(folder))


async def written_about(world: World, case: Case) -> None:
    """A pre-read, a final with an addendum, a draft, a folder, and shares, each with the word."""
    await locks(VOS)(world, case.case_id)
    await completes(VOS, PRE_READ, f"pre-read of {WORD}")(world, case.case_id)
    await locks(MARSH)(world, case.case_id)
    await completes(MARSH, FINAL, f"final of {WORD}")(world, case.case_id)
    await locks(VOS)(world, case.case_id)
    await drafts(VOS, f"draft of {WORD}")(world, case.case_id)
    marsh, admin, vos = [await world.acting_as(login) for login in (MARSH.login, ADMIN, VOS.login)]
    written = await marsh.reporting.ListReports(ListReportsRequest(case_id=case.case_id))
    final = written.reports[-1].report_id
    addendum = AddAddendumRequest(case_id=case.case_id, report_id=final, text=f"addendum on {WORD}")
    await marsh.reporting.AddAddendum(addendum)
    await vos.reporting.Unlock(UnlockRequest(case_id=case.case_id))
    board = Folder(name="A board", member_user_ids=[world.user_ids[OKAFOR.login]])
    board = (await admin.access.SaveFolder(SaveFolderRequest(folder=board))).folder
    put = PutInFolderRequest(folder_id=board.folder_id, case_id=case.case_id)
    await admin.access.PutInFolder(put)
    before = len(inbox(world, BRANDT))
    request = wanted(case, reason=f"because of {WORD}", message=f"look at {WORD}")
    buckets = (await vos.sharing.Share(request)).share.buckets
    bucket = next(b.bucket_id for b in buckets if b.recipient_login == BRANDT.login)
    await redeem(world, BRANDT, bucket, await the_code(world, BRANDT, bucket))
    await the_mail(world, BRANDT, before)


async def not_said(world: World, words: Words) -> None:
    """No patient data in what services say to each other, cache, log and send (SEC-12)."""
    searched = await search(world.system, words)
    assert not searched.places.keys() & SAID
    assert not [place for place in searched.places if place.endswith((".outbox", ".audit_rows", ".heard"))]
    assert "mail" not in (await search(world.system, Words([NAME]))).places
    (*_, mail) = inbox(world, BRANDT)
    assert "A.Z., " in mail.text
    assert not list(words.within(mail.subject.encode()))
    admin = await world.acting_as(ADMIN)
    for field in ("email", "name", "mobile_number"):
        user = await names.user(admin, BRANDT.login)
        setattr(user, field, f"{getattr(user, field)}\r\nBcc: eve@example.org")
        refused = await refusal(admin.access.SaveUser(SaveUserRequest(user=user)))
        assert (Invalid, field) == (type(refused), refused.field if refused else None)


async def closed(world: World, case: Case) -> None:
    care = await world.acting_as(CARE.login)

    async def all_confirmed() -> bool:
        deletions = (await care.ingest.ListDeletions(ListDeletionsRequest())).deletions
        return any(d.case_id == case.case_id and d.state == Deletion.STATE_CLOSED for d in deletions)

    await eventually(all_confirmed)


async def answer(asked: Awaitable[Message]) -> bytes:
    """What somebody is answered, be it a refusal."""
    try:
        return (await asked).SerializeToString()
    except ReadroomError as error:
        return error.sentence.encode()


async def answers(world: World, case: Case) -> list[bytes]:
    """What everybody is answered by everything that lists."""
    found: list[bytes] = []
    for login in (ADMIN, *(person.login for person in (CARE, VOS, MARSH, OKAFOR, MOOR, *OUTSIDE))):
        readroom = await world.acting_as(login)
        asking: list[Awaitable[Message]] = [
            readroom.access.ListCases(ListCasesRequest()),
            readroom.access.Check(CheckRequest(case_id=case.case_id)),
            readroom.routing.ListHeld(ListHeldRequest()),
            readroom.ingest.ListRefusals(ListRefusalsRequest()),
            readroom.ingest.ListDeletions(ListDeletionsRequest()),
            readroom.reporting.ListReports(ListReportsRequest(case_id=case.case_id)),
            readroom.sharing.ListShares(ListSharesRequest()),
            readroom.sharing.ListReceived(ListReceivedRequest()),
            readroom.notify.ListDeliveries(ListDeliveriesRequest()),
        ]
        found += await asyncio.gather(*map(answer, asking))
    return found


@pytest.mark.proves("ING-6")
@pytest.mark.proves("SEC-12")
@pytest.mark.proves("A26", part="end to end")
@pytest.mark.proves("A28", part="end to end")
@pytest.mark.proves("A60", part="end to end")
@pytest.mark.proves("ING-8", part="end to end")
async def test_of_a_deleted_case_nothing_is_left_and_what_comes_back_is_new(
    world: World, readers: None, outside: None, tmp_path: Path
) -> None:
    study = Planted(
        slices=2, size=64, name="planted", patient_name=f"{NAME}^Ada", patient_id=NAME, study_description=WORD
    )
    sent = await send(world, CENTRAL, study, tmp_path)
    case = await seen(world, VOS.login, study)
    await written_about(world, case)
    uids = {str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in sent}
    words = Words([WORD, NAME], {*uids, study.study_instance_uid, study.series_instance_uid})
    planted_in = (await search(world.system, words)).places.keys()
    assert planted_in >= {
        "packs",
        "mail",
        "reporting.drafts",
        "reporting.reports",
        "reporting.addenda",
        "sharing.shares",
    }
    assert {place.partition(".")[0] for place in planted_in} >= {"ingest", "routing", "access"}
    await not_said(world, words)
    retry = Retry.of(world, study.study_instance_uid)

    moor = await world.acting_as(MOOR.login)
    await moor.ingest.DeleteStudy(DeleteStudyRequest(case_id=case.case_id))
    assert not any([await world.case(p.login, study.study_instance_uid) for p in (VOS, OKAFOR, BRANDT, MOOR)])
    await closed(world, case)

    found = (await search(world.system, words)).places
    assert found.keys() <= {*KEPT, *SPOOL}
    assert set().union(*(found[place] for place in KEPT & found.keys())) <= {study.study_instance_uid}
    for answered in await answers(world, case):
        assert not list(words.within(answered)), answered
    fetch = fetch_case(await world.acting_as(VOS.login), case.case_id, tmp_path / "fetched", Silent())
    assert isinstance(await refusal(fetch), NotFound)

    status, _ = await asyncio.to_thread(send_again, world, retry, sent[0])
    assert status == DELETED
    corrected = small("planted", "MS44")
    await send(world, CENTRAL, corrected, tmp_path / "again")
    new = await seen(world, VOS.login, small("planted", "MS44"))
    assert new.case_id != case.case_id
    assert new.patient_name == corrected.patient_name
    vos = await world.acting_as(VOS.login)
    written = await vos.reporting.ListReports(ListReportsRequest(case_id=new.case_id))
    assert not [*written.reports, *written.drafts]
    assert await world.case(BRANDT.login, study.study_instance_uid) is None
    places = (await search(world.system, Words([WORD, NAME]))).places.keys() - {*SPOOL}
    assert not places
