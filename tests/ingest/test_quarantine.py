"""What cannot be filed is kept for a person, since a gateway may have acknowledged it (A27, BEY-7)."""

from dataclasses import replace

import pytest

from kernel.errors import Denied, Invalid, NotFound
from services.ingest.purgerecord import CONFIRM
from tests.ingest.builders import a_uid
from tests.ingest.objects import a_ct, with_other_bytes
from tests.ingest.system import (
    ADMIN,
    HARBOUR,
    READER,
    DicomObject,
    Ingest,
    Sender,
    sent_objects,
    sha256,
)
from tests.ingest.test_deletion import DELETED, a_case, begin_transfer, confirm, delete
from tests.ingest.test_faults import a_line_that_breaks
from tests.ingest.test_images import a_case as a_case_to_fetch
from tests.ingest.test_images import fetch_study
from tests.wait import eventually
from wire.ingest.v1 import ingest_pb2 as pb

SERIES_INSTANCE_UID, STUDY_INSTANCE_UID = 0x0020_000E, 0x0020_000D


def without_a_series(study: str | None = None, *, pixels: bytes = b"\1\2" * 500) -> DicomObject:
    return a_ct(study=study, pixels=pixels, more={SERIES_INSTANCE_UID: ("UI", "")})


def unfilable() -> dict[str, tuple[DicomObject, int]]:
    """Data sets that nobody can file, each with its status."""
    ct = a_ct(pixels=b"\1\2" * 200_000)
    return {
        "no series": (without_a_series(), 0xC003),
        "a bad study": (a_ct(study="1.2.x"), 0xC003),
        "cut off in the pixels, when the UIDs have come": (replace(ct, data=ct.data[:-7]), 0xC002),
        "another SOP instance than announced": (replace(a_ct(), sop_instance_uid=a_uid()), 0xA900),
        "no data set at all": (replace(a_ct(), data=b"\xff" * 3000), 0xC001),
    }


async def listed(ingest: Ingest, login: str = ADMIN) -> list[pb.Quarantined]:
    answer = await ingest.acting(login).ListQuarantined(pb.ListQuarantinedRequest())
    return list(answer.quarantined)


async def discard(ingest: Ingest, sending: DicomObject, login: str = ADMIN) -> None:
    request = pb.DiscardQuarantinedRequest(sha256=sha256(sending.data))
    await ingest.acting(login).DiscardQuarantined(request)


@pytest.mark.proves("BEY-7", part="what cannot be filed is kept and listed")
async def test_what_cannot_be_filed_is_refused_as_ever_and_kept_whole(ingest: Ingest) -> None:
    sender = Sender.of(ingest, await ingest.enrol())
    sending = unfilable()
    for name, (each, status) in sending.items():
        for _ in range(2):
            (answer,) = await sent_objects(sender, each)
            assert (name, answer.status) == (name, status)
    kept = await ingest.quarantine()
    assert kept.keys() == {sha256(each.data) for each, _ in sending.values()}
    for each, _ in sending.values():
        assert kept[sha256(each.data)].endswith(each.data)
    rows = await listed(ingest)
    assert [row.sha256 for row in rows] == [sha256(each.data) for each, _ in reversed(sending.values())]
    assert all(row.reason for row in rows)
    assert {row.study_id for row in rows} == {""}
    assert await ingest.one("select count(*) from instances") == 0
    # An association that goes on takes what comes next.
    (good,) = await sent_objects(sender, a_ct())
    assert good.status == 0


async def test_whoever_does_not_administer_the_gateway_neither_lists_nor_discards(ingest: Ingest) -> None:
    refused = without_a_series()
    await sent_objects(Sender.of(ingest, await ingest.enrol()), refused)
    with pytest.raises(Denied):
        await listed(ingest, READER)
    ingest.access.everywhere.clear()
    ingest.access.administered[ADMIN] = {HARBOUR}
    assert await listed(ingest) == []
    with pytest.raises(NotFound):
        await discard(ingest, refused)
    with pytest.raises(Invalid):
        await ingest.acting(ADMIN).DiscardQuarantined(pb.DiscardQuarantinedRequest(sha256="12"))
    assert len(await ingest.quarantine()) == 1


