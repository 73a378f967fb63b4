"""The HTTP edge: what a request must pass, who answers it, and how the answer leaves.

In this order: the host is ours, an act comes from a page of ours (CSRF), the cookie names a session, the
route's need is met, the form carries the session's token. Then the page function is asked, and its value
rendered.
"""

import asyncio
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from aiohttp import web

from kernel.clock import Clock
from kernel.errors import Denied, Exhausted, Invalid, NotFound, ReadroomError, Unauthenticated, Unavailable
from plumbing import log, status, telemetry
from web import errors, headers, signing
from web.asked import Asked, Data, File, House, News, Page, Redirect, Stream, Whole
from web.domain import Preferences, Session
from web.entrance import LASTS as WAY_LASTS
from web.rendering import Rendering
from web.routes import Needs, Route
from web.session import COOKIE, form_token
from web.tokens import acting
from web.viewerhost import ViewerHost

TOKEN_FIELD = "token"  # noqa: S105  the name of a field
"""The field of each form that carries the session's token."""

WAY_COOKIE = "__Host-rr-way"
"""Of a browser whose person is on their way through the provider, which sends them back: it is `Lax`."""

TEXT_FIELD = "text"
"""The field with what somebody wrote, of the forms that have one."""

_MAX_BODY_BYTES = 64 << 10
_MAX_FIELDS = 50
_BODY_WITHIN_S = 10.0
_TAKEN_WITHIN_S = 5.0
"""Of a stream: a browser that takes nothing for so long is left, and asks again."""

_SAFE = {"GET", "HEAD"}
_FORM = "application/x-www-form-urlencoded"

_log = log.get()


