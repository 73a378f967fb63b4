"""DICOMweb: what a viewer asks, as the web asks it for a user; only what access names, in the right bytes."""

import asyncio
import gzip
import json
import os
import socket
import ssl
from dataclasses import dataclass, replace
from http.client import HTTPSConnection
from io import BytesIO
from typing import Any
from uuid import uuid4

import pytest
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit

from plumbing.tls import client_context
from tests.ingest.builders import a_uid
from tests.ingest.objects import a_ct
from tests.ingest.system import READER, DicomObject, Ingest
from tests.ingest.test_images import a_case
from tests.wait import eventually
from wire.access.v1 import access_pb2

ANY = "*/*"
FRAMES = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
OBJECTS = 'multipart/related; type="application/dicom"; transfer-syntax=*'


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def parts(self) -> list[tuple[dict[str, str], bytes]]:
        """Headers and bytes of each part, as strictly as the strictest viewer reads them."""
        kind, *parameters = self.headers["content-type"].split("; ")
        assert kind == "multipart/related"
        boundary = dict(each.split("=", 1) for each in parameters)["boundary"].strip('"').encode()
        assert self.body.startswith(b"--" + boundary + b"\r\n")
        *parts, end = self.body.split(b"--" + boundary)[1:]
        assert end == b"--\r\n"
        found = []
        for part in parts:
            head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
            found.append((headers, content.removesuffix(b"\r\n")))
        return found


class Web:
    """The web, which asks for a user."""

    def __init__(self, ingest: Ingest, *, peer: str = "bff", login: str = READER) -> None:
        self._ingest = ingest
        self._tls = ingest.pki.tls(peer)
        self._login = login

    def connection(self) -> HTTPSConnection:
        context = client_context(self._tls)
        context.check_hostname = False
        return HTTPSConnection("127.0.0.1", self._ingest.ports["dicomweb"], context=context, timeout=20)

    def ask(self, path: str, accept: str = ANY, *, method: str = "GET", **headers: str) -> Answer:
        connection = self.connection()
        try:
            sent = {
                "Authorization": f"Bearer {self._ingest.token(self._login)}",
                "Accept": accept,
                **{name.replace("_", "-"): value for name, value in headers.items()},
            }
            connection.request(method, path, headers={name: value for name, value in sent.items() if value})
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    async def get(self, path: str, accept: str = ANY, **more: Any) -> Answer:
        return await asyncio.to_thread(self.ask, path, accept, **more)


def a_frame_ct(
    frames: int = 1, *, rows: int = 4, columns: int = 6, comment: str = "", **more: Any
) -> DicomObject:
    """A CT of random pixels, 16 bits each."""
    return a_ct(
        pixels=os.urandom(2 * rows * columns * frames),
        more={
            0x0010_4000: ("LT", comment),
            0x0020_0013: ("IS", "7"),
            0x0028_0002: ("US", b"\x01\x00"),
            0x0028_0004: ("CS", "MONOCHROME2"),
            0x0028_0008: ("IS", str(frames)),
            0x0028_0010: ("US", rows.to_bytes(2, "little")),
            0x0028_0011: ("US", columns.to_bytes(2, "little")),
            0x0028_0100: ("US", b"\x10\x00"),
        },
        **more,
    )


def dataset(each: DicomObject) -> Dataset:
    return dcmread(BytesIO(each.data), force=True)


def path_of(case_id: str, each: DicomObject) -> str:
    told = dataset(each)
    return (
        f"/cases/{case_id}/studies/{told.StudyInstanceUID}"
        f"/series/{told.SeriesInstanceUID}/instances/{told.SOPInstanceUID}"
    )


def pixels_of(each: DicomObject) -> bytes:
    return bytes(dataset(each).PixelData)


def compressed(each: DicomObject, encapsulated: bytes) -> DicomObject:
    """The same with encapsulated pixel data."""
    head = each.data[: each.data.rindex(b"\xe0\x7f\x10\x00")]
    pixels = b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff" + encapsulated + b"\xfe\xff\xdd\xe0\0\0\0\0"
    return replace(each, data=head + pixels, transfer_syntax_uid=JPEGBaseline8Bit)


