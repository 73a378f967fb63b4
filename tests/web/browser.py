"""A browser without a screen: keeps its cookie, sends forms as a page of ours does, follows no redirect."""

import html
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import ClientSession, DummyCookieJar

COOKIE, WAY_COOKIE = "__Host-rr", "__Host-rr-way"
SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}

_TOKEN = re.compile(r'name="token" value="([0-9a-f]{64})"')


@dataclass(frozen=True, slots=True)
class Seen:
    """An answer."""

    status: int
    text: str
    headers: Mapping[str, str]
    cookies: list[str]

    @property
    def json(self) -> dict[str, str]:
        """What a script is told."""
        said: dict[str, str] = json.loads(self.text)
        return said

    @property
    def words(self) -> str:
        """What a person reads: without markup, blanks as one."""
        body = re.sub(r"<(script|style|title).*?</\1>", " ", self.text, flags=re.DOTALL)
        return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


@dataclass
class Browser:
    """One person's browser.

    Attributes:
        secret: of the cookie; empty without one.
        token: of the forms of the page that was seen last.
        way: of the cookie by which it is known on its way through a provider of identities.
    """

    http: ClientSession
    origin: str
    secret: str = ""
    token: str = ""
    way: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    async def get(self, path: str, **headers: str) -> Seen:
        return await self._ask("GET", path, None, headers)

    async def post(self, path: str, headers: Mapping[str, str] = SAME_ORIGIN, **form: str) -> Seen:
        """Sends a form; it carries the token of the page that was seen last, unless another is given."""
        return await self._ask("POST", path, {"token": self.token, **form}, headers)

    async def _ask(
        self, method: str, path: str, form: Mapping[str, str] | None, headers: Mapping[str, str]
    ) -> Seen:
        cookies = {COOKIE: self.secret, WAY_COOKIE: self.way}
        kept = "; ".join(f"{name}={value}" for name, value in cookies.items() if value)
        cookie = {"Cookie": kept} if kept else {}
        async with self.http.request(
            method, self.origin + path, data=form, headers={**cookie, **headers}, allow_redirects=False
        ) as answer:
            seen = Seen(
                answer.status, await answer.text(), answer.headers, answer.headers.getall("Set-Cookie", [])
            )
        for each in seen.cookies:
            name, _, value = each.split(";")[0].partition("=")
            if name == WAY_COOKIE:
                self.way = value
            else:
                self.secret = value.strip('"')
        if found := _TOKEN.search(seen.text):
            self.token = found[1]
        return seen


@asynccontextmanager
async def browser(origin: str) -> AsyncIterator[Browser]:
    async with ClientSession(cookie_jar=DummyCookieJar()) as http:
        yield Browser(http, origin)
