"""A hospital sends what is not quite a data set, and a user asks for its frames; or they ask without end.

Position: an enrolled gateway, and a user who sees one series of the study; what they ask is up to them.
"""

import asyncio
import os
import socket
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from http.client import HTTPException, HTTPSConnection
from struct import pack

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from local.pki import Pki
from plumbing.edge import Edge
from plumbing.places import Room
from plumbing.responses import Request, Response
from plumbing.tls import client_context, server_contexts
from services.ingest.allowance import TURNS
from services.ingest.served import MAX_INFLATED_BYTES
from tests.ingest.builders import a_uid
from tests.ingest.objects import a_ct, element
from tests.ingest.system import READER, DicomObject, Ingest
from tests.ingest.test_dicomweb import ANY, FRAMES, Web, dataset, path_of
from tests.ingest.test_images import a_case
from tests.wait import eventually

NAME = b"Secret^Other"
PIXELS = b"\xe0\x7f\x10\x00OW\0\0"
GIVEN_UP_S = 5.0


def longer_than_it_is(study: str) -> DicomObject:
    """Pixel data that say to be longer than the data set, behind a place where reception loses its way."""
    sent = a_ct(study=study, series=a_uid(), pixels=b"")
    lost = b"\xfe\xff\x00\xe0\0\0\0\0"
    size = b"".join(
        element(tag, "US", pack("<H", value))
        for tag, value in ((0x0028_0002, 1), (0x0028_0010, 50), (0x0028_0011, 100), (0x0028_0100, 16))
    )
    head = sent.data[: sent.data.rindex(PIXELS)]
    return replace(sent, data=head + lost + size + PIXELS + pack("<L", 10_000) + b"\1\2\3\4")


def of_negative_size(study: str) -> DicomObject:
    """Frames that go backwards through the pack."""
    return sized(study, {0x0028_0010: ("SS", pack("<h", -1)), 0x0028_0008: ("IS", "1000")})


def sized(study: str, more: dict[int, tuple[str, bytes | str]]) -> DicomObject:
    """A column of pixels, 16 bits each."""
    one = pack("<H", 1)
    size = {0x0028_0002: ("US", one), 0x0028_0011: ("US", one), 0x0028_0100: ("US", pack("<H", 16))}
    return a_ct(study=study, series=a_uid(), more={**size, **more})


def read(web: Web, path: str, token: str) -> tuple[int, bytes]:
    """What comes, also of an answer that breaks off."""
    connection = web.connection()
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}", "Accept": FRAMES})
    answer, body = connection.getresponse(), b""
    try:
        while piece := answer.read1(1 << 16):
            body += piece
    except (OSError, HTTPException):
        pass
    connection.close()
    return answer.status, body


@pytest.mark.parametrize(("spoilt", "count"), [(longer_than_it_is, 1), (of_negative_size, 1000)])
async def test_no_frame_reaches_into_another_series_of_the_pack(
    ingest: Ingest, spoilt: Callable[[str], DicomObject], count: int
) -> None:
    study = a_uid()
    mine, other = spoilt(study), a_ct(study=study, series=a_uid(), more={0x0010_0010: ("PN", NAME)})
    case_id = await a_case(ingest, mine, other, series=[str(dataset(mine).SeriesInstanceUID)])

    path = f"{path_of(case_id, mine)}/frames/{','.join(map(str, range(1, count + 1)))}"
    status, body = await asyncio.to_thread(read, Web(ingest), path, ingest.token(READER))

    assert NAME not in body
    assert status == 404


async def test_nothing_is_made_for_each_frame_that_an_instance_says_it_has(ingest: Ingest) -> None:
    sent = sized(a_uid(), {0x0028_0008: ("IS", "999999999999"), 0x0028_0010: ("US", b"\1\0")})
    case_id = await a_case(ingest, sent)
    path = path_of(case_id, sent)

    async with asyncio.timeout(GIVEN_UP_S):
        assert (await Web(ingest).get(f"{path}/bulkdata/7FE00010", FRAMES)).status == 400


async def test_no_question_takes_longer_than_it_is_long(ingest: Ingest) -> None:
    """A pattern that is tried in all ways holds the interpreter, and so all that ingest receives."""
    described = a_ct(more={0x0008_1030: ("LO", "CT CHEST ABDOMEN PELVIS WITH CONTRAST AND RECONSTRUCTIONS")})
    case_id = await a_case(ingest, described)
    web, path = Web(ingest), path_of(case_id, described)

    async with asyncio.timeout(GIVEN_UP_S):
        studies = f"/cases/{case_id}/studies?StudyDescription="
        assert (await web.get(studies + "*%3F" * 60 + "!")).status == 204
        assert (await web.get(studies + "*e*B*%3F*s")).status == 200
        assert (await web.get(studies + "*" * 257)).status == 400
        assert (await web.get(f"{path}/frames/{'9' * 5000}", FRAMES)).status == 400
        whole = await web.get(path, f"{ANY};transfer-syntax=*", Range=f"bytes={'9' * 5000}-")
        assert whole.status == 200
        assert described.data in whole.body


