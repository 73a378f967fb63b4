"""The report page in Chromium: by keyboard alone, saved while somebody types, and told what others do."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright, expect

from demo.visitor import launched
from local.embedded import EmbeddedServers
from local.pki import Pki
from tests.chromium import NEEDS_CHROMIUM, tell_errors
from tests.databases import Databases
from tests.reporting.system import ALL, give
from tests.wait import eventually
from tests.web.browser import COOKIE
from tests.web.reading import Reading, reading
from wire.access.v1 import access_pb2

pytestmark = [
    pytest.mark.drill,
    pytest.mark.asyncio(loop_scope="module"),
    NEEDS_CHROMIUM,
]


@dataclass
class Desks:
    """Browsers of people at their desks."""

    ward: Reading
    browser: Browser
    errors: list[str] = field(default_factory=list)

    async def at(self, login: str, session: str = "") -> Page:
        """A new window of this person's session, on the report of the case."""
        seen = await self.ward.at(login, session)
        context = await self.browser.new_context(viewport={"width": 1280, "height": 800})
        await context.add_cookies(
            [
                {
                    "name": COOKIE,
                    "value": seen.secret,
                    "url": self.ward.origin.replace("http:", "https:"),
                    "secure": True,
                }
            ]
        )
        page = await context.new_page()
        await tell_errors(page, self.errors)
        await page.goto(self.ward.origin + self.ward.path)
        return page

    async def locked(self, login: str) -> Page:
        """The same, on which this person has locked the case by a key, and may write."""
        page = await self.at(login)
        await expect(page.get_by_role("button", name="Lock and write")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.get_by_label("Text of the report")).to_be_focused()
        return page

    async def listed(self, login: str) -> list[str]:
        """The cases of this person's worklist, which they look at."""
        seen = await (await self.ward.at(login)).get("/")
        return list(dict.fromkeys(re.findall(r'/cases/([0-9a-f-]{36})"', seen.text)))

    async def drafts(self) -> list[str]:
        return [each.text for each in (await self.ward.reports("lind")).drafts]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hospital(
    servers: EmbeddedServers, clones: Databases, pki: Pki, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Reading]:
    async with reading(servers, clones.make, pki, tmp_path_factory.mktemp("web")) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def desks(hospital: Reading) -> AsyncIterator[Desks]:
    hospital.browsers.clear()
    await hospital.another_case()
    async with async_playwright() as playwright:
        browser = await launched(playwright)
        made = Desks(hospital, browser)
        yield made
        await browser.close()
    # A refusal that a script is told is an answer of 4xx, which Chromium calls an error of the network.
    assert [] == [each for each in made.errors if "the server responded with a status of 4" not in each]


@pytest.mark.proves("REP-18", part="by keyboard alone")
async def test_a_report_is_locked_written_and_completed_by_keyboard_alone(desks: Desks) -> None:
    await desks.ward.another_case()  # which is on top of the list, and leads to this one
    case_ids = await desks.listed("vos")
    desks.ward.case_id = case_ids[0]
    page = await desks.at("vos")
    keys = page.keyboard

    await expect(page.get_by_role("button", name="Lock and write")).to_be_focused()
    await keys.press("Enter")
    await expect(page.get_by_label("Text of the report")).to_be_focused()
    await keys.type("6 mm nodule, right upper lobe")
    await expect(page.locator("[data-told]")).to_contain_text("Saved at")
    assert ["6 mm nodule, right upper lobe"] == await desks.drafts()
    await keys.type("; follow up in a year.")
    await keys.press("Control+s")
    await expect(page.get_by_text("Your draft is saved.")).to_be_visible()
    await keys.press("Control+Enter")

    await expect(page.get_by_text("The report is signed.")).to_be_visible()
    await keys.press("n")
    await expect(page).to_have_url(f"{desks.ward.origin}/cases/{case_ids[1]}/report")
    await expect(page.get_by_role("button", name="Lock and write")).to_be_focused()
    [report] = (await desks.ward.reports("okafor")).reports
    assert "6 mm nodule, right upper lobe; follow up in a year." == report.text


