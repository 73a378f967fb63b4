"""What somebody writes in their browser outlives reporting, the web and the browser, killed one by one."""

import asyncio
from pathlib import Path

import pytest
from playwright.async_api import Locator, Page, async_playwright, expect

from demo.cast import MARSH, VOS
from demo.visitor import launched
from demo.world import World
from tests.chromium import NEEDS_CHROMIUM
from tests.e2e.test_journey import small
from tests.e2e.test_reading import arrived
from tests.e2e.test_web import signed_in
from tests.wait import eventually
from tests.web.browser import COOKIE
from wire.reporting.v1.reporting_pb2 import ListReportsRequest

pytestmark = [
    pytest.mark.drill,
    NEEDS_CHROMIUM,
]

_SAVED_MS = 30_000


async def test_what_is_written_outlives_kills_of_reporting_the_web_and_the_browser(
    world: World, readers: None, tmp_path: Path
) -> None:
    case = await arrived(world, small("kills-in-the-web", "MS44"), tmp_path)
    path = f"{world.endpoints.pages}/cases/{case.case_id}/report"

    async def drafts() -> list[str]:
        marsh = await world.acting_as(MARSH.login)
        written = await marsh.reporting.ListReports(ListReportsRequest(case_id=case.case_id))
        return [each.text for each in written.drafts]

    async with signed_in(world, VOS.login) as seen, async_playwright() as playwright:
        browser = await launched(playwright)
        context = await browser.new_context()
        origin = world.endpoints.pages.replace("http:", "https:")
        await context.add_cookies([{"name": COOKIE, "value": seen.secret, "url": origin, "secure": True}])
        page = await context.new_page()
        await page.goto(path)
        await expect(page.get_by_role("button", name="Lock and write")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.get_by_label("Text of the report")).to_be_focused()
        await page.keyboard.type("one")
        await expect(_told(page)).to_contain_text("Saved at")

        text = "one"
        for victim in ("reporting", "web"):
            await asyncio.to_thread(world.system.kill_service, victim)
            text += f", after {victim}"
            await page.keyboard.type(f", after {victim}")
            await expect(_told(page)).to_contain_text("Readroom does not answer", timeout=_SAVED_MS)
            await asyncio.to_thread(world.system.start_service, victim)
            await expect(_told(page)).to_contain_text("Saved at", timeout=_SAVED_MS)
            assert [text] == await drafts()

        await page.keyboard.type(", and the browser")
        await expect(_told(page)).to_contain_text("Saved at")

        async def saved() -> bool:
            return [f"{text}, and the browser"] == await drafts()

        await eventually(saved)
        await browser.close()

        again = await seen.get(f"/cases/{case.case_id}/report")
        assert f"{text}, and the browser" in again.text


def _told(page: Page) -> Locator:
    return page.locator("[data-told]")
