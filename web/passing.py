"""Images pass from ingest to a browser: asked for under the person's token, and in pieces.

Ingest decides what is shown, and ends an answer when sight ends. So does the web, for what lies in buffers by
then; it ends it too when the login session ends or is locked, and asks for no more once the browser has gone.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from uuid import UUID
from weakref import WeakValueDictionary

import aiohttp
from aiohttp import web
from yarl import URL

from kernel.errors import NotFound, Unavailable
from plumbing import log, status
from plumbing.tls import Contexts
from web.tokens import Mint

_PATH = re.compile(r"/dicomweb(/cases/[0-9a-f-]{36}(?:/[0-9A-Za-z][0-9A-Za-z.,-]*){1,24})", re.ASCII)
"""What of DICOMweb passes: one case and what belongs to it. Ingest says which of these paths there are."""

_ASKED = ("Accept", "Accept-Encoding", "If-None-Match", "If-Range", "Range")
"""Headers of a request that pass."""
_ANSWERED = (
    "Accept-Ranges",
    "Cache-Control",
    "Content-Encoding",
    "Content-Length",
    "Content-Range",
    "Content-Type",
    "ETag",
    "Retry-After",
    "Vary",
    "Warning",
)
"""Headers of an answer that pass."""

_NAME = "ingest.readroom"
"""In its certificate."""

_CONNECT_S = 5.0
_SILENT_S = 75.0
"""Ingest says within 10 s what it will serve, and sends a piece within 60 s."""
_TAKES_S = 60.0
"""A browser that takes nothing for so long is gone."""
_LOOKED_AFTER_EVERY_S = 0.5
_ASKED_AGAIN_EVERY_S = 2.0
"""Whether the session still counts; a person sees within 5 s that it does not."""
_AT_ONCE = 200
"""Answers under way; ingest takes 256 connections. Others wait."""
AT_ONCE_OF_A_PERSON = 24
"""Of these, so that whoever asks for much and reads slowly keeps nobody else waiting. A browser asks for six
at once (HTTP/1.1), behind a proxy for more."""
_PIECE_BYTES = 256 << 10

_log = log.get()


def path_of(raw: str) -> str:
    """What a path asks of ingest; raises NotFound for every other path."""
    if found := _PATH.fullmatch(raw):
        return found[1]
    raise NotFound("there is no such resource")


class Ingest:
    """The DICOMweb edge of ingest, as the web reaches it.

    Args:
        address: `host:port`.
        contexts: show the web's certificate.
    """

    def __init__(self, address: str, contexts: Contexts, http: aiohttp.ClientSession, mint: Mint) -> None:
        self._address = address
        self._contexts = contexts
        self._http = http
        self._mint = mint
        self._turns: WeakValueDictionary[UUID, asyncio.Semaphore] = WeakValueDictionary()

    @staticmethod
    @asynccontextmanager
    async def connected(address: str, contexts: Contexts, mint: Mint) -> "AsyncIterator[Ingest]":
        http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_AT_ONCE),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            read_bufsize=_PIECE_BYTES,
            timeout=aiohttp.ClientTimeout(sock_connect=_CONNECT_S, sock_read=_SILENT_S),
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent"),
        )
        async with http:
            yield Ingest(address, contexts, http, mint)

    @asynccontextmanager
    async def answer(
        self, path: str, query: str, headers: Mapping[str, str], person: UUID
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Its answer to whoever acts now, before the body; raises Unavailable if there is none."""
        turn = self._turns.setdefault(person, asyncio.Semaphore(AT_ONCE_OF_A_PERSON))
        async with turn, self._asked(path, query, headers) as answer:
            yield answer

    @asynccontextmanager
    async def _asked(
        self, path: str, query: str, headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        passed = {name: headers[name] for name in _ASKED if name in headers}
        passed["Authorization"] = f"Bearer {self._mint.token('ingest')}"
        url = URL(f"https://{self._address}{path}{'?' if query else ''}{query}", encoded=True)
        try:
            async with self._http.get(
                url, headers=passed, ssl=self._contexts(), server_hostname=_NAME, allow_redirects=False
            ) as answer:
                yield answer
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            _log.info("ingest gives no answer", kind=type(error).__name__)
            raise Unavailable("ingest does not answer: the images cannot be shown now") from error


async def passed(
    request: web.Request, ingest: Ingest, path: str, person: UUID, must_go_on: Callable[[], Awaitable[None]]
) -> web.StreamResponse:
    """Answers a browser what ingest answers; `must_go_on` raises what ends an answer that is on its way.

    Raises a ReadroomError as long as nothing has been answered. Later an answer only breaks off.
    """
    response = web.StreamResponse()
    copying = asyncio.create_task(_copied(request, ingest, path, person, response))
    watching = asyncio.create_task(_watched(request, must_go_on))
    try:
        await asyncio.wait({copying, watching}, return_when=asyncio.FIRST_COMPLETED)
        await (copying if copying.done() else watching)
        return response
    except Exception as error:
        if not response.prepared:
            raise
        _log.info("an answer broke off", kind=type(error).__name__)
        if request.transport is not None:
            request.transport.abort()
        return response
    finally:
        for task in (copying, watching):
            task.cancel()
        await asyncio.gather(copying, watching, return_exceptions=True)


async def _copied(
    request: web.Request, ingest: Ingest, path: str, person: UUID, response: web.StreamResponse
) -> None:
    query = request.raw_path.partition("?")[2]
    async with ingest.answer(path, query, request.headers, person) as answer:
        response.set_status(answer.status)
        for name in _ANSWERED:
            if name in answer.headers:
                response.headers[name] = answer.headers[name]
        await response.prepare(request)
        while piece := await answer.content.readany():
            async with asyncio.timeout(_TAKES_S):
                await response.write(piece)
        await response.write_eof()


async def _watched(request: web.Request, must_go_on: Callable[[], Awaitable[None]]) -> None:
    """Raises why the answer ends."""
    waited = 0.0
    while request.transport is not None and not request.transport.is_closing():
        await asyncio.sleep(_LOOKED_AFTER_EVERY_S)
        waited += _LOOKED_AFTER_EVERY_S
        if waited >= _ASKED_AGAIN_EVERY_S:
            waited = 0.0
            try:
                await must_go_on()
            except Exception as error:
                if not isinstance(status.word(error), Unavailable):
                    raise
                # Ingest asks too, and ends an answer where nobody knows.
    raise Unavailable("the browser has gone")
