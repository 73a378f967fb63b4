"""What users fetch: only what access names, whole or not at all."""

import hashlib
import os
from uuid import uuid4

import pytest

from kernel.errors import Denied, Invalid, NotFound, Unauthenticated, Unavailable
from plumbing import rpc
from services.ingest.packs import CHUNK_BYTES, DAMAGED
from tests.ingest.builders import a_uid
from tests.ingest.objects import a_ct
from tests.ingest.system import ADMIN, READER, DicomObject, Ingest, Sender, sent_objects, sha256
from tests.wait import eventually
from wire.access.v1 import access_pb2
from wire.ingest.v1 import ingest_pb2 as pb
from wire.ingest.v1 import ingest_pb2_grpc


async def a_case(ingest: Ingest, *objects: DicomObject, series: list[str] | None = None) -> str:
    """The study of the objects as a case that the reader may see, all of it or these series."""
    gateway = await ingest.enrol()
    answers = await sent_objects(Sender.of(ingest, gateway), *objects)
    assert {a.status for a in answers} == {0}
    study_id = str(await ingest.one("select study_id from studies"))
    case_id = str(uuid4())
    ingest.access.decisions[READER, case_id] = access_pb2.Decision(
        allowed=True,
        images=True,
        studies=[
            access_pb2.ConfirmedStudy(
                study_id=study_id, all_series=series is None, series_instance_uids=series or []
            )
        ],
    )
    return case_id


async def fetch_study(ingest: Ingest, case_id: str, login: str = READER) -> dict[str, bytes]:
    """The Part 10 files of a case by SOP Instance UID, checked against what their headers say."""
    files: dict[str, bytes] = {}
    headers: dict[str, pb.InstanceHeader] = {}
    study = None
    async for part in ingest.acting(login).StreamStudy(pb.StreamStudyRequest(case_id=case_id)):
        match part.WhichOneof("part"):
            case "study":
                study = part.study
            case "header":
                current = part.header.sop_instance_uid
                headers[current], files[current] = part.header, b""
            case "chunk":
                assert len(part.chunk) <= CHUNK_BYTES
                files[current] += part.chunk
    assert study is not None
    assert (study.instance_count, study.length) == (len(files), sum(map(len, files.values())))
    for uid, file in files.items():
        assert headers[uid].length == len(file)
        data_set = file[144 + int.from_bytes(file[140:144], "little") :]
        assert hashlib.sha256(data_set).hexdigest() == headers[uid].sha256
    return files


async def fetch_instance(ingest: Ingest, case_id: str, uid: str, login: str = READER) -> bytes:
    request = pb.StreamInstanceRequest(case_id=case_id, sop_instance_uid=uid)
    parts = [part async for part in ingest.acting(login).StreamInstance(request)]
    assert parts[0].header.sop_instance_uid == uid
    return b"".join(part.chunk for part in parts[1:])


async def test_a_study_is_fetched_as_it_was_sent(ingest: Ingest) -> None:
    study, series = a_uid(), a_uid()
    sizes = [2, 1000, CHUNK_BYTES - 400, 3 * CHUNK_BYTES + 2]
    objects = [a_ct(study=study, series=series, pixels=os.urandom(size)) for size in sizes]
    case_id = await a_case(ingest, *objects)
    files = await fetch_study(ingest, case_id)
    assert {uid: sha256(f[144 + int.from_bytes(f[140:144], "little") :]) for uid, f in files.items()} == {
        o.sop_instance_uid: sha256(o.data) for o in objects
    }
    for each in objects:
        file = await fetch_instance(ingest, case_id, each.sop_instance_uid)
        assert file == files[each.sop_instance_uid]
        assert file[:132] == bytes(128) + b"DICM"
        assert file.endswith(each.data)


async def test_only_confirmed_series_are_served(ingest: Ingest) -> None:
    study, confirmed, held = a_uid(), a_uid(), a_uid()
    shown, hidden = a_ct(study=study, series=confirmed), a_ct(study=study, series=held)
    case_id = await a_case(ingest, shown, hidden, series=[confirmed])
    assert set(await fetch_study(ingest, case_id)) == {shown.sop_instance_uid}
    with pytest.raises(NotFound):
        await fetch_instance(ingest, case_id, hidden.sop_instance_uid)


async def test_of_a_series_with_two_patients_only_confirmed_parts_are_served(ingest: Ingest) -> None:
    study, series = a_uid(), a_uid()
    shown = a_ct(study=study, series=series)
    hidden = a_ct(study=study, series=series, more={0x0010_0020: ("LO", "another patient's")})
    case_id = await a_case(ingest, shown, hidden)
    (confirmed,) = ingest.access.decisions[READER, case_id].studies
    confirmed.by_parts = True  # whatever it says of series: that is for the version before
    confirmed.parts.append(1_000_001)
    assert set(await fetch_study(ingest, case_id)) == {shown.sop_instance_uid}
    with pytest.raises(NotFound):
        await fetch_instance(ingest, case_id, hidden.sop_instance_uid)
    del confirmed.parts[:]
    with pytest.raises(NotFound):
        await fetch_study(ingest, case_id)