@pytest.mark.proves("BEY-18", part="WADO-RS and QIDO-RS inside a case")
async def test_a_viewer_opens_a_case(ingest: Ingest) -> None:
    """Search, metadata, frames, the instance itself: each as it was sent."""
    study, series = a_uid(), a_uid()
    objects = [a_frame_ct(frames, study=study, series=series) for frames in (1, 3)]
    case_id = await a_case(ingest, *objects)
    web = Web(ingest)

    (found,) = (await web.get(f"/cases/{case_id}/studies")).json
    assert found["0020000D"]["Value"] == [study]
    assert found["00201208"]["Value"] == [2]
    assert found["00080061"]["Value"] == ["CT"]
    assert found["00081190"]["Value"] == [f"/cases/{case_id}/studies/{study}"]
    (found,) = (await web.get(f"/cases/{case_id}/studies/{study}/series?includefield=00080021")).json
    assert found["0020000E"]["Value"] == [series]
    assert found["00201209"]["Value"] == [2]
    instances = (await web.get(f"/cases/{case_id}/studies/{study}/series/{series}/instances")).json
    assert [each["00080018"]["Value"] for each in instances] == [[each.sop_instance_uid] for each in objects]

    metadata = await web.get(f"/cases/{case_id}/studies/{study}/series/{series}/metadata")
    assert metadata.headers["content-type"] == "application/dicom+json"
    for told, sent in zip(metadata.json, objects, strict=True):
        assert told["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": "Vermeer^Ada"}]}
        assert told["7FE00010"]["BulkDataURI"] == f"instances/{sent.sop_instance_uid}/bulkdata/7FE00010"
        assert "00020010" not in told

    one, three = objects
    answer = await web.get(f"{path_of(case_id, one)}/frames/1", FRAMES)
    [(headers, content)] = answer.parts
    assert headers["Content-Type"] == "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1"
    assert content == pixels_of(one)
    answer = await web.get(f"{path_of(case_id, three)}/frames/3,1", FRAMES)
    size = len(pixels_of(three)) // 3
    assert [content for _, content in answer.parts] == [
        pixels_of(three)[2 * size :],
        pixels_of(three)[:size],
    ]
    assert (await web.get(f"{path_of(case_id, three)}/frames/3,3", FRAMES)).status == 400
    answer = await web.get(f"{path_of(case_id, three)}/bulkdata/7FE00010", FRAMES)
    assert b"".join(content for _, content in answer.parts) == pixels_of(three)

    for whole in (f"/cases/{case_id}/studies/{study}", f"/cases/{case_id}/studies/{study}/series/{series}"):
        files = [content for _, content in (await web.get(whole, OBJECTS)).parts]
        assert [file[144 + int.from_bytes(file[140:144], "little") :] for file in files] == [
            each.data for each in objects
        ]
    single = await web.get(path_of(case_id, one), "application/dicom; transfer-syntax=*")
    assert single.body[128:132] == b"DICM"
    assert single.body.endswith(one.data)


async def test_frames_of_compressed_pixels_are_their_fragments(ingest: Ingest) -> None:
    study, series = a_uid(), a_uid()
    frames = [os.urandom(2 * size) for size in (100, 7, 3000)]
    whole = encapsulate([frames[0]], fragments_per_frame=3)
    one = compressed(a_ct(study=study, series=series, pixels=b""), whole)
    case_id = await a_case(ingest, one)
    web = Web(ingest)
    answer = await web.get(f"{path_of(case_id, one)}/frames/1", FRAMES)
    [(headers, content)] = answer.parts
    assert headers["Content-Type"] == f"application/octet-stream; transfer-syntax={JPEGBaseline8Bit}"
    assert content == frames[0]
    answer = await web.get(f"{path_of(case_id, one)}/frames/1", "image/jpeg")
    assert (answer.headers["content-type"].split(";")[0], answer.body) == ("image/jpeg", frames[0])
    answer = await web.get(
        f"{path_of(case_id, one)}/frames/1", "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1"
    )
    assert answer.status == 406


@pytest.mark.parametrize("table", [True, False], ids=["offset table", "none"])
async def test_frames_of_several_fragments_are_parted_by_the_offset_table_or_not_at_all(
    ingest: Ingest, table: bool
) -> None:
    frames = [os.urandom(2 * size) for size in (100, 7, 3000)]
    sent = compressed(
        a_ct(pixels=b"", more={0x0028_0008: ("IS", "3")}),
        encapsulate(frames, fragments_per_frame=2, has_bot=table),
    )
    case_id = await a_case(ingest, sent)
    web = Web(ingest)
    answer = await web.get(f"{path_of(case_id, sent)}/frames/3,2", FRAMES)
    if table:
        assert [content for _, content in answer.parts] == [frames[2], frames[1]]
    else:
        assert answer.status == 404
    assert (await web.get(f"{path_of(case_id, sent)}/frames/4", FRAMES)).status == 404
    assert (await web.get(f"{path_of(case_id, sent)}/frames/0", FRAMES)).status == 400


