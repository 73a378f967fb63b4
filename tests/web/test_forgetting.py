"""Whoever signs out leaves no image in their browser: the next page has the viewer's host clear it."""

import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from playwright.async_api import Page, async_playwright

from demo.visitor import launched
from local.pki import Pki
from tests.chromium import NEEDS_CHROMIUM, tell_errors
from tests.web.browser import browser
from tests.web.conftest import Web, running
from tests.web.viewer import Viewer

HASHED = "app.bundle.0f6159c501addfe9.js"
CLEARED_BY = re.compile(r'<img src="([^"]+)" alt="" hidden>')


async def test_each_page_that_follows_a_session_has_the_viewers_host_forgotten(web: Web) -> None:
    async with web.signed_in() as page:
        viewer = Viewer(page.http, web.origin)
        assert not CLEARED_BY.search((await page.get("/sign-in")).text), "of a session that goes on"
        locked = await page.post("/lock")
        await page.post("/sign-out")
        page.secret = ""
        for seen, what, cleared in (
            (locked, "images", '"cache"'),
            (await page.get("/sign-in?to=/profile"), "all", '"cache", "storage"'),
        ):
            [address] = CLEARED_BY.findall(seen.text)
            assert address == f"{viewer.origin}/forget/{what}"
            assert f"img-src 'self' {viewer.origin};" in seen.headers["Content-Security-Policy"]
            told = await viewer.get(f"/forget/{what}")
            assert (told.status, told.headers["Clear-Site-Data"]) == (200, cleared)
            assert (told.headers["Cache-Control"], "Location" in told.headers) == ("no-store", False)
        assert (await viewer.get("/forget/cookies")).status == 404
        assert "viewer" not in (await page.get("/welcome")).headers["Content-Security-Policy"]


async def test_without_a_viewer_nothing_is_asked_of_it(
    fresh_database: Callable[[str], str], pki: Pki, tmp_path: Path
) -> None:
    async with (
        running(fresh_database, pki, tmp_path, viewer_origin="") as web,
        browser(web.origin) as page,
    ):
        seen = await page.get("/sign-in")
    assert not CLEARED_BY.search(seen.text)
    assert "img-src 'self';" in seen.headers["Content-Security-Policy"]


@pytest.fixture
async def web_with_files(
    fresh_database: Callable[[str], str], pki: Pki, tmp_path: Path
) -> AsyncIterator[Web]:
    folder = tmp_path / "viewer"
    folder.mkdir()
    (folder / "index.html").write_text(f'<!doctype html><script src="/{HASHED}"></script>')
    (folder / HASHED).write_text("1;" * 1000)
    async with running(fresh_database, pki, tmp_path, viewer_folder=folder) as web:
        yield web


@NEEDS_CHROMIUM
async def test_chromium_forgets_what_it_kept_of_the_viewers_host(web_with_files: Web) -> None:
    errors: list[str] = []
    viewer = web_with_files.origin.replace("localhost", "viewer.localhost")

    async def kept(page: Page) -> bool:
        await page.goto(f"{viewer}/viewer?case=x")
        sent = f"performance.getEntriesByName('{viewer}/{HASHED}').map(each => each.transferSize)"
        [size] = await page.evaluate(sent)
        return bool(size == 0)

    async with async_playwright() as playwright:
        chromium = await launched(playwright)
        page = await chromium.new_page()
        await tell_errors(page, errors)
        assert [await kept(page) for _ in range(2)] == [False, True]

        async with page.expect_response(f"{viewer}/forget/all"):
            await page.goto(f"{web_with_files.origin}/sign-in")
        await page.wait_for_load_state("networkidle")

        assert not await kept(page)
        await chromium.close()
    assert not [each for each in errors if each.startswith("policy")]
