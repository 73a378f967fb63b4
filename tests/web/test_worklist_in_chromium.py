"""The worklist in Chromium: rows that change by themselves, and what a page says when nothing comes."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
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
async def desk(ward: Reading, chromium: Browser, request: pytest.FixtureRequest) -> AsyncIterator[Desk]:
    seen = await ward.at(getattr(request, "param", "lind"))
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


# Keys


def focused(page: Page) -> Locator:
    return page.locator(":focus")


async def stands_on(page: Page, case_id: str) -> None:
    """The focus is on this row, and seen."""
    await expect(row(page, case_id).locator("a")).to_be_focused()
    await expect(row(page, case_id).locator("a")).to_be_in_viewport()


async def test_a_list_is_worked_through_by_keyboard_alone(desk: Desk) -> None:
    third, second, first = [await desk.a_case() for _ in range(3)]
    page = await desk.window()
    keys = page.keyboard
    for key, case_id in (
        ("j", first),
        ("j", second),
        ("ArrowDown", third),
        ("k", second),
        ("ArrowUp", first),
        ("ArrowUp", first),
        ("PageDown", None),
        ("Home", first),
        ("n", second),
    ):
        await keys.press(key)
        if case_id:
            await stands_on(page, case_id)
    await keys.press("Tab")
    await expect(row(page, second).locator("a")).not_to_be_focused()
    await keys.press("Shift+Tab")
    await stands_on(page, second)

    await keys.press("Enter")
    await expect(page).to_have_url(f"{desk.ward.origin}/cases/{second}")
    await page.go_back()
    await stands_on(page, second)

    await keys.press("/")
    await expect(page.get_by_role("searchbox")).to_be_focused()
    await keys.type("jn?m")
    await expect(page.get_by_role("searchbox")).to_have_value("jn?m")
    await keys.press("Enter")
    await expect(page.get_by_text("Nothing found")).to_be_visible()
    await page.go_back()
    await expect(row(page, first)).to_be_visible()

    await keys.press("?")
    await expect(page.get_by_role("dialog", name="Keys of the list")).to_be_visible()
    await keys.press("j")
    await keys.press("Escape")
    await expect(page.get_by_role("dialog")).to_be_hidden()


@pytest.mark.proves("WEB-1", part="in the menu of whoever may delete")
@pytest.mark.parametrize(
    ("desk", "acts"),
    [
        ("lind", ["Open", "Open in another window", "Images", "Write a report"]),
        ("okafor", ["Open", "Open in another window"]),
        ("moor", ["Open", "Open in another window", "Images", "Delete this study …"]),
    ],
    indirect=["desk"],
)
async def test_the_menu_of_a_row_holds_what_its_person_may_do(desk: Desk, acts: list[str]) -> None:
    case_id = await desk.a_case()
    page = await desk.window()
    link, menu = row(page, case_id).locator("a"), page.get_by_role("menu")
    ways: list[Callable[[], Awaitable[None]]] = [
        lambda: page.keyboard.press("m"),
        lambda: page.keyboard.press("Shift+F10"),
        lambda: link.click(button="right"),
        lambda: row(page, case_id).get_by_role("button").click(),
    ]
    for opens in ways:
        await link.focus()
        await opens()
        assert await menu.get_by_role("menuitem").all_inner_texts() == acts
        await expect(menu.get_by_role("menuitem", name="Open", exact=True)).to_be_focused()
        await page.keyboard.press("ArrowUp")
        await expect(focused(page)).to_have_text(acts[-1])
        await page.keyboard.press("Escape")
        await expect(menu).to_be_hidden()
        await stands_on(page, case_id)

    await page.keyboard.press("m")
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(f"{desk.ward.origin}/cases/{case_id}")


async def test_who_switches_letters_off_has_the_other_keys(desk: Desk) -> None:
    case_id = await desk.a_case()
    page = await desk.window()
    await page.goto(f"{desk.ward.origin}/profile")
    await page.get_by_label("Single letters act on lists").press("Space")
    await page.get_by_role("button", name="Save").press("Enter")
    await expect(page.get_by_label("Single letters act on lists")).not_to_be_checked()
    await page.goto(f"{desk.ward.origin}/")
    await page.keyboard.press("j")
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog")).to_be_hidden()
    await expect(row(page, case_id).locator("a")).not_to_be_focused()
    await row(page, case_id).locator("a").focus()
    await page.keyboard.press("ArrowDown")
    await expect(row(page, case_id).locator("a")).not_to_be_focused()
    await page.keyboard.press("Home")
    await stands_on(page, case_id)

    await page.goto(f"{desk.ward.origin}/profile")
    await page.get_by_label("Single letters act on lists").press("Space")
    await page.get_by_role("button", name="Save").press("Enter")
    await expect(page.get_by_label("Single letters act on lists")).to_be_checked()


async def test_a_page_whose_session_is_locked_elsewhere_shows_nothing_any_more(desk: Desk) -> None:
    page = await desk.window()
    await expect(page.locator("[data-list=live]")).to_have_text(LIVE)
    other = await desk.window()
    await other.get_by_role("button", name="Lock").press("Enter")
    await expect(page.get_by_role("heading", name="Locked")).to_be_visible(timeout=10_000)
    assert await page.locator("tr[data-case]").count() == 0
    desk.ward.browsers.clear()
