"""The worklist in Chromium: rows that change by themselves, and what a page says when nothing comes."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Locator, Page, async_playwright, expect

from demo.visitor import launched
from local.embedded import EmbeddedServers
from local.pki import Pki
from tests.chromium import NEEDS_CHROMIUM, tell_errors
from tests.databases import Databases
from tests.reporting.system import a_case
from tests.web.browser import COOKIE
from tests.web.reading import Reading, reading

pytestmark = [
    pytest.mark.drill,
    pytest.mark.asyncio(loop_scope="module"),
    NEEDS_CHROMIUM,
]

LIVE = re.compile("^Live")
ASKED = re.compile("^(Live|Updated)")


@dataclass
class Desk:
    """One person's browser, on their worklist."""

    ward: Reading
    context: BrowserContext
    errors: list[str] = field(default_factory=list)

    async def window(self) -> Page:
        page = await self.context.new_page()
        await tell_errors(page, self.errors)
        await page.goto(self.ward.origin + "/")
        return page

    async def a_case(self) -> str:
        return await a_case(self.ward.system.access, self.ward.facility_id)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ward(
    servers: EmbeddedServers, clones: Databases, pki: Pki, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Reading]:
    async with reading(servers, clones.make, pki, tmp_path_factory.mktemp("web")) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await launched(playwright)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def desk(ward: Reading, chromium: Browser) -> AsyncIterator[Desk]:
    seen = await ward.at("lind")
    context = await chromium.new_context(viewport={"width": 1280, "height": 800})
    url = ward.origin.replace("http:", "https:")
    await context.add_cookies([{"name": COOKIE, "value": seen.secret, "url": url, "secure": True}])
    made = Desk(ward, context)
    yield made
    await context.close()
    # A connection that is cut is an error of the network to Chromium, and an answer of 4xx too.
    assert [] == [each for each in made.errors if not re.search("status of [45]|net::ERR", each)]


def row(page: Page, case_id: str) -> Locator:
    return page.locator(f'tr[data-case="{case_id}"]')


async def test_a_case_that_comes_waits_behind_a_button_and_moves_nothing(desk: Desk) -> None:
    first = await desk.a_case()
    page = await desk.window()
    await expect(page.locator("[data-list=live]")).to_have_text(LIVE)
    await row(page, first).locator("a").focus()
    top = await row(page, first).bounding_box()

    second = await desk.a_case()
    await expect(page.get_by_role("button", name="1 new")).to_be_visible()
    await expect(page.locator("[data-list=said]")).to_have_text("1 new")
    assert await row(page, second).count() == 0
    assert await row(page, first).bounding_box() == top
    await expect(row(page, first).locator("a")).to_be_focused()

    await page.get_by_role("button", name="1 new").press("Enter")
    await expect(row(page, second)).to_be_visible()
    await expect(page.get_by_role("button", name="new")).to_be_hidden()
    assert await page.locator("tr[data-case]").first.get_attribute("data-case") == second


@pytest.mark.parametrize("where", ["pages", "access"])
async def test_a_stream_that_is_cut_is_said_and_goes_on_with_what_came_meanwhile(
    desk: Desk, where: str
) -> None:
    """As when the web is restarted, or access."""
    wire = desk.ward.to_pages if where == "pages" else desk.ward.to_access
    page = await desk.window()
    await expect(page.locator("[data-list=live]")).to_have_text(LIVE)
    wire.cut()
    lost = re.compile(r"^Not live since \d\d:\d\d")
    await expect(page.locator("[data-list=live]")).to_have_text(lost, timeout=15_000)
    await expect(page.locator("[data-list=said]")).to_have_text(lost)
    await desk.a_case()

    wire.mend()
    await expect(page.locator("[data-list=live]")).to_have_text(LIVE, timeout=25_000)
    await expect(page.get_by_role("button", name="1 new")).to_be_visible()


async def test_eight_windows_of_one_browser_all_go_on(desk: Desk) -> None:
    pages = [await desk.window() for _ in range(8)]
    for page in pages:
        await expect(page.locator("[data-list=live]")).to_have_text(ASKED)
    case_id = await desk.a_case()
    for page in pages:
        await expect(page.get_by_role("button", name="1 new")).to_be_visible(timeout=20_000)
    await pages[-1].goto(f"{desk.ward.origin}/cases/{case_id}")
    await expect(pages[-1]).to_have_title("Case · Readroom")


async def test_a_page_whose_session_is_locked_elsewhere_shows_nothing_any_more(desk: Desk) -> None:
    page = await desk.window()
    await expect(page.locator("[data-list=live]")).to_have_text(LIVE)
    other = await desk.window()
    await other.get_by_role("button", name="Lock").press("Enter")
    await expect(page.get_by_role("heading", name="Locked")).to_be_visible(timeout=10_000)
    assert await page.locator("tr[data-case]").count() == 0
    desk.ward.browsers.clear()
