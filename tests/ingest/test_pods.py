"""Several processes of ingest at once: on disks of their own, and on one file system that they share."""

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from pydicom.uid import ExplicitVRLittleEndian

from kernel.errors import Conflict, Denied, Invalid, NotFound, Unavailable
from services.ingest.packs import CHUNK_BYTES
from tests.ingest.builders import a_uid
from tests.ingest.objects import CT, a_ct
from tests.ingest.system import ADMIN, READER, Ingest, Sender, sent_objects, sha256, store_object
from tests.ingest.test_deletion import delete
from tests.ingest.test_faults import all_sealed
from tests.ingest.test_images import fetch_study
from tests.wait import eventually
from wire.access.v1 import access_pb2
from wire.ingest.v1 import ingest_pb2 as pb

ONCE_A_SECOND = timedelta(seconds=1)


@pytest.fixture
async def elsewhere(ingest: Ingest) -> AsyncIterator[Ingest]:
    """A second process, on a disk of its own."""
    pod = ingest.another(ingest.folder / "another disk")
    await pod.start()
    yield pod
    await pod.stop()


@pytest.fixture
async def beside(ingest: Ingest) -> AsyncIterator[Ingest]:
    """A second process, on the same file system."""
    pod = ingest.another(ingest.packs)
    await pod.start()
    yield pod
    await pod.stop()


async def a_case(ingest: Ingest, study: str) -> str:
    """The study as a case that the reader may see and the administrator may delete."""
    study_id = str(await ingest.one("select study_id from studies where study_instance_uid = $1", study))
    case_id = str(uuid4())
    ingest.access.cases[case_id] = [study_id]
    ingest.access.decisions[READER, case_id] = access_pb2.Decision(
        allowed=True, images=True, studies=[access_pb2.ConfirmedStudy(study_id=study_id, all_series=True)]
    )
    return case_id


async def facts(ingest: Ingest) -> int:
    count: int = await ingest.one("select count(*) from outbox where subject like 'study.%'")
    return count


async def settled(ingest: Ingest) -> bool:
    return not await ingest.rows("select from studies where settled_at is null")


@pytest.mark.proves("R4", part="a resend repairs what is known to be damaged, and nothing else")
async def test_what_another_process_holds_is_read_there_and_repaired_where_it_is_sent_again(
    ingest: Ingest, elsewhere: Ingest
) -> None:
    gateway, study = await ingest.enrol(), a_uid()
    objects = [a_ct(study=study, pixels=os.urandom(CHUNK_BYTES + 1000)) for _ in range(2)]
    assert {a.status for a in await sent_objects(Sender.of(elsewhere, gateway), *objects)} == {0}
    await eventually(lambda: settled(ingest))
    assert not ingest.pack_files()
    (path,) = elsewhere.pack_files()
    case_id = await a_case(ingest, study)
    fetched = await fetch_study(ingest, case_id)
    assert fetched == await fetch_study(elsewhere, case_id)
    assert set(fetched) == {each.sop_instance_uid for each in objects}

    # Nothing replaces what is whole.
    told, version = await facts(ingest), await ingest.one("select version from studies")
    assert {a.status for a in await sent_objects(Sender.of(ingest, gateway), *objects)} == {0}
    await eventually(lambda: all_sealed(ingest))
    assert not ingest.pack_files()

    content = bytearray(path.read_bytes())
    content[100_000] ^= 1  # of the first one
    path.write_bytes(content)
    with pytest.raises(Unavailable):
        await fetch_study(ingest, case_id)
    assert await ingest.one("select count(*) from instances where damaged_at is not null") == 1
    other = a_ct(study=study, uid=objects[0].sop_instance_uid)
    (refused,) = await sent_objects(Sender.of(ingest, gateway), other)
    assert refused.status == 0xC111
    assert {a.status for a in await sent_objects(Sender.of(ingest, gateway), *objects)} == {0}
    assert await fetch_study(ingest, case_id) == await fetch_study(elsewhere, case_id) == fetched
    assert await ingest.stored() == {each.sop_instance_uid: sha256(each.data) for each in objects}
    assert await ingest.one("select count(*) from instances where damaged_at is not null") == 0
    await eventually(lambda: all_sealed(ingest))
    assert (await facts(ingest), await ingest.one("select version from studies")) == (told, version)


