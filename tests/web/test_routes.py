"""The table of routes: each says what it needs, and nobody comes in without it."""

import re

from tests.web.browser import browser
from tests.web.conftest import Web
from web.routes import ROUTES, Needs, Route

ANYBODY = {"/sign-in", "/welcome", "/sign-in/start", "/sign-in/callback", "/backchannel-logout"}
"""The pages that need nobody. A page is added here on purpose, and never because it is easier."""


def _path(route: Route) -> str:
    return re.sub(r"{\w+}", "01890000-0000-7000-8000-000000000000", route.path)


def test_each_route_says_what_it_needs() -> None:
    assert {type(route.needs) for route in ROUTES} == {Needs}
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)
    assert {route.path for route in ROUTES if route.needs is Needs.NOBODY} == ANYBODY
    assert [route.path for route in ROUTES if route.by_provider] == ["/backchannel-logout"]


async def test_without_a_session_no_page_but_those_of_signing_in_answers(web: Web) -> None:
    async with browser(web.origin) as page:
        page.secret = "A" * 43
        for route in ROUTES:
            if route.needs is Needs.NOBODY:
                continue
            ask = page.get if route.method == "GET" else page.post
            seen = await ask(_path(route))
            signed_out = (303, True) if route.method == "GET" else (401, False)

            assert (seen.status, seen.headers.get("Location", "").startswith("/sign-in")) == signed_out, route


async def test_a_locked_session_shows_nothing_but_how_to_unlock_it(web: Web) -> None:
    async with web.signed_in() as page:
        assert (await page.post("/lock")).status == 401
        for route in ROUTES:
            if route.needs is Needs.PERSON:
                seen = await (page.get if route.method == "GET" else page.post)(_path(route))

                assert seen.status == 401, route
                assert 'action="/unlock"' in seen.text, route


async def test_an_act_of_another_page_changes_nothing(web: Web) -> None:
    """Also of another host of the same site, such as a viewer's, and of a client that does not say."""
    foreign: list[dict[str, str]] = [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": web.origin},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://viewer.localhost"},
        {"Origin": "null"},
        {},
    ]
    async with web.signed_in() as page:
        for headers in foreign:
            for route in ROUTES:
                if route.method == "POST" and not route.by_provider:
                    seen = await page.post(_path(route), headers=headers)

                    assert seen.status == 403, (route, headers)
        for token in ("", "0" * 64, page.token[:-1]):
            for route in ROUTES:
                if route.method == "POST" and route.needs is not Needs.NOBODY:
                    assert (await page.post(_path(route), token=token)).status == 403, route

        assert (await page.get("/profile")).status == 200
        assert (
            await page.post("/profile", {"Origin": web.origin}, theme="light", density="compact")
        ).status == 303


async def test_another_host_than_ours_is_answered_nothing(web: Web) -> None:
    """A name that somebody points at this machine reads no page (DNS rebinding)."""
    async with browser(web.origin) as page:
        for path in ("/sign-in", "/"):
            assert (await page.get(path, Host="evil.example")).status == 421