# Who may ask


async def test_foreign_and_absent_answer_alike(ingest: Ingest) -> None:
    sent = a_frame_ct()
    case_id = await a_case(ingest, sent)
    answers = {
        (answer.status, answer.body, tuple(name for name in answer.headers if name != "date"))
        for answer in (
            await Web(ingest, login="stranger").get(path_of(case_id, sent)),
            await Web(ingest).get(path_of(str(uuid4()), sent)),
            await Web(ingest).get(f"/cases/{case_id}/studies/1.2.3"),
            await Web(ingest).get(f"/cases/{case_id}/studies/1.2.3/metadata"),
        )
    }
    assert len(answers) == 1
    assert {status for status, _, _ in answers} == {404}


async def test_nobody_but_the_web_with_a_users_token_is_answered(ingest: Ingest) -> None:
    sent = a_frame_ct()
    case_id = await a_case(ingest, sent)
    path = path_of(case_id, sent)
    assert (await Web(ingest, peer="sharing").get(path)).status == 403
    for token in ("", "Bearer ", "Bearer nonsense", f"Basic {ingest.token(READER)}"):
        assert (await Web(ingest).get(path, Authorization=token)).status == 401
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = HTTPSConnection("127.0.0.1", ingest.ports["dicomweb"], context=context, timeout=10)

    def ask() -> None:
        connection.request("GET", path)
        connection.getresponse()

    with pytest.raises(OSError, match=r"(?i)certificate|closed|reset|EOF"):
        await asyncio.to_thread(ask)


@pytest.mark.proves("BEY-18", part="the rights of the worklist")
async def test_only_the_confirmed_series_is_served(ingest: Ingest) -> None:
    study = a_uid()
    mine, other = (a_frame_ct(study=study, series=a_uid()) for _ in range(2))
    case_id = await a_case(ingest, mine, other, series=[str(dataset(mine).SeriesInstanceUID)])
    web = Web(ingest)
    assert len((await web.get(f"/cases/{case_id}/instances")).json) == 1
    assert len((await web.get(f"/cases/{case_id}/studies/{study}/metadata")).json) == 1
    assert len((await web.get(f"/cases/{case_id}/studies/{study}", OBJECTS)).parts) == 1
    assert (await web.get(f"{path_of(case_id, other)}/frames/1", FRAMES)).status == 404


@pytest.mark.proves("BEY-17", part="images by DICOMweb")
@pytest.mark.proves("A69", part="DICOMweb")
async def test_what_is_on_its_way_is_cut_when_sight_ends(ingest: Ingest) -> None:
    sent = a_ct(pixels=os.urandom(24 << 20))
    case_id = await a_case(ingest, sent)

    def slowly() -> int:
        connection = Web(ingest).connection()
        connection.connect()
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        headers = {"Authorization": f"Bearer {ingest.token(READER)}", "Accept": OBJECTS}
        connection.request("GET", path_of(case_id, sent), headers=headers)
        response = connection.getresponse()
        assert response.status == 200
        read = len(response.read(1 << 20))
        ingest.access.decisions[READER, case_id] = access_pb2.Decision()
        asked = len(ingest.access.asked_again)
        while len(ingest.access.asked_again) == asked:
            pass
        try:
            while piece := response.read(1 << 20):
                read += len(piece)
        except OSError:
            pass
        return read

    assert await asyncio.to_thread(slowly) < len(sent.data)


async def test_the_audit_has_one_row_for_session_case_and_hour(ingest: Ingest) -> None:
    sent = a_frame_ct()
    case_id = await a_case(ingest, sent)
    token = f"Bearer {ingest.token(READER)}"
    for path in (f"/cases/{case_id}/studies", path_of(case_id, sent)):
        assert (await Web(ingest).get(path, Authorization=token)).status == 200
    count = "select count(*) from audit_rows where action = 'case.images_viewed' and outcome = 'done'"
    assert await ingest.one(count) == 1
    assert (await Web(ingest).get(path_of(case_id, sent))).status == 200  # another session
    assert await ingest.one(count) == 2


# HTTP


