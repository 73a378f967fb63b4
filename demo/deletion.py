"""Step 9: the study is deleted and nothing is left; a late retry is refused, an Export brings it back."""

import asyncio
import io
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from pydicom.filereader import read_file_meta_info

from demo.cast import CARE, CENTRAL, CT, ENDPOINT, MARSH, MOOR, MULDER, OKAFOR, VOS
from demo.dicom_files import dataset_bytes, dataset_of
from demo.reading import FIRST, LAST, LOOK, UNREAD, Obtained, locks, refusal
from demo.sharing import MESSAGE, REASON, inbox, the_mail, wanted
from demo.traces import SPOOL, Searched, Words, search
from demo.world import Arrival, World
from kernel.errors import Conflict, Denied, NotFound
from local.system import ROOT
from plumbing.dimse.requestor import Requestor
from plumbing.tls import client_context
from readroom.enrol import CONFIGURATION
from readroom.fetch import fetch_case
from readroom.meter import bar
from readroom.words import DELETIONS
from wire.access.v1.access_pb2 import Case
from wire.ingest.v1.ingest_pb2 import DeleteStudyRequest, Deletion, ListDeletionsRequest
from wire.reporting.v1.reporting_pb2 import ListReportsRequest, UnlockRequest
from wire.sharing.v1.sharing_pb2 import ListReceivedRequest, ListSharesRequest

DELETED = 0xC113
"""What an instance of a transfer that began before the deletion is answered (A26)."""

KEPT = {"ingest.audit_rows", "ingest.tombstones", "ingest.transfers"}
"""What knows its Study Instance UID afterwards: who deleted what, and what a late retry is refused by."""

EXPORTED_WITHIN_S = 30


async def delete(world: World, case: Case) -> None:
    """The ninth step of the story."""
    await share_once_more(world, case)
    planted = words(world)
    await it_is_everywhere(world, planted)
    deletion = await it_is_deleted(world, case)
    await nobody_sees_it(world, case)
    await everybody_confirms(world, deletion)
    await nothing_is_left(world, planted)
    await a_late_retry_is_refused(world)
    await an_export_brings_it_back(world, case)


async def share_once_more(world: World, case: Case) -> None:
    """So that a share lives when the study is deleted."""
    vos, mulder = [await world.acting_as(person.login) for person in (VOS, MULDER)]
    request = wanted(case, [MULDER])
    request.recipients[0].two_factor = False
    before = len(inbox(world, MULDER))
    await vos.sharing.Share(request)
    world.stage.check(
        await world.case(MULDER.login, case.study_instance_uid)
        and (await mulder.sharing.ListReceived(ListReceivedRequest())).received,
        f"{VOS.name} shares the study with {MULDER.name} again, without a code",
    )
    await the_mail(world, MULDER, before)


# What is left


def words(world: World) -> Words:
    """What is known of the patient, the study and what was written about it."""
    uids = {str(dataset_of(path).SOPInstanceUID) for path in (world.folder / "modality" / "ct").glob("*.dcm")}
    uids |= {CT.study_instance_uid, CT.series_instance_uid}
    family_name = CT.patient_name.partition("^")[0]
    return Words([family_name, CT.patient_id, FIRST, LAST, LOOK, REASON, MESSAGE], uids)


async def it_is_everywhere(world: World, planted: Words) -> None:
    """Proves that the search finds what there is."""
    found = (await search(world.system, planted)).places
    for place, what in sorted(found.items()):
        world.stage.tell(f"{place}: {len(what)}")
    services = {place.partition(".")[0] for place in found}
    world.stage.check(
        {"ingest", "routing", "access", "reporting", "sharing", "packs"} <= services,
        f"{len(planted)} names, texts and UIDs of it are found in {len(found)} places",
    )
    world.stage.check(
        not services & {"notify", "nats", "valkey", "logs"}, "but not in notices, JetStream, Valkey or logs"
    )


async def nothing_is_left(world: World, planted: Words) -> None:
    """ING-6: but for what docs/deletion.md names."""
    searched = await search(world.system, planted)
    left = {place: found for place, found in searched.places.items() if place not in SPOOL}
    world.stage.check(
        left.keys() <= KEPT and set().union(*left.values()) <= {CT.study_instance_uid},
        f"in {searched.rows} rows of six databases and {searched.files} files nothing of it is left "
        f"but its UID, in {' and '.join(sorted(left))}",
    )
    world.stage.tell(f"{delivered(searched)} mails that were delivered keep the sender's message")


def delivered(searched: Searched) -> int:
    """How many mails still hold what was told in them."""
    return len({trace.where for trace in searched.traces if trace.place in SPOOL})


# The story


async def it_is_deleted(world: World, case: Case) -> Deletion:
    """ING-7, A28, A29: only with the permission, and while nobody reads it."""
    await world.permit(MOOR, "study.delete", ENDPOINT)
    vos, moor, marsh = [await world.acting_as(person.login) for person in (VOS, MOOR, MARSH)]
    request = DeleteStudyRequest(case_id=case.case_id)
    refused = await refusal(vos.ingest.DeleteStudy(request))
    world.stage.check(isinstance(refused, Denied), f"{VOS.name} cannot delete it: {refused}")

    await locks(MARSH)(world, case.case_id)

    async def locked() -> Conflict | None:
        # As the worklist knows it: a moment after reporting does.
        if not (seen := await world.case(MOOR.login, case.study_instance_uid)) or not seen.lock_holder_name:
            return None
        refused = await refusal(moor.ingest.DeleteStudy(request))
        return refused if isinstance(refused, Conflict) else None

    why = await world.stage.until(locked, f"while {MARSH.name} has locked it, {MOOR.name} cannot either")
    world.stage.tell(str(why))
    await marsh.reporting.Unlock(UnlockRequest(case_id=case.case_id))

    async def unlocked() -> Case | None:
        seen = await world.case(MOOR.login, case.study_instance_uid)
        return seen if seen and not seen.lock_holder_name else None

    await world.stage.until(unlocked, "she gives the lock back")
    deletion = (await moor.ingest.DeleteStudy(request)).deletion
    world.stage.check(
        deletion.case_id == case.case_id and deletion.deleted_by == MOOR.login,
        f"{MOOR.name} of `{ENDPOINT}` deletes it: {DELETIONS.word(deletion.state)}",
    )
    return deletion


