"""Images pass through the web as they come, and no longer than a browser takes them and its session counts.

What is asked is the edge that ingest has, over mutual TLS, with answers of the test.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from aiohttp import ClientError, ClientResponse, ClientSession, DummyCookieJar, TCPConnector

from local.pki import Pki
from plumbing.edge import Edge
from plumbing.responses import Flow, Request, Response
from plumbing.tls import server_contexts
from tests.web.conftest import Web, running
from tests.web.viewer import Viewer
from web.passing import _PIECE_BYTES, AT_ONCE_OF_A_PERSON
from web.session import digest
from web.viewing import BROWSER_COOKIE

WITHIN_S = 5.0
PIECE = bytes(_PIECE_BYTES)
LONG = 400
"""Pieces; 100 MiB, more than all buffers between hold."""
AT_ONCE = 384
"""More than may wait for a connection."""
PATH = f"/dicomweb/cases/{uuid4()}/studies/1.2"


@dataclass
class Images:
    """Answers that the test gives."""

    asked: list[Request] = field(default_factory=list)
    sent: int = 0
    ended: threading.Event = field(default_factory=threading.Event)
    breaks_after: int = LONG
    goes_on: threading.Event | None = None
    response: Response | None = None

    @contextmanager
    def handle(self, request: Request) -> Iterator[Response]:
        self.asked.append(request)
        yield self.response or Response(200, "image/x", [Flow(self._open, 0, LONG * len(PIECE))], tag="t")

    @contextmanager
    def _open(self, _offset: int, length: int) -> Iterator[Iterator[bytes]]:
        def pieces() -> Iterator[bytes]:
            for _ in range(min(self.breaks_after, -(-length // len(PIECE)))):
                self.sent += 1
                yield PIECE[:length]
                if self.goes_on:
                    self.goes_on.wait(WITHIN_S)

        try:
            yield pieces()
        finally:
            self.ended.set()


@pytest.fixture
def images() -> Images:
    return Images()


@pytest.fixture
async def web(
    fresh_database: Callable[[str], str], pki: Pki, tmp_path: Path, images: Images
) -> AsyncIterator[Web]:
    edge = Edge("127.0.0.1:0", images.handle, contexts=server_contexts(pki.tls("ingest")))
    address = f"127.0.0.1:{edge.start()}"
    try:
        async with running(fresh_database, pki, tmp_path, dicomweb_address=address) as web:
            yield web
    finally:
        edge.stop()


@pytest.fixture
async def viewer(web: Web) -> AsyncIterator[Viewer]:
    async with somebodys(web, "vos") as viewer:
        yield viewer


@asynccontextmanager
async def somebodys(web: Web, login: str) -> AsyncIterator[Viewer]:
    """As many connections as a proxy opens for the browser of this person."""
    session, _ = await web.sessions.begin(await web.a_person(login))
    cookie = {"__Host-rr-viewer": await web.viewing.begin(session)}
    async with ClientSession(cookie_jar=DummyCookieJar(), connector=TCPConnector(limit=0)) as http:
        yield Viewer(http, web.origin, cookie)


async def begun(viewer: Viewer) -> ClientResponse:
    answer = await viewer.answer(PATH)
    assert answer.status == 200
    await answer.content.readexactly(len(PIECE))
    return answer


async def cut(answer: ClientResponse, images: Images) -> None:
    """It ends in time though nobody reads, at ingest too, and not as if it were whole."""
    assert await asyncio.to_thread(images.ended.wait, WITHIN_S)
    with pytest.raises(ClientError):
        await answer.read()
    answer.close()


@pytest.mark.proves("BEY-18", part="through the web in pieces")
async def test_an_answer_passes_in_pieces_and_is_asked_for_no_longer_than_somebody_takes_it(
    viewer: Viewer, images: Images
) -> None:
    answer = await begun(viewer)
    before = 0
    while images.sent > before:  # until what buffers there are are full
        before = images.sent
        await asyncio.sleep(0.2)
    assert images.sent < LONG / 2, "the web holds what nobody takes"
    answer.close()
    assert await asyncio.to_thread(images.ended.wait, WITHIN_S)

    whole = await viewer.get(PATH, Range="bytes=0-9", Accept="a/b", Cookie2="x", Authorization="Basic x")
    assert (whole.status, whole.body, whole.headers["Content-Type"]) == (206, bytes(10), "image/x")
    asked = images.asked[-1]
    assert asked.path == PATH.removeprefix("/dicomweb")
    assert asked.peer.name == "bff"
    assert asked.headers["authorization"].startswith("Bearer ey")
    assert asked.headers.keys() == {"host", "range", "accept", "accept-encoding", "authorization"}


@pytest.mark.proves("A69", part="sessions, through the web")
@pytest.mark.parametrize("ending", ["ended", "locked", "left alone", "nobody's"])
async def test_an_answer_is_cut_when_its_session_does_not_count_any_more(
    web: Web, viewer: Viewer, images: Images, ending: str
) -> None:
    session = await web.viewing.find(viewer.cookies["__Host-rr-viewer"])
    assert session
    answer = await begun(viewer)
    match ending:
        case "ended":
            await web.sessions.end(session, session.session_id)
        case "locked":
            await web.sessions.lock(session)
        case "left alone":
            web.clock.pass_by(timedelta(minutes=31))
            await web.sessions.resolve(session)
        case _:
            web.clock.pass_by(timedelta(hours=13))
    await cut(answer, images)
    told = await viewer.get(PATH)
    gone = ending in ("ended", "nobody's")
    assert (told.status, told.body) == (401, b"ended\n" if gone else b"locked\n")
    assert ("Clear-Site-Data" in told.headers) is gone


async def test_images_that_are_asked_for_at_once_wait_for_no_connection_of_the_database(
    viewer: Viewer, images: Images
) -> None:
    images.response = Response(200, "image/x", [PIECE[:1000]])
    told = await asyncio.gather(*(viewer.get(PATH) for _ in range(AT_ONCE)))
    assert {each.status for each in told} == {200}


async def test_what_breaks_off_at_ingest_breaks_off_in_the_browser(viewer: Viewer, images: Images) -> None:
    images.breaks_after = 3
    answer = await begun(viewer)
    await cut(answer, images)
    images.response = Response(503, "text/plain", [b"later\n"], [("Retry-After", "2"), ("X-Own", "y")])
    told = await viewer.get(PATH)
    assert (told.status, told.body, told.headers["Retry-After"]) == (503, b"later\n", "2")
    assert "X-Own" not in told.headers
    assert told.headers["Content-Security-Policy"].startswith("default-src 'none'")
    images.response = Response(307, "", [], [("Location", "http://evil.example/")])
    told = await viewer.get(PATH)
    assert (told.status, "Location" in told.headers) == (307, False)


async def test_an_answer_that_cannot_go_on_is_never_filled_up_with_another(
    web: Web, viewer: Viewer, images: Images
) -> None:
    answer = await begun(viewer)
    async with web.database.statements() as tx:
        await tx.connection.execute("alter table viewers rename to viewers_elsewhere")
        try:
            assert await asyncio.to_thread(images.ended.wait, WITHIN_S)
        finally:
            await tx.connection.execute("alter table viewers_elsewhere rename to viewers")
    rest = bytearray()
    with suppress(ClientError):
        while piece := await answer.content.readany():
            rest += piece
    assert not rest.strip(b"\0")
    assert len(rest) < (answer.content_length or 0) - len(PIECE)


async def test_a_code_of_a_session_that_was_locked_meanwhile_tells_nothing(web: Web, viewer: Viewer) -> None:
    session = await web.viewing.find(viewer.cookies["__Host-rr-viewer"])
    assert session
    case_id, browser = uuid4(), web.viewing.new_browser()
    code = await web.viewing.code(session, case_id, digest(browser))
    await web.sessions.lock(session)
    viewer.cookies = {BROWSER_COOKIE: browser}

    told = await viewer.get(f"/open/{case_id}?code={code}")
    assert (told.status, told.to) == (303, f"{web.origin}/cases/{case_id}/images?again=1")
    assert not told.cookies


async def test_who_takes_nothing_of_much_keeps_nobody_else_waiting(
    web: Web, viewer: Viewer, images: Images
) -> None:
    images.goes_on, images.breaks_after = threading.Event(), 2
    held = await asyncio.gather(*(begun(viewer) for _ in range(AT_ONCE_OF_A_PERSON)))
    one_more = asyncio.create_task(begun(viewer))
    async with somebodys(web, "lind") as other, asyncio.timeout(WITHIN_S):
        (await begun(other)).close()

    assert not one_more.done()
    assert len(images.asked) == AT_ONCE_OF_A_PERSON + 1
    images.goes_on.set()
    for answer in held:
        answer.close()
    async with asyncio.timeout(WITHIN_S):
        (await one_more).close()