async def test_what_is_discarded_is_gone_and_what_its_pack_held_before_stays(ingest: Ingest) -> None:
    study = a_uid()
    original = a_ct(study=study)
    case_id = await a_case_to_fetch(ingest, original)
    sender = Sender.of(ingest, await ingest.enrol("AGAIN"))
    beside, other, unfiled = a_ct(study=study), with_other_bytes(original), without_a_series()
    answers = await sent_objects(sender, beside, other, unfiled)
    assert [each.status for each in answers] == [0, 0xC111, 0xC003]
    for each in (other, unfiled):
        await discard(ingest, each)
    assert await listed(ingest) == []
    await eventually(lambda: two_packs(ingest))
    for path in ingest.pack_files():
        content = path.read_bytes()
        assert other.data not in content
        assert unfiled.data not in content
    assert set(await fetch_study(ingest, case_id)) == {original.sop_instance_uid, beside.sop_instance_uid}
    audited = await ingest.rows(
        "select actor, outcome from audit_rows where action = 'quarantined.discarded'"
    )
    assert [tuple(row) for row in audited] == [(ADMIN, "done")] * 2


async def two_packs(ingest: Ingest) -> bool:
    return len(ingest.pack_files()) == 2


@pytest.mark.proves("A60", part="what could not be filed goes with the study that it names")
async def test_what_could_not_be_filed_goes_with_its_study_and_does_not_come_back(ingest: Ingest) -> None:
    study = a_uid()
    gateway = await ingest.enrol()
    old = await begin_transfer(ingest, gateway, study, age_s=3600)
    unfiled, of_another = without_a_series(study), without_a_series()
    await sent_objects(Sender.of(ingest, gateway), a_ct(study=study), unfiled, of_another)
    case_id = await a_case(ingest, study)
    await delete(ingest, case_id)
    for by in CONFIRM:
        await confirm(ingest, case_id, by)
    await eventually(lambda: only_kept(ingest, of_another))
    # A transfer from before the deletion brings none of it back.
    late = without_a_series(study, pixels=b"\3\4" * 500)
    good = a_ct(study=study)
    assert [each.status for each in await sent_objects(old, late, good)] == [0xC003, DELETED]
    await eventually(lambda: only_kept(ingest, of_another))


async def only_kept(ingest: Ingest, sending: DicomObject) -> bool:
    kept = [row.sha256 for row in await listed(ingest)]
    return kept == [sha256(sending.data)] and len(ingest.pack_files()) == 1


async def test_what_belongs_to_no_study_goes_after_ninety_days(ingest: Ingest) -> None:
    old, young = without_a_series(), without_a_series()
    await sent_objects(Sender.of(ingest, await ingest.enrol()), old, young)
    await ingest.rows(
        "update quarantined set quarantined_at = now() - interval '90 days 1 second' where sha256 = $1",
        bytes.fromhex(sha256(old.data)),
    )
    await ingest.stop()
    await ingest.start()
    await eventually(lambda: only_kept(ingest, young))


@pytest.mark.proves("R5", part="what cannot be filed and is cut off leaves nothing")
async def test_an_instance_that_is_cut_off_is_not_kept(ingest: Ingest) -> None:
    gateway = await ingest.enrol()
    refused = without_a_series(pixels=b"\1\2" * 350_000)
    with a_line_that_breaks(ingest.ports["dicom"], 300_000) as port:
        (answer,) = await sent_objects(Sender(port, gateway.title, gateway.tls), refused)
    assert answer.status is None
    await eventually(lambda: nothing_is_left(ingest))


async def nothing_is_left(ingest: Ingest) -> bool:
    return not ingest.pack_files() and not await ingest.quarantine()


async def test_the_share_of_the_gateway_bounds_it(ingest: Ingest) -> None:
    await ingest.stop()
    ingest.environ["READROOM_INGEST_QUARANTINE_INSTANCES"] = "1"
    await ingest.start()
    first, second = without_a_series(), without_a_series()
    answers = await sent_objects(Sender.of(ingest, await ingest.enrol()), first, second)
    assert [each.status for each in answers] == [0xC003, 0xC003]
    await eventually(lambda: only_kept(ingest, first))
