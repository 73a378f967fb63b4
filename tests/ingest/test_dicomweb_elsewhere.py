"""DICOMweb at one process, of instances on the volume of another."""

import os

import pytest
from pydicom.encaps import encapsulate

from tests.ingest.builders import a_uid
from tests.ingest.objects import a_ct
from tests.ingest.system import Ingest, Sender, sent_objects
from tests.ingest.test_dicomweb import FRAMES, OBJECTS, Web, a_frame_ct, compressed, path_of, pixels_of
from tests.ingest.test_pods import a_case, elsewhere

__all__ = ["elsewhere"]


@pytest.mark.proves("BEY-18", part="instances on the volume of another process")
async def test_a_viewer_sees_what_another_process_has(ingest: Ingest, elsewhere: Ingest) -> None:
    study = a_uid()
    frames = [os.urandom(2 * size) for size in (100, 7, 3000)]
    plain = a_frame_ct(3, rows=400, columns=600, study=study)
    packed = compressed(
        a_ct(pixels=b"", study=study, more={0x0028_0008: ("IS", "3")}),
        encapsulate(frames, fragments_per_frame=2, has_bot=True),
    )
    gateway = await ingest.enrol()
    answers = await sent_objects(Sender.of(elsewhere, gateway), plain, packed)
    assert {answer.status for answer in answers} == {0}
    case_id = await a_case(ingest, study)
    here, there = Web(ingest), Web(elsewhere)

    for path, accept in (
        (f"/cases/{case_id}/studies/{study}/metadata", "application/json"),
        (f"/cases/{case_id}/studies/{study}", OBJECTS),
        (f"{path_of(case_id, plain)}/frames/3,1", FRAMES),
        (f"{path_of(case_id, packed)}/frames/2,3", FRAMES),
    ):
        answer = await here.get(path, accept)
        assert (answer.status, answer.body) == (200, (await there.get(path, accept)).body)
        part = await here.get(path, accept, Range="bytes=700000-700099")
        if part.status == 206:
            assert part.body == answer.body[700000:700100]
    size = len(pixels_of(plain)) // 3
    [(_, third), _] = (await here.get(f"{path_of(case_id, plain)}/frames/3,1", FRAMES)).parts
    assert third == pixels_of(plain)[2 * size :]

    (pack,) = elsewhere.pack_files()
    data = bytearray(pack.read_bytes())
    data[data.rindex(pixels_of(plain)[-64:])] ^= 1
    pack.replace(pack.with_suffix(".right"))  # another file: what was verified counts no more
    pack.write_bytes(data)
    for path in (path_of(case_id, plain), f"{path_of(case_id, plain)}/frames/1"):
        assert (await here.get(path, f"{OBJECTS}, {FRAMES}")).status == 503
    assert (await here.get(f"{path_of(case_id, packed)}/frames/1", FRAMES)).status == 200

    await elsewhere.stop()
    answer = await here.get(f"{path_of(case_id, packed)}/frames/1", FRAMES)
    assert (answer.status, "retry-after" in answer.headers) == (503, True)