async def test_who_else_opens_the_case_is_told_where_it_is_open(desks: Desks) -> None:
    lind = await desks.at("lind")
    page = await desks.at("vos")
    await expect(page.get_by_text("Also open for Dr Lind")).to_be_visible()
    await lind.close()

    async def alone() -> bool:
        await page.reload()
        return not await page.get_by_text("Also open for").count()

    await eventually(alone)


async def test_what_was_typed_is_there_when_the_tab_is_closed(desks: Desks) -> None:
    page = await desks.locked("vos")
    await page.keyboard.type("nodule")
    await page.close()

    async def saved() -> bool:
        return ["nodule"] == await desks.drafts()

    await eventually(saved)


@pytest.mark.proves("A37", part="taken over, seen from both sides in browsers")
async def test_a_lock_that_is_taken_over_is_told_where_somebody_still_types(desks: Desks) -> None:
    here = await desks.locked("vos")
    await here.keyboard.type("first desk")
    await expect(here.locator("[data-told]")).to_contain_text("Saved at")
    there = await desks.at("vos", "another")
    await expect(there.get_by_text("You hold the lock in another session of yours")).to_be_visible()
    await there.get_by_role("button", name="Take over and write here").press("Enter")
    await expect(there.get_by_label("Text of the report")).to_have_value("first desk")
    await there.keyboard.type("second desk, ")

    await expect(there.locator("[data-told]")).to_contain_text("Saved at")
    await here.keyboard.type(", more")
    await expect(here.locator("[data-told]")).to_contain_text("another session of yours")
    await expect(here.get_by_label("Text of the report")).to_have_value("first desk, more")
    kept = [each.text for each in (await desks.ward.reports("vos")).drafts if each.beside]
    assert (["second desk, first desk"], ["first desk, more"]) == (await desks.drafts(), kept)


@pytest.mark.proves("BEY-15", part="in a browser")
async def test_a_privilege_that_lapses_while_somebody_types_is_told_and_what_they_typed_is_kept(
    desks: Desks,
) -> None:
    ward, vos = desks.ward, desks.ward.users["vos"]
    page = await desks.locked("vos")
    await page.keyboard.type("nodule")
    await expect(page.locator("[data-told]")).to_contain_text("Saved at")
    await give(ward.system.access, vos, ward.facility_id, access_pb2.LEVEL_VIEW)

    await page.keyboard.type(", 4 mm")
    await expect(page.locator("[data-told]")).to_contain_text("for you alone to see; your lock has ended")
    await expect(page.get_by_label("Text of the report")).to_have_value("nodule, 4 mm")
    kept = [each.text for each in (await ward.reports("vos")).drafts if each.author_only]
    assert (["nodule"], ["nodule, 4 mm"]) == (await desks.drafts(), kept)

    await give(ward.system.access, vos, ward.facility_id, access_pb2.LEVEL_REPORT, ALL[:3])
    await page.reload()
    await page.get_by_role("button", name="Lock and write").press("Enter")
    await page.get_by_role("link", name="Go on with this text").press("Enter")
    await expect(page.get_by_label("Text of the report")).to_have_value("nodule, 4 mm")


async def test_two_windows_of_one_session_never_overwrite_each_other(desks: Desks) -> None:
    first = await desks.locked("vos")
    second = await desks.at("vos")
    await first.keyboard.type("one")
    await expect(first.locator("[data-told]")).to_contain_text("Saved at")
    await second.keyboard.type("two")

    await expect(second.locator("[data-told]")).to_contain_text("saved by another page or session")
    await second.keyboard.press("Control+s")
    await expect(second.get_by_label("Text of the report")).to_have_value("two")
    await expect(second.get_by_text("Go on with this text").first).to_be_visible()
    assert ["one"] == await desks.drafts()