@pytest.mark.proves("A28", part="files on the disk of another process")
async def test_only_the_holder_of_a_disk_removes_what_was_deleted_and_one_that_is_lost_is_given_up(
    ingest: Ingest, elsewhere: Ingest
) -> None:
    gateway, first, second = await ingest.enrol(), a_uid(), a_uid()
    ct = a_ct(study=second)
    await sent_objects(Sender.of(elsewhere, gateway), a_ct(study=first), a_ct(study=a_uid()), ct)
    await eventually(lambda: all_sealed(ingest))
    assert len(elsewhere.pack_files()) == 3
    await delete(ingest, await a_case(ingest, first))
    await eventually(lambda: len(elsewhere.pack_files()) == 2)
    await eventually(lambda: ingest.rows("select from volumes having not exists (select from doomed_files)"))

    case_id, kept = (
        await a_case(ingest, second),
        await a_case(
            ingest,
            str(
                await ingest.one(
                    "select study_instance_uid from studies where study_instance_uid <> $1", second
                )
            ),
        ),
    )
    volumes = (await ingest.acting(ADMIN).ListVolumes(pb.ListVolumesRequest())).volumes
    assert [each.holder_address for each in volumes] == [ingest.address("grpc"), elsewhere.address("grpc")]
    lost = pb.ForgetVolumeRequest(volume_id=volumes[1].volume_id)
    with pytest.raises(Denied):
        await ingest.acting(READER).ForgetVolume(lost)
    with pytest.raises(Conflict):
        await ingest.acting(ADMIN).ForgetVolume(lost)
    with pytest.raises(NotFound):
        await ingest.acting(ADMIN).ForgetVolume(pb.ForgetVolumeRequest(volume_id=str(uuid4())))
    await elsewhere.stop()
    with pytest.raises(Unavailable):
        await fetch_study(ingest, kept)
    await delete(ingest, case_id)

    async def waits() -> bool:
        return bool(await ingest.one("select count(*) from doomed_files"))

    await eventually(waits)
    (forgotten,) = [(await ingest.acting(ADMIN).ForgetVolume(lost)).volume]
    assert forgotten.HasField("forgotten_at")
    assert not await waits()
    with pytest.raises(Conflict):
        await ingest.acting(ADMIN).ForgetVolume(lost)
    said = "select outcome from audit_rows where action = 'volume.forgotten' order by id"
    assert [row[0] for row in await ingest.rows(said)] == ["refused"] * 3 + ["done", "refused"]
    with pytest.raises(Conflict):  # the disk was found again
        await elsewhere.start()
    # What was on it comes back with a resend.
    with pytest.raises(Unavailable):
        await fetch_study(ingest, kept)


async def test_a_process_reads_for_others_only_what_could_be_there(ingest: Ingest) -> None:
    whole: dict[str, Any] = {
        "pack_id": str(uuid4()),
        "sop_instance_uid": "1.2",
        "sha256": bytes(32),
        "data_set_length": 4,
    }
    wrong = (
        {"pack_id": "../x"},
        {"sop_instance_uid": "../x"},
        {"sha256": b""},
        {"entry_offset": -1},
        {"prefix_length": 1 << 20},
        {"data_set_length": 1 << 60},
    )
    for each in wrong:
        with pytest.raises(Invalid):
            async for _ in ingest.service("ingest").ReadPack(pb.ReadPackRequest(**(whole | each))):
                pass
    with pytest.raises(NotFound):
        async for _ in ingest.service("ingest").ReadPack(pb.ReadPackRequest(**whole)):
            pass


@pytest.mark.proves("SEC-2", part="an association at another process than the one that revokes")
async def test_a_gateway_that_is_revoked_at_one_process_loses_its_association_at_another(
    ingest: Ingest, beside: Ingest
) -> None:
    gateway, study = await ingest.enrol(), a_uid()
    loop = asyncio.get_running_loop()

    async def revoke() -> None:
        request = pb.RevokeGatewayRequest(gateway_id=gateway.gateway_id)
        await ingest.acting(ADMIN).RevokeGateway(request)

    def send() -> float:
        with Sender.of(beside, gateway).association([(CT, ExplicitVRLittleEndian)]) as association:
            assert store_object(association, a_ct(study=study)).status == 0
            asyncio.run_coroutine_threadsafe(revoke(), loop).result(10)
            began = time.monotonic()
            while association.is_established and time.monotonic() < began + 20:
                time.sleep(0.01)
            return time.monotonic() - began

    assert await asyncio.to_thread(send) < 5


@pytest.mark.proves("A55", part="told and settled by all processes together")
async def test_two_processes_on_one_volume_take_one_study_tell_it_once_a_second_and_settle_it_once(
    ingest: Ingest, beside: Ingest
) -> None:
    gateway, study, series = await ingest.enrol(), a_uid(), a_uid()
    objects = [[a_ct(study=study, series=series) for _ in range(15)] for _ in range(2)]

    def send(pod: Ingest, at: int) -> set[int | None]:
        statuses = set()
        with Sender.of(pod, gateway).association([(CT, ExplicitVRLittleEndian)]) as association:
            for each in objects[at]:
                time.sleep(0.15)  # as a modality sends while it scans
                statuses.add(store_object(association, each).status)
        return statuses

    told_at: set[datetime] = set()

    async def look() -> None:
        """When it was told, by PostgreSQL's clock; what comes right after another may be missed."""
        while True:
            rows = await ingest.rows("select told_at from studies where told_at is not null")
            told_at.update(row["told_at"] for row in rows)
            await asyncio.sleep(0.01)

    looking = asyncio.create_task(look())
    try:
        both = await asyncio.gather(asyncio.to_thread(send, ingest, 0), asyncio.to_thread(send, beside, 1))
        assert set().union(*both) == {0}
        await eventually(lambda: settled(ingest))
    finally:
        looking.cancel()
    assert set(await ingest.stored()) == {each.sop_instance_uid for pod in objects for each in pod}
    case_id = await a_case(ingest, study)
    assert await fetch_study(ingest, case_id) == await fetch_study(beside, case_id)
    told = await ingest.rows(
        """
        select (payload ->> 'version')::int as version
        from outbox where subject = 'study.changed.v1' order by id
        """
    )
    assert [row["version"] for row in told] == sorted({row["version"] for row in told})
    spacing = [b - a for a, b in itertools.pairwise(sorted(told_at))]
    assert max(spacing) > ONCE_A_SECOND
    # Three may come sooner: the ends of both associations, and the settling.
    assert len([each for each in spacing if each < ONCE_A_SECOND]) <= 3
    assert len(ingest.pack_files()) == 2
