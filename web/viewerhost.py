"""The host of the viewer: the program that shows images, and the images; nothing else.

It is a host of its own, so that a hole in the viewer reads what its person may read anyway, and can do
nothing in their name: pages refuse what comes from here, and browsers do not send their cookie here. The
cookie of `viewing.py` is worth a GET below `/dicomweb/`, and a word that its person is at their desk.
"""

import base64
import re
import time
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlencode, urlsplit
from uuid import UUID

from aiohttp import web
from prometheus_client import Histogram

from kernel.clock import Clock
from kernel.errors import Denied, NotFound, ReadroomError, Unauthenticated, code_of
from plumbing import log, status
from plumbing.responses import RETRY_AFTER_S, STATUSES
from web import headers, signing, viewing
from web.asked import House
from web.domain import Session
from web.ohif import PAGE_PATH, Ohif
from web.passing import Ingest, passed, path_of
from web.session import digest, is_secret
from web.tokens import acting
from wire.access.v1.access_pb2 import CheckRequest, DescribeCaseRequest

_CASE = r"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"
_OPEN = re.compile(rf"/open/{_CASE}", re.ASCII)
_ASKED = re.compile(rf"/session/{_CASE}", re.ASCII)
_WHAT = {"open": "open", "session": "session", "dicomweb": "images", "forget": "forget"}
ANSWERED = Histogram(
    "readroom_viewer_seconds",
    "Answers of the viewer's host, by what was asked for and by status",
    ["what", "status"],
    buckets=(0.005, 0.025, 0.1, 0.5, 2.5, 10, 60),
)

_log = log.get()

_BROWSER_LASTS_S = 12 * 3600
_ANSWERED_S = 2.0
"""By access, whether a case is still seen; nobody waits for the answer who does not see images already."""

FORGOTTEN = {"all": headers.SIGNED_OUT, "images": headers.LOCKED}
"""What a browser forgets of this host, once somebody has signed out or locked their session."""

_DOT = base64.b64decode("R0lGODlhAQABAAAAACH5BAEAAAAALAAAAAABAAEAAAICTAEAOw==")
"""An image of one transparent point."""

LOCKED, ENDED = "locked", "ended"
"""What a viewer is told of a session that does not count now."""


