"""DICOMweb: instances in every transfer syntax, and what a request reads of a case."""

import zlib
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO

import pytest
from pydicom import dcmwrite
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian

from tests.ingest.builders import a_uid
from tests.ingest.system import DicomObject, Ingest
from tests.ingest.test_dicomweb import FRAMES, Web, a_frame_ct, dataset, path_of, pixels_of
from tests.ingest.test_images import a_case


def deflated(sent: DicomObject) -> DicomObject:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    data = packer.compress(sent.data) + packer.flush()
    return replace(sent, data=data + bytes(len(data) % 2), transfer_syntax_uid=DeflatedExplicitVRLittleEndian)


def big_endian(sent: DicomObject) -> DicomObject:
    told, written = dataset(sent), BytesIO()
    told.PixelData = swapped(told.PixelData)
    dcmwrite(written, told, implicit_vr=False, little_endian=False)
    return replace(sent, data=written.getvalue(), transfer_syntax_uid=ExplicitVRBigEndian)


def swapped(words: bytes) -> bytes:
    turned = bytearray(words)
    turned[::2], turned[1::2] = words[1::2], words[::2]
    return bytes(turned)


@pytest.mark.parametrize("stored_as", [deflated, big_endian])
@pytest.mark.proves("BEY-18", part="deflated and big endian instances")
async def test_a_viewer_sees_the_same_whatever_the_instance_is_stored_as(
    ingest: Ingest, stored_as: Callable[[DicomObject], DicomObject]
) -> None:
    plain = a_frame_ct(3, rows=3, columns=5)
    case_id = await a_case(ingest, stored_as(plain))
    web, path = Web(ingest), path_of(case_id, plain)
    (told,) = (await web.get(f"{path}/metadata")).json
    assert told["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": "Vermeer^Ada"}]}
    assert told["00280010"] == {"vr": "US", "Value": [3]}
    answer = await web.get(f"{path}/frames/3,2", FRAMES)
    pixels, size = pixels_of(plain), 2 * 3 * 5
    assert [content for _, content in answer.parts] == [pixels[2 * size :], pixels[size : 2 * size]]
    assert answer.parts[0][0]["Content-Type"].endswith(f"transfer-syntax={ExplicitVRLittleEndian}")


# How much at once


@pytest.mark.proves("BEY-18", part="a path is answered from what it names")
async def test_searches_count_all_and_read_one_instance_of_each_series(ingest: Ingest) -> None:
    study, series = a_uid(), [a_uid(), a_uid()]
    objects = [a_frame_ct(study=study, series=series[number // 3]) for number in range(4)]
    case_id = await a_case(ingest, *objects)
    web = Web(ingest)
    (found,) = (await web.get(f"/cases/{case_id}/studies")).json
    assert (found["00201206"]["Value"], found["00201208"]["Value"]) == ([2], [4])
    rows = (await web.get(f"/cases/{case_id}/studies/{study}/series")).json
    assert [(row["0020000E"]["Value"], row["00201209"]["Value"]) for row in rows] == [
        ([series[0]], [3]),
        ([series[1]], [1]),
    ]
    rows = (await web.get(f"/cases/{case_id}/studies/{study}/series/{series[1]}/instances")).json
    assert len(rows) == 1
