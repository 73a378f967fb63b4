"""The viewer of a browser without a screen: keeps the cookies of its host, follows no redirect."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import Morsel, SimpleCookie
from urllib.parse import urlsplit

from aiohttp import ClientResponse, ClientSession

from tests.web.browser import Browser


@dataclass(frozen=True, slots=True)
class Told:
    """An answer of the viewer's host."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    cookies: Mapping[str, "Morsel[str]"]

    @property
    def to(self) -> str:
        return self.headers["Location"]


@dataclass
class Viewer:
    """What one browser has of the viewer's host.

    Attributes:
        pages: the address of the pages, on this machine.
    """

    http: ClientSession
    pages: str
    cookies: dict[str, str] = field(default_factory=dict)

    @property
    def host(self) -> str:
        return urlsplit(self.pages).netloc.replace("localhost", "viewer.localhost")

    @property
    def origin(self) -> str:
        return f"http://{self.host}"

    async def answer(self, path: str, method: str = "GET", **headers: str) -> ClientResponse:
        """The answer as it begins."""
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        told = {"Host": self.host, **({"Cookie": cookie} if cookie else {}), **headers}
        return await self.http.request(method, self.pages + path, headers=told, allow_redirects=False)

    async def get(self, path: str, method: str = "GET", **headers: str) -> Told:
        async with await self.answer(path, method, **headers) as answer:
            set_: SimpleCookie = SimpleCookie()
            for each in answer.headers.getall("Set-Cookie", []):
                set_.load(each)
            told = Told(answer.status, await answer.read(), answer.headers, set_)
        self.cookies |= {name: morsel.value for name, morsel in set_.items()}
        return told

    async def opens(self, page: Browser, case_id: str) -> Told:
        """The way of a browser from the case to its images; the last answer names the viewer's page."""
        first = await page.get(f"/cases/{case_id}/images")
        asks = await self.get(first.headers["Location"].removeprefix(self.origin))
        back = await page.get(asks.to.removeprefix(self.pages))
        return await self.get(back.headers["Location"].removeprefix(self.origin))