async def nobody_sees_it(world: World, case: Case) -> None:
    """A28: access ends at once."""
    people = (VOS, MARSH, OKAFOR, MULDER, MOOR)
    seen = [await world.case(person.login, case.study_instance_uid) for person in people]
    world.stage.check(not any(seen), f"at once none of {', '.join(p.name for p in people)} sees it")
    vos, mulder = [await world.acting_as(person.login) for person in (VOS, MULDER)]
    with bar("   vos fetches", world.stage.console) as meter:
        images = await refusal(fetch_case(vos, case.case_id, world.folder / "deleted", meter))
    reports = await refusal(vos.reporting.ListReports(ListReportsRequest(case_id=case.case_id)))
    shared = await refusal(vos.sharing.Share(wanted(case)))
    world.stage.check(
        all(isinstance(each, NotFound) for each in (images, reports, shared)),
        f"images, reports, sharing: {images}; {reports}; {shared}",
    )

    async def share_is_gone() -> bool:
        sent = await vos.sharing.ListShares(ListSharesRequest())
        received = await mulder.sharing.ListReceived(ListReceivedRequest())
        return not any(case.case_id in share.case_ids for share in sent.shares) and not received.received

    await world.stage.until(share_is_gone, f"nor does {MULDER.name} receive it, or {VOS.name} send it")


async def everybody_confirms(world: World, deletion: Deletion) -> None:
    """A60: the purge record is closed when the other five services have confirmed."""
    care = await world.acting_as(CARE.login)

    async def closed() -> Deletion | None:
        listed: list[Deletion] = list((await care.ingest.ListDeletions(ListDeletionsRequest())).deletions)
        found = next(d for d in listed if d.deletion_id == deletion.deletion_id)
        return found if found.state == Deletion.STATE_CLOSED and not found.waiting_for else None

    await world.stage.until(closed, "routing, access, reporting, sharing and notify confirm; it is closed")


@dataclass(frozen=True, slots=True)
class Retry:
    """A transfer of the gateway, as its queue knows it."""

    transfer_id: UUID
    calling_ae_title: str

    @classmethod
    def of(cls, world: World, study_instance_uid: str) -> "Retry":
        """The newest transfer of a study."""
        path = world.folder / "gateways" / CENTRAL.name / "spool" / "gateway.db"
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as gateway:
            row = gateway.execute(
                "select id, calling_ae_title from transfers where study_instance_uid = ?"
                " order by created_at desc",
                (study_instance_uid,),
            ).fetchone()
        return cls(UUID(row[0]), row[1])


async def a_late_retry_is_refused(world: World) -> None:
    """A26: what began before the deletion ends with one fixed status."""
    retry = Retry.of(world, CT.study_instance_uid)
    path = next(iter(sorted((world.folder / "modality" / "ct").glob("*.dcm"))))
    status, comment = await asyncio.to_thread(send_again, world, retry, path)
    world.stage.check(
        status == DELETED,
        f"the same transfer of gateway `{CENTRAL.name}` once more: {status:04X} {comment}",
    )


def send_again(world: World, retry: Retry, path: Path) -> tuple[int, str]:
    """Sends an object as the gateway did, and answers status and comment."""
    meta, data_set = read_file_meta_info(path), dataset_bytes(path)
    what = (str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID))
    association = Requestor.associate(
        world.endpoints.dicom,
        context=client_context(world.gateways[CENTRAL.name].identity),
        server_name="localhost",
        calling_ae_title=retry.calling_ae_title,
        called_ae_title="READROOM",
        proposed=[what],
        identity=str(retry.transfer_id),
    )
    try:
        return association.store(what[0], str(meta.MediaStorageSOPInstanceUID), what[1], io.BytesIO(data_set))
    finally:
        association.release()


async def an_export_brings_it_back(world: World, deleted: Case) -> None:
    """ING-8, A26: a new transfer makes a new study, and nothing of the old one comes with it."""
    configuration = world.folder / "gateways" / CENTRAL.name / CONFIGURATION
    command = [
        sys.executable,
        "-m",
        "gateway",
        "--config",
        str(configuration),
        "--export",
        deleted.study_instance_uid,
    ]
    watched = asyncio.create_task(Arrival.watch(world, VOS.login, CT.study_instance_uid, CT.slices))
    exported = await asyncio.to_thread(
        subprocess.run, command, cwd=ROOT, capture_output=True, text=True, check=False
    )
    world.stage.check(exported.returncode == 0, f"its gateway is told: {exported.stdout.strip()}")
    async with asyncio.timeout(EXPORTED_WITHIN_S):
        case = (await watched).case
    world.stage.check(
        case.case_id != deleted.case_id and case.instance_count == CT.slices,
        f"{VOS.name} has all {case.instance_count} images again, as another case",
    )

    async def unread() -> bool:
        return (await Obtained.by(world, OKAFOR, case.study_instance_uid)).told == UNREAD

    await world.stage.until(unread, "no report of the old one is there, and nobody has it locked")
    world.stage.check(
        await world.case(MULDER.login, case.study_instance_uid) is None, f"{MULDER.name} does not see it"
    )
