"""Pages in Chromium: which tests need it, and what a page tells of its errors."""

import os

import pytest
from playwright.async_api import BrowserContext, Page

from demo.visitor import CHROMIUM

NEEDS_CHROMIUM = pytest.mark.skipif(
    CHROMIUM is None and "READROOM_TESTS_NEED_PEERS" not in os.environ,
    reason="chromium is not installed: `make debian` installs it",
)

_TELL_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", event =>
  console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`))
"""


async def tell_errors(page: Page, errors: list[str]) -> None:
    """Adds what goes wrong on the page: errors of scripts and of the console, breaches of the policy."""
    await page.add_init_script(_TELL_VIOLATIONS)
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))


async def tell_errors_of_all(browser: BrowserContext, errors: list[str]) -> None:
    """As `tell_errors`, of every page that this browser opens."""
    await browser.add_init_script(_TELL_VIOLATIONS)
    browser.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    browser.on("weberror", lambda error: errors.append(str(error.error)))