async def test_what_is_known_is_not_sent_again_and_ranges_are_parts_of_the_same_bytes(ingest: Ingest) -> None:
    sent = a_frame_ct(rows=100, columns=100, comment="long " * 300)
    case_id = await a_case(ingest, sent)
    web, path = Web(ingest), path_of(case_id, sent)
    whole = await web.get(path, OBJECTS)
    tag = whole.headers["etag"]
    again = await web.get(path, OBJECTS, If_None_Match=f'"other", {tag}')
    assert (again.status, again.body) == (304, b"")
    head = await web.get(path, OBJECTS, method="HEAD")
    assert (head.headers["content-length"], head.body) == (str(len(whole.body)), b"")
    for wanted, expected in (
        ("bytes=100-199", whole.body[100:200]),
        ("bytes=-50", whole.body[-50:]),
        ("bytes=20000-", whole.body[20000:]),
    ):
        part = await web.get(path, OBJECTS, Range=wanted)
        assert (part.status, part.body) == (206, expected)
    assert (await web.get(path, OBJECTS, Range="bytes=99999999-")).status == 416
    changed = await web.get(path, OBJECTS, Range="bytes=0-9", If_Range='"other"')
    assert (changed.status, changed.body) == (200, whole.body)

    metadata = await web.get(f"{path}/metadata", Accept_Encoding="gzip")
    assert metadata.headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(metadata.body)) == (await web.get(f"{path}/metadata")).json
    assert metadata.headers["cache-control"] == "private, no-cache"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 404),
        ("/cases", 404),
        ("/cases/no-uuid/studies", 404),
        ("/cases/{case}/studies/../../x", 404),
        ("/cases/{case}/studies/1.2%2f..%2f3", 404),
        ("/cases/{case}/studies?limit=x", 400),
        ("/cases/{case}/studies?offset=10001", 400),
        ("/cases/{case}/studies?StudyDate=yesterday", 400),
        ("/cases/{case}/studies?PatientID=1&PatientID=2", 400),
        ("/cases/{case}/studies?" + "&".join(f"k{n}=1" for n in range(99)), 400),
        ("/cases/{case}/studies?PatientName=*ver*&ModalitiesInStudy=MR,CT&fuzzymatching=true", 200),
        ("/cases/{case}/studies?PatientName=nobody", 204),
        ("/cases/{case}/studies?StudyInstanceUID=1.2%5C1.3", 204),
        ("/cases/{case}/studies?Nonsense=1", 200),
    ],
)
async def test_each_path_and_query_has_a_clear_answer(ingest: Ingest, path: str, status: int) -> None:
    case_id = await a_case(ingest, a_frame_ct())
    answer = await Web(ingest).get(path.format(case=case_id))
    assert answer.status == status
    if "fuzzy" in path or "Nonsense" in path:
        assert answer.headers["warning"].startswith("299 ")


async def test_what_is_no_http_ends_its_own_connection_and_nothing_else(ingest: Ingest) -> None:
    sent = a_frame_ct()
    case_id = await a_case(ingest, sent)

    def throw(data: bytes) -> bytes:
        context = client_context(ingest.pki.tls("bff"))
        context.check_hostname = False
        plain = socket.create_connection(("127.0.0.1", ingest.ports["dicomweb"]), 10)
        with context.wrap_socket(plain) as secured:
            secured.sendall(data)
            try:
                return secured.recv(64)
            except OSError:
                return b""

    for data in (
        b"\x16\x03\x01 nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"POST /cases HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
    ):
        answer = await asyncio.to_thread(throw, data)
        assert not answer or answer.startswith(b"HTTP/1.1 4"), data
    for _ in range(40):  # come and go without a word, as health checks do
        socket.create_connection(("127.0.0.1", ingest.ports["dicomweb"]), 10).close()
    assert (await Web(ingest).get(path_of(case_id, sent))).status in (200, 406)


async def test_damaged_bytes_are_not_served(ingest: Ingest) -> None:
    sent = a_frame_ct(rows=50, columns=50)
    case_id = await a_case(ingest, sent)
    await eventually(lambda: list(ingest.packs.glob("*/*.tar")))
    (pack,) = ingest.packs.glob("*/*.tar")
    data = bytearray(pack.read_bytes())
    data[data.rindex(pixels_of(sent)[:64])] ^= 1
    pack.write_bytes(data)
    for path in (path_of(case_id, sent), f"{path_of(case_id, sent)}/frames/1"):
        answer = await Web(ingest).get(path, f"{OBJECTS}, {FRAMES}")
        assert answer.status == 503