@pytest.mark.proves("SEC-3", part="requests for images of one user")
async def test_who_asks_without_reading_leaves_others_their_turn(ingest: Ingest) -> None:
    sent = a_ct(pixels=bytes(24 << 20))
    case_id = await a_case(ingest, sent)
    path = path_of(case_id, sent)
    ingest.access.decisions["grace", case_id] = ingest.access.decisions[READER, case_id]
    token = f"Bearer {ingest.token(READER)}"
    web = Web(ingest)
    slow: list[HTTPSConnection] = []

    def ask_and_not_read() -> HTTPSConnection:
        connection = web.connection()
        connection.request(
            "GET", path, headers={"Authorization": token, "Accept": f"{ANY};transfer-syntax=*"}
        )
        connection.sock.recv(1)  # it is under way
        return connection

    try:
        slow += [await asyncio.to_thread(ask_and_not_read) for _ in range(TURNS)]
        refused = await web.get(f"{path}/metadata")
        assert (refused.status, "retry-after" in refused.headers) == (429, True)
        assert (await Web(ingest, login="grace").get(f"{path}/metadata")).status == 200
    finally:
        for each in slow:
            each.close()


@pytest.mark.proves("SEC-5", part="a deflated data set, by DICOMweb")
async def test_what_inflates_to_more_than_is_held_is_not_shown(ingest: Ingest) -> None:
    small = sized(a_uid(), {0x0028_0010: ("US", b"\1\0")})
    noise, nothing = os.urandom(2 << 20), bytes(MAX_INFLATED_BYTES)  # reception takes it up to 100 : 1
    packer = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    head = small.data[: small.data.rindex(PIXELS)] + PIXELS + pack("<L", len(noise) + len(nothing))
    data = b"".join(map(packer.compress, (head, noise, nothing))) + packer.flush()
    sent = replace(
        small, data=data + bytes(len(data) % 2), transfer_syntax_uid=DeflatedExplicitVRLittleEndian
    )
    case_id = await a_case(ingest, sent)
    web, path = Web(ingest), path_of(case_id, small)
    assert (await web.get(f"{path}/frames/1", FRAMES)).status == 503
    assert (await web.get(f"{path}/metadata")).status == 200
    assert (await web.get(path, "application/dicom;transfer-syntax=*")).body.endswith(sent.data)


@contextmanager
def nothing(request: Request) -> Iterator[Response]:
    yield Response(204)


def test_silent_strangers_give_way(pki: Pki) -> None:
    room = Room(handshakes=4, connections=4)
    served = Edge("127.0.0.1:0", nothing, contexts=server_contexts(pki.tls("ingest")), room=room)
    address = ("127.0.0.1", served.start())
    silent = [socket.create_connection(address, GIVEN_UP_S) for _ in range(8)]
    context = client_context(pki.tls("bff"))
    context.check_hostname = False
    try:
        with context.wrap_socket(socket.create_connection(address, GIVEN_UP_S)) as web:
            web.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
            assert web.recv(64).startswith(b"HTTP/1.1 413 "), "at once, and not when more could come no more"
    finally:
        for each in silent:
            each.close()
        served.stop()


def test_the_web_may_connect_for_many_browsers_at_the_same_moment(pki: Pki) -> None:
    served = Edge("127.0.0.1:0", nothing, contexts=server_contexts(pki.tls("ingest")))
    address = ("127.0.0.1", served.start())
    context = client_context(pki.tls("bff"))
    context.check_hostname = False
    try:
        with ExitStack() as connections:
            begun = [
                connections.enter_context(socket.create_connection(address, GIVEN_UP_S)) for _ in range(100)
            ]
            for each in begun:
                with context.wrap_socket(each) as web:
                    web.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                    assert web.recv(64).startswith(b"HTTP/1.1 204 ")
    finally:
        served.stop()


async def test_known_peers_have_so_many_places_and_no_more() -> None:
    served = Edge("127.0.0.1:0", nothing, contexts=None, room=Room(connections=1, connections_reserved=0))
    address = ("127.0.0.1", served.start())

    def answer() -> bytes:
        with socket.create_connection(address, GIVEN_UP_S) as web, suppress(ConnectionError):
            web.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            return web.recv(64)
        return b""

    try:
        with socket.create_connection(address, GIVEN_UP_S) as web:
            web.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert web.recv(64).startswith(b"HTTP/1.1 204 ")
            assert await asyncio.to_thread(answer) == b""
        await eventually(lambda: answer() != b"")
    finally:
        served.stop()
