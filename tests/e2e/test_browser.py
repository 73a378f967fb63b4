"""The pages in Chromium: by keyboard alone, without an error of the console, and within the window."""

import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page, async_playwright, expect

from demo.cast import ADMIN, CENTRAL, VOS
from demo.visitor import launched
from demo.world import World
from readroom import names
from tests.chromium import NEEDS_CHROMIUM, tell_errors
from tests.e2e.test_journey import seen, send, small
from wire.access.v1.identity_pb2 import InviteRequest

PASSWORD = "correct horse battery"
SIZES = ((1280, 800), (1920, 1000))

pytestmark = [
    pytest.mark.drill,
    NEEDS_CHROMIUM,
]


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    """A page that has no mouse; a test fails if its console tells of an error."""
    errors: list[str] = []
    async with async_playwright() as playwright:
        browser = await launched(playwright)
        opened = await browser.new_page(viewport={"width": 1280, "height": 800})
        await tell_errors(opened, errors)
        yield opened
        await browser.close()
    # Chromium calls the answer 401 of a locked page an error of the network.
    assert [] == [each for each in errors if "status of 401" not in each]


async def _tab_to(page: Page, name: str) -> None:
    """Goes on by Tab to what has this name, and sees where the focus is at each step."""
    for _ in range(60):
        await page.keyboard.press("Tab")
        focused = await page.evaluate(
            """() => {
                const at = document.activeElement, box = at.getBoundingClientRect();
                const style = getComputedStyle(at);
                return [at.tagName, at.innerText || at.labels?.[0]?.innerText || "",
                        box.width > 0 && style.outlineStyle !== "none"];
            }"""
        )
        if name in focused[1] and len(focused[1]) < len(name) + 20:  # not what holds it among all else
            assert focused[2], f"`{name}` has the focus, and nobody sees it"
            return
    raise AssertionError(f"`{name}` is not reached by Tab")


async def test_a_radiologist_signs_in_finds_a_case_and_leaves_by_keyboard_alone(
    world: World, page: Page, tmp_path: Path
) -> None:
    study = small("keyboard", "MS44")
    await send(world, CENTRAL, study, tmp_path)
    await seen(world, VOS.login, study)
    patient = study.patient_name.partition("^")[0].upper()
    readroom = await world.acting_as(ADMIN)
    user = await names.user(readroom, VOS.login)
    code = (await readroom.identities.Invite(InviteRequest(user_id=user.user_id))).code
    keys = page.keyboard

    await page.goto(f"{world.endpoints.pages}/welcome#{code}")
    await expect(page.locator("input[name=code]")).to_have_value(code)
    assert code not in page.url  # nor in the history
    await keys.type(PASSWORD)
    await keys.press("Tab")
    await keys.type(PASSWORD)
    await keys.press("Enter")
    await expect(page).to_have_title("Worklist · Readroom")

    await _tab_to(page, "Search")
    await keys.type(study.patient_name.replace("^", " "))
    await keys.press("Enter")
    answered = page.locator("input[name=searched]")  # the page that came back, not the one that was left
    await expect(answered).to_have_value(study.patient_name.replace("^", " "))
    assert re.fullmatch(re.escape(world.endpoints.pages) + r"/\?view=[0-9a-f-]{36}", page.url)
    await _tab_to(page, patient)
    await keys.press("Enter")
    await expect(page.get_by_role("heading", name=patient)).to_be_visible()
    assert patient not in (await page.title()).upper()

    await _tab_to(page, "Lock")
    await keys.press("Enter")
    await expect(page.get_by_role("heading", name="Locked")).to_be_visible()
    assert patient not in await page.content()
    await keys.type(PASSWORD)
    await keys.press("Enter")
    await expect(page).to_have_title("Worklist · Readroom")

    await _tab_to(page, "Sign out")
    await keys.press("Enter")
    await expect(page).to_have_title("Sign in · Readroom")
    await page.go_back()
    await expect(page).to_have_title("Sign in · Readroom")
    assert patient not in await page.content()


async def test_no_page_is_wider_than_its_window_in_either_theme(
    world: World, page: Page, tmp_path: Path
) -> None:
    study = small("wide", "MS44")
    await send(world, CENTRAL, study, tmp_path)
    case = await seen(world, VOS.login, study)
    readroom = await world.acting_as(ADMIN)
    user = await names.user(readroom, VOS.login)
    code = (await readroom.identities.Invite(InviteRequest(user_id=user.user_id))).code
    await page.goto(f"{world.endpoints.pages}/welcome#{code}")
    await page.locator("input[name=password]").fill(PASSWORD)
    await page.locator("input[name=again]").fill(PASSWORD)
    await page.keyboard.press("Enter")
    await expect(page).to_have_title("Worklist · Readroom")

    for theme in ("dark", "light"):
        await page.goto(f"{world.endpoints.pages}/profile")
        await page.locator(f"input[value={theme}]").check()
        await page.get_by_role("button", name="Save").click()
        await expect(page.locator("html")).to_have_attribute("data-theme", theme)
        for width, height in SIZES:
            await page.set_viewport_size({"width": width, "height": height})
            for path in ("/", f"/cases/{case.case_id}", "/profile"):
                await page.goto(world.endpoints.pages + path)
                wider = await page.evaluate(
                    "() => [document.documentElement, ...document.querySelectorAll('.scroll')]"
                    ".filter(each => each.scrollWidth > each.clientWidth).length"
                )
                if folder := os.environ.get("READROOM_PICTURES"):
                    name = path.strip("/").partition("/")[0] or "worklist"
                    await page.screenshot(path=f"{folder}/{name}-{theme}-{width}.png")

                assert wider == 0, (theme, width, path)