async def test_absent_unseen_and_without_images_answer_alike_and_leave_an_audit_row(ingest: Ingest) -> None:
    ct = a_ct()
    case_id = await a_case(ingest, ct)
    seen = ingest.access.decisions[READER, case_id]
    without_images, deleted = access_pb2.Decision(), access_pb2.Decision()
    without_images.CopyFrom(seen)
    without_images.images = False
    deleted.CopyFrom(seen)
    deleted.being_deleted = True
    ingest.access.decisions["no-images", case_id] = without_images
    ingest.access.decisions["too-late", case_id] = deleted
    sentences = set()
    unseen = [("stranger", case_id), ("no-images", case_id), ("too-late", case_id), (READER, str(uuid4()))]
    for login, case in unseen:
        with pytest.raises(NotFound) as of_study:
            await fetch_study(ingest, case, login)
        with pytest.raises(NotFound) as of_instance:
            await fetch_instance(ingest, case, ct.sop_instance_uid, login)
        sentences |= {of_study.value.sentence, of_instance.value.sentence}
    with pytest.raises(NotFound) as of_another:
        await fetch_instance(ingest, case_id, a_uid())
    assert sentences == {of_another.value.sentence}
    await fetch_study(ingest, case_id)
    rows = await ingest.rows(
        "select actor, object, outcome from audit_rows where action = 'case.images_fetched'"
    )
    assert len(rows) == 10
    assert [tuple(row) for row in rows if row["outcome"] == "done"] == [(READER, f"case:{case_id}", "done")]


async def test_a_user_without_a_token_or_with_bad_ids_gets_nothing(ingest: Ingest) -> None:
    case_id = await a_case(ingest, a_ct())
    with pytest.raises(Unauthenticated):
        _ = [p async for p in ingest.service("bff").StreamStudy(pb.StreamStudyRequest(case_id=case_id))]
    with pytest.raises(Denied):
        _ = [p async for p in ingest.service("routing").StreamStudy(pb.StreamStudyRequest(case_id=case_id))]
    with pytest.raises(Denied):
        await ingest.acting(READER).DescribeStudy(pb.DescribeStudyRequest(study_id=case_id))
    for bad in ("", "x", "../../etc/passwd"):
        with pytest.raises(Invalid):
            await fetch_study(ingest, bad)
        with pytest.raises(Invalid):
            await fetch_instance(ingest, case_id, bad)
    channel = rpc.connect(ingest.address("grpc"), "ingest", ingest.pki.tls("access"))
    stub = ingest_pb2_grpc.IngestServiceStub(channel)
    with pytest.raises(NotFound):
        await stub.DescribeStudy(pb.DescribeStudyRequest(study_id=str(uuid4())))
    await channel.close()


async def test_a_study_that_is_purged_while_it_is_fetched_is_gone_and_not_damaged(ingest: Ingest) -> None:
    study = a_uid()
    case_id = await a_case(ingest, *(a_ct(study=study, pixels=os.urandom(3 * CHUNK_BYTES)) for _ in range(9)))
    ingest.access.cases[case_id] = [str(await ingest.one("select study_id from studies"))]
    before = DAMAGED._value.get()
    fetched = aiter(ingest.acting(READER).StreamStudy(pb.StreamStudyRequest(case_id=case_id)))
    await anext(fetched)
    await ingest.acting(ADMIN).DeleteStudy(pb.DeleteStudyRequest(case_id=case_id))
    await eventually(lambda: not ingest.pack_files())
    with pytest.raises(NotFound):
        async for _ in fetched:
            pass
    with pytest.raises(NotFound):
        await fetch_study(ingest, case_id)
    assert DAMAGED._value.get() == before


@pytest.mark.parametrize("damage", ["missing", "other bytes"])
async def test_a_damaged_pack_is_unavailable_never_wrong(ingest: Ingest, damage: str) -> None:
    ct = a_ct(pixels=os.urandom(2 * CHUNK_BYTES))
    case_id = await a_case(ingest, ct)
    (path,) = ingest.pack_files()
    if damage == "missing":
        path.unlink()
    else:
        content = bytearray(path.read_bytes())
        content[100_000] ^= 1
        path.write_bytes(content)
    with pytest.raises(Unavailable):
        await fetch_study(ingest, case_id)
    with pytest.raises(Unavailable):
        await fetch_instance(ingest, case_id, ct.sop_instance_uid)


async def test_versions_are_listed_in_pages_by_id(ingest: Ingest) -> None:
    gateway = await ingest.enrol()
    await sent_objects(Sender.of(ingest, gateway), *(a_ct() for _ in range(3)))
    rows = await ingest.rows("select study_id, version from studies order by study_id")
    expected = [(str(row["study_id"]), row["version"]) for row in rows]
    routing = ingest.service("routing")

    async def page(after: str) -> list[tuple[str, int]]:
        answer = await routing.ListVersions(pb.ListVersionsRequest(after_study_id=after))
        return [(v.study_id, v.version) for v in answer.versions]

    assert [study_id for study_id, _ in await page("")] == [study_id for study_id, _ in expected]
    assert [study_id for study_id, _ in await page(expected[0][0])] == [s for s, _ in expected[1:]]
    with pytest.raises(Invalid):
        await page("x")
