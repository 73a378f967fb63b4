"""Somebody who comes to the pages as anybody does: with an invitation, a password, and a browser."""

import importlib.util
import os
import shutil
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import ClientSession, DummyCookieJar

from demo.cast import ADMIN
from demo.stage import Unproven
from demo.world import World
from wire.access.v1.identity_pb2 import InviteRequest

if TYPE_CHECKING:  # not everybody has it
    from playwright.async_api import Browser, Playwright

CHROMIUM = shutil.which("chromium") if importlib.util.find_spec("playwright") else None
"""The browser of this machine, where it has one that we can drive."""

_AS_A_PAGE_OF_OURS = {"Sec-Fetch-Site": "same-origin"}


async def invited(world: World, login: str) -> str:
    """The code by which this user chooses a password, as an administrator gets it."""
    readroom = await world.acting_as(ADMIN)
    return (await readroom.identities.Invite(InviteRequest(user_id=world.user_ids[login]))).code


async def choose_password(pages: str, code: str, password: str) -> str:
    """Shows the code at the door of the web; answers the cookie of the session that begins."""
    return await _let_in(f"{pages}/welcome", code=code, password=password, again=password)


async def sign_in(pages: str, login: str, password: str) -> str:
    """Signs in by the form; answers the cookie of the session that begins."""
    return await _let_in(f"{pages}/sign-in", login=login, password=password)


async def _let_in(address: str, **form: str) -> str:
    async with (
        ClientSession(cookie_jar=DummyCookieJar()) as http,
        http.post(address, data=form, headers=_AS_A_PAGE_OF_OURS, allow_redirects=False) as answer,
    ):
        if answer.status != HTTPStatus.SEE_OTHER:
            raise Unproven(f"the pages let somebody in: `{address}` answered {answer.status}")
        return answer.headers["Set-Cookie"].partition(";")[0]


async def first_page(pages: str, cookie: str) -> str:
    """What whoever has the cookie is shown first."""
    async with (
        ClientSession(cookie_jar=DummyCookieJar()) as http,
        http.get(f"{pages}/", headers={"Cookie": cookie}, allow_redirects=False) as answer,
    ):
        return await answer.text() if answer.status == HTTPStatus.OK else ""


async def launched(playwright: "Playwright") -> "Browser":
    """This machine's browser; root has no sandbox."""
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    return await playwright.chromium.launch(executable_path=CHROMIUM, args=sandbox)


async def case_in_chromium(pages: str, login: str, password: str, patient: str) -> str:
    """Signs in by the form and opens the case of this patient; answers the heading of its page."""
    from playwright.async_api import async_playwright  # not everybody has it

    async with async_playwright() as playwright:
        browser = await launched(playwright)
        page = await browser.new_page()
        await page.goto(pages)
        await page.locator("input[name=login]").fill(login)
        await page.locator("input[name=password]").fill(password)
        await page.keyboard.press("Enter")
        await page.get_by_role("link", name=patient).click()
        heading = await page.get_by_role("heading", name=patient).inner_text()
        await browser.close()
    return heading