@dataclass(frozen=True, slots=True)
class Edge:
    """Serves the routes.

    Attributes:
        origin: the one that browsers know us by, such as `https://readroom.example.org`.
        viewer: the host beside it; None: there is none.
    """

    house: House
    routes: Sequence[Route]
    rendering: Rendering
    origin: str
    clock: Clock
    viewer: ViewerHost | None = None

    def application(self) -> web.Application:
        app = web.Application(client_max_size=_MAX_BODY_BYTES, middlewares=[self._answered])
        for route in self.routes:
            app.router.add_route(route.method, route.path, self._handler(route))
        app.router.add_get("/static/{name}", self._asset)
        app.on_response_prepare.append(self._hardened)
        return app

    @property
    def of_refusals(self) -> Mapping[str, str]:
        """Headers of an answer to what is no request."""
        return {**headers.VIEWER_ANSWER, **headers.PAGE, **self._encrypted}

    @property
    def _encrypted(self) -> Mapping[str, str]:
        return headers.ENCRYPTED if self.origin.startswith("https:") else {}

    async def _hardened(self, request: web.Request, response: web.StreamResponse) -> None:
        """Every answer has the headers, also one that no page gave."""
        viewers = self.viewer is not None and self.viewer.is_asked(request)
        ours = headers.VIEWER_ANSWER if viewers else headers.EVERY_ANSWER
        response.headers.update({**ours, **response.headers})
        response.headers.popall("Server", None)
        response.headers.update(self._encrypted)
        if "Cache-Control" not in response.headers:
            response.headers.update(headers.PAGE)

    @web.middleware
    async def _answered(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Whatever happens, a page says it; a request is one line of the log and one observation."""
        began, word = time.perf_counter(), "ok"
        resource = request.match_info.route.resource
        method = f"{request.method if resource else '?'} {resource.canonical if resource else '?'}"
        if self.viewer is not None and self.viewer.is_asked(request):
            return await self.viewer.answer(request)
        try:
            response: web.StreamResponse = await handler(request)
        except web.HTTPException as refused:
            known = refused.status in (404, 405)
            word = "NotFound" if known else "Invalid"
            response = self._said(errors.TOLD[NotFound] if known else errors.TOLD[Invalid], "")
            if not known:
                response.set_status(refused.status)
        except Exception as error:
            said = status.word(error)
            word = type(said).__name__ if said else "Unexpected"
            if said is None:
                _log.exception("unexpected error")
            response = self._failed(said)
        seconds = time.perf_counter() - began
        telemetry.CALLS.labels(method, word).observe(seconds)
        _log.info("served", method=method, word=word, status=response.status, ms=round(seconds * 1000, 2))
        return response

    def _handler(self, route: Route) -> Any:
        async def handle(request: web.Request) -> web.StreamResponse:
            if request.host != urlsplit(self.origin).netloc:
                raise web.HTTPMisdirectedRequest
            if request.method in _SAFE:
                return await self._answer(route, request)
            if not route.by_provider:
                self._require_a_page_of_ours(request)
            sized = request.clone(client_max_size=route.body_bytes)
            try:
                return await self._answer(route, sized)
            except (Unauthenticated, Denied, Unavailable) as refused:
                if route.rescue is None:
                    raise
                return await self._given_back(sized, refused)

        return handle

    def _require_a_page_of_ours(self, request: web.Request) -> None:
        """Refuses an act that another page sends, also one of another host of the same site (CSRF)."""
        site = request.headers.get("Sec-Fetch-Site")
        ours = site == "same-origin" if site is not None else request.headers.get("Origin") == self.origin
        if not ours:
            raise Denied("this came from a page of another site: open the page here and try again")

    async def _answer(self, route: Route, request: web.Request) -> web.StreamResponse:
        secret = request.cookies.get(COOKIE, "")
        session = await self.house.sessions.find(secret) if secret else None
        now = self.clock.now()
        if route.needs is not Needs.NOBODY and session is None:
            return self._sign_in_first(request)
        if route.needs is Needs.PERSON and session is not None:
            if session.is_locked(now, self.house.lock_after):
                told = await self._rescued(route, request, session, secret, now)
                return self._rendered(signing.locked(told), session, secret, Preferences(), now)
            session = await signing.still_valid(self.house, session, now)
            if session is None:
                return self._sign_in_first(request)
        form = await _form(request) if request.method not in _SAFE else {}
        if route.needs is not Needs.NOBODY and request.method not in _SAFE and not _is_of(secret, form):
            raise Denied("this page is older than your session: load it again")
        is_person = not route.by_script or bool(form.get("typed"))
        if route.needs is Needs.PERSON and session is not None and is_person:
            await self.house.sessions.use(session)
        asked = self._asked(request, form, session, now)
        with acting(session if route.needs is Needs.PERSON else None):
            preferences = await self._preferences(session)
            answer = await route.handler(asked)
            if isinstance(answer, Stream):
                return await self._streamed(request, answer)
            if isinstance(answer, File):
                return await self._saved(request, answer)
        return self._rendered(answer, session, secret, preferences, now)

    def _asked(
        self, request: web.Request, form: Mapping[str, str], session: Session | None, now: datetime
    ) -> Asked:
        address, browser = request.remote or "?", request.cookies.get(WAY_COOKIE, "")
        return Asked(self.house, request.match_info, form, request.query, address, session, now, browser)

    async def _rescued(
        self, route: Route, request: web.Request, session: Session, secret: str, now: datetime
    ) -> str:
        """Saves what was written until the session was locked; says what became of it, and shows nothing."""
        if route.rescue is None or request.method in _SAFE:
            return ""
        form = await _form(request)
        if not _is_of(secret, form) or not form.get(TEXT_FIELD, "").strip():
            return ""
        try:
            with acting(session):
                await route.rescue(self._asked(request, form, session, now))
        except ReadroomError as refused:
            return refused.sentence
        return "what you had written was saved as your draft"

    async def _given_back(self, request: web.Request, refused: ReadroomError) -> web.StreamResponse:
        """A form that was refused, with what somebody wrote in it: sent again, it counts."""
        form = await _form(request)
        if not form.get(TEXT_FIELD, "").strip():
            raise refused
        secret = request.cookies.get(COOKIE, "")
        said = errors.told(refused)
        values = {
            "said": said,
            "why": refused.sentence if said.says_why else "",
            "fields": {name: value for name, value in form.items() if name not in (TOKEN_FIELD, TEXT_FIELD)},
            "text_field": TEXT_FIELD,
            "written": form[TEXT_FIELD],
            "to": request.path,
            "token": form_token(secret) if secret else "",
            "session": None,
            "preferences": Preferences(),
        }
        return _html(self.rendering.page("given_back.html", values), said.status)

    async def _preferences(self, session: Session | None) -> Preferences:
        if session is None:
            return Preferences()
        async with self.house.database.statements() as tx:
            return await tx.preferences_of(session.person.user_id)

    def _sign_in_first(self, request: web.Request) -> web.StreamResponse:
        if request.method in _SAFE:
            to = signing.back_to(request.path)
            return web.Response(status=303, headers={"Location": f"/sign-in?to={to}" if to else "/sign-in"})
        raise Unauthenticated("nobody is signed in")

    def _rendered(
        self, answer: Whole, session: Session | None, secret: str, preferences: Preferences, now: Any
    ) -> web.StreamResponse:
        match answer:
            case Page(template, values, code, forgets):
                viewer = self.house.viewer_origin if forgets else ""
                around = {
                    "forgotten_by": f"{viewer}/forget/{forgets}" if viewer else "",
                    "session": session,
                    "token": form_token(secret) if session else "",
                    "preferences": preferences,
                    "now": now,
                    "by_provider": self.house.entrance is not None,
                }
                page = _html(self.rendering.page(template, {**around, **values}), code)
                page.headers.update(headers.with_images_of(viewer) if viewer else {})
                return page
            case Data(said, code):
                return web.json_response(dict(said), status=code)
            case News():
                return web.json_response(self._news(answer))
            case Redirect(to, new_secret, signs_out, browser):
                response = web.Response(status=303, headers={"Location": to})
                if browser:
                    response.set_cookie(
                        WAY_COOKIE,
                        browser,
                        path="/",
                        secure=True,
                        httponly=True,
                        samesite="Lax",
                        max_age=int(WAY_LASTS.total_seconds()),
                    )
                if new_secret:
                    response.set_cookie(
                        COOKIE, new_secret, path="/", secure=True, httponly=True, samesite="Lax"
                    )
                if signs_out:
                    response.del_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="Lax")
                    response.headers.update(headers.SIGNED_OUT)
                return response

    def _news(self, news: News) -> dict[str, Any]:
        parts = {key: self.rendering.part(each.template, each.values) for key, each in news.parts.items()}
        return {**news.values, "parts": parts} if parts else dict(news.values)

    async def _streamed(self, request: web.Request, stream: Stream) -> web.StreamResponse:
        """Sends news as they come, until there are no more, or nobody takes them. What is refused at once is
        answered like any page."""
        response = web.StreamResponse(headers=headers.STREAM)
        async with aclosing(stream.news) as news:
            first = await anext(news)
            await response.prepare(request)
            with suppress(ConnectionError, TimeoutError):
                try:
                    await self._tell(response, first)
                    async for each in news:
                        await self._tell(response, each)
                except (ConnectionError, TimeoutError):
                    raise
                except Exception as error:
                    if not isinstance(error, ReadroomError):
                        _log.exception("unexpected error")
                    await self._tell(response, News({"end": "away"}))
        return response

    async def _saved(self, request: web.Request, file: File) -> web.StreamResponse:
        """Sends a file; what is refused before its first part is answered like any page."""
        response = web.StreamResponse(headers=headers.saved_as(file.name, file.content_type))
        async with aclosing(file.parts) as parts:
            first = await anext(parts, b"")
            await response.prepare(request)
            try:
                await response.write(first)
                async for part in parts:
                    await response.write(part)
            except (ReadroomError, ConnectionError):
                if request.transport:
                    request.transport.abort()
        return response

    async def _tell(self, response: web.StreamResponse, news: News) -> None:
        line = json.dumps(self._news(news), ensure_ascii=False, separators=(",", ":"))
        async with asyncio.timeout(_TAKEN_WITHIN_S):
            await response.write(f"{line}\n".encode())

    def _failed(self, error: ReadroomError | None) -> web.Response:
        said = errors.told(error) if error else errors.UNEXPECTED
        return self._said(said, error.sentence if error and said.says_why else "")

    def _said(self, said: errors.Told, why: str) -> web.Response:
        values = {"said": said, "why": why, "session": None, "preferences": Preferences(), "token": ""}
        response = _html(self.rendering.page("error.html", values), said.status)
        if said.status in errors.RETRY_AFTER_S:
            response.headers["Retry-After"] = str(errors.RETRY_AFTER_S[said.status])
        return response

    async def _asset(self, request: web.Request) -> web.StreamResponse:
        asset = self.rendering.assets.get(request.match_info["name"])
        if asset is None:
            raise web.HTTPNotFound
        return web.Response(body=asset.content, content_type=asset.content_type, headers=headers.ASSET)


def _is_of(secret: str, form: Mapping[str, str]) -> bool:
    """Whether the form was made for the session of this cookie."""
    return hmac.compare_digest(form.get(TOKEN_FIELD, "").encode(), form_token(secret).encode())


async def _form(request: web.Request) -> Mapping[str, str]:
    """The fields of the form; raises Invalid for what is none, or holds what nobody types."""
    if request.content_type != _FORM:
        raise Invalid("send the fields of a form (application/x-www-form-urlencoded)")
    try:
        async with asyncio.timeout(_BODY_WITHIN_S):
            body = await request.read()
        fields = dict(
            parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="strict")
        )
    except TimeoutError:
        raise Exhausted("the form took too long to come") from None
    except ValueError:
        raise Invalid("the form is not written in UTF-8, or has too many fields") from None
    if any("\0" in value for value in fields.values()):
        raise Invalid("a field holds a control character: type the text again")
    return fields


def _html(text: str, code: int) -> web.Response:
    return web.Response(text=text, status=code, content_type="text/html", charset="utf-8")
