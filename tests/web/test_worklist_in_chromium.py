"""The worklist in Chromium: rows that change by themselves, and what a page says when nothing comes."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import asyncpg
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
    secret: str
    errors: list[str] = field(default_factory=list)

    async def window(self) -> Page:
        page = await self.context.new_page()
        await tell_errors(page, self.errors)
        await page.goto(self.ward.origin + "/")
        return page

    async def stay(self) -> None:
        """Access says that the person may still act: here nobody has an identity that it knows."""
        session = await self.ward.sessions.find(self.secret)
        assert session
        await self.ward.sessions.resolve(session)

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
    made = Desk(ward, context, seen.secret)
    await made.stay()
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

    button = row(page, case_id).get_by_role("button")
    await button.click()
    at, beside = await menu.bounding_box(), await button.bounding_box()
    assert at
    assert beside
    assert at["x"] + at["width"] > beside["x"], "the menu opens where one has clicked"
    await page.keyboard.press("Escape")
    await page.keyboard.press("m")
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(f"{desk.ward.origin}/cases/{case_id}")


@pytest.mark.parametrize("desk", ["lind"], indirect=True)
async def test_write_a_report_locks_a_free_case_at_once_and_leads_to_one_that_is_locked(desk: Desk) -> None:
    case_id = await desk.a_case()
    page = await desk.window()
    link = row(page, case_id).locator("a")
    await expect(page.locator(f"tr[data-case='{case_id}'][data-free]")).to_be_visible()
    for _ in ("free", "locked"):
        await link.focus()
        await page.keyboard.press("m")
        await page.keyboard.press("w")
        await page.keyboard.press("Enter")
        await expect(page).to_have_url(f"{desk.ward.origin}/cases/{case_id}/report")
        await expect(page.get_by_text("You hold the lock")).to_be_visible()
        await expect(page.get_by_label("Text of the report")).to_be_focused()
        await page.goto(desk.ward.origin + "/")


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


# Long lists

MANY = 20_000
WALKED_WITHIN_S = 500
"""Of a machine that does other things; one that does not takes a fifth of it."""


async def many_cases(ward: Reading) -> None:
    """Cases of long ago, below all others."""
    connection = await asyncpg.connect(ward.access_url)
    try:
        await connection.execute(
            """
            insert into cases (case_id, facility_id, received_at, study_instance_uid, undistributed,
                placed_at, placement_version, patient_name, patient_id, patient_birth_date, patient_sex,
                study_date, study_time, study_description, accession_number, referring_physician_name,
                modalities_in_study, series_count, instance_count, settled, version, derived, derived_in,
                status_group, status_facility, parts_version)
            select gen_random_uuid(), $2, now() - n * interval '1 minute', '1.2.' || n, false, now(), 1,
                'Doe^' || n, 'P' || n, '', 'F', '20261101', '120000', 'CT CHEST', 'A' || n, 'Roe^Jane',
                '{CT}', 1, 1, true, 1, 1, 1, 'READY_TO_READ', 'READY_TO_READ', 1
            from generate_series(1, $1) as made (n)
            """,
            MANY,
            ward.facility_id,
        )
        await connection.execute("analyze cases")
    finally:
        await connection.close()


_DOWN = """
async last => {
    const frame = document.querySelector(".scroll"), until = Date.now() + 5000;
    const at = window.walked ??= { seen: new Set(), rows: 0, elements: 0 };
    const ended = () => [...document.querySelectorAll("td.id")].some(cell => cell.textContent === last);
    while (!ended() && Date.now() < until) {
        const built = [...document.querySelectorAll("tr[data-case]")];
        built.forEach(row => at.seen.add(row.dataset.case));
        at.rows = Math.max(at.rows, built.length);
        at.elements = Math.max(at.elements, document.querySelectorAll("*").length);
        frame.scrollTop = frame.scrollHeight;
        await new Promise(resolve => setTimeout(resolve, 20));
    }
    document.querySelectorAll("tr[data-case]").forEach(row => at.seen.add(row.dataset.case));
    return [ended(), at.seen.size, at.rows, at.elements];
}
"""


async def further(page: Page) -> str:
    """Goes by keyboard beyond the last case that is built, to the next one; answers its address."""
    await page.keyboard.press("End")
    last = await focused(page).get_attribute("href")
    assert last
    await page.keyboard.press("ArrowDown")
    await expect(page.locator(f'tr a[href="{last}"]')).not_to_be_focused()
    await expect(focused(page)).to_be_in_viewport()
    return await focused(page).get_attribute("href") or ""


async def test_a_list_of_twenty_thousand_cases_is_walked_with_few_rows_built(desk: Desk) -> None:
    await many_cases(desk.ward)
    page = await desk.window()
    frame, links = page.locator(".scroll"), page.locator("tr[data-case] a")
    newest = await links.first.get_attribute("href")

    async def hrefs() -> list[str]:
        found: list[str] = await links.evaluate_all("all => all.map(each => each.getAttribute('href'))")
        return found

    # Down by keyboard, over the end of what is built; up again past what was dropped: the same cases.
    await page.keyboard.press("j")
    down = await hrefs()
    while len(down) < 400:
        await further(page)
        down += [each for each in await hrefs() if each not in set(down)]
    stood = await focused(page).get_attribute("href")
    assert stood in down
    up: list[str] = []
    while newest not in up:
        await frame.evaluate("each => each.scrollBy(0, -600)")
        await page.wait_for_timeout(20)
        assert await focused(page).evaluate("each => each.tagName") == "A", "the focus is lost"
        now = await hrefs()
        up = now + [each for each in up if each not in set(now)]
    assert up == down[: len(up)]

    # To a case far down and back to it.
    for _ in range(12):
        opened = await further(page)
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(f"{desk.ward.origin}{opened}")
    await page.go_back()
    await expect(page.locator(f'tr a[href="{opened}"]')).to_be_focused()
    await expect(page.locator(f'tr a[href="{opened}"]')).to_be_in_viewport()
    await page.keyboard.press("Home")
    await expect(page.locator(f'tr a[href="{newest}"]')).to_be_focused()

    ended, seen, rows, elements = False, 0, 0, 0
    async with asyncio.timeout(WALKED_WITHIN_S):
        while not ended:
            await desk.stay()
            ended, seen, rows, elements = await page.evaluate(_DOWN, f"P{MANY}")
    assert (seen > MANY, rows <= 200, elements < 10_000) == (True, True, True), (seen, rows, elements)


async def test_cases_that_are_chosen_on_several_pages_are_read_one_after_the_other(desk: Desk) -> None:
    page = await desk.window()
    keys = page.keyboard
    await keys.press("j")
    await keys.press("x")
    first = await focused(page).get_attribute("href")
    for _ in range(6):
        second = await further(page)
    await keys.press("Shift+ArrowDown")
    third = await focused(page).get_attribute("href")
    await expect(page.get_by_text("3 chosen")).to_be_visible()
    await page.get_by_role("button", name="Read one after the other").press("Enter")
    await expect(page).to_have_url(f"{desk.ward.origin}{first}")
    await expect(page.get_by_text("1 of 3")).to_be_visible()
    for following in (second, third):
        await page.get_by_role("link", name="Next case").press("Enter")
        await expect(page).to_have_url(f"{desk.ward.origin}{following}/report")


async def test_a_page_whose_session_is_locked_elsewhere_shows_nothing_any_more(desk: Desk) -> None:
    page = await desk.window()
    await expect(page.locator("[data-list=live]")).to_have_text(LIVE)
    other = await desk.window()
    await other.get_by_role("button", name="Lock").press("Enter")
    await expect(page.get_by_role("heading", name="Locked")).to_be_visible(timeout=10_000)
    assert await page.locator("tr[data-case]").count() == 0
    desk.ward.browsers.clear()