@dataclass(frozen=True, slots=True)
class ViewerHost:
    """Answers what is asked of the viewer's host.

    Attributes:
        origin: its address in browsers, such as `https://viewer.readroom.example.org`.
        pages: the one of the pages.
        ingest: where the images are.
        ohif: the viewer itself.
    """

    house: House
    clock: Clock
    origin: str
    pages: str
    ingest: Ingest
    ohif: Ohif

    def is_asked(self, request: web.Request) -> bool:
        return request.host == urlsplit(self.origin).netloc

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """The answer; whatever refuses it says so in a line of text. It is one observation, and no call:
        a viewer asks by itself, and nothing of that is audited here."""
        began = time.perf_counter()
        try:
            response = await self._answer(request)
        except Exception as error:
            said = status.word(error)
            if said is None:
                _log.exception("unexpected error")
            response = _refused(said) if said else web.Response(status=500, text="something went wrong\n")
        first = request.raw_path.lstrip("/").partition("?")[0].partition("/")[0]
        what = _WHAT.get(first, "file")
        ANSWERED.labels(what, str(response.status)).observe(time.perf_counter() - began)
        return response

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        if request.method == "POST" and path == "/session":
            return await self._used(request)
        if request.method != "GET":
            return web.Response(status=HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "GET"})
        if found := _OPEN.fullmatch(path):
            return await self._open(request, UUID(found[1]))
        if found := _ASKED.fullmatch(path):
            return await self._still(request, found[1])
        if path.startswith("/forget/"):
            return _forgotten(path.removeprefix("/forget/"))
        if path.startswith("/dicomweb/"):
            return await self._images(request, path_of(path))
        if (file := self.ohif.answer(path, request.headers)) is not None:
            return file
        raise NotFound("there is no such page")

    async def _open(self, request: web.Request, case_id: UUID) -> web.StreamResponse:
        """Sends a browser to the pages for a code; with a code it gets the cookie, and the viewer opens."""
        browser, code = request.cookies.get(viewing.BROWSER_COOKIE, ""), request.query.get("code")
        images = f"{self.pages}/cases/{case_id}/images"
        if code is None:
            if not is_secret(browser):
                browser = self.house.viewing.new_browser()
            response = _to(f"{images}?browser={digest(browser).hex()}")
            _set(response, viewing.BROWSER_COOKIE, browser, "Lax", _BROWSER_LASTS_S)
            return response
        try:
            session = await self.house.viewing.redeem(code, browser, case_id)
            if session.is_locked(self.clock.now(), self.house.lock_after):
                raise Unauthenticated(LOCKED)
            with acting(session):
                request_ = DescribeCaseRequest(case_id=str(case_id))
                described = await self.house.services.access.DescribeCase(request_)
        except (Unauthenticated, NotFound):
            return _to(f"{images}?again=1")
        asked = {"StudyInstanceUIDs": described.case.study_instance_uid, "case": str(case_id)}
        response = _to(f"{PAGE_PATH}?{urlencode(asked)}")
        known = await self.house.viewing.find(request.cookies.get(viewing.COOKIE, ""))
        if known is None or known.session_id != session.session_id:
            _set(response, viewing.COOKIE, await self.house.viewing.begin(session), "Strict")
        return response

    async def _still(self, request: web.Request, case_id: str) -> web.StreamResponse:
        """Whether a viewer that is open may show the images of its case still."""
        await self._must_see(await self._session(request), case_id)
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def _must_see(self, session: Session, case_id: str) -> None:
        with acting(session):
            request = CheckRequest(case_id=case_id, images=True)
            answer = await self.house.services.access.Check(request, timeout=_ANSWERED_S)
        if not answer.decision.images:
            raise NotFound("there are no images that you may see")

    async def _used(self, request: web.Request) -> web.StreamResponse:
        """The person did something in the viewer."""
        await self.house.sessions.use(await self._session(request))
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def _images(self, request: web.Request, path: str) -> web.StreamResponse:
        session = await self._session(request)
        case_id = path.split("/")[2]

        async def must_go_on() -> None:
            await self._must_see(await self._session(request), case_id)

        with acting(session):
            return await passed(request, self.ingest, path, session.person.user_id, must_go_on)

    async def _session(self, request: web.Request) -> Session:
        """Whose viewer this is; raises Unauthenticated if the session has ended or is locked."""
        if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            raise Denied("this was asked by a page of another origin")
        session = await self.house.viewing.find(request.cookies.get(viewing.COOKIE, ""))
        now = self.clock.now()
        if session is not None and session.is_locked(now, self.house.lock_after):
            raise Unauthenticated(LOCKED)
        if session is not None:
            session = await signing.still_valid(self.house, session, now)
        if session is None:
            raise Unauthenticated(ENDED)
        return session


def _forgotten(what: str) -> web.Response:
    """An image that a page shows nobody: its headers are what it is for, and it needs no session."""
    if what not in FORGOTTEN:
        raise NotFound("there is no such page")
    told = {**headers.PAGE, **FORGOTTEN[what], "Cross-Origin-Resource-Policy": "cross-origin"}
    return web.Response(body=_DOT, content_type="image/gif", headers=told)


def _refused(error: ReadroomError) -> web.Response:
    code = code_of(error, STATUSES)
    response = web.Response(status=code, text=f"{error.sentence}\n")
    if code in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    if isinstance(error, Unauthenticated) and error.sentence == ENDED:
        response.headers.update(headers.SIGNED_OUT)
    return response


def _to(address: str) -> web.Response:
    return web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": address})


def _set(response: web.Response, name: str, secret: str, same_site: str, lasts_s: int | None = None) -> None:
    response.set_cookie(
        name, secret, path="/", secure=True, httponly=True, samesite=same_site, max_age=lasts_s
    )
