"""Whatever is sent to a page, the answer is a page, and nothing of it becomes markup."""

import asyncio
import re
from datetime import timedelta
from urllib.parse import quote
from uuid import uuid4

import pytest

from tests.web.browser import SAME_ORIGIN, browser
from tests.web.conftest import Web
from web.flow import MOST_VIEWS

FORM = {**SAME_ORIGIN, "Content-Type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"login=%FF", FORM, 422),
        (b"login=\xff", FORM, 422),
        (b"login=a%00b", FORM, 422),
        (b"&".join(b"a=1" for _ in range(51)), FORM, 422),
        (b"a" * (65 << 10), FORM, 413),
        (b"{}", {**SAME_ORIGIN, "Content-Type": "application/json"}, 422),
        (b"", SAME_ORIGIN, 422),
        (b"", FORM, 401),
    ],
)
async def test_a_form_that_is_none_is_refused_with_a_page(
    web: Web, body: bytes, headers: dict[str, str], status: int
) -> None:
    async with (
        browser(web.origin) as page,
        page.http.post(f"{web.origin}/sign-in", data=body, headers=headers) as answer,
    ):
        assert answer.status == status
        assert "<!doctype html>" in await answer.text()
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "hostile", ['"><script>alert(1)</script>', "{{ 7 * 7 }}", "\u202egnp.exe", "a" * 25_000]
)
async def test_what_was_typed_comes_back_as_text(web: Web, hostile: str) -> None:
    async with browser(web.origin) as page:
        seen = await page.post("/sign-in", login=hostile, password="x", to=hostile)
        shown = await page.get(f"/sign-in?to={quote(hostile[:1000])}")

    assert (seen.status, shown.status) == (401, 200)
    assert "<script>alert" not in seen.text + shown.text
    assert "49" not in seen.words
    assert len(seen.text) < 10_000


@pytest.mark.parametrize(
    "to", ["//evil.example", "https://evil.example", "/cases/x/../../evil", "/sign-out", "/profile\r\nX: y"]
)
async def test_nobody_is_sent_to_another_place_after_they_signed_in(web: Web, to: str) -> None:
    async with browser(web.origin) as page:
        seen = await page.get(f"/sign-in?to={quote(to)}")

    assert 'name="to" value=""' in seen.text


@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD", "TRACE", "PROPFIND"])
async def test_a_method_that_no_page_has_is_nothing(web: Web, method: str) -> None:
    async with (
        browser(web.origin) as page,
        page.http.request(method, f"{web.origin}/sign-in", headers=SAME_ORIGIN) as answer,
    ):
        assert answer.status == 404


async def test_with_access_away_each_page_says_which_part_and_keeps_what_was_typed(web: Web) -> None:
    async with web.signed_in() as page:
        listed, typed, case = (
            await page.get("/"),
            await page.get((await page.post("/", search="de Vries")).headers["Location"]),
            await page.get("/cases/01890000-0000-7000-8000-000000000000"),
        )

    assert [each.status for each in (listed, typed, case)] == [503, 503, 503]
    assert all("`access` does not answer" in each.words for each in (listed, typed, case))
    assert 'value="de Vries"' in typed.text


async def test_an_address_never_holds_what_was_searched_for(web: Web) -> None:
    async with web.signed_in() as page:
        sent = await page.post("/", search="de Vries")
        seen = await page.get(sent.headers["Location"])

    assert (sent.status, sent.text) == (303, "")
    assert re.fullmatch(r"/\?view=[0-9a-f-]{36}", sent.headers["Location"])
    assert 'value="de Vries"' in seen.text
    assert 'method="get"' not in seen.text.lower()


async def test_a_search_is_cleared_by_a_button_and_its_order_stays_said(web: Web) -> None:
    async with web.signed_in() as page:
        found = await page.get((await page.post("/", search="Vries", sort="patient")).headers["Location"])
        sent = await page.post("/", search="Vries", searched="Vries", sorted="patient up", clear="search")
        cleared = await page.get(sent.headers["Location"])

    assert ("Clear the search" in found.words, "Clear the search" in cleared.words) == (True, False)
    assert ('value="Vries"' in cleared.text, 'value="patient up"' in cleared.text) == (False, True)


async def test_a_view_is_of_one_session_and_goes_with_it(web: Web) -> None:
    person = await web.a_person()
    async with web.signed_in(person) as page, web.signed_in(person) as elsewhere:
        kept = (await page.post("/", search="de Vries")).headers["Location"]
        unknown = [
            await elsewhere.get(kept),
            *[await page.get(f"/?view={each}") for each in (uuid4(), "x", "%00", "a" * 5000)],
        ]
        for number in range(MOST_VIEWS):
            web.clock.pass_by(timedelta(milliseconds=1))
            await page.post("/", search=str(number))
        unknown.append(await page.get(kept))
        await page.post("/sign-out")

    assert [(303, "/")] * 6 == [(each.status, each.headers["Location"]) for each in unknown]
    async with web.database.statements() as tx:
        assert 0 == await tx.connection.fetchval("select count(*) from views")


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: %s\r\nCookie x: Doe^Jane\r\n\r\n",
        b"GET /Doe^Jane HTTP/1.1\r\nHost: %s\r\n" + b"A: Doe^Jane\r\n" * 5000 + b"\r\n",
        b"Doe^Jane\r\n\r\n",
        b"POST /sign-in HTTP/1.1\r\nHost: %s\r\nContent-Length: Doe^Jane\r\n\r\n",
        b"GET /" + b"Doe^Jane" * 9000 + b" HTTP/1.1\r\nHost: %s\r\n\r\n",
    ],
)
@pytest.mark.parametrize("host", ["", "viewer."])
async def test_what_is_no_request_is_not_repeated_to_its_sender(
    web: Web, sent: bytes, host: str, capfd: pytest.CaptureFixture[str]
) -> None:
    address = web.origin.partition("//")[2]
    reader, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))
    writer.write(sent.replace(b"%s", f"{host}{address}".encode()))
    async with asyncio.timeout(10):
        answer = (await reader.read()).decode()
    writer.close()

    head, _, body = answer.partition("\r\n\r\n")
    assert head.startswith(("HTTP/1.1 400 ", "HTTP/1.0 400 "))
    assert "Content-Security-Policy: default-src 'none'" in head
    assert "X-Content-Type-Options: nosniff" in head
    assert "Cache-Control: no-store" in head
    assert not any(each in head.lower() for each in ("server:", "aiohttp", "python"))
    assert body == "this was no request that we understand: load the page again\n"
    assert "Doe" not in "".join(capfd.readouterr())


async def test_whoever_sends_half_a_request_keeps_nobody_waiting(web: Web) -> None:
    host, port = "127.0.0.1", int(web.origin.rpartition(":")[2])
    writers = []
    for _ in range(50):
        _, writer = await asyncio.open_connection(host, port)
        writer.write(b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Le")
        writers.append(writer)
    async with browser(web.origin) as page:
        assert (await page.get("/sign-in")).status == 200
    for writer in writers:
        writer.close()
